"""Complex numbers on the GPU: formulas node by node, by CuPy's functions.

Kernels know real numbers only. What CuPy computes is slower than one kernel for a whole formula, and can be
captured like it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbdl.formula import Formula, dtypes
from nbdl.formula.expr import Expr

# What CuPy calls otherwise.
_NAMES = {
    "pow": "power", "float_power": "power", "asin": "arcsin", "acos": "arccos", "atan": "arctan",
    "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh",
}  # fmt: skip


def _expm1(xp: Any, z: Any) -> Any:
    """exp(z) - 1, exact near 0."""
    real = xp.expm1(z.real) * xp.cos(z.imag) - 2 * xp.sin(z.imag / 2) ** 2
    return real + 1j * (xp.exp(z.real) * xp.sin(z.imag))


def _log1p(xp: Any, z: Any) -> Any:
    """log(1 + z), exact near 0 unless the parts cancel."""
    small = xp.log1p(z.real * (2 + z.real) + z.imag**2) / 2
    near = (abs(z.real) < 0.5) & (abs(z.imag) < 0.5)
    whole = xp.log(1 + z)
    return xp.where(near, small, whole.real) + 1j * whole.imag


# What CuPy lacks for complex numbers.
_COMPOSED: dict[str, Callable[..., Any]] = {
    "square": lambda xp, z: z * z,
    "reciprocal": lambda xp, z: 1 / z,
    "rsqrt": lambda xp, z: 1 / xp.sqrt(z),
    "exp2": lambda xp, z: xp.exp(z * math.log(2)),
    "expm1": _expm1,
    "log2": lambda xp, z: xp.log(z) / math.log(2),
    "log10": lambda xp, z: xp.log(z) / math.log(10),
    "log1p": _log1p,
    "expit": lambda xp, z: 1 / (1 + xp.exp(-z)),
    "logical_and": lambda xp, x, y: (x != 0) & (y != 0),
    "logical_or": lambda xp, x, y: (x != 0) | (y != 0),
    "logical_xor": lambda xp, x, y: (x != 0) != (y != 0),
    "logical_not": lambda xp, x: x == 0,
    "where": lambda xp, condition, x, y: xp.where(condition != 0, x, y),
}


def _is_truth(value: Any) -> bool:
    """Whether it is a bool already."""
    return isinstance(value, bool) or (hasattr(value, "dtype") and value.dtype.kind == "b")


class ComplexFormula:
    """A formula on complex operands; called like a launch, with operands and results.

    Args:
        xp: the module ``cupy``.
        formula: the formula.
        kinds: dtypes of the operands.
        computed: dtype of the arithmetic.
    """

    def __init__(self, xp: Any, formula: Formula, kinds: Sequence[np.dtype], computed: np.dtype):
        self._xp, self._formula = xp, formula
        is_condition = [dtypes.is_condition(formula, k) for k in range(len(kinds))]
        self._casts = [None if only else computed for only in is_condition]

    def __call__(self, *arrays: Any) -> None:
        """Compute the results."""
        count = self._formula.arity
        for result, value in zip(arrays[count:], self.values(*arrays[:count]), strict=True):
            result[...] = value if result.dtype.kind != "b" or _is_truth(value) else value != 0

    def values(self, *operands: Any) -> list[Any]:
        """The outputs, as CuPy gives them: not yet broadcast or cast."""
        found: dict[Expr, Any] = {}
        for node in self._formula.nodes:
            found[node] = self._value(node, found, operands)
        return [found[root] for root in self._formula.outputs]

    def _value(self, node: Expr, found: dict[Expr, Any], operands: Sequence[Any]) -> Any:
        if node.value is not None:
            return node.value
        if node.function is None:
            assert node.name is not None
            k = int(node.name[1:])
            x, wanted = operands[k], self._casts[k]
            if not isinstance(x, self._xp.ndarray):
                return x.item() if isinstance(x, np.generic) else x
            return x if wanted is None else x.astype(wanted, copy=False)
        name, args = node.function.name, [found[arg] for arg in node.args]
        if name in _COMPOSED:
            return _COMPOSED[name](self._xp, *args)
        return getattr(self._xp, _NAMES.get(name, name))(*args)


class ComplexReduction:
    """A formula on complex operands, reduced; called like a launch, with operands and result.

    Args:
        xp: the module ``cupy``.
        formula: of one output.
        kind: ``sum``, ``mean``, ``prod``, ``any`` or ``all``.
        axes: that are reduced.
        shape: of the operands, broadcast.
    """

    def __init__(
        self, xp: Any, formula: ComplexFormula, kind: str, axes: tuple[int, ...], shape: tuple[int, ...]
    ):
        self._xp, self._formula, self._kind, self._axes, self._shape = xp, formula, kind, axes, shape

    def __call__(self, *arrays: Any) -> None:
        """Compute the result."""
        *operands, result = arrays
        (value,) = self._formula.values(*operands)
        value = self._xp.broadcast_to(value, self._shape)
        if self._kind in ("any", "all"):
            value = value != 0
        if self._axes:
            value = getattr(self._xp, self._kind)(value, axis=self._axes)
        result[...] = value.reshape(result.shape)


def scanned(xp: Any, x: Any, kind: str, axis: int, reverse: bool) -> Any:
    """A running ``sum`` or ``prod`` of complex numbers, or from the end of the axis.

    Raises:
        TypeError: complex numbers have no such scan.
    """
    scans = {"sum": xp.cumsum, "prod": xp.cumprod}
    if kind not in scans:
        raise TypeError(f"scan: {kind} is not defined for complex numbers, got {x.dtype}")
    source = x.reshape(x.shape or (1,))
    result = scans[kind](xp.flip(source, axis) if reverse else source, axis=axis)
    return (xp.flip(result, axis) if reverse else result).reshape(x.shape)
