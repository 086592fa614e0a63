"""Layers that only move elements: flatten and its inverse, pixel shuffles, sliding blocks."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn.module import Module
from nbdl.nn.settings import settings


class Flatten(Module):
    """Some neighbouring axes as one.

    Args:
        start_dim: the first of them.
        end_dim: the last of them.

    Example:
        >>> import nbdl
        >>> nbdl.nn.Flatten()(nbdl.zeros(32, 3, 5, 5)).shape
        nbdl.Size([32, 75])
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return settings(self, "start_dim", "end_dim")


class Unflatten(Module):
    """One axis as several.

    Args:
        dim: the axis.
        unflattened_size: the sizes it becomes.

    Raises:
        TypeError: the sizes are no tuple or list of integers.

    Example:
        >>> import nbdl
        >>> nbdl.nn.Unflatten(1, (2, 3))(nbdl.zeros(4, 6)).shape
        nbdl.Size([4, 2, 3])
    """

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]):
        super().__init__()
        if not isinstance(unflattened_size, (tuple, list)) or not all(
            isinstance(n, int) for n in unflattened_size
        ):
            raise TypeError(f"Unflatten: unflattened_size must be a tuple of ints, got {unflattened_size!r}")
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return settings(self, "dim", "unflattened_size")


class PixelShuffle(Module):
    """(*, C r^2, H, W) -> (*, C, H r, W r).

    Args:
        upscale_factor: r.

    Source: Shi et al. (2016), Real-time single image and video super-resolution.

    Example:
        >>> import nbdl
        >>> nbdl.nn.PixelShuffle(2)(nbdl.zeros(1, 8, 3, 3)).shape
        nbdl.Size([1, 2, 6, 6])
    """

    def __init__(self, upscale_factor: int):
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return settings(self, "upscale_factor")


class PixelUnshuffle(Module):
    """(*, C, H r, W r) -> (*, C r^2, H, W), the inverse of :class:`PixelShuffle`.

    Args:
        downscale_factor: r.
    """

    def __init__(self, downscale_factor: int):
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return settings(self, "downscale_factor")


class ChannelShuffle(Module):
    """The channels of (N, C, *) as (N, groups, C / groups, *) with these two axes exchanged.

    Args:
        groups: number of groups.
    """

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return settings(self, "groups")


class Unfold(Module):
    """The sliding blocks of images as columns: (N, C, H, W) -> (N, C prod(kernel_size), L).

    Args:
        kernel_size: size of the blocks.
        dilation: step between the elements of a block.
        padding: zeros added on both sides.
        stride: step between the blocks.
    """

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1):
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return settings(self, "kernel_size", "dilation", "padding", "stride")


class Fold(Module):
    """Blocks added up into images, the transpose of :class:`Unfold`.

    Args:
        output_size: size of the images.
        kernel_size: size of the blocks.
        dilation: step between the elements of a block.
        padding: zeros that had been added on both sides.
        stride: step between the blocks.
    """

    def __init__(
        self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ):
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return settings(self, "output_size", "kernel_size", "dilation", "padding", "stride")
