"""How public functions take their arguments: NumPy's keywords, PyTorch's ``out=``, and tensors only."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from inspect import CO_VARARGS, signature, unwrap
from types import FunctionType
from typing import Any, TypeVar

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.memory_format import preserve_format
from nbdl.ops.memory_layout import strided

__all__ = ["numpy_keywords", "offer", "written"]

R = TypeVar("R")

_NUMPY_NAMES = {"dim": "axis", "dims": "axis", "keepdim": "keepdims"}
# Functions that write ``out`` without a cast: it must have the dtype of the result.
_UNCAST = frozenset((
    "addbmm", "addmm", "addmv", "alias_copy", "all", "amax", "amin", "any", "argmax", "argmin",
    "as_strided_copy", "avg_pool2d", "avg_pool3d", "baddbmm", "bitwise_not", "bmm", "bucketize", "ceil",
    "cholesky", "conj_physical", "cross", "cummax", "cummin", "det", "diag", "diagonal_copy", "diff",
    "dot", "eigvalsh", "expand_copy", "float_power", "floor", "frac", "gather", "gelu", "hardshrink",
    "heaviside", "histc", "index_add", "index_copy", "index_reduce", "index_select", "inner", "inv",
    "inverse", "isneginf", "isposinf", "kthvalue", "ldl_solve", "linear", "log_softmax", "logcumsumexp",
    "logsigmoid", "lu_solve", "masked_select", "matmul", "matrix_norm", "median", "mm", "mode", "msort",
    "multinomial", "mv", "nan_to_num", "nanquantile", "narrow_copy", "neg", "nonzero", "norm", "ormqr",
    "permute_copy", "quantile", "renorm", "round", "scatter", "scatter_add", "scatter_reduce",
    "searchsorted", "sgn", "sign", "signbit", "slice_scatter", "softmax", "softplus", "softshrink",
    "solve", "solve_triangular", "sort", "squeeze_copy", "svdvals", "t_copy", "take", "take_along_dim",
    "tensordot", "topk", "transpose_copy", "tril", "triu", "trunc", "unfold_copy", "unsqueeze_copy",
    "vdot", "vecdot", "vector_norm", "view_copy", "where",
))  # fmt: skip


# Functions that accumulate in the dtype of ``out``.
_ACCUMULATED = frozenset(("cumprod", "cumsum", "mean", "nanmean", "nansum", "prod", "sum"))
# Functions whose operands may all be numbers take ``out`` too.
_OF_ANYTHING = frozenset(("abs", "absolute", "isin", "where", "zeta"))
_CONVERT = frozenset(("to", "as_tensor", "asarray"))  # they make a tensor of another dtype or device


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
    ``out=``, see :func:`written`; those that make tensors, see :func:`_creating`.

    Args:
        namespace: of a module or a class; names that begin with an underscore stay.
        skip: parameters at the front that are known to be tensors (1 for methods, which have no ``out``).
    """
    for name, value in namespace.items():
        if isinstance(value, FunctionType) and not name.startswith("_"):
            annotated = [(key, value.__annotations__.get(key, "")) for key in _parameters(value)[skip:]]
            tensors = frozenset(key for key, kind in annotated if kind == "Tensor")
            kinds = [kind for _, kind in annotated if isinstance(kind, str)]
            creates = {"dtype", "device"}.issubset(_parameters(value)) and name not in _CONVERT
            if tensors or (
                not skip
                and (
                    name in _OF_ANYTHING or "_polynomial_" in name or any("Tensor" in kind for kind in kinds)
                )
            ):
                value = namespace[name] = _offered(value, tensors, takes_out=not (skip or creates))
            if creates:
                namespace[name] = _creating(value, takes_out=not skip)


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
        if (label in _UNCAST or label in _ACCUMULATED) and value.dtype != target.dtype:
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
        if isinstance(out, Tensor) and function.__name__ in _ACCUMULATED:
            keywords.setdefault("dtype", out.dtype)
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


def _creating(function: Callable[..., Any], takes_out: bool) -> Callable[..., Any]:
    """Lets a function that makes tensors take the rest of PyTorch's keywords.

    These are ``layout`` (strided only), ``memory_format`` and ``pin_memory``; ``size`` for sizes that stand
    one by one; and ``out``, whose dtype and device are those of the result.

    Raises:
        TypeError: At the call, for another layout.
        RuntimeError: At the call, for a ``dtype`` that is not that of ``out``.
    """
    known = frozenset(_parameters(function))
    name, several = function.__name__, bool(unwrap(function).__code__.co_flags & CO_VARARGS)

    @wraps(function)
    def create(*args: Any, **keywords: Any) -> Any:
        if not keywords or known.issuperset(keywords):
            return function(*args, **keywords)
        form = keywords.pop("layout", None)
        if form is not None and form is not strided:
            raise TypeError(f"{name}(): layout must be nbdl.strided, all tensors are dense; got {form!r}")
        if several and "size" in keywords and "size" not in known:
            args = (*args, keywords.pop("size"))
        pinned, order = keywords.pop("pin_memory", False), keywords.pop("memory_format", preserve_format)
        out = keywords.pop("out", None) if takes_out else None
        if isinstance(out, Tensor):
            from nbdl.ops.copying import as_dtype

            if keywords.get("dtype") is not None and as_dtype(keywords["dtype"]) != out.dtype:
                raise RuntimeError(
                    f"{name}(): dtype {keywords['dtype']} does not match dtype of out parameter ({out.dtype})"
                )
            keywords |= {"dtype": out.dtype, "device": out.device}
        result = function(*args, **keywords)
        if order is not preserve_format:
            result = result.contiguous(memory_format=order)
        if pinned:
            result = result.pin_memory()
        return result if out is None else written(name, result, out)

    return create


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
