"""Transforms of vectors and matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbdl.autograd.tensor import Size, Tensor
from nbdl.distributions import constraints
from nbdl.distributions.constraints import Constraint
from nbdl.distributions.pointwise_transforms import log_tanh_slope, softplus
from nbdl.distributions.transform import Shape, Transform
from nbdl.distributions.utils import (
    clamp_probs,
    sum_rightmost,
    tril_matrix_to_vec,
    vec_to_tril_matrix,
)
from nbdl.ops.creation import arange, eye
from nbdl.ops.joining import cat, stack
from nbdl.ops.softmax import softmax
from nbdl.ops.triangular import diag_embed, tril


def _sum_behind(x: Tensor) -> Tensor:
    """The sum of the elements behind each one along the last axis but its end, without a difference."""
    return x.flip((-1,)).cumsum(-1).flip((-1,))[..., 1:]


class SoftmaxTransform(Transform):
    """y = softmax(x), of which a constant in x is lost: the inverse is log(y)."""

    domain, codomain = constraints.real_vector, constraints.simplex

    def _call(self, x: Tensor) -> Tensor:
        return softmax(x, -1)

    def _inverse(self, y: Tensor) -> Tensor:
        return y.log()

    def forward_shape(self, shape: Shape) -> Shape:
        _check_rank(shape, 1)
        return shape

    def inverse_shape(self, shape: Shape) -> Shape:
        _check_rank(shape, 1)
        return shape


class StickBreakingTransform(Transform):
    """n numbers to n + 1 probabilities: each breaks its share off what is left of a stick of length 1.

    The k-th share is sigmoid(x_k - log(n - k)), so that x = 0 gives equal probabilities.
    """

    domain, codomain = constraints.real_vector, constraints.simplex
    bijective = True

    def _centered(self, x: Tensor) -> Tensor:
        n = x.shape[-1]
        return x - arange(n, 0, -1, dtype=x.dtype, device=x.device).log()

    def _call(self, x: Tensor) -> Tensor:
        centered, one = self._centered(x), x.new_ones((*x.shape[:-1], 1))
        shares = cat([clamp_probs(centered.sigmoid()), one], -1)
        left = cat([one, clamp_probs((-centered).sigmoid()).cumprod(-1)], -1)
        return shares * left

    def _inverse(self, y: Tensor) -> Tensor:
        log_odds = y[..., :-1].log() - _sum_behind(y).log()
        return log_odds + arange(y.shape[-1] - 1, 0, -1, dtype=y.dtype, device=y.device).log()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        # dy_k / dx_k = y_k (1 - share_k), in a triangular matrix
        return (y[..., :-1].log() - softplus(self._centered(x))).sum(-1)

    def forward_shape(self, shape: Shape) -> Shape:
        _check_rank(shape, 1)
        return Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Shape) -> Shape:
        _check_rank(shape, 1)
        return Size((*shape[:-1], shape[-1] - 1))


class LowerCholeskyTransform(Transform):
    """The triangle below the diagonal of a matrix, with the exponential of its diagonal."""

    domain, codomain = constraints.independent(constraints.real, 2), constraints.lower_cholesky

    def _call(self, x: Tensor) -> Tensor:
        return tril(x, -1) + diag_embed(x.diagonal(dim1=-2, dim2=-1).exp())

    def _inverse(self, y: Tensor) -> Tensor:
        return tril(y, -1) + diag_embed(y.diagonal(dim1=-2, dim2=-1).log())


class PositiveDefiniteTransform(Transform):
    """L L^T of the L that :class:`LowerCholeskyTransform` gives."""

    domain, codomain = constraints.independent(constraints.real, 2), constraints.positive_definite

    def _call(self, x: Tensor) -> Tensor:
        factor = LowerCholeskyTransform()(x)
        return factor @ factor.mT

    def _inverse(self, y: Tensor) -> Tensor:
        from nbdl.linalg import cholesky

        return LowerCholeskyTransform().inv(cholesky(y))


class CorrCholeskyTransform(Transform):
    """n (n - 1) / 2 numbers to the Cholesky factor of a correlation matrix of n variables.

    With r = tanh(x), row by row below the diagonal, an element is r times the square root of what those
    left of it have left of the row's squared norm 1, by a factor of 1 - r^2 each; the diagonal takes the rest
    (Lewandowski, Kurowicka, Joe 2009).
    """

    domain, codomain = constraints.real_vector, constraints.corr_cholesky
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        log_left = vec_to_tril_matrix(log_tanh_slope(x), -1)
        partial = vec_to_tril_matrix(x.tanh(), -1) + eye(log_left.shape[-1], dtype=x.dtype, device=x.device)
        return partial * (0.5 * (log_left.cumsum(-1) - log_left)).exp()

    def _inverse(self, y: Tensor) -> Tensor:
        # sinh(x) = r / sqrt(1 - r^2): an element over what is left behind it, which is right near r = 1 too
        behind = _sum_behind(y.square())[..., 1:, :]
        elements = tril_matrix_to_vec(y[..., 1:, :-1])
        return (elements / tril_matrix_to_vec(behind).sqrt()).asinh()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        # dy_ij / dx_ij = (1 - r_ij^2) sqrt(left_ij), where left_ij is the product of 1 - r^2 to the left
        log_left = vec_to_tril_matrix(log_tanh_slope(x), -1)
        before = log_left.cumsum(-1) - log_left
        return tril_matrix_to_vec(log_left + 0.5 * before, -1).sum(-1)

    def forward_shape(self, shape: Shape) -> Shape:
        _check_rank(shape, 1)
        n = round((0.25 + 2 * shape[-1]) ** 0.5 + 0.5)
        if n * (n - 1) // 2 != shape[-1]:
            raise ValueError(f"Input is not a flattened lower-diagonal matrix: {shape[-1]} elements")
        return Size((*shape[:-1], n, n))

    def inverse_shape(self, shape: Shape) -> Shape:
        _check_rank(shape, 2)
        if shape[-2] != shape[-1]:
            raise ValueError(f"Input is not square: {list(shape)}")
        n = shape[-1]
        return Size((*shape[:-2], n * (n - 1) // 2))


def _check_rank(shape: Shape, count: int) -> None:
    if len(shape) < count:
        raise ValueError(f"Too few dimensions on input: expected at least {count}, got {len(shape)}")


class _Joined(Transform):
    """Base of transforms that apply one transform each to parts along an axis."""

    def __init__(self, tseq: Sequence[Transform], dim: int = 0, cache_size: int = 0):
        if not all(isinstance(t, Transform) for t in tseq):
            raise AssertionError("All elements of tseq must be Transform instances")
        super().__init__(cache_size=cache_size)
        self.transforms = [t.with_cache(cache_size) for t in tseq] if cache_size else list(tseq)
        self.dim = dim

    @property
    def bijective(self) -> bool:
        return all(t.bijective for t in self.transforms)

    def _parts(self, x: Tensor) -> Sequence[Tensor]:
        raise NotImplementedError

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        raise NotImplementedError

    def _call(self, x: Tensor) -> Tensor:
        return self._join([t(part) for t, part in zip(self.transforms, self._parts(x), strict=True)])

    def _inverse(self, y: Tensor) -> Tensor:
        return self._join([t.inv(part) for t, part in zip(self.transforms, self._parts(y), strict=True)])


class CatTransform(_Joined):
    """Transforms of successive parts along an axis.

    Args:
        tseq: the transforms.
        dim: the axis.
        lengths: of the parts; default: 1 each.
        cache_size: 1 to cache.
    """

    def __init__(
        self,
        tseq: Sequence[Transform],
        dim: int = 0,
        lengths: Sequence[int] | None = None,
        cache_size: int = 0,
    ):
        super().__init__(tseq, dim, cache_size)
        self.lengths = [1] * len(self.transforms) if lengths is None else list(lengths)
        if len(self.lengths) != len(self.transforms):
            raise ValueError(f"CatTransform: expected {len(self.transforms)} lengths, got {self.lengths}")

    @property
    def event_dim(self) -> int:
        return max(t.event_dim for t in self.transforms)

    @property
    def length(self) -> int:
        """The length of the axis."""
        return sum(self.lengths)

    @property
    def domain(self) -> Constraint:
        return constraints.cat([t.domain for t in self.transforms], self.dim, self.lengths)

    @property
    def codomain(self) -> Constraint:
        return constraints.cat([t.codomain for t in self.transforms], self.dim, self.lengths)

    def with_cache(self, cache_size: int = 1) -> Transform:
        if self._cache_size == cache_size:
            return self
        return CatTransform(self.transforms, self.dim, self.lengths, cache_size)

    def _parts(self, x: Tensor) -> Sequence[Tensor]:
        return x.split(self.lengths, self.dim)

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        return cat(list(parts), self.dim)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        event_dim = self.event_dim
        terms = []
        for t, before, after in zip(self.transforms, self._parts(x), self._parts(y), strict=True):
            term = t.log_abs_det_jacobian(before, after)
            terms.append(sum_rightmost(term, event_dim - t.event_dim))
        dim = self.dim - x.ndim if self.dim >= 0 else self.dim
        dim += event_dim
        return cat(terms, dim) if dim < 0 else sum(terms[1:], terms[0])

    def _arguments(self) -> tuple[Any, ...]:
        return (*self.transforms, self.dim, self.lengths)


class StackTransform(_Joined):
    """Transforms of successive indices of an axis.

    Args:
        tseq: the transforms.
        dim: the axis.
        cache_size: 1 to cache.

    Example:
        >>> import nbdl
        >>> from nbdl.distributions import ExpTransform, StackTransform, identity_transform
        >>> StackTransform([identity_transform, ExpTransform()])(nbdl.zeros(2, 3))
        tensor([[0., 0., 0.],
                [1., 1., 1.]])
    """

    @property
    def domain(self) -> Constraint:
        return constraints.stack([t.domain for t in self.transforms], self.dim)

    @property
    def codomain(self) -> Constraint:
        return constraints.stack([t.codomain for t in self.transforms], self.dim)

    def with_cache(self, cache_size: int = 1) -> Transform:
        return (
            self if self._cache_size == cache_size else StackTransform(self.transforms, self.dim, cache_size)
        )

    def _parts(self, x: Tensor) -> Sequence[Tensor]:
        return x.unbind(self.dim)

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        return stack(list(parts), self.dim)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        parts = zip(self.transforms, self._parts(x), self._parts(y), strict=True)
        return self._join([t.log_abs_det_jacobian(before, after) for t, before, after in parts])

    def _arguments(self) -> tuple[Any, ...]:
        return (*self.transforms, self.dim)
