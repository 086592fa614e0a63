"""Activations that tensors have as methods."""

from __future__ import annotations

from nbdl.autograd.autocast import in_lower
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.ops.pointwise import call

LEAKY_RELU = Formula("leaky_relu", lambda x, slope: f.where(x > 0, x, slope * x), 2)
_HARDSHRINK = Formula("hardshrink", lambda x, lam: f.where(f.abs(x) <= lam, 0, x), 2)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x outside [-lambd, lambd], 0 inside."""
    return call(_HARDSHRINK, input, lambd)


@in_lower("cpu", "cuda")
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x above 0, weight * x below, the slope being learned.

    Args:
        input: (N, C, ...) or of any shape if there is one slope.
        weight: (C,) or (1,).

    Raises:
        RuntimeError: there are neither C slopes nor one.
    """
    slopes = weight.array.size
    channels = input.array.shape[1] if input.array.ndim > 1 else 1
    if weight.array.ndim > 1 or (slopes != 1 and slopes != channels):
        raise RuntimeError(
            f"prelu: Mismatch of parameter numbers and input channel size: weight {tuple(weight.shape)} for "
            f"input {tuple(input.shape)} with {channels} channels; expected (1,) or ({channels},)"
        )
    if slopes != 1:
        weight = weight.reshape((slopes, *[1] * (input.array.ndim - 2)))
    elif weight.array.ndim > input.array.ndim:
        weight = weight.reshape(())
    return call(LEAKY_RELU, input, weight)
