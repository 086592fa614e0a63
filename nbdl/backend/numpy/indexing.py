"""Gathering and scattering on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.numpy.results import delivered

_REDUCING = {"add": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}


class Indexing:
    """Primitives that read or write at computed places: int64 indices, negative ones from the end."""

    xp: Any

    def index(self, x: Any, *indices: Any, axes: tuple[int, ...], out: Any = None) -> Any:
        """``x`` at ``indices``, one for each of ``axes``, whole along the other axes.

        The indices broadcast to one shape. It stands in the place of ``axes`` if these are neighbours, else
        in front.
        """
        if len(axes) == 1:
            return self.xp.asarray(x.take(indices[0], axis=axes[0], out=out))
        return delivered(self.xp.asarray(x[_key(axes, indices)]), out)

    def index_put(
        self, x: Any, values: Any, *indices: Any, axes: tuple[int, ...], accumulate: bool, out: Any = None
    ) -> Any:
        """``x`` with ``values`` (broadcast) written at ``indices`` (see :meth:`index`), or added there."""
        if out is None:
            out = x.copy()
        elif out is not x:
            out[...] = x
        key = _key(axes, indices)
        if accumulate:
            with np.errstate(all="ignore"):
                self.xp.add.at(out, key, values)
        else:
            out[key] = values
        return out

    def gather(self, x: Any, index: Any, *, axis: int, out: Any = None) -> Any:
        """result[i, j, k] = x[i, index[i, j, k], k] for axis 1; other axes of ``index`` may be shorter."""
        result = x[_along(self.xp, index, axis)]
        return delivered(result if index.ndim else result.copy(), out)

    def scatter(self, x: Any, index: Any, source: Any, *, axis: int, kind: str, out: Any = None) -> Any:
        """``x`` with source[i, j, k] written to [i, index[i, j, k], k] for axis 1.

        Args:
            x: the array.
            index: places; not longer than ``source``, and than ``x`` along the other axes.
            source: values, of the dtype of ``x``; 0-d for one value everywhere.
            axis: the axis.
            kind: ``set``, or how the values are combined with what is there: ``add``, ``prod``, ``amax``,
                ``amin``.
            out: receives the result; may be ``x``.
        """
        if out is None:
            out = x.copy()
        elif out is not x:
            out[...] = x
        key = _along(self.xp, index, axis)
        values = source[tuple([slice(n) for n in index.shape])] if source.ndim else source
        if kind == "set":
            out[key] = values
        else:
            with np.errstate(all="ignore"):
                getattr(self.xp, _REDUCING[kind].__name__).at(out, key, values)
        return out

    def nonzero(self, x: Any, *, out: Any = None) -> Any:
        """The indices of the elements that are not zero, in row-major order: (count, ndim), int64."""
        return delivered(self.xp.argwhere(x).astype(np.int64, copy=False), out)


def _key(axes: tuple[int, ...], indices: tuple[Any, ...]) -> tuple[Any, ...]:
    """NumPy's index for one array an axis."""
    key: list[Any] = [slice(None)] * (max(axes) + 1)
    for axis, index in zip(axes, indices, strict=True):
        key[axis] = index
    return tuple(key)


def _along(xp: Any, index: Any, axis: int) -> tuple[Any, ...]:
    """NumPy's index for ``index`` along one axis and the own position along all others."""
    if index.ndim == 0:
        return (...,)
    key = [
        xp.arange(n).reshape([-1 if k == other else 1 for k in range(index.ndim)])
        for other, n in enumerate(index.shape)
    ]
    key[axis] = index
    return tuple(key)
