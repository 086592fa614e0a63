"""How public functions take their arguments: NumPy's keywords beside PyTorch's, and tensors only."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature, unwrap
from types import FunctionType
from typing import Any, TypeVar

from nbdl.autograd.tensor import Tensor

__all__ = ["numpy_keywords", "tensors_required"]

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
    renamed = {_NUMPY_NAMES[name]: name for name in _parameters(function) if name in _NUMPY_NAMES}

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


def tensors_required(namespace: dict[str, Any], skip: int = 0) -> None:
    """Makes functions that fail on something else than a tensor say which argument it was.

    Every function of ``namespace`` with a parameter annotated ``Tensor`` is replaced by one that looks at the
    arguments after a failure, so that a call that succeeds costs no check.

    Args:
        namespace: of a module or a class; names that begin with an underscore stay.
        skip: parameters at the front that are known to be tensors (1 for methods).
    """
    for name, value in namespace.items():
        if isinstance(value, FunctionType) and not name.startswith("_"):
            tensors = [key for key in _parameters(value)[skip:] if value.__annotations__.get(key) == "Tensor"]
            if tensors:
                namespace[name] = _blaming(value, frozenset(tensors))


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    code = unwrap(function).__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _blaming(function: Callable[..., R], tensors: frozenset[str]) -> Callable[..., R]:
    @wraps(function)
    def operation(*args: Any, **keywords: Any) -> R:
        try:
            return function(*args, **keywords)
        except (AttributeError, TypeError, RuntimeError, IndexError, ValueError) as error:
            wrong = _first_that_is_no_tensor(function, tensors, args, keywords)
            if wrong is None:
                raise
            raise TypeError(wrong) from error

    return operation


def _first_that_is_no_tensor(
    function: Callable[..., Any], tensors: frozenset[str], args: tuple[Any, ...], keywords: dict[str, Any]
) -> str | None:
    try:
        given = signature(function).bind(*args, **keywords).arguments
    except TypeError:  # other arguments than the function has: Python's own message says it
        return None
    for position, (name, value) in enumerate(given.items(), 1):
        if name in tensors and not isinstance(value, Tensor):
            kind = type(value)
            found = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
            return (
                f"{function.__name__}(): argument {name!r} (position {position}) must be Tensor, not {found}"
            )
    return None
