"""Images and volumes sampled at given positions: spatial transformers.

Source: Jaderberg, Simonyan, Zisserman, Kavukcuoglu (2015), Spatial transformer networks.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.nn.functional.interpolation import cubic_weight
from nbdl.ops.copying import constant
from nbdl.ops.pointwise import call
from nbdl.ops.scattering import gather

GRID_SAMPLE_INTERPOLATION_MODES = {"bilinear": 0, "nearest": 1, "bicubic": 2}
GRID_SAMPLE_PADDING_MODES = {"zeros": 0, "border": 1, "reflection": 2}


def _clip(x: Any, n: Any) -> Any:
    """Within [0, n - 1]; the slope is 0 at the ends too."""
    return f.where(x > 0, f.where(x < n - 1, x, n - 1), 0)


def _reflect(x: Any, low: Any, span: Any) -> Any:
    """Mirrored at ``low`` and ``low + span`` until it lies between them."""
    distance = f.abs(x - low)
    extra = f.fmod(distance, span)
    flips = f.floor(distance / span)
    return f.where(f.equal(f.fmod(flips, 2), 0), extra + low, span - extra + low)


_ALIGNED = Formula("grid_position", lambda x, n: (x + 1) / 2 * (n - 1), 2)
_UNALIGNED = Formula("grid_position", lambda x, n: ((x + 1) * n - 1) / 2, 2)
_BORDER = Formula("grid_border", _clip, 2)
_REFLECTED_ALIGNED = Formula(
    "grid_reflection", lambda x, n: _clip(f.where(n > 1, _reflect(x, 0, f.where(n > 1, n - 1, 1)), 0), n), 2
)
_REFLECTED_UNALIGNED = Formula("grid_reflection", lambda x, n: _clip(_reflect(x, -0.5, n), n), 2)
_IS_INSIDE = Formula("grid_is_inside", lambda x, n: f.logical_and(x >= 0, x <= n - 1), 2)
_WITHIN = Formula("grid_index", lambda x, n: f.where(x >= 0, f.where(x <= n - 1, x, 0), 0), 2)
_CUBIC = Formula("cubic_weight", lambda t, k: cubic_weight(t - k, -0.75, f.where, f.abs), 2)


def _position(x: Tensor, n: int, align_corners: bool) -> Tensor:
    """Coordinates in [-1, 1] as fractional indices."""
    return call(_ALIGNED if align_corners else _UNALIGNED, x, n)


def _padded(x: Tensor, n: int, padding_mode: str, align_corners: bool) -> Tensor:
    """Fractional indices, moved inside unless what is outside is zero."""
    if padding_mode == "zeros":
        return x
    if padding_mode == "border":
        return call(_BORDER, x, n)
    return call(_REFLECTED_ALIGNED if align_corners else _REFLECTED_UNALIGNED, x, n)


def _elements(flat: Tensor, places: list[Tensor], sizes: tuple[int, ...]) -> Tensor:
    """Elements of (N, C, *sizes), given flattened, at whole positions (N, P); outside they are 0."""
    index: Any = 0
    inside: Any = None
    for place, n in zip(places, sizes, strict=True):
        index = index * n + call(_WITHIN, place, n).to(dtype=np.int64)
        is_inside = call(_IS_INSIDE, place, n)
        inside = is_inside if inside is None else inside & is_inside
    batch, channels = flat.array.shape[:2]
    count = index.array.shape[1]
    values = gather(flat, 2, index.unsqueeze(1).expand((batch, channels, count)))
    return values * inside.unsqueeze(1).to(flat.dtype)


def _linear(flat: Tensor, positions: list[Tensor], sizes: tuple[int, ...]) -> Tensor:
    floors = [position.detach().floor() for position in positions]
    fractions = [position - low for position, low in zip(positions, floors, strict=True)]
    total: Any = None
    for corner in itertools.product((0, 1), repeat=len(sizes)):
        weight: Any = None
        for fraction, side in zip(fractions, corner, strict=True):
            factor = fraction if side else 1 - fraction
            weight = factor if weight is None else weight * factor
        places = [low + side for low, side in zip(floors, corner, strict=True)]
        part = _elements(flat, places, sizes) * weight.unsqueeze(1)
        total = part if total is None else total + part
    return total


def _cubic(flat: Tensor, y: Tensor, x: Tensor, sizes: tuple[int, ...], padding: str, aligned: bool) -> Tensor:
    top, left = y.detach().floor(), x.detach().floor()
    total: Any = None
    columns = [_padded(left + k, sizes[1], padding, aligned) for k in range(-1, 3)]
    weights = [call(_CUBIC, x - left, k).unsqueeze(1) for k in range(-1, 3)]
    for row in range(-1, 3):
        place = _padded(top + row, sizes[0], padding, aligned)
        line: Any = None
        for column, weight in zip(columns, weights, strict=True):
            part = _elements(flat, [place, column], sizes) * weight
            line = part if line is None else line + part
        part = line * call(_CUBIC, y - top, row).unsqueeze(1)
        total = part if total is None else total + part
    return total


def _check(input: Tensor, grid: Tensor, mode: str, padding_mode: str) -> int:
    if mode not in GRID_SAMPLE_INTERPOLATION_MODES:
        raise ValueError(
            f"grid_sample: expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: {mode!r}"
        )
    if padding_mode not in GRID_SAMPLE_PADDING_MODES:
        raise ValueError(
            "grid_sample: expected padding_mode to be 'zeros', 'border', or 'reflection', but got: "
            f"{padding_mode!r}"
        )
    rank = input.array.ndim - 2
    if rank not in (2, 3) or grid.array.ndim != rank + 2 or grid.array.shape[-1] != rank:
        raise RuntimeError(
            "grid_sample: expected 4D or 5D input (N, C, *size) and a grid (N, *points, number of spatial "
            f"axes), but got input with sizes {list(input.shape)} and grid with sizes {list(grid.shape)}"
        )
    if grid.array.shape[0] != input.array.shape[0]:
        raise RuntimeError(
            "grid_sample: expected grid and input to have same batch size, but got input with sizes "
            f"{list(input.shape)} and grid with sizes {list(grid.shape)}"
        )
    if min(input.array.shape[2:]) < 1:
        raise RuntimeError(
            f"grid_sample: expected input to have non-empty spatial dimensions, got {list(input.shape)}"
        )
    if mode == "bicubic" and rank != 2:
        raise RuntimeError("grid_sample: bicubic interpolation only supports 4D input")
    return rank


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """The input at the positions ``grid``.

    Args:
        input: (N, C, H, W) or (N, C, D, H, W).
        grid: (N, Ho, Wo, 2) or (N, Do, Ho, Wo, 3), coordinates (x, y) or (x, y, z); -1 and 1 are the ends.
        mode: ``bilinear`` (of volumes trilinear), ``nearest`` or ``bicubic`` (images only).
        padding_mode: what lies outside: ``zeros``, the ``border``, or a ``reflection``.
        align_corners: whether the ends are the centres of the outermost elements, or their edges; default
            False.

    Returns:
        (N, C, Ho, Wo) or (N, C, Do, Ho, Wo)

    Raises:
        ValueError: an unknown mode.
        RuntimeError: the shapes do not fit.
    """
    rank = _check(input, grid, mode, padding_mode)
    aligned = bool(align_corners)
    batch, channels = input.array.shape[:2]
    sizes, points = input.array.shape[2:], grid.array.shape[1:-1]
    flat = input.reshape((batch, channels, int(np.prod(sizes))))
    rows = grid.reshape((batch, int(np.prod(points)), rank))
    positions = [_position(rows[:, :, rank - 1 - k], n, aligned) for k, n in enumerate(sizes)]
    if mode == "bicubic":
        out = _cubic(flat, positions[0], positions[1], sizes, padding_mode, aligned)
    else:
        positions = [
            _padded(position, n, padding_mode, aligned) for position, n in zip(positions, sizes, strict=True)
        ]
        if mode == "nearest":
            out = _elements(flat, [position.detach().round() for position in positions], sizes)
        else:
            out = _linear(flat, positions, sizes)
    return out.reshape((batch, channels, *points))


def affine_grid(theta: Tensor, size: Any, align_corners: bool | None = None) -> Tensor:
    """The positions that :func:`grid_sample` needs for an affine map.

    Args:
        theta: (N, 2, 3) for images, (N, 3, 4) for volumes.
        size: (N, C, H, W) or (N, C, D, H, W) of the result.
        align_corners: whether -1 and 1 are the centres of the outermost elements, or their edges; default
            False.

    Returns:
        (N, H, W, 2) or (N, D, H, W, 3)

    Raises:
        ValueError: theta is not floating, or the shapes do not fit.

    Example:
        >>> import nbdl
        >>> identity = nbdl.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
        >>> nbdl.nn.functional.affine_grid(identity, (1, 1, 2, 2), align_corners=True)[0, :, :, 0]
        tensor([[-1.,  1.],
                [-1.,  1.]])
    """
    if not theta.is_floating_point():
        raise ValueError(f"affine_grid: Expected theta to have floating point type, but got {theta.dtype}")
    rank = len(size) - 2
    if rank not in (2, 3) or theta.array.ndim != 3 or theta.array.shape != (size[0], rank, rank + 1):
        raise ValueError(
            "affine_grid: expected theta (N, 2, 3) for a size (N, C, H, W), or (N, 3, 4) for (N, C, D, H, "
            f"W), got {list(theta.shape)} and {tuple(size)}"
        )
    if min(size) < 1:
        raise ValueError(f"affine_grid: Expected non-zero, positive output size. Got {tuple(size)}")
    axes = [_coordinates(n, bool(align_corners)) for n in size[2:]]
    mesh = np.meshgrid(*axes, indexing="ij")
    base = np.stack([*reversed(mesh), np.ones_like(mesh[0])], -1).reshape(-1, rank + 1)
    points = constant(base, theta.device, theta.dtype)
    return (points @ theta.transpose(1, 2)).reshape((size[0], *size[2:], rank))


def _coordinates(n: int, align_corners: bool) -> np.ndarray:
    if n == 1:
        return np.zeros(1)
    ends = 1.0 if align_corners else (n - 1) / n
    return np.linspace(-ends, ends, n)
