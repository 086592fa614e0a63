"""What a function uses from outside, so that a changed setting is noticed and makes another program.

Found are the closure variables, the globals that the code names, the instance of a bound method, and their
attributes as far as the code spells them out (``config.scale``); functions, methods and modules of the user
are followed. What the code only counts up or appends to has no influence on it, and is left out.

Of numbers, strings and small containers of them the value counts, of tensors the memory, of modules all that
is set on them and on their submodules, of optimizers those settings of their groups that are no numbers,
which are read at every call. Not noticed are other values in NumPy arrays, in the environment of the process,
and in attributes of objects in containers.
"""

from __future__ import annotations

import dis
import functools
import inspect
import re
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np

from nbdl.autograd.rebinding import rebindings
from nbdl.autograd.tensor import Tensor
from nbdl.nn.hooks import ModuleHooks
from nbdl.nn.module import Module
from nbdl.optim.optimizer import Optimizer

_SCALARS = (bool, int, float, complex, str, bytes, type(None), np.generic)
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)
_SETTINGS = (*_SCALARS, Tensor, Module)
_MAX_ENTRIES = 64
_MAX_DEPTH = 4
_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_STACK_MOVES = ("COPY", "SWAP", "DUP_TOP", "DUP_TOP_TWO", "ROT_TWO", "ROT_THREE", "ROT_FOUR")
_GROWTH = frozenset({"append", "appendleft", "extend", "insert"})  # of lists and the like

_T = TypeVar("_T")


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
        self._modules: dict[int, Module] = {}  # whose code was followed
        self._follow(function)
        self._tokens: dict[Any, int] = {}
        self._values: list[Any] = []
        self._tensors: list[tuple[Tensor, Any]] = []
        self._containers: list[tuple[Any, Any]] = []
        self._optimizers: list[_Settings] = []
        self._bindings_at = -1
        self._token = -1

    def token(self) -> int:
        """A number for the state of the outside: equal numbers, equal states."""
        if self._is_unchanged():
            return self._token
        if self._bindings_at != rebindings.count:
            self._bindings_at = rebindings.count
            for module in self._found(Module):
                self._follow_modules(module)  # there may be new ones below it
        self._values = [variable.read() for variable in self.variables]
        self._tensors = [(value, value.array) for value in self._values if isinstance(value, Tensor)]
        self._containers = [
            (value, _state_of(value, quick=True))
            for value in self._values
            if isinstance(value, (list, dict, set))
        ]
        self._optimizers = [_Settings(x) for x in self._found(Optimizer)]
        state = tuple([_state_of(value) for value in self._values])
        self._token = self._tokens.setdefault(state, len(self._tokens))
        return self._token

    def changed_since(self, token: int) -> list[str]:
        """The names of the variables that have another state now than when ``token`` was given."""
        now = self.token()
        states = {number: state for state, number in self._tokens.items()}
        pairs = zip(self.variables, states[token], states[now])  # there may be more variables now
        return [variable.name for variable, before, after in pairs if before != after]

    def tensors(self) -> list[Tensor]:
        """The leaves among what was found, with the parameters of modules: they may require gradients."""
        found = [tensor for tensor in self._found(Tensor) if tensor.is_leaf]
        for module in self._found(Module):
            found += module.parameters()
        return found

    def _found(self, kind: type[_T]) -> list[_T]:
        """What there is of a kind among the values, and in containers."""
        values = [variable.read() for variable in self.variables]
        return [entry for value in values for entry in _inside(value) if isinstance(entry, kind)]

    def _is_unchanged(self) -> bool:
        """Whether nothing was assigned since the last look; cheap."""
        if self._bindings_at != rebindings.count:
            return False
        for variable, value in zip(self.variables, self._values):
            if variable.read() is not value:
                return False
        for tensor, array in self._tensors:
            if tensor.array is not array:
                return False
        for value, state in self._containers:
            if _state_of(value, quick=True) != state:
                return False
        return all(map(_Settings.are_unchanged, self._optimizers))

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

    def _follow_modules(self, root: Module) -> None:
        """Add what the code of modules reads beside what is set on them."""
        for module in root.modules():
            if id(module) not in self._modules:
                self._modules[id(module)] = module
                self._follow_member(module, "forward")

    def _follow_member(self, owner: Any, name: str) -> None:
        """Follow a method or a property."""
        found = inspect.getattr_static(type(owner), name, None)
        function = found.fget if isinstance(found, property) else found
        if isinstance(function, types.FunctionType):
            self._follow_function(function, owner)

    def _follow_function(self, function: types.FunctionType, instance: Any) -> None:
        code = function.__code__
        if _is_library(function) or (code, id(instance)) in self._seen:
            return
        self._seen.add((code, id(instance)))
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
            value = _attribute(read, chain)
            if isinstance(value, Tensor) and known in self._seen:
                return
            if known in self._seen:
                continue
            self._seen.add(known)
            if count:
                owner = _attribute(read, chain[:-1])
                if value is MISSING:
                    self._follow_member(owner, chain[-1])
                    return
                if id(owner) in self._modules and chain[-1] in vars(owner) and isinstance(value, _SETTINGS):
                    continue  # among the settings of the module
            elif id(value) in self._modules:
                continue
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
        for entry in _inside(value):
            if isinstance(entry, Module):
                self._follow_modules(entry)


def _itself(value: Any) -> Any:
    return value


def _cell_value(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return MISSING


def _attribute(read: Callable[[], Any], chain: tuple[str, ...]) -> Any:
    """The value at the end of a chain of attributes that are set on instances, classes or in modules."""
    value = read()
    for name in chain:
        fields: Any = getattr(value, "__dict__", ())
        value = fields[name] if name in fields else _class_attribute(value, name)
    return value


def _class_attribute(value: Any, name: str) -> Any:
    """A slot, or a number or string that stands in the class; nothing for methods and properties."""
    for base in type(value).__mro__:
        found = base.__dict__.get(name, MISSING)
        if isinstance(found, types.MemberDescriptorType):
            return getattr(value, name, MISSING)
        if found is not MISSING:
            return found if isinstance(found, _SCALARS) else MISSING
    return MISSING


def _is_library(value: Any) -> bool:
    """Whether it is a function or class of this package or of Python itself, which nobody changes."""
    if not isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return False
    return (value.__module__ or "builtins").partition(".")[0] in ("nbdl", "builtins", "math", "functools")


class _Instruction(NamedTuple):
    """One step of the byte code, and the variable or attribute it is about."""

    opname: str
    name: Any


def _instructions(code: types.CodeType) -> Iterator[_Instruction]:
    """The byte code without moves on the stack, pairs that Python 3.13 makes taken apart."""
    for instruction in dis.get_instructions(code):
        if "_FAST_" in instruction.opname and isinstance(instruction.argval, tuple):
            kinds = re.findall("LOAD|STORE", instruction.opname)
            yield from [_Instruction(f"{kind}_FAST", name) for kind, name in zip(kinds, instruction.argval)]
        elif instruction.opname not in _STACK_MOVES:
            yield _Instruction(instruction.opname, instruction.argval)


def _chains(code: types.CodeType, instance: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The variables from outside that the code reads, each with the attributes that follow it."""
    instructions = list(_instructions(code))
    for k, (opname, name) in enumerate(instructions):
        if opname in _LOADS or (opname.startswith("LOAD_FAST") and name == instance):
            path = [name]
            for following in instructions[k + 1 :]:
                if following.opname not in _ATTRIBUTES:
                    break
                path.append(following.name)
            if len(path) > 1 and path[-1] in _GROWTH:
                path = path[:-2]
            elif _is_increment(path[-1], instructions[k + len(path) :]):
                path.pop()
            if path:
                yield path[0], tuple(path[1:])
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _chains(constant, instance)


def _is_increment(name: str, behind: list[_Instruction]) -> bool:
    """Whether what was loaded is only added to, as in ``calls += 1`` and ``calls[0] += 1``.

    Args:
        name: of the variable or attribute.
        behind: what follows.
    """
    opnames = [instruction.opname for instruction in behind[:5]]
    if len(opnames) == 5 and opnames[4] == "STORE_SUBSCR" and _is_constant(opnames[0]):
        return opnames[1].startswith("BINARY_") and _is_constant(opnames[2]) and _adds(opnames[3])
    is_stored = len(opnames) > 2 and opnames[2].startswith("STORE_") and behind[2].name == name
    return is_stored and _is_constant(opnames[0]) and _adds(opnames[1])


def _adds(opname: str) -> bool:
    return opname.startswith(("BINARY_OP", "INPLACE_"))


def _is_constant(opname: str) -> bool:
    return opname.startswith(("LOAD_CONST", "LOAD_SMALL_INT"))


# ----------------------------------------------------------------------------------------------- their state
def _state_of(value: Any, depth: int = 0, quick: bool = False) -> Any:
    """What is compared of a captured value; hashable.

    Args:
        value: the value.
        depth: in how many containers it is.
        quick: leave out what cannot change without being counted as a rebinding.
    """
    if isinstance(value, Tensor):
        return _place(value)
    if isinstance(value, Optimizer):
        return id(value) if quick else _optimizer_state(value)
    if isinstance(value, Module):
        return id(value) if quick else _settings(value)
    if isinstance(value, _SCALARS):
        return type(value), repr(value)
    if isinstance(value, (set, frozenset)) and len(value) <= _MAX_ENTRIES:
        return type(value), frozenset(map(repr, value))
    if _is_container(value) and depth < _MAX_DEPTH:
        keys = tuple(map(repr, value)) if isinstance(value, dict) else ()
        return type(value), keys, tuple([_state_of(entry, depth + 1, quick) for entry in _entries(value)])
    return value if isinstance(value, _FUNCTIONS) else id(value)


def _is_container(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict)) and len(value) <= _MAX_ENTRIES


def _entries(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value


def _inside(value: Any, depth: int = 0) -> Iterator[Any]:
    """The value, and what is in it if it is a container."""
    yield value
    if _is_container(value) and depth < _MAX_DEPTH:
        for entry in _entries(value):
            yield from _inside(entry, depth + 1)


def _place(tensor: Tensor) -> Any:
    """Where a tensor is; its hooks, if it has some."""
    if tensor.hooks or tensor.post_accumulate_hooks:
        kinds = (tensor.hooks, tensor.post_accumulate_hooks)
        return id(tensor.array), tuple([tuple(hooks.in_order()) for hooks in kinds if hooks])
    return id(tensor.array)


class _Settings:
    """The settings of an optimizer as they were; looking whether they still are is cheap."""

    def __init__(self, optimizer: Optimizer):
        self._optimizer = optimizer
        self._state, self._count = optimizer.state, len(optimizer.state)
        self._groups = [(group, tuple(group.values())) for group in optimizer.param_groups]

    def are_unchanged(self) -> bool:
        """Whether a step consists of the same operations; a number may have another value."""
        optimizer = self._optimizer
        if optimizer.state is not self._state or len(optimizer.state) != self._count:
            return False
        if len(optimizer.param_groups) != len(self._groups):
            return False
        for k, (group, values) in enumerate(self._groups):
            now = tuple(group.values())
            if now != values:
                if _switches(now) != _switches(values):
                    return False
                self._groups[k] = group, now
        return True


def _switches(values: Iterable[Any]) -> tuple[Any, ...]:
    """Of the settings of a group: switches, names, how many parameters, and which numbers are zero."""
    return tuple(map(_switch, values))


def _switch(value: Any) -> Any:
    if value is True or value is False or isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return not value
    if isinstance(value, tuple):
        return _switches(value)
    return type(value), isinstance(value, list) and len(value)


def _optimizer_state(optimizer: Optimizer) -> tuple[Any, ...]:
    """The settings of an optimizer, where its parameters and state are, and its hooks."""
    groups = optimizer.param_groups
    params = [tensor for group in groups for tensor in group["params"]]
    entries = [entry for tensor in params for entry in optimizer.state.get(tensor, {}).values()]
    places = tuple([_place(x) for x in (*params, *entries) if isinstance(x, Tensor)])
    switches = tuple([_switches(group.values()) for group in groups])
    return id(optimizer), switches, places, optimizer.hook_functions()


def _settings(root: Module) -> tuple[Any, ...]:
    """Everything that is set on a module and below it, with the hooks."""
    found: list[Any] = []
    for module in root.modules():
        found.append(id(module))
        for name, value in module.__dict__.items():
            if isinstance(value, Tensor):
                found.append((name, _place(value)))
            elif isinstance(value, _SCALARS):
                found.append((name, type(value), repr(value)))
            elif isinstance(value, _FUNCTIONS):
                found.append((name, value))
            elif isinstance(value, ModuleHooks):
                found.append((name, value.functions()))
            elif isinstance(value, (list, tuple)) and all(isinstance(entry, _SCALARS) for entry in value):
                found.append((name, repr(value)))
    return tuple(found)
