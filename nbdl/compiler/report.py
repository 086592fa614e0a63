"""A program as text: operations, buffers, kernels, bytes and FLOPs; and where its time goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.compiler.addresses import owner_of
from nbdl.compiler.memory import plan_memory
from nbdl.compiler.program import TEMPORARY, Operation, Program
from nbdl.compiler.replay import Replay
from nbdl.nn.module import Module
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.matmul import MATMUL
from nbdl.ops.pointwise import Pointwise
from nbdl.optim.optimizer import Optimizer
from nbdl.utils.flops import flops
from nbdl.utils.text import as_table, with_unit
from nbdl.utils.timing import wait_for_gpu

if TYPE_CHECKING:
    from nbdl.backend.numpy import NumpyBackend

_LEGEND = (
    "i: arguments, c: memory from outside, such as parameters, t: temporaries, o: results; "
    "= makes its results, <- writes where they are"
)
_PEAK_ROWS = 1024
_NOT_SHOWN = frozenset({"formula", "name", "kind", "weak", "order"})  # shown otherwise, or of no interest
_USUAL = {"stride": 1, "dilation": 1, "groups": 1, "padding": 0}  # not shown either
_LONG_FORMULA = 60  # characters
_PEAK_ELEMENTS = 1 << 24  # of float32, more than caches hold


class Report:
    """A recorded program and its improved form; ``print`` it.

    Args:
        recorded: as it was written down.
        improved: after the passes.
        backend: what runs it.
        names: what arrays from outside are called, by id.

    Attributes:
        recorded: as above.
        improved: as above.
    """

    def __init__(
        self,
        recorded: Program,
        improved: Program,
        backend: NumpyBackend,
        names: Mapping[int, str] | None = None,
    ):
        self.recorded, self.improved, self._names = recorded, improved, names or {}
        replay = Replay(improved, backend)
        self._backend, self._steps = replay.backend, len(replay.steps)

    @property
    def recorded_bytes(self) -> int:
        """Bytes of all temporaries of the recorded program, had each its own memory."""
        buffers = self.recorded.buffers
        return sum(buffer.nbytes for buffer in buffers if buffer.kind == TEMPORARY)

    @property
    def planned_bytes(self) -> int:
        """Bytes of the arena in which the temporaries of the improved program lie."""
        return plan_memory(self.improved).size

    @property
    def flops(self) -> int:
        """Floating-point operations of the improved program, roughly."""
        return sum(map(flops_of, self.improved.operations))

    @property
    def bytes(self) -> int:
        """Bytes of the operands and results of all operations of the improved program."""
        return sum(map(bytes_of, self.improved.operations))

    def __str__(self) -> str:
        return "\n".join(
            [
                _LEGEND,
                f"recorded: {len(self.recorded.operations)} operations, "
                f"{with_unit(self.recorded_bytes, 'B')} of temporaries",
                *_lines(self.recorded, self._names),
                "",
                f"improved on {self._backend.name}: {len(self.improved.operations)} operations in "
                f"{self._steps} {'call' if self._steps == 1 else 'calls'}, "
                f"{with_unit(self.planned_bytes, 'B')} of temporaries, {with_unit(self.flops, 'FLOP')}",
                *_lines(self.improved, self._names),
            ]
        )

    __repr__ = __str__


def names_of(variables: Iterable[tuple[str, Any]]) -> dict[int, str]:
    """What the arrays from outside are called, by the id of what owns their memory.

    Args:
        variables: the names and values of what a function uses from outside.
    """
    tensors: dict[int, tuple[str, Tensor]] = {}
    optimizers = []
    for name, value in variables:
        if isinstance(value, Tensor):
            tensors.setdefault(id(value), (name, value))
        elif isinstance(value, Module):
            for path, tensor in (*value.named_parameters(), *value.named_buffers()):
                tensors.setdefault(id(tensor), (f"{name}.{path}", tensor))
        elif isinstance(value, Optimizer):
            optimizers.append(value)
    names = {id(owner_of(tensor.array)): name for name, tensor in tensors.values()}
    for name, tensor in tensors.values():
        states = [optimizer.state.get(tensor, {}) for optimizer in optimizers]
        for key, part in (("grad", tensor._grad), *[pair for state in states for pair in state.items()]):
            if isinstance(part, Tensor):
                names.setdefault(id(owner_of(part.array)), f"{name}.{key}")
    return names


def _lines(program: Program, names: Mapping[int, str]) -> list[str]:
    lines = [f"  inputs  {', '.join(map(repr, program.inputs)) or 'none'}"]
    outside = [buffer for buffer in program.buffers if id(buffer.array) in names]
    if outside:
        lines.append(f"  outside  {', '.join(f'{buffer} {names[id(buffer.array)]}' for buffer in outside)}")
    written: set[object] = set()
    for operation in program.operations:
        costs = f"{with_unit(bytes_of(operation), 'B')}, {with_unit(flops_of(operation), 'FLOP')}"
        lines.append(f"  {_text(operation)}{_code(operation, written)}    # {costs}")
    lines.append(f"  return  {', '.join(map(repr, program.outputs)) or 'nothing'}")
    return lines


def _text(operation: Operation) -> str:
    if operation.parts and operation.into:  # the operands of all parts would fill the screen
        return f"{_text(operation.parts[0])}  and {len(operation.parts) - 1} more such, together"
    outputs = ", ".join(map(repr, operation.outputs))
    inputs = ", ".join(map(repr, operation.inputs))
    return f"{outputs} {'<-' if operation.into else '='} {_name(operation)}({inputs})"


def _name(operation: Operation) -> str:
    """What it is called, with its parameters: ``matmul[transpose_a]``."""
    if operation.parts:
        return operation.named(_name)
    params = [
        name if value is True else f"{name}={value}"
        for name, value in operation.primitive.params.items()
        if name not in _NOT_SHOWN
        and not (value is None or value is False)
        and not _is_all(value, _USUAL.get(name))
    ]
    return operation.label + (f"[{', '.join(params)}]" if params else "")


def _is_all(value: Any, usual: int | None) -> bool:
    """Whether a number, or each number of nested tuples, is the usual one."""
    return all(_is_all(part, usual) for part in value) if isinstance(value, tuple) else value == usual


def _code(operation: Operation, written: set[object]) -> str:
    """The formula in braces; long ones only once."""
    formula = operation.primitive.params.get("formula")
    if formula is None:
        return ""
    if formula in written:
        return " {as above}"
    code = "; ".join(map(repr, formula.outputs))
    if len(code) > _LONG_FORMULA:
        written.add(formula)
    return f" {{{code}}}"


def flops_of(operation: Operation) -> int:
    """Floating-point operations, roughly: products and sums of matrix kernels, nodes of formulas."""
    if operation.parts:
        return sum(map(flops_of, operation.parts))
    primitive, windows = operation.primitive, (*operation.inputs, *operation.outputs)
    formula: Any = primitive.params.get("formula")
    if formula is not None:
        size = max([window.size for window in windows], default=0)
        count = sum(node.function is not None for node in formula.nodes)
        return size * (count + (primitive.name == "reduce"))
    return flops(operation) or sum(window.size for window in operation.outputs)


def bytes_of(operation: Operation) -> int:
    """Bytes of the operands and results."""
    return sum(window.nbytes for window in (*operation.inputs, *operation.outputs))


class Row(NamedTuple):
    """An operation of a program that was timed.

    Attributes:
        name: of the primitive.
        shape: of its first result.
        seconds: the median time of one run.
        flops: floating-point operations, roughly.
        nbytes: of operands and results.
        roofline: the time in which the machine could compute as many FLOPs, or move as many bytes to and from
            memory (the larger of the two), over the time it took. What lies in a cache may exceed 1.
    """

    name: str
    shape: tuple[int, ...]
    seconds: float
    flops: int
    nbytes: int
    roofline: float


class Profile:
    """Where the time of a program goes, operation by operation; ``print`` it.

    Attributes:
        rows: the operations, in the order in which they run.
        seconds: their times together.
        peak_flops: FLOPs a second of a large matrix product on this machine, in float32.
        peak_bytes: bytes a second of a sum of large arrays.
        regions: how many parallel regions of threads they open.
        region_seconds: how long an empty region takes, at least.

    Args:
        operations: what was timed.
        seconds: the median time of each operation.
        backend: what ran it.
        regions: as above.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        seconds: Sequence[float],
        backend: NumpyBackend,
        regions: int = 0,
    ):
        self.regions, self.region_seconds = regions, _region_seconds() if regions else 0.0
        self.peak_flops, self.peak_bytes = _peaks(backend)
        self.rows: list[Row] = []
        for operation, time in zip(operations, seconds, strict=True):
            count, moved = flops_of(operation), bytes_of(operation)
            best = max(count / self.peak_flops, moved / self.peak_bytes)
            shape = operation.outputs[0].shape
            self.rows.append(Row(operation.label, shape, time, count, moved, best / max(time, 1e-9)))
        self.seconds = sum(row.seconds for row in self.rows)

    def __str__(self) -> str:
        header = ("operation", "result", "time", "share", "FLOP/s", "B/s", "of roofline")
        lines = [
            (
                row.name,
                str(list(row.shape)),
                with_unit(row.seconds, "s"),
                f"{row.seconds / (self.seconds or 1):.1%}",
                with_unit(row.flops / max(row.seconds, 1e-9), ""),
                with_unit(row.nbytes / max(row.seconds, 1e-9), ""),
                f"{row.roofline:.0%}",
            )
            for row in self.rows
        ]
        return (
            as_table(header, lines)
            + f"\n{len(self.rows)} operations, {with_unit(self.seconds, 's')}; roofline: "
            f"{with_unit(self.peak_flops, 'FLOP/s')}, {with_unit(self.peak_bytes, 'B/s')}"
            + self._regions_text()
        )

    def _regions_text(self) -> str:
        if not self.regions:
            return ""
        share = self.regions * self.region_seconds / (self.seconds or 1)
        return (
            f"; {self.regions} parallel regions of {with_unit(self.region_seconds, 's')} each ({share:.1%})"
        )

    __repr__ = __str__


def _region_seconds() -> float:
    from nbdl.backend.numba.replay import region_seconds

    return region_seconds()


def _peaks(backend: NumpyBackend) -> tuple[float, float]:
    """FLOPs and bytes a second that the backend reaches on large operands; takes some 0.1 s."""
    xp = backend.xp
    matrix, vector = xp.ones((_PEAK_ROWS, _PEAK_ROWS), np.float32), xp.ones(_PEAK_ELEMENTS, np.float32)
    add = Pointwise.of(formula_of("add"))
    product = _fastest(lambda: backend.execute(MATMUL, (matrix, matrix)))
    out = xp.empty_like(vector)
    total = _fastest(lambda: backend.execute(add, (vector, vector), out=out))
    return 2 * _PEAK_ROWS**3 / product, 3 * vector.nbytes / total


def _fastest(run: Callable[[], Any]) -> float:
    run()
    times = []
    for _ in range(5):
        wait_for_gpu()
        start = perf_counter()
        run()
        wait_for_gpu()
        times.append(perf_counter() - start)
    return min(times)
