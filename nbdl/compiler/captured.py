"""What a function uses from outside, so that a changed setting is noticed and makes another program.

Found are the closure variables, the globals that the code names, the instance of a bound method, and their
attributes as far as the code spells them out (``config.scale``); functions, methods and modules of the user
are followed. What the code only counts up or appends to has no influence on it, and is left out.

What of them is compared says :mod:`nbdl.compiler.states`. Not noticed are other values in the environment of
the process, in generators, and in large arrays of NumPy that are read as numbers.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
import types
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from nbdl.autograd.rebinding import rebindings
from nbdl.autograd.tensor import Tensor
from nbdl.compiler.bytecode import Names, chains, imported, names_in
from nbdl.compiler.libraries import is_library, package_of
from nbdl.compiler.objects import (
    MISSING,
    attribute,
    attributes_of,
    entry,
    function_of,
    is_plain_object,
    special_methods,
)
from nbdl.compiler.states import (
    MAX_NUMBERS,
    PLAIN,
    SETTINGS,
    Attribute,
    OptimizerSettings,
    inside,
    is_container,
    state_of,
)
from nbdl.nn.module import Module
from nbdl.optim.lr_scheduler import LRScheduler
from nbdl.optim.optimizer import Optimizer

_T = TypeVar("_T")
_MAX_OBJECTS = 64
_MAX_DEPTH = 6  # attributes of attributes
_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial, staticmethod, classmethod)
_numbers = itertools.count()  # of states, unlike among all functions


class Variable(NamedTuple):
    """A variable from outside.

    Attributes:
        name: how the code spells it: ``config.scale``.
        read: gives its value; :data:`MISSING` if there is none now.
    """

    name: str
    read: Callable[[], Any]


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
        code, _ = _code_of(function)
        self._packages = {package_of(code)} if code else set()  # the user's, even where they are installed
        self._numbers: dict[int, np.ndarray] = {}  # arrays of which the function reads numbers
        self._modules: dict[int, Module] = {}  # whose code was followed
        self._names = Names(set(), set(), False)
        self._objects: dict[tuple[Any, ...], Variable] = {}  # what has such attributes, by place
        if objects:
            self._follow_objects(function, args, kwargs or {}, objects)
        self._follow(function)
        self._explore()
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
        self._follow_hooks()
        self._find_objects()
        self._explore()
        self._values = [variable.read() for variable in self.variables]
        self._tensors = [(value, value.array) for value in self._values if isinstance(value, Tensor)]
        self._containers = [
            (value, self._state(value, quick=True))
            for value in self._values
            if isinstance(value, (list, tuple, deque, dict, set, LRScheduler)) or id(value) in self._numbers
        ]
        self._optimizers = [OptimizerSettings(x) for x in self._found(Optimizer)]
        state = tuple(map(self._state, self._values))
        if state not in self._tokens:
            self._tokens[state] = next(_numbers)
        self._token = self._tokens[state]
        return self._token

    def _state(self, value: Any, quick: bool = False) -> Any:
        """What is compared of a value."""
        if id(value) in self._numbers:
            return id(value), value.dtype, value.shape, value.tobytes()
        return state_of(value, quick=quick, skip=self.assigned)

    def learn_numbers(self, is_read: Callable[[Any], bool]) -> None:
        """After a run, note the arrays of NumPy that are used, but not as arrays.

        Args:
            is_read: whether the program reads the memory of an array.
        """
        for value in self._values:
            if isinstance(value, np.ndarray) and value.size <= MAX_NUMBERS and not is_read(value):
                self._numbers[id(value)] = value
                self._bindings_at = -1

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

    def learn_assigned(self, before: dict[Attribute, Tensor], is_read: Callable[[Any], bool]) -> bool:
        """After a run, find out to which attributes of modules the function assigns tensors.

        Args:
            before: the tensors that were set before.
            is_read: whether the program reads the memory of an array.

        Returns:
            Whether something new was found.
        """
        now = self.attributes()
        found = {place for place, x in now.items() if before.get(place) is not x} - self.assigned - self._read
        read = {place for place in self.assigned if place in before and is_read(before[place].array)}
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

    def all_tensors(self) -> list[Tensor]:
        """What was found, with the parameters and buffers of modules."""
        found = self._found(Tensor)
        for module in self._found(Module):
            found += [*module.parameters(), *module.buffers()]
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
            if self._state(value, quick=True) != state:
                return False
        return all(map(OptimizerSettings.are_unchanged, self._optimizers))

    # ----------------------------------------------------------------------------------------------- finding
    def _is_own(self, function: Any) -> bool:
        """Whether a function is the user's: its globals are looked at, those of libraries lead too far."""
        package = package_of(function)
        return package in self._packages or not is_library(package)

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
                    self._add(f"argument {k}.{name}", functools.partial(attribute, read, (name,)))
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
                self._packages.add(package_of(type(module)))
                self._follow_member(module, "forward")
                for name, value in vars(module).items():
                    if not isinstance(value, SETTINGS):
                        read = functools.partial(attribute, functools.partial(_itself, module), (name,))
                        self._add_objects(f"{type(module).__name__}.{name}", read, (id(module), name))

    def _follow_hooks(self) -> None:
        """Add what hooks of modules, tensors and optimizers read, and functions that are set on modules."""
        found = [
            hook
            for optimizer in self._found(Optimizer)
            for hooks in optimizer.hook_functions()
            for hook in hooks
        ]
        for module in self._modules.values():
            found += filter(lambda value: isinstance(value, _FUNCTIONS), vars(module).values())
            if module._hooks is not None:
                found += [hook.function for hooks in module._hooks.functions() for hook in hooks]
        for tensor in self.all_tensors():
            for hooks in (tensor.hooks, tensor.post_accumulate_hooks):
                found += hooks.values() if hooks else ()
        for hook in found:
            if ("hook", id(hook)) not in self._seen:
                self._seen.add(("hook", id(hook)))
                self._add("hook", functools.partial(_itself, hook))

    def _follow_member(self, owner: Any, name: str) -> None:
        """Follow a method or a property."""
        found = inspect.getattr_static(type(owner), name, None)
        function = function_of(found)
        if isinstance(function, types.FunctionType):
            self._follow_function(function, None if isinstance(found, staticmethod) else owner)

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
        if is_fixed(function) or (code, id(instance)) in self._seen:
            return
        self._seen.add((code, id(instance)))
        is_own = self._is_own(function)
        if is_own or instance is not None:
            names, known = names_in(code), self._names
            everything = known.everything or names.everything
            self._names = Names(known.spelled | names.spelled, known.strings | names.strings, everything)
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        for k, value in enumerate(defaults):
            self._add(f"default {k}", functools.partial(_itself, value))
        local = dict(objects or {})
        if instance is not None and code.co_varnames:
            local[code.co_varnames[0]] = instance
        for name in imported(code) if is_own else ():
            self._add_objects(name, functools.partial(sys.modules.get, name), (name,))
        for name, attributes in chains(code, local):
            if name in cells:
                self._add_chain(cells[name], name, functools.partial(_cell_value, cells[name]), attributes)
            elif name in local:
                self._add_chain(local[name], name, functools.partial(_itself, local[name]), attributes)
            elif is_own and name in function.__globals__:
                source = function.__globals__
                read = functools.partial(source.get, name, MISSING)
                self._add_chain((id(source), name), name, read, attributes)

    def _add_chain(self, key: Any, name: str, read: Callable[[], Any], attributes: tuple[str, ...]) -> None:
        """Add a variable, and what its attributes lead to."""
        for count in range(len(attributes) + 1):
            chain = attributes[:count]
            known = (key if isinstance(key, tuple) else id(key), chain)
            value = attribute(read, chain)
            if isinstance(value, Tensor) and known in self._seen:
                return
            if known in self._seen:
                continue
            self._seen.add(known)
            if count:
                owner = attribute(read, chain[:-1])
                if value is MISSING:
                    self._follow_member(owner, chain[-1])
                    return
                if id(owner) in self._modules and chain[-1] in vars(owner) and isinstance(value, SETTINGS):
                    continue  # among the settings of the module
            elif id(value) in self._modules:
                continue
            self._add(".".join((name, *chain)), functools.partial(attribute, read, chain) if chain else read)
            if isinstance(value, Tensor):
                return

    def _add(self, name: str, read: Callable[[], Any]) -> None:
        value = read()
        if not isinstance(value, types.ModuleType) and not is_fixed(value):
            self.variables.append(Variable(name, read))
        for part in inside(value):
            if isinstance(part, Module):
                self._follow_modules(part)
            elif isinstance(part, _FUNCTIONS) and id(part) not in self._seen:
                self._seen.add(id(part))
                self._follow(part)
        self._add_objects(name, read)

    # ------------------------------------------------------------------------------------- plain objects
    def _explore(self) -> None:
        """Add the attributes of objects that some of the code reads, by whatever variable."""
        explored: Any = None
        while explored != (explored := (self._names, len(self._objects), len(self._seen))):
            spelled, strings, everything = self._names
            for key, (name, read) in list(self._objects.items()):
                value = read()
                there = attributes_of(value)
                own = set(getattr(value, "__dict__", ())) if everything else set()
                for part in sorted(there & spelled | own | strings):
                    if part in there:
                        self._add_chain(key, name, read, (part,))
                    elif (key, (part,)) not in self._seen:
                        self._seen.add((key, (part,)))
                        self._add(f"{name}.{part}", functools.partial(attribute, read, (part,)))

    def _find_objects(self) -> None:
        """Look for objects that were not there before."""
        for name, read in list(self.variables):
            self._add_objects(name, read)

    def _add_objects(self, name: str, read: Callable[[], Any], key: tuple[Any, ...] = ()) -> None:
        """Add the value of a variable if it is an object, or those in it if it is a container."""
        value, key = read(), key or (id(read),)
        if key in self._objects or len(self._objects) >= _MAX_OBJECTS or name.count(".") > _MAX_DEPTH:
            return
        if is_plain_object(value):
            if not any(known.read() is value for known in self._objects.values()):
                self._objects[key] = Variable(name, read)
                for method in special_methods(value):
                    self._follow_function(method, None if isinstance(value, type) else value)
        elif is_container(value):
            for k in value if isinstance(value, dict) else range(len(value)):
                if not isinstance(value[k], PLAIN):
                    part = functools.partial(entry, read, k)
                    self._add_objects(f"{name}[{k!r}]", part, (*key, k))


def _code_of(function: Any) -> tuple[types.FunctionType | None, Any]:
    """The Python function that runs when ``function`` is called, and the instance that it is a method of."""
    function, instance = function_of(function), None
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


def is_fixed(value: Any) -> bool:
    """Whether it is a function or class of this package or of Python itself, which nobody changes."""
    if not isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return False
    return package_of(value) in ("nbdl", "builtins", "math", "functools")
