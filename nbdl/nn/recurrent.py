"""Recurrent layers: RNN, LSTM and GRU over sequences."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Sequence
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.backend.cells import CELLS
from nbdl.nn import init
from nbdl.nn.functional.dropout import dropout
from nbdl.nn.module import Module
from nbdl.nn.parameter import Parameter
from nbdl.nn.utils.rnn import PackedSequence, pack_rows, pad_rows
from nbdl.ops.creation import empty
from nbdl.ops.joining import cat, stack
from nbdl.ops.matmul import linear
from nbdl.ops.recurrent import Order, recurrent, unroll
from nbdl.ops.selecting import index_select
from nbdl.ops.shape import squeeze, unsqueeze

__all__ = ["GRU", "LSTM", "RNN", "RNNBase"]

_CELLS = {mode: CELLS[mode.lower()] for mode in ("LSTM", "GRU", "RNN_TANH", "RNN_RELU")}


class RNNBase(Module):
    """What RNN, LSTM and GRU have in common: the parameters, and the way through layers and directions.

    Args:
        mode: ``RNN_TANH``, ``RNN_RELU``, ``LSTM`` or ``GRU``.
        input_size: features of the input.
        hidden_size: units of a layer.
        num_layers: layers, each reading the output of the one before.
        bias: whether there are biases.
        batch_first: inputs and outputs are (batch, time, features), not (time, batch, features).
        dropout: probability with which elements of the output of every layer but the last are dropped.
        bidirectional: a second network walks from the last step to the first; the outputs are concatenated.
        proj_size: size to which the hidden state is projected, less than ``hidden_size``; 0: it is not.
        device: where the parameters are.
        dtype: their dtype.

    Attributes:
        weight_ih_l{k}: (blocks * hidden_size, features of the input of layer k); blocks are 4 for the LSTM
            (input, forget, cell, output), 3 for the GRU (reset, update, new), else 1. Evenly distributed in
            ±1 / sqrt(hidden_size) at first, like all parameters.
        weight_hh_l{k}: (blocks * hidden_size, hidden_size or proj_size).
        bias_ih_l{k}: (blocks * hidden_size,).
        bias_hh_l{k}: (blocks * hidden_size,).
        weight_hr_l{k}: (proj_size, hidden_size), if there is a projection.
        weight_ih_l{k}_reverse: and so on, of the other direction.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self._check_sizes(mode, input_size, hidden_size, num_layers, proj_size)
        self._check_options(num_layers, bias, batch_first, dropout)
        self.mode, self.input_size, self.hidden_size = mode, input_size, hidden_size
        self.num_layers, self.bias, self.batch_first = num_layers, bias, batch_first
        self.dropout, self.bidirectional, self.proj_size = float(dropout), bool(bidirectional), proj_size
        wide = _CELLS[mode].blocks * hidden_size
        state = proj_size or hidden_size
        for layer in range(num_layers):
            features = input_size if layer == 0 else state * self._directions
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (wide, features), "weight_hh": (wide, state)}
            if bias:
                shapes |= {"bias_ih": (wide,), "bias_hh": (wide,)}
            if proj_size:
                shapes["weight_hr"] = (proj_size, hidden_size)
            for direction in range(self._directions):
                for name, shape in shapes.items():
                    parameter = Parameter(empty(*shape, device=device, dtype=dtype))
                    setattr(self, _name(name, layer, direction), parameter)
        self.reset_parameters()

    def _check_sizes(
        self, mode: str, input_size: Any, hidden_size: Any, num_layers: int, proj_size: int
    ) -> None:
        label = type(self).__name__
        if mode not in _CELLS:
            raise ValueError(f"{label}: Unrecognized RNN mode: {mode}; allowed are {', '.join(_CELLS)}")
        for name, value in {"input_size": input_size, "hidden_size": hidden_size}.items():
            if not isinstance(value, int):
                raise TypeError(f"{label}: {name} should be of type int, got: {type(value).__name__}")
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        for name, value in sizes.items():
            if value <= 0:
                raise ValueError(f"{label}: {name} must be greater than zero, got {value}")
        if proj_size < 0:
            raise ValueError(
                f"{label}: proj_size should be a positive integer or zero to disable projections, "
                f"got {proj_size}"
            )
        if proj_size >= hidden_size:
            raise ValueError(
                f"{label}: proj_size has to be smaller than hidden_size, got {proj_size} and {hidden_size}"
            )

    def _check_options(self, num_layers: int, bias: Any, batch_first: Any, dropout: Any) -> None:
        label = type(self).__name__
        for name, value in {"bias": bias, "batch_first": batch_first}.items():
            if not isinstance(value, bool):
                raise TypeError(f"{label}: {name} should be of type bool, got: {type(value).__name__}")
        if isinstance(dropout, bool) or not isinstance(dropout, numbers.Real) or not 0 <= float(dropout) <= 1:
            raise ValueError(
                f"{label}: dropout should be a number in range [0, 1] representing the probability of an "
                f"element being zeroed, got {dropout!r}"
            )
        if dropout and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                UserWarning,
                stacklevel=4,
            )

    @property
    def _directions(self) -> int:
        return 1 + self.bidirectional

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters, one list for each layer and direction."""
        places = [(k, d) for k in range(self.num_layers) for d in range(self._directions)]
        return [[p for p in self._weights(*place) if p is not None] for place in places]

    def _weights(self, layer: int, direction: int) -> list[Any]:
        """weight_ih, weight_hh, bias_ih, bias_hh, weight_hr; None for those that are not there."""
        members = self.__dict__
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return [members.get(_name(name, layer, direction)) for name in names]

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Does nothing: there is no library that wants the parameters in one piece of memory."""

    # ---------------------------------------------------------------------------------------------- forward
    def _run(self, input: Any, states: Sequence[Tensor] | None) -> tuple[Any, list[Tensor]]:
        """The output and the final states, (layers * directions, batch, size) each."""
        if isinstance(input, PackedSequence):
            return self._run_packed(input, states)
        label = self.mode.partition("_")[0]
        if input.array.ndim not in (2, 3):
            raise ValueError(
                f"{label}: Expected input to be 2D or 3D, got {input.array.ndim}D tensor instead"
            )
        is_batched, batch_axis = input.array.ndim == 3, 0 if self.batch_first else 1
        if states is not None:
            self._check_ranks(input.array.ndim, states)
        if not is_batched:
            input = unsqueeze(input, batch_axis)
            states = None if states is None else [unsqueeze(state, 1) for state in states]
        batch = input.array.shape[batch_axis]
        self._check_input(input, states, batch)
        if input.array.shape[1 - batch_axis] == 0:
            raise RuntimeError(f"{label}: Expected sequence length to be larger than 0 in RNN")
        output, finals = self._run_layers(input, states, batch, None)
        if not is_batched:
            return squeeze(output, batch_axis), [squeeze(final, 1) for final in finals]
        return output, finals

    def _run_packed(
        self, packed: PackedSequence, states: Sequence[Tensor] | None
    ) -> tuple[PackedSequence, list[Tensor]]:
        if packed.data.array.ndim != 2:
            raise RuntimeError(
                f"{self.mode}: input must have 2 dimensions in a packed sequence, "
                f"got {packed.data.array.ndim}"
            )
        sizes = packed.batch_sizes.tolist()
        if states is not None and packed.sorted_indices is not None:
            states = [index_select(state, 1, packed.sorted_indices) for state in states]
        self._check_input(packed.data, states, sizes[0])
        output, finals = self._run_layers(packed.data, states, sizes[0], packed.batch_sizes)
        if packed.unsorted_indices is not None:
            finals = [index_select(final, 1, packed.unsorted_indices) for final in finals]
        return PackedSequence(output, *packed[1:]), finals

    def _check_ranks(self, rank: int, states: Sequence[Tensor]) -> None:
        name = "hx and cx" if len(states) > 1 else "hx"
        ranks = [state.array.ndim for state in states]
        if any(own != rank for own in ranks):
            kind = "batched 3-D" if rank == 3 else "unbatched 2-D"
            raise RuntimeError(
                f"{self.mode}: For {kind} input, {name} should also be {rank}-D but got "
                f"{' and '.join(f'{own}-D' for own in ranks)} tensors"
            )

    def _check_input(self, input: Tensor, states: Sequence[Tensor] | None, batch: int) -> None:
        weight = self.weight_ih_l0
        if input.dtype != weight.dtype:
            raise ValueError(
                f"{self.mode}: RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). "
                f"Convert input: input.to({weight.dtype}), or convert model: model.to({input.dtype})"
            )
        if input.array.shape[-1] != self.input_size:
            raise RuntimeError(
                f"{self.mode}: input.size(-1) must be equal to input_size. Expected {self.input_size}, got "
                f"{input.array.shape[-1]}"
            )
        for k, state in enumerate(states or ()):
            expected = (self.num_layers * self._directions, batch, self._state_size(k))
            if state.array.shape != expected:
                place = f"hidden[{k}]" if self.mode == "LSTM" else "hidden"
                raise RuntimeError(
                    f"{self.mode}: Expected {place} size {expected}, got {list(state.array.shape)}"
                )

    def _state_size(self, k: int) -> int:
        return self.proj_size or self.hidden_size if k == 0 else self.hidden_size

    def _run_layers(
        self, x: Tensor, states: Sequence[Tensor] | None, batch: int, batch_sizes: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        finals: list[tuple[Tensor, ...]] = []
        zeros: list[Tensor] = []
        if states is None:
            sizes = [self._state_size(k) for k in range(_CELLS[self.mode].states)]
            by_size = {size: x.new_zeros(batch, size) for size in set(sizes)}  # they are only read
            zeros = [by_size[size] for size in sizes]
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(self._directions):
                initial = zeros if states is None else [state[len(finals)] for state in states]
                output, *final = self._run_direction(x, initial, layer, direction, batch_sizes)
                outputs.append(output)
                finals.append(tuple(final))
            x = outputs[0] if len(outputs) == 1 else cat(outputs, -1)
            if self.dropout and layer < self.num_layers - 1:
                x = dropout(x, self.dropout, self.training)
        return x, [unsqueeze(each[0], 0) if len(each) == 1 else stack(each) for each in zip(*finals)]

    def _run_direction(
        self, x: Tensor, states: Sequence[Tensor], layer: int, direction: int, batch_sizes: Tensor | None
    ) -> tuple[Tensor, ...]:
        """One layer in one direction; packed data if there are batch sizes."""
        cell, reverse = _CELLS[self.mode], bool(direction)
        weight_ih, weight_hh, bias_ih, bias_hh, weight_hr = self._weights(layer, direction)
        if bias_hh is not None and not cell.splits:  # the two are added anyway: once, and not at each step
            bias_ih, bias_hh = bias_ih + bias_hh, None
        x = linear(x, weight_ih, bias_ih)
        sizes = None if batch_sizes is None else batch_sizes.tolist()
        batch_first = self.batch_first and sizes is None
        if sizes is not None:
            x = pad_rows(x, sizes)
            batch_sizes = None if sizes[-1] == sizes[0] else batch_sizes.to(x.device)  # type: ignore[union-attr]
        if weight_hr is None:
            hidden, *finals = recurrent(
                cell.name,
                x,
                states,
                weight_hh,
                bias_hh,
                batch_sizes,
                batch_first=batch_first,
                reverse=reverse,
            )
        else:
            ragged = () if batch_sizes is None else (batch_sizes,)
            order = Order(batch_first, reverse)
            hidden, *finals = unroll(cell, order, x, states, weight_hh, bias_hh, ragged, weight_hr)
        return (hidden if sizes is None else pack_rows(hidden, sizes), *finals)

    def extra_repr(self) -> str:
        shown = [f"{self.input_size}", f"{self.hidden_size}"]
        defaults = {
            "proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0,
            "bidirectional": False,
        }  # fmt: skip
        for name, default in defaults.items():
            if getattr(self, name) != default:
                shown.append(f"{name}={getattr(self, name)}")
        return ", ".join(shown)


def _name(name: str, layer: int, direction: int) -> str:
    return f"{name}_l{layer}{'_reverse' if direction else ''}"


class _OneState(RNNBase):
    """A network whose only state is the hidden state."""

    def __init__(self, mode: str, *args: Any, **kwargs: Any):
        if "proj_size" in kwargs:
            raise ValueError(
                f"{type(self).__name__}: proj_size argument is only supported for LSTM, not RNN or GRU"
            )
        super().__init__(mode, *args, **kwargs)

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        output, (final,) = self._run(input, None if hx is None else [hx])
        return output, final


class RNN(_OneState):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), in layers (Elman 1990).

    Args:
        input_size: features of the input.
        hidden_size: units of a layer.
        num_layers: layers.
        nonlinearity: ``tanh`` or ``relu``.
        bias: as the following ones, see :class:`RNNBase`.
        batch_first: which axis comes first.
        dropout: between layers.
        bidirectional: in both directions.
        device: where the parameters are.
        dtype: their dtype.

    Attributes:
        weight_ih_l{k}: and the others, see :class:`RNNBase`.

    Shape:
        (time, batch, input_size) -> (time, batch, directions * hidden_size), and the final hidden states
        (layers * directions, batch, hidden_size); without batch (time, input_size). A PackedSequence gives a
        PackedSequence. The initial hidden states may be given as a second argument, otherwise they are zero.

    Example:
        >>> import nbdl
        >>> rnn = nbdl.nn.RNN(10, 20, num_layers=2)
        >>> output, hidden = rnn(nbdl.zeros(5, 3, 10))
        >>> output.shape, hidden.shape
        (nbdl.Size([5, 3, 20]), nbdl.Size([2, 3, 20]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args: Any,
        **kwargs: Any,
    ):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN: Unknown nonlinearity {nonlinearity!r}. Select from 'tanh' or 'relu'.")
        super().__init__(f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, *args, **kwargs)
        self.nonlinearity = nonlinearity


class GRU(_OneState):
    """Gated recurrent units (Cho et al. 2014), in layers.

    r = sigmoid(W_ir x + b_ir + W_hr h + b_hr), z = sigmoid(W_iz x + b_iz + W_hz h + b_hz),
    n = tanh(W_in x + b_in + r (W_hn h + b_hn)), and the new h is (1 - z) n + z h.

    Args:
        input_size: features of the input.
        hidden_size: units of a layer.
        num_layers: and the following ones, see :class:`RNNBase`.

    Attributes:
        weight_ih_l{k}: and the others, see :class:`RNNBase`.

    Shape:
        (time, batch, input_size) -> (time, batch, directions * hidden_size), and the final hidden states
        (layers * directions, batch, hidden_size); without batch (time, input_size). A PackedSequence gives a
        PackedSequence. The initial hidden states may be given as a second argument, otherwise they are zero.

    Example:
        >>> import nbdl
        >>> gru = nbdl.nn.GRU(10, 20, bidirectional=True)
        >>> output, hidden = gru(nbdl.zeros(5, 3, 10))
        >>> output.shape, hidden.shape
        (nbdl.Size([5, 3, 40]), nbdl.Size([2, 3, 20]))
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__("GRU", *args, **kwargs)


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), in layers.

    i = sigmoid(W_ii x + b_ii + W_hi h + b_hi), likewise f and o, g = tanh(W_ig x + b_ig + W_hg h + b_hg);
    the new c is f c + i g, the new h is o tanh(c), or W_hr (o tanh(c)) with ``proj_size``.

    Args:
        input_size: features of the input.
        hidden_size: units of a layer.
        num_layers: and the following ones, see :class:`RNNBase`.

    Attributes:
        weight_ih_l{k}: and the others, see :class:`RNNBase`.

    Shape:
        (time, batch, input_size) -> (time, batch, directions * size), and a pair of the final hidden states
        (layers * directions, batch, size) and the final cell states (layers * directions, batch,
        hidden_size), where size is ``proj_size`` or ``hidden_size``; without batch (time, input_size). A
        PackedSequence gives a PackedSequence. The pair of initial states may be given as a second argument,
        otherwise they are zero.

    Example:
        >>> import nbdl
        >>> lstm = nbdl.nn.LSTM(10, 20, batch_first=True)
        >>> output, (hidden, cell) = lstm(nbdl.zeros(3, 5, 10))
        >>> output.shape, hidden.shape, cell.shape
        (nbdl.Size([3, 5, 20]), nbdl.Size([1, 3, 20]), nbdl.Size([1, 3, 20]))
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__("LSTM", *args, **kwargs)

    def forward(
        self, input: Any, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        output, (hidden, cell) = self._run(input, hx)
        return output, (hidden, cell)
