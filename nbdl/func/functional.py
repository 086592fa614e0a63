"""A module as a function of its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.ops.joining import stack


def functional_call(
    module: Any,
    parameter_and_buffer_dicts: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call a module with other tensors in the places of its parameters and buffers.

    Args:
        module: the module; afterwards it is as before.
        parameter_and_buffer_dicts: tensors by name, as ``state_dict`` names them, or several such dicts.
        args: the argument, or the tuple of the arguments.
        kwargs: keyword arguments.
        tie_weights: replace a parameter that several names share under all of them.
        strict: whether every parameter and buffer must be given.

    Raises:
        TypeError: a dict holds something else than tensors.
        RuntimeError: a name is unknown or missing (``strict``), given in two dicts, or two names of one tied
            parameter have different tensors.

    Example:
        >>> import nbdl
        >>> layer = nbdl.nn.Linear(2, 1)
        >>> new = {"weight": nbdl.ones(1, 2), "bias": nbdl.zeros(1)}
        >>> nbdl.func.functional_call(layer, new, nbdl.tensor([1.0, 2.0]))
        tensor([3.])
    """
    given = _merged(parameter_and_buffer_dicts)
    places = _places(module)
    if strict and set(given) != set(places):
        raise RuntimeError(
            f"functional_call: missing keys {sorted(set(places) - set(given))}, unexpected keys "
            f"{sorted(set(given) - set(places))}"
        )
    unknown = sorted(set(given) - set(places))
    if unknown:
        raise RuntimeError(
            f"functional_call: {type(module).__name__} has no parameters or buffers called "
            f"{', '.join(unknown)}; it has "
            f"{', '.join(places) or 'none'}"
        )
    positional = () if args is None else args if isinstance(args, tuple) else (args,)
    with _swapped(places, _tied(given, places) if tie_weights else given):
        return module(*positional, **(kwargs or {}))


def replace_all_batch_norm_modules_(root: Any) -> Any:
    """Take the running statistics from all batch normalisations of a module, in place, and return it.

    Under :func:`nbdl.func.vmap` these could not be changed, as every example has its own.
    """
    for module in root.modules():
        if hasattr(module, "running_mean") and hasattr(module, "num_batches_tracked"):
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
    return root


def stack_module_state(models: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers of models of one kind, each as one tensor with the models along a new axis.

    With :func:`functional_call` and :func:`nbdl.func.vmap` an ensemble is computed at once.

    Args:
        models: at least one, all of the same class, all training or all not.

    Returns:
        Parameters, which are leaves, and buffers, by name.

    Raises:
        RuntimeError: there is none, or they are of several classes or modes.

    Example:
        >>> import nbdl
        >>> layers = [nbdl.nn.Linear(2, 1) for _ in range(3)]
        >>> parameters, buffers = nbdl.func.stack_module_state(layers)
        >>> call = lambda p, x: nbdl.func.functional_call(layers[0], p, (x,))
        >>> nbdl.vmap(call, in_dims=(0, None))(parameters, nbdl.ones(2)).shape
        nbdl.Size([3, 1])
    """
    modules = list(models)
    if not modules:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({module.training for module in modules}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if len({type(module) for module in modules}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    parameters = _stacked([dict(module.named_parameters()) for module in modules])
    for name, parameter in modules[0].named_parameters():
        parameters[name].requires_grad_(parameter.requires_grad)
    return parameters, _stacked([dict(module.named_buffers()) for module in modules])


def _stacked(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: stack([state[name].detach() for state in states]) for name in states[0]}


def _merged(dicts: Any) -> dict[str, Tensor]:
    merged: dict[str, Tensor] = {}
    for entry in [dicts] if isinstance(dicts, Mapping) else dicts:
        for name, value in entry.items():
            if not isinstance(value, Tensor):
                raise TypeError(f"functional_call: {name} must be a tensor, got {type(value).__name__}")
            if name in merged:
                raise RuntimeError(f"functional_call: {name} appears in several of the dicts")
            merged[name] = value
    return merged


def _places(module: Any) -> dict[str, tuple[dict[str, Any], str]]:
    """For every parameter and buffer, under all of its names, the dict and the key it lies at."""
    places = {}
    for prefix, owner in module.named_modules(remove_duplicate=False):
        for key in (*owner._parameter_names, *owner._buffer_names):
            if owner.__dict__[key] is not None:
                places[f"{prefix}.{key}" if prefix else key] = (owner.__dict__, key)
    return places


def _tied(given: Mapping[str, Tensor], places: Mapping[str, tuple[dict[str, Any], str]]) -> dict[str, Tensor]:
    """``given`` under all names of each tensor that it replaces."""
    replacement: dict[int, tuple[str, Tensor]] = {}
    for name, value in given.items():
        attributes, key = places[name]
        first, other = replacement.setdefault(id(attributes[key]), (name, value))
        if other is not value:
            raise RuntimeError(
                f"functional_call: {first} and {name} are one tied parameter, but were given different values"
            )
    return {
        name: replacement[id(attributes[key])][1]
        for name, (attributes, key) in places.items()
        if id(attributes[key]) in replacement
    }


@contextmanager
def _swapped(
    places: Mapping[str, tuple[dict[str, Any], str]], values: Mapping[str, Tensor]
) -> Iterator[None]:
    old = [(attributes, key, attributes[key]) for attributes, key in (places[name] for name in values)]
    try:
        for (attributes, key, _), value in zip(old, values.values(), strict=True):
            attributes[key] = value
        yield
    finally:
        for attributes, key, value in old:
            attributes[key] = value
