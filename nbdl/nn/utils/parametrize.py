"""Parameters that are computed from others: constraints, and other coordinates.

A parametrized attribute becomes a property: reading it computes it from ``module.parametrizations.<name>``,
which holds the original parameters and the modules that map them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn.containers import ModuleDict, ModuleList
from nbdl.nn.module import Module
from nbdl.nn.parameter import Parameter


class _Cache:
    """Values computed under :func:`cached`, by module and name; used while ``depth`` is positive."""

    depth = 0
    values: dict[tuple[int, str], Any] = {}  # noqa: RUF012  (emptied when the outermost block ends)


@contextmanager
def cached() -> Iterator[None]:
    """Compute every parametrized attribute at most once in this block."""
    _Cache.depth += 1
    try:
        yield
    finally:
        _Cache.depth -= 1
        if not _Cache.depth:
            _Cache.values.clear()


class ParametrizationList(ModuleList):
    """The original of a parametrized attribute, and the maps that are applied to it one after the other.

    Args:
        modules: the maps; the first takes the originals, the others one tensor.
        original: the parameter or buffer before.
        unsafe: whether dtype and shape may change.

    Attributes:
        original: the parameter or buffer that is mapped; if the first map has several operands, they are
            ``original0``, ``original1`` and so on.

    Raises:
        ValueError: the maps change dtype or shape, or give something else than tensors.
    """

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False):
        if not modules:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        like = original.detach()
        new: Any = original
        with no_grad():
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    try:
                        new = module.right_inverse(new)
                    except NotImplementedError:
                        break
        if not isinstance(new, (Tensor, Sequence)):
            raise ValueError(
                "'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got "
                f"{type(new).__name__}"
            )
        self.is_tensor = isinstance(new, Tensor)
        self.ntensors = 1 if isinstance(new, Tensor) else len(new)
        if isinstance(new, Tensor):
            if original.dtype != new.dtype:
                raise ValueError(
                    "When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                    f"original.dtype: {original.dtype}\nright_inverse(original).dtype: {new.dtype}"
                )
            if new is not original:
                original.data = new.detach()
            _register(self, "original", original)
        else:
            for k, part in enumerate(new):
                if not isinstance(part, Tensor):
                    raise ValueError(
                        "'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got "
                        f"element {k} of the sequence with type {type(part).__name__}."
                    )
                part = part.detach()
                if isinstance(original, Parameter):
                    part = Parameter(part, original.requires_grad)
                _register(self, f"original{k}", part)
        if not unsafe:
            _check_result("parametrized", self(), like)

    def _originals(self) -> list[Tensor]:
        if self.is_tensor:
            return [self.original]
        return [getattr(self, f"original{k}") for k in range(self.ntensors)]

    def right_inverse(self, value: Tensor) -> None:
        """Change the originals so that the attribute becomes ``value``.

        Raises:
            RuntimeError: a map has no ``right_inverse``.
            ValueError: it gives another number of tensors than before.
        """
        new: Any = value
        with no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(
                        f"parametrization {type(module).__name__} does not implement right_inverse."
                    )
                new = module.right_inverse(new)
        parts = [new] if self.is_tensor else list(new)
        if len(parts) != self.ntensors or not all(isinstance(part, Tensor) for part in parts):
            raise ValueError(f"'right_inverse' must return {self.ntensors} tensor(s), as it did at first")
        for original, part in zip(self._originals(), parts, strict=True):
            if part.dtype != original.dtype:
                raise ValueError(
                    f"The tensor returned by `right_inverse` has dtype {part.dtype} while the original has "
                    f"dtype {original.dtype}"
                )
            original.data = part.detach()

    def forward(self) -> Tensor:
        """The value of the attribute."""
        maps = iter(self)
        x = next(maps)(*self._originals())
        for module in maps:
            x = module(x)
        return x


def _register(module: Module, name: str, tensor: Tensor) -> None:
    if isinstance(tensor, Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


def _check_result(what: str, result: Any, like: Tensor) -> None:
    """The value of a parametrized attribute must look like the attribute before."""
    if not isinstance(result, Tensor):
        raise ValueError(f"A parametrization must return a tensor. Got {type(result).__name__}.")
    for name in ("dtype", "shape"):
        before, after = getattr(like, name), getattr(result, name)
        if before != after:
            raise ValueError(
                f"Registering a parametrization may not change the {name} of the tensor, unless the `unsafe` "
                f"flag is enabled.\nunparametrized {name}: {before}\n{what} {name}: {after}"
            )


# ----------------------------------------------------------------------------- the class with properties
def _deepcopy(self: Module, memo: dict[int, Any]) -> Module:
    copied = memo[id(self)] = type(self).__new__(type(self))
    copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
    return copied


def _no_pickling(self: Module) -> Any:
    raise RuntimeError(
        "Serialization of parametrized modules is only supported through state_dict(); save that, build the "
        "module anew, parametrize it, and load the state."
    )


def _inject_class(module: Module) -> None:
    """Give the module a class of its own, so that properties on it concern no other module."""
    base = type(module)
    members = {"__deepcopy__": _deepcopy, "__getstate__": _no_pickling}
    module.__class__ = type(f"Parametrized{base.__name__}", (base,), members)


def _inject_property(module: Module, name: str) -> None:
    def compute(self: Module) -> Tensor:
        maps = self.parametrizations[name]
        if not _Cache.depth:
            return maps()
        key = (id(self), name)
        if key not in _Cache.values:
            _Cache.values[key] = maps()
        return _Cache.values[key]

    def assign(self: Module, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)

    setattr(type(module), name, property(compute, assign))


# -------------------------------------------------------------------------------------- public functions
def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Compute an attribute by a module from now on.

    Args:
        module: whose attribute it is; it gets a class of its own.
        tensor_name: a parameter or buffer, or an attribute that is parametrized already, to whose value the
            new map is then applied.
        parametrization: the map. If it has a method ``right_inverse``, the attribute can be assigned to, and
            the original becomes ``right_inverse(value)``; that may be a tuple, whose elements ``forward``
            then takes.
        unsafe: whether dtype and shape may change.

    Raises:
        ValueError: there is no such parameter or buffer, or dtype or shape change.

    Example:
        >>> import nbdl
        >>> from nbdl import nn
        >>> class Symmetric(nn.Module):
        ...     def forward(self, x):
        ...         return x.triu() + x.triu(1).mT
        >>> layer = nn.utils.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
        >>> bool((layer.weight == layer.weight.mT).all())
        True
        >>> [name for name, _ in layer.named_parameters()]
        ['bias', 'parametrizations.weight.original']
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        maps = module.parametrizations[tensor_name]
        if not unsafe:
            value = getattr(module, tensor_name)
            _check_result("parametrized", parametrization(value), value)
            _check_inverse(parametrization, value)
        maps.append(parametrization)
        maps.unsafe |= unsafe
    elif tensor_name in module._parameter_names or tensor_name in module._buffer_names:
        maps = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe=unsafe)
        maps.train(module.training)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            _inject_class(module)
            module.parametrizations = ModuleDict()
        _inject_property(module, tensor_name)
        module.parametrizations[tensor_name] = maps
    else:
        raise ValueError(
            f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name "
            f"'{tensor_name}'"
        )
    return module


def _check_inverse(parametrization: Module, value: Tensor) -> None:
    if hasattr(parametrization, "right_inverse"):
        try:
            inverse = parametrization.right_inverse(value)
        except NotImplementedError:
            return
        _check_result("right_inverse", inverse, value)


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether an attribute of a module, or any, is parametrized."""
    maps = module.__dict__.get("parametrizations")
    if not isinstance(maps, ModuleDict):
        return False
    return len(maps) > 0 if tensor_name is None else tensor_name in maps


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make a parametrized attribute an ordinary one again.

    Args:
        module: whose attribute it is.
        tensor_name: the attribute.
        leave_parametrized: keep the value it has now; otherwise it gets the original.

    Raises:
        ValueError: it is not parametrized, or has several originals and shall get them.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    maps = module.parametrizations[tensor_name]
    if not maps.is_tensor and not leave_parametrized:
        raise ValueError(
            "You must set `leave_parametrized` to True: the parametrization has several originals, none of "
            f"which could become {tensor_name!r}"
        )
    with no_grad():
        value = maps() if leave_parametrized else None
    originals = maps._originals()
    original = originals[0]
    if value is not None:
        if maps.is_tensor and value.dtype == original.dtype and value.shape == original.shape:
            original.data = value.detach()
        else:
            trained = any(part.requires_grad for part in originals)
            original = Parameter(value, trained) if isinstance(original, Parameter) else value.detach()
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    _register(module, tensor_name, original)
    if not is_parametrized(module):
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class of a module without the properties."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Module:
    """Parametrize a module as another one is, with equal originals.

    Args:
        from_module: the parametrized module.
        to_module: the other one.
        tensor_name: only this attribute; default: all.
    """
    if is_parametrized(from_module):
        names = list(from_module.parametrizations) if tensor_name is None else [tensor_name]
        for name in names:
            source = from_module.parametrizations[name]
            if not hasattr(to_module, name):
                _register(to_module, name, copy.deepcopy(source._originals()[0]))
            for parametrization in source:
                register_parametrization(
                    to_module, name, copy.deepcopy(parametrization), unsafe=source.unsafe
                )
            target = to_module.parametrizations[name]
            for original, given in zip(target._originals(), source._originals(), strict=True):
                original.data = given.detach().clone()
    return to_module
