"""The multivariate normal distribution with a covariance of low rank and a diagonal."""

from __future__ import annotations

import math

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Distribution, Shape
from nbdl.distributions.multivariate_normal import half_log_det, matrix_vector, square_distance
from nbdl.distributions.utils import lazy_property
from nbdl.linalg import cholesky, solve_triangular
from nbdl.ops.creation import eye
from nbdl.ops.random import randn
from nbdl.ops.triangular import diag_embed

__all__ = ["LowRankMultivariateNormal"]


def capacitance_factor(factor: Tensor, diagonal: Tensor) -> Tensor:
    """The Cholesky factor of I + W^T D^-1 W, which has the size of the rank."""
    scaled = factor.mT / diagonal.unsqueeze(-2)
    return cholesky(eye(factor.shape[-1], dtype=factor.dtype, device=factor.device) + scaled @ factor)


def lowrank_log_det(diagonal: Tensor, capacitance: Tensor) -> Tensor:
    """log det (W W^T + D), by the matrix determinant lemma."""
    return 2 * half_log_det(capacitance) + diagonal.log().sum(-1)


def lowrank_square_distance(factor: Tensor, diagonal: Tensor, x: Tensor, capacitance: Tensor) -> Tensor:
    """x^T (W W^T + D)^-1 x, by the formula of Woodbury."""
    projected = matrix_vector(factor.mT / diagonal.unsqueeze(-2), x)
    return (x.square() / diagonal).sum(-1) - square_distance(capacitance, projected)


class LowRankMultivariateNormal(Distribution):
    """Normal vectors of n elements with the covariance W W^T + D.

    Densities and samples cost as many operations as ``cov_factor`` has elements, times its rank.

    Args:
        loc: means, along the last axis.
        cov_factor: W, (..., n, rank).
        cov_diag: the positive diagonal of D, (..., n).
        validate_args: whether arguments are checked.

    Raises:
        ValueError: the shapes do not fit.

    Example:
        >>> import nbdl
        >>> from nbdl.distributions import LowRankMultivariateNormal
        >>> normal = LowRankMultivariateNormal(nbdl.zeros(2), nbdl.ones(2, 1), nbdl.ones(2))
        >>> normal.covariance_matrix
        tensor([[2., 1.],
                [1., 2.]])
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "cov_factor": constraints.independent(constraints.real, 2),
        "cov_diag": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, cov_factor: Tensor, cov_diag: Tensor, validate_args: bool | None = None):
        if loc.ndim < 1:
            raise ValueError("loc must be at least one-dimensional.")
        if cov_factor.ndim < 2:
            raise ValueError(
                "cov_factor must be at least two-dimensional, with optional leading batch dimensions"
            )
        n = loc.shape[-1]
        if cov_factor.shape[-2] != n:
            raise ValueError(f"cov_factor must be a batch of matrices with shape {n} x m")
        if cov_diag.ndim < 1 or cov_diag.shape[-1] != n:
            raise ValueError(f"cov_diag must be a batch of vectors with shape {[n]}")
        batch_shape = np.broadcast_shapes(loc.shape[:-1], cov_factor.shape[:-2], cov_diag.shape[:-1])
        self.loc = loc.expand((*batch_shape, n))
        self.cov_factor = cov_factor.expand((*batch_shape, *cov_factor.shape[-2:]))
        self.cov_diag = cov_diag.expand((*batch_shape, n))
        super().__init__(batch_shape, (n,), validate_args=validate_args)
        self._unbroadcasted_cov_factor, self._unbroadcasted_cov_diag = cov_factor, cov_diag
        self._capacitance_tril = capacitance_factor(cov_factor, cov_diag)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @lazy_property
    def variance(self) -> Tensor:
        """The diagonal of the covariance."""
        squares = self._unbroadcasted_cov_factor.square().sum(-1) + self._unbroadcasted_cov_diag
        return squares.expand(self._batch_shape + self._event_shape)

    @lazy_property
    def scale_tril(self) -> Tensor:
        """The Cholesky factor of the covariance, D^1/2 chol(I + D^-1/2 W W^T D^-1/2)."""
        root = self._unbroadcasted_cov_diag.sqrt().unsqueeze(-1)
        scaled = self._unbroadcasted_cov_factor / root
        identity = eye(self._event_shape[0], dtype=scaled.dtype, device=scaled.device)
        factor = root * cholesky(scaled @ scaled.mT + identity)
        return factor.expand(self._batch_shape + self._event_shape * 2)

    @lazy_property
    def covariance_matrix(self) -> Tensor:
        """W W^T + D."""
        factor = self._unbroadcasted_cov_factor
        covariance = factor @ factor.mT + diag_embed(self._unbroadcasted_cov_diag)
        return covariance.expand(self._batch_shape + self._event_shape * 2)

    @lazy_property
    def precision_matrix(self) -> Tensor:
        """The inverse of the covariance, by the formula of Woodbury."""
        diagonal = self._unbroadcasted_cov_diag
        scaled = self._unbroadcasted_cov_factor.mT / diagonal.unsqueeze(-2)
        half = solve_triangular(self._capacitance_tril, scaled, upper=False)
        precision = diag_embed(diagonal.reciprocal()) - half.mT @ half
        return precision.expand(self._batch_shape + self._event_shape * 2)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        shape, like = self._extended_shape(sample_shape), self.loc
        rank = self.cov_factor.shape[-1:]
        short = randn((*shape[:-1], *rank), dtype=like.dtype, device=like.device)
        long = randn(shape, dtype=like.dtype, device=like.device)
        low_rank = matrix_vector(self._unbroadcasted_cov_factor, short)
        return self.loc + low_rank + self._unbroadcasted_cov_diag.sqrt() * long

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        factor, diagonal = self._unbroadcasted_cov_factor, self._unbroadcasted_cov_diag
        distance = lowrank_square_distance(factor, diagonal, value - self.loc, self._capacitance_tril)
        log_det = lowrank_log_det(diagonal, self._capacitance_tril)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + log_det + distance)

    def entropy(self) -> Tensor:
        log_det = lowrank_log_det(self._unbroadcasted_cov_diag, self._capacitance_tril)
        entropy = 0.5 * (self._event_shape[0] * (1 + math.log(2 * math.pi)) + log_det)
        return entropy.expand(self._batch_shape)
