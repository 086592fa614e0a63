"""Padding, and moving elements between channels and space."""

from __future__ import annotations

from collections.abc import Sequence

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.ops import padding
from nbdl.ops.copying import Rearrange

PAD_MODES = ("constant", "reflect", "replicate", "circular")


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(*, C r^2, H, W) to (*, C, H r, W r): channels become pixels (Shi et al. 2016).

    Raises:
        RuntimeError: there are fewer than 3 axes, or the channels are not divisible by r^2.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.pixel_shuffle(nbdl.arange(4.0).reshape(4, 1, 1), 2)
        tensor([[[0., 1.],
                 [2., 3.]]])
    """
    r = upscale_factor
    *batch, channels, height, width = _image("pixel_shuffle", input)
    if r < 1 or channels % (r * r):
        raise RuntimeError(
            "pixel_shuffle: expects its input's 'channel' dimension to be divisible by the square of "
            f"upscale_factor, but input.size(-3)={channels} is not divisible by {r * r}"
        )
    c, n = channels // (r * r), len(batch)
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    shape = (*batch, c, height * r, width * r)
    return apply(Rearrange.of((*batch, c, r, r, height, width), order, shape), input)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(*, C, H r, W r) to (*, C r^2, H, W): the inverse of :func:`pixel_shuffle`.

    Raises:
        RuntimeError: there are fewer than 3 axes, or the sizes are not divisible by r.
    """
    r = downscale_factor
    *batch, channels, height, width = _image("pixel_unshuffle", input)
    if r < 1 or height % r or width % r:
        raise RuntimeError(
            "pixel_unshuffle: expects height and width to be divisible by downscale_factor, but got "
            f"{height} x {width} and downscale_factor={r}"
        )
    n = len(batch)
    split = (*batch, channels, height // r, r, width // r, r)
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    shape = (*batch, channels * r * r, height // r, width // r)
    return apply(Rearrange.of(split, order, shape), input)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """The channels of (N, C, ...) dealt out to ``groups`` in turn (Zhang et al. 2018).

    Raises:
        RuntimeError: the channels are not divisible by the groups.
    """
    shape = input.array.shape
    if len(shape) < 3 or groups < 1 or shape[1] % groups:
        raise RuntimeError(
            f"channel_shuffle: expects an input (N, C, ...) with C divisible by groups={groups}, got "
            f"{list(shape)}"
        )
    split = (shape[0], groups, shape[1] // groups, *shape[2:])
    return apply(Rearrange.of(split, (0, 2, 1, *range(3, len(split))), shape), input)


def _image(label: str, input: Tensor) -> tuple[int, ...]:
    if input.array.ndim < 3:
        raise RuntimeError(
            f"{label}: expects input to have at least 3 dimensions, but got input with {input.array.ndim} "
            "dimension(s)"
        )
    return input.array.shape


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """The last axes made longer, or shorter where a width is negative.

    Args:
        input: the tensor.
        pad: (before, after) of the last axis, then of the one before it, and so on.
        mode: ``constant``, ``reflect``, ``replicate`` or ``circular``.
        value: of the new elements under ``constant``; default 0.

    Raises:
        RuntimeError: the widths do not fit the tensor.
        NotImplementedError: the mode is unknown.
        ValueError: a value is given under another mode than ``constant``.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.pad(nbdl.tensor([1.0, 2.0]), (1, 2))
        tensor([0., 1., 2., 0., 0.])
    """
    if mode not in PAD_MODES:
        raise NotImplementedError(
            f"pad: Unrecognised padding mode {mode!r}; expected one of {', '.join(PAD_MODES)}"
        )
    if mode != "constant" and value is not None:
        raise ValueError(f"pad: Padding mode {mode!r} doesn't take in value argument")
    widths = tuple(pad)
    if len(widths) % 2 or len(widths) > 2 * input.array.ndim:
        raise RuntimeError(
            f"pad: padding must hold two widths for each of at most {input.array.ndim} axes, got "
            f"{len(widths)}: {widths}"
        )
    pairs = [(widths[k], widths[k + 1]) for k in range(0, len(widths), 2)]
    untouched = [(0, 0)] * (input.array.ndim - len(pairs))
    widths_of = [*untouched, *reversed(pairs)]
    if (
        mode == "circular" and min(widths, default=0) < 0
    ):  # what is cut off does not come back on the other side
        input = padding.pad(input, [(min(a, 0), min(b, 0)) for a, b in widths_of])
        widths_of = [(max(a, 0), max(b, 0)) for a, b in widths_of]
    return padding.pad(input, widths_of, mode, 0 if value is None else value)
