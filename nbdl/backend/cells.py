"""Recurrent cells as formulas: what a step does to one sequence and one hidden unit.

A step multiplies the previous hidden state by the recurrent weights, which is no formula, and then computes,
element by element, the new states from

    x    the projection of the input, one value for each block of the weights (the four gates of the LSTM),
    u    the product with the previous hidden state, likewise,
    m    the state that the step reads beside u, if there is one.

The gradient of a step is derived from its formula.
"""

from __future__ import annotations

from functools import cached_property

from nbdl.formula import Formula
from nbdl.formula.derivative import directional
from nbdl.formula.expr import Expr, substitute, var, variables
from nbdl.formula.functions import expit, relu, tanh

__all__ = ["CELLS", "Cell"]


class Cell:
    """A kind of recurrent network.

    Args:
        name: ``lstm``, ``gru``, ``rnn_tanh`` or ``rnn_relu``.
        step: formula of (x..., u..., m?); its outputs are what the gradient reads again, then the new hidden
            state, then (LSTM) the new cell state.
        blocks: number of values x, and of values u.
        states: 1, or 2 with a cell state.
        memory: which of the states is m; None if the step reads none.
    """

    def __init__(self, name: str, step: Formula, *, blocks: int, states: int, memory: int | None):
        self.name, self.step = name, step
        self.blocks, self.states, self.memory = blocks, states, memory
        self.saved = len(step.outputs) - states

    @cached_property
    def gradient(self) -> Formula:
        """The gradient of a step.

        Operands: the saved outputs; m, if there is one; the gradients of the states as the later steps give
        them; the gradient of the hidden state as the user gives it. Outputs: the gradients of x, those of u
        if they differ (:attr:`splits`), and that of m.
        """
        return self._gradient_formula(of_saved=False)

    @cached_property
    def full_gradient(self) -> Formula:
        """The same with gradients of the saved outputs as the last operands; for second derivatives."""
        return self._gradient_formula(of_saved=True)

    @cached_property
    def splits(self) -> bool:
        """Whether the gradients of x and of u differ, as those of the GRU, whose reset gate scales u."""
        of_x, of_u = self._split_gradients(False)
        return of_x != of_u

    def _gradient_formula(self, of_saved: bool) -> Formula:
        of_x, of_u = self._split_gradients(of_saved)
        outputs = [*of_x, *(of_u if self.splits else ())]
        if self.memory is not None:
            outputs.append(self._derivative(2 * self.blocks, of_saved))
        operands = [var(f"y{k}") for k in range(self.saved)]
        if self.memory is not None:
            operands.append(var(f"x{2 * self.blocks}"))
        operands += [*self._seeds(), var("g")]
        if of_saved:
            operands += [var(f"s{k}") for k in range(self.saved)]
        position = {operand: var(f"x{k}") for k, operand in enumerate(operands)}
        if not set(variables(outputs)) <= set(operands):
            raise ValueError(f"Cell {self.name!r}: the step saves too little for its gradient")
        return Formula.of(f"{self.name}_gradient", tuple(substitute(outputs, position)), len(operands))

    def _split_gradients(self, of_saved: bool) -> tuple[list[Expr], list[Expr]]:
        gradients = [self._derivative(k, of_saved) for k in range(2 * self.blocks)]
        return gradients[: self.blocks], gradients[self.blocks :]

    def _seeds(self) -> list[Expr]:
        """The gradients of the states from later steps."""
        return [var(f"d{k}") for k in range(self.states)]

    def _derivative(self, k: int, of_saved: bool) -> Expr:
        """Gradient of operand k, in terms of the saved outputs."""
        hidden, *cell = self._seeds()
        seeds = [hidden + var("g"), *cell]
        if of_saved:
            seeds = [*[var(f"s{j}") for j in range(self.saved)], *seeds]
        total: Expr | None = None
        for root, seed in zip(self.step.outputs[-len(seeds) :], seeds, strict=True):
            part = directional(root, {var(f"x{k}"): seed})
            if part is not None:
                total = part if total is None else total + part
        assert total is not None
        saved = {root: var(f"y{j}") for j, root in enumerate(self.step.outputs[: self.saved])}
        return substitute([total], saved)[0]


def _lstm(*values: Expr) -> tuple[Expr, ...]:
    """S. Hochreiter and J. Schmidhuber (1997), with the forget gate of F. Gers et al. (2000)."""
    (xi, xf, xg, xo), (ui, uf, ug, uo), c = values[:4], values[4:8], values[8]
    i, f, g, o = expit(xi + ui), expit(xf + uf), tanh(xg + ug), expit(xo + uo)
    new_c = f * c + i * g
    return i, f, g, o, o * tanh(new_c), new_c


def _gru(xr: Expr, xz: Expr, xn: Expr, ur: Expr, uz: Expr, un: Expr, h: Expr) -> tuple[Expr, ...]:
    """K. Cho et al. (2014), the reset gate after the product, as in cuDNN and PyTorch."""
    r, z = expit(xr + ur), expit(xz + uz)
    n = tanh(xn + r * un)
    return r, z, n, un, (1 - z) * n + z * h


def _rnn_tanh(x: Expr, u: Expr) -> tuple[Expr, ...]:
    """J. Elman (1990)."""
    h = tanh(x + u)
    return h, h


def _rnn_relu(x: Expr, u: Expr) -> tuple[Expr, ...]:
    """The same with a rectifier, Q. Le et al. (2015)."""
    a = x + u
    return a, relu(a)


CELLS = {
    cell.name: cell
    for cell in (
        Cell("lstm", Formula("lstm_step", _lstm, 9), blocks=4, states=2, memory=1),
        Cell("gru", Formula("gru_step", _gru, 7), blocks=3, states=1, memory=0),
        Cell("rnn_tanh", Formula("rnn_tanh_step", _rnn_tanh, 2), blocks=1, states=1, memory=None),
        Cell("rnn_relu", Formula("rnn_relu_step", _rnn_relu, 2), blocks=1, states=1, memory=None),
    )
}
