"""The distribution of Fisher and Snedecor."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Distribution, Shape
from nbdl.distributions.utils import broadcast_all, tiny
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import where
from nbdl.ops.pointwise import pointwise
from nbdl.ops.rejection import log_standard_gamma

__all__ = ["FisherSnedecor"]

_log_prob = pointwise(
    "fisher_snedecor_log_prob",
    lambda x, m, n: (
        f.lgamma((m + n) / 2) - f.lgamma(m / 2) - f.lgamma(n / 2)
        + m / 2 * f.log(m / n) + f.xlogy(m / 2 - 1, x) - (m + n) / 2 * f.log1p(m / n * x)
    ),
)  # fmt: skip


class FisherSnedecor(Distribution):
    """Ratios of two chi-squared numbers, each divided by its degrees of freedom.

    Args:
        df1: degrees of freedom of the numerator.
        df2: of the denominator.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.FisherSnedecor(2.0, 4.0).mean
        tensor(2.)
    """

    arg_constraints = {"df1": constraints.positive, "df2": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, df1: Any, df2: Any, validate_args: bool | None = None):
        self.df1, self.df2 = broadcast_all(df1, df2)
        super().__init__(self.df1.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return where(self.df2 > 2, self.df2 / (self.df2 - 2), math.nan)

    @property
    def mode(self) -> Tensor:
        mode = (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2)
        return where(self.df1 > 2, mode, math.nan)

    @property
    def variance(self) -> Tensor:
        m, n = self.df1, self.df2
        variance = 2 * n.square() * (m + n - 2) / (m * (n - 2).square() * (n - 4))
        return where(n > 4, variance, math.nan)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        m, n = self.df1, self.df2
        logs = log_standard_gamma((m / 2).expand(shape)) - log_standard_gamma((n / 2).expand(shape))
        return (logs + (n / m).log()).exp().clamp(min=tiny(logs))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _log_prob(value, self.df1, self.df2)
