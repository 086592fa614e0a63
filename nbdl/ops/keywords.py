"""NumPy's keywords beside PyTorch's: ``axis`` for ``dim`` and ``dims``, ``keepdims`` for ``keepdim``."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

__all__ = ["numpy_keywords"]

R = TypeVar("R")

_NUMPY_NAMES = {"dim": "axis", "dims": "axis", "keepdim": "keepdims"}


def numpy_keywords(function: Callable[..., R]) -> Callable[..., R]:
    """Lets a function take ``axis`` beside its ``dim`` or ``dims``, and ``keepdims`` beside its ``keepdim``.

    Raises:
        TypeError: At the call, when both names of one parameter are given.

    Example:
        >>> import nbdl
        >>> nbdl.ones(2, 3).unbind(axis=1)[0].shape
        nbdl.Size([2])
    """
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    renamed = {_NUMPY_NAMES[name]: name for name in names if name in _NUMPY_NAMES}

    @wraps(function)
    def accepting_both(*args: Any, **keywords: Any) -> R:
        if keywords:
            for alias, name in renamed.items():
                if alias in keywords:
                    if name in keywords:
                        raise TypeError(
                            f"{function.__name__}: {name} and {alias} are one argument, both were given"
                        )
                    keywords[name] = keywords.pop(alias)
        return function(*args, **keywords)

    return accepting_both
