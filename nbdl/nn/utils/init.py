"""Modules without initial values."""

from __future__ import annotations

import inspect
from typing import Any

from nbdl.nn.module import Module


def skip_init(module_cls: type[Module], *args: Any, **kwargs: Any) -> Any:
    """A module whose parameters are allocated but not drawn, since they are about to be loaded.

    Args:
        module_cls: the class; its constructor calls ``reset_parameters``, which is left out.
        args: positional arguments of the constructor.
        kwargs: keyword arguments of the constructor.

    Raises:
        RuntimeError: it is no module class, or its constructor takes no ``device``.

    Example:
        >>> from nbdl import nn
        >>> nn.utils.skip_init(nn.Linear, 2, 3)
        Linear(in_features=2, out_features=3, bias=True)
    """
    if not (isinstance(module_cls, type) and issubclass(module_cls, Module)):
        raise RuntimeError(f"skip_init: Expected a Module; got {module_cls}")
    # The signature of the class is in Python 3.10 that of Module.__new__, which takes anything.
    if "device" not in inspect.signature(module_cls.__init__).parameters:
        raise RuntimeError(f"skip_init: {module_cls.__name__} must support a 'device' arg to skip its init")
    return not_drawn(module_cls, *args, **kwargs)


def not_drawn(module_cls: type[Module], *args: Any, **kwargs: Any) -> Any:
    """``module_cls(*args, **kwargs)`` without the call of ``reset_parameters``."""
    raw = type(module_cls.__name__, (module_cls,), {"reset_parameters": lambda self: None})
    module = raw(*args, **kwargs)
    module.__class__ = module_cls
    return module
