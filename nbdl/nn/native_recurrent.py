"""``torch.lstm`` and its like: recurrent layers and cells as functions of their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.func.functional import functional_call
from nbdl.nn.recurrent import GRU, LSTM, RNN, RNNBase
from nbdl.nn.recurrent_cell import GRUCell, LSTMCell, RNNCell, RNNCellBase
from nbdl.nn.utils.init import not_drawn
from nbdl.nn.utils.rnn import PackedSequence

__all__ = [
    "gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell",
]  # fmt: skip


_BLOCKS: dict[type, int] = {LSTM: 4, GRU: 3}


def _layers(name: str, kind: type[RNNBase], **fixed: Any) -> Callable[..., tuple[Any, ...]]:
    def function(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        packed = len(args) > 3 and isinstance(args[3], Sequence)  # (data, batch_sizes, hx, params, ...)
        names = ["data", "batch_sizes"] if packed else ["input"]
        names += [
            "hx",
            "params",
            "has_biases",
            "num_layers",
            "dropout",
            "train",
            "bidirectional",
            "batch_first",
        ]
        given = dict(zip(names, args)) | kwargs
        hx, weights = given["hx"], list(given["params"])
        hidden = weights[0].array.shape[0] // _BLOCKS.get(kind, 1)
        state_size = weights[1].array.shape[1]
        projection = {"proj_size": state_size} if state_size != hidden else {}
        network = not_drawn(
            kind,
            weights[0].array.shape[1],
            hidden,
            num_layers=given["num_layers"],
            bias=bool(given["has_biases"]),
            batch_first=bool(given.get("batch_first", False)),
            dropout=given["dropout"] if given["num_layers"] > 1 else 0.0,
            bidirectional=bool(given["bidirectional"]),
            device=weights[0].device,
            dtype=weights[0].dtype,
            **fixed | projection,
        ).train(bool(given["train"]))
        input = PackedSequence(given["data"], given["batch_sizes"]) if "data" in given else given["input"]
        parameters = dict(zip([key for key, _ in network.named_parameters()], weights, strict=True))
        state = tuple(hx) if isinstance(hx, (list, tuple)) else hx
        output, final = functional_call(network, parameters, (input, state))
        if "data" in given:
            output = output.data
        return (output, *final) if isinstance(final, tuple) else (output, final)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f":class:`nbdl.nn.{kind.__name__}` of (input, hx, params, has_biases, num_layers, dropout, train, "
        "bidirectional, batch_first); packed: (data, batch_sizes, hx, params, ...). Output and states."
    )
    return function


def _cell(name: str, kind: type[RNNCellBase], **fixed: Any) -> Callable[..., Any]:
    def function(
        input: Tensor,
        hx: Any,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Any:
        hidden, features = w_hh.array.shape[1], w_ih.array.shape[1]
        cell = not_drawn(
            kind, features, hidden, b_ih is not None, device=w_ih.device, dtype=w_ih.dtype, **fixed
        )
        weights = {"weight_ih": w_ih, "weight_hh": w_hh}
        if b_ih is not None and b_hh is not None:
            weights |= {"bias_ih": b_ih, "bias_hh": b_hh}
        return functional_call(cell, weights, (input, tuple(hx) if isinstance(hx, list) else hx))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f":class:`nbdl.nn.{kind.__name__}` as a function of its state and weights."
    return function


gru, gru_cell = _layers("gru", GRU), _cell("gru_cell", GRUCell)
lstm, lstm_cell = _layers("lstm", LSTM), _cell("lstm_cell", LSTMCell)
rnn_relu, rnn_tanh = _layers("rnn_relu", RNN, nonlinearity="relu"), _layers("rnn_tanh", RNN)
rnn_relu_cell = _cell("rnn_relu_cell", RNNCell, nonlinearity="relu")
rnn_tanh_cell = _cell("rnn_tanh_cell", RNNCell)
