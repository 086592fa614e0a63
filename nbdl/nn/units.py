"""Activations that textbooks have and PyTorch has not, as modules."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn.linear import Linear
from nbdl.nn.module import Module
from nbdl.nn.parameter import Buffer, Parameter
from nbdl.nn.settings import settings
from nbdl.ops.creation import tensor


class Gaussian(Module):
    """exp(-x^2)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.gaussian(input)


class BinaryStep(Module):
    """1 where x >= 0, else 0.

    Args:
        straight_through: pass gradients on as if this were the identity; otherwise they are zero.
    """

    def __init__(self, straight_through: bool = False):
        super().__init__()
        self.straight_through = straight_through

    def forward(self, input: Tensor) -> Tensor:
        return F.binary_step(input, self.straight_through)

    def extra_repr(self) -> str:
        return settings(self, "straight_through")


class SobolevaTanh(Module):
    """(exp(a x) - exp(-b x)) / (exp(c x) + exp(-d x)), the Soboleva modified hyperbolic tangent.

    Args:
        a: rate of the first exponential at first, as the others; 1 for all gives tanh.
        b: rate of the second.
        c: rate of the third.
        d: rate of the fourth.
        learnable: whether the rates are trained; otherwise they are buffers.
        device: where they are.
        dtype: their dtype.

    Attributes:
        a: 0-d, likewise b, c and d.
    """

    a: Tensor
    b: Tensor
    c: Tensor
    d: Tensor

    def __init__(
        self,
        a: float = 1.0,
        b: float = 1.0,
        c: float = 1.0,
        d: float = 1.0,
        learnable: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        kind = Parameter if learnable else Buffer
        for name, rate in (("a", a), ("b", b), ("c", c), ("d", d)):
            setattr(self, name, kind(tensor(float(rate), device=device, dtype=dtype)))

    def forward(self, input: Tensor) -> Tensor:
        return F.soboleva_tanh(input, self.a, self.b, self.c, self.d)


class Maxout(Module):
    """The maximum of several affine maps: y_k = max over i of (x W_ki + b_ki).

    The gradient goes to the largest map; equal largest ones share it evenly.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        pieces: affine maps an output.
        bias: whether they have biases.
        device: where the parameters are.
        dtype: their dtype.

    Source: Goodfellow, Warde-Farley, Mirza, Courville, Bengio (2013), Maxout networks, section 3.

    Example:
        >>> import nbdl
        >>> nbdl.nn.Maxout(8, 3, pieces=4)(nbdl.zeros(5, 8)).shape
        nbdl.Size([5, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        pieces: int = 2,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        if pieces < 1:
            raise ValueError(f"Maxout: pieces must be at least 1, got {pieces}")
        self.in_features, self.out_features, self.pieces = in_features, out_features, pieces
        self.affine = Linear(in_features, out_features * pieces, bias, device=device, dtype=dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.maxout(self.affine(input), self.pieces)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, pieces={self.pieces}"
