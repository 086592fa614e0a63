"""A recorded program with what must hold for it, and what has to be done around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nbdl.autograd.tensor import Tensor
from nbdl.compiler.aliasing import Writes
from nbdl.compiler.arguments import Arguments
from nbdl.compiler.history import BackwardProgram
from nbdl.compiler.program import Program, are_same
from nbdl.compiler.recorder import Leaf, note_changes
from nbdl.compiler.replay import Replay
from nbdl.compiler.states import Attribute
from nbdl.func.tree import LEAF, Tree, unflatten


class Variant(NamedTuple):
    """A program with what must hold for it, and what has to be done around it.

    Attributes:
        replay: the program.
        tree: the nest of the results; ``leaves`` says what is in it: None stands for a tensor.
        leaves: the results that are not computed.
        shared: which results lie in memory of an argument or from outside, with its number or the storage.
        leaves_used: the leaves whose gradients it uses.
        moved: those whose gradients are arguments of the program, behind those of the function.
        gradients: the leaves that have other gradients afterwards, with these.
        refreshers: called before each replay.
        storages: what it changes in place.
        backward: connects the results to the tape, if they need gradients.
        switches: leaves from outside, and whether they require gradients.
        writes: what it changes, which must not be shared with what else it reads.
        own: the leaves among the arguments that it was recorded with, and works for.
        assigned: attributes of modules that get the last results.
        values: arguments of NumPy that are no operands, by number, and the values that they must have.
        recorded: the program as it was written down, if there are such.
    """

    replay: Replay
    tree: Tree
    leaves: list[Any]
    shared: list[tuple[int, Any]]
    leaves_used: list[Leaf]
    moved: list[Tensor]
    gradients: list[tuple[Tensor, Tensor | None]]
    refreshers: list[Callable[[], Any]]
    storages: list[Any]
    backward: BackwardProgram | None
    switches: list[tuple[Tensor, bool]]
    writes: Writes
    own: list[Tensor]
    assigned: Sequence[Attribute]
    values: list[tuple[int, bytes]]
    recorded: Program | None

    def fits(self, arguments: Arguments) -> bool:
        """Whether what the program would find of gradients and values is what it was recorded with."""
        if any(arguments.arrays[k].tobytes() != values for k, values in self.values):
            return False
        for tensor, requires_grad in self.switches:
            if tensor.requires_grad is not requires_grad:
                return False
        return all(leaf.fits() for leaf in self.leaves_used)

    def differs_in_values_only(self, other: Variant) -> bool:
        """Whether the same was recorded, although arguments of NumPy held something else."""
        if self.recorded is None or other.recorded is None or repr(self.leaves) != repr(other.leaves):
            return False
        return self.tree == other.tree and are_same(self.recorded, other.recorded)

    def run(self, arguments: Arguments) -> Any:
        """Replay on these arguments."""
        for refresh in self.refreshers:
            refresh()
        arrays = self.replay(*arguments.arrays)
        note_changes(self.storages)
        for k in self.writes.inputs:
            arguments.tensors[k].mark_changed()
        for leaf, gradient in self.gradients:
            leaf._grad = gradient
        if self.backward is not None:
            tensors = self.backward.connect(arguments, arrays)
        elif self.tree is LEAF and self.leaves[0] is None and not self.assigned and not self.shared:
            return Tensor(arrays[0])
        else:
            tensors = [Tensor(array) for array in arrays]
        for k, source in self.shared:
            is_argument = isinstance(source, int)
            tensors[k].storage = arguments.tensors[source].shared_storage() if is_argument else source
        results = iter(tensors)
        leaves = [next(results) if leaf is None else leaf.of(arguments) for leaf in self.leaves]
        for attribute in self.assigned:
            attribute.set(next(results))
        return unflatten(leaves, self.tree)
