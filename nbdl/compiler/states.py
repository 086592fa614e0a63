"""What is compared of a value from outside, to know whether a program still stands for the function.

Of numbers, strings and small containers of them the value counts, of tensors the memory, of modules all that
is set on them and on their submodules, of optimizers those settings of their groups that are no numbers,
which are read at every call.
"""

from __future__ import annotations

import enum
import types
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.nn.hooks import ModuleHooks
from nbdl.nn.module import Module
from nbdl.optim.lr_scheduler import LRScheduler
from nbdl.optim.optimizer import Optimizer

SCALARS = (bool, int, float, complex, str, bytes, type(None), np.generic)
# Values that never change; of all other objects the attributes may.
PLAIN = (*SCALARS, type, np.dtype, enum.Enum, slice, types.EllipsisType)
SETTINGS = (*SCALARS, Tensor, Module)
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)
_MAX_ENTRIES = 64
_MAX_DEPTH = 4
_NUMBERS = frozenset({bool, int, float, complex, str, bytes, type(None)})
MAX_NUMBERS = 1024


class Attribute(NamedTuple):
    """An attribute of a module."""

    module: Module
    name: str

    @property
    def value(self) -> Any:
        """What is set."""
        return vars(self.module).get(self.name)

    def set(self, value: Tensor) -> None:
        """Set it, uncounted: programs that assign it do not depend on it."""
        vars(self.module)[self.name] = value


def state_of(
    value: Any, depth: int = 0, quick: bool = False, skip: Collection[Attribute] = frozenset()
) -> Any:
    """What is compared of a captured value; hashable.

    Args:
        value: the value.
        depth: in how many containers it is.
        quick: leave out what cannot change without being counted as a rebinding.
        skip: attributes of modules that do not count.
    """
    if isinstance(value, Tensor):
        return _place(value)
    if isinstance(value, Optimizer):
        return id(value) if quick else _optimizer_state(value)
    if isinstance(value, Module):
        return id(value) if quick else _settings(value, skip)
    if isinstance(value, LRScheduler):
        return id(value), repr(value.get_last_lr())
    if isinstance(value, SCALARS):
        return type(value), repr(value)
    if isinstance(value, (set, frozenset)) and len(value) <= _MAX_ENTRIES:
        return type(value), frozenset(map(repr, value))
    if isinstance(value, (list, tuple, deque)) and _MAX_ENTRIES < len(value) <= MAX_NUMBERS:
        kinds = tuple(map(type, value))
        return (kinds, tuple(value)) if _NUMBERS.issuperset(kinds) else id(value)
    if is_container(value) and depth < _MAX_DEPTH:
        keys = tuple(map(repr, value)) if isinstance(value, dict) else ()
        return (
            type(value),
            keys,
            tuple([state_of(entry, depth + 1, quick, skip) for entry in _entries(value)]),
        )
    return value if isinstance(value, _FUNCTIONS) else id(value)


def is_container(value: Any) -> bool:
    """Whether it is a list, tuple, deque or dict that is small enough to be looked into."""
    return isinstance(value, (list, tuple, deque, dict)) and len(value) <= _MAX_ENTRIES


def _entries(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value


def inside(value: Any, depth: int = 0) -> Iterator[Any]:
    """The value, and what is in it if it is a container."""
    yield value
    if is_container(value) and depth < _MAX_DEPTH:
        for entry in _entries(value):
            yield from inside(entry, depth + 1)


def _place(tensor: Tensor) -> Any:
    """Where a tensor is; its hooks, if it has some."""
    if tensor.hooks or tensor.post_accumulate_hooks:
        kinds = (tensor.hooks, tensor.post_accumulate_hooks)
        return id(tensor.array), tuple([tuple(hooks.in_order()) for hooks in kinds if hooks])
    return id(tensor.array)


class OptimizerSettings:
    """The settings of an optimizer as they were; looking whether they still are is cheap."""

    def __init__(self, optimizer: Optimizer):
        self._optimizer = optimizer
        self._state, self._count = optimizer.state, len(optimizer.state)
        self._groups = [(group, _values(group)) for group in optimizer.param_groups]

    def are_unchanged(self) -> bool:
        """Whether a step consists of the same operations; a number may have another value."""
        optimizer = self._optimizer
        if optimizer.state is not self._state or len(optimizer.state) != self._count:
            return False
        if len(optimizer.param_groups) != len(self._groups):
            return False
        for k, (group, values) in enumerate(self._groups):
            now = _values(group)
            if now != values:
                if _switches(now) != _switches(values):
                    return False
                self._groups[k] = group, now
        return True


def _values(group: dict[str, Any]) -> tuple[Any, ...]:
    """The settings of a group; for tensors, which they are."""
    return tuple([f"tensor {id(x)}" if isinstance(x, Tensor) else x for x in group.values()])


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
    if isinstance(value, Tensor):
        return _place(value)
    return type(value), isinstance(value, list) and len(value)


def _optimizer_state(optimizer: Optimizer) -> tuple[Any, ...]:
    """The settings of an optimizer, where its parameters and state are, and its hooks."""
    groups = optimizer.param_groups
    params = [tensor for group in groups for tensor in group["params"]]
    entries = [entry for tensor in params for entry in optimizer.state.get(tensor, {}).values()]
    places = tuple([_place(x) for x in (*params, *entries) if isinstance(x, Tensor)])
    switches = tuple([_switches(group.values()) for group in groups])
    return id(optimizer), switches, places, optimizer.hook_functions()


def _settings(root: Module, skip: Collection[Attribute]) -> tuple[Any, ...]:
    """Everything that is set on a module and below it, with the hooks."""
    found: list[Any] = []
    for module in root.modules():
        found.append(id(module))
        for name, value in module.__dict__.items():
            if isinstance(value, Tensor):
                if not skip or Attribute(module, name) not in skip:
                    found.append((name, _place(value)))
            elif isinstance(value, SCALARS):
                found.append((name, type(value), repr(value)))
            elif isinstance(value, _FUNCTIONS):
                found.append((name, value))
            elif isinstance(value, ModuleHooks):
                found.append((name, value.functions()))
            elif isinstance(value, (list, tuple)) and all(isinstance(entry, SCALARS) for entry in value):
                found.append((name, repr(value)))
    return tuple(found)
