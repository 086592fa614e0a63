"""nbdl.compile: training steps, what is noticed, what is refused."""

from __future__ import annotations

import gc
import threading
import types
import weakref
from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl import nn
from nbdl.compiler import RecordingError

BACKENDS = ["numpy", "numba"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    with nbdl.use_backend(request.param):
        yield request.param


def batches(count: int, *shape: int, seed: int = 0) -> list[nbdl.Tensor]:
    rng = np.random.default_rng(seed)
    return [nbdl.tensor(rng.normal(size=shape)) for _ in range(count)]


def network() -> nn.Module:
    nbdl.manual_seed(3)
    return nn.Sequential(
        nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)
    )


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: nbdl.optim.SGD(p, lr=0.1),
    "momentum": lambda p: nbdl.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: nbdl.optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: nbdl.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: nbdl.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def same_training(make_step: Any, calls: int = 6, change: Any = lambda k, thing: None) -> None:
    """Two equal trainings, one of them compiled: losses and parameters agree at every step."""
    histories = []
    for compiled in (False, True):
        step, parameters, thing = make_step()
        if compiled:
            step = nbdl.compile(step)
        nbdl.manual_seed(11)
        history = []
        for k, (x, y) in enumerate(zip(batches(calls, 6, 4), batches(calls, 6, 2, seed=1), strict=True)):
            change(k, thing)
            loss = step(x, y)
            history.append([loss.detach().numpy().copy(), *[p.detach().numpy().copy() for p in parameters]])
        histories.append(history)
    for eager, replayed in zip(*histories, strict=True):
        for want, got in zip(eager, replayed, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_step(backend, name):
    def make():
        model = network().double()
        optimizer = OPTIMIZERS[name](model.parameters())

        def step(x, y):
            optimizer.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        return step, list(model.parameters()), optimizer

    def change(k, optimizer):  # a schedule between the calls
        optimizer.param_groups[0]["lr"] *= 0.8

    same_training(make, change=change)


def test_gradients_accumulate_over_calls(backend):
    def make():
        model = network().double().eval()
        optimizer = nbdl.optim.SGD(model.parameters(), lr=0.05)

        def step(x, y):
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            return loss

        return step, list(model.parameters()), optimizer

    def change(k, optimizer):
        if k % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()

    same_training(make, calls=9, change=change)


def test_gradient_clipping_and_manual_updates(backend):
    def make():
        weight = nbdl.ones(4, 2, dtype=nbdl.float64, requires_grad=True)

        def step(x, y):
            loss = ((x @ weight).sigmoid() - y).square().sum()
            (gradient,) = nbdl.autograd.grad(loss, weight)
            norm = gradient.norm()
            with nbdl.no_grad():
                weight.sub_(gradient * nbdl.clamp(1.0 / norm, max=1.0), alpha=0.1)
            return loss.detach()

        return step, [weight], None

    same_training(make)


def test_batch_norm_statistics(backend):
    def make():
        model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)).double()
        optimizer = nbdl.optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        return step, [*model.parameters(), *model.buffers()], model

    def change(k, model):
        model.train(k % 4 != 3)  # another mode is another program

    nbdl.manual_seed(5)
    state = None

    def seeded():
        nonlocal state
        step, tensors, model = make()
        if state is None:
            state = {key: value.clone() for key, value in model.state_dict().items()}
        model.load_state_dict(state)
        return step, tensors, model

    same_training(seeded, calls=9, change=change)


def test_convolutions(backend):
    nbdl.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    twin = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    twin.load_state_dict(model.state_dict())
    y = nbdl.tensor([0, 1, 2, 1])

    def make(net):
        optimizer = nbdl.optim.Adam(net.parameters(), lr=0.01)

        def step(x):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return step

    eager, compiled = make(model), nbdl.compile(make(twin))
    for x in batches(5, 4, 1, 8, 8):
        np.testing.assert_allclose(
            compiled(x.float()).numpy(), eager(x.float()).detach().numpy(), rtol=2e-4, atol=1e-5
        )


def test_random_numbers_are_fresh_and_the_same_as_eager(backend):
    @nbdl.compile
    def draw(x):
        return x + nbdl.rand(3), nbdl.randn(2)

    nbdl.manual_seed(7)
    given = [draw(nbdl.zeros(3)) for _ in range(4)]
    nbdl.manual_seed(7)
    for uniform, normal in given:
        np.testing.assert_array_equal(uniform.numpy(), nbdl.rand(3).numpy())
        np.testing.assert_array_equal(normal.numpy(), nbdl.randn(2).numpy())


def test_second_derivatives(backend):
    def loss(p):
        return (p.tanh() * p).sum() ** 2

    hvp = nbdl.compile(lambda p, v: nbdl.func.jvp(nbdl.func.grad(loss), (p,), (v,))[1])
    hessian = nbdl.compile(nbdl.func.hessian(loss))
    for p, v in zip(batches(3, 4), batches(3, 4, seed=2), strict=True):
        matrix = hessian(p).numpy()
        np.testing.assert_allclose(matrix, nbdl.func.hessian(loss)(p).numpy(), rtol=1e-12)
        np.testing.assert_allclose(hvp(p, v).numpy(), matrix @ v.numpy(), rtol=1e-10, atol=1e-12)


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


def test_programs_do_not_keep_arguments_alive(backend):
    double = nbdl.compile(lambda x: x * 2)
    x = nbdl.ones(1000)
    watched = weakref.ref(x.array)
    double(x)
    double(x)
    del x
    gc.collect()
    assert watched() is None


def test_report(backend):
    @nbdl.compile
    def function(x):
        return ((x * 2 + 1).tanh() * x).sum()

    text = str(function.program(nbdl.ones(100, 100)))
    assert "recorded: " in text and "improved on " + backend in text
    report = function.program(nbdl.ones(100, 100))
    assert len(report.improved.operations) == 1 < len(report.recorded.operations)
    assert report.planned_bytes == 0 < report.recorded_bytes
    assert report.flops >= 5 * 100 * 100


def test_profile(backend):
    weight = nbdl.full((50, 50), 100.0, requires_grad=True)
    optimizer = nbdl.optim.SGD([weight], lr=0.1, momentum=0.9)

    @nbdl.compile
    def step(x):
        optimizer.zero_grad()
        loss = (x @ weight).relu().sum()
        loss.backward()
        optimizer.step()
        return loss

    x = nbdl.ones(30, 50)
    for _ in range(2):
        step(x)
    expected = weight.detach().numpy() - 0.1 * (30 + 0.9 * (0.9 * 30 + 30))  # of the one run of the function
    profile = step.profile(x, runs=3)
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-5)
    assert [row.flops for row in profile.rows if row.name == "matmul"] == [2 * 30 * 50 * 50] * 2
    assert len(profile.rows) == len(step.program(x).improved.operations)
    for row in profile.rows:
        bounds = row.flops / profile.peak_flops, row.nbytes / profile.peak_bytes
        assert row.roofline == pytest.approx(max(bounds) / row.seconds)
    assert profile.seconds == sum(row.seconds for row in profile.rows) > 0
    table = str(profile).splitlines()
    assert len(table) == len(profile.rows) + 3
    assert "of roofline" in table[0] and any(line.startswith("matmul") for line in table)
    with pytest.raises(ValueError, match="runs must be 1 or more, got 0"):
        step.profile(x, runs=0)


def test_memory_is_shared_by_temporaries(backend):
    def chain(x):
        for _ in range(10):
            x = (x @ x).tanh()
        return x

    report = nbdl.compile(chain).program(nbdl.ones(64, 64))
    one = 64 * 64 * 4
    assert report.recorded_bytes >= 19 * one
    assert report.planned_bytes <= 3 * one


def test_a_recording_keeps_no_array_alive(backend: str) -> None:
    alive: list[weakref.ref] = []

    @nbdl.compile
    def function(x):
        for _ in range(5):
            x = x + 1
            alive.append(weakref.ref(x.array))
            assert sum(ref() is not None for ref in alive) <= 2
        return x

    with nbdl.no_grad():
        for _ in range(2):
            np.testing.assert_array_equal(function(nbdl.zeros(3)).numpy(), 5)


def test_what_a_recording_saw_is_freed_without_the_garbage_collector(backend: str) -> None:
    weight = nbdl.ones(3, requires_grad=True)
    optimizer = nbdl.optim.SGD([weight], lr=0.1, momentum=0.9)

    @nbdl.compile
    def step(x):
        optimizer.zero_grad()
        (weight * x).sum().backward()
        optimizer.step()

    gc.collect()
    gc.disable()
    try:
        step(nbdl.ones(3))  # records, and once more below, since the optimizer has made its state
        first = weakref.ref(weight.grad.array)
        step(nbdl.ones(3))
        assert first() is None
    finally:
        gc.enable()


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
