"""Primitives that draw random numbers, and what calls them with a generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.modes import mode
from nbdl.autograd.tensor import Tensor
from nbdl.backend.device import current_device, transfer
from nbdl.formula import dtypes
from nbdl.ops.batching import common_seed, one_by_one, with_rank
from nbdl.ops.complex_numbers import complex
from nbdl.ops.copying import as_dtype
from nbdl.ops.primitive import Primitive
from nbdl.random import Generator, default_generator

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel


class Draw(Primitive):
    """Base: operands are seed and number of the draw (0-d int64), then parameters of the distribution.

    Args:
        shape: shape of the result.
        dtype: dtype of the result.
    """

    differentiable = False

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        super().__init__(shape=shape, dtype=dtype)
        self.shape, self.dtype = shape, dtype

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Tensor:
        """Numbers for each example, or the same ones by one draw after the other with the same counter."""
        if level.randomness == "same":
            return one_by_one(self, values, flags, level)
        full = (level.size, *self.shape)
        parameters = [
            with_rank(x, len(full)) if is_batched else x
            for x, is_batched in zip(values[2:], flags[2:], strict=True)
        ]
        return type(self).of(full, self.dtype)(common_seed(values, flags), values[1], *parameters)


class RandomUniform(Draw):
    """Uniform numbers in [0, 1)."""

    name = "random_uniform"


class RandomNormal(Draw):
    """Standard normal numbers."""

    name = "random_normal"


class RandomIntegers(Draw):
    """Integers in [low, low + span): both 0-d int64 operands."""

    name = "random_integers"


class RandomBernoulli(Draw):
    """1 with the probability that the last operand gives, broadcast, else 0."""

    name = "random_bernoulli"

    def check(self, *arrays: Any) -> None:
        """The probabilities broadcast to the shape."""
        shape, p = self.params["shape"], arrays[2]
        if np.broadcast_shapes(p.shape, shape) != shape:
            raise RuntimeError(f"bernoulli: p of shape {list(p.shape)} does not broadcast to {list(shape)}")


def can_look(x: Tensor) -> bool:
    """Whether elements can be checked: they belong to one example, and no program is being recorded.

    Not on a GPU, since the host would wait for all that was asked of it before.
    """
    return isinstance(x.array, np.ndarray) and x.batch is None and mode.recorder is None


def is_everywhere(condition: Tensor) -> bool:
    """Whether a condition holds for all elements; yes where they cannot be looked at."""
    return not can_look(condition) or bool(condition.all())


def generator_for(label: str, generator: Generator | None, device: Any) -> Generator:
    """The generator, or the default one of the device.

    Raises:
        TypeError: it is no generator.
        RuntimeError: it belongs to another device.
    """
    if generator is None:
        return default_generator(device)
    if not isinstance(generator, Generator):
        raise TypeError(f"{label}: generator must be a nbdl.Generator, got {type(generator).__name__}")
    if device is not None and generator.device.type != current_device(device).type:
        raise RuntimeError(
            f"{label}: expected a generator on {current_device(device)}, but found one on {generator.device}"
        )
    return generator


def _floating(label: str, wanted: np.dtype) -> np.dtype:
    if not dtypes.is_floating(wanted):
        raise RuntimeError(f"{label}: expected a floating dtype, got {wanted}")
    return wanted


def draw_floats(
    kind: type[Draw],
    label: str,
    shape: tuple[int, ...],
    dtype: Any,
    device: Any,
    generator: Generator | None,
) -> Tensor:
    """Numbers of one kind of draw, of shape ``shape``; complex ones have two parts of that kind.

    Raises:
        RuntimeError: the dtype is neither floating nor complex.
    """
    wanted = dtypes.get_default_dtype() if dtype is None else as_dtype(dtype)
    if wanted.kind == "c":
        part = dtypes.real_of(wanted)
        return complex(*[draw_floats(kind, label, shape, part, device, generator) for _ in "xy"])
    return generator_for(label, generator, device).draw(kind.of(shape, _floating(label, wanted)))


def _integer_operand(generator: Generator, value: int) -> Tensor:
    """The low 64 bits of ``value`` as a 0-d int64 tensor on the generator's device."""
    bits = np.array(value % (1 << 64), np.uint64).astype(np.int64)
    return Tensor(transfer(bits, generator.device))


def draw_integers(
    label: str, low: int, high: int, shape: tuple[int, ...], dtype: np.dtype, generator: Generator
) -> Tensor:
    """Integers in [low, high).

    Raises:
        RuntimeError: there is none.
    """
    if low >= high:
        raise RuntimeError(f"{label}: expects low to be less than high, but got low={low} >= high={high}")
    operands = _integer_operand(generator, low), _integer_operand(generator, high - low)
    return generator.draw(RandomIntegers.of(shape, dtype), *operands)
