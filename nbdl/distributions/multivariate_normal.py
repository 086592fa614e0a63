"""The multivariate normal distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Distribution, Shape
from nbdl.distributions.utils import lazy_property
from nbdl.linalg import cholesky, solve_triangular
from nbdl.ops.creation import eye
from nbdl.ops.random import randn
from nbdl.ops.solving import cholesky_inverse

__all__ = ["MultivariateNormal"]


def matrix_vector(matrix: Tensor, vector: Tensor) -> Tensor:
    """Products of broadcast batches of matrices and vectors."""
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def square_distance(factor: Tensor, x: Tensor) -> Tensor:
    """|L^-1 x|^2 of Cholesky factors L and vectors x, whose batches broadcast.

    Each factor is used for all vectors that share it at once, so that it is not repeated in memory.
    """
    batch, n = factor.shape[:-2], factor.shape[-1]
    if x.shape[max(x.ndim - 1 - len(batch), 0) : -1] != batch:
        return solve_triangular(factor, x.unsqueeze(-1), upper=False).square().sum((-2, -1))
    columns = x.reshape((-1, *batch, n)).movedim(0, -1)
    distances = solve_triangular(factor, columns, upper=False).square().sum(-2)
    return distances.movedim(-1, 0).reshape(x.shape[:-1])


def half_log_det(factor: Tensor) -> Tensor:
    """The logarithm of the product of the diagonal."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def precision_to_scale_tril(precision: Tensor) -> Tensor:
    """The Cholesky factor of the inverse, without the inverse.

    With both axes reversed, the factor M of P gives P = U U^T with U = M reversed upper triangular, so
    P^-1 = U^-T U^-1, and U^-T is lower triangular.
    """
    upper = cholesky(precision.flip((-2, -1))).flip((-2, -1))
    identity = eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    return solve_triangular(upper.mT, identity, upper=False)


def one_of_three(*matrices: Tensor | None) -> int:
    """Which matrix is given.

    Raises:
        ValueError: none or several are.
    """
    given = [k for k, matrix in enumerate(matrices) if matrix is not None]
    if len(given) != 1:
        raise ValueError(
            "Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified."
        )
    return given[0]


MATRICES = ("covariance_matrix", "precision_matrix", "scale_tril")


class MultivariateNormal(Distribution):
    """Normal vectors, by mean and one of covariance, precision, or Cholesky factor of the covariance.

    The last one is the fastest: the others are factorised.

    Args:
        loc: means, along the last axis.
        covariance_matrix: positive definite.
        precision_matrix: its inverse.
        scale_tril: lower triangular with positive diagonal.
        validate_args: whether arguments are checked.

    Raises:
        ValueError: not exactly one matrix is given, or an argument has too few axes.

    Example:
        >>> import nbdl
        >>> normal = nbdl.distributions.MultivariateNormal(nbdl.zeros(2), nbdl.eye(2))
        >>> normal.log_prob(nbdl.zeros(2))
        tensor(-1.8379)
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        if loc.ndim < 1:
            raise ValueError("loc must be at least one-dimensional.")
        matrices = covariance_matrix, precision_matrix, scale_tril
        kind = one_of_three(*matrices)
        matrix: Any = matrices[kind]
        if matrix.ndim < 2:
            raise ValueError(
                f"{MATRICES[kind]} must be at least two-dimensional, with optional leading batch dimensions"
            )
        batch_shape = np.broadcast_shapes(matrix.shape[:-2], loc.shape[:-1])
        setattr(self, MATRICES[kind], matrix.expand((*batch_shape, *matrix.shape[-2:])))
        self.loc = loc.expand((*batch_shape, *loc.shape[-1:]))
        super().__init__(batch_shape, self.loc.shape[-1:], validate_args=validate_args)
        factorise = (cholesky, precision_to_scale_tril, lambda factor: factor)[kind]
        self._unbroadcasted_scale_tril = factorise(matrix)

    @lazy_property
    def scale_tril(self) -> Tensor:
        """The Cholesky factor of the covariance."""
        return self._unbroadcasted_scale_tril.expand(self._batch_shape + self._event_shape * 2)

    @lazy_property
    def covariance_matrix(self) -> Tensor:
        """The covariance."""
        factor = self._unbroadcasted_scale_tril
        return (factor @ factor.mT).expand(self._batch_shape + self._event_shape * 2)

    @lazy_property
    def precision_matrix(self) -> Tensor:
        """The inverse of the covariance."""
        inverse = cholesky_inverse(self._unbroadcasted_scale_tril)
        return inverse.expand(self._batch_shape + self._event_shape * 2)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        squares = self._unbroadcasted_scale_tril.square().sum(-1)
        return squares.expand(self._batch_shape + self._event_shape)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        normal = randn(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + matrix_vector(self._unbroadcasted_scale_tril, normal)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        distance = square_distance(self._unbroadcasted_scale_tril, value - self.loc)
        constant = 0.5 * self._event_shape[0] * math.log(2 * math.pi)
        return -0.5 * distance - half_log_det(self._unbroadcasted_scale_tril) - constant

    def entropy(self) -> Tensor:
        constant = 0.5 * self._event_shape[0] * (1 + math.log(2 * math.pi))
        return (half_log_det(self._unbroadcasted_scale_tril) + constant).expand(self._batch_shape)
