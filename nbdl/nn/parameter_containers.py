"""Lists and dicts of parameters."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.nn.containers import Numbered, pairs_of
from nbdl.nn.module import Module
from nbdl.nn.parameter import Parameter


def _as_parameter(value: Any) -> Any:
    """Tensors become parameters; anything else is kept as it is."""
    return Parameter(value) if isinstance(value, Tensor) and not isinstance(value, Parameter) else value


class ParameterList(Numbered):
    """A list of parameters; tensors that are assigned become parameters.

    Args:
        values: the first members.

    Example:
        >>> import nbdl
        >>> nbdl.nn.ParameterList([nbdl.zeros(2), nbdl.zeros(3)])[1].shape
        nbdl.Size([3])
    """

    _keys: dict[str, None]

    def __init__(self, values: Iterable[Any] | None = None):
        super().__init__()
        self._keys = {}
        if values is not None:
            self.extend(values)

    @property
    def _names(self) -> dict[str, Any]:
        return self._keys

    def _put(self, name: str, value: Any) -> None:
        self._keys[name] = None
        setattr(self, name, _as_parameter(value))

    def __setitem__(self, index: int, value: Any) -> None:
        self._put(str(self._position(index)), value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._keys.pop(name, None)

    def extra_repr(self) -> str:
        """One line a member."""
        return "\n".join(f"  ({k}): {_described(value)}" for k, value in enumerate(self))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("ParameterList should not be called.")


class ParameterDict(Module):
    """A dict of parameters by name; tensors that are assigned become parameters.

    Args:
        parameters: a mapping, or pairs of names and values.
    """

    _keys: dict[str, None]

    def __init__(self, parameters: Any = None):
        super().__init__()
        self._keys = {}
        if parameters is not None:
            self.update(parameters)

    def __getitem__(self, key: str) -> Any:
        if key not in self._keys:
            raise KeyError(key)
        return getattr(self, key)

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(
                f"ParameterDict: index given is of type {type(key).__name__}, but cannot be used as key "
                "because it is not a string"
            )
        if key not in self._keys and (key in self.__dict__ or hasattr(type(self), key)):
            raise KeyError(f"ParameterDict: attribute {key!r} already exists")
        self._keys[key] = None
        setattr(self, key, _as_parameter(value))

    def __delitem__(self, key: str) -> None:
        self[key]
        del self._keys[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def keys(self) -> Any:
        """The names."""
        return self._keys.keys()

    def values(self) -> list[Any]:
        """The members."""
        return [self[key] for key in self._keys]

    def items(self) -> list[tuple[str, Any]]:
        """Names and members."""
        return [(key, self[key]) for key in self._keys]

    def get(self, key: str, default: Any = None) -> Any:
        """The member, or ``default``."""
        return self[key] if key in self._keys else default

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The member, which is ``default`` if it was not there."""
        if key not in self._keys:
            self[key] = default
        return self[key]

    def pop(self, key: str) -> Any:
        """Take a member out."""
        value = self[key]
        del self[key]
        return value

    def clear(self) -> None:
        """Take all members out."""
        for key in list(self._keys):
            del self[key]

    def update(self, parameters: Any) -> None:
        """Add or replace several members; those of a plain dict in the order of their names, as PyTorch does.

        Raises:
            TypeError: it is neither a mapping nor an iterable of pairs.
        """
        pairs = pairs_of("ParameterDict.update", parameters)
        is_plain = isinstance(parameters, Mapping) and not isinstance(parameters, OrderedDict)
        for key, value in sorted(pairs, key=operator.itemgetter(0)) if is_plain else pairs:
            self[key] = value

    def copy(self) -> ParameterDict:
        """A dict that shares the members."""
        return ParameterDict(dict(self.items()))

    def extra_repr(self) -> str:
        """One line a member."""
        return "\n".join(f"  ({key}): {_described(value)}" for key, value in self.items())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("ParameterDict should not be called.")


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"Object of type: {type(value).__name__}"
    kind = "Parameter" if isinstance(value, Parameter) else "Tensor"
    return f"{kind} containing: [{value.dtype} of size {'x'.join(map(str, value.shape))}]"
