"""Indexing with brackets: basic indices make views, index tensors and masks copies.

The rules are NumPy's, with PyTorch's choice where they differ: an integer beside index tensors selects first,
and is no index tensor of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_int
from typing import Any

import numpy as np

from nbdl.autograd.autocast import in_widest
from nbdl.autograd.inplace import apply_in_place
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.ops.copying import writable_copy
from nbdl.ops.creation import tensor
from nbdl.ops.masks import masked_fill_
from nbdl.ops.selecting import Index, IndexPut, nonzero
from nbdl.ops.views import Slice

__all__ = ["index_put", "index_put_"]

WHOLE = (None, None, None)  # the slice of a whole axis


def get_item(self: Tensor, index: Any) -> Tensor:
    """``self[index]``: a view for ints, slices, None and Ellipsis; a copy for tensors, lists or masks.

    Raises:
        IndexError: an index is out of range, of a wrong kind, or there are too many.
    """
    basic = _basic(index)
    if basic is not None:
        return _window(self, basic)
    window, axes, indices = _split_index(self, index)
    return apply(Index.of(axes), window, *indices)


def set_item(self: Tensor, index: Any, value: Any) -> None:
    """``self[index] = value``, the value being broadcast and cast.

    Raises:
        IndexError: as for reading.
        RuntimeError: the value does not broadcast to what is selected.
    """
    basic = _basic(index)
    if basic is not None:
        window = _window(self, basic)
        if isinstance(value, Tensor) and _same_window(value.view_of, window.view_of):
            return  # x[0] += 1 has done all in the view, and then assigns it to itself
        window.copy_(
            value if isinstance(value, (bool, int, float)) else _value(self, value, window.array.ndim)
        )
        return
    if _fills_masked(self, index, value):
        masked_fill_(self, index.reshape((*index.shape, *(1,) * (self.array.ndim - index.ndim))), value)
        return
    window, axes, indices = _split_index(self, index)
    rank = window.array.ndim - len(axes) + max(entry.array.ndim for entry in indices)
    source = _value(self, value, rank).to(self.array.dtype)
    apply_in_place(IndexPut.of(axes, False), window, source, *indices)


def _same_window(a: tuple[Tensor, tuple] | None, b: tuple[Tensor, tuple] | None) -> bool:
    """Whether two views show the same part of the same tensor."""
    return a is not None and b is not None and a[0] is b[0] and a[1] == b[1]


def _value(x: Tensor, value: Any, rank: int) -> Tensor:
    """What is assigned, as a tensor without the axes of length 1 that it has in front of ``rank`` axes."""
    source = value if isinstance(value, Tensor) else x.new_tensor(value)
    added = source.array.ndim - rank
    if added > 0 and source.array.shape[:added] == (1,) * added:
        source = source.reshape(source.array.shape[added:])
    return source


def _fills_masked(x: Tensor, index: Any, value: Any) -> bool:
    """Whether ``x[index] = value`` puts one value wherever a mask holds: nothing needs to be counted."""
    if not isinstance(index, Tensor) or index.array.dtype.kind != "b" or index.array.ndim == 0:
        return False
    single = isinstance(value, (bool, int, float)) or (isinstance(value, Tensor) and value.array.ndim == 0)
    return single and index.array.shape == x.array.shape[: index.array.ndim]


def _bound(value: Any) -> int | None:
    return value if value is None or type(value) is int else as_int(value)


def _basic(index: Any) -> tuple | None:
    """``index`` as the parameter of :class:`Slice`; None if it has advanced parts."""
    if type(index) is int:
        return (index,)
    entries: list[Any] = []
    for entry in index if type(index) is tuple else (index,):
        kind = type(entry)
        if kind is int or entry is None or entry is Ellipsis:
            entries.append(entry)
        elif kind is slice:
            entries.append((_bound(entry.start), _bound(entry.stop), _bound(entry.step)))
        elif isinstance(entry, np.integer) or _is_scalar_index(entry):
            entries.append(int(entry))
        else:
            return None
    return tuple(entries)


def _is_scalar_index(entry: Any) -> bool:
    if isinstance(entry, Tensor) and entry.batch is not None:
        return False  # it differs between the examples of vmap
    array = entry.array if isinstance(entry, Tensor) else entry
    return getattr(array, "ndim", 1) == 0 and array.dtype.kind in "iu"


def _window(x: Tensor, entries: tuple) -> Tensor:
    try:
        return Slice.of(entries)(x)
    except IndexError as error:
        if entries.count(Ellipsis) > 1:
            consumed = sum(entry is not None and entry is not Ellipsis for entry in entries)
            return _window(x, tuple(_with_one_ellipsis(list(entries), x.array.ndim - consumed)))
        raise IndexError(f"index: {error} (tensor of shape {list(x.array.shape)})") from None


def _split_index(x: Tensor, index: Any) -> tuple[Tensor, tuple[int, ...], list[Tensor]]:
    """An index with advanced parts: the view that its basic part makes, and index tensors for its axes."""
    entries = [_normalized(x, entry) for entry in (index if isinstance(index, tuple) else (index,))]
    consumed = sum(_consumes(entry) for entry in entries)
    if sum(entry is Ellipsis for entry in entries) > 1:
        entries = _with_one_ellipsis(entries, x.array.ndim - consumed)
    if consumed > x.array.ndim:
        raise IndexError(
            f"index: too many indices for tensor of dimension {x.array.ndim}: {consumed} were given"
        )
    basic: list[Any] = []
    axes: list[int] = []
    indices: list[Tensor] = []
    source = axis = 0  # the next axis of x and of the view
    for entry in entries:
        if entry is Ellipsis:
            skipped = x.array.ndim - consumed
            basic += [WHOLE] * skipped
            source, axis = source + skipped, axis + skipped
        elif not isinstance(entry, Tensor):
            basic.append(entry)
            source += entry is not None
            axis += not isinstance(entry, int)
        elif entry.array.dtype.kind != "b":
            basic.append(WHOLE)
            axes.append(axis)
            indices.append(entry)
            source, axis = source + 1, axis + 1
        elif entry.array.ndim == 0:  # a new axis of length 1 or 0
            basic.append(None)
            axes.append(axis)
            indices.append(entry.new_zeros(int(bool(entry)), dtype=np.int64))
            axis += 1
        else:
            _check_mask(x, entry, source)
            rank = entry.array.ndim
            basic += [WHOLE] * rank
            axes += range(axis, axis + rank)
            indices += nonzero(entry, as_tuple=True)
            source, axis = source + rank, axis + rank
    window = x if all(entry == WHOLE for entry in basic) else _window(x, tuple(basic))
    return window, tuple(axes), indices


def _with_one_ellipsis(entries: list[Any], skipped: int) -> list[Any]:
    """Entries with several Ellipsis, of which only the first does anything.

    Raises:
        IndexError: an entry stands behind the second, where all axes are already used up.
    """
    first = entries.index(Ellipsis)
    second = entries.index(Ellipsis, first + 1)
    if skipped and any(entry is not Ellipsis for entry in entries[second:]):
        raise IndexError("index: nothing but '...' can stand behind a second ellipsis ('...')")
    return [entry for k, entry in enumerate(entries) if k == first or entry is not Ellipsis]


def _normalized(x: Tensor, entry: Any) -> Any:
    """An entry as int, slice triple, None, Ellipsis, or a bool or int64 tensor on the device of ``x``."""
    if entry is None or entry is Ellipsis or type(entry) is int:
        return entry
    if type(entry) is slice:
        return _bound(entry.start), _bound(entry.stop), _bound(entry.step)
    if isinstance(entry, (bool, np.bool_)):
        return x.new_tensor(bool(entry), dtype=np.bool_)
    if isinstance(entry, (list, tuple, range)):
        entry = tensor(entry, dtype=None if len(entry) else np.int64, device=x.device)
    elif not isinstance(entry, Tensor) and hasattr(entry, "__array__"):
        entry = tensor(entry, device=x.device)
    if not isinstance(entry, Tensor) or entry.array.dtype.kind not in "biu":
        given = entry.dtype if isinstance(entry, Tensor) else type(entry).__name__
        raise IndexError(
            "index: only integers, slices (`:`), ellipsis (`...`), None and tensors, arrays or lists of "
            "integers or bools "
            f"are valid indices, got {given}"
        )
    if entry.array.ndim == 0 and entry.array.dtype.kind != "b" and entry.batch is None:
        return int(entry)
    if entry.array.dtype.kind != "b":
        entry = entry.to(np.int64)
    return entry if type(entry.array) is type(x.array) else entry.to(device=x.device)


def _consumes(entry: Any) -> int:
    """How many axes an entry stands for."""
    if entry is None or entry is Ellipsis:
        return 0
    return entry.array.ndim if isinstance(entry, Tensor) and entry.array.dtype.kind == "b" else 1


def _check_mask(x: Tensor, mask: Tensor, axis: int) -> None:
    wanted = x.array.shape[axis : axis + mask.array.ndim]
    if mask.array.shape != wanted:
        raise IndexError(
            f"index: the shape of the mask {list(mask.array.shape)} at dimension {axis} does not match the "
            "shape of the "
            f"indexed tensor {list(x.array.shape)}"
        )


def index_put_(input: Tensor, indices: Sequence[Any], values: Tensor, accumulate: bool = False) -> Tensor:
    """Write ``values`` at ``input[indices]``, or add them there, repeated places too.

    Args:
        input: the tensor.
        indices: what stands between the brackets, as a tuple.
        values: broadcast to what is selected.
        accumulate: add.
    """
    window, axes, positions = _split_index(
        input, tuple([WHOLE if entry is None else entry for entry in indices])
    )
    if not axes:
        raise IndexError("index_put_: indices must contain a tensor")
    apply_in_place(IndexPut.of(axes, bool(accumulate)), window, values.to(input.array.dtype), *positions)
    return input


@in_widest("cuda")
def index_put(input: Tensor, indices: Sequence[Any], values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of ``input`` with ``values`` written, or added, at ``input[indices]``."""
    return index_put_(writable_copy(input, values, *indices), indices, values, accumulate)
