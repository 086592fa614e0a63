"""How tensors are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.backend.cupy.waiting import to_host
from nbdl.formula import dtypes

if TYPE_CHECKING:
    from nbdl.autograd.tensor import Tensor

_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 100, "sci_mode": None},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80, "sci_mode": None},
    "full": {"precision": 4, "threshold": float("inf"), "edgeitems": 3, "linewidth": 80, "sci_mode": None},
}
_options: dict[str, Any] = dict(_PROFILES["default"])


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors are printed.

    Args:
        precision: digits behind the point.
        threshold: elements before a summary is printed.
        edgeitems: elements at the edges of a summary.
        linewidth: characters a line.
        profile: ``default``, ``short`` or ``full``: all of these at once.
        sci_mode: whether floats are printed in scientific notation; it is chosen by their size unless given.

    Raises:
        ValueError: the profile is unknown.
    """
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(
                f"set_printoptions: profile must be one of {', '.join(_PROFILES)}, got {profile!r}"
            )
        _options.update(_PROFILES[profile])
    _options["sci_mode"] = sci_mode
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _options.update({name: value for name, value in given.items() if value is not None})


def _elements(array: np.ndarray, indent: int) -> str:
    if array.dtype.kind == "V" or array.dtype == np.float16:
        array = array.astype(np.float32)
    formatter: Any = {}
    if array.dtype.kind == "f":
        formatter["float_kind"] = _float_format(array)
    elif array.dtype.kind == "c":
        formatter["complex_kind"] = _complex_format(array)
    return np.array2string(
        array,
        separator=", ",
        prefix=" " * indent,
        threshold=_options["threshold"],
        edgeitems=_options["edgeitems"],
        max_line_width=_options["linewidth"],
        formatter=formatter or None,
    )


def _float_format(array: np.ndarray) -> Any:
    """One format for all elements: integral ones as ``1.``, wide ranges in scientific notation."""
    digits = _options["precision"]
    finite = array[np.isfinite(array)]
    magnitudes = np.abs(finite[finite != 0])
    integral = bool((finite == np.rint(finite)).all())
    wide = _options["sci_mode"]
    if wide is None:
        wide = magnitudes.size > 0 and (
            magnitudes.max() >= 1e8
            or (not integral and (magnitudes.min() < 1e-4 or magnitudes.max() / magnitudes.min() > 1e3))
        )
    if wide:
        template = f"{{:.{digits}e}}"
    elif integral:
        template = "{:.0f}."
    else:
        template = f"{{:.{digits}f}}"

    def plain(value: float) -> str:
        return template.format(value) if np.isfinite(value) else f"{value}"

    width = max((len(plain(value)) for value in finite[finite != 0][:1000]), default=0)
    return lambda value: plain(value).rjust(width)


def _complex_format(array: np.ndarray) -> Any:
    """Both parts as floats: ``1.+2.j``."""
    real, imag = _float_format(array.real), _float_format(np.abs(array.imag))

    def text(value: complex) -> str:
        sign = "-" if np.signbit(value.imag) else "+"
        return f"{real(value.real)}{sign}{imag(abs(value.imag)).strip()}j"

    return text


def to_string(x: Tensor) -> str:
    """The text of ``repr``: elements, and what is not the default of dtype, device, history."""
    name = "Parameter containing:\ntensor" if type(x).__name__ == "Parameter" else "tensor"
    array = x.array if isinstance(x.array, np.ndarray) else to_host(x.array, "the text of a tensor")
    suffix = []
    if array.size == 0 and array.ndim != 1:
        suffix.append(f"size={tuple(array.shape)}")
    if x.device.type != "cpu":
        suffix.append(f"device='{x.device}'")
    if array.dtype not in (dtypes.get_default_dtype(), np.dtype(np.int64), np.dtype(bool)) or array.size == 0:
        suffix.append(f"dtype={array.dtype.name}")
    if x.grad_fn is not None:
        suffix.append(f"grad_fn=<{x.grad_fn.name}>")
    elif x.requires_grad:
        suffix.append("requires_grad=True")
    body = _elements(array, len("tensor("))
    return f"{name}({', '.join([body, *suffix])})"
