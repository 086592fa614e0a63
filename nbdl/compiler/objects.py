"""Objects of the user's own classes, such as a configuration: what can be read from them."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.compiler.libraries import FIXED, is_library, package_of
from nbdl.compiler.states import PLAIN, is_container
from nbdl.nn.module import Module
from nbdl.optim.lr_scheduler import LRScheduler
from nbdl.optim.optimizer import Optimizer


class _Missing:
    """The value of a variable that does not exist."""


MISSING = _Missing()
_NAMESPACES = frozenset({"types", "argparse"})  # of the standard library, but the values are the user's
_OTHERS = (
    Tensor,
    Module,
    Optimizer,
    LRScheduler,
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
)
# Special methods that are not called where an object is used.
_NOT_FOLLOWED = frozenset(
    {"__new__", "__repr__", "__str__", "__del__", "__hash__", "__reduce__", "__reduce_ex__", "__getstate__"}
    | {"__setstate__", "__init_subclass__", "__class_getitem__", "__eq__", "__copy__", "__deepcopy__"}
)


def is_plain_object(value: Any) -> bool:
    """Whether it is an object, a class or a module of the user, whose attributes are looked at one by one."""
    if isinstance(value, types.ModuleType):
        return not is_library(value.__name__.partition(".")[0])
    kind = value if isinstance(value, type) else type(value)
    if kind is not value and (isinstance(value, (*PLAIN, *_OTHERS)) or is_container(value)):
        return False
    return package_of(kind) not in FIXED or package_of(kind) in _NAMESPACES


def attributes_of(value: Any) -> set[str]:
    """The names of all that is set on an object, on its class and on the classes that this inherits from."""
    found = set(getattr(value, "__dict__", ()))
    if not isinstance(value, types.ModuleType):
        for base in value.__mro__ if isinstance(value, type) else type(value).__mro__:
            if base is not object:
                found.update(base.__dict__)
    return found


def special_methods(value: Any) -> Iterator[types.FunctionType]:
    """The special methods of an object or class that run where it is used."""
    for base in (value if isinstance(value, type) else type(value)).__mro__:
        for name, member in base.__dict__.items():
            if name.startswith("__") and isinstance(member, types.FunctionType) and name not in _NOT_FOLLOWED:
                yield member


def function_of(member: Any) -> Any:
    """The function behind a property, a static method and the like; others as they are."""
    if isinstance(member, property):
        return member.fget
    if isinstance(member, (staticmethod, classmethod)):
        return member.__func__
    return member.func if isinstance(member, functools.cached_property) else member


def attribute(read: Callable[[], Any], chain: tuple[str, ...]) -> Any:
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
            return (
                found
                if isinstance(found, PLAIN) or is_container(found) or is_plain_object(found)
                else MISSING
            )
    return MISSING


def entry(read: Callable[[], Any], key: Any) -> Any:
    """An entry of a list, tuple or dict."""
    try:
        return read()[key]
    except (LookupError, TypeError):
        return MISSING
