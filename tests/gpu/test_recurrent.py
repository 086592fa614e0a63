"""Recurrent layers on the GPU backend: what NumPy gives, a launch for all steps."""

from __future__ import annotations

import numpy as np
import pytest
from gpu import standin
from gpu.samples import assert_same
from gpu.test_rows import KINDS, random

import nbdl
from nbdl.backend import registry
from nbdl.backend.cells import CELLS
from nbdl.backend.cupy import recurrent
from nbdl.nn.utils import rnn
from nbdl.ops.recurrent import Recurrent, RecurrentInput

pytestmark = pytest.mark.usefixtures("gpu")

STEPS, BATCH, HIDDEN = 3, 4, 5
# batch first, from the end, bias, sequences of different lengths
MANNERS = [(False, False, True, False), (True, True, False, True), (False, True, True, True)]


def operands(cell, dtype, batch_first, has_bias, has_sizes, n=HIDDEN):
    kind = CELLS[cell]
    lead = (BATCH, STEPS) if batch_first else (STEPS, BATCH)
    found = [random(*lead, kind.blocks * n, dtype=dtype)]
    found += [random(BATCH, n, dtype=dtype, seed=k + 1) for k in range(kind.states)]
    found.append(random(kind.blocks * n, n, dtype=dtype, seed=4))
    if has_bias:
        found.append(random(kind.blocks * n, dtype=dtype, seed=5))
    return found + ([np.array([4, 2, 1])] if has_sizes else [])


@pytest.mark.parametrize("manner", MANNERS, ids=str)
@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_results_and_gradients(cell, dtype, manner, order):
    batch_first, reverse, has_bias, has_sizes = manner
    kind, values = CELLS[cell], operands(cell, dtype, batch_first, has_bias, has_sizes)
    assert_same(Recurrent.of(cell, batch_first, reverse, has_bias, False), *values, scale=8)
    forward = Recurrent.of(cell, batch_first, reverse, has_bias, True)
    assert_same(forward, *values, scale=8)
    hidden, *rest = registry.load("numpy").execute(forward, values)
    saved, *before = rest[kind.states :]
    gradients = [
        random(*array.shape, dtype=dtype, seed=6 + k)
        for k, array in enumerate([hidden, *rest[: kind.states]])
    ]
    memory = [] if kind.memory is None else [before[kind.memory]]
    weight, *sizes = values[kind.states + 1 :: 1 + has_bias] if has_bias else values[kind.states + 1 :]
    backward = RecurrentInput.of(cell, batch_first, reverse)
    assert_same(backward, *gradients, saved, *memory, weight, *sizes, scale=20)


def test_wide_layers_go_step_by_step(monkeypatch):
    monkeypatch.setattr(recurrent, "MAX_HIDDEN", HIDDEN - 1)
    assert_same(
        Recurrent.of("lstm", False, False, True, True),
        *operands("lstm", "float32", False, True, False),
        scale=8,
    )


def test_more_units_than_threads(monkeypatch, order):
    monkeypatch.setattr(recurrent, "_THREADS", 2)
    assert_same(
        Recurrent.of("gru", False, False, True, True), *operands("gru", "float32", False, True, True), scale=8
    )


def test_nothing():
    empty = [np.zeros(shape, np.float32) for shape in ((0, 2, 5), (2, 5), (5, 5), (5,))]
    assert_same(Recurrent.of("rnn_tanh", False, False, True, True), *empty)


def test_packed_sequences_do_not_wait_for_the_device(gpu):
    layer = nbdl.nn.GRU(3, HIDDEN).to("cuda")
    packed = rnn.pack_padded_sequence(nbdl.tensor(random(STEPS, BATCH, 3)), [3, 2, 2, 1])
    layer(packed)
    if gpu == "standin":
        standin.counters.reset()
        layer(packed)
        assert standin.counters.synchronisations == 0


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_compiled_layer_trains_like_on_the_cpu(kind):
    def train(device, backend):
        with nbdl.use_backend(backend):
            nbdl.manual_seed(0)
            layer = getattr(nbdl.nn, kind)(3, HIDDEN).to(device)
            optimizer = nbdl.optim.SGD(layer.parameters(), lr=0.1)

            def step(x):
                optimizer.zero_grad()
                loss = layer(x)[0].square().mean()
                loss.backward()
                optimizer.step()
                return loss

            run = nbdl.compile(step)
            return [float(run(nbdl.tensor(random(STEPS, BATCH, 3, seed=k), device=device))) for k in range(4)]

    np.testing.assert_allclose(train("cuda", "cupy"), train("cpu", "numpy"), rtol=1e-5)
