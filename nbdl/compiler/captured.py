"""What a function uses from outside, so that a changed setting is noticed and makes another program.

Found are the closure variables, the globals that the code names, the instance of a bound method, and their
attributes as far as the code spells them out (``config.scale``); functions of the user are followed. Of
numbers, strings and small containers of them the value counts, of tensors the memory, of modules all that is
set on them and on their submodules, of optimizers the settings of their groups that are no numbers (numbers
are read at every call).
"""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.nn import module as modules
from nbdl.nn.module import Module
from nbdl.optim.optimizer import Optimizer

_SCALARS = (bool, int, float, complex, str, bytes, type(None), np.generic)
_MAX_ENTRIES = 64
_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")


class Variable(NamedTuple):
    """A variable from outside.

    Attributes:
        name: how the code spells it: ``config.scale``.
        read: gives its value; :data:`MISSING` if there is none now.
    """

    name: str
    read: Callable[[], Any]


class _Missing:
    """The value of a variable that does not exist."""


MISSING = _Missing()


class Captured:
    """The outside of a function.

    Args:
        function: a function, a method, a partial or a module.
    """

    def __init__(self, function: Callable[..., Any]):
        self.variables: list[Variable] = []
        self._seen: set[Any] = set()
        self._follow(function)
        self._tokens: dict[Any, int] = {}
        self._values: list[Any] = []
        self._tensors: list[tuple[Tensor, Any]] = []
        self._mutable: list[tuple[Any, Any]] = []
        self._modules_at = -1
        self._token = -1

    def token(self) -> int:
        """A number for the state of the outside: equal numbers, equal states."""
        if self._is_unchanged():
            return self._token
        self._modules_at = modules.changes.count
        self._values = [variable.read() for variable in self.variables]
        self._tensors = [(value, value.array) for value in self._values if isinstance(value, Tensor)]
        self._mutable = [
            (value, _state_of(value)) for value in self._values if isinstance(value, (Optimizer, list, dict))
        ]
        state = tuple([_state_of(value) for value in self._values])
        self._token = self._tokens.setdefault(state, len(self._tokens))
        return self._token

    def tensors(self) -> list[Tensor]:
        """The leaves among what was found, with the parameters of modules: they may require gradients."""
        found = [tensor for tensor, _ in self._tensors if tensor.is_leaf]
        for value in self._values:
            if isinstance(value, Module):
                found += value.parameters()
        return found

    def _is_unchanged(self) -> bool:
        """Whether nothing was assigned since the last look; cheap."""
        if self._modules_at != modules.changes.count:
            return False
        for variable, value in zip(self.variables, self._values):
            if variable.read() is not value:
                return False
        for tensor, array in self._tensors:
            if tensor.array is not array:
                return False
        return all(_state_of(value) == state for value, state in self._mutable)

    # ----------------------------------------------------------------------------------------------- finding
    def _follow(self, function: Any) -> None:
        """Add what ``function`` reads."""
        if isinstance(function, functools.partial):
            for k, value in enumerate((*function.args, *function.keywords.values())):
                self._add(f"argument {k}", functools.partial(_itself, value))
            self._follow(function.func)
        elif isinstance(function, types.MethodType):
            if isinstance(function.__func__, types.FunctionType):
                self._follow_function(function.__func__, function.__self__)
        elif isinstance(function, types.FunctionType):
            self._follow_function(function, None)
        elif isinstance(function, Module):
            self._add(type(function).__name__, functools.partial(_itself, function))
        elif isinstance(type(function).__dict__.get("__call__"), types.FunctionType):
            self._follow_function(type(function).__dict__["__call__"], function)

    def _follow_function(self, function: types.FunctionType, instance: Any) -> None:
        if _is_library(function):
            return
        code = function.__code__
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        for k, value in enumerate(defaults):
            self._add(f"default {k}", functools.partial(_itself, value))
        this = code.co_varnames[0] if instance is not None and code.co_varnames else ""
        for name, attributes in _chains(code, this):
            if name in cells:
                self._add_chain(cells[name], name, functools.partial(_cell_value, cells[name]), attributes)
            elif this and name == this:
                self._add_chain(instance, name, functools.partial(_itself, instance), attributes)
            elif name in function.__globals__:
                source = function.__globals__
                read = functools.partial(source.get, name, MISSING)
                self._add_chain((id(source), name), name, read, attributes)

    def _add_chain(self, key: Any, name: str, read: Callable[[], Any], attributes: tuple[str, ...]) -> None:
        """Add a variable, and what its attributes lead to."""
        for count in range(len(attributes) + 1):
            chain = attributes[:count]
            known = (key if isinstance(key, tuple) else id(key), chain)
            if known in self._seen:
                continue
            self._seen.add(known)
            value = _attribute(read, chain)
            if value is MISSING and count:
                return  # a property or a method
            self._add(".".join((name, *chain)), functools.partial(_attribute, read, chain) if chain else read)
            if isinstance(value, Tensor):
                return

    def _add(self, name: str, read: Callable[[], Any]) -> None:
        value = read()
        is_function = isinstance(value, (types.FunctionType, types.MethodType, functools.partial))
        if is_function and id(value) not in self._seen:
            self._seen.add(id(value))
            self._follow(value)
        if not isinstance(value, types.ModuleType) and not _is_library(value):
            self.variables.append(Variable(name, read))


def _itself(value: Any) -> Any:
    return value


def _cell_value(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return MISSING


def _attribute(read: Callable[[], Any], chain: tuple[str, ...]) -> Any:
    """The value at the end of a chain of attributes that are set on instances or in modules."""
    value = read()
    for name in chain:
        fields = getattr(value, "__dict__", None)
        if fields is None or name not in fields:
            return MISSING
        value = fields[name]
    return value


def _is_library(value: Any) -> bool:
    """Whether it is a function or class of this package or of Python itself, which nobody changes."""
    if not isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return False
    return (value.__module__ or "builtins").partition(".")[0] in ("nbdl", "builtins", "math", "functools")


def _chains(code: types.CodeType, instance: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The variables from outside that the code names, each with the attributes that follow it."""
    instructions = list(dis.get_instructions(code))
    for k, instruction in enumerate(instructions):
        outside = instruction.opname in _LOADS
        if outside or (instruction.opname.startswith("LOAD_FAST") and instruction.argval == instance):
            attributes = []
            for following in instructions[k + 1 :]:
                if following.opname not in _ATTRIBUTES:
                    break
                attributes.append(following.argval)
            yield instruction.argval, tuple(attributes)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _chains(constant, instance)


# ----------------------------------------------------------------------------------------------- their state
def _state_of(value: Any) -> Any:
    """What is compared of a captured value; hashable."""
    if isinstance(value, Tensor):
        return id(value.array)
    if isinstance(value, Optimizer):
        return id(value), tuple([_group_settings(group) for group in value.param_groups])
    if isinstance(value, Module):
        return _settings(value)
    if isinstance(value, _SCALARS):
        return type(value), repr(value)
    if isinstance(value, (list, tuple, dict)) and len(value) <= _MAX_ENTRIES:
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        return type(value), tuple(
            [(key, repr(entry) if isinstance(entry, _SCALARS) else id(entry)) for key, entry in entries]
        )
    return id(value)


def _group_settings(group: dict[str, Any]) -> tuple[Any, ...]:
    """How many parameters a group has, and its switches."""
    return len(group["params"]), *[value for value in group.values() if value is True or value is False]


def _settings(root: Module) -> tuple[Any, ...]:
    """Everything that is set on a module and below it."""
    found: list[Any] = []
    for module in root.modules():
        found.append(id(module))
        for name, value in module.__dict__.items():
            if isinstance(value, Tensor):
                found.append((name, id(value.array)))
            elif isinstance(value, _SCALARS):
                found.append((name, type(value), repr(value)))
            elif isinstance(value, (list, tuple)) and all(isinstance(entry, _SCALARS) for entry in value):
                found.append((name, repr(value)))
    return tuple(found)
