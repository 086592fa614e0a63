"""The chi-squared distribution."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.gamma import Gamma

__all__ = ["Chi2"]


class Chi2(Gamma):
    """Sums of ``df`` squares of normal numbers: gamma numbers of concentration df / 2 and rate 1 / 2.

    Args:
        df: degrees of freedom, positive, not necessarily whole.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Chi2(3.0).mean
        tensor(3.)
    """

    arg_constraints = {"df": constraints.positive}

    def __init__(self, df: Any, validate_args: bool | None = None):
        super().__init__(0.5 * df, 0.5, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = super().expand(batch_shape, _instance)
        new.concentration, new.rate = [x.expand(new.batch_shape) for x in (self.concentration, self.rate)]
        return new

    @property
    def df(self) -> Tensor:
        """Degrees of freedom."""
        return 2 * self.concentration
