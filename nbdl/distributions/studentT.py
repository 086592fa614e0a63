"""Student's distribution."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Distribution, Shape
from nbdl.distributions.utils import broadcast_all
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import where
from nbdl.ops.pointwise import pointwise
from nbdl.ops.random import randn
from nbdl.ops.rejection import log_standard_gamma

__all__ = ["StudentT"]

_log_prob = pointwise(
    "student_t_log_prob",
    lambda x, n, loc, scale: (
        f.lgamma(0.5 * (n + 1)) - f.lgamma(0.5 * n) - 0.5 * f.log(n) - f.log(scale)
        - 0.5 * math.log(math.pi) - 0.5 * (n + 1) * f.log1p(f.square((x - loc) / scale) / n)
    ),
)  # fmt: skip
_entropy = pointwise(
    "student_t_entropy",
    lambda n, scale: (
        f.log(scale) + 0.5 * (n + 1) * (f.digamma(0.5 * (n + 1)) - f.digamma(0.5 * n))
        + 0.5 * f.log(n) + f.lgamma(0.5 * n) - f.lgamma(0.5 * (n + 1)) + 0.5 * math.log(math.pi)
    ),
)  # fmt: skip


class StudentT(Distribution):
    """Normal numbers divided by the root of a chi-squared number over its degrees of freedom.

    Samples are differentiable by all parameters.

    Args:
        df: degrees of freedom, positive.
        loc: the median.
        scale: positive.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.StudentT(4.0).variance
        tensor(2.)
    """

    arg_constraints = {
        "df": constraints.positive,
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None):
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        super().__init__(self.df.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return where(self.df > 1, self.loc, math.nan)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        n = self.df
        variance = self.scale.square() * n / (n - 2)
        return where(n > 2, variance, where(n > 1, math.inf, variance.new_full((), math.nan)))

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        normal = randn(shape, dtype=self.df.dtype, device=self.df.device)
        # the logarithm of a chi-squared number over its degrees of freedom
        logs = log_standard_gamma((0.5 * self.df).expand(shape)) - (0.5 * self.df).log()
        return self.loc + self.scale * (normal * (-0.5 * logs).exp())

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _log_prob(value, self.df, self.loc, self.scale)

    def entropy(self) -> Tensor:
        return _entropy(self.df, self.scale)
