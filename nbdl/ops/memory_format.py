"""The orders of elements in memory that PyTorch has names for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbdl.ops.primitive import inverse_permutation

if TYPE_CHECKING:
    from nbdl.autograd.tensor import Tensor

__all__ = ["channels_last", "channels_last_3d", "contiguous_format", "memory_format", "preserve_format"]


class memory_format:
    """An order of elements in memory.

    Attributes:
        order: the axes from the outermost to the innermost; None: those of the tensor as they are.
    """

    def __init__(self, name: str, order: tuple[int, ...] | None = None):
        self.name, self.order = name, order

    def __repr__(self) -> str:
        return f"nbdl.{self.name}"


contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last", (0, 2, 3, 1))
channels_last_3d = memory_format("channels_last_3d", (0, 2, 3, 4, 1))


def is_arranged(x: Tensor, form: memory_format) -> bool:
    """Whether the elements lie in memory in that order."""
    if form.order is None:
        return bool(x.array.flags.c_contiguous)
    return len(form.order) == x.array.ndim and bool(x.array.transpose(form.order).flags.c_contiguous)


def arranged(label: str, x: Tensor, form: memory_format) -> Tensor:
    """``x`` itself if its elements lie in that order, else such a copy.

    Raises:
        TypeError: ``form`` is no memory format.
        RuntimeError: the tensor has not as many axes as the format.
    """
    if not isinstance(form, memory_format):
        raise TypeError(f"{label}: memory_format must be one of nbdl.channels_last, ..., got {form!r}")
    if form is preserve_format or is_arranged(x, form):
        return x
    if form.order is None:
        return x.contiguous()
    if len(form.order) != x.array.ndim:
        raise RuntimeError(
            f"{label}: required rank {len(form.order)} tensor to use {form!r} format, got shape "
            f"{list(x.shape)}"
        )
    return x.permute(form.order).contiguous().permute(inverse_permutation(form.order))
