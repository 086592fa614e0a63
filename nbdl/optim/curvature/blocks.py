"""Block diagonal matrices, and blocks that are Kronecker products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from nbdl import linalg
from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn.module import Module
from nbdl.ops.creation import empty
from nbdl.ops.joining import cat
from nbdl.optim.curvature.source import Risk, Source
from nbdl.optim.operators import LinearOperator
from nbdl.optim.vectors import fetch


class BlockDiagonal(LinearOperator):
    """A matrix with square operators along its diagonal.

    Args:
        blocks: the operators.
        positions: for every block the slices of the vector that it multiplies, joined in this order; default:
            one block behind the other.

    Attributes:
        blocks: as given.

    Raises:
        ValueError: there is no block.
        RuntimeError: a block is not square, or does not fit its positions.

    Example:
        >>> import nbdl
        >>> from nbdl.optim import curvature
        >>> block = curvature.DenseOperator(nbdl.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> curvature.BlockDiagonal([block, block]) @ nbdl.ones(4)
        tensor([3., 7., 3., 7.])
    """

    def __init__(self, blocks: Sequence[LinearOperator], positions: Sequence[Sequence[slice]] | None = None):
        if not blocks:
            raise ValueError("BlockDiagonal: there must be a block at least")
        if positions is None:
            ends = [0]
            for block in blocks:
                ends.append(ends[-1] + block.shape[0])
            positions = [[slice(a, b)] for a, b in pairwise(ends)]
        size = 0
        for block, places in zip(blocks, positions, strict=True):
            n = sum(place.stop - place.start for place in places)
            if block.shape != (n, n):
                raise RuntimeError(
                    f"BlockDiagonal: a block of shape {block.shape} stands at {n} positions of the vector"
                )
            size += n
        super().__init__((size, size), blocks[0].dtype, blocks[0].device)
        self.blocks, self._positions = list(blocks), [list(places) for places in positions]
        self.is_symmetric = all(block.is_symmetric for block in blocks)

    def matvec(self, v: Tensor) -> Tensor:
        return self._map(v, lambda block, part: block @ part)

    matmat = matvec

    def rmatvec(self, v: Tensor) -> Tensor:
        return self._map(v, lambda block, part: block.T @ part)

    def solve(self, v: Tensor, damping: float = 0.0) -> Tensor:
        """(A + damping I)^-1 v, block by block.

        Raises:
            AttributeError: a block has no ``solve``.
        """
        return self._map(v, lambda block, part: block.solve(part, damping))  # type: ignore[attr-defined]

    def diagonal(self) -> Tensor:
        return self._joined([block.diagonal() for block in self.blocks])

    def logdet(self, damping: float = 0.0) -> float:
        """The logarithm of the determinant of A + damping I.

        Raises:
            AttributeError: a block has no ``logdet``.
        """
        return sum(block.logdet(damping) for block in self.blocks)  # type: ignore[attr-defined]

    def _map(self, v: Tensor, function: Callable[[LinearOperator, Tensor], Tensor]) -> Tensor:
        parts = []
        for block, places in zip(self.blocks, self._positions, strict=True):
            with no_grad():
                part = v[places[0]] if len(places) == 1 else cat([v[place] for place in places])
            parts.append(function(block, part.contiguous()))
        return self._joined(parts)

    @no_grad()
    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        """The vector (or matrix) of what belongs to the blocks."""
        first = parts[0]
        out = empty(self.shape[0], *first.shape[1:], dtype=self.dtype, device=self.device)
        for part, places in zip(parts, self._positions, strict=True):
            start = 0
            for place in places:
                stop = start + place.stop - place.start
                out[place] = part[start:stop]
                start = stop
        return out


def block_diagonal(
    matrix: Callable[[Source], LinearOperator],
    source: Source,
    blocks: Sequence[Sequence[Tensor]] | None = None,
) -> BlockDiagonal:
    """The diagonal blocks of a curvature matrix.

    Args:
        matrix: the kind of matrix: :class:`~nbdl.optim.curvature.Hessian`, ``GGN`` ..., or a function that
            makes it for a source.
        source: the loss.
        blocks: the parameters of every block; default: those of each layer of the model for a
            :class:`~nbdl.optim.curvature.Risk` over a module, else of each parameter.

    Raises:
        ValueError: the blocks do not hold every parameter once.

    Example:
        >>> import nbdl
        >>> from nbdl.optim import curvature
        >>> model = nbdl.nn.Sequential(nbdl.nn.Linear(2, 3), nbdl.nn.Tanh(), nbdl.nn.Linear(3, 1))
        >>> risk = curvature.Risk(model, nbdl.nn.MSELoss(), (nbdl.randn(5, 2), nbdl.randn(5, 1)))
        >>> [block.shape for block in curvature.block_diagonal(curvature.GGN, risk).blocks]
        [(9, 9), (4, 4)]
    """
    position = {id(param): place for param, place in zip(source.params, source.layout.slices, strict=True)}
    if blocks is None:
        blocks = _layers(source, position)
    if sorted(id(param) for block in blocks for param in block) != sorted(position):
        raise ValueError("block_diagonal: blocks must hold every parameter of the source exactly once")
    return BlockDiagonal(
        [matrix(source.restricted(block)) for block in blocks],
        [[position[id(param)] for param in block] for block in blocks],
    )


def _layers(source: Source, wanted: dict[int, slice]) -> list[list[Tensor]]:
    """The wanted parameters, those of a layer together."""
    if not (isinstance(source, Risk) and isinstance(source.model, Module)):
        return [[param] for param in source.params]
    found: list[list[Tensor]] = []
    seen: set[int] = set()
    for module in source.model.modules():
        own: list[Tensor] = [
            p for p in module.parameters(recurse=False) if id(p) in wanted and id(p) not in seen
        ]
        seen.update(map(id, own))
        if own:
            found.append(own)
    return found


class KroneckerSpectrum(NamedTuple):
    """The decomposition of Kronecker products.

    Attributes:
        left: eigenvectors of the left factors (g or 1, p, p).
        right: of the right ones (g or 1, q, q).
        values: all products of their eigenvalues (g, p, q).
    """

    left: Tensor
    right: Tensor
    values: Tensor

    @classmethod
    def of(cls, left: Tensor, right: Tensor) -> KroneckerSpectrum:
        """That of factors (g or 1, p, p) and (g or 1, q, q).

        Rounding may make eigenvalues of semidefinite factors negative: they count as 0.
        """
        with no_grad():
            a, left_vectors = linalg.eigh(left)
            b, right_vectors = linalg.eigh(right)
            values = a.clamp(min=0).unsqueeze(2) * b.clamp(min=0).unsqueeze(1)
            return cls(left_vectors, right_vectors, values)

    def solve(self, matrices: Tensor, damping: float) -> Tensor:
        """(A + damping I)^-1 of matrices (g, p, q)."""
        with no_grad():
            inner = self.left.transpose(1, 2) @ matrices @ self.right
            return self.left @ (inner / (self.values + damping)) @ self.right.transpose(1, 2)


class Kronecker(LinearOperator):
    """Blocks L_i (x) R_i, one behind the other: v as matrices V_i (p, q) becomes L_i V_i R_i^T.

    Args:
        left: L, symmetric positive semidefinite, (p, p), or (g, p, p) for g blocks.
        right: R, likewise (q, q) or (g, q, q). Where one has a first axis of 1 it is shared by all blocks.

    Attributes:
        left: L as (g or 1, p, p).
        right: R as (g or 1, q, q).

    Raises:
        RuntimeError: the factors are not square, or g differs.

    Source: Van Loan (2000), The ubiquitous Kronecker product.

    Example:
        >>> import nbdl
        >>> from nbdl.optim import curvature
        >>> product = curvature.Kronecker(nbdl.tensor([[2.0]]), nbdl.tensor([[1.0, 0.0], [0.0, 3.0]]))
        >>> product.solve(nbdl.ones(2), damping=1.0)
        tensor([0.3333, 0.1429])
    """

    def __init__(self, left: Tensor, right: Tensor):
        self.left, self.right = _stacked("left", left), _stacked("right", right)
        count = max(self.left.shape[0], self.right.shape[0])
        if not {self.left.shape[0], self.right.shape[0]} <= {1, count}:
            raise RuntimeError(
                f"Kronecker: left and right must have as many matrices, got {self.left.shape[0]} and "
                f"{self.right.shape[0]}"
            )
        self._shape = count, self.left.shape[-1], self.right.shape[-1]
        n = count * self._shape[1] * self._shape[2]
        super().__init__((n, n), left.dtype, left.device)

    def matvec(self, v: Tensor) -> Tensor:
        with no_grad():
            return (self.left @ v.reshape(self._shape) @ self.right.transpose(1, 2)).reshape(-1)

    @no_grad()
    def diagonal(self) -> Tensor:
        left, right = (factor.diagonal(dim1=1, dim2=2) for factor in (self.left, self.right))
        return (left.unsqueeze(2) * right.unsqueeze(1)).reshape(-1)

    @cached_property
    def _spectrum(self) -> KroneckerSpectrum:
        return KroneckerSpectrum.of(self.left, self.right)

    def eigenvalues(self) -> Tensor:
        """All eigenvalues (n,), in no order."""
        return self._spectrum.values.reshape(-1)

    def solve(self, v: Tensor, damping: float = 0.0) -> Tensor:
        """(A + damping I)^-1 v, exactly, in the basis of the eigenvectors of both factors.

        Args:
            v: (n,) or (n, k).
            damping: added to the diagonal.
        """
        with no_grad():
            if v.ndim == 2:
                return cat([self.solve(column, damping).unsqueeze(1) for column in v.unbind(1)], 1)
            return self._spectrum.solve(v.reshape(self._shape), damping).reshape(-1)

    def logdet(self, damping: float = 0.0) -> float:
        """The logarithm of the determinant of A + damping I."""
        with no_grad():
            return fetch((self._spectrum.values + damping).log().sum())[0]


def _stacked(name: str, factor: Tensor) -> Tensor:
    """A factor with an axis that counts blocks."""
    if factor.ndim not in (2, 3) or factor.shape[-1] != factor.shape[-2]:
        raise RuntimeError(
            f"Kronecker: {name} must have shape (p, p) or (g, p, p), got {tuple(factor.shape)}"
        )
    return factor.detach() if factor.ndim == 3 else factor.detach().unsqueeze(0)
