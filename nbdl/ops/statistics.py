"""Statistics composed of reductions: logsumexp, variance, norms, counts."""

from __future__ import annotations

import builtins
import math
from typing import Any, NamedTuple

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, dtypes
from nbdl.formula.functions import abs as absolute
from nbdl.formula.functions import equal, exp, isfinite, isnan, log, pow, sqrt, square, where
from nbdl.ops.complex_numbers import complex, imag, real
from nbdl.ops.drawing import is_everywhere
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.pointwise import call, scalar
from nbdl.ops.primitive import normalize_axes
from nbdl.ops.reduction import IDENTITY, SQUARED_DIFFERENCE, Reduce, amax, amin, sum
from nbdl.ops.shape import reshape

__all__ = [
    "aminmax", "corrcoef", "count_nonzero", "cov", "logsumexp", "nanmean", "nansum", "norm", "renorm", "std",
    "std_mean", "var", "var_mean",
]  # fmt: skip

_FINITE_OR_ZERO = Formula("finite_or_zero", lambda x: where(isfinite(x), x, 0), 1)
_EXP_SHIFTED = Formula("exp_shifted", lambda x, shift: exp(x - shift), 2)
# The logarithm of a sum of exp(x - shift), put back. A sum of 0 (all x = -inf) gives -inf with a derivative
# of 0.
_LOG_SHIFTED = Formula("logsumexp", lambda total, top: where(equal(total, 0), top, log(total) + top), 2)
_SQUARE = Formula("square", square, 1)
_ABS = Formula("abs", absolute, 1)
_ABS_POWER = Formula("abs_power", lambda x, p: where(equal(x, 0), 0, pow(absolute(x), p)), 2)
_NONZERO = Formula("nonzero", lambda x: where(equal(x, 0), 0, 1), 1)
_ZERO_IF_NAN = Formula("zero_if_nan", lambda x: where(isnan(x), 0, x), 1)
_ONE_IF_NUMBER = Formula("one_if_number", lambda x: where(isnan(x), 0, 1), 1)
# Roots with a derivative of 0 at 0, where variances and norms have a minimum.
_ROOT = Formula("root", lambda x: where(equal(x, 0), 0, sqrt(x)), 1)
_POWER_ROOT = Formula("power_root", lambda x, p: where(equal(x, 0), 0, pow(x, p)), 2)


def _reduced(
    formula: Formula, x: Tensor, axes: tuple[int, ...], keepdim: bool, *others: Any, weak: int = 0
) -> Tensor:
    """The sum of a formula over some axes, in one loop."""
    return apply(Reduce.of(formula, "sum", axes, keepdim, weak), x, *others)


def _axes_of(label: str, x: Tensor, dim: Any, axis: Any) -> tuple[int, ...]:
    if dim is not None and axis is not None:
        raise TypeError(f"{label}: give dim or axis, not both")
    return normalize_axes(label, axis if dim is None else dim, x.array.ndim)


def _require_floats(label: str, x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{label}: argument 1 must be a tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise RuntimeError(f"{label}: only supports floating point tensors, got {x.dtype}")


def _dropped(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """``x`` without ``axes``, which have length 1, unless they are kept."""
    if keepdim:
        return x
    return reshape(x, tuple([n for axis, n in enumerate(x.array.shape) if axis not in axes]))


def logsumexp(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool | None = None
) -> Tensor:
    """log(sum(exp(x))) over ``dim`` without overflow; -inf, with a gradient of 0, where all are -inf.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([1000.0, 1000.0]).logsumexp(0)
        tensor(1000.6932)
    """
    axes, keep = _axes_of("logsumexp", input, dim, axis), keepdim if keepdims is None else keepdims
    if input.is_complex():
        shift = call(_FINITE_OR_ZERO, amax(real(input.detach()), axes, keepdim=True))
        return _dropped((input - shift).exp().sum(axes, True).log() + shift, axes, keep)
    if not input.is_floating_point():
        input = input.to(dtypes.get_default_dtype())
    if builtins.any(input.array.shape[k] == 0 for k in axes):  # no largest element to shift by
        return input.exp().sum(axes, keep).log()
    top = amax(input.detach(), axes, keepdim=True)
    total = _reduced(_EXP_SHIFTED, input, axes, True, call(_FINITE_OR_ZERO, top))
    return _dropped(call(_LOG_SHIFTED, total, top), axes, keep)


def _correction(label: str, unbiased: bool | None, correction: float | None) -> float:
    if unbiased is not None and correction is not None:
        raise TypeError(f"{label}: give unbiased or correction, not both")
    return (1 if correction is None else correction) if unbiased is None else int(unbiased)


def var_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Variance and mean over ``dim``, see :func:`var`."""
    if isinstance(dim, bool):  # var(x, unbiased)
        dim, unbiased = None, dim
    if isinstance(input, Tensor) and input.is_complex():  # the mean square of the distances from the mean
        (a, mean_a), (b, mean_b) = (
            var_mean(part, dim, unbiased, keepdim, correction=correction, axis=axis, keepdims=keepdims)
            for part in (real(input), imag(input))
        )
        return a + b, complex(mean_a, mean_b)
    _require_floats("var", input)
    axes, keep = _axes_of("var", input, dim, axis), keepdim if keepdims is None else keepdims
    mean = input.mean(axes, keepdim=True) if axes else input
    count = math.prod([input.array.shape[k] for k in axes])
    freedom = builtins.max(0.0, count - _correction("var", unbiased, correction))
    variance = _reduced(SQUARED_DIFFERENCE, input, axes, True, mean) / freedom
    return _dropped(variance, axes, keep), _dropped(mean, axes, keep)


def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """Variance over ``dim``: the mean first, then the squared distances from it.

    Args:
        input: floating tensor.
        dim: axes; None: all.
        unbiased: divide by n - 1 (default) or by n.
        keepdim: leave the axes with length 1.
        correction: divide by n - correction instead.
        axis: another name of ``dim``.
        keepdims: another name of ``keepdim``.

    Raises:
        RuntimeError: the elements are not floats.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([1.0, 2.0, 3.0]).var(correction=0)
        tensor(0.6667)
    """
    return var_mean(input, dim, unbiased, keepdim, correction=correction, axis=axis, keepdims=keepdims)[0]


def std(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """Standard deviation over ``dim``, see :func:`var`; its gradient is 0 where it is 0.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([1.0, 2.0, 3.0]).std()
        tensor(1.)
    """
    return call(
        _ROOT, var(input, dim, unbiased, keepdim, correction=correction, axis=axis, keepdims=keepdims)
    )


def std_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean over ``dim``, see :func:`var`."""
    variance, mean = var_mean(
        input, dim, unbiased, keepdim, correction=correction, axis=axis, keepdims=keepdims
    )
    return call(_ROOT, variance), mean


def norm(
    input: Tensor,
    p: float | str = 2,
    dim: Any = None,
    keepdim: bool = False,
    dtype: Any = None,
    *,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The p-norm of the elements over ``dim``, as of one vector; its gradient is 0 where it is 0.

    Args:
        input: floating tensor.
        p: order; ``fro`` is 2; inf and -inf give the largest and smallest absolute value; 0 counts what is
            not 0.
        dim: axes; None: all.
        keepdim: leave the axes with length 1.
        dtype: cast to it before.
        axis: another name of ``dim``.
        keepdims: another name of ``keepdim``.

    Raises:
        RuntimeError: the elements are not floats.
        ValueError: ``p`` is no number and not ``fro``.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([3.0, 4.0]).norm()
        tensor(5.)
    """
    if dtype is not None:
        input = input.to(dtype)
    if p == "nuc":
        from nbdl.ops.matrix_aliases import nuclear_norm  # which stands above

        return nuclear_norm(input, axis if dim is None else dim, keepdim if keepdims is None else keepdims)
    if isinstance(input, Tensor) and input.is_complex():
        input = input.abs()
    _require_floats("norm", input)
    if isinstance(p, str) and p != "fro":
        raise ValueError(f"norm: p must be a number, 'fro' or 'nuc', got {p!r}")
    order = 2.0 if p == "fro" else float(p)
    axes, keep = _axes_of("norm", input, dim, axis), keepdim if keepdims is None else keepdims
    if math.isinf(order):
        return (amax if order > 0 else amin)(call(_ABS, input), axes or None, keep)
    if order == 0:
        return _reduced(_NONZERO, input, axes, keep)
    if order == 1:
        return _reduced(_ABS, input, axes, keep)
    if order == 2:
        return call(_ROOT, _reduced(_SQUARE, input, axes, keep))
    return call(_POWER_ROOT, _reduced(_ABS_POWER, input, axes, keep, scalar(order), weak=2), 1 / order)


def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None
) -> Tensor:
    """The covariance matrix of variables, one a row, of which the columns are observations.

    Args:
        input: (variables, observations), or one variable's observations.
        correction: the sum of weights less it divides.
        fweights: how often each observation counts, integers.
        aweights: how much each observation counts, floats.

    Raises:
        RuntimeError: more than 2 axes, bools, or weights that do not fit.

    Example:
        >>> import nbdl
        >>> nbdl.cov(nbdl.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]))
        tensor([[ 1., -1.],
                [-1.,  1.]])
    """
    if input.array.ndim > 2:
        raise RuntimeError(f"cov: expected input to have two or fewer dimensions but got {input.array.ndim}")
    if input.dtype == dtypes.BOOL:
        raise RuntimeError("cov: bool dtype is not supported for input")
    x = input if input.array.ndim == 2 else input.reshape(1, -1)
    if dtypes.category(x.dtype) < 2:
        x = x.to(dtypes.get_default_dtype())
    count = x.array.shape[1]
    weights = None
    for label, given, kinds in (("fweights", fweights, "iu"), ("aweights", aweights, "f")):
        if given is not None:
            if tuple(given.array.shape) != (count,) or given.dtype.kind not in kinds:
                raise RuntimeError(
                    f"cov: {label} must be {'integers' if kinds == 'iu' else 'floats'} of shape ({count},), "
                    f"got {given.dtype} of shape {tuple(given.array.shape)}"
                )
            if not is_everywhere(given >= 0):
                raise RuntimeError(f"cov: {label} cannot be negative")
            weights = given if weights is None else weights * given
    if weights is None:
        total: Any = count
        centred = weighted = x - x.mean(1, keepdim=True)
    else:
        total = weights.sum()
        centred = x - (x * weights).sum(1, keepdim=True) / total
        weighted = centred * weights
    if aweights is not None and correction:
        total = total - correction * (weights * aweights).sum() / total
    else:
        total = total - correction
    freedom = builtins.max(total, 0) if weights is None else total.clamp(min=0)
    # 0-d for one variable, as the variance is
    return (weighted @ centred.conj().transpose(0, 1) / freedom).squeeze()


def corrcoef(input: Tensor) -> Tensor:
    """Pearson's correlation coefficients of variables, one a row, in [-1, 1]; a number for one variable.

    Raises:
        RuntimeError: more than 2 axes, or bools.
    """
    if input.array.ndim > 2:
        raise RuntimeError(
            f"corrcoef: expected input to have two or fewer dimensions but got {input.array.ndim}"
        )
    covariance = cov(input)
    if covariance.array.ndim == 0:
        return covariance / covariance
    deviations = covariance.diagonal().real.sqrt()
    result = covariance / deviations.unsqueeze(1) / deviations.unsqueeze(0)
    if result.is_complex():
        return result
    return result.clamp(-1, 1)


_SHRUNK = Formula("renorm", lambda size, most: where(size > most, most / (size + 1e-7), 1), 2)


@numpy_keywords
def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """The slices along ``dim``, those with a p-norm above ``maxnorm`` scaled down to it.

    Raises:
        RuntimeError: fewer than 2 axes, or a negative ``maxnorm`` or not positive ``p``.
        IndexError: the axis is out of range.
    """
    if input.array.ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {input.array.ndim} dimensions")
    if p <= 0 or maxnorm < 0:
        raise RuntimeError(f"renorm: expected p > 0 and maxnorm >= 0, got {p} and {maxnorm}")
    axis = normalize_axes("renorm", dim, input.array.ndim)[0]
    others = tuple([k for k in range(input.array.ndim) if k != axis])
    size = norm(input.abs() if input.is_complex() else input, p, others, True)
    return input * call(_SHRUNK, size, maxnorm)


def count_nonzero(input: Tensor, dim: Any = None, *, axis: Any = None) -> Tensor:
    """How many elements over ``dim`` are not zero, int64."""
    return sum(input.detach().ne(0), _axes_of("count_nonzero", input, dim, axis))


class MinMax(NamedTuple):
    """Both extrema."""

    min: Tensor
    max: Tensor


@numpy_keywords
def aminmax(
    input: Tensor, *, dim: int | None = None, keepdim: bool = False, axis: int | None = None
) -> MinMax:
    """The smallest and the largest element over ``dim``; ties share the gradient, NaN wins.

    Raises:
        IndexError: ``dim`` is out of range, or has no elements.
        RuntimeError: a tensor without elements, and no ``dim``.
    """
    axes = _axes_of("aminmax", input, dim, axis)
    if not input.array.size and any(input.array.shape[k] == 0 for k in axes):
        if dim is None and axis is None:
            raise RuntimeError(f"aminmax: a tensor without elements has none; shape {tuple(input.shape)}")
        raise IndexError(
            f"aminmax: expected dimension {axes[0]} to have elements, got shape {tuple(input.shape)}"
        )
    return MinMax(amin(input, axes, keepdim), amax(input, axes, keepdim))


def nansum(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """Sum over ``dim`` of the elements that are not NaN."""
    if dtype is not None:
        input = input.to(dtype)
    formula = _ZERO_IF_NAN if input.is_floating_point() else IDENTITY
    return _reduced(
        formula, input, _axes_of("nansum", input, dim, axis), keepdim if keepdims is None else keepdims
    )


def nanmean(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """Mean over ``dim`` of the elements that are not NaN; NaN where there are none.

    Raises:
        RuntimeError: the elements are not floats.
    """
    if dtype is not None:
        input = input.to(dtype)
    _require_floats("nanmean", input)
    axes, keep = _axes_of("nanmean", input, dim, axis), keepdim if keepdims is None else keepdims
    return _reduced(_ZERO_IF_NAN, input, axes, keep) / _reduced(_ONE_IF_NUMBER, input.detach(), axes, keep)
