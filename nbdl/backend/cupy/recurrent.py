"""Recurrent layers on the GPU: one launch for a layer over the whole sequence, forward and backward.

A block walks a sequence with its states in shared memory, and reads the weight from the cache at every step.
For wide layers that reads more than a product for all sequences at once would, so those go step by step, as
the specification does.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nbdl.backend.cells import CELLS, Cell
from nbdl.backend.cupy import codegen
from nbdl.backend.cupy.codegen import Operand, c_type
from nbdl.backend.cupy.files import source_of
from nbdl.backend.cupy.launch import Kernels, power_of_two
from nbdl.backend.cupy.placing import target
from nbdl.backend.cupy.waiting import announce
from nbdl.backend.numpy.recurrent import Recurrent
from nbdl.backend.numpy.results import delivered
from nbdl.formula import Formula, dtypes

# Hidden units up to which a layer is one launch.
MAX_HIDDEN = 256
_THREADS = 256


class CupyRecurrent(Recurrent):
    """Recurrent layers; see :class:`~nbdl.backend.numpy.recurrent.Recurrent`."""

    xp: Any
    _kernels: Kernels

    def recurrent(
        self, x: Any, *operands: Any, cell: str, batch_first: bool, reverse: bool, has_bias: bool, keep: bool,
        out: Any = None,
    ) -> tuple[Any, ...]:  # fmt: skip
        """All steps in one launch."""
        kind, (batch, n) = CELLS[cell], operands[0].shape
        if not _is_small(x, batch, n):
            if len(operands) > kind.states + 1 + has_bias:
                announce("recurrent: how many sequences go on at each step")
            return super().recurrent(
                x, *operands, cell=cell, batch_first=batch_first, reverse=reverse, has_bias=has_bias,
                keep=keep, out=out,
            )  # fmt: skip
        contiguous, places = self.xp.ascontiguousarray, iter(out or ())

        def make(shape: tuple[int, ...], dtype: np.dtype) -> Any:
            return target(self.xp, next(places, None), shape, dtype, x, *operands)

        x, *arrays = map(contiguous, (x, *operands))
        states, weight = arrays[: kind.states], contiguous(arrays[kind.states].T)
        bias = arrays[kind.states + 1] if has_bias else x
        sizes = arrays[kind.states + 1 + has_bias :]
        hidden = make((*x.shape[:2], n), x.dtype)
        finals = [make((batch, n), x.dtype) for _ in states]
        kept = [make((*x.shape[:2], kind.saved * n), x.dtype)] if keep else []
        kept += [make(hidden.shape, x.dtype) for _ in states] if keep else []
        unused = hidden  # stands where the kernel reads and writes nothing
        logs = [*kept, *[unused] * (3 - len(kept))]
        self._launch(
            "recurrent", kind, x, batch, n, 3,
            [x, states[0], states[-1], weight, bias, *_sizes(self.xp, sizes), hidden, finals[0], finals[-1],
             *logs],
            (batch_first, reverse, has_bias, bool(sizes), keep),
        )  # fmt: skip
        return delivered((hidden, *finals, *kept), out)

    def recurrent_input(
        self, g: Any, *operands: Any, cell: str, batch_first: bool, reverse: bool, out: Any = None
    ) -> tuple[Any, ...]:
        """All steps in one launch."""
        kind, (batch, n) = CELLS[cell], operands[0].shape
        if not _is_small(g, batch, n):
            if len(operands) > kind.states + 2 + (kind.memory is not None):
                announce("recurrent_input: how many sequences go on at each step")
            return super().recurrent_input(
                g, *operands, cell=cell, batch_first=batch_first, reverse=reverse, out=out
            )
        g, *arrays = map(self.xp.ascontiguousarray, (g, *operands))
        has_memory = kind.memory is not None
        states, saved = arrays[: kind.states], arrays[kind.states]
        before = arrays[kind.states + 1] if has_memory else saved
        weight, *sizes = arrays[kind.states + 1 + has_memory :]
        shapes = [(*g.shape[:2], kind.blocks * n)] * (1 + int(kind.splits)) + [(batch, n)] * len(states)
        made = [
            target(self.xp, place, shape, g.dtype, g, *operands)
            for place, shape in zip(out or (None,) * len(shapes), shapes, strict=True)
        ]
        logs, firsts = made[: -len(states)], made[-len(states) :]
        self._launch(
            "recurrent_input", kind, g, batch, n, kind.blocks + 3,
            [g, states[0], states[-1], saved, before, weight, *_sizes(self.xp, sizes), logs[0], logs[-1],
             firsts[0], firsts[-1]],
            (batch_first, reverse, bool(sizes)),
        )  # fmt: skip
        return delivered(tuple(made), out)

    def _launch(
        self, name: str, kind: Cell, x: Any, batch: int, n: int, rows: int, operands: list[Any],
        flags: tuple[bool, ...],
    ) -> None:  # fmt: skip
        """Launch a kernel that keeps so many rows of n numbers in shared memory."""
        batch_first, *rest = flags
        steps = x.shape[1 if batch_first else 0]
        strides = (1, steps) if batch_first else (batch, 1)
        source = source_of_cell(kind.name, x.dtype)
        kernel = self._kernels.get(f"nbdl_{name}", source, codegen.headers((x.dtype,)))
        sizes = np.int32(steps), np.int32(n), *map(np.int64, strides), *map(np.int32, rest)
        memory = rows * n * dtypes.arithmetic_dtype(x.dtype).itemsize
        block = (min(_THREADS, power_of_two(n)),)
        kernel((batch,), block, (*operands, *sizes), shared_mem=memory)


def _is_small(x: Any, batch: int, n: int) -> bool:
    return bool(batch and 0 < n <= MAX_HIDDEN and x.size and x.dtype.name in codegen.C_TYPES)


def _sizes(xp: Any, sizes: list[Any]) -> list[Any]:
    """How many sequences go on at each step; something to point to where they all do."""
    return [sizes[0]] if sizes else [xp.empty(1, np.int64)]


@functools.cache
def source_of_cell(name: str, dtype: np.dtype) -> str:
    """The kernels of a cell."""
    kind, computed = CELLS[name], dtypes.arithmetic_dtype(dtype)
    blocks, saved = range(kind.blocks), range(kind.saved)
    memory = [] if kind.memory is None else ["m"]
    step = [*[f"x[{k}]" for k in blocks], *[f"u[{k}]" for k in blocks], *memory]
    slopes = [*[f"y[{k}]" for k in saved], *memory, *[f"d[{k}]" for k in range(kind.states)], "g"]
    lines = [
        "namespace forward {",
        *_function(kind.step, "step", "const number* x, const number* u, number m", step, computed),
        "}",
        "namespace backward {",
        *_function(
            kind.gradient,
            "gradient",
            "const number* y, number m, const number* d, number g",
            slopes,
            computed,
        ),
        "}",
        "using forward::step;",
        "using backward::gradient;",
    ]
    flags = {
        "BLOCKS": kind.blocks,
        "SAVED": kind.saved,
        "STATES": kind.states,
        "MEMORY": -1 if kind.memory is None else kind.memory,
        "SPLITS": int(kind.splits),
    }
    macros = [f"#define {flag} {value}" for flag, value in flags.items()]
    types = [f"typedef {c_type(dtype)} element_t;", f"typedef {c_type(computed)} number;"]
    return "\n".join([*macros, *types, *lines, source_of("recurrent.cu", {})])


def _function(
    formula: Formula, name: str, parameters: str, operands: list[str], computed: np.dtype
) -> list[str]:
    """A device function that takes its operands and gives its results in arrays."""
    made = codegen.element(formula, [Operand(f"x{k}", computed) for k in range(len(operands))], computed)
    results = [f"r[{k}]" for k in range(len(formula.outputs))]
    call = f"element({', '.join([*operands, *results])});"
    head = f"static __device__ __forceinline__ void {name}({parameters}, number* r) {{"
    return [*made.function, head, f"    {call}", "}"]
