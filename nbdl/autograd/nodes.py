"""What users see of the nodes of a graph: names, neighbours, hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nbdl.autograd.hooks import AFTER, BEFORE, Handle, Hooks

if TYPE_CHECKING:
    from nbdl.autograd.tensor import Tensor
    from nbdl.ops.primitive import Primitive


class GraphNode:
    """The part of a recorded operation that is PyTorch's ``grad_fn``."""

    primitive: Primitive
    edges: list
    hooks: Hooks | None = None

    def name(self) -> str:
        """The name in ``grad_fn``: ``AddBackward``."""
        return "".join(part[:1].upper() + part[1:] for part in self.primitive.label.split("_")) + "Backward"

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The nodes of the operands with their output numbers; None where none needs a gradient."""
        from nbdl.autograd.tensor import Tensor

        return tuple(
            [
                (AccumulateGrad(edge), 0)
                if isinstance(edge, Tensor)
                else (getattr(edge, "node", edge), getattr(edge, "index", 0))
                for edge in self.edges
            ]
        )

    def add_hook(self, place: int, hook: Callable[..., Any], last: bool = False) -> Handle:
        """Append a hook of the output ``place``, or of the whole node: ``BEFORE`` or ``AFTER`` its rule."""
        if self.hooks is None:
            self.hooks = Hooks()
        return self.hooks.add((place, hook), last)

    def register_prehook(self, hook: Callable[[tuple], Any]) -> Handle:
        """Call ``hook(gradients of the outputs)`` before the rule; a tuple that it returns replaces them."""
        return self.add_hook(BEFORE, hook)

    def register_hook(self, hook: Callable[[tuple, tuple], Any]) -> Handle:
        """Call ``hook(gradients of the operands, gradients of the outputs)`` after the rule.

        A tuple that it returns replaces the gradients of the operands.
        """
        return self.add_hook(AFTER, hook)

    def __repr__(self) -> str:
        return f"<{self.name()}>"


class AccumulateGrad:
    """Where a gradient arrives in ``grad`` of a leaf, as ``next_functions`` show it; equal for the same leaf.

    Attributes:
        variable: the leaf.
    """

    next_functions = ()

    def __init__(self, variable: Tensor):
        self.variable = variable

    def name(self) -> str:
        """The name of its kind."""
        return type(self).__name__

    def register_prehook(self, hook: Callable[[tuple], Any]) -> Handle:
        """Call ``hook((gradient,))`` before the gradient is added; a tuple that it returns replaces it."""
        return self.variable.register_hook(lambda gradient: (hook((gradient,)) or (None,))[0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.variable is self.variable

    def __hash__(self) -> int:
        return hash(self.variable)

    def __repr__(self) -> str:
        return f"<{self.name()}>"
