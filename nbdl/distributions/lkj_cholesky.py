"""The distribution of Lewandowski, Kurowicka and Joe."""

from __future__ import annotations

import math
import operator
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.beta import Beta
from nbdl.distributions.distribution import Distribution, Shape
from nbdl.distributions.utils import broadcast_all, tiny
from nbdl.ops.creation import arange
from nbdl.ops.random import randn
from nbdl.ops.special_functions import mvlgamma
from nbdl.ops.triangular import diag_embed, tril

__all__ = ["LKJCholesky"]


class LKJCholesky(Distribution):
    """Cholesky factors of correlation matrices C, of density proportional to det(C)^(concentration - 1).

    Samples are made by the onion method (Lewandowski, Kurowicka, Joe: Generating random correlation matrices
    based on vines and extended onion method, 2009, section 3.2), row by row.

    Args:
        dim: size of the matrices, at least 2.
        concentration: positive; 1: all correlation matrices alike.
        validate_args: whether arguments are checked.

    Raises:
        ValueError: ``dim`` is below 2.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.LKJCholesky(3, 0.5).sample((2,)).shape
        nbdl.Size([2, 3, 3])
    """

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(self, dim: int, concentration: Any = 1.0, validate_args: bool | None = None):
        dim = operator.index(dim)
        if dim < 2:
            raise ValueError(f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}.")
        self.dim = dim
        (self.concentration,) = broadcast_all(concentration)
        super().__init__(self.concentration.shape, (dim, dim), validate_args=validate_args)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with no_grad():
            shape = self._extended_shape(sample_shape)
            like = self.concentration
            # Row k below the first has a direction, uniform on a sphere, and a beta distributed length.
            before = arange(self.dim - 1, dtype=like.dtype, device=like.device)
            first = like.unsqueeze(-1) + 0.5 * (self.dim - 2) - 0.5 * before
            squares = Beta(0.5 * (before + 1), first, validate_args=False).sample(sample_shape)
            normal = tril(randn(shape, dtype=like.dtype, device=like.device), -1)[..., 1:, :]
            directions = normal / normal.square().sum(-1, keepdim=True).sqrt()
            rows = directions * squares.sqrt().unsqueeze(-1)
            factor = like.new_zeros(shape).slice_scatter(rows, -2, 1)
            rest = (1 - factor.square().sum(-1)).clamp(min=tiny(like)).sqrt()
            return factor + diag_embed(rest)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        n, a = self.dim - 1, self.concentration
        diagonal = value.diagonal(dim1=-2, dim2=-1)[..., 1:]
        order = arange(2, self.dim + 1, dtype=a.dtype, device=a.device)
        exponents = 2 * (a - 1).unsqueeze(-1) + self.dim - order
        # The constant of Lewandowski, Kurowicka and Joe (2009), page 1999, by multivariate gamma functions
        top = a + 0.5 * n
        log_norm = 0.5 * n * math.log(math.pi) + mvlgamma(top - 0.5, n) - n * top.lgamma()
        return (exponents * diagonal.log()).sum(-1) - log_norm
