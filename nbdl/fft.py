"""Discrete Fourier transforms, as ``torch.fft``: differentiable, in single and double precision.

Example:
    >>> import nbdl
    >>> nbdl.fft.rfft(nbdl.tensor([1.0, 0.0, -1.0, 0.0])).real
    tensor([0., 2., 0.])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.creation import arange
from nbdl.ops.fourier import ADJOINT_NORM, Fourier, FourierReal, FourierRealInverse
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.keywords import offer as _offer
from nbdl.ops.padding import pad_constant
from nbdl.ops.primitive import normalize_axis
from nbdl.ops.rearranging import roll

__all__ = [
    "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "hfft2", "hfftn", "ifft", "ifft2", "ifftn",
    "ifftshift", "ihfft", "ihfft2", "ihfftn", "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq",
    "rfftn",
]  # fmt: skip

Axes = int | Sequence[int] | None


# --------------------------------------------------------------------------------------------- one axis
@numpy_keywords
def fft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The transform sum_j x_j exp(-2 pi i j k / n) over one axis.

    Args:
        input: real or complex.
        n: length of the axis: cut, or padded with zeros, before; None: as it is.
        dim: the axis.
        norm: ``backward`` (None): as above; ``ortho``: divided by sqrt(n); ``forward``: divided by n.

    Returns:
        Complex, of the shape of the input but for ``n``.

    Raises:
        RuntimeError: half precision, ``n`` below 1, or another ``norm``.
        IndexError: the axis is out of range.

    Example:
        >>> import nbdl
        >>> nbdl.fft.fft(nbdl.tensor([1.0, 2.0, 3.0, 2.0]))
        tensor([ 8.+0.j, -2.+0.j,  0.+0.j, -2.+0.j])
    """
    return _complex_transform("fft", input, n, dim, norm, False)


@numpy_keywords
def ifft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of :func:`fft`: divided by n unless ``norm`` says otherwise.

    Raises:
        RuntimeError: as :func:`fft`.
        IndexError: the axis is out of range.
    """
    return _complex_transform("ifft", input, n, dim, norm, True)


@numpy_keywords
def rfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """:func:`fft` of real numbers without the negative frequencies, which are the conjugates of others.

    Returns:
        Complex, with n // 2 + 1 elements along the axis.

    Raises:
        RuntimeError: complex input, or as :func:`fft`.
        IndexError: the axis is out of range.
    """
    return _to_half("rfft", input, None if n is None else (n,), (dim,), _norm("rfft", norm))


@numpy_keywords
def irfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of :func:`rfft`.

    Args:
        input: half of the frequencies, complex or real.
        n: length of the result along the axis; None: the even one, 2 * (size - 1).
        dim: the axis.
        norm: as for :func:`fft`; ``backward`` divides by n.

    Raises:
        RuntimeError: as :func:`fft`.
        IndexError: the axis is out of range.
    """
    return _from_half("irfft", input, None if n is None else (n,), (dim,), _norm("irfft", norm))


@numpy_keywords
def hfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """:func:`fft` of a Hermitian signal, of which the half that is not negative is given; the result is real.

    Raises:
        RuntimeError: as :func:`fft`.
        IndexError: the axis is out of range.
    """
    return _from_half(
        "hfft", input.conj(), None if n is None else (n,), (dim,), ADJOINT_NORM[_norm("hfft", norm)]
    )


@numpy_keywords
def ihfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of :func:`hfft`: half of a Hermitian signal from its real transform.

    Raises:
        RuntimeError: complex input, or as :func:`fft`.
        IndexError: the axis is out of range.
    """
    return _to_half(
        "ihfft", input, None if n is None else (n,), (dim,), ADJOINT_NORM[_norm("ihfft", norm)]
    ).conj()


# --------------------------------------------------------------------------------------------- several axes
@numpy_keywords
def fft2(
    input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None
) -> Tensor:
    """:func:`fftn` over two axes, by default the last ones."""
    return fftn(input, s, dim, norm)


@numpy_keywords
def ifft2(
    input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None
) -> Tensor:
    """:func:`ifftn` over two axes, by default the last ones."""
    return ifftn(input, s, dim, norm)


@numpy_keywords
def rfft2(
    input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None
) -> Tensor:
    """:func:`rfftn` over two axes, by default the last ones."""
    return rfftn(input, s, dim, norm)


@numpy_keywords
def irfft2(
    input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None
) -> Tensor:
    """:func:`irfftn` over two axes, by default the last ones."""
    return irfftn(input, s, dim, norm)


@numpy_keywords
def hfft2(
    input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None
) -> Tensor:
    """:func:`hfftn` over two axes, by default the last ones."""
    return hfftn(input, s, dim, norm)


@numpy_keywords
def ihfft2(
    input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None
) -> Tensor:
    """:func:`ihfftn` over two axes, by default the last ones."""
    return ihfftn(input, s, dim, norm)


@numpy_keywords
def fftn(input: Tensor, s: Sequence[int] | None = None, dim: Axes = None, norm: str | None = None) -> Tensor:
    """The transform over several axes.

    Args:
        input: real or complex.
        s: lengths of the axes: cut, or padded with zeros, before; -1 or None: as they are.
        dim: the axes; None: the last ones as ``s`` has entries, or all.
        norm: ``backward`` (None), ``ortho`` or ``forward``, n being the number of transformed elements.

    Raises:
        RuntimeError: as :func:`fft`, or an axis is given twice, or ``s`` and ``dim`` differ in length.
        IndexError: an axis is out of range.
    """
    return _complex_transform("fftn", input, s, dim, norm, False)


@numpy_keywords
def ifftn(input: Tensor, s: Sequence[int] | None = None, dim: Axes = None, norm: str | None = None) -> Tensor:
    """The inverse of :func:`fftn`."""
    return _complex_transform("ifftn", input, s, dim, norm, True)


@numpy_keywords
def rfftn(input: Tensor, s: Sequence[int] | None = None, dim: Axes = None, norm: str | None = None) -> Tensor:
    """:func:`rfft` over the last of the axes, :func:`fft` over the others.

    Raises:
        RuntimeError: complex input, or as :func:`fftn`.
        IndexError: an axis is out of range.
    """
    return _to_half("rfftn", input, s, dim, _norm("rfftn", norm))


@numpy_keywords
def irfftn(
    input: Tensor, s: Sequence[int] | None = None, dim: Axes = None, norm: str | None = None
) -> Tensor:
    """The inverse of :func:`rfftn`; the last entry of ``s`` is the length of the last axis in the result.

    Raises:
        RuntimeError: as :func:`fftn`.
        IndexError: an axis is out of range.
    """
    return _from_half("irfftn", input, s, dim, _norm("irfftn", norm))


@numpy_keywords
def hfftn(input: Tensor, s: Sequence[int] | None = None, dim: Axes = None, norm: str | None = None) -> Tensor:
    """The real transform of a signal that is Hermitian, its half along the last axis being given.

    It is the inverse transform of the conjugates, divided as the forward one.

    Raises:
        RuntimeError: as :func:`fftn`.
        IndexError: an axis is out of range.
    """
    return _from_half("hfftn", input.conj(), s, dim, ADJOINT_NORM[_norm("hfftn", norm)])


@numpy_keywords
def ihfftn(
    input: Tensor, s: Sequence[int] | None = None, dim: Axes = None, norm: str | None = None
) -> Tensor:
    """The inverse of :func:`hfftn`: half of the signal.

    Raises:
        RuntimeError: complex input, or as :func:`fftn`.
        IndexError: an axis is out of range.
    """
    return _to_half("ihfftn", input, s, dim, ADJOINT_NORM[_norm("ihfftn", norm)]).conj()


# --------------------------------------------------------------------------------------------- frequencies
def fftfreq(
    n: int, d: float = 1.0, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """The frequencies of :func:`fft`: 0, 1, ..., -2, -1 over n * d.

    Args:
        n: number of points.
        d: distance between them.
        dtype: default: the default dtype.
        device: where the result is made.
        requires_grad: whether gradients shall flow to it.
    """
    order = (arange(n, dtype="float64", device=device) + n // 2) % n - n // 2
    return _frequencies(order, n * d, dtype, requires_grad)


def rfftfreq(
    n: int, d: float = 1.0, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """The frequencies of :func:`rfft`: 0, 1, ..., n // 2 over n * d; arguments as for :func:`fftfreq`."""
    return _frequencies(arange(n // 2 + 1, dtype="float64", device=device), n * d, dtype, requires_grad)


def _frequencies(order: Tensor, length: float, dtype: Any, requires_grad: bool) -> Tensor:
    result = (order / length).to(dtypes.get_default_dtype() if dtype is None else dtype)
    return result.requires_grad_() if requires_grad else result


@numpy_keywords
def fftshift(input: Tensor, dim: Axes = None) -> Tensor:
    """Frequency 0 moved to the middle of the axes (None: all)."""
    return _shifted(input, dim, 1)


@numpy_keywords
def ifftshift(input: Tensor, dim: Axes = None) -> Tensor:
    """The inverse of :func:`fftshift`."""
    return _shifted(input, dim, -1)


def _shifted(x: Tensor, dim: Axes, direction: int) -> Tensor:
    axes = tuple(range(x.array.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    # n // 2 forward; the shift back of an odd length is rounded the other way.
    return roll(x, tuple([direction * (x.array.shape[axis] // 2) for axis in axes]), axes) if axes else x


# --------------------------------------------------------------------------------------------- arguments
def _to_half(label: str, input: Tensor, s: Any, dim: Axes, mode: str) -> Tensor:
    """The transform of real numbers, half of the frequencies of the last axis."""
    x, axes, sizes = _prepared(label, input, s, dim)
    if x.is_complex():
        raise RuntimeError(f"{label}: expects a real input tensor, but got {input.dtype}")
    half = FourierReal.of(axes[-1], mode)(_resized(x, axes, sizes))
    return Fourier.of(axes[:-1], False, mode)(half) if axes[:-1] else half


def _from_half(label: str, input: Tensor, s: Any, dim: Axes, mode: str) -> Tensor:
    """The real numbers that have these frequencies, half of them along the last axis."""
    x, axes, sizes = _prepared(label, input, s, dim, half=True)
    half = _resized(_as_complex(x), axes, (*sizes[:-1], sizes[-1] // 2 + 1))
    if axes[:-1]:
        half = Fourier.of(axes[:-1], True, mode)(half)
    return FourierRealInverse.of(axes[-1], sizes[-1], mode)(half)


def _complex_transform(
    label: str, input: Tensor, s: Any, dim: Axes, norm: str | None, inverse: bool
) -> Tensor:
    mode = _norm(label, norm)
    if isinstance(dim, int):
        s = None if s is None else (s,)
    x, axes, sizes = _prepared(label, input, s, dim)
    x = _as_complex(_resized(x, axes, sizes))
    return Fourier.of(axes, inverse, mode)(x) if axes else x


def _norm(label: str, norm: str | None) -> str:
    if norm is None:
        return "backward"
    if norm not in ADJOINT_NORM:
        raise RuntimeError(f"{label}: norm must be None, 'backward', 'ortho' or 'forward', got {norm!r}")
    return norm


def _as_complex(x: Tensor) -> Tensor:
    return x if x.is_complex() else x.to(dtypes.complex_of(x.dtype))


def _prepared(
    label: str, input: Tensor, s: Any, dim: Axes, half: bool = False
) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """The operand in a dtype that is transformed, the axes counted from the front, and their lengths.

    ``half``: of the last axis only half of the frequencies are given; its length is that of the result.
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"{label}: argument 1 must be a tensor, got {type(input).__name__}")
    if dtypes.arithmetic_dtype(input.dtype) != input.dtype:
        raise RuntimeError(f"{label}: unsupported dtype {input.dtype}; use float32 or float64")
    x = input if input.is_complex() or input.is_floating_point() else input.to(dtypes.get_default_dtype())
    rank = x.array.ndim
    if dim is None:
        count = rank if s is None else len(s)
        if count > rank:
            raise RuntimeError(f"{label}: got shape with {count} values but the input has {rank} axes")
        axes = tuple(range(rank - count, rank))
    else:
        axes = tuple(
            [normalize_axis(label, axis, rank) for axis in ((dim,) if isinstance(dim, int) else dim)]
        )
    if len(set(axes)) < len(axes):
        raise RuntimeError(f"{label}: dims must be unique, got {dim}")
    if half and not axes:
        raise RuntimeError(f"{label}: at least one axis must be transformed")
    given = (-1,) * len(axes) if s is None else tuple(s)
    if len(given) != len(axes):
        raise RuntimeError(f"{label}: when given, dim and shape arguments must have the same length")
    sizes = [x.array.shape[axis] if n == -1 else n for n, axis in zip(given, axes, strict=True)]
    if half and given[-1] == -1:
        sizes[-1] = 2 * (sizes[-1] - 1)
    if min(sizes, default=1) < 1:
        raise RuntimeError(f"{label}: Invalid number of data points ({min(sizes)}) specified")
    return x, axes, tuple(sizes)


def _resized(x: Tensor, axes: tuple[int, ...], sizes: Sequence[int]) -> Tensor:
    """``x`` cut, or padded with zeros at the end, to the given lengths."""
    shape = x.array.shape
    if all(shape[axis] == n for axis, n in zip(axes, sizes, strict=True)):
        return x
    widths = [(0, 0)] * len(shape)
    for axis, n in zip(axes, sizes, strict=True):
        size = x.array.shape[axis]
        if n < size:
            x = x.narrow(axis, 0, n)
        widths[axis] = (0, max(0, n - size))
    return pad_constant(x, widths) if any(after for _, after in widths) else x


_offer(globals())
