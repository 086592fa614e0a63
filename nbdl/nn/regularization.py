"""Penalties on parameters, to be added to a loss."""

from __future__ import annotations

from collections.abc import Iterable

from nbdl.autograd.tensor import Tensor
from nbdl.nn.module import Module


class _Penalty:
    """``strength`` times the sum of a function of the elements of parameters.

    Called with a module, it takes its parameters; with an iterable of tensors, those.
    """

    def __init__(self, strength: float = 1.0, biases: bool = False):
        if strength < 0:
            raise ValueError(f"{type(self).__name__}: strength must not be negative, got {strength}")
        self.strength, self.biases = strength, biases

    def of(self, x: Tensor) -> Tensor:
        """The penalty of one tensor, without the factor."""
        raise NotImplementedError

    def __call__(self, parameters: Module | Iterable[Tensor]) -> Tensor:
        if isinstance(parameters, Module):
            chosen: list[Tensor] = [p for p in parameters.parameters() if self.biases or p.ndim > 1]
        else:
            chosen = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        if not chosen:
            raise ValueError(f"{type(self).__name__}: there are no parameters to penalise")
        total = self.of(chosen[0])
        for parameter in chosen[1:]:
            total = total + self.of(parameter)
        return total * self.strength

    def __repr__(self) -> str:
        return f"{type(self).__name__}(strength={self.strength}, biases={self.biases})"


class L1(_Penalty):
    """strength * sum of abs(w), which drives parameters to 0 exactly.

    Args:
        strength: the factor, lambda.
        biases: of a module, penalise parameters with fewer than two axes too.

    Raises:
        ValueError: the strength is negative, or there are no parameters.

    Example:
        >>> import nbdl
        >>> nbdl.nn.L1(0.5)([nbdl.tensor([1.0, -3.0])])
        tensor(2.)
    """

    def of(self, x: Tensor) -> Tensor:
        return x.abs().sum()


class L2(_Penalty):
    """strength * sum of w^2, whose gradient is 2 strength w.

    Args:
        strength: the factor, lambda.
        biases: of a module, penalise parameters with fewer than two axes too.

    Raises:
        ValueError: the strength is negative, or there are no parameters.

    Example:
        >>> import nbdl
        >>> nbdl.nn.L2(0.5)([nbdl.tensor([1.0, -3.0])])
        tensor(5.)
    """

    def of(self, x: Tensor) -> Tensor:
        return x.square().sum()
