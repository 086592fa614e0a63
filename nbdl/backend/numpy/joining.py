"""Joining and padding on NumPy arrays."""

from __future__ import annotations

from typing import Any

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered
from nbdl.backend.windows import Pairs, frame_places


class Joining:
    """Primitives that make a larger array of smaller ones, with nothing that CuPy does not have too."""

    xp: Any

    def concatenate(self, *arrays: Any, axis: int, out: Any = None) -> Any:
        """Arrays of one dtype, one after the other along ``axis``."""
        return self.xp.concatenate(arrays, axis=axis, out=out)

    def pad(
        self, x: Any, *, widths: tuple[tuple[int, int], ...], value: bool | int | float, out: Any = None
    ) -> Any:
        """``x`` in a frame of ``value``, ``widths`` = (before, after) for every axis."""
        if out is None:
            shape = tuple(before + n + after for n, (before, after) in zip(x.shape, widths, strict=True))
            out = self.xp.empty_like(x, shape=shape)  # in the layout of x
        out[...] = value
        out[tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, widths, strict=True))] = x
        return out

    def extend(self, x: Any, *, widths: Pairs, mode: str, out: Any = None) -> Any:
        """``x`` continued beyond its edges.

        Args:
            x: the array.
            widths: (before, after) for every axis.
            mode: of :func:`numpy.pad`: ``edge``, ``reflect``, ``symmetric`` or ``wrap``.
            out: receives the result.
        """
        return delivered(self.xp.pad(x, widths, mode=mode), out)

    def extend_input(self, y: Any, *, widths: Pairs, mode: str, out: Any = None) -> Any:
        """The transpose of :meth:`extend`: every element inside with all that repeat it added."""
        total = widened(y)
        for axis, (before, after) in enumerate(widths):
            n = total.shape[axis] - before - after
            framed = self.xp.moveaxis(total, axis, 0)
            inside = framed[before : before + n].copy()
            for k, place in enumerate(frame_places(n, before, after, mode).tolist()):
                if not before <= k < before + n:
                    inside[place] += framed[k]
            total = self.xp.moveaxis(inside, 0, axis)
        return delivered(narrowed(self.xp.ascontiguousarray(total), y.dtype), out)
