"""vmap: a function of one example as a function of many."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from nbdl.autograd.batching import Batch, BatchLevel, batch_level, lifted, untaped
from nbdl.autograd.modes import mode
from nbdl.autograd.tensor import Tensor
from nbdl.func import tree
from nbdl.ops.joining import cat
from nbdl.ops.shape import movedim

Dims = int | tuple[Any, ...] | list[Any] | dict[Any, Any] | None


def vmap(
    func: Callable[..., Any],
    in_dims: Dims = 0,
    out_dims: Dims = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that applies ``func`` to all examples at once.

    ``func`` is called once, with tensors that stand for one example each. Every operation on them is one
    operation on all examples. Calls nest, and compose with :func:`grad`, :func:`jvp` and the others in any
    order.

    Args:
        func: takes tensors or nests (tuples, lists, dicts) of them, and other values; returns a tensor or a
            nest of them.
        in_dims: the axis of the arguments that counts examples, None for arguments that are the same in all
            of them; one for everything, or nested as the arguments are. Keyword arguments are the same in
            all.
        out_dims: where that axis goes in the outputs; None for an output that is the same in all examples.
        randomness: what random operations do: ``error``, ``same`` numbers in all examples, or ``different``.
        chunk_size: compute so many examples at a time, to save memory.

    Returns:
        The function of all examples.

    Raises:
        ValueError: ``in_dims`` or ``out_dims`` do not fit the arguments or outputs, sizes differ, there is
            nothing to map over, an output is no tensor, or ``chunk_size`` is not positive.
        RuntimeError: ``randomness`` is none of these; or, inside, values of examples are read into Python, a
            random operation is an error, or the shape of a result depends on values.

    Example:
        >>> import nbdl
        >>> rows = nbdl.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> nbdl.func.vmap(nbdl.dot)(rows, rows)
        tensor([ 5., 25.])
        >>> nbdl.func.vmap(nbdl.func.grad(lambda x: (x ** 3).sum()))(rows)
        tensor([[ 3., 12.],
                [27., 48.]])
    """
    if randomness not in ("error", "same", "different"):
        raise RuntimeError(
            "vmap: Only allowed values for randomness are 'error', 'different', or 'same'. Got "
            f"{randomness!r}"
        )
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")
    name = getattr(func, "__name__", repr(func))

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        leaves, in_tree = tree.flatten(args)
        dims = _in_dims(name, in_dims, args, in_tree)
        axes = [_checked_axis(name, dim, leaf) for dim, leaf in zip(dims, leaves, strict=True)]
        size = _size(leaves, axes)

        def run(part: list[Any], count: int) -> tuple[list[Any], list[Any], tree.Tree]:
            with batch_level(count, randomness) as level:
                inputs = [_entering(x, axis, level) for x, axis in zip(part, axes, strict=True)]
                out = func(*tree.unflatten(inputs, in_tree), **kwargs)
                outputs, out_tree = tree.flatten(out)
                places = _out_dims(name, out_dims, out_tree)
                batches = [_leaving(name, y, place, level) for y, place in zip(outputs, places, strict=True)]
            return [_placed(y, place) for y, place in zip(batches, places, strict=True)], places, out_tree

        if chunk_size is None or chunk_size >= size:
            results, _, out_tree = run(leaves, size)
            return tree.unflatten(results, out_tree)
        rows = []
        for start in range(0, size, chunk_size):
            count = min(chunk_size, size - start)
            part = [
                leaf if axis is None else leaf.narrow(axis, start, count)
                for leaf, axis in zip(leaves, axes, strict=True)
            ]
            results, places, out_tree = run(part, count)
            rows.append(results)
        joined = [
            column[0] if place is None else cat(column, place)
            for column, place in zip(zip(*rows, strict=True), places, strict=True)
        ]
        return tree.unflatten(joined, out_tree)

    return wrapped


# ------------------------------------------------------------------------------------------------- arguments
def _prefixed(dims: Any, shape: tree.Tree) -> list[Any] | None:
    """An entry for every leaf, from a nest that may end earlier; None if it does not fit."""
    if not isinstance(dims, (tuple, list, dict)):
        return [dims] * _count(shape)
    keys = tuple(dims) if isinstance(dims, dict) else tuple(range(len(dims)))
    if shape.kind is None or keys != shape.keys or isinstance(dims, dict) != issubclass(shape.kind, dict):
        return None
    entries: list[Any] = []
    for child, below in zip(dims.values() if isinstance(dims, dict) else dims, shape.children, strict=True):
        found = _prefixed(child, below)
        if found is None:
            return None
        entries.extend(found)
    return entries


def _count(shape: tree.Tree) -> int:
    return 1 if shape.kind is None else sum(map(_count, shape.children))


def _in_dims(name: str, in_dims: Any, args: tuple[Any, ...], shape: tree.Tree) -> list[Any]:
    if not isinstance(in_dims, (int, tuple)):
        raise ValueError(
            f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): expected `in_dims` to be int or a "
            f"(potentially nested) tuple matching the structure of inputs, got: {type(in_dims).__name__}."
        )
    if not args:
        raise ValueError(
            f"vmap({name})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying to "
            "vmap over a function with no inputs. The latter is unsupported."
        )
    dims = _prefixed(in_dims, shape)
    if dims is None:
        raise ValueError(
            f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): in_dims is not compatible with the structure "
            f"of `inputs`, which are {len(args)} positional arguments."
        )
    return dims


def _checked_axis(name: str, dim: Any, leaf: Any) -> int | None:
    """The axis counted from the front."""
    if dim is None:
        return None
    begin = f"vmap({name}, ...)(<inputs>): Got in_dim={dim} for"
    if not isinstance(dim, int):
        raise ValueError(f"{begin} an input but in_dim must be either an integer dimension or None.")
    if not isinstance(leaf, Tensor):
        raise ValueError(
            f"{begin} an input but the input is of type {type(leaf).__name__}. We cannot vmap over "
            "non-Tensor arguments, please use None as the respective in_dim"
        )
    rank = leaf.dim()
    if not -rank <= dim < rank:
        raise ValueError(
            f"{begin} some input, but that input is a Tensor of dimensionality {rank} so expected in_dim to "
            f"satisfy -{rank} <= in_dim < {rank}."
        )
    return dim % rank


def _size(leaves: Sequence[Any], axes: Sequence[int | None]) -> int:
    sizes = [leaf.shape[axis] for leaf, axis in zip(leaves, axes, strict=True) if axis is not None]
    if not sizes:
        raise ValueError("vmap: Expected at least one Tensor to vmap over")
    if len(set(sizes)) > 1:
        raise ValueError(
            "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
            f"{sizes} for the mapped dimension"
        )
    return sizes[0]


def _entering(x: Any, axis: int | None, level: BatchLevel) -> Any:
    """An argument as the function sees it."""
    if axis is None:
        return x
    rows = movedim(x, axis, 0) if axis else x
    return Batch(level, rows if mode.grad else untaped(rows), True).tensor()


# --------------------------------------------------------------------------------------------------- outputs
def _out_dims(name: str, out_dims: Any, shape: tree.Tree) -> list[Any]:
    places = _prefixed(out_dims, shape)
    if places is None and isinstance(out_dims, tuple) and len(out_dims) == 1:
        places = _prefixed(out_dims[0], shape)
    if places is None or not all(place is None or isinstance(place, int) for place in places):
        raise ValueError(
            f"vmap({name}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the "
            "structure of `outputs`: it must be an int, None, or nested as they are."
        )
    return places


def _leaving(name: str, y: Any, place: int | None, level: BatchLevel) -> Any:
    """An output without this level, the examples along axis 0."""
    if not isinstance(y, Tensor):
        if place is None:
            return y
        raise ValueError(
            f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(y).__name__}. Did you "
            "mean to set out_dims= to None for output?"
        )
    batch = lifted(y, level).batch
    assert batch is not None
    if place is not None:
        return batch.full()
    if batch.is_batched:
        raise ValueError(f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim is None")
    return batch.value


def _placed(y: Any, place: int | None) -> Any:
    return y if place in (None, 0) else movedim(y, 0, place)
