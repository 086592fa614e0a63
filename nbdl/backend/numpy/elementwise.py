"""Pointwise formulas and casts on NumPy arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nbdl.backend.numpy.results import delivered
from nbdl.formula import Formula, dtypes, numpy_functions
from nbdl.formula.expr import variables
from nbdl.formula.printers import NumpyStatements


@functools.lru_cache(maxsize=4096)
def numpy_source(formula: Formula, scalars: tuple[str, ...] = ()) -> str:
    """The NumPy code of a formula: a function of the operands and the dtype of the arithmetic.

    Args:
        formula: the formula.
        scalars: names of the operands that are numbers beside arrays.
    """
    names = [f"x{k}" for k in range(formula.arity)]
    code = NumpyStatements(formula.outputs, {name: name for name in names}, scalars)
    # The name of the function is fixed: that of the formula may be any text.
    lines = [f"def formula({', '.join([*names, 'dtype'])}):", *[f"    {line}" for line in code.lines]]
    lines.append(f"    return ({', '.join(code.results)},)")
    return "\n".join(lines) + "\n"


@functools.lru_cache(maxsize=4096)
def numpy_function(formula: Formula, scalars: tuple[str, ...] = ()) -> Callable[..., tuple]:
    """The compiled form of :func:`numpy_source`."""
    namespace: dict[str, Any] = {"f": numpy_functions}
    exec(compile(numpy_source(formula, scalars), f"<formula {formula.name}>", "exec"), namespace)
    return namespace["formula"]


class _Prepared(NamedTuple):
    """What the dtypes and ranks of the operands determine.

    Attributes:
        function: the NumPy code.
        computed: dtype of the arithmetic.
        casts: (operand, dtype) for every operand that the code wants in another dtype.
        outputs: dtypes that the results get.
        fills: whether every output depends on all operands, so that it has the broadcast shape by itself.
    """

    function: Callable[..., tuple]
    computed: np.dtype
    casts: tuple[tuple[int, np.dtype], ...]
    outputs: tuple[np.dtype, ...]
    fills: bool


@functools.lru_cache(maxsize=4096)
def _prepare(formula: Formula, types: tuple[np.dtype, ...], ranks: tuple[int, ...]) -> _Prepared:
    _, computed, outputs = dtypes.arithmetic(formula, types, ranks)
    has_array = 2 in ranks
    scalars: list[str] = []
    casts: list[tuple[int, np.dtype]] = []
    for k, (dtype, rank) in enumerate(zip(types, ranks, strict=True)):
        if has_array and rank < 2:
            scalars.append(f"x{k}")
            if computed.kind == "f" and dtype.kind in "biu" and not dtypes.is_condition(formula, k):
                casts.append((k, dtypes.FLOAT64))  # NumPy's functions of small integers are half precision
        elif dtype != computed and not (dtype.kind == "b" and dtypes.is_condition(formula, k)):
            casts.append((k, computed))
    everything = {f"x{k}" for k in range(formula.arity)}
    fills = all({v.name for v in variables([root])} == everything for root in formula.outputs)
    return _Prepared(numpy_function(formula, tuple(scalars)), computed, tuple(casts), outputs, fills)


dtypes.when_default_changes(_prepare.cache_clear)


def evaluate(
    formula: Formula, inputs: tuple[Any, ...], weak: int = 0
) -> tuple[tuple, tuple[np.dtype, ...], bool]:
    """``formula`` on arrays.

    Returns:
        The outputs in the dtype of the arithmetic, the dtypes they should get, and whether they already have
        the broadcast shape of the operands.
    """
    prepared = _prepare(formula, tuple([x.dtype for x in inputs]), dtypes.priorities(inputs, weak))
    operands: Any = inputs
    if prepared.casts:
        operands = list(inputs)
        for k, dtype in prepared.casts:
            operands[k] = operands[k].astype(dtype)
    with np.errstate(all="ignore"):
        return prepared.function(*operands, prepared.computed), prepared.outputs, prepared.fills


# Elements that a long formula is evaluated on at a time: its temporaries then stay in the second-level cache,
# where whole arrays would each go to memory and back.
BLOCK = 32_768


def _worth_blocks(formula: Formula, inputs: tuple[Any, ...]) -> bool:
    """Whether there are several temporaries, larger than a block."""
    return len(formula.nodes) > formula.arity + 3 and max(x.size for x in inputs) > 2 * BLOCK


def _in_blocks(formula: Formula, inputs: tuple[Any, ...], weak: int, out: Any) -> Any:
    """``formula`` block by block, or None where operands are no flat arrays of one shape beside numbers."""
    arrays = [x for x in inputs if x.ndim]
    shape = arrays[0].shape
    given = () if out is None else out if type(out) is tuple else (out,)
    if not all(x.shape == shape and x.flags.c_contiguous for x in (*arrays, *given)):
        return None
    if any(np.may_share_memory(target, x) and target is not x for target in given for x in arrays):
        return None  # a block written could be read by a later one
    _, _, wanted = dtypes.arithmetic(
        formula, tuple([x.dtype for x in inputs]), dtypes.priorities(inputs, weak)
    )
    results = given or tuple([np.empty(shape, dtype) for dtype in wanted])
    flat_inputs = [x.reshape(-1) if x.ndim else x for x in inputs]
    flat_results = [result.reshape(-1) for result in results]
    for start in range(0, arrays[0].size, BLOCK):
        block = slice(start, start + BLOCK)
        values, _, _ = evaluate(formula, tuple([x[block] if x.ndim else x for x in flat_inputs]), weak)
        for result, value in zip(flat_results, values, strict=True):
            result[block] = value
    return results if len(results) > 1 else results[0]


class Elementwise:
    """Pointwise primitives."""

    xp: Any

    def pointwise(self, *inputs: Any, formula: Formula, weak: int = 0, out: Any = None) -> Any:
        """A formula on broadcast operands.

        Args:
            inputs: the operands.
            formula: the formula.
            weak: bit k is set where operand k was a Python number, whose width does not count.
            out: receives the result.

        Returns:
            An array, or a tuple if the formula has several outputs.
        """
        if _worth_blocks(formula, inputs):
            result = _in_blocks(formula, inputs, weak, out)
            if result is not None:
                return result
        values, wanted, fills = evaluate(formula, inputs, weak)
        shape = None if fills else np.broadcast_shapes(*[x.shape for x in inputs])
        results = []
        for k, (value, dtype) in enumerate(zip(values, wanted, strict=True)):
            target = out[k] if type(out) is tuple else out
            if target is not None:
                target[...] = value
                results.append(target)
                continue
            array = np.asarray(value)
            if shape is not None and array.shape != shape:
                array = np.broadcast_to(array, shape)
            if array.dtype != dtype:
                array = array.astype(dtype)
            elif not array.flags.writeable or any(array is x for x in inputs):
                array = array.copy()
            results.append(array)
        return results[0] if len(results) == 1 else tuple(results)

    def common_multiple(self, x: Any, y: Any, *, kind: str, out: Any = None) -> Any:
        """``gcd`` or ``lcm`` of integers of one dtype."""
        return delivered(self.xp.asarray(getattr(self.xp, kind)(x, y)), out)

    def frexp(self, x: Any, *, out: Any = None) -> Any:
        """Mantissas and exponents (int32)."""
        mantissa, exponent = self.xp.frexp(x)
        return delivered((self.xp.asarray(mantissa), self.xp.asarray(exponent, np.int32)), out)

    def conjugate(self, x: Any, *, out: Any = None) -> Any:
        """The complex conjugates."""
        return self.xp.asarray(self.xp.conjugate(x, out=out))

    def cast(self, x: Any, *, dtype: np.dtype, out: Any = None) -> Any:
        """``x`` in another dtype, always a copy; of complex numbers the real part if that dtype is real."""
        if x.dtype.kind == "c" and dtype.kind not in "cb":
            x = x.real
        if out is not None:
            out[...] = x
            return out
        with np.errstate(all="ignore"):
            return x.astype(dtype)
