"""Recurrent networks: a layer in one direction is one primitive over the whole sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.modes import mode
from nbdl.autograd.tape import apply
from nbdl.backend.cells import CELLS, Cell
from nbdl.formula import Formula
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import arange
from nbdl.ops.fused import Fused
from nbdl.ops.joining import cat, split, stack, unbind
from nbdl.ops.matmul import MatMul, check_same_dtype, linear, matmul
from nbdl.ops.pointwise import call
from nbdl.ops.reduction import IDENTITY, Reduce
from nbdl.ops.shape import contiguous, reshape, unsqueeze

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node
    from nbdl.autograd.tensor import Tensor

_MATMUL_TN = MatMul.of(True, False)
_SUM_OF_ROWS = Reduce.of(IDENTITY, "sum", (0,), False)


class Recurrent(Fused):
    """``recurrent(x, state..., weight, bias?, sizes?)``: all hidden states, the final states, what is kept.

    Args:
        cell: name of the cell (:mod:`nbdl.backend.cells`).
        batch_first: x is (batch, time, blocks * hidden), not (time, batch, blocks * hidden).
        reverse: from the last step to the first.
        has_bias: whether there is a bias among the operands.
        keep: whether what the gradient reads is among the outputs: the saved outputs of the steps, and the
            states before each step.
    """

    name = "recurrent"

    def __init__(self, cell: str, batch_first: bool, reverse: bool, has_bias: bool, keep: bool):
        super().__init__(cell=cell, batch_first=batch_first, reverse=reverse, has_bias=has_bias, keep=keep)
        self.cell, self.has_bias = CELLS[cell], has_bias
        self.order = Order(batch_first, reverse)
        self.label = cell
        self.weight_at = 1 + self.cell.states

    def check(self, *arrays: Any) -> None:
        """The shapes of states, weight and bias follow from those of x and of the hidden state."""
        x, hidden = arrays[:2]
        n = hidden.shape[-1] if hidden.ndim else 0
        batch = x.shape[0 if self.order.batch_first else 1] if x.ndim == 3 else None
        blocks = self.cell.blocks
        wanted = [(batch, n)] * self.cell.states + [(blocks * n, n)] + [(blocks * n,)] * self.has_bias
        given = [tuple(array.shape) for array in arrays[1 : 1 + len(wanted)]]
        if batch is None or x.shape[2] != blocks * n or given != wanted:
            raise RuntimeError(
                f"{self.label}: expected projections (time, batch, {blocks} * hidden), states (batch, "
                f"hidden), weight ({blocks} * hidden, hidden), bias ({blocks} * hidden,); "
                f"got {', '.join(str(tuple(array.shape)) for array in arrays)}"
            )
        check_same_dtype(self.label, arrays[: 1 + len(wanted)])

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """The weight, the sizes, and what was kept."""
        sizes_at = self.weight_at + 1 + self.has_bias
        return frozenset((self.weight_at, sizes_at)), True

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The definition, step by step."""
        x, *rest = inputs
        states, weight, *rest = rest[: self.cell.states], *rest[self.cell.states :]
        bias, sizes = rest[0] if self.has_bias else None, rest[self.has_bias :]
        keep = self.params["keep"]
        return unroll(self.cell, self.order, x, states, weight, bias, sizes, keep=keep)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The backward kernel through the sequence, then one product for the weight."""
        cell = self.cell
        # Not the hidden states: users may overwrite them.
        saved, *before = [node.output(k) for k in range(1 + cell.states, len(node.specs))]
        weight = node.input(self.weight_at)
        sizes = [node.input(k) for k in range(self.weight_at + 1 + self.has_bias, len(node.edges))]
        wanted = list(zip([shape for shape, _ in node.specs[: 1 + cell.states]], gradients, strict=False))
        zeros = {shape: saved.new_zeros(shape) for shape in {shape for shape, g in wanted if g is None}}
        of_states = [zeros[shape] if g is None else contiguous(g) for shape, g in wanted]
        memory = [] if cell.memory is None else [before[cell.memory]]
        of_kept = gradients[1 + cell.states :]
        operands = (of_states[0], *of_states[1:], saved, *memory, weight, *sizes)
        if all(g is None for g in of_kept):
            order = self.order
            results = RecurrentInput.of(cell.name, order.batch_first, order.reverse)(*operands)
        else:  # in a second derivative
            of_saved, *of_before = [
                y.zeros_like() if g is None else g for y, g in zip((saved, *before), of_kept, strict=True)
            ]
            results = unroll_gradient(cell, self.order, *operands, of_saved=of_saved, of_before=of_before)
        of_x, of_u, of_initial = results[0], results[cell.splits], results[1 + cell.splits :]
        of_weight = of_bias = None
        if node.needs_grad(self.weight_at):
            of_weight = apply(_MATMUL_TN, _rows(of_u), _rows(before[0]))
        if self.has_bias and node.needs_grad(self.weight_at + 1):
            of_bias = apply(_SUM_OF_ROWS, _rows(of_u))
        return (of_x, *of_initial, of_weight, of_bias, None)[: len(node.edges)]


class RecurrentInput(Fused):
    """``recurrent_input(g, g_state..., saved, memory?, weight, sizes?)``: backpropagation through time.

    The gradients of :class:`Recurrent` by x, by the products u if they differ, and by the initial states.
    """

    name = "recurrent_input"

    def __init__(self, cell: str, batch_first: bool, reverse: bool):
        super().__init__(cell=cell, batch_first=batch_first, reverse=reverse)
        self.cell, self.order = CELLS[cell], Order(batch_first, reverse)
        self.label = f"{cell}_input"

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The definition, step by step."""
        return unroll_gradient(self.cell, self.order, *inputs)


# ------------------------------------------------------------------------------ the definition, in operations
class Order:
    """How a sequence lies in a tensor, and from which end it is walked.

    Args:
        batch_first: (batch, time, ...), not (time, batch, ...).
        reverse: from the last step to the first.
    """

    def __init__(self, batch_first: bool, reverse: bool):
        self.batch_first, self.reverse = batch_first, reverse
        self.axis = int(batch_first)

    def steps(self, length: int) -> Sequence[int]:
        """The times in the order of computation."""
        return range(length - 1, -1, -1) if self.reverse else range(length)

    def active(self, batch: int, sizes: Sequence[Tensor]) -> Callable[[int], Tensor | None]:
        """A function of time: which sequences go on, as a column of truth values; None for all."""
        if not sizes:
            return lambda t: None
        rows = unsqueeze(arange(batch, device=sizes[0].device), 1)
        return lambda t: rows < sizes[0][t]

    def join(self, rows: dict[int, Tensor]) -> Tensor:
        """What was computed at each time, as one tensor."""
        return stack([rows[t] for t in range(len(rows))], self.axis)


def unroll(
    cell: Cell,
    order: Order,
    x: Tensor,
    states: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor | None,
    sizes: Sequence[Tensor] = (),
    projection: Tensor | None = None,
    keep: bool = False,
) -> tuple[Tensor, ...]:
    """A layer in one direction, composed of operations; operands as those of :class:`Recurrent`.

    Args:
        cell: the cell.
        order: the order of the steps.
        x: projections of the inputs.
        states: the initial states.
        weight: (blocks * hidden, size of the hidden state).
        bias: (blocks * hidden,) or None.
        sizes: how many sequences go on at each step, if they differ.
        projection: the hidden state is multiplied by it, (size of the hidden state, hidden).
        keep: whether what a gradient reads is among the results.

    Returns:
        The hidden states and the final states; with ``keep`` also the saved outputs of the steps and the
        states before each step.
    """
    xs = unbind(x, order.axis)
    active = order.active(states[0].shape[0], sizes)
    hidden: dict[int, Tensor] = {}
    saved: dict[int, Tensor] = {}
    before: list[dict[int, Tensor]] = [{} for _ in states]
    for t in order.steps(len(xs)):
        for log, state in zip(before, states, strict=True):
            log[t] = state
        memory = [] if cell.memory is None else [states[cell.memory]]
        values = [*_blocks(cell, xs[t]), *_blocks(cell, linear(states[0], weight, bias)), *memory]
        results = _all_outputs(cell.step, values)
        new = list(results[cell.saved :])
        if projection is not None:
            new[0] = linear(new[0], projection)
        goes_on = active(t)
        states = [_select(goes_on, a, b) for a, b in zip(new, states, strict=True)]
        hidden[t] = states[0]
        if keep:
            saved[t] = _select(goes_on, cat(results[: cell.saved], -1), 0.0)
    kept = (saved, *before) if keep else ()
    return (order.join(hidden), *states, *[order.join(log) for log in kept])


def unroll_gradient(
    cell: Cell,
    order: Order,
    g: Tensor,
    *operands: Tensor,
    of_saved: Tensor | None = None,
    of_before: Sequence[Tensor] = (),
) -> tuple[Tensor, ...]:
    """Backpropagation through time, composed of operations; operands as those of :class:`RecurrentInput`.

    Args:
        cell: the cell.
        order: that of the forward pass.
        g: gradient of the hidden states.
        operands: the other operands.
        of_saved: gradient of the saved outputs of the steps, if there is one.
        of_before: gradients of the states before each step; none, or all.

    Returns:
        The gradients of x, of u if they differ, and of the initial states.
    """
    states = list(operands[: cell.states])
    ragged = cell.states + 1 + (cell.memory is not None)
    saved, *memory, weight = operands[cell.states : ragged + 1]
    gs, saved_steps = unbind(g, order.axis), unbind(saved, order.axis)
    memory_steps = [unbind(m, order.axis) for m in memory]
    kept_steps = [] if of_saved is None else unbind(of_saved, order.axis)
    before_steps = [unbind(b, order.axis) for b in of_before]
    active = order.active(states[0].shape[0], operands[ragged + 1 :])
    formula = cell.gradient if of_saved is None else cell.full_gradient
    of_x: dict[int, Tensor] = {}
    of_u: dict[int, Tensor] = {}
    for t in reversed(order.steps(len(gs))):
        values = [*_blocks(cell, saved_steps[t], cell.saved), *[m[t] for m in memory_steps], *states, gs[t]]
        if kept_steps:
            values += _blocks(cell, kept_steps[t], cell.saved)
        results = _all_outputs(formula, values)
        goes_on, blocks = active(t), cell.blocks
        of_x[t] = _select(goes_on, cat(results[:blocks], -1), 0.0)
        of_u[t] = _select(goes_on, cat(results[blocks : 2 * blocks], -1), 0.0) if cell.splits else of_x[t]
        new = list(states)
        new[0] = matmul(of_u[t], weight)
        if cell.memory is not None:
            new[cell.memory] = new[0] + results[-1] if cell.memory == 0 else results[-1]
        stays = [states[0] if goes_on is None else states[0] + gs[t], *states[1:]]
        states = [_select(goes_on, a, b) for a, b in zip(new, stays, strict=True)]
        if before_steps:
            states = [state + b[t] for state, b in zip(states, before_steps, strict=True)]
    return (order.join(of_x), *([order.join(of_u)] if cell.splits else []), *states)


def _all_outputs(formula: Formula, values: Sequence[Tensor]) -> Sequence[Tensor]:
    results = call(formula, *values)
    return results if isinstance(results, tuple) else (results,)


def _blocks(cell: Cell, rows: Tensor, count: int | None = None) -> Sequence[Tensor]:
    """The blocks of columns."""
    count = count or cell.blocks
    return split(rows, rows.shape[-1] // count, -1) if count > 1 else (rows,)


def _select(condition: Tensor | None, a: Tensor, b: Tensor | float) -> Tensor:
    return a if condition is None else where(condition, a, b)


def _rows(x: Tensor) -> Tensor:
    """The first two axes merged."""
    return reshape(x, (-1, x.shape[-1]))


# ----------------------------------------------------------------------------------------- public functions
def recurrent(
    cell: str,
    x: Tensor,
    states: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    batch_first: bool = False,
    reverse: bool = False,
) -> tuple[Tensor, ...]:
    """A recurrent layer in one direction.

    Args:
        cell: ``lstm``, ``gru``, ``rnn_tanh`` or ``rnn_relu``.
        x: projections of the inputs, (time, batch, blocks * hidden); with ``batch_first`` (batch, time, ...).
        states: the initial hidden state (batch, hidden), for the LSTM also the cell state.
        weight: (blocks * hidden, hidden).
        bias: (blocks * hidden,), added to the product of weight and hidden state.
        sizes: int64 (time,), how many of the sequences go on at each step: they are sorted by length, longest
            first. The states of the others stay as they are.
        batch_first: which axis comes first.
        reverse: from the last step to the first.

    Returns:
        The hidden states (time, batch, hidden) in the layout of x, and the final states.

    Raises:
        RuntimeError: shapes or dtypes do not fit.
    """
    given = [tensor for tensor in (weight, bias, sizes) if tensor is not None]
    operands = [contiguous(tensor) for tensor in (x, *states, *given)]
    keep = mode.grad and any(tensor.requires_grad for tensor in operands)
    primitive = Recurrent.of(cell, batch_first, reverse, bias is not None, keep)
    return apply(primitive, *operands)[: 1 + len(states)]
