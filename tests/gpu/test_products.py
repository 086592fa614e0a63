"""Matrix products: through cuBLASLt, for which a library stands that computes with NumPy, and without it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from gpu import fake_lt
from gpu.samples import assert_close, assert_same, layouts, on_device
from gpu.test_rows import KINDS, random

import nbdl
from nbdl import nn, optim
from nbdl.backend import registry
from nbdl.backend.cupy import libraries
from nbdl.formula.activations import GELU_TANH, RELU
from nbdl.nn import functional as F
from nbdl.ops.activated_linear import ActivatedLinear, ActivatedLinearGradients
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.matmul import LINEAR, LinearGradients, MatMul
from nbdl.ops.product_epilogues import ActivatedLinearAux, SlopedProduct

pytestmark = pytest.mark.usefixtures("gpu")


@pytest.fixture
def lt(gpu: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list]:
    """cuBLASLt is there; gives the list of its calls."""
    if gpu == "standin":
        for name, module in fake_lt.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
    libraries.cublaslt.cache_clear()
    registry.load("cupy")._plans.clear()
    if libraries.cublaslt() is None:
        pytest.skip("nvmath-python is not installed")
    fake_lt.calls.clear()
    yield fake_lt.calls
    libraries.cublaslt.cache_clear()
    registry.load("cupy")._plans.clear()


def test_streams_and_devices_share_neither_workspace_nor_handle(lt: list, gpu: str) -> None:
    if gpu != "standin" or nbdl.cuda.device_count() < 2:
        pytest.skip("looks at the calls of the library, on two devices")
    x = [nbdl.ones(3, 5, device=f"cuda:{k}") for k in range(2)]
    side = nbdl.cuda.Stream()
    for _ in range(2):
        assert (x[0] @ x[0].T).sum().item() == (x[1] @ x[1].T).sum().item() == 45
        with side:
            assert (x[0] @ x[0].T).sum().item() == 45
    workspaces = [call["workspace"] for call in lt]
    assert workspaces[:3] == workspaces[3:]
    assert len(set(workspaces)) == 3


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("has_bias", [True, False])
def test_linear(lt: list, gpu: str, dtype: str, has_bias: bool) -> None:
    bias = [random(4, dtype=dtype, seed=2)] if has_bias else []
    assert_same(LINEAR, random(3, 5, dtype=dtype), random(4, 5, dtype=dtype, seed=1), *bias, scale=8)
    assert_same(LINEAR, random(2, 3, 5, dtype=dtype), random(4, 5, dtype=dtype, seed=1), *bias, scale=8)
    if gpu == "standin":
        assert [call["EPILOGUE"] for call in lt] == [4 if has_bias else 1] * 2


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("has_bias", [True, False])
def test_activated_linear(lt: list, gpu: str, dtype: str, has_bias: bool) -> None:
    bias = [random(4, dtype=dtype, seed=2)] if has_bias else []
    operands = random(3, 5, dtype=dtype), random(4, 5, dtype=dtype, seed=1), *bias
    for name, expected in (("relu", 6 if has_bias else 2), ("tanh", 4 if has_bias else 1)):
        assert_same(ActivatedLinear.of(formula_of(name)), *operands, scale=8)
        if gpu == "standin":
            assert lt[-1]["EPILOGUE"] == expected


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
def test_transposes_and_stacks(lt: list, batch: tuple, transpose_a: bool, transpose_b: bool) -> None:
    a, b = random(*batch, *(4, 3)[:: 1 - 2 * transpose_a]), random(*(3, 5)[:: 1 - 2 * transpose_b], seed=1)
    primitive = MatMul.of(transpose_a, transpose_b)
    assert_same(primitive, a, b, scale=4)
    assert_same(primitive, a, np.broadcast_to(b, (*batch, *b.shape)), scale=4)
    assert_same(
        primitive, a, np.stack([b, 2 * b]).reshape(2, *(1,) * max(0, len(batch) - 1), *b.shape), scale=4
    )


@pytest.mark.parametrize("dtype", KINDS)
def test_vectors(lt: list, gpu: str, dtype: str) -> None:
    """They are rows on the left and columns on the right, of one call each."""
    vector, matrix = random(4, dtype=dtype), random(4, 3, dtype=dtype, seed=1)
    stack = random(2, 4, 3, dtype=dtype, seed=2)
    pairs = [(vector, vector), (vector, matrix), (matrix.T, vector), (vector, stack)]
    pairs += [(stack.swapaxes(1, 2), vector), (vector[::-1], matrix)]
    for a, b in pairs:
        assert_same(MatMul.of(), a, b, scale=8)
    if gpu == "standin":
        assert len(lt) == len(pairs)
        place = on_device(np.zeros((2, 3), matrix.dtype))[:, 1]
        backend = registry.load("cupy")
        backend.matmul(on_device(np.ascontiguousarray(matrix.T[:2])), on_device(vector), out=place)
        expected = matrix.T[:2].astype(np.float64) @ vector.astype(np.float64)
        assert_close(place, expected.astype(matrix.dtype), scale=8)


def test_layouts(lt: list) -> None:
    for name, a in layouts((4, 3), np.float32).items():
        for b in layouts((3, 5), np.float32, seed=1).values():
            assert_same(MatMul.of(False, False), a, b, scale=8, label=name)
    for name, a in layouts((2, 4, 3), np.float32).items():
        assert_same(MatMul.of(False, False), a, random(2, 3, 5), scale=8, label=name)


@pytest.mark.parametrize(
    "shapes", [((1, 3), (3, 1)), ((4, 1), (1, 5)), ((1, 1), (1, 1)), ((2, 1, 3), (3, 4))], ids=str
)
def test_single_rows_and_columns(lt: list, shapes: tuple) -> None:
    assert_same(MatMul.of(False, False), random(*shapes[0]), random(*shapes[1], seed=1))


def test_what_the_library_does_not_compute(lt: list) -> None:
    product = MatMul.of(False, False)
    assert_same(product, random(0, 3), random(3, 4))
    assert_same(product, np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2))
    assert lt == []


def test_what_there_is_no_epilogue_for(lt: list, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if gpu == "real":
        pytest.skip("the stand-in refuses")
    monkeypatch.setattr(fake_lt, "refused", {2, 4, 6})
    operands = random(3, 5), random(4, 5, seed=1), random(4, seed=2)
    assert_same(ActivatedLinear.of(formula_of("relu")), *operands, scale=8)
    assert [call["EPILOGUE"] for call in lt] == [1]


def test_results_at_a_given_place(lt: list) -> None:
    x = nbdl.tensor(random(3, 3))
    for out in (nbdl.zeros(3, 3), nbdl.zeros(3, 3).t(), x):
        expected = x.cpu().numpy() @ x.cpu().numpy()
        registry.load("cupy").matmul(x.array, x.array, out=out.array)
        np.testing.assert_allclose(out.cpu().numpy(), expected, rtol=1e-5)
        x = nbdl.tensor(random(3, 3))


def test_tf32_is_asked_for(lt: list, gpu: str) -> None:
    if gpu == "real":
        pytest.skip("the stand-in notes what it was asked")
    x = nbdl.ones(2, 2)
    for precision, expected in (("highest", "COMPUTE_32F"), ("high", "COMPUTE_32F_FAST_TF32")):
        nbdl.set_float32_matmul_precision(precision)
        x @ x
        assert lt[-1]["compute"].name == expected
    nbdl.set_float32_matmul_precision("highest")


def test_a_whole_step_is_one_graph(lt: list) -> None:
    def train(is_compiled: bool) -> tuple[list[float], nbdl.compiler.Compiled]:
        nbdl.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to("cuda")
        optimizer = optim.SGD(model.parameters(), lr=0.5)

        def step(x: nbdl.Tensor, y: nbdl.Tensor) -> nbdl.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        run = nbdl.compile(step) if is_compiled else step
        y = nbdl.tensor(np.arange(5) % 2)
        return [float(run(nbdl.tensor(random(5, 3, seed=k)), y)) for k in range(5)], run

    losses, run = train(True)
    np.testing.assert_allclose(losses, train(False)[0], rtol=1e-5)
    ((variant,),) = run._variants.values()
    (steps,) = variant.replay.steps
    assert (steps.graphs, steps.eager) == (1, [])
    labels = [call.primitive.label for call in steps.calls]
    assert labels[0] == "linear_relu_aux"
    assert {"matmul_relu_vjp_sum", "linear_gradients"} <= set(labels)


ACTIVATIONS = {"relu": RELU, "gelu": GELU_TANH, "tanh": formula_of("tanh")}
# Epilogues forward without and with a bias, and backward without and with a sum; tanh has none
EPILOGUES = {"relu": (130, 134, 136, 152), "gelu": (160, 164, 192, 208), "tanh": (1, 4, 1, 1)}


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("rows", [(6,), (2, 3)], ids=str)
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_with_their_slopes(
    lt: list, gpu: str, name: str, has_bias: bool, rows: tuple, dtype: str
) -> None:
    activation = ACTIVATIONS[name]
    x, weight = random(*rows, 5, dtype=dtype), random(8, 5, dtype=dtype, seed=1)
    bias = [random(8, dtype=dtype, seed=2)] if has_bias else []
    numpy, cupy = registry.load("numpy"), registry.load("cupy")
    forward = ActivatedLinearAux.of(activation)
    expected = numpy.execute(forward, (x, weight, *bias))
    found = cupy.execute(forward, [on_device(array) for array in (x, weight, *bias)])
    assert_close(found[0], expected[0], "result", 8)
    if name == "relu":
        bits = [np.unpackbits(a, axis=1, count=8, bitorder="little") for a in (found[1].get(), expected[1])]
        np.testing.assert_array_equal(*bits)
    else:
        assert_close(found[1], expected[1], "operand", 8)
    g, following = random(*rows, 3, dtype=dtype, seed=3), random(3, 8, dtype=dtype, seed=4)
    source = expected[1] if name == "gelu" else expected[0]
    aux = expected[1:] if name == "relu" else ()
    slopes = SlopedProduct.of(activation, has_bias)
    if gpu == "standin":
        forwards, backwards = EPILOGUES[name][has_bias], EPILOGUES[name][2 + has_bias]
        assert [call["EPILOGUE"] for call in lt] == [forwards]
    assert_same(slopes, g, following, source, *aux, scale=16)
    if gpu == "standin":
        assert [call["EPILOGUE"] for call in lt[1:]] == [backwards]


def test_what_the_slopes_need_and_what_they_do_without(lt: list, gpu: str) -> None:
    narrow = random(6, 5), random(5, 5, seed=1)  # rows of GELU's operands begin at multiples of 8
    assert_same(ActivatedLinearAux.of(GELU_TANH), *narrow, scale=8)
    single = random(6, 1), random(1, 8, seed=1), random(6, 8, seed=2)  # no product of a column and a row
    assert_same(SlopedProduct.of(GELU_TANH, True), *single, scale=8)
    assert_same(LinearGradients.of(6), random(1, 4), random(1, 3), scale=8)
    if gpu == "standin":
        assert {call["EPILOGUE"] for call in lt} == {1}


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("needs", [3, 5, 6, 7])
def test_gradients_of_a_layer(lt: list, gpu: str, needs: int, dtype: str) -> None:
    g, x, weight = random(6, 4, dtype=dtype), random(6, 5, dtype=dtype), random(4, 5, dtype=dtype)
    operands = [array for array, bit in ((weight, 1), (x, 2)) if needs & bit]
    assert_same(LinearGradients.of(needs), g, *operands, scale=30)
    if gpu == "standin":
        assert (512 in [call["EPILOGUE"] for call in lt]) == (needs & 6 == 6)


def test_gradients_of_an_activated_layer(lt: list, gpu: str) -> None:
    g, y, x, weight = random(6, 4), np.maximum(random(6, 4, seed=1), 0), random(6, 5), random(4, 5)
    assert_same(ActivatedLinearGradients.of(formula_of("relu"), 7), g, y, weight, x, scale=30)
    if gpu == "standin":
        assert sorted(call["EPILOGUE"] for call in lt) == [1, 512]


@pytest.mark.parametrize("refuses", [set(), {130, 134, 160, 164}, {136, 152, 192, 208, 512}], ids=str)
@pytest.mark.parametrize("shape", [(6, 3), (2, 4, 3)], ids=str)
@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_a_compiled_step_computes_what_an_eager_one_does(
    lt: list, gpu: str, monkeypatch: pytest.MonkeyPatch, name: str, shape: tuple, refuses: set
) -> None:
    monkeypatch.setattr(fake_lt, "refused", refuses)
    activation = {"relu": F.relu, "gelu": lambda x: F.gelu(x, approximate="tanh")}[name]

    def train(is_compiled: bool) -> tuple[list[float], list[str]]:
        nbdl.manual_seed(0)
        layers = nn.ModuleList([nn.Linear(3, 16), nn.Linear(16, 8), nn.Linear(8, 2)]).to("cuda")
        optimizer = optim.SGD(layers.parameters(), lr=0.2)

        def step(x: nbdl.Tensor) -> nbdl.Tensor:
            optimizer.zero_grad()
            for k, layer in enumerate(layers):
                x = activation(layer(x)) if k < 2 else layer(x)
            loss = x.square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = nbdl.compile(step) if is_compiled else step
        losses = [float(run(nbdl.tensor(random(*shape, seed=k)))) for k in range(4)]
        if not is_compiled:
            return losses, []
        ((variant,),) = run._variants.values()
        (steps,) = variant.replay.steps
        assert (steps.graphs, steps.eager) == (1, [])
        return losses, [call.primitive.label for call in steps.calls]

    losses, labels = train(True)
    np.testing.assert_allclose(losses, train(False)[0], rtol=1e-5)
    formula = {"relu": "relu", "gelu": "gelu_tanh"}[name]
    assert labels.count(f"linear_{formula}_aux") == labels.count(f"matmul_{formula}_vjp_sum") == 2
    assert labels.count("linear_gradients") == 1
    assert not {"sum", formula, f"{formula}_vjp"} & set(labels)


def test_what_is_between_stays_apart(lt: list) -> None:
    """The layer's own result is wanted, or the gradient behind the activation: nothing to join."""
    nbdl.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(3, 8), nn.Linear(8, 8)]).to("cuda")

    def function(x: nbdl.Tensor) -> tuple[nbdl.Tensor, ...]:
        before = layers[0](x)
        hidden = before.relu()
        hidden.retain_grad()
        layers.zero_grad()
        layers[1](hidden).square().sum().backward()
        return before, hidden.grad, layers[0].bias.grad

    x = nbdl.tensor(random(4, 3))
    run = nbdl.compile(function)
    for _ in range(3):
        for a, b in zip(run(x), function(x), strict=True):
            np.testing.assert_allclose(
                a.detach().cpu().numpy(), b.detach().cpu().numpy(), rtol=2e-5, atol=1e-6
            )
    ((variant,),) = run._variants.values()
    labels = [operation.primitive.label for operation in variant.replay.operations]
    assert not [label for label in labels if label.endswith(("_aux", "_vjp_sum"))]


def test_what_is_missing_is_told_once(
    gpu: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "nvmath.bindings.cublasLt", None)
    libraries.cublaslt.cache_clear()
    with caplog.at_level(logging.INFO, "nbdl"):
        for _ in range(2):
            nbdl.ones(2, 3) @ nbdl.ones(3, 2)
    libraries.cublaslt.cache_clear()
    (message,) = caplog.messages
    assert "nvmath-python cannot be used: " in message
    assert "pip install 'nbdl[cuda12]'" in message


def test_the_library_has_only_names_of_nvmath() -> None:
    real = pytest.importorskip("nvmath.bindings.cublasLt", reason="nvmath-python is not installed")
    cublas = pytest.importorskip("nvmath.bindings.cublas")
    assert not [name for name in fake_lt.NAMES if not hasattr(real, name)]
    for kind in (fake_lt.Epilogue, fake_lt.MatmulDescAttribute, fake_lt.MatrixLayoutAttribute,
                 fake_lt.MatmulPreferenceAttribute):  # fmt: skip
        assert {entry.name: int(entry) for entry in kind}.items() <= {
            entry.name: int(entry) for entry in getattr(real, kind.__name__)
        }.items()
    for kind in (fake_lt.ComputeType, fake_lt.Operation):
        assert {entry.name: int(entry) for entry in kind}.items() <= {
            entry.name: int(entry) for entry in getattr(cublas, kind.__name__)
        }.items()
    assert real.matmul_heuristic_result_dtype == fake_lt.matmul_heuristic_result_dtype
