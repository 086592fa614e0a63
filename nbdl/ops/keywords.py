"""How public functions take their arguments: NumPy's keywords, PyTorch's ``out=``, and tensors only."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from inspect import signature, unwrap
from types import FunctionType
from typing import Any, TypeVar

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes

__all__ = ["numpy_keywords", "offer", "written"]

R = TypeVar("R")

_NUMPY_NAMES = {"dim": "axis", "dims": "axis", "keepdim": "keepdims"}
# Functions that write ``out`` without a cast: it must have the dtype of the result.
_UNCAST = frozenset((
    "addbmm", "addmm", "addmv", "amax", "amin", "argmax", "argmin", "baddbmm", "bmm", "clamp", "cross",
    "cummax", "cummin", "diag", "dot", "gather", "index_select", "inner", "inverse", "kthvalue",
    "log_softmax", "logcumsumexp", "masked_select", "matmul", "max", "median", "min", "mm", "mode",
    "mv", "nonzero", "norm", "softmax", "sort", "take", "tensordot", "topk", "tril", "triu", "where",
))  # fmt: skip


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


def written(label: str, result: Any, out: Any, operands: Iterable[Any] = ()) -> Any:
    """``out`` holding ``result``, or a tuple of tensors holding several.

    A tensor of another shape is resized; unless it was empty a warning says so.

    Args:
        label: the function.
        result: what it returned.
        out: the tensors to fill.
        operands: what it was called with; their memory must not overlap with ``out`` in part.

    Raises:
        RuntimeError: a tensor of ``out`` has a dtype that the result cannot be cast to, overlaps with an
            operand, or gradients are wanted, which do not flow into ``out``.
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
        if any(_overlap(target.array, x.array) for x in _tensors_in(operands)):
            raise RuntimeError(
                f"{label}(): unsupported operation: some elements of the input tensor and of out, which is "
                "written to, refer to a single memory location; clone() one of them"
            )
        if label in _UNCAST and value.dtype != target.dtype:
            raise RuntimeError(
                f"{label}(): Expected out tensor to have dtype {value.dtype}, but got {target.dtype} instead"
            )
        if dtypes.category(value.dtype) > dtypes.category(target.dtype):
            raise RuntimeError(
                f"{label}(): result type {value.dtype} can't be cast to the desired output type "
                f"{target.dtype}"
            )
        if target.shape != value.shape:
            if target.numel():
                warnings.warn(
                    f"{label}(): An output with one or more elements was resized since it had shape "
                    f"{list(target.shape)}, which does not match the required output shape "
                    f"{list(value.shape)}; give an empty tensor, or one of that shape",
                    stacklevel=3,
                )
            target.resize_(*value.shape)
        target.copy_(value)
    return out


def _tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors_in(value)


def _overlap(a: Any, b: Any) -> bool:
    """Whether two dense windows on memory share a part of it; being the same window is fine."""
    if type(a) is not np.ndarray or type(b) is not np.ndarray:
        return False
    if not (a.flags.c_contiguous and b.flags.c_contiguous and np.may_share_memory(a, b)):
        return False
    return a.ctypes.data != b.ctypes.data or a.nbytes != b.nbytes


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
        if out is None:
            return result
        return written(function.__name__, result, out, (*args, *keywords.values()))

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
