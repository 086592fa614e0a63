"""Dropout in one pass: the mask is drawn and applied in the same loop."""

from __future__ import annotations

from nbdl.autograd.tape import wrap
from nbdl.autograd.tensor import Tensor
from nbdl.backend.numpy.random import DROP
from nbdl.ops.pointwise import Pointwise, scalar
from nbdl.ops.primitive import Primitive
from nbdl.random import Generator, default_generator

_MASKED = Pointwise.of(DROP, 1 << 2)


class Dropout(Primitive):
    """``dropout(seed, draw, x, p)``: x with elements dropped, and the mask of those that are kept.

    It has no derivative of its own: :func:`dropout` records the formula with the mask that was drawn.
    """

    name = "dropout"
    differentiable = False


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
    return wrap(_MASKED, (x, kept, probability), y.array)
