"""Nested tuples, lists and dicts of tensors, taken apart and put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Tree(NamedTuple):
    """The shape of a nest.

    Attributes:
        kind: the container's type; None for a leaf.
        keys: the keys of a dict, else the positions.
        children: one per entry.
    """

    kind: type | None
    keys: tuple[Any, ...] = ()
    children: tuple[Tree, ...] = ()


LEAF = Tree(None)


def flatten(nest: Any) -> tuple[list[Any], Tree]:
    """The leaves of ``nest`` from left to right (dicts in the order of insertion), and its shape."""
    if isinstance(nest, dict):
        keys, entries = tuple(nest), list(nest.values())
    elif isinstance(nest, (tuple, list)):
        keys, entries = tuple(range(len(nest))), list(nest)
    else:
        return [nest], LEAF
    leaves: list[Any] = []
    children = []
    for entry in entries:
        below, child = flatten(entry)
        leaves.extend(below)
        children.append(child)
    return leaves, Tree(type(nest), keys, tuple(children))


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
        return kind(zip(tree.keys, entries, strict=True))
    return kind(*entries) if hasattr(kind, "_fields") else kind(entries)


def map_leaves(function: Callable[[Any], Any], nest: Any) -> Any:
    """``nest`` with every leaf replaced by ``function(leaf)``."""
    leaves, tree = flatten(nest)
    return unflatten([function(leaf) for leaf in leaves], tree)
