"""detect_anomaly: stop at the operation, and the user's line, that made the first NaN or infinity."""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.modes import mode
from nbdl.autograd.modes import mode as _mode

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node
    from nbdl.ops.primitive import Primitive

# This package, and what enters its context managers.
_OURS = (os.path.dirname(os.path.dirname(os.path.abspath(__file__))), contextlib.__file__)


class detect_anomaly:
    """Inside this context an operation raises an error if its result or its derivative is not finite.

    Args:
        check_nan: look at values; without it only the lines of operations are remembered for error messages.

    Example:
        >>> import nbdl
        >>> x = nbdl.tensor([0.0], requires_grad=True)
        >>> with nbdl.autograd.detect_anomaly():
        ...     y = nbdl.log(x)
        Traceback (most recent call last):
        RuntimeError: log produced -inf at ...
    """

    def __init__(self, check_nan: bool = True):
        self._check_nan = check_nan
        self._previous: list[tuple[bool, bool]] = []

    def __enter__(self) -> None:
        self._previous.append((mode.anomaly, mode.check_nan))
        mode.anomaly, mode.check_nan = True, self._check_nan

    def __exit__(self, *exc_info: object) -> None:
        mode.anomaly, mode.check_nan = self._previous.pop()


class set_detect_anomaly:
    """:class:`detect_anomaly` turned on or off, at once and until the end of a ``with`` block if it is one.

    Args:
        mode: whether it is in force.
        check_nan: as for :class:`detect_anomaly`.
    """

    def __init__(self, mode: bool, check_nan: bool = True):
        self._previous = _mode.anomaly, _mode.check_nan
        _mode.anomaly, _mode.check_nan = bool(mode), check_nan

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc_info: object) -> None:
        _mode.anomaly, _mode.check_nan = self._previous


def user_line() -> str:
    """File and line of the innermost caller outside the package."""
    frame, _ = _user_frame()
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def user_stacklevel() -> int:
    """The ``stacklevel`` with which a caller in the package warns about the user's line."""
    return _user_frame()[1]


def _user_frame() -> tuple[types.FrameType, int]:
    """The innermost frame outside the package, and how many frames it is above the caller of the caller."""
    frame, level = sys._getframe(2), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        frame, level = frame.f_back, level + 1
    return frame, level


def _not_finite(array: Any) -> str | None:
    """``nan``, ``inf`` or ``-inf`` if the array has one, else None."""
    from nbdl.formula.dtypes import is_floating

    if not is_floating(array.dtype):
        return None
    flat = array.reshape(-1)
    bad = ~(abs(flat) < float("inf"))  # true for NaN as well
    return str(flat[bad][0].item()) if bool(bad.any()) else None


def check_forward(primitive: Primitive, out: Any) -> None:
    """Raise if a result is not finite."""
    if not mode.check_nan:
        return
    for tensor in out if type(out) is tuple else (out,):
        found = _not_finite(tensor.array)
        if found is not None:
            raise RuntimeError(f"{primitive.label} produced {found} at {user_line()}")


def check_backward(node: Node, gradients: Sequence[Any]) -> None:
    """Raise if a gradient is not finite."""
    if not mode.check_nan:
        return
    for k, gradient in enumerate(gradients):
        found = None if gradient is None else _not_finite(gradient.array)
        if found is not None:
            raise RuntimeError(
                f"Function '{node.name()}' returned {found} values in its gradient number {k}; the "
                "operation was recorded at "
                f"{node.origin or 'an unknown line (record it inside detect_anomaly too)'}"
            )
