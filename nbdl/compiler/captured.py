"""What a function uses from outside, so that a changed setting is noticed and makes another program.

Found are the closure variables, the globals that the code names, the instance of a bound method, and their
attributes as far as the code spells them out (``config.scale``); functions, methods and modules of the user
are followed. What the code only counts up or appends to has no influence on it, and is left out.

What of them is compared says :mod:`nbdl.compiler.states`. Not noticed are other values in NumPy arrays, in
the environment of the process, and in attributes of objects in containers.
"""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import re
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from nbdl.autograd.rebinding import rebindings
from nbdl.autograd.tensor import Tensor
from nbdl.compiler.states import SCALARS, SETTINGS, Attribute, OptimizerSettings, inside, state_of
from nbdl.nn.module import Module
from nbdl.optim.lr_scheduler import LRScheduler
from nbdl.optim.optimizer import Optimizer

_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_STACK_MOVES = ("COPY", "SWAP", "DUP_TOP", "DUP_TOP_TWO", "ROT_TWO", "ROT_THREE", "ROT_FOUR")
_GROWTH = frozenset({"append", "appendleft", "extend", "insert"})  # of lists and the like

_T = TypeVar("_T")
_numbers = itertools.count()  # of states, unlike among all functions


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
        args: of a call, by position.
        kwargs: of a call, by name.
        objects: those among the arguments, or in containers among them, that are looked into.

    Attributes:
        variables: the variables.
        assigned: attributes of modules to which the function assigns tensors, which it does not read before.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        objects: Sequence[Any] = (),
    ):
        self.variables: list[Variable] = []
        self.assigned: set[Attribute] = set()
        self._read: set[Attribute] = set()
        self._seen: set[Any] = set()
        self._modules: dict[int, Module] = {}  # whose code was followed
        if objects:
            self._follow_objects(function, args, kwargs or {}, objects)
        self._follow(function)
        self._tokens: dict[Any, int] = {}
        self._values: list[Any] = []
        self._tensors: list[tuple[Tensor, Any]] = []
        self._containers: list[tuple[Any, Any]] = []
        self._optimizers: list[OptimizerSettings] = []
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
            (value, state_of(value, quick=True))
            for value in self._values
            if isinstance(value, (list, dict, set, LRScheduler))
        ]
        self._optimizers = [OptimizerSettings(x) for x in self._found(Optimizer)]
        state = tuple([state_of(value, skip=self.assigned) for value in self._values])
        if state not in self._tokens:
            self._tokens[state] = next(_numbers)
        self._token = self._tokens[state]
        return self._token

    def changed_since(self, token: int) -> list[str]:
        """The names of the variables that have another state now than when ``token`` was given."""
        now = self.token()
        states = {number: state for state, number in self._tokens.items()}
        pairs = zip(self.variables, states[token], states[now])  # there may be more variables now
        return [variable.name for variable, before, after in pairs if before != after]

    def attributes(self) -> dict[Attribute, Tensor]:
        """The tensors that are set on modules and that are neither parameters nor buffers."""
        return {
            Attribute(module, name): value
            for module in self._modules.values()
            for name, value in vars(module).items()
            if isinstance(value, Tensor)
            and name not in module._parameter_names
            and name not in module._buffer_names
        }

    def learn_assigned(self, before: dict[Attribute, Tensor], is_read: Callable[[Tensor], bool]) -> bool:
        """After a run, find out to which attributes of modules the function assigns tensors.

        Args:
            before: the tensors that were set before.
            is_read: whether the function reads the memory of a tensor.

        Returns:
            Whether something new was found.
        """
        now = self.attributes()
        found = {place for place, x in now.items() if before.get(place) is not x} - self.assigned - self._read
        read = {place for place in self.assigned if place in before and is_read(before[place])}
        self._read |= read
        self.assigned = (self.assigned | found) - read
        if found or read:
            self._bindings_at = -1  # the state has another form
        return bool(found or read)

    def tensors(self) -> list[Tensor]:
        """The leaves among what was found, with the parameters of modules: they may require gradients."""
        found = [tensor for tensor in self._found(Tensor) if tensor.is_leaf]
        for module in self._found(Module):
            found += module.parameters()
        return found

    def _found(self, kind: type[_T]) -> list[_T]:
        """What there is of a kind among the values, and in containers."""
        values = [variable.read() for variable in self.variables]
        return [entry for value in values for entry in inside(value) if isinstance(entry, kind)]

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
            if state_of(value, quick=True) != state:
                return False
        return all(map(OptimizerSettings.are_unchanged, self._optimizers))

    # ----------------------------------------------------------------------------------------------- finding
    def _follow(self, function: Any) -> None:
        """Add what ``function`` reads."""
        if isinstance(function, functools.partial):
            for k, value in enumerate((*function.args, *function.keywords.values())):
                self._add(f"argument {k}", functools.partial(_itself, value))
            self._follow(function.func)
        elif isinstance(function, Module):
            self._add(type(function).__name__, functools.partial(_itself, function))
        else:
            code, instance = _code_of(function)
            if code is not None:
                self._follow_function(code, instance)

    def _follow_objects(
        self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], objects: Sequence[Any]
    ) -> None:
        """Add objects that are arguments with their parts, and attributes that ``function`` spells out."""
        for k, value in enumerate(objects):
            read = functools.partial(_itself, value)
            self._add(f"argument {k}", read)
            for name, part in getattr(value, "__dict__", {}).items():
                if isinstance(part, (Module, Optimizer, Tensor)) and not isinstance(value, Module):
                    self._add(f"argument {k}.{name}", functools.partial(_attribute, read, (name,)))
        code, instance = _code_of(function)
        if code is None:
            return
        try:
            bound = inspect.signature(function).bind(*args, **kwargs).arguments
        except TypeError:
            return  # the call will say it
        known = set(map(id, objects))
        self._follow_function(code, instance, {k: value for k, value in bound.items() if id(value) in known})

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

    def _follow_function(
        self, function: types.FunctionType, instance: Any, objects: Mapping[str, Any] | None = None
    ) -> None:
        """Add what a function reads.

        Args:
            function: the function.
            instance: its first argument, if it is a method.
            objects: other arguments, by name.
        """
        code = function.__code__
        if _is_library(function) or (code, id(instance)) in self._seen:
            return
        self._seen.add((code, id(instance)))
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        for k, value in enumerate(defaults):
            self._add(f"default {k}", functools.partial(_itself, value))
        local = dict(objects or {})
        if instance is not None and code.co_varnames:
            local[code.co_varnames[0]] = instance
        for name, attributes in _chains(code, local):
            if name in cells:
                self._add_chain(cells[name], name, functools.partial(_cell_value, cells[name]), attributes)
            elif name in local:
                self._add_chain(local[name], name, functools.partial(_itself, local[name]), attributes)
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
                if id(owner) in self._modules and chain[-1] in vars(owner) and isinstance(value, SETTINGS):
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
        for entry in inside(value):
            if isinstance(entry, Module):
                self._follow_modules(entry)


def _code_of(function: Any) -> tuple[types.FunctionType | None, Any]:
    """The Python function that runs when ``function`` is called, and the instance that it is a method of."""
    instance = None
    if isinstance(function, types.MethodType):
        function, instance = function.__func__, function.__self__
    elif not isinstance(function, types.FunctionType):
        name = "forward" if isinstance(function, Module) else "__call__"
        function, instance = inspect.getattr_static(type(function), name, None), function
    return (function if isinstance(function, types.FunctionType) else None), instance


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
    for base in value.__mro__ if isinstance(value, type) else type(value).__mro__:
        found = base.__dict__.get(name, MISSING)
        if isinstance(found, types.MemberDescriptorType):
            return getattr(value, name, MISSING)
        if found is not MISSING:
            return found if isinstance(found, SCALARS) else MISSING
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


def _chains(code: types.CodeType, local: Collection[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The variables from outside that the code reads, each with the attributes that follow it.

    Args:
        code: of a function.
        local: its arguments that are looked into, too.
    """
    instructions = list(_instructions(code))
    for k, (opname, name) in enumerate(instructions):
        if opname in _LOADS or (opname.startswith("LOAD_FAST") and name in local):
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
            yield from _chains(constant, local)


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
