"""Recurrent networks on NumPy arrays: one layer in one direction, over the whole sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nbdl.backend.cells import CELLS
from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered


class Recurrent:
    """The cells of :mod:`nbdl.backend.cells`, step by step."""

    xp: Any
    pointwise: Callable[..., Any]

    def recurrent(
        self,
        x: Any,
        *operands: Any,
        cell: str,
        batch_first: bool,
        reverse: bool,
        has_bias: bool,
        keep: bool,
        out: Any = None,
    ) -> tuple[Any, ...]:
        """The hidden states of a layer in one direction.

        With u = bias + weight h, a step computes the new states from x, u and the states
        (:attr:`nbdl.backend.cells.Cell.step`).

        Args:
            x: projections of the inputs, (time, batch, blocks * hidden); with ``batch_first`` (batch, time,
                blocks * hidden).
            operands: the initial states, one or two of shape (batch, hidden); the weight (blocks * hidden,
                hidden); the bias (blocks * hidden,) if ``has_bias``; and, if the sequences differ in length,
                how many go on at each step, int64 (time,): the first so many of the batch, longest first.
                The states of the others stay as they are.
            cell: name of the cell.
            batch_first: which axis comes first.
            reverse: from the last step to the first.
            has_bias: whether there is a bias.
            keep: whether the results that a gradient reads are among the outputs.
            out: receives the results.

        Returns:
            The hidden states of all steps (time, batch, hidden) and the final states; with ``keep`` also the
            saved outputs of the steps (time, batch, saved * hidden) and the states before each step, in the
            layout of x.
        """
        kind = CELLS[cell]
        *states, weight = [widened(array) for array in operands[: kind.states + 1]]
        bias = widened(operands[kind.states + 1]) if has_bias else None
        sizes = operands[kind.states + 1 + has_bias :]
        steps, (batch, n) = _time_major(x, batch_first), states[0].shape
        states = [state.copy() for state in states]
        widths = [1, kind.saved, *[1] * kind.states] if keep else [1]
        logs = [self._log(x, width * n) for width in widths]
        for t, active in _order(steps.shape[0], batch, sizes, reverse):
            if keep:
                for log, state in zip(logs[2:], states, strict=True):
                    _time_major(log, batch_first)[t] = state
            u = states[0][:active] @ weight.T
            if bias is not None:
                u = u + bias
            memory = [] if kind.memory is None else [states[kind.memory][:active]]
            values = [*_blocks(widened(steps[t, :active]), n), *_blocks(u, n), *memory]
            results = self._evaluate(kind.step, values)
            for state, value in zip(states, results[kind.saved :], strict=True):
                state[:active] = value
            _time_major(logs[0], batch_first)[t] = states[0]
            if keep:
                row = _time_major(logs[1], batch_first)[t]
                row[active:] = 0
                for target, value in zip(_blocks(row, n), results, strict=False):
                    target[:active] = value
        finals = [narrowed(state, x.dtype) for state in states]
        return delivered((logs[0], *finals, *logs[1:]), out)

    def recurrent_input(
        self,
        g: Any,
        *operands: Any,
        cell: str,
        batch_first: bool,
        reverse: bool,
        out: Any = None,
    ) -> tuple[Any, ...]:
        """The gradients of :meth:`recurrent`, by backpropagation through time.

        Args:
            g: gradient of the hidden states of all steps, in the layout of x.
            operands: the gradients of the final states; what :meth:`recurrent` kept: the saved outputs of
                the steps, and before each step the state that the cell reads (none for some cells); the
                weight; and how many sequences go on at each step, if they differ.
            cell: of :meth:`recurrent`.
            batch_first: of :meth:`recurrent`.
            reverse: of :meth:`recurrent`.
            out: receives the results.

        Returns:
            The gradients of x, of u if they differ (:attr:`nbdl.backend.cells.Cell.splits`), both in the
            layout of x, and of the initial states.
        """
        kind = CELLS[cell]
        states = [widened(array).copy() for array in operands[: kind.states]]
        has_memory = kind.memory is not None
        saved, *rest = [_time_major(x, batch_first) for x in operands[kind.states :][: 1 + has_memory]]
        weight, *sizes = operands[kind.states + 1 + has_memory :]
        weight, steps, (batch, n) = widened(weight), _time_major(g, batch_first), states[0].shape
        logs = [self._log(g, kind.blocks * n) for _ in range(1 + kind.splits)]
        for t, active in _order(steps.shape[0], batch, sizes, not reverse):
            values = [*_blocks(widened(saved[t, :active]), n), *[widened(m[t, :active]) for m in rest]]
            values += [*[state[:active] for state in states], widened(steps[t, :active])]
            results = self._evaluate(kind.gradient, values)
            for k, log in enumerate(logs):
                row = _time_major(log, batch_first)[t]
                row[active:] = 0
                for target, value in zip(_blocks(row, n), results[k * kind.blocks :], strict=False):
                    target[:active] = value
            of_u = self.xp.concatenate(results[kind.blocks * (len(logs) - 1) :][: kind.blocks], axis=1)
            before = of_u @ weight
            if kind.memory is not None:
                states[kind.memory][:active] = results[-1]
            if kind.memory == 0:
                before = before + results[-1]
            states[0][:active] = before
            states[0][active:] += widened(steps[t, active:])
        return delivered((*logs, *[narrowed(state, g.dtype) for state in states]), out)

    def _evaluate(self, formula: Any, values: Sequence[Any]) -> tuple[Any, ...]:
        results = self.pointwise(*values, formula=formula, weak=0)
        return results if isinstance(results, tuple) else (results,)

    def _log(self, x: Any, width: int) -> Any:
        return self.xp.empty((*x.shape[:2], width), x.dtype)


def _time_major(x: Any, batch_first: bool) -> Any:
    return x.swapaxes(0, 1) if batch_first else x


def _blocks(rows: Any, n: int) -> list[Any]:
    """The blocks of n columns."""
    return [rows[..., k : k + n] for k in range(0, rows.shape[-1], n)] if n else []


def _order(length: int, batch: int, sizes: Sequence[Any], reverse: bool) -> Iterator[tuple[int, int]]:
    """The steps in the order of computation, and how many sequences go on at each."""
    steps = range(length - 1, -1, -1) if reverse else range(length)
    counts = np.asarray(sizes[0].tolist(), np.int64) if sizes else np.full(length, batch)
    return ((t, int(counts[t])) for t in steps)
