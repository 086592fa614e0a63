"""Comparisons for tests, as ``torch.testing``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.creation import tensor

__all__ = ["assert_close"]

# PyTorch's (rtol, atol) by dtype; the looser of two is taken.
_TOLERANCES = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
    "complex64": (1.3e-6, 1e-5),
    "complex128": (1e-7, 1e-7),
}


def assert_close(
    actual: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_stride: bool = False,
    msg: str | Callable[[str], str] | None = None,
) -> None:
    """Passes where |actual - expected| <= atol + rtol |expected| holds for all elements.

    Args:
        actual: tensor, array or number; or a sequence or mapping of them.
        expected: the same kind of thing.
        rtol: relative tolerance; by default, as ``atol``, PyTorch's of the dtypes; 0 for integers.
        atol: absolute tolerance; given with ``rtol`` or not at all.
        equal_nan: whether two NaN are close.
        check_device: whether the devices must be equal.
        check_dtype: whether the dtypes must be equal; else both are promoted.
        check_stride: whether the strides must be equal.
        msg: the message of the error, or a function that makes it of the usual one.

    Raises:
        AssertionError: they are not close; the message says how far apart they are, and where.
        ValueError: one tolerance is given without the other.
        TypeError: things are compared that do not compare.

    Example:
        >>> import nbdl
        >>> nbdl.testing.assert_close(nbdl.tensor([1.0, 2.0]), nbdl.tensor([1.0, 2.0 + 1e-7]))
    """
    if (rtol is None) != (atol is None):
        raise ValueError(f"assert_close: rtol and atol go together, got rtol={rtol} and atol={atol}")
    checks = {"device": check_device, "dtype": check_dtype, "stride": check_stride}
    problem = _difference(actual, expected, "", (rtol, atol), equal_nan, checks)
    if problem is not None:
        raise AssertionError(msg(problem) if callable(msg) else msg or problem)


def _difference(
    actual: Any,
    expected: Any,
    place: str,
    tolerances: tuple[float | None, float | None],
    equal_nan: bool,
    checks: Mapping[str, bool],
) -> str | None:
    """What is wrong, or None."""
    where = f" (at {place})" if place else ""
    if isinstance(expected, Mapping):
        if not isinstance(actual, Mapping) or actual.keys() != expected.keys():
            return f"The keys of the mappings do not match{where}"
        pairs = [(f"{place}[{key!r}]", actual[key], expected[key]) for key in expected]
    elif isinstance(expected, Sequence) and not isinstance(expected, str):
        if not isinstance(actual, Sequence) or len(actual) != len(expected):
            return f"The lengths of the sequences do not match{where}"
        pairs = [(f"{place}[{k}]", a, e) for k, (a, e) in enumerate(zip(actual, expected, strict=True))]
    else:
        return _tensor_difference(actual, expected, where, tolerances, equal_nan, checks)
    found = (_difference(a, e, spot, tolerances, equal_nan, checks) for spot, a, e in pairs)
    return next((problem for problem in found if problem is not None), None)


def _tensor_difference(
    actual: Any,
    expected: Any,
    where: str,
    tolerances: tuple[float | None, float | None],
    equal_nan: bool,
    checks: Mapping[str, bool],
) -> str | None:
    if isinstance(actual, Tensor) != isinstance(expected, Tensor):
        raise TypeError(f"assert_close: cannot compare {type(actual).__name__} and {type(expected).__name__}")
    a, e = (value.detach() if isinstance(value, Tensor) else tensor(value) for value in (actual, expected))
    if a.shape != e.shape:
        return f"The values for attribute 'shape' do not match: {a.shape} != {e.shape}.{where}"
    for name, value, other in (
        ("device", a.device, e.device), ("dtype", a.dtype, e.dtype), ("stride", a.stride(), e.stride())
    ):  # fmt: skip
        if checks[name] and value != other:
            return f"The values for attribute '{name}' do not match: {value} != {other}.{where}"
    rtol, atol = tolerances
    if rtol is None or atol is None:
        known = [_TOLERANCES.get(x.dtype.name, (0.0, 0.0)) for x in (a, e)]
        rtol, atol = (max(values) for values in zip(*known, strict=True))
    dtype = dtypes.promote(a.dtype, e.dtype)
    wide = np.result_type(np.float32, dtype) if dtype.kind in "fcV" else dtype
    x, y = (value.cpu().numpy().astype(wide) for value in (a, e))
    close = np.isclose(x, y, rtol=rtol, atol=atol, equal_nan=equal_nan)
    if close.all():
        return None
    with np.errstate(all="ignore"):
        distance = np.abs(x.astype(np.result_type(np.float64, x.dtype)) - y)
        ratio = distance / np.abs(y)
    worst = np.unravel_index(np.argmax(np.where(close, -1, distance)), x.shape)
    return (
        f"Tensor-likes are not close!{where}\n\n"
        f"Mismatched elements: {np.count_nonzero(~close)} / {x.size}\n"
        f"Greatest absolute difference: {distance[worst]} at index {tuple(map(int, worst))} "
        f"(up to {atol} allowed)\n"
        f"Relative difference there: {ratio[worst]} (up to {rtol} allowed)"
    )
