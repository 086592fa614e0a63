"""A module whose calls are compiled, and that is a module itself."""

from __future__ import annotations

import copy
from typing import Any

from nbdl.compiler.function import Compiled
from nbdl.compiler.report import Profile, Report
from nbdl.nn.module import Module


class CompiledModule(Module):
    """A module that computes by recorded programs; made by :func:`nbdl.compile`.

    Its parameters, buffers and mode are those of the module that it was made of, which is its only submodule
    and so stands in front of all names, as in PyTorch. Other attributes are those of that module, too.

    Args:
        module: what to compile.
        compiled: the function that calls it.

    Example:
        >>> import nbdl
        >>> model = nbdl.compile(nbdl.nn.Linear(3, 1))
        >>> optimizer = nbdl.optim.SGD(model.parameters(), lr=0.1)
        >>> model.train().in_features
        3
        >>> list(model.state_dict())
        ['_orig_mod.weight', '_orig_mod.bias']
    """

    _orig_mod: Module
    _compiled: Compiled

    def __init__(self, module: Module, compiled: Compiled):
        super().__init__()
        self.register_module("_orig_mod", module)
        self.__dict__["_compiled"] = compiled

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program for these arguments; without one, record it."""
        return self._compiled(*args, **kwargs)

    def program(self, *args: Any, **kwargs: Any) -> Report:
        """The program for these arguments, see :meth:`Compiled.program`."""
        return self._compiled.program(*args, **kwargs)

    def profile(self, *args: Any, **kwargs: Any) -> Profile:
        """Where the time of the program goes, see :meth:`Compiled.profile`."""
        return self._compiled.profile(*args, **kwargs)

    def clear(self) -> None:
        """Forget all programs."""
        self._compiled.clear()

    def __getattr__(self, name: str) -> Any:
        module = self.__dict__.get("_orig_mod")
        return super().__getattr__(name) if module is None else getattr(module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_hooks":  # hooks stand around the program
            object.__setattr__(self, name, value)
        else:
            setattr(self._orig_mod, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._orig_mod, name)

    @property
    def training(self) -> bool:  # type: ignore[override]
        """The mode of the module."""
        return self._orig_mod.training

    def __len__(self) -> int:
        members: Any = self._orig_mod
        return len(members)

    def __getitem__(self, index: Any) -> Any:
        members: Any = self._orig_mod
        return members[index]

    def __bool__(self) -> bool:
        return True

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledModule:
        module = copy.deepcopy(self._orig_mod, memo)
        return CompiledModule(module, self._compiled.of(module))
