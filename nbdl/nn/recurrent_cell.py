"""Single steps of recurrent layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.backend.cells import CELLS
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.nn import init
from nbdl.nn.module import Module
from nbdl.nn.parameter import Parameter
from nbdl.ops.creation import empty
from nbdl.ops.matmul import linear
from nbdl.ops.pointwise import call
from nbdl.ops.recurrent import recurrent
from nbdl.ops.shape import squeeze, unsqueeze

__all__ = ["GRUCell", "LSTMCell", "RNNCell", "RNNCellBase"]

_ACTIVATED_SUM = {
    "rnn_tanh": Formula("rnn_tanh_step", lambda x, h: f.tanh(x + h), 2),
    "rnn_relu": Formula("rnn_relu_step", lambda x, h: f.relu(x + h), 2),
}


class RNNCellBase(Module):
    """What the single steps have in common.

    Args:
        input_size: features of the input.
        hidden_size: units.
        bias: whether there are biases.
        num_chunks: blocks of the weights.
        device: where the parameters are.
        dtype: their dtype.

    Attributes:
        weight_ih: (num_chunks * hidden_size, input_size), evenly distributed in ±1 / sqrt(hidden_size) at
            first, like all parameters.
        weight_hh: (num_chunks * hidden_size, hidden_size).
        bias_ih: (num_chunks * hidden_size,), or None.
        bias_hh: likewise.
    """

    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        wide = num_chunks * hidden_size
        self.weight_ih = Parameter(empty(wide, input_size, device=device, dtype=dtype))
        self.weight_hh = Parameter(empty(wide, hidden_size, device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            value = Parameter(empty(wide, device=device, dtype=dtype)) if bias else None
            self.register_parameter(name, value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0.0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _step(self, name: str, input: Tensor, states: Sequence[Tensor] | None) -> tuple[Tensor, ...]:
        """The new states of a batch, or of a single input."""
        cell, label = CELLS[name], type(self).__name__
        if input.array.ndim not in (1, 2):
            raise ValueError(f"{label}: Expected input to be 1D or 2D, got {input.array.ndim}D instead")
        for k, state in enumerate(states or ()):
            if state.array.ndim not in (1, 2):
                place = f"hx[{k}]" if cell.states > 1 else "hidden"
                raise ValueError(f"{label}: Expected {place} to be 1D or 2D, got {state.array.ndim}D instead")
        is_batched = input.array.ndim == 2
        x = input if is_batched else unsqueeze(input, 0)
        batch = x.array.shape[0]
        if states is None:
            states = [x.new_zeros(batch, self.hidden_size)] * cell.states
        elif not is_batched:
            states = [unsqueeze(state, 0) for state in states]
        if x.array.shape[1] != self.input_size:
            raise RuntimeError(
                f"{label}: input has inconsistent input_size: got {x.array.shape[1]}, "
                f"expected {self.input_size}"
            )
        for k, state in enumerate(states):
            if state.array.shape != (batch, self.hidden_size):
                raise RuntimeError(
                    f"{label}: hidden{k} has inconsistent shape: got {tuple(state.array.shape)}, expected "
                    f"{(batch, self.hidden_size)} (batch, hidden_size)"
                )
        finals = self._following(name, linear(x, self.weight_ih, self.bias_ih), states)
        return tuple(finals) if is_batched else tuple(squeeze(final, 0) for final in finals)

    def _following(self, name: str, of_input: Tensor, states: Sequence[Tensor]) -> Sequence[Tensor]:
        """The states after those that are given, and what the input contributes to the blocks."""
        _, *finals = recurrent(name, unsqueeze(of_input, 0), states, self.weight_hh, self.bias_hh)
        return finals

    def extra_repr(self) -> str:
        shown = [f"{self.input_size}", f"{self.hidden_size}"]
        if not self.bias:
            shown.append(f"bias={self.bias}")
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            shown.append(f"nonlinearity={self.nonlinearity}")
        return ", ".join(shown)


class RNNCell(RNNCellBase):
    """One step of :class:`nbdl.nn.RNN`: h' = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Args:
        input_size: features of the input.
        hidden_size: units.
        bias: whether there are biases.
        nonlinearity: ``tanh`` or ``relu``.
        device: where the parameters are.
        dtype: their dtype.

    Attributes:
        weight_ih: and the others, see :class:`RNNCellBase`.

    Shape:
        (batch, input_size) or (input_size,), and h of (batch, hidden_size), zero if it is not given
        -> (batch, hidden_size)

    Example:
        >>> import nbdl
        >>> nbdl.nn.RNNCell(10, 20)(nbdl.zeros(3, 10)).shape
        nbdl.Size([3, 20])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(
                f"RNNCell: Unknown nonlinearity {self.nonlinearity!r}. Select from 'tanh' or 'relu'."
            )
        (hidden,) = self._step(f"rnn_{self.nonlinearity}", input, None if hx is None else [hx])
        return hidden

    def _following(self, name: str, of_input: Tensor, states: Sequence[Tensor]) -> Sequence[Tensor]:
        of_state = linear(states[0], self.weight_hh, self.bias_hh)
        return (call(_ACTIVATED_SUM[name], of_input, of_state),)


class GRUCell(RNNCellBase):
    """One step of :class:`nbdl.nn.GRU`.

    Args:
        input_size: features of the input.
        hidden_size: units.
        bias: whether there are biases.
        device: where the parameters are.
        dtype: their dtype.

    Attributes:
        weight_ih: and the others, see :class:`RNNCellBase`.

    Shape:
        (batch, input_size) or (input_size,), and h of (batch, hidden_size), zero if it is not given
        -> (batch, hidden_size)

    Example:
        >>> import nbdl
        >>> nbdl.nn.GRUCell(10, 20)(nbdl.zeros(3, 10)).shape
        nbdl.Size([3, 20])
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ):
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        (hidden,) = self._step("gru", input, None if hx is None else [hx])
        return hidden


class LSTMCell(RNNCellBase):
    """One step of :class:`nbdl.nn.LSTM`.

    Args:
        input_size: features of the input.
        hidden_size: units.
        bias: whether there are biases.
        device: where the parameters are.
        dtype: their dtype.

    Attributes:
        weight_ih: and the others, see :class:`RNNCellBase`.

    Shape:
        (batch, input_size) or (input_size,), and a pair (h, c) of (batch, hidden_size) each, zero if it is
        not given -> a pair of (batch, hidden_size)

    Example:
        >>> import nbdl
        >>> hidden, cell = nbdl.nn.LSTMCell(10, 20)(nbdl.zeros(3, 10))
        >>> hidden.shape, cell.shape
        (nbdl.Size([3, 20]), nbdl.Size([3, 20]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ):
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        hidden, cell = self._step("lstm", input, hx)
        return hidden, cell
