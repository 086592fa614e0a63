"""nbdl.compile: the signature, what is noticed, what is refused."""

from __future__ import annotations

import threading
import types
from typing import Any

import numpy as np
import pytest
from compiler.samples import batches

import nbdl
from nbdl import nn
from nbdl.compiler import RecordingError


# --------------------------------------------------------------------------------------------- the signature
def test_shapes_dtypes_and_numbers_make_programs_of_their_own(backend):
    calls = []

    @nbdl.compile
    def scaled(x, factor=2):
        calls.append(factor)
        return x * factor

    for x, factor in ((nbdl.ones(2), 2), (nbdl.ones(2), 3), (nbdl.ones(3), 3), (nbdl.ones(3).double(), 3)):
        for _ in range(2):
            out = scaled(x, factor=factor)
            np.testing.assert_array_equal(out.numpy(), x.numpy() * factor)
            assert out.dtype == x.dtype
    assert calls == [2, 3, 3, 3]


def test_nested_arguments_and_results(backend):
    @nbdl.compile
    def function(batch, *, flag):
        return {"sum": batch["x"] + batch["y"][0], "flag": flag, "pair": (batch["x"], None)}

    for k in range(3):
        x, y = nbdl.full((2,), float(k)), nbdl.ones(2)
        result = function({"x": x, "y": [y]}, flag="on")
        np.testing.assert_array_equal(result["sum"].numpy(), x.numpy() + 1)
        np.testing.assert_array_equal(result["pair"][0].numpy(), x.numpy())
        assert result["flag"] == "on" and result["pair"][1] is None


def test_strided_arguments(backend):
    double = nbdl.compile(lambda x: x * 2 + x.t().contiguous().t())
    base = batches(1, 6, 6)[0]
    for x in (base, base.t(), base[::2, 1:4], base.flip(0), base[1:3, 2:5]):
        for _ in range(2):
            np.testing.assert_allclose(double(x).numpy(), x.numpy() * 3)


def test_the_same_tensor_twice(backend):
    add = nbdl.compile(lambda x, y: x + y * 10)
    a, b = nbdl.ones(2), nbdl.full((2,), 5.0)
    for x, y in ((a, a), (a, b), (b, b), (b, a)):
        np.testing.assert_array_equal(add(x, y).numpy(), x.numpy() + 10 * y.numpy())


def test_arguments_changed_in_place(backend):
    @nbdl.compile
    def increment(x):
        x.add_(1)
        return x * 2

    for k in range(3):
        x = nbdl.full((3,), float(k))
        out = increment(x)
        np.testing.assert_array_equal(x.numpy(), np.full(3, k + 1.0))
        np.testing.assert_array_equal(out.numpy(), np.full(3, 2 * k + 2.0))


def test_results_are_new_at_each_call(backend):
    square = nbdl.compile(lambda x: x * x)
    results = [square(nbdl.full((2,), float(k))) for k in range(4)]
    assert [float(r[0]) for r in results] == [0.0, 1.0, 4.0, 9.0]


def test_memory_made_inside_starts_afresh(backend):
    @nbdl.compile
    def total(x):
        result = nbdl.zeros(3)
        for k in range(2):
            result.add_(x, alpha=k + 1)
        return result

    for k in range(4):
        np.testing.assert_array_equal(total(nbdl.full((3,), float(k))).numpy(), np.full(3, 3.0 * k))


# --------------------------------------------------------------------------------- what is used from outside
scale = 2.0


def test_changed_numbers_from_outside_are_noticed(backend):
    global scale
    offset = 1.0
    config = types.SimpleNamespace(power=1)
    table = {"shift": 0.0}

    @nbdl.compile
    def function(x):
        return x**config.power * scale + offset + table["shift"]

    x = nbdl.full((2,), 3.0)

    def expected() -> float:
        return 3.0**config.power * scale + offset + table["shift"]

    for _ in range(2):
        assert float(function(x)[0]) == expected()
    scale = 5.0
    assert float(function(x)[0]) == expected()
    offset = 7.0
    assert float(function(x)[0]) == expected()
    config.power = 2
    assert float(function(x)[0]) == expected()
    table["shift"] = 0.5
    assert float(function(x)[0]) == expected()
    scale = 2.0


def test_tensors_from_outside_are_read_at_every_call(backend):
    weight = nbdl.ones(2)
    function = nbdl.compile(lambda x: x * weight)
    assert float(function(nbdl.ones(2))[0]) == 1
    weight.fill_(4)
    assert float(function(nbdl.ones(2))[0]) == 4
    weight = nbdl.full((2,), 9.0)
    assert float(function(nbdl.ones(2))[0]) == 9


def test_attributes_of_modules_are_noticed(backend):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = 2
            self.inner = nn.Linear(2, 2)

        def forward(self, x):
            return self.inner(x) * self.factor

    model = Scaled()
    compiled = nbdl.compile(model)
    x = nbdl.ones(1, 2)
    with nbdl.no_grad():
        for factor in (2, 2, 5, 5):
            model.factor = factor
            np.testing.assert_allclose(compiled(x).numpy(), model(x).numpy(), rtol=1e-6)
        model.inner = nn.Linear(2, 2)
        np.testing.assert_allclose(compiled(x).numpy(), model(x).numpy(), rtol=1e-6)
        model.double()
        x = x.double()
        np.testing.assert_allclose(compiled(x).numpy(), model(x).numpy(), rtol=1e-12)


# ------------------------------------------------------------------------------------------- what is refused
def schedule_of(x):
    optimizer = nbdl.optim.SGD([x.clone().requires_grad_()], lr=0.1)
    return nbdl.optim.lr_scheduler.StepLR(optimizer, 1)


READS: dict[str, Any] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "bool": lambda x: x if x.sum() > 0 else -x,
    "numpy": lambda x: x.numpy().sum(),
    "asarray": lambda x: np.asarray(x),
    "tolist": lambda x: x.tolist(),
    "index": lambda x: [1, 2, 3][x.long().sum()],
    "text": lambda x: f"{x}",
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "unique": lambda x: nbdl.unique(x),
    "schedule": lambda x: schedule_of(x).step(),
    "use_backend": lambda x: nbdl.use_backend("numpy").__enter__(),
}


@pytest.mark.parametrize("name", READS)
def test_reading_values_is_refused(backend, name):
    with pytest.raises(RecordingError, match=r"compile: .*test_compile.py:\d+"):
        nbdl.compile(READS[name])(nbdl.tensor([1.0]))
    assert float(nbdl.ones(1) + 1) == 2  # and nothing is left behind


def test_tensors_that_are_kept_are_refused(backend):
    kept = []

    @nbdl.compile
    def function(x):
        kept.append(x * 2)
        return x + 1

    function(nbdl.ones(2))
    with pytest.raises(RecordingError, match=r"keeps a tensor.*mul.*test_compile.py:\d+"):
        function(nbdl.ones(2))


def test_errors_of_the_function_pass_through(backend):
    function = nbdl.compile(lambda x: x @ nbdl.ones(3, 3))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        function(nbdl.ones(2, 2))
    assert function(nbdl.ones(2, 3)).shape == (2, 3)


def test_bad_arguments():
    with pytest.raises(TypeError, match="expected a function"):
        nbdl.compile(3)
    with pytest.raises(ValueError, match="unknown pass 'speed'"):
        nbdl.compile(lambda x: x, without=["speed"])
    with pytest.raises(TypeError, match="neither a tensor nor hashable"):
        nbdl.compile(lambda x, y: x)(nbdl.ones(1), {1, 2})


# -------------------------------------------------------------------------------------------------- the rest
def test_methods_and_decorators(backend):
    class Trainer:
        def __init__(self, factor):
            self.factor = factor

        @nbdl.compile
        def step(self, x):
            return x * self.factor

    first, second = Trainer(2), Trainer(3)
    for _ in range(2):
        assert float(first.step(nbdl.ones(1))) == 2
        assert float(second.step(nbdl.ones(1))) == 3
    bound = nbdl.compile(Trainer(4).step.func)
    assert callable(bound)


def test_compiled_functions_call_each_other(backend):
    inner = nbdl.compile(lambda x: x * 2)
    outer = nbdl.compile(lambda x: inner(x) + 1)
    for k in range(3):
        assert float(outer(nbdl.full((1,), float(k)))) == 2 * k + 1


def test_changed_parameters_make_saved_values_stale(backend):
    weight = nbdl.ones(2, requires_grad=True)

    @nbdl.compile
    def update(x):
        with nbdl.no_grad():
            weight.add_(x)

    update(nbdl.ones(2))
    loss = (weight * weight).sum()
    update(nbdl.ones(2))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_threads_have_recorders_of_their_own(backend):
    square = nbdl.compile(lambda x: (x * x).sum())
    results: dict[int, list[float]] = {}

    def work(k: int) -> None:
        with nbdl.use_backend(backend):
            results[k] = [float(square(nbdl.full((100,), float(k)))) for _ in range(50)]

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(results[k] == [100.0 * k * k] * 50 for k in range(4))


def test_state_that_is_made_of_one_value_is_made_anew(backend: str) -> None:
    @nbdl.compile
    def function(x):
        total = nbdl.full((2, 3), 4.0)
        total += x
        single = nbdl.tensor(2.0)
        single *= x.sum()
        return total, single

    for k in range(3):
        total, single = function(nbdl.full((3,), float(k)))
        np.testing.assert_array_equal(total.numpy(), np.full((2, 3), 4.0 + k))
        assert single.item() == 6 * k


def test_a_recorded_run_keeps_no_idle_memory():
    from nbdl.backend.numba import pool

    idle = []

    def function(x):
        y = (x + 1) @ x  # the sum is freed here
        idle.append(pool.statistics().idle_bytes)
        return y.sum()

    with nbdl.use_backend("numba"):
        x = nbdl.zeros(512, 512)
        function(x)
        nbdl.compile(function)(x)
    assert idle[0] > 0
    assert idle[1] == 0
