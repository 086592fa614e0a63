"""Pooling of images whose channels lie last, without reordering them.

An image (N, C, H, W) with its channels last is a row-major (N, 1, H, W, C): one channel, and one axis more,
along which windows have length 1. So the kernels are those of :mod:`nbdl.backend.cupy.pooling`. Their places
in a plane count channels, too: they are divided by the number of channels, or multiplied.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.backend.cupy.dnn import image_order, lies, packed
from nbdl.backend.cupy.pooling import MAX_AXES, CupyPooling
from nbdl.backend.cupy.scattering import CupyScattering
from nbdl.backend.numpy.results import delivered
from nbdl.backend.windows import Sizes
from nbdl.formula import Formula
from nbdl.formula.functions import floor_divide

_PIXEL = Formula("place_of_pixel", floor_divide, 2)
_CHANNEL = Formula("place_of_channel", lambda place, channel, count: place * count + channel, 3)


class CupyLastPooling(CupyPooling, CupyScattering):
    """Pooling in the order in which images lie; see :class:`~nbdl.backend.numpy.pooling.Pooling`."""

    pointwise: Any

    def max_pool(
        self,
        x: Any,
        *,
        kernel: Sizes,
        stride: Sizes,
        padding: Sizes,
        dilation: Sizes,
        counts: Sizes,
        out: Any = None,
    ) -> tuple[Any, Any]:
        """The maximum of every window, and where it is."""
        windows = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        if not _is_last(x):
            return super().max_pool(x, **windows, counts=counts, out=out)
        place = _volumes(out)
        found = super().max_pool(_volume(x), **_longer(windows), counts=(*counts, x.shape[1]), out=place)
        return self._images(found, place, out)

    def adaptive_max_pool(self, x: Any, *, counts: Sizes, out: Any = None) -> tuple[Any, Any]:
        """The maxima of windows that cover the input evenly, and where they are."""
        if not _is_last(x):
            return super().adaptive_max_pool(x, counts=counts, out=out)
        place = _volumes(out)
        found = super().adaptive_max_pool(_volume(x), counts=(*counts, x.shape[1]), out=place)
        return self._images(found, place, out)

    def window_gather(self, x: Any, indices: Any, *, out: Any = None) -> Any:
        """The elements at flat positions of every plane."""
        if not (_is_last(x) and _is_last(indices)):
            return super().window_gather(x, indices, out=out)
        place = _volumes(out)
        found = super().window_gather(_volume(x), self._places(indices), out=place)
        return _delivered(found, place, out)

    def window_scatter(self, y: Any, indices: Any, *, size: Sizes, out: Any = None) -> Any:
        """Elements added to zeros at flat positions of their planes."""
        if not (_is_last(y) and _is_last(indices)):
            return super().window_scatter(y, indices, size=size, out=out)
        found = super().window_scatter(_volume(y), self._places(indices), size=(*size, y.shape[1]))
        return delivered(_image(found), out)

    def avg_pool(
        self,
        x: Any,
        *,
        kernel: Sizes,
        stride: Sizes,
        padding: Sizes,
        counts: Sizes,
        count_include_pad: bool,
        divisor: int | None,
        out: Any = None,
    ) -> Any:
        """The mean of every window."""
        windows: Any = {"kernel": kernel, "stride": stride, "padding": padding}
        means: Any = {"count_include_pad": count_include_pad, "divisor": divisor}
        if not _is_last(x):
            return super().avg_pool(x, **windows, counts=counts, **means, out=out)
        place, lengths = _volumes(out), (*counts, x.shape[1])
        found = super().avg_pool(_volume(x), **_longer(windows), counts=lengths, **means, out=place)
        return _delivered(found, place, out)

    def avg_pool_input(
        self,
        y: Any,
        *,
        size: Sizes,
        kernel: Sizes,
        stride: Sizes,
        padding: Sizes,
        counts: Sizes,
        count_include_pad: bool,
        divisor: int | None,
        out: Any = None,
    ) -> Any:
        """The transpose of :meth:`avg_pool`."""
        windows: Any = {"kernel": kernel, "stride": stride, "padding": padding}
        means: Any = {"count_include_pad": count_include_pad, "divisor": divisor}
        if not _is_last(y, if_both=True):  # behind a mean of whole planes come convolutions
            return super().avg_pool_input(y, size=size, **windows, counts=counts, **means, out=out)
        sizes: Any = {"size": (*size, y.shape[1]), "counts": (*counts, y.shape[1])}
        place = _volumes(out)
        found = super().avg_pool_input(_volume(y), **sizes, **_longer(windows), **means, out=place)
        return _delivered(found, place, out)

    def _images(self, found: tuple[Any, Any], place: Any, out: Any) -> tuple[Any, Any]:
        """Maxima and their places in a plane of pixels; the places are overwritten."""
        values, places = found
        self.pointwise(places, np.array(values.shape[-1]), formula=_PIXEL, weak=2, out=places)
        return _delivered(found, place, out)

    def _places(self, indices: Any) -> Any:
        """Places in planes of pixels as places among the numbers of an image."""
        channels = indices.shape[1]
        places = self.pointwise(
            _volume(indices), self.xp.arange(channels), np.array(channels), formula=_CHANNEL, weak=4
        )
        return self.xp.ascontiguousarray(places)


def _is_last(x: Any, if_both: bool = False) -> bool:
    """Whether channels lie last, and there is an axis left for them; ``if_both``: what both orders share."""
    if not 3 <= x.ndim <= MAX_AXES + 1:
        return False
    if x.shape[1] == 1 or math.prod(x.shape[2:]) == 1:
        return if_both and x.flags.c_contiguous
    return lies(x, packed(x.shape, image_order(x.ndim, True)))


def _volume(x: Any) -> Any:
    """(N, C, *size) with its channels last as a row-major (N, 1, *size, C)."""
    return x.transpose(image_order(x.ndim, True))[:, None]


def _image(x: Any) -> Any:
    """The other way."""
    return x[:, 0].transpose((0, x.ndim - 2, *range(1, x.ndim - 2)))


def _volumes(out: Any) -> Any:
    """``out``, one array or several, as row-major volumes; None if they are no images with channels last."""
    if out is None or not all(_is_last(x) for x in (out if isinstance(out, tuple) else (out,))):
        return None
    return tuple(map(_volume, out)) if isinstance(out, tuple) else _volume(out)


def _delivered(found: Any, place: Any, out: Any) -> Any:
    """Volumes as images, in ``out``, where they are already if they were computed in ``place``."""
    if place is not None:
        return out
    return delivered(tuple(map(_image, found)) if isinstance(found, tuple) else _image(found), out)


def _longer(windows: dict[str, Sizes]) -> Any:
    """Windows of length 1 along an axis more."""
    return {name: (*sizes, 0 if name == "padding" else 1) for name, sizes in windows.items()}
