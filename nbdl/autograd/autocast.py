"""Automatic casts: operations in lower precision where it is safe, in float32 where it is not.

The tape asks the :class:`Autocast` in force before it runs a primitive; which primitives are cast how is
told by a table that :mod:`nbdl.amp` brings. Operations of a backward pass are never cast: they compute in
the dtypes that the forward pass chose.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nbdl.autograd.modes import mode
from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes

if TYPE_CHECKING:
    from nbdl.ops.primitive import Primitive

F = TypeVar("F", bound=Callable[..., Any])

# What a primitive does with its floating operands, float64 ones excepted.
LOWER = "lower"  # casts them to the dtype of the block
FLOAT32 = "float32"  # casts them to float32
WIDEST = "widest"  # casts them to the widest among them, and its first result back to the dtype of the first


class Autocast:
    """What is cast inside an :class:`nbdl.amp.autocast` block; nothing in it changes but the cache.

    Args:
        dtypes: by type of device the lower dtype; a device that is not in it casts nothing.
        rules: by type of device a function from a primitive to ``LOWER``, ``FLOAT32``, ``WIDEST`` or None.
        cache: casts of parameters that are kept until the outermost block ends; None: none are kept.
    """

    def __init__(
        self,
        dtypes: Mapping[str, np.dtype],
        rules: Mapping[str, Callable[[Primitive], str | None]],
        cache: dict[Any, tuple[Tensor, int, Tensor]] | None,
    ):
        self.dtypes, self.rules, self.cache = dict(dtypes), rules, cache

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """What a recorded program depends on."""
        return tuple(sorted((kind, dtype.name) for kind, dtype in self.dtypes.items()))

    def apply(self, primitive: Primitive, inputs: Sequence[Tensor]) -> Any:
        """Run and record ``primitive`` on its operands, cast as the table says."""
        device = self.device_type_of(inputs)
        dtype = self.dtypes.get(device)
        rule = None if dtype is None else self.rules[device](primitive)
        with casting(None):
            if rule is None or dtype is None:
                return apply(primitive, *inputs)
            if rule == LOWER:
                return apply(primitive, *[self.cast(x, dtype) for x in inputs])
            if rule == FLOAT32:
                return apply(primitive, *[self.cast(x, dtypes.FLOAT32) for x in inputs])
            first = inputs[0].array.dtype
            halves = {x.array.dtype for x in inputs if _is_cast(x)}
            if len(halves) < 2:
                return apply(primitive, *inputs)
            results = apply(primitive, *[self.cast(x, dtypes.FLOAT32) for x in inputs])
            if isinstance(results, tuple):
                return (results[0].to(first), *results[1:])
            return results.to(first)

    @staticmethod
    def device_type_of(inputs: Sequence[Tensor]) -> str:
        """``cuda`` if an operand is there; the others are numbers then."""
        return "cpu" if all(type(x.array) is np.ndarray for x in inputs) else "cuda"

    def cast(self, x: Tensor, dtype: np.dtype) -> Tensor:
        """An operand in another dtype, if it takes part; casts of parameters are looked up."""
        if x.array.dtype == dtype or not _is_cast(x):
            return x
        # Parameters only: activations are used once or twice, and keeping them would cost their memory.
        # None while a program is recorded: it would go on using the cast of its first run.
        cache = self.cache if mode.recorder is None else None
        if cache is None or not x.requires_grad or not x.is_leaf or x.batch is not None:
            return x.to(dtype)
        key = id(x), dtype, mode.grad
        kept = cache.get(key)
        version = x.shared_storage().changed
        if kept is None or kept[1] != version:
            kept = cache[key] = x, version, x.to(dtype)
        return kept[2]


def _is_cast(x: Tensor) -> bool:
    """Whether an operand takes part: a floating tensor that is neither double nor a number on the host."""
    dtype = x.array.dtype
    return dtypes.is_floating(dtype) and dtype != dtypes.FLOAT64


@contextmanager
def casting(autocast: Autocast | None) -> Iterator[None]:
    """Put ``autocast`` in force in this thread for a ``with`` block."""
    previous, mode.autocast = mode.autocast, autocast
    try:
        yield
    finally:
        mode.autocast = previous


def in_float32(function: F) -> F:
    """Make a function that is composed of several operations compute in float32 where casts are on.

    Its positional and keyword arguments that are tensors in half precision are cast, and no operation in it
    is.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if mode.autocast is None:
            return function(*args, **kwargs)
        with casting(None):
            args = tuple([_widened(value) for value in args])
            return function(*args, **{name: _widened(value) for name, value in kwargs.items()})

    return wrapped  # type: ignore[return-value]


def _in_dtype(
    devices: tuple[str, ...], choose: Callable[[np.dtype, set[np.dtype]], np.dtype]
) -> Callable[[F], F]:
    """Make functions compute in a dtype where casts are on, and cast nothing inside.

    Args:
        devices: types of devices where that is so.
        choose: the dtype, by the lower dtype and those of the operands.
    """

    def decorated(function: F) -> F:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            autocast = mode.autocast
            if autocast is None:
                return function(*args, **kwargs)
            operands = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and _is_cast(x)]
            device = autocast.device_type_of(operands)
            lower = autocast.dtypes.get(device)
            if not operands or lower is None or device not in devices:
                return function(*args, **kwargs)
            dtype = choose(lower, {x.array.dtype for x in operands})

            def cast(value: Any) -> Any:
                return autocast.cast(value, dtype) if isinstance(value, Tensor) else value

            with casting(None):
                return function(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})

        return wrapped  # type: ignore[return-value]

    return decorated


def in_lower(*devices: str) -> Callable[[F], F]:
    """Make a function that is composed of several operations compute in the lower dtype on these devices."""
    return _in_dtype(devices, lambda lower, found: lower)


def in_single(*devices: str) -> Callable[[F], F]:
    """Make a function compute in float32, and give that, on these devices."""
    return _in_dtype(devices, lambda lower, found: dtypes.FLOAT32)


def in_widest(*devices: str) -> Callable[[F], F]:
    """Make a function compute in the widest dtype among its operands on these devices."""
    return _in_dtype(devices, lambda lower, found: found.pop() if len(found) == 1 else dtypes.FLOAT32)


def lowered(*tensors: Any) -> tuple[Any, ...]:
    """Operands of a product that is composed of several operations, cast as one primitive would cast them."""
    autocast = mode.autocast
    if autocast is None:
        return tensors
    dtype = autocast.dtypes.get(autocast.device_type_of([x for x in tensors if x is not None]))
    if dtype is None:
        return tensors
    return tuple([None if x is None else autocast.cast(x, dtype) for x in tensors])


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor) and dtypes.is_half(value.array.dtype):
        return value.float()
    return value


from nbdl.autograd.tape import apply  # noqa: E402  (the tape asks the Autocast in force)
