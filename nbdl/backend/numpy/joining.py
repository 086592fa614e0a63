"""Joining and padding on NumPy arrays."""

from __future__ import annotations

from typing import Any


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
