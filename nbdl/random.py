"""Generators of random numbers: a seed, and the number of draws made with it.

The numbers themselves are computed by the backends (see :mod:`nbdl.backend.numpy.random`) as a function of
the seed, the number of the draw and the position in it, so every backend gives the same ones. Seed and number
of draws are arrays that the operations read when they run: a recorded program advances them, and draws fresh
numbers at each replay.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from nbdl.autograd.batching import draw
from nbdl.autograd.modes import mode
from nbdl.autograd.reading import before_reading
from nbdl.autograd.tape import mark_changed
from nbdl.autograd.tensor import Tensor
from nbdl.backend import registry
from nbdl.backend.device import CPU, Device, current_device, transfer
from nbdl.formula import Formula

_BITS = 1 << 64


class Generator:
    """A stream of random numbers on one device.

    Args:
        device: where the numbers are made.

    Attributes:
        device: the same.
        seed_array: 0-d int64 tensor, the bits of the seed.
        offset_array: 0-d int64 tensor, the number of draws made.

    Example:
        >>> import nbdl
        >>> generator = nbdl.Generator().manual_seed(0)
        >>> a = nbdl.rand(2, generator=generator)
        >>> b = nbdl.rand(2, generator=generator.manual_seed(0))
        >>> nbdl.equal(a, b)
        True
    """

    def __init__(self, device: str | Device | None = CPU):
        self.device = current_device(device)
        self.seed_array = Tensor(transfer(np.zeros((), np.int64), self.device))
        self.offset_array = Tensor(transfer(np.zeros((), np.int64), self.device))
        self._lock = threading.RLock()
        self._write(_unpredictable(), 0)

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of ``seed`` from its beginning.

        Raises:
            TypeError: the seed is no integer.
            RuntimeError: it is not in [-2^63, 2^64).
        """
        try:
            value = seed.__index__()
        except AttributeError:
            raise TypeError(f"manual_seed: seed must be an integer, got {type(seed).__name__}") from None
        if not -(_BITS >> 1) <= value < _BITS:
            raise RuntimeError(f"manual_seed: seed must be in [-2^63, 2^64), got {value}")
        self._set(value % _BITS, 0)
        return self

    def seed(self) -> int:
        """Choose an unpredictable seed, start its stream, and return it."""
        if mode.recorder is not None:
            mode.recorder.refuse("seed(), whose number is another one each time,", "use manual_seed()")
        value = _unpredictable()
        self._set(value, 0)
        return value

    def initial_seed(self) -> int:
        """The seed."""
        before_reading(self.seed_array, "the seed")
        return int(self.seed_array.array) % _BITS

    def get_state(self) -> Tensor:
        """Seed and number of draws as 16 bytes, a uint8 tensor on the CPU."""
        if mode.recorder is not None:
            return _joined(self.seed_array, self.offset_array).view(np.uint8).cpu()
        with self._lock:
            state = np.array([int(self.seed_array.array), int(self.offset_array.array)])
        return Tensor(state.view(np.uint8))

    def set_state(self, state: Tensor) -> None:
        """Continue from what :meth:`get_state` gave.

        Raises:
            TypeError: it is no uint8 tensor.
            RuntimeError: it has another size.
        """
        if not isinstance(state, Tensor) or state.dtype != np.uint8:
            raise TypeError("set_state: expected a uint8 tensor from get_state()")
        if state.array.shape != (16,):
            raise RuntimeError(f"set_state: expected 16 bytes, got shape {list(state.shape)}")
        if mode.recorder is not None:
            for tensor, bits in zip((self.seed_array, self.offset_array), state.view(np.int64).unbind()):
                tensor.copy_(bits)
            return
        seed, offset = np.ascontiguousarray(state.cpu().array).view(np.int64).tolist()
        self._set(seed % _BITS, offset % _BITS)

    def draw(self, primitive: Any, *operands: Tensor) -> Tensor:
        """Run a random primitive on seed, number of the draw and ``operands``, and count the draw.

        The count is an array operation too, so that it is recorded with the draw.
        """
        draws = self.offset_array
        with self._lock:
            result = draw(primitive, self.seed_array, draws, *operands)
            backend = mode.backend or registry.cpu or registry.select()
            backend.overwrite(_next_number(), ((draws.array,),), (0,))
            mark_changed((draws,))
        return result

    def _set(self, seed: int, offset: int) -> None:
        if mode.recorder is None:
            self._write(seed, offset)
        else:  # as operations, so that each replay does it
            self.seed_array.fill_(_signed(seed))
            self.offset_array.fill_(_signed(offset))

    def _write(self, seed: int, offset: int) -> None:
        """Set seed and number of draws now, and not at each replay of what is being recorded."""
        with self._lock:
            for tensor, value in ((self.seed_array, seed), (self.offset_array, offset)):
                tensor.array[...] = _signed(value)
                tensor.mark_changed()

    def __repr__(self) -> str:
        draws = int(self.offset_array.array)
        return f"<nbdl.Generator device={self.device} seed={self.initial_seed()} draws={draws}>"

    def __getstate__(self) -> dict[str, Any]:
        return {"device": str(self.device), "state": self.get_state().array.tobytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Generator.__init__(self, state["device"])
        self.set_state(Tensor(np.frombuffer(state["state"], np.uint8).copy()))


def _signed(bits: int) -> int:
    """An unsigned number of 64 bits as the signed one with the same bits."""
    return bits - _BITS if bits >= _BITS >> 1 else bits


def _unpredictable() -> int:
    return int.from_bytes(os.urandom(8), "little") >> 11


def _joined(*numbers: Tensor) -> Tensor:
    from nbdl.ops.joining import stack

    return stack(numbers)


@cache
def _next_number() -> Any:
    from nbdl.ops.pointwise import Pointwise

    return Pointwise.of(Formula("next_number", lambda n: n + 1, 1))


_defaults: dict[Device, Generator] = {}
_defaults_lock = threading.Lock()


def default_generator(device: Device | str | None = None) -> Generator:
    """The generator that is used where none is given; one a device, seeded alike by :func:`manual_seed`."""
    place = device if type(device) is Device else current_device(device)
    if place.type == "cuda" and place.index is None:
        place = Device("cuda", 0)
    found = _defaults.get(place)
    if found is None:
        with _defaults_lock:
            found = _defaults.get(place)
            if found is None:
                found = Generator(place)
                if _seed is not None:
                    found._write(_seed % _BITS, 0)
                _defaults[place] = found
    return found


_seed: int | None = None  # what manual_seed gave, for generators of devices not used yet


def manual_seed(seed: int) -> Generator:
    """Seed the default generators of all devices.

    Returns:
        The one of the CPU.

    Raises:
        TypeError: the seed is no integer.
        RuntimeError: it is not in [-2^63, 2^64).

    Example:
        >>> import nbdl
        >>> generator = nbdl.manual_seed(0)
        >>> first = nbdl.rand(2)
        >>> generator = nbdl.manual_seed(0)
        >>> bool((first == nbdl.rand(2)).all())
        True
    """
    global _seed
    generator = default_generator(CPU).manual_seed(seed)
    _seed = seed
    for other in list(_defaults.values()):
        other.manual_seed(seed)
    return generator


def seed() -> int:
    """Seed the default generators unpredictably, and return the seed."""
    value = default_generator(CPU).seed()
    manual_seed(value)
    return value


def initial_seed() -> int:
    """The seed of the CPU's default generator."""
    return default_generator(CPU).initial_seed()


def get_rng_state() -> Tensor:
    """The state of the CPU's default generator."""
    return default_generator(CPU).get_state()


def set_rng_state(state: Tensor) -> None:
    """Continue the CPU's default generator from a state."""
    default_generator(CPU).set_state(state)


def get_rng_state_all() -> dict[str, Tensor]:
    """The states of the default generators of all devices in use, by the name of the device."""
    return {str(device): generator.get_state() for device, generator in list(_defaults.items())}


def set_rng_state_all(states: Mapping[str, Tensor]) -> None:
    """Continue the default generators from what :func:`get_rng_state_all` gave.

    Devices that are not here are left out, so that what was begun on a GPU can be looked at without one.
    """
    gpu = "cupy" in registry.available_backends()
    for name, state in states.items():
        if gpu or Device(name) == CPU:
            default_generator(name).set_state(state)


@contextmanager
def fork_rng() -> Iterator[None]:
    """Draw inside a ``with`` block without effect on the default generators outside."""
    states = get_rng_state_all()
    try:
        yield
    finally:
        set_rng_state_all(states)
