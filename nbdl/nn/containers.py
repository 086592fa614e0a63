"""Modules that hold modules: a chain, a list and a dict."""

from __future__ import annotations

import itertools
import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nbdl.nn.fusing import activated_linear, is_linear
from nbdl.nn.module import Module


class Numbered(Module):
    """Members under the names "0", "1", ...; the base of the lists."""

    def __len__(self) -> int:
        return len(self._names)

    @property
    def _names(self) -> dict[str, Any]:
        return self._module_names

    def _put(self, name: str, value: Any) -> None:
        self.register_module(name, value)

    def _values(self) -> list[Any]:
        return [self.__dict__[name] for name in self._names]

    def _position(self, index: Any) -> int:
        try:
            position = operator.index(index)
        except TypeError:
            raise TypeError(
                f"{self._get_name()}: indices must be integers or slices, got {type(index).__name__}"
            ) from None
        size = len(self)
        if not -size <= position < size:
            raise IndexError(f"{self._get_name()}: index {position} is out of range for {size} members")
        return position % size

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(*self._arguments(self._values()[index]))
        return self._values()[self._position(index)]

    def _arguments(self, values: list[Any]) -> tuple:
        """What the constructor takes to hold ``values``."""
        return (values,)

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, list(self._names)[self._position(index)], value)

    def __delitem__(self, index: int | slice) -> None:
        values = self._values()
        del values[index if isinstance(index, slice) else self._position(index)]
        self._replace(values)

    def _replace(self, values: Iterable[Any]) -> None:
        for name in list(self._names):
            delattr(self, name)
        for k, value in enumerate(values):
            self._put(str(k), value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values())

    def __contains__(self, value: object) -> bool:
        return any(member is value for member in self._values())

    def append(self, value: Any) -> Any:
        """Add a member at the end."""
        self._put(str(len(self)), value)
        return self

    def extend(self, values: Iterable[Any]) -> Any:
        """Add several members at the end.

        Raises:
            TypeError: ``values`` is not iterable.
        """
        if not isinstance(values, Iterable):
            raise TypeError(f"{self._get_name()}.extend: expected an iterable, got {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    def insert(self, index: int, value: Any) -> Any:
        """Insert a member before ``index``."""
        values = self._values()
        values.insert(index, value)
        self._replace(values)
        return self

    def pop(self, index: int = -1) -> Any:
        """Take a member out."""
        value = self[index]
        del self[index]
        return value

    def __add__(self, other: Iterable[Any]) -> Any:
        if not isinstance(other, Iterable):
            return NotImplemented
        return type(self)(*self._arguments([*self._values(), *other]))

    def __iadd__(self, other: Iterable[Any]) -> Any:
        return self.extend(other)


class Sequential(Numbered):
    """A chain: each module computes on what the one before it returned.

    Args:
        args: modules, or one ``OrderedDict`` of modules by name.

    Example:
        >>> from nbdl import nn
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
        >>> model[0]
        Linear(in_features=2, out_features=8, bias=True)
        >>> len(model[:2])
        2
    """

    def __init__(self, *args: Any):
        super().__init__()
        if len(args) == 1 and isinstance(args[0], dict):
            members = args[0].items()
        else:
            members = [(str(k), module) for k, module in enumerate(args)]  # type: ignore[assignment]
        for name, module in members:
            self._put(name, module)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):  # names are kept
            names = list(self._module_names)[index]
            return type(self)(OrderedDict((name, self.__dict__[name]) for name in names))
        return super().__getitem__(index)

    def __delitem__(self, index: int | slice) -> None:
        if all(name == str(k) for k, name in enumerate(self._module_names)):
            super().__delitem__(index)
            return
        names = list(self._module_names)
        chosen = names[index] if isinstance(index, slice) else [names[self._position(index)]]
        for name in chosen:
            delattr(self, name)

    def _arguments(self, values: list[Any]) -> tuple:
        return tuple(values)

    def __mul__(self, times: int) -> Sequential:
        """The same modules several times, one after the other."""
        return Sequential(*self._repeated(times))

    __rmul__ = __mul__

    def __imul__(self, times: int) -> Sequential:
        return self.extend(self._repeated(times)[len(self) :])

    def _repeated(self, times: int) -> list[Any]:
        if not isinstance(times, int):
            raise TypeError(f"Sequential: expected an int as factor, got {type(times).__name__}")
        if times <= 0:
            raise ValueError(f"Sequential: the factor must be positive, got {times}")
        return self._values() * times

    def forward(self, input: Any) -> Any:
        """All modules one after the other."""
        members = self.__dict__
        held = None  # a linear layer, until it is known what follows
        for name in self._module_names:
            module = members[name]
            if is_linear(module):
                input = input if held is None else held(input)
                held = module
            elif held is not None:
                input, held = activated_linear(held, module, input), None
            else:
                input = module(input)
        return input if held is None else held(input)


class ModuleList(Numbered):
    """A list of modules; it has no ``forward``.

    Args:
        modules: the first members.

    Example:
        >>> import nbdl
        >>> layers = nbdl.nn.ModuleList([nbdl.nn.Linear(4, 4) for _ in range(3)])
        >>> len(list(layers.parameters()))
        6
    """

    def __init__(self, modules: Iterable[Module] | None = None):
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def _described_members(self) -> Iterator[tuple[str, str]]:
        """Equal neighbours as one."""
        for text, group in itertools.groupby(super()._described_members(), operator.itemgetter(1)):
            names = [name for name, _ in group]
            yield (
                (names[0], text) if len(names) == 1 else (f"{names[0]}-{names[-1]}", f"{len(names)} x {text}")
            )


class ModuleDict(Module):
    """A dict of modules by name; it has no ``forward``.

    Args:
        modules: a mapping, or pairs of names and modules.

    Example:
        >>> import nbdl
        >>> table = nbdl.nn.ModuleDict({"small": nbdl.nn.Linear(2, 2)})
        >>> table["small"].in_features
        2
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None):
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Any:
        if key not in self._module_names:
            raise KeyError(key)
        return self.__dict__[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.register_module(key, module)

    def __delitem__(self, key: str) -> None:
        self[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._module_names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._module_names)

    def __contains__(self, key: object) -> bool:
        return key in self._module_names

    def clear(self) -> None:
        """Take all members out."""
        for name in list(self._module_names):
            delattr(self, name)

    def pop(self, key: str) -> Any:
        """Take a member out."""
        module = self[key]
        del self[key]
        return module

    def keys(self) -> Any:
        """The names."""
        return self._module_names.keys()

    def values(self) -> list[Any]:
        """The modules."""
        return [self.__dict__[name] for name in self._module_names]

    def items(self) -> list[tuple[str, Any]]:
        """Names and modules."""
        return [(name, self.__dict__[name]) for name in self._module_names]

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace several members.

        Raises:
            TypeError: it is neither a mapping nor an iterable of pairs.
        """
        for name, module in pairs_of("ModuleDict.update", modules):
            self[name] = module


def pairs_of(caller: str, entries: Any) -> list[tuple[str, Any]]:
    """The entries of a mapping, or of an iterable of pairs.

    Raises:
        TypeError: it is neither.
    """
    if hasattr(entries, "items"):
        return list(entries.items())
    if not isinstance(entries, Iterable):
        raise TypeError(f"{caller}: expected a mapping or an iterable of pairs, got {type(entries).__name__}")
    pairs = list(entries)
    for k, pair in enumerate(pairs):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"{caller}: element {k} must be a pair of a name and a value, got {pair!r}")
    return pairs
