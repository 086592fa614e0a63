"""The divergence of Kullback and Leibler, by pairs of distributions."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions.distribution import Distribution

__all__ = ["kl_divergence", "register_kl"]

Rule = Callable[[Any, Any], Tensor]

_RULES: dict[tuple[type, type], Rule] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[Rule], Rule]:
    """Say how KL(p || q) is computed for two classes of distributions and their subclasses; a decorator.

    Where several rules fit, the one for the nearest class of p, then of q, is taken.

    Args:
        type_p: the class of p.
        type_q: the class of q.

    Raises:
        TypeError: one of them is no class of distributions.

    Example:
        >>> from nbdl.distributions import Normal, kl_divergence, register_kl
        >>> class Wide(Normal):
        ...     pass
        >>> @register_kl(Wide, Wide)
        ... def _(p, q):
        ...     return (q.scale / p.scale).log()
        >>> kl_divergence(Wide(0.0, 1.0), Wide(0.0, 1.0))
        tensor(0.)
    """
    for name, kind in (("type_p", type_p), ("type_q", type_q)):
        if not isinstance(kind, type) or not issubclass(kind, Distribution):
            raise TypeError(f"Expected {name} to be a Distribution subclass but got {kind}")

    def decorator(rule: Rule) -> Rule:
        _RULES[type_p, type_q] = rule
        _find_rule.cache_clear()
        return rule

    return decorator


@functools.cache
def _find_rule(type_p: type, type_q: type) -> Rule | None:
    """The rule for the nearest classes; None if there is none."""
    fitting = [(p, q) for p, q in _RULES if issubclass(type_p, p) and issubclass(type_q, q)]
    if not fitting:
        return None

    def distances(classes: tuple[type, type]) -> tuple[int, int]:
        return type_p.__mro__.index(classes[0]), type_q.__mro__.index(classes[1])

    nearest = min(fitting, key=distances)
    other = min(fitting, key=lambda classes: distances(classes)[::-1])
    if _RULES[nearest] is not _RULES[other]:
        p, q = nearest[0].__name__, other[1].__name__
        warnings.warn(
            f"Ambiguous kl_divergence({type_p.__name__}, {type_q.__name__}). Please register_kl({p}, {q})",
            RuntimeWarning,
            stacklevel=3,
        )
    return _RULES[nearest]


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """KL(p || q), the mean of log p(x) - log q(x) over x of p, of the batch shape.

    Raises:
        NotImplementedError: there is no rule for these classes.

    Example:
        >>> import nbdl
        >>> from nbdl.distributions import Normal, kl_divergence
        >>> kl_divergence(Normal(0.0, 1.0), Normal(1.0, 1.0))
        tensor(0.5000)
    """
    kinds: Any = type(p), type(q)
    rule = _find_rule(*kinds)
    if rule is None:
        raise NotImplementedError(
            f"No KL(p || q) is implemented for p type {type(p).__name__} and q type {type(q).__name__}"
        )
    return rule(p, q)
