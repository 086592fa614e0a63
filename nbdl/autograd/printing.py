"""How tensors are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.backend.cupy.waiting import to_host
from nbdl.formula import dtypes

if TYPE_CHECKING:
    from nbdl.autograd.tensor import Tensor

_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None},
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


class _Format:
    """How the numbers of one tensor are written: all in one notation and width, as PyTorch chooses them.

    Args:
        values: those that are shown.
    """

    def __init__(self, values: np.ndarray):
        self.width, self.template = 1, "{}"
        if values.dtype.kind != "f":
            self.width = max(map(len, map(str, values.ravel().tolist())), default=1)
            return
        shown = values[np.isfinite(values) & (values != 0)].astype(np.float64)
        if shown.size == 0:
            self.template = "{:.0f}."
            return
        sizes, digits = np.abs(shown), _options["precision"]
        wide = _options["sci_mode"]
        if wide is None:
            largest, smallest = sizes.max(), sizes.min()
            wide = largest / smallest > 1e3 or largest > 1e8 or smallest < 1e-4
        if wide:
            self.template = f"{{:.{digits}e}}"
        else:
            self.template = "{:.0f}." if bool((shown == np.rint(shown)).all()) else f"{{:.{digits}f}}"
        self.width = max(len(self.template.format(value)) for value in shown.tolist())

    def text(self, value: Any) -> str:
        """One number, right-aligned."""
        is_finite = not isinstance(value, float) or np.isfinite(value)
        return (self.template.format(value) if is_finite else f"{value}").rjust(self.width)


class _ComplexFormat:
    """Both parts of complex numbers, each in its own format: ``1.+2.j``."""

    def __init__(self, values: np.ndarray):
        self.real, self.imag = _Format(values.real), _Format(values.imag)
        self.width = self.real.width + self.imag.width + 1

    def text(self, value: complex) -> str:
        """One number."""
        imag = self.imag.text(value.imag).lstrip()
        return self.real.text(value.real) + ("" if imag[0] in "+-" else "+") + imag + "j"


def _edges(array: np.ndarray) -> np.ndarray:
    """What a summary shows: the first and the last positions of every axis."""
    kept = _options["edgeitems"]
    for axis, n in enumerate(array.shape):
        if n > 2 * kept:
            array = np.take(array, [*range(kept), *range(n - kept, n)], axis)
    return array


def _elements(array: np.ndarray, indent: int) -> str:
    if array.size == 0:
        return "[]"
    if array.dtype.kind == "V" or array.dtype == np.float16:
        array = array.astype(np.float32)
    is_cut = array.size > _options["threshold"]
    shown = _edges(array) if is_cut else array
    format = _ComplexFormat(shown) if array.dtype.kind == "c" else _Format(shown)
    return _nested(array, indent, is_cut, format)


def _nested(array: np.ndarray, indent: int, is_cut: bool, format: _Format | _ComplexFormat) -> str:
    """The brackets of the first axis, and what stands between them."""
    if array.ndim == 0:
        return format.text(array.item())
    kept, n = _options["edgeitems"], array.shape[0]
    leaves_out = is_cut and n > 2 * kept
    positions = [*range(kept), *range(n - kept, n)] if leaves_out else [*range(n)]
    if array.ndim > 1:
        rows = [_nested(array[k], indent + 1, is_cut, format) for k in positions]
        if leaves_out:
            rows.insert(kept, "...")
        return f"[{(',' + chr(10) * (array.ndim - 1) + ' ' * (indent + 1)).join(rows)}]"
    entries = [format.text(value) for value in array[positions].tolist()]
    if leaves_out:
        entries.insert(kept, " ...")
    in_line = max(1, (_options["linewidth"] - indent) // (format.width + 2))
    lines = [", ".join(entries[k : k + in_line]) for k in range(0, len(entries), in_line)]
    return f"[{(',' + chr(10) + ' ' * (indent + 1)).join(lines)}]"


def to_string(x: Tensor) -> str:
    """The text of ``repr``: elements, and what is not the default of dtype, device, history."""
    start = "Parameter containing:\ntensor(" if type(x).__name__ == "Parameter" else "tensor("
    array = x.array if isinstance(x.array, np.ndarray) else to_host(x.array, "the text of a tensor")
    floats = dtypes.get_default_dtype()
    usual = (floats,) if array.size == 0 else (floats, dtypes.complex_of(floats), np.int64, np.bool_)
    suffixes = []
    if x.device.type != "cpu":
        suffixes.append(f"device='{x.device}'")
    if array.size == 0 and array.ndim != 1:
        suffixes.append(f"size={tuple(array.shape)}")
    if array.dtype not in usual:
        suffixes.append(f"dtype={array.dtype.name}")
    if x.grad_fn is not None:
        suffixes.append(f"grad_fn=<{x.grad_fn.name()}>")
    elif x.requires_grad:
        suffixes.append("requires_grad=True")
    indent = len("tensor(")
    text = start + _elements(array, indent)
    for suffix in suffixes:
        column = len(text) - text.rfind("\n") - 1
        wraps = column + len(suffix) + 2 > _options["linewidth"]
        text += f",\n{' ' * indent}{suffix}" if wraps else f", {suffix}"
    return text + ")"
