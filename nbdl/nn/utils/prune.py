"""Pruning: a weight is multiplied by a mask of zeros and ones before every call of its module.

The parameter moves to ``<name>_orig``, the mask is the buffer ``<name>_mask``; methods that are applied one
after the other leave what the earlier ones pruned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn.module import Module
from nbdl.nn.utils.pruning_methods import (
    Amount,
    BasePruningMethod,
    CustomFromMask,
    Identity,
    L1Unstructured,
    LnStructured,
    PruningContainer,
    RandomStructured,
    RandomUnstructured,
    take_hook,
)
from nbdl.ops.joining import cat
from nbdl.ops.new_like import ones_like

__all__ = [
    "BasePruningMethod", "CustomFromMask", "Identity", "L1Unstructured", "LnStructured", "PruningContainer",
    "RandomStructured", "RandomUnstructured", "custom_from_mask", "global_unstructured", "identity",
    "is_pruned", "l1_unstructured", "ln_structured", "random_structured", "random_unstructured", "remove",
]  # fmt: skip


def identity(module: Module, name: str) -> Module:
    """Prepare a parameter for pruning without pruning any of it."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Module, name: str, amount: Amount) -> Module:
    """Prune elements at random; see :class:`RandomUnstructured`."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(
    module: Module, name: str, amount: Amount, importance_scores: Tensor | None = None
) -> Module:
    """Prune the elements of least magnitude.

    Example:
        >>> import nbdl
        >>> layer = nbdl.nn.utils.prune.l1_unstructured(nbdl.nn.Linear(4, 4), "weight", amount=0.25)
        >>> int((layer.weight == 0).sum().item())
        4
    """
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: Module, name: str, amount: Amount, dim: int) -> Module:
    """Prune slices along an axis at random; see :class:`RandomStructured`."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(
    module: Module,
    name: str,
    amount: Amount,
    n: float | str,
    dim: int,
    importance_scores: Tensor | None = None,
) -> Module:
    """Prune the slices along an axis with the least norm; see :class:`LnStructured`."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Module, name: str, mask: Tensor) -> Module:
    """Prune what a given mask says."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Module, str]],
    pruning_method: type[BasePruningMethod],
    importance_scores: Mapping[tuple[Module, str], Tensor] | None = None,
    **kwargs: Any,
) -> None:
    """Prune elements of several parameters, compared with each other.

    Args:
        parameters: pairs of a module and the name of its parameter.
        pruning_method: an unstructured method.
        importance_scores: what decides instead of the values, by pair.
        kwargs: arguments of the method, such as ``amount``.

    Raises:
        TypeError: ``parameters`` is no iterable, or the method not unstructured.
    """
    if not isinstance(parameters, Iterable):
        raise TypeError("global_unstructured(): parameters is not an Iterable")
    if pruning_method.PRUNING_TYPE != "unstructured":
        raise TypeError(
            'Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method '
            f"{pruning_method} of type {pruning_method.PRUNING_TYPE}"
        )
    places = list(parameters)
    given = importance_scores or {}
    values = [getattr(module, name).detach() for module, name in places]
    scores = [given.get(place, value).detach() for place, value in zip(places, values, strict=True)]
    older = [
        getattr(module, f"{name}_mask", ones_like(value))
        for (module, name), value in zip(places, values, strict=True)
    ]
    container = PruningContainer()
    method = pruning_method(**kwargs)
    container._tensor_name = method._tensor_name = "all of them"
    container.add_pruning_method(method)
    with no_grad():
        flat = cat([mask.reshape((-1,)) for mask in older])
        mask = container.compute_mask(cat([score.reshape((-1,)) for score in scores]), flat)
    start = 0
    for (module, name), value in zip(places, values, strict=True):
        stop = start + value.array.size
        custom_from_mask(module, name, mask[start:stop].reshape(value.array.shape))
        start = stop


def remove(module: Module, name: str) -> Module:
    """Make a pruned parameter an ordinary one again.

    Raises:
        ValueError: it is not pruned.
    """
    method = take_hook(module, name)
    if method is None:
        raise ValueError(
            f"prune.remove: Parameter {name!r} of module {module} has to be pruned before pruning can be "
            "removed"
        )
    method.remove(module)
    return module


def is_pruned(module: Module) -> bool:
    """Whether a parameter of a module, or of one below it, is pruned."""
    hooks = [hook for part in module.modules() if part._hooks for hook in part._hooks.forward_pre.values()]
    return any(isinstance(hook.function, BasePruningMethod) for hook in hooks)
