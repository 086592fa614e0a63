"""The blocks in which operations are cast."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from nbdl.amp.rules import RULES
from nbdl.autograd.autocast import Autocast, casting
from nbdl.autograd.modes import mode
from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes

F = TypeVar("F", bound=Callable[..., Any])


class autocast:
    """Inside, operations choose the dtype they compute in; a context manager, and a decorator.

    Matrix products, convolutions, attention and recurrent layers cast float32 operands to ``dtype``;
    losses, and on a GPU softmax, norms, sums, powers, exponentials and logarithms too, cast half-precision
    operands to float32; float64 is never touched. The block is of the calling thread only. Leave it before
    ``backward()``, which computes in the dtypes that the forward pass chose. Casts of parameters are kept
    until the outermost block ends, or the parameter changes.

    Args:
        device_type: ``cpu`` or ``cuda``; tensors elsewhere are left alone.
        dtype: ``bfloat16`` or ``float16``; default: bfloat16 on a CPU, float16 on a GPU.
        enabled: False leaves the operations of such a device alone, within another block too.
        cache_enabled: whether casts of parameters are kept; default: as in the block around, else they are.

    Raises:
        RuntimeError: the type of device is unknown, or the dtype is no half-precision one.

    Example:
        >>> import nbdl
        >>> a = nbdl.ones(2, 2)
        >>> with nbdl.amp.autocast("cpu", dtype=nbdl.float16):
        ...     product = a @ a
        ...     with nbdl.amp.autocast("cpu", enabled=False):
        ...         exact = a @ a
        >>> product.dtype, exact.dtype
        (dtype('float16'), dtype('float32'))
    """

    def __init__(
        self,
        device_type: str,
        dtype: Any = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ):
        self.device_type = _checked_device("autocast", device_type)
        self.enabled = bool(enabled)
        self._given_dtype = None if dtype is None else np.dtype(dtype)
        if self.enabled and self._given_dtype is not None and not dtypes.is_half(self._given_dtype):
            raise RuntimeError(
                f"autocast: dtype must be bfloat16 or float16 on device type {device_type!r}, "
                f"got {self._given_dtype}"
            )
        self._cache_enabled = cache_enabled
        self._outer: list[Autocast | None] = []

    @property
    def fast_dtype(self) -> np.dtype:
        """The dtype that operands are cast to."""
        return self._given_dtype if self._given_dtype is not None else get_autocast_dtype(self.device_type)

    def __enter__(self) -> autocast:
        outer = mode.autocast
        self._outer.append(outer)
        kinds = {} if outer is None else dict(outer.dtypes)
        kinds.pop(self.device_type, None)
        if self.enabled:
            kinds[self.device_type] = self.fast_dtype
        cache = {} if outer is None else outer.cache
        if self._cache_enabled is not None:
            cache = (cache or {}) if self._cache_enabled else None
        mode.autocast = Autocast(kinds, RULES, cache)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        mode.autocast = self._outer.pop()

    def __call__(self, function: F) -> F:
        """``function`` inside such a block."""

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            # One of its own: calls may run at the same time in several threads.
            with type(self)(self.device_type, self._given_dtype, self.enabled, self._cache_enabled):
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


def is_autocast_available(device_type: str) -> bool:
    """Whether there are rules for a type of device."""
    return device_type in RULES


def is_autocast_enabled(device_type: str) -> bool:
    """Whether operations on such a device are cast here.

    Raises:
        RuntimeError: the type of device is unknown.
    """
    _checked_device("is_autocast_enabled", device_type)
    return mode.autocast is not None and device_type in mode.autocast.dtypes


def get_autocast_dtype(device_type: str) -> np.dtype:
    """The dtype that operands on such a device are cast to here, or would be by default.

    Raises:
        RuntimeError: the type of device is unknown.
    """
    _checked_device("get_autocast_dtype", device_type)
    if mode.autocast is not None and device_type in mode.autocast.dtypes:
        return mode.autocast.dtypes[device_type]
    return dtypes.bfloat16() if device_type == "cpu" else dtypes.FLOAT16


def _checked_device(caller: str, device_type: Any) -> str:
    if not isinstance(device_type, str):
        raise ValueError(f"{caller}: Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if device_type not in RULES:
        raise RuntimeError(
            f"{caller}: User specified an unsupported autocast device_type {device_type!r}; "
            f"expected one of {', '.join(RULES)}"
        )
    return device_type


# ------------------------------------------------------------------------------------- autograd.Function
def custom_fwd(
    fwd: Callable[..., Any] | None = None, *, device_type: str, cast_inputs: Any = None
) -> Callable[..., Any]:
    """A decorator of ``forward`` of an :class:`nbdl.autograd.Function` that is used where casts are on.

    Args:
        fwd: the method.
        device_type: ``cpu`` or ``cuda``.
        cast_inputs: cast floating tensors on such a device to this dtype, and compute without casts; None:
        leave
            the casts as they are.

    Raises:
        RuntimeError: the type of device is unknown.
    """
    _checked_device("custom_fwd", device_type)
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        context = args[0]
        context._autocast = mode.autocast
        if cast_inputs is None or not is_autocast_enabled(device_type):
            return fwd(*args, **kwargs)
        context._autocast = None
        with casting(None):
            given = _cast((args, kwargs), device_type, np.dtype(cast_inputs))
            return fwd(*given[0], **given[1])

    return decorated


def custom_bwd(bwd: Callable[..., Any] | None = None, *, device_type: str) -> Callable[..., Any]:
    """A decorator of ``backward`` beside :func:`custom_fwd`: it computes with the casts of ``forward``.

    Args:
        bwd: the method.
        device_type: ``cpu`` or ``cuda``.

    Raises:
        RuntimeError: the type of device is unknown.
    """
    _checked_device("custom_bwd", device_type)
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        with casting(args[0]._autocast):
            return bwd(*args, **kwargs)

    return decorated


def _cast(value: Any, device_type: str, dtype: np.dtype) -> Any:
    """``value`` with the floating tensors in it cast."""
    if isinstance(value, Tensor):
        is_eligible = value.is_floating_point() and value.device.type == device_type
        return value.to(dtype) if is_eligible and value.dtype != dtypes.FLOAT64 else value
    kind: Any = type(value)
    if isinstance(value, Mapping):
        return kind({key: _cast(entry, device_type, dtype) for key, entry in value.items()})
    if isinstance(value, Sequence) and not isinstance(value, str):
        return kind([_cast(entry, device_type, dtype) for entry in value])
    return value
