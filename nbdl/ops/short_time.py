"""Short-time Fourier transforms: spectra of overlapping windows of a signal, and back."""

from __future__ import annotations

import numpy as np

from nbdl.autograd.tensor import Tensor, made
from nbdl.backend.device import device_of, module_for
from nbdl.formula import dtypes
from nbdl.ops.complex_numbers import view_as_real
from nbdl.ops.fourier import Fourier, FourierReal, FourierRealInverse
from nbdl.ops.index_writing import index_add
from nbdl.ops.layout import unfold
from nbdl.ops.padding import pad, pad_constant
from nbdl.ops.shape import narrow

__all__ = ["istft", "stft"]

_SMALLEST_ENVELOPE = 1e-11  # below it PyTorch refuses to divide


def _window(label: str, x: Tensor, n_fft: int, win_length: int, window: Tensor | None) -> Tensor:
    """The window in the middle of ``n_fft`` zeros."""
    if not 0 < win_length <= n_fft:
        raise RuntimeError(
            f"{label}: expected 0 < win_length <= n_fft={n_fft}, but got win_length={win_length}"
        )
    if window is None:
        window = x.new_ones(win_length, dtype=dtypes.real_of(x.dtype))
    elif tuple(window.array.shape) != (win_length,):
        raise RuntimeError(
            f"{label}: expected a 1D window tensor of size equal to win_length={win_length}, but got window "
            f"with size {list(window.shape)}"
        )
    before = (n_fft - win_length) // 2
    return pad_constant(window, [(before, n_fft - win_length - before)])


def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
) -> Tensor:
    """The discrete Fourier transforms of windows that slide along a signal.

    Args:
        input: (length,) or (batch, length), real or complex.
        n_fft: length of the transforms.
        hop_length: how far a window is from the one before; default ``n_fft // 4``.
        win_length: length of the window, centred in ``n_fft`` zeros; default ``n_fft``.
        window: the factors, (win_length,); default: ones.
        center: continue the signal on both sides, so that window t is centred at ``t * hop_length``.
        pad_mode: how it is continued: ``reflect``, ``constant``, ``replicate`` or ``circular``.
        normalized: divide by the root of ``n_fft``.
        onesided: only frequencies up to half of the sampling rate; default: if signal and window are real.
        return_complex: complex numbers, not pairs in a last axis; must be said where both are real.

    Returns:
        (batch, frequencies, windows).

    Raises:
        RuntimeError: the lengths do not fit, or ``return_complex`` is not given.

    Example:
        >>> import nbdl
        >>> x = nbdl.sin(nbdl.arange(16) * (nbdl.pi / 2))
        >>> nbdl.stft(x, 4, center=False, return_complex=True).abs().argmax(0)
        tensor([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    """
    hop = n_fft // 4 if hop_length is None else hop_length
    is_complex = input.is_complex() or (window is not None and window.is_complex())
    if return_complex is None:
        if not is_complex:
            raise RuntimeError("stft: requires the return_complex parameter be given for real inputs")
        return_complex = True
    if input.array.ndim not in (1, 2):
        raise RuntimeError(f"stft: expected a 1D or 2D tensor, but got shape {list(input.shape)}")
    if hop <= 0:
        raise RuntimeError(f"stft: expected hop_length > 0, but got hop_length={hop}")
    factors = _window("stft", input, n_fft, n_fft if win_length is None else win_length, window)
    x = input if input.array.ndim == 2 else input.unsqueeze(0)
    if center:
        x = pad(x, [(0, 0), (n_fft // 2, n_fft // 2)], pad_mode)
    if not 0 < n_fft <= x.array.shape[1]:
        raise RuntimeError(f"stft: expected 0 < n_fft <= {x.array.shape[1]}, but got n_fft={n_fft}")
    frames = unfold(x, 1, n_fft, hop) * factors
    norm = "ortho" if normalized else "backward"
    if onesided is None:
        onesided = not is_complex
    if onesided and is_complex:
        raise RuntimeError("stft: Cannot have onesided output if window or input is complex")
    if is_complex:
        spectra = Fourier.of((2,), False, norm)(frames)
    else:
        spectra = (
            FourierReal.of(2, norm)(frames) if onesided else Fourier.of((2,), False, norm)(_complex(frames))
        )
    spectra = spectra.transpose(1, 2)
    if input.array.ndim == 1:
        spectra = spectra.squeeze(0)
    return spectra if return_complex else view_as_real(spectra)


def _complex(x: Tensor) -> Tensor:
    return x if x.is_complex() else x.to(dtypes.complex_of(x.dtype))


def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signal with the given short-time spectra, in the sense of least squares: what undoes :func:`stft`.

    The inverse transforms are multiplied by the window, added up where they overlap, and divided by the sum
    of the squared windows (Griffin and Lim 1984, equation 6).

    Args:
        input: complex, (frequencies, windows) or (batch, frequencies, windows).
        n_fft: as given to :func:`stft`, like the following ones.
        hop_length: distance of windows.
        win_length: length of the window.
        window: the factors.
        center: whether the signal had been continued on both sides.
        normalized: whether the spectra are divided by the root of ``n_fft``.
        onesided: whether there are ``n_fft // 2 + 1`` frequencies; default: if that is their number.
        length: of the signal, which is cut or filled with zeros.
        return_complex: a complex signal.

    Returns:
        (length,) or (batch, length).

    Raises:
        RuntimeError: the sizes do not fit, the spectra are not complex, some element lies in no window, or
            the window is complex, but not the signal.

    Example:
        >>> import nbdl
        >>> x, window = nbdl.arange(12.0), nbdl.hann_window(4)
        >>> nbdl.istft(nbdl.stft(x, 4, window=window, return_complex=True), 4, window=window)[:5]
        tensor([0., 1., 2., 3., 4.])
    """
    hop = n_fft // 4 if hop_length is None else hop_length
    if not input.is_complex():
        raise RuntimeError("istft: requires a complex-valued input tensor matching the output from stft")
    if input.array.ndim not in (2, 3) or input.array.size == 0:
        raise RuntimeError(
            f"istft: expected a tensor with 2 or 3 dimensions, not empty, but got shape {list(input.shape)}"
        )
    if window is not None and window.is_complex() and not return_complex:
        raise RuntimeError(
            f"istft: a complex window ({window.dtype}) is incompatible with return_complex=False"
        )
    x = (input if input.array.ndim == 3 else input.unsqueeze(0)).transpose(1, 2)
    frequencies = x.array.shape[2]
    if onesided is None:
        onesided = not return_complex and frequencies != n_fft
    if return_complex and onesided:
        raise RuntimeError("istft: cannot have onesided output if window or input is complex")
    expected = n_fft // 2 + 1 if onesided else n_fft
    if frequencies != expected:
        raise RuntimeError(
            f"istft: expected the frequency dimension (3rd to the last) of the input tensor to match "
            f"n_fft // 2 + 1 when onesided, or n_fft: {expected}, but got {frequencies}"
        )
    length_of_window = n_fft if win_length is None else win_length
    if not 0 < hop <= length_of_window:
        raise RuntimeError(f"istft: expected 0 < hop_length <= win_length={length_of_window}, but got {hop}")
    factors = _window("istft", input, n_fft, length_of_window, window)
    norm = "ortho" if normalized else "backward"
    if not return_complex:  # the other half of the frequencies belongs to the same real signal
        x = narrow(x, 2, 0, n_fft // 2 + 1)
        frames = FourierRealInverse.of(2, n_fft, norm)(x)
    else:
        frames = Fourier.of((2,), True, norm)(x)
    count = x.array.shape[1]
    total = n_fft + hop * (count - 1)
    places = np.arange(count)[:, None] * hop + np.arange(n_fft)
    index = made(module_for(device_of(x.array)).asarray(places.reshape(-1)))
    start = n_fft // 2 if center else 0
    end = total - start if length is None else min(start + length, total)
    signal = _overlapped(frames * factors, total, index)[:, start:end]
    envelope = _overlapped(factors.square().expand(1, count, n_fft), total, index)[:, start:end]
    if envelope.abs().min().item() < _SMALLEST_ENVELOPE:
        raise RuntimeError("istft: window overlap add min: 1; some elements of the signal lie in no window")
    signal = signal / envelope
    if length is not None and signal.array.shape[1] < length:
        signal = pad_constant(signal, [(0, 0), (0, length - signal.array.shape[1])])
    return signal if input.array.ndim == 3 else signal.squeeze(0)


def _overlapped(frames: Tensor, length: int, index: Tensor) -> Tensor:
    """The frames added up at the places where they lie."""
    batch = frames.array.shape[0]
    return index_add(frames.new_zeros(batch, length), 1, index, frames.reshape(batch, -1))
