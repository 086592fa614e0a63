"""Copies on NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbdl.ops.primitive import View


class Copying:
    """Copying primitives; they need nothing but methods that CuPy arrays have as well."""

    xp: Any

    def copy(self, x: Any, *, order: str, out: Any = None) -> Any:
        """Fresh memory; ``order`` ``C`` (row-major) or ``K`` (as it is)."""
        if out is not None:
            out[...] = x
            return out
        return x.copy(order)

    def rearrange(
        self,
        x: Any,
        *,
        split: tuple[int, ...],
        axes: tuple[int, ...],
        shape: tuple[int, ...],
        out: Any = None,
    ) -> Any:
        """Fresh memory of ``shape`` with the elements of x, split into more axes, in the order ``axes``."""
        moved = x.reshape(split).transpose(axes)
        if out is not None:
            out[...] = moved.reshape(shape)
            return out
        return moved.copy("C").reshape(shape)

    def view_scatter(
        self, x: Any, *, views: tuple[View, ...], shape: tuple[int, ...], out: Any = None
    ) -> Any:
        """``x`` in the window that ``views`` cut out of an array of zeros of ``shape``."""
        result = out
        if out is not None:
            out[...] = 0
        elif x.ndim == len(shape) and all(primitive.name == "slice" for primitive in views):
            result = self.xp.zeros_like(x, shape=shape)  # in the layout of x
        else:
            result = self.xp.zeros(shape, x.dtype)
        window = result
        for primitive in views:
            window = primitive.view(window)
        window[...] = x
        return result
