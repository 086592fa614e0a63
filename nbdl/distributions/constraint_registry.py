"""From constraints to transforms of unconstrained numbers.

``biject_to(constraint)`` is bijective, for changes of variables; ``transform_to(constraint)`` need not be,
and is the better one for optimization.

Example:
    >>> import nbdl
    >>> from nbdl.distributions import constraints, transform_to
    >>> transform_to(constraints.simplex)(nbdl.zeros(4))
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbdl.distributions import constraints, transforms
from nbdl.distributions.constraints import Constraint
from nbdl.distributions.transforms import Transform

__all__ = ["ConstraintRegistry", "biject_to", "transform_to"]

Factory = Callable[[Any], Transform]


class ConstraintRegistry:
    """Transforms by classes of constraints.

    Example:
        >>> from nbdl.distributions import ExpTransform, constraint_registry, constraints
        >>> registry = constraint_registry.ConstraintRegistry()
        >>> @registry.register(constraints.positive)
        ... def _(constraint):
        ...     return ExpTransform()
        >>> registry(constraints.positive)
        ExpTransform()
    """

    def __init__(self) -> None:
        self._registry: dict[type[Constraint], Factory] = {}

    def register(self, constraint: Any, factory: Factory | None = None) -> Any:
        """Say how the transform for a class of constraints is made; without a factory, as a decorator.

        Args:
            constraint: the class, or one of it.
            factory: from a constraint to a transform.

        Raises:
            TypeError: it is no constraint.
        """
        if factory is None:
            return lambda factory: self.register(constraint, factory)
        kind = type(constraint) if isinstance(constraint, Constraint) else constraint
        if not isinstance(kind, type) or not issubclass(kind, Constraint):
            raise TypeError(
                f"Expected constraint to be a Constraint subclass or instance, but got {constraint}"
            )
        self._registry[kind] = factory
        return factory

    def __call__(self, constraint: Constraint) -> Transform:
        """The transform onto a constraint.

        Raises:
            NotImplementedError: none is known.
        """
        factory = self._registry.get(type(constraint))
        if factory is None:
            raise NotImplementedError(f"Cannot transform {type(constraint).__name__} constraints")
        return factory(constraint)


biject_to, transform_to = ConstraintRegistry(), ConstraintRegistry()
_both = (biject_to, transform_to)


def _register(kind: Any, factory: Factory, *registries: ConstraintRegistry) -> None:
    for registry in registries:
        registry.register(kind, factory)


def _half_line(constraint: Any) -> Transform:
    """From the exponential, moved or turned."""
    if isinstance(constraint, type(constraints.less_than(0))):
        return _compose(transforms.ExpTransform(), constraint.upper_bound, -1)
    return _compose(transforms.ExpTransform(), constraint.lower_bound, 1)


def _interval(constraint: Any) -> Transform:
    """From the logistic function, stretched."""
    low, high = constraint.lower_bound, constraint.upper_bound
    return _compose(transforms.SigmoidTransform(), low, high - low)


def _compose(transform: Transform, loc: Any, scale: Any) -> Transform:
    numbers = isinstance(loc, (int, float)) and isinstance(scale, (int, float))
    if numbers and loc == 0 and scale == 1:
        return transform
    return transforms.ComposeTransform([transform, transforms.AffineTransform(loc, scale)])


def _independent(registry: ConstraintRegistry) -> Factory:
    return lambda constraint: transforms.IndependentTransform(
        registry(constraint.base_constraint), constraint.reinterpreted_batch_ndims
    )


def _cat(registry: ConstraintRegistry) -> Factory:
    return lambda constraint: transforms.CatTransform(
        [registry(part) for part in constraint.cseq], constraint.dim, constraint.lengths
    )


def _stack(registry: ConstraintRegistry) -> Factory:
    return lambda constraint: transforms.StackTransform(
        [registry(part) for part in constraint.cseq], constraint.dim
    )


_register(constraints.real, lambda _: transforms.identity_transform, *_both)
for _kind in (constraints.greater_than, constraints.greater_than_eq, constraints.less_than):
    _register(_kind, _half_line, *_both)
for _bounded in (constraints.interval, constraints.half_open_interval):
    _register(_bounded, _interval, *_both)
_register(constraints.simplex, lambda _: transforms.StickBreakingTransform(), biject_to)
_register(constraints.simplex, lambda _: transforms.SoftmaxTransform(), transform_to)
_register(constraints.corr_cholesky, lambda _: transforms.CorrCholeskyTransform(), *_both)
_register(constraints.lower_cholesky, lambda _: transforms.LowerCholeskyTransform(), transform_to)
for _matrix in (constraints.positive_definite, constraints.positive_semidefinite):
    _register(_matrix, lambda _: transforms.PositiveDefiniteTransform(), transform_to)
for _registry in _both:
    _register(constraints.independent, _independent(_registry), _registry)
    _register(constraints.cat, _cat(_registry), _registry)
    _register(constraints.stack, _stack(_registry), _registry)
