"""Recurrent layers, cells and packed sequences: against PyTorch, derivatives also against differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nbdl
from nbdl import nn
from nbdl.autograd import gradcheck, gradgradcheck
from nbdl.backend.cells import CELLS
from nbdl.nn.utils import rnn
from nbdl.ops.recurrent import recurrent

# (layer, keyword arguments, whether initial states are given)
LAYERS = [
    ("RNN", {}, False),
    ("RNN", {"nonlinearity": "relu"}, True),
    ("RNN", {"num_layers": 2, "bidirectional": True, "batch_first": True}, True),
    ("RNN", {"bias": False}, True),
    ("GRU", {}, False),
    ("GRU", {"bias": False, "batch_first": True}, True),
    ("GRU", {"num_layers": 3, "bidirectional": True}, True),
    ("LSTM", {}, False),
    ("LSTM", {"batch_first": True}, True),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "bias": False}, True),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True}, False),
    ("LSTM", {"proj_size": 3}, True),
    ("LSTM", {"proj_size": 2, "num_layers": 2, "bidirectional": True, "batch_first": True}, True),
]
CELL_LAYERS = [
    ("RNNCell", {}),
    ("RNNCell", {"nonlinearity": "relu", "bias": False}),
    ("GRUCell", {}),
    ("GRUCell", {"bias": False}),
    ("LSTMCell", {}),
    ("LSTMCell", {"bias": False}),
]
FEATURES, HIDDEN, TIME, BATCH = 3, 4, 5, 6
LENGTHS = [3, 5, 1, 3, 5, 2]
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


def case_name(case):
    return "-".join([case[0], *map(str, case[1]), "states" if case[-1] is True else ""])


def pair_of(torch, name, options):
    """PyTorch's layer and ours in float64 with the same parameters."""
    theirs = getattr(torch.nn, name)(FEATURES, HIDDEN, **options).double()
    ours = getattr(nn, name)(FEATURES, HIDDEN, **options).double()
    assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return theirs, ours


def states_of(layer, random, batch=BATCH):
    rows = layer.num_layers * (1 + layer.bidirectional)
    sizes = [layer.proj_size or HIDDEN] + [HIDDEN] * (layer.mode == "LSTM")
    return [random.standard_normal((rows, batch, n)) for n in sizes]


def run(layer, tensor, x, states, pack=lambda x: x, unpack=lambda y: y):
    """Outputs, then the gradients of their weighted sum by the input, the states and the parameters."""
    x, states = (tensor(x, requires_grad=True), [tensor(s, requires_grad=True) for s in states])
    given = [] if not states else [tuple(states) if len(states) > 1 else states[0]]
    output, finals = layer(pack(x), *given)
    finals = finals if isinstance(finals, tuple) else (finals,)
    outputs = [unpack(output), *finals]
    sum((y * y * y).sum() for y in outputs).backward()
    gradients = [v.grad for v in (x, *states, *layer.parameters())]
    return [value.detach().numpy() for value in (*outputs, *gradients)]


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, **CLOSE)


@pytest.mark.torch
@pytest.mark.parametrize("case", LAYERS, ids=case_name)
def test_layers_same_as_torch(case, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    name, options, with_states = case
    theirs, ours = pair_of(torch, name, options)
    random = np.random.default_rng(0)
    leading = (BATCH, TIME) if ours.batch_first else (TIME, BATCH)
    x = random.standard_normal((*leading, FEATURES))
    states = states_of(ours, random) if with_states else []
    assert_same(run(ours, nbdl.tensor, x, states), run(theirs, torch.tensor, x, states))
    unbatched = x[0] if ours.batch_first else x[:, 0]
    states = [state[:, 0] for state in states]
    assert_same(run(ours, nbdl.tensor, unbatched, states), run(theirs, torch.tensor, unbatched, states))
    with nbdl.no_grad():  # nothing is kept for a gradient
        given, wanted = ours(nbdl.tensor(x)), theirs(torch.tensor(x))
    np.testing.assert_allclose(given[0].numpy(), wanted[0].detach().numpy(), **CLOSE)


@pytest.mark.torch
@pytest.mark.parametrize("case", LAYERS, ids=case_name)
def test_packed_sequences_same_as_torch(case, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    name, options, with_states = case
    theirs, ours = pair_of(torch, name, options)
    random = np.random.default_rng(0)
    x = random.standard_normal((BATCH, TIME, FEATURES))
    states = states_of(ours, random) if with_states else []
    for enforce, lengths in ((False, LENGTHS), (True, sorted(LENGTHS, reverse=True)), (True, [4] * BATCH)):
        results = []
        for layer, tensor, module in ((ours, nbdl.tensor, rnn), (theirs, torch.tensor, torch.nn.utils.rnn)):

            def pack(x, module=module, enforce=enforce, lengths=lengths):
                return module.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=enforce)

            def unpack(y, module=module):
                return module.pad_packed_sequence(y)[0]

            for parameter in layer.parameters():
                parameter.grad = None
            results.append(run(layer, tensor, x, states, pack, unpack))
        assert_same(*results)


@pytest.mark.torch
@pytest.mark.parametrize("case", CELL_LAYERS, ids=case_name)
def test_cells_same_as_torch(case, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    name, options = case
    theirs, ours = pair_of(torch, name, options)
    random = np.random.default_rng(0)
    for leading in ((BATCH,), ()):
        x = random.standard_normal((*leading, FEATURES))
        hidden = [random.standard_normal((*leading, HIDDEN)) for _ in range(1 + (name == "LSTMCell"))]
        for states in ([], hidden):
            results = []
            for layer, tensor in ((ours, nbdl.tensor), (theirs, torch.tensor)):
                values = [tensor(v, requires_grad=True) for v in (x, *states)]
                given = values[1:] if len(states) < 2 else [tuple(values[1:])]
                found = layer(values[0], *given)
                found = found if isinstance(found, tuple) else (found,)
                for parameter in layer.parameters():
                    parameter.grad = None
                sum((y * y).sum() for y in found).backward()
                gradients = [v.grad for v in (*values, *layer.parameters())]
                results.append([v.detach().numpy() for v in (*found, *gradients)])
            assert_same(*results)


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("sizes", [None, [2, 2, 1]], ids=["even", "ragged"])
@pytest.mark.parametrize("name", CELLS)
def test_derivatives(name, sizes, reverse, backend):
    cell, random = CELLS[name], np.random.default_rng(0)
    n, batch, wide = 2, 2, 2 * CELLS[name].blocks

    def normal(*shape):
        return nbdl.tensor(random.standard_normal(shape) + 0.3, requires_grad=True)

    inputs = [normal(batch, 3, wide), *[normal(batch, n) for _ in range(cell.states)], normal(wide, n)]
    inputs.append(normal(wide))

    def layer(x, *operands):
        *states, weight, bias = operands
        counts = None if sizes is None else nbdl.tensor(sizes)
        return recurrent(name, x, states, weight, bias, counts, batch_first=True, reverse=reverse)

    assert gradcheck(layer, inputs, check_forward_ad=True, atol=1e-7, rtol=1e-6)
    if backend == "numpy":  # elsewhere the same compositions compile many kernels; the next test has some
        assert gradgradcheck(layer, inputs, fast_mode=True, check_fwd_over_rev=True, atol=1e-6, rtol=1e-5)


def test_second_derivatives_of_a_network(backend):
    """Through two layers in both directions, with respect to the parameters."""
    layer = nn.GRU(2, 2, num_layers=2, bidirectional=True, dtype=nbdl.float64)
    x = nbdl.tensor(np.random.default_rng(0).standard_normal((3, 2, 2)))
    names = [name for name, _ in layer.named_parameters()]

    def loss(*values):
        for name, value in zip(names, values, strict=True):
            layer.__dict__[name] = value
        output, hidden = layer(x)
        return (output * output).sum() + hidden.exp().sum()

    values = [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()]
    assert gradcheck(loss, values, fast_mode=True)
    assert gradgradcheck(loss, values, fast_mode=True)


def test_final_states_alone(backend):
    """The gradient comes through the final states only; the initial states are constants."""
    layer = nn.LSTM(FEATURES, HIDDEN, dtype=nbdl.float64)
    x = nbdl.tensor(np.random.default_rng(0).standard_normal((TIME, BATCH, FEATURES)), requires_grad=True)
    output, (hidden, cell) = layer(x)
    np.testing.assert_array_equal(output[-1].detach().numpy(), hidden[0].detach().numpy())
    (through_output,) = nbdl.autograd.grad(output[-1].sum() + cell.sum(), x, retain_graph=True)
    (through_state,) = nbdl.autograd.grad(hidden.sum() + cell.sum(), x)
    np.testing.assert_allclose(through_output.numpy(), through_state.numpy(), rtol=1e-14)


def test_dropout_lies_between_layers():
    nbdl.manual_seed(0)
    x = nbdl.randn(TIME, BATCH, FEATURES)
    layer = nn.RNN(FEATURES, HIDDEN, num_layers=2, dropout=1.0)
    bias = layer.bias_ih_l1 + layer.bias_hh_l1
    np.testing.assert_allclose(
        layer(x)[0][0].detach().numpy(), bias.tanh().expand(BATCH, HIDDEN).detach().numpy(), rtol=1e-5
    )
    layer.eval()
    reference = nn.RNN(FEATURES, HIDDEN, num_layers=2)
    reference.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(layer(x)[0].detach().numpy(), reference(x)[0].detach().numpy())


def test_initial_values_and_attributes():
    layer = nn.LSTM(FEATURES, 50, num_layers=2, bidirectional=True, proj_size=5)
    values = np.concatenate([p.detach().numpy().ravel() for p in layer.parameters()])
    assert 0.99 / math.sqrt(50) < np.abs(values).max() <= 1 / math.sqrt(50)
    assert [len(weights) for weights in layer.all_weights] == [5] * 4
    assert layer.all_weights[1][4] is layer.weight_hr_l0_reverse
    assert (layer.mode, layer.input_size, layer.hidden_size, layer.proj_size) == ("LSTM", FEATURES, 50, 5)
    assert layer.flatten_parameters() is None


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_other_dtypes(dtype, backend):
    layer = nn.GRU(FEATURES, HIDDEN).to(getattr(nbdl, dtype))
    x = nbdl.randn(TIME, BATCH, FEATURES)
    expected, _ = nn.GRU.forward(nn.Module.double(layer), x.double())
    output, hidden = layer.to(getattr(nbdl, dtype))(x.to(getattr(nbdl, dtype)))
    assert output.dtype == hidden.dtype == np.dtype(dtype)
    tolerance = {"float16": 1e-2, "float32": 2e-6}[dtype]
    np.testing.assert_allclose(
        output.detach().numpy(), expected.detach().numpy(), atol=tolerance, rtol=tolerance
    )


def test_empty_batch(backend):
    layer = nn.LSTM(FEATURES, HIDDEN)
    output, (hidden, _) = layer(nbdl.zeros(TIME, 0, FEATURES))
    output.sum().backward()
    assert output.shape == (TIME, 0, HIDDEN)
    assert hidden.shape == (1, 0, HIDDEN)
    assert not layer.weight_hh_l0.grad.numpy().any()


# (what is done, class of the error, a part of its text)
ERRORS = {
    "proj_size of GRU": (lambda: nn.GRU(2, 3, proj_size=1), ValueError, "only supported for LSTM"),
    "large proj_size": (lambda: nn.LSTM(2, 3, proj_size=3), ValueError, "smaller than hidden_size"),
    "negative proj_size": (lambda: nn.LSTM(2, 3, proj_size=-1), ValueError, "positive integer or zero"),
    "dropout": (lambda: nn.LSTM(2, 3, 2, dropout=1.5), ValueError, "range"),
    "dropout bool": (lambda: nn.LSTM(2, 3, 2, dropout=True), ValueError, "range"),
    "one layer": (lambda: nn.LSTM(2, 3, dropout=0.5), UserWarning, "num_layers greater than 1"),
    "hidden_size": (lambda: nn.RNN(2, 3.0), TypeError, "hidden_size should be of type int"),
    "zero hidden_size": (lambda: nn.RNN(2, 0), ValueError, "hidden_size must be greater than zero"),
    "num_layers": (lambda: nn.RNN(2, 3, 0), ValueError, "num_layers must be greater than zero"),
    "bias": (lambda: nn.RNN(2, 3, bias=1), TypeError, "bias should be of type bool"),
    "nonlinearity": (lambda: nn.RNN(2, 3, nonlinearity="sin"), ValueError, "Unknown nonlinearity"),
    "mode": (lambda: nn.RNNBase("SRU", 2, 3), ValueError, "Unrecognized RNN mode"),
    "rank": (lambda: nn.RNN(2, 3)(nbdl.zeros(2)), ValueError, "2D or 3D"),
    "features": (lambda: nn.RNN(2, 3)(nbdl.zeros(5, 1, 4)), RuntimeError, "Expected 2, got 4"),
    "dtype": (lambda: nn.RNN(2, 3)(nbdl.zeros(5, 1, 2).double()), ValueError, "does not match weight dtype"),
    "no steps": (lambda: nn.RNN(2, 3)(nbdl.zeros(0, 1, 2)), RuntimeError, "larger than 0"),
    "rank of the state": (
        lambda: nn.RNN(2, 3)(nbdl.zeros(5, 1, 2), nbdl.zeros(1, 3)), RuntimeError, "should also be 3-D"),
    "rank of the states": (
        lambda: nn.LSTM(2, 3)(nbdl.zeros(5, 2), (nbdl.zeros(1, 1, 3), nbdl.zeros(1, 3))),
        RuntimeError, "hx and cx should also be 2-D"),
    "shape of the state": (
        lambda: nn.LSTM(2, 3)(nbdl.zeros(5, 1, 2), (nbdl.zeros(1, 1, 3), nbdl.zeros(1, 2, 3))),
        RuntimeError, r"Expected hidden\[1\] size \(1, 1, 3\), got \[1, 2, 3\]"),
    "cell rank": (lambda: nn.GRUCell(2, 3)(nbdl.zeros(1, 1, 2)), ValueError, "1D or 2D"),
    "cell features": (lambda: nn.GRUCell(2, 3)(nbdl.zeros(1, 3)), RuntimeError, "inconsistent input_size"),
    "cell state": (
        lambda: nn.GRUCell(2, 3)(nbdl.zeros(1, 2), nbdl.zeros(2, 3)), RuntimeError, "hidden0 has incons"),
    "cell nonlinearity": (
        lambda: nn.RNNCell(2, 3, nonlinearity="sin")(nbdl.zeros(1, 2)), RuntimeError, "Unknown nonlinearity"),
    "unsorted": (lambda: rnn.pack_padded_sequence(nbdl.zeros(3, 2), [2, 3]), RuntimeError, "sorted"),
    "no length": (lambda: rnn.pack_padded_sequence(nbdl.zeros(3, 2), [2, 0]), RuntimeError, "greater than 0"),
    "lengths": (lambda: rnn.pack_padded_sequence(nbdl.zeros(3, 2), [2]), RuntimeError, "equal to batch_size"),
    "long": (lambda: rnn.pack_padded_sequence(nbdl.zeros(3, 2), [4, 1]), RuntimeError, "3 steps"),
    "empty": (lambda: rnn.pack_padded_sequence(nbdl.zeros(0, 2), [0, 0]), RuntimeError, "empty"),
    "total_length": (
        lambda: rnn.pad_packed_sequence(rnn.pack_sequence([nbdl.zeros(3)]), total_length=2),
        ValueError, "total_length=2"),
    "no sequences": (lambda: rnn.pad_sequence([]), RuntimeError, "empty list"),
    "no iterable": (lambda: rnn.pad_sequence(3), RuntimeError, "Expected iterable"),
    "padding side": (
        lambda: rnn.pad_sequence([nbdl.zeros(3)], padding_side="up"), RuntimeError, "'left' or 'right'"),
    "primitive": (
        lambda: recurrent("gru", nbdl.zeros(3, 2, 9), [nbdl.zeros(2, 3)], nbdl.zeros(6, 3)),
        RuntimeError, "gru: expected projections"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case, backend):
    action, error, text = ERRORS[case]
    with pytest.raises(error, match=text):
        action()


# ---- Packed and padded sequences ----


@pytest.mark.torch
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
def test_sequences_same_as_torch(shape, batch_first, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    random = np.random.default_rng(0)
    arrays = [random.standard_normal((length, *shape)) for length in LENGTHS]
    theirs, ours = torch.nn.utils.rnn, rnn
    a, b = [nbdl.tensor(array) for array in arrays], [torch.tensor(array) for array in arrays]
    for side in ("right", "left"):
        assert_same(
            [ours.pad_sequence(a, batch_first, -1.5, side).numpy()],
            [theirs.pad_sequence(b, batch_first, -1.5, side).numpy()],
        )
    packed, wanted = ours.pack_sequence(a, False), theirs.pack_sequence(b, False)
    for name in ("data", "batch_sizes"):
        assert_same([getattr(packed, name).numpy()], [getattr(wanted, name).numpy()])
    assert packed.batch_sizes.dtype == np.int64
    for order in ("sorted_indices", "unsorted_indices"):  # equal lengths in another order than PyTorch's
        lengths = np.array(LENGTHS)[packed.sorted_indices.numpy()]
        assert lengths.tolist() == sorted(LENGTHS, reverse=True)
        assert sorted(getattr(packed, order).tolist()) == list(range(BATCH))
    assert_same(
        [v.numpy() for v in ours.pad_packed_sequence(packed, batch_first, 2.5, 7)],
        [v.numpy() for v in theirs.pad_packed_sequence(wanted, batch_first, 2.5, 7)],
    )
    assert_same([v.numpy() for v in ours.unpack_sequence(packed)], arrays)


def test_packed_sequence_converts():
    packed = rnn.pack_sequence([nbdl.tensor([1.0, 2.0, 3.0]), nbdl.tensor([4.0])])
    assert packed.sorted_indices is None
    assert packed.double().data.dtype == np.float64
    assert packed.double().batch_sizes is packed.batch_sizes
    assert packed.float() is packed
    assert not packed.cpu().is_cuda
    data, batch_sizes, *_ = packed
    assert rnn.PackedSequence((data, batch_sizes)).data is data


def test_gradients_of_packing(backend):
    x = nbdl.tensor(np.random.default_rng(0).standard_normal((3, 4, 2)), requires_grad=True)

    def there_and_back(x):
        packed = rnn.pack_padded_sequence(x, [2, 1, 4], batch_first=True, enforce_sorted=False)
        return rnn.pad_packed_sequence(packed._replace(data=packed.data.exp()), batch_first=True)[0]

    assert gradcheck(there_and_back, [x], check_forward_ad=True)
    assert gradgradcheck(there_and_back, [x])
