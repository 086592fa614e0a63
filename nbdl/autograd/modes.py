"""Modes of a thread: is the tape recording, are tangents carried, is NaN hunted, which backend computes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from nbdl.autograd.autocast import Autocast
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tensor import Tensor
    from nbdl.backend.numpy import NumpyBackend
    from nbdl.compiler.recorder import Recorder

F = TypeVar("F", bound=Callable[..., Any])


class _Mode(threading.local):
    """The modes of one thread, each at its default when the thread starts."""

    def __init__(self) -> None:
        self.grad = True
        self.inference = False
        self.anomaly = False
        self.check_nan = True
        # The levels of forward differentiation that are open, and the innermost one (0: none).
        self.dual_levels: tuple[int, ...] = ()
        self.dual_level = 0
        # The open levels of vmap; their numbers are among those above, so that all transforms are ordered.
        self.batch_levels: tuple[BatchLevel, ...] = ()
        # Set by `with use_backend(...)`.
        self.backend: NumpyBackend | None = None
        self.backend_name: str | None = None
        # What writes down the calls of the array layer while nbdl.compile looks.
        self.recorder: Recorder | None = None
        # The hooks that saved values pass through, and the error for entering others.
        self.packing: tuple[Callable[[Any], Any], Callable[[Any], Any]] | None = None
        self.packing_refused: str | None = None
        # What waits for the end of the running backward pass, with the gradients that it has seen.
        self.endings: dict[Callable[[list], Any], list[Tensor | None]] = {}
        # A flag on the device: whether the running step of an optimizer changes nothing. None: a usual one.
        self.skipped: Tensor | None = None
        # What casts operands inside `nbdl.amp.autocast`.
        self.autocast: Autocast | None = None


mode = _modes = _Mode()  # the second name, where an argument is called mode

# Whether inference_mode was ever entered: until then no tensor can be an inference tensor, and nobody needs
# to look.
inference_was_used = False


class _ModeGuard:
    """Base of the context managers that are decorators as well."""

    _field = "grad"

    def __init__(self, value: bool):
        self._value = value
        self._previous: list[bool] = []

    def __enter__(self) -> None:
        self._previous.append(getattr(mode, self._field))
        setattr(mode, self._field, self._value)

    def __exit__(self, *exc_info: object) -> None:
        setattr(mode, self._field, self._previous.pop())

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)._copy(self):
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]

    @classmethod
    def _copy(cls, other: _ModeGuard) -> _ModeGuard:
        guard = cls.__new__(cls)
        _ModeGuard.__init__(guard, other._value)
        return guard


class no_grad(_ModeGuard):
    """Operations inside are not recorded on the tape.

    Example:
        >>> import nbdl
        >>> x = nbdl.ones(2, requires_grad=True)
        >>> with nbdl.no_grad():
        ...     y = x * 2
        >>> y.requires_grad
        False
    """

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(_ModeGuard):
    """Operations inside are recorded again, within :class:`no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)


class set_grad_enabled(_ModeGuard):
    """Turn recording on or off, at once and until the end of a ``with`` block if it is used as one.

    Args:
        mode: whether operations are recorded.
    """

    def __init__(self, mode: bool):
        super().__init__(bool(mode))
        self._previous.append(_modes.grad)
        _modes.grad = self._value

    def __enter__(self) -> None:
        _modes.grad = self._value

    def __call__(self, function: F) -> F:
        _modes.grad = self._previous.pop()  # a decorator switches inside the function only
        return super().__call__(function)

    @classmethod
    def _copy(cls, other: _ModeGuard) -> _ModeGuard:
        return cls(other._value)


class inference_mode(_ModeGuard):
    """Like :class:`no_grad`, and what is computed inside can never be saved for a backward pass.

    Args:
        mode: False: as if there were no such block.

    Example:
        >>> import nbdl
        >>> w = nbdl.ones(2, requires_grad=True)
        >>> with nbdl.inference_mode():
        ...     y = w * 2
        >>> y.requires_grad, y.is_inference()
        (False, True)
    """

    _field = "inference"

    def __init__(self, mode: bool = True):
        super().__init__(bool(mode))
        self._grad: list[bool] = []

    def __enter__(self) -> None:
        super().__enter__()
        global inference_was_used
        self._grad.append(mode.grad)
        if self._value:
            inference_was_used = True
            mode.grad = False

    def __exit__(self, *exc_info: object) -> None:
        mode.grad = self._grad.pop()
        super().__exit__(*exc_info)

    @classmethod
    def _copy(cls, other: _ModeGuard) -> _ModeGuard:
        return cls(other._value)


def is_grad_enabled() -> bool:
    """Whether operations are recorded on the tape of this thread."""
    return mode.grad


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside :class:`inference_mode`."""
    return mode.inference


@contextmanager
def recording(enabled: bool) -> Iterator[None]:
    """Set the grad mode for a block of the engine."""
    previous, mode.grad = mode.grad, enabled
    try:
        yield
    finally:
        mode.grad = previous
