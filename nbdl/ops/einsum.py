"""Einstein's summation: any product of tensors, summed over indices that are named by letters."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from nbdl.autograd.tensor import Tensor
from nbdl.ops.joining import tensor_list
from nbdl.ops.matmul import matmul

__all__ = ["einsum"]

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Names of the axes that an ellipsis stands for, counted from the last one.
Label = str | int


class Term(NamedTuple):
    """A tensor with the names of its axes."""

    tensor: Tensor
    labels: tuple[Label, ...]


def einsum(*args: Any) -> Tensor:
    """The product of tensors, summed over the indices that the result has not.

    ``einsum("bij,bjk->bik", a, b)``: each letter names an axis; axes of one name have one size (or 1). A
    name that is repeated within an operand takes a diagonal. ``...`` stands for further axes, which
    broadcast. Without ``->`` the result has, after the axes of ``...``, the names that occur once, in
    alphabetical order.

    Args:
        args: the equation and the tensors (or one list of them); or tensors, each followed by the list of
            its indices (numbers below 52, or Ellipsis), and at the end a list for the result, if any.

    Returns:
        The result; operands are multiplied from left to right, each pair as one matrix product.

    Raises:
        RuntimeError: the equation does not fit the operands, or sizes differ.
        ValueError: no equation, or no operands.

    Example:
        >>> import nbdl
        >>> a = nbdl.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> nbdl.einsum("ii", a)
        tensor(5.)
    """
    if len(args) < 2:
        raise ValueError(
            "einsum(): must specify the equation string and at least one operand, or at least one operand "
            "and its subscripts list"
        )
    equation, operands = (args[0], args[1:]) if isinstance(args[0], str) else _from_lists(args)
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    operands = tuple(tensor_list("einsum", operands))
    labels, result = _parsed(equation, tuple([x.array.ndim for x in operands]))
    terms = [Term(x, names) for x, names in zip(operands, labels, strict=True)]
    sizes = _sizes(equation, terms)
    terms = [_with_diagonals(term, sizes) for term in terms]
    current = terms[0]
    for position in range(1, len(terms)):
        needed = {*result, *[label for term in terms[position + 1 :] for label in term.labels]}
        current = _product(current, terms[position], needed, sizes)
    current = _summed(current, set(result))
    return _expand(_in_order(current, result), [sizes[label] for label in result])


def _from_lists(args: Sequence[Any]) -> tuple[str, tuple[Tensor, ...]]:
    """The equation of operands that alternate with lists of indices."""
    operands, lists = args[0::2], list(args[1::2])
    result = ""
    if len(args) % 2:
        operands, last = operands[:-1], args[-1]
        result = "->" + _subscripts(last)
    return ",".join(_subscripts(entry) for entry in lists) + result, tuple(operands)


def _subscripts(indices: Sequence[Any]) -> str:
    for index in indices:
        if index is not Ellipsis and not 0 <= index < len(_LETTERS):
            raise ValueError(f"einsum(): subscripts must be Ellipsis or in the range [0, 52), got {index}")
    return "".join("..." if index is Ellipsis else _LETTERS[index] for index in indices)


@functools.lru_cache(maxsize=1024)
def _parsed(equation: str, ranks: tuple[int, ...]) -> tuple[list[tuple[Label, ...]], tuple[Label, ...]]:
    """The names of all axes of the operands, which have so many, and of the result."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        raise RuntimeError(
            f"einsum(): the number of subscripts in the equation ({len(parts)}) does not match the number of "
            f"operands ({len(ranks)})"
        )
    terms = [
        _labels(equation, part, rank, k) for k, (part, rank) in enumerate(zip(parts, ranks, strict=True))
    ]
    known = [label for labels in terms for label in labels]
    hidden = sorted({label for label in known if isinstance(label, int)})
    if not arrow:
        names = [label for label in known if isinstance(label, str)]
        return terms, (*hidden, *sorted(name for name in set(names) if names.count(name) == 1))
    result = _expanded(equation, right, tuple(hidden))
    for label in result:
        if label not in known:
            raise RuntimeError(
                f"einsum(): output subscript {label} does not appear in the equation for any input operand"
            )
        if result.count(label) > 1:
            raise RuntimeError(f"einsum(): output subscript {label} appears more than once in the output")
    return terms, result


def _labels(equation: str, part: str, ndim: int, position: int) -> tuple[Label, ...]:
    named = len(part.replace("...", ""))
    missing = ndim - named
    if missing < 0 or (missing and "..." not in part):
        raise RuntimeError(
            f"einsum(): the number of subscripts in the equation ({named}) does not match the number of "
            f"dimensions ({ndim}) for operand {position}"
        )
    return _expanded(equation, part, tuple(range(-missing, 0)))


def _expanded(equation: str, part: str, hidden: tuple[Label, ...]) -> tuple[Label, ...]:
    """The names in ``part``, ``...`` replaced by ``hidden``."""
    before, dots, after = part.partition("...")
    for letter in before + after:
        if letter not in _LETTERS:
            raise RuntimeError(
                f"einsum(): invalid subscript given in {equation!r}: {letter!r}; subscripts must be in "
                "[a-zA-Z]"
            )
    return (*before, *(hidden if dots else ()), *after)


def _sizes(equation: str, terms: Sequence[Term]) -> dict[Label, int]:
    """The size of every name; those of length 1 are broadcast."""
    sizes: dict[Label, int] = {}
    for position, term in enumerate(terms):
        for label, n in zip(term.labels, term.tensor.array.shape, strict=True):
            known = sizes.setdefault(label, n)
            if known == 1:
                sizes[label] = n
            elif n not in (1, known):
                raise RuntimeError(
                    f"einsum(): subscript {label} has size {n} for operand {position} in {equation!r} which "
                    f"does not broadcast with previously seen size {known}"
                )
    return sizes


def _with_diagonals(term: Term, sizes: dict[Label, int]) -> Term:
    """The diagonal of every pair of axes with one name."""
    x, labels = term.tensor, list(term.labels)
    while len(set(labels)) < len(labels):
        label = next(name for name in labels if labels.count(name) > 1)
        i = labels.index(label)
        j = labels.index(label, i + 1)
        x = x.diagonal(0, i, j)
        labels = [*labels[:i], *labels[i + 1 : j], *labels[j + 1 :], label]
    return Term(x, tuple(labels))


def _summed(term: Term, kept: set[Label]) -> Term:
    """``term`` summed over all names that are not in ``kept``."""
    axes = tuple([axis for axis, label in enumerate(term.labels) if label not in kept])
    if not axes:
        return term
    return Term(term.tensor.sum(axes), tuple([label for label in term.labels if label in kept]))


def _product(a: Term, b: Term, needed: set[Label], sizes: dict[Label, int]) -> Term:
    """Two operands as one batched matrix product: shared names that are needed no more are summed."""
    common = set(a.labels) & set(b.labels)
    a, b = _summed(a, needed | common), _summed(b, needed | common)
    batch = [label for label in a.labels if label in common and label in needed]
    inner = [label for label in a.labels if label in common and label not in needed]
    rows = [label for label in a.labels if label not in common]
    columns = [label for label in b.labels if label not in common]
    labels = (*batch, *rows, *columns)
    if not inner:  # nothing is summed: a pointwise product
        return Term(_placed(a, labels) * _placed(b, labels), labels)
    product = matmul(_arranged(a, batch, rows, inner, sizes), _arranged(b, batch, inner, columns, sizes))
    shape = [max(_size(a, label), _size(b, label)) for label in batch]
    shape += [_size(a, label) for label in rows] + [_size(b, label) for label in columns]
    return Term(product if product.array.shape == tuple(shape) else product.reshape(shape), labels)


def _size(term: Term, label: Label) -> int:
    return term.tensor.array.shape[term.labels.index(label)]


def _in_order(term: Term, labels: Sequence[Label]) -> Tensor:
    """The tensor with its axes in the order of ``labels``."""
    if term.labels == tuple(labels):
        return term.tensor
    return term.tensor.permute([term.labels.index(label) for label in labels])


def _expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x if x.array.shape == tuple(shape) else x.expand(shape)


def _placed(term: Term, labels: Sequence[Label]) -> Tensor:
    """The axes in the order of ``labels``, with length 1 where the operand has none."""
    x = _in_order(term, [label for label in labels if label in term.labels])
    sizes = iter(x.array.shape)
    return x.reshape([next(sizes) if label in term.labels else 1 for label in labels])


def _arranged(
    term: Term,
    batch: Sequence[Label],
    first: Sequence[Label],
    second: Sequence[Label],
    sizes: dict[Label, int],
) -> Tensor:
    """The operand as a batch of matrices: the axes ``first`` merged to rows, ``second`` to columns."""
    x = _in_order(term, (*batch, *first, *second))
    full = [sizes[label] for label in (*batch, *first, *second)]
    k, m = len(batch), len(batch) + len(first)
    x = _expand(x, full)
    return (
        x
        if len(first) == len(second) == 1
        else x.reshape((*full[:k], math.prod(full[k:m]), math.prod(full[m:])))
    )
