"""Nested tuples, lists, dicts and records of tensors, taken apart and put together."""

from __future__ import annotations

import functools
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple


class Tree(NamedTuple):
    """The shape of a nest.

    Attributes:
        kind: the container's type; None for a leaf.
        keys: the keys of a dict, the names of a record's fields, else the positions.
        children: one per entry.
        option: the default factory of a ``defaultdict``, the largest length of a ``deque``.
    """

    kind: type | None
    keys: tuple[Any, ...] = ()
    children: tuple[Tree, ...] = ()
    option: Any = None


LEAF = Tree(None)


def flatten(nest: Any) -> tuple[list[Any], Tree]:
    """The leaves of ``nest`` from left to right (dicts in the order of insertion), and its shape.

    Besides tuples, lists, deques and dicts, records are taken apart (see :func:`is_record`).
    """
    option: Any = None
    if isinstance(nest, dict):
        keys, entries = tuple(nest), list(nest.values())
        option = nest.default_factory if isinstance(nest, defaultdict) else None
    elif isinstance(nest, (tuple, list, deque)):
        keys, entries = tuple(range(len(nest))), list(nest)
        option = nest.maxlen if isinstance(nest, deque) else None
    elif is_record(nest.__class__):
        keys = _fields(nest)
        entries = [getattr(nest, name) for name in keys]
    else:
        return [nest], LEAF
    leaves: list[Any] = []
    children = []
    for entry in entries:
        below, child = flatten(entry)
        leaves.extend(below)
        children.append(child)
    return leaves, Tree(type(nest), keys, tuple(children), option)


@functools.lru_cache(maxsize=1024)
def is_record(kind: type) -> bool:
    """Whether objects of a class are what is in them: data classes, those of attrs, namespaces.

    These are classes whose objects are compared by their attributes; they cannot be hashed, or by their
    attributes only. An object that is only equal to itself is no record.
    """
    if kind.__module__ in ("builtins", "numpy"):
        return False
    has_fields = hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__")
    if has_fields:
        return kind.__hash__ is not object.__hash__
    return kind.__hash__ is None and kind.__dictoffset__ != 0


def _fields(record: Any) -> tuple[str, ...]:
    """The names of all that is set on a record, in slots or not."""
    slots = [name for base in type(record).__mro__ for name in _slots(base) if hasattr(record, name)]
    return (*getattr(record, "__dict__", ()), *slots)


def _slots(kind: type) -> tuple[str, ...]:
    names = kind.__dict__.get("__slots__", ())
    names = (names,) if isinstance(names, str) else tuple(names)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def records_in(tree: Tree) -> list[type]:
    """The classes of the records of a nest."""
    if tree.kind is None:
        return []
    found = [] if issubclass(tree.kind, (dict, tuple, list, deque)) else [tree.kind]
    return found + [kind for child in tree.children for kind in records_in(child)]


def unflatten(leaves: list[Any], tree: Tree) -> Any:
    """The nest of shape ``tree`` with these leaves."""
    return _build(iter(leaves), tree)


def _build(leaves: Iterator[Any], tree: Tree) -> Any:
    if tree.kind is None:
        return next(leaves)
    entries = [next(leaves) if child is LEAF else _build(leaves, child) for child in tree.children]
    kind: Any = tree.kind
    if kind is tuple:
        return tuple(entries)
    if issubclass(kind, dict):
        return _build_dict(tree, entries)
    if issubclass(kind, deque):
        return kind(entries, tree.option)
    if issubclass(kind, (tuple, list)):
        return kind(*entries) if hasattr(kind, "_fields") else kind(entries)
    record = kind() if issubclass(kind, SimpleNamespace) else object.__new__(kind)
    for name, entry in zip(tree.keys, entries, strict=True):
        object.__setattr__(record, name, entry)  # also where the class is frozen
    return record


def _build_dict(tree: Tree, entries: list[Any]) -> Any:
    kind: Any = tree.kind
    if kind is dict:
        return dict(zip(tree.keys, entries, strict=True))
    made = kind.__new__(kind)  # constructors of subclasses take what they like
    if issubclass(kind, defaultdict):
        made.default_factory = tree.option
    for key, entry in zip(tree.keys, entries, strict=True):
        made[key] = entry
    return made


def map_leaves(function: Callable[[Any], Any], nest: Any) -> Any:
    """``nest`` with every leaf replaced by ``function(leaf)``."""
    leaves, tree = flatten(nest)
    return unflatten([function(leaf) for leaf in leaves], tree)
