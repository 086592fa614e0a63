"""Winograd's convolutions: all three products against double precision, when they are planned, the switch."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import nbdl
import nbdl.nn.functional as F
from nbdl import config
from nbdl.backend.numpy import NumpyBackend

convolution = pytest.importorskip("nbdl.backend.numba.convolution")
from nbdl.backend.numba import winograd  # noqa: E402
from nbdl.backend.numba.launch import launch  # noqa: E402

SPECIFICATION = NumpyBackend()
# Of rounding errors, as `nbdl.backend.numba.winograd` documents it.
BOUND = 8 * float(np.finfo(np.float32).eps)
PRODUCTS = ("convolution", "convolution_input", "convolution_weight")


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def operands(
    rng: np.random.Generator, batch: int, channels: int, filters: int, size: tuple[int, int], padding: tuple
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, weight and the gradient of the output, in float64."""
    counts = [n + sum(pad) - 2 for n, pad in zip(size, padding, strict=True)]
    x, y = rng.normal(size=(batch, channels, *size)), rng.normal(size=(batch, filters, *counts))
    return x, rng.normal(size=(filters, channels, 3, 3)), y


def call_of(product: str, x, weight, y, padding) -> tuple[list, dict]:
    """The arrays and parameters of one of the products."""
    common = {"stride": (1, 1), "padding": padding, "dilation": (1, 1), "groups": 1}
    if product == "convolution":
        return [x, weight], common
    if product == "convolution_input":
        return [y, weight], {"size": x.shape[2:], **common}
    return [x, y], {"kernel": (3, 3), **common}


def error(product: str, x, weight, y, padding, bias=None) -> float:
    """The largest of the kernels, in units of the largest sum of magnitudes, `max |x| sum |w|`."""
    arrays, parameters = call_of(product, x, weight, y, padding)
    arrays += [] if bias is None else [bias]
    narrow = [
        channels_last(array.astype(np.float32)) if array.ndim == 4 else array.astype(np.float32)
        for array in arrays
    ]
    wide = [array.astype(np.float64) for array in narrow]
    plan = getattr(convolution, f"plan_{product}")(narrow, None, **parameters)
    result = plan.allocate()
    launch(plan.block, *narrow, result)
    specification = getattr(SPECIFICATION, product)
    magnitude = specification(np.full_like(wide[0], np.abs(wide[0]).max()), np.abs(wide[1]), **parameters)
    return (np.abs(result - specification(*wide, **parameters)) / magnitude.max()).max()


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few tiles are enough: tests are small."""
    monkeypatch.setattr(winograd, "_LEAST_TILES", 1)
    monkeypatch.setattr(winograd, "_WEIGHT_SUMS_A_TILE", 1 << 20)


@pytest.fixture
def switch() -> Iterator[None]:
    yield
    nbdl.backends.numba.winograd = True


@pytest.mark.parametrize("product", PRODUCTS)
@settings(max_examples=25)
@given(
    batch=st.integers(1, 3), channels=st.integers(16, 40), filters=st.integers(16, 40),
    size=st.tuples(st.integers(3, 13), st.integers(3, 13)),
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_all_geometries(product, batch, channels, filters, size, padding, seed) -> None:
    values = operands(np.random.default_rng(seed), batch, channels, filters, size, padding)
    assert error(product, *values, padding) < BOUND


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_long_sums_and_threads(product: str, threads: int) -> None:
    nbdl.set_num_threads(threads)
    try:
        values = operands(np.random.default_rng(1), 5, 70, 65, (22, 19), ((1, 1), (1, 1)))
        assert error(product, *values, ((1, 1), (1, 1))) < BOUND
    finally:
        nbdl.set_num_threads(config.usable_cores())
        config.NUM_THREADS.set(None)


def test_bias_is_added_once() -> None:
    x, weight, y = operands(np.random.default_rng(2), 2, 16, 24, (9, 6), ((0, 0), (0, 0)))
    bias = np.random.default_rng(3).normal(size=24) * 100
    assert error("convolution", x, weight, y, ((0, 0), (0, 0)), bias) < BOUND


def test_errors_are_small_multiples_of_the_direct_ones(switch: None) -> None:
    padding = ((1, 1), (1, 1))
    values = operands(np.random.default_rng(4), 4, 64, 64, (24, 24), padding)
    for product in PRODUCTS:
        nbdl.backends.numba.winograd = True
        ours = error(product, *values, padding)
        nbdl.backends.numba.winograd = False
        direct = error(product, *values, padding)
        assert direct < ours < 5 * direct


@pytest.mark.parametrize(
    "change",
    [
        {"stride": (2, 1)},
        {"dilation": (1, 2)},
        {"groups": 2},
        {"dtype": "float64"},
        {"channels": 8},
        {"kernel": (3, 1)},
        {"layout": np.ascontiguousarray},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_computed_directly(change: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = []
    monkeypatch.setattr(winograd, "plan_outputs", lambda *args: planned.append(args))
    setting = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    for changed in ({}, change):
        channels, kernel = changed.get("channels", 32), changed.get("kernel", (3, 3))
        dtype, layout = changed.get("dtype", "float32"), changed.get("layout", channels_last)
        parameters = {key: changed.get(key, value) for key, value in setting.items()}
        x = layout(np.ones((4, channels, 12, 12), dtype))
        weight = np.ones((32, channels // parameters["groups"], *kernel), dtype)
        convolution.plan_convolution([x, weight], None, **parameters)
        assert len(planned) == 1  # by the first of the two


def test_the_switch_reaches_plans_and_programs(switch: None) -> None:
    rng = np.random.default_rng(5)
    x = nbdl.tensor(rng.normal(size=(4, 32, 24, 24)).astype("float32"))
    weights = [nbdl.tensor(rng.normal(size=(32, 32, 3, 3)).astype("float32")) / 17 for _ in range(2)]

    def network(x):
        return F.conv2d(F.conv2d(x, weights[0]), weights[1])  # the first gives adjacent channels

    with nbdl.use_backend("numba"):
        compiled = nbdl.compile(network)
        results = {}
        for allowed in (True, False, True):
            nbdl.backends.numba.winograd = allowed
            eager, first, replayed = network(x).numpy(), compiled(x).numpy(), compiled(x).numpy()
            assert (eager == replayed).all() and (eager == first).all()
            assert (results.setdefault(allowed, eager) == eager).all()
    assert nbdl.backends.numba.winograd is True
    assert (results[True] != results[False]).any()
    np.testing.assert_allclose(results[True], results[False], rtol=0, atol=2e-5)


def test_the_switch_takes_truth_values() -> None:
    with pytest.raises(TypeError, match=r"numba\.winograd: expected True or False, got int"):
        nbdl.backends.numba.winograd = 1
