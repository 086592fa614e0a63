"""Dropout in one pass: the mask is drawn and applied in the same loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.tape import wrap
from nbdl.autograd.tensor import Tensor
from nbdl.backend.numpy.random import DROP
from nbdl.ops.batching import common_seed, repeated
from nbdl.ops.pointwise import Pointwise, scalar
from nbdl.ops.primitive import Primitive
from nbdl.random import Generator, default_generator

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel

_MASKED = Pointwise.of(DROP, 1 << 2)


class Dropout(Primitive):
    """``dropout(seed, draw, x, p)``: x with elements dropped, and the mask of those that are kept.

    It has no derivative of its own: :func:`dropout` records the formula with the mask that was drawn.
    """

    name = "dropout"
    differentiable = False

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Any:
        """A mask for each example, or the same one for all."""
        seed, (_, number, x, p) = common_seed(values, flags), values
        (rows,) = repeated((x,), flags[2:3], level)
        if level.randomness != "same":
            return self(seed, number, rows, p)
        _, kept = self(seed, number, rows.new_zeros(rows.array.shape[1:]), p)
        return _MASKED(rows, kept, p), kept.expand(rows.array.shape)


def dropout(x: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Each element 0 with probability ``p``, else divided by 1 - p (Srivastava et al. 2014).

    Args:
        x: floating, any shape.
        p: probability of an element to be dropped, in [0, 1].
        generator: default: the one of the device.

    Raises:
        RuntimeError: the elements are not floats.
    """
    if not x.is_floating_point():
        raise RuntimeError(f"dropout: the dtype of the input must be floating, got {x.dtype}")
    probability = scalar(float(p))
    y, kept = (generator or default_generator(x.device)).draw(Dropout.of(), x, probability)
    if kept.batch is not None:
        return _MASKED(x, kept, probability)
    return wrap(_MASKED, (x, kept, probability), y.array)
