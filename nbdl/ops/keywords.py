"""How public functions take their arguments: NumPy's keywords, PyTorch's ``out=``, and tensors only."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature, unwrap
from types import FunctionType
from typing import Any, TypeVar

from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes

__all__ = ["numpy_keywords", "offer", "written"]

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


def offer(namespace: dict[str, Any], skip: int = 0) -> None:
    """Makes what users call of the functions of a module, or of the methods of a class.

    Where something else than a tensor is given for a parameter annotated ``Tensor``, and the call fails, the
    error says which argument it was; a call that succeeds costs no check. Functions of tensors take PyTorch's
    ``out=``, see :func:`written`.

    Args:
        namespace: of a module or a class; names that begin with an underscore stay.
        skip: parameters at the front that are known to be tensors (1 for methods, which have no ``out``).
    """
    for name, value in namespace.items():
        if isinstance(value, FunctionType) and not name.startswith("_"):
            annotated = [(key, value.__annotations__.get(key, "")) for key in _parameters(value)[skip:]]
            tensors = frozenset(key for key, kind in annotated if kind == "Tensor")
            if tensors or (
                not skip and any("Tensor" in kind for _, kind in annotated if isinstance(kind, str))
            ):
                namespace[name] = _offered(value, tensors, takes_out=not skip)


def written(label: str, result: Any, out: Any) -> Any:
    """``out`` holding ``result``, or a tuple of tensors holding several; an empty tensor takes its shape.

    Raises:
        RuntimeError: a tensor of ``out`` has another shape, a dtype that the result cannot be cast to, or
            gradients are wanted, which do not flow into ``out``.
        TypeError: ``out`` is no tensor, or not as many as results.
    """
    results = result if isinstance(result, tuple) else (result,)
    targets = out if isinstance(out, (tuple, list)) else (out,)
    if len(results) != len(targets) or not all(isinstance(target, Tensor) for target in targets):
        raise TypeError(f"{label}(): argument 'out' must be {len(results)} tensor(s), got {out!r}")
    for target, value in zip(targets, results, strict=True):
        if target.requires_grad or value.requires_grad:
            raise RuntimeError(
                f"{label}(): functions with out=... arguments don't support automatic differentiation, but "
                "one of the arguments requires grad"
            )
        if dtypes.category(value.dtype) > dtypes.category(target.dtype):
            raise RuntimeError(
                f"{label}(): result type {value.dtype} can't be cast to the desired output type "
                f"{target.dtype}"
            )
        if target.shape != value.shape:
            if target.numel():
                raise RuntimeError(
                    f"{label}(): out has shape {list(target.shape)}, the result has {list(value.shape)}"
                )
            target.resize_(*value.shape)
        target.copy_(value)
    return out


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    code = unwrap(function).__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _offered(function: Callable[..., Any], tensors: frozenset[str], takes_out: bool) -> Callable[..., Any]:
    @wraps(function)
    def operation(*args: Any, **keywords: Any) -> Any:
        out = keywords.pop("out", None) if takes_out and keywords else None
        try:
            result = function(*args, **keywords)
        except (AttributeError, TypeError, RuntimeError, IndexError, ValueError) as error:
            wrong = _first_that_is_no_tensor(function, tensors, args, keywords)
            if wrong is None:
                raise
            raise TypeError(wrong) from error
        return result if out is None else written(function.__name__, result, out)

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
