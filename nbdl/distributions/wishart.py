"""The Wishart distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Size, Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Shape
from nbdl.distributions.exp_family import ExponentialFamily
from nbdl.distributions.multivariate_normal import (
    MATRICES,
    half_log_det,
    one_of_three,
    precision_to_scale_tril,
)
from nbdl.distributions.utils import lazy_property, tiny
from nbdl.linalg import cholesky, slogdet, solve_triangular
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import arange, tensor
from nbdl.ops.drawing import is_everywhere
from nbdl.ops.random import randn
from nbdl.ops.rejection import log_standard_gamma
from nbdl.ops.solving import cholesky_inverse
from nbdl.ops.special_functions import mvlgamma
from nbdl.ops.triangular import diag_embed, tril

__all__ = ["Wishart"]


class Wishart(ExponentialFamily):
    """Sums of ``df`` matrices z z^T of normal vectors z: symmetric positive definite matrices.

    Samples are made by the decomposition of Bartlett, L A A^T L^T with a triangle A of normal numbers below a
    diagonal of chi numbers, and differentiable by all parameters.

    Args:
        df: degrees of freedom, more than the dimension - 1.
        covariance_matrix: of z, positive definite.
        precision_matrix: its inverse.
        scale_tril: its Cholesky factor.
        validate_args: whether arguments are checked.

    Raises:
        ValueError: not exactly one matrix is given, it has too few axes, or ``df`` is too small.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Wishart(3.0, nbdl.eye(2)).mean
        tensor([[3., 0.],
                [0., 3.]])
    """

    support = constraints.positive_definite
    has_rsample = True
    _mean_carrier_measure = 0

    @property
    def arg_constraints(self) -> dict[str, Any]:
        """``df`` is above the dimension - 1."""
        return {
            "covariance_matrix": constraints.positive_definite,
            "precision_matrix": constraints.positive_definite,
            "scale_tril": constraints.lower_cholesky,
            "df": constraints.greater_than(self._event_shape[-1] - 1),
        }

    def __init__(
        self,
        df: Any,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        matrices = covariance_matrix, precision_matrix, scale_tril
        kind = one_of_three(*matrices)
        matrix: Any = matrices[kind]
        if matrix.ndim < 2:
            raise ValueError(
                f"{MATRICES[kind]} must be at least two-dimensional, with optional leading batch dimensions"
            )
        df = df if isinstance(df, Tensor) else tensor(df, dtype=matrix.dtype, device=matrix.device)
        batch_shape, event_shape = Size(np.broadcast_shapes(matrix.shape[:-2], df.shape)), matrix.shape[-2:]
        if not is_everywhere(df.detach() > event_shape[-1] - 1):
            raise ValueError(
                f"Value of df={df} expected to be greater than ndim - 1 = {event_shape[-1] - 1}."
            )
        self.df = df.expand(batch_shape)
        setattr(self, MATRICES[kind], matrix.expand((*batch_shape, *event_shape)))
        super().__init__(batch_shape, event_shape, validate_args=validate_args)
        factorise = (cholesky, precision_to_scale_tril, lambda factor: factor)[kind]
        self._unbroadcasted_scale_tril = factorise(matrix)

    @property
    def _size(self) -> int:
        return self._event_shape[-1]

    @lazy_property
    def scale_tril(self) -> Tensor:
        """The Cholesky factor of the covariance."""
        return self._unbroadcasted_scale_tril.expand(self._batch_shape + self._event_shape)

    @lazy_property
    def covariance_matrix(self) -> Tensor:
        """The covariance of the normal vectors."""
        factor = self._unbroadcasted_scale_tril
        return (factor @ factor.mT).expand(self._batch_shape + self._event_shape)

    @lazy_property
    def precision_matrix(self) -> Tensor:
        """The inverse of the covariance."""
        inverse = cholesky_inverse(self._unbroadcasted_scale_tril)
        return inverse.expand(self._batch_shape + self._event_shape)

    @property
    def mean(self) -> Tensor:
        return self.df[..., None, None] * self.covariance_matrix

    @property
    def mode(self) -> Tensor:
        factor = self.df - self._size - 1
        return where(factor > 0, factor, math.nan)[..., None, None] * self.covariance_matrix

    @property
    def variance(self) -> Tensor:
        covariance = self.covariance_matrix
        diagonal = covariance.diagonal(dim1=-2, dim2=-1)
        products = diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2)
        return self.df[..., None, None] * (covariance.square() + products)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        shape, df = self._extended_shape(sample_shape), self.df
        degrees = df.unsqueeze(-1) - arange(self._size, dtype=df.dtype, device=df.device)
        log_squares = log_standard_gamma((0.5 * degrees).expand(shape[:-1])) + math.log(2)
        chi = (0.5 * log_squares).exp().clamp(min=tiny(df))
        triangle = tril(randn(shape, dtype=df.dtype, device=df.device), -1) + diag_embed(chi)
        factor = self._unbroadcasted_scale_tril @ triangle
        return factor @ factor.mT

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        n, df, factor = self._size, self.df, self._unbroadcasted_scale_tril
        # tr(V^-1 X) = |L^-1 K|^2 for X = K K^T, V = L L^T
        root = solve_triangular(factor, cholesky(value), upper=False)
        trace = root.square().sum((-2, -1))
        log_norm = df * (0.5 * n * math.log(2) + half_log_det(factor)) + mvlgamma(0.5 * df, n)
        return 0.5 * (df - n - 1) * slogdet(value).logabsdet - 0.5 * trace - log_norm

    def entropy(self) -> Tensor:
        n, df = self._size, self.df
        log_det = half_log_det(self._unbroadcasted_scale_tril)
        return (
            (n + 1) * (log_det + 0.5 * n * math.log(2))
            + mvlgamma(0.5 * df, n)
            - 0.5 * (df - n - 1) * _multivariate_digamma(0.5 * df, n)
            + 0.5 * n * df
        )

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return -0.5 * self.precision_matrix, 0.5 * (self.df - self._size - 1)

    def _log_normalizer(self, x: Tensor, y: Tensor) -> Tensor:
        n = self._size
        top = y + 0.5 * (n + 1)
        return top * (n * math.log(2) - slogdet(-2 * x).logabsdet) + mvlgamma(top, n)


def _multivariate_digamma(x: Tensor, n: int) -> Tensor:
    """The derivative of the logarithm of the multivariate gamma function."""
    offsets = 0.5 * arange(n, dtype=x.dtype, device=x.device)
    return (x.unsqueeze(-1) - offsets).digamma().sum(-1)
