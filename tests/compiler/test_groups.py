"""Updates of many tensors by one formula: what becomes one operation, and that the values stay the same."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
from nbdl.backend.numba import threads
from nbdl.compiler.program import Operation

SHAPES = [(3,), (), (40, 300), (7, 1), (2, 3, 4), (500, 30)]
OPTIMIZERS = {
    "SGD": lambda params: nbdl.optim.SGD(params, 0.1, momentum=0.9),
    "Adam": lambda params: nbdl.optim.Adam(params, 0.1),
    "AdamW": lambda params: nbdl.optim.AdamW(params, 0.1),
    "RMSprop": lambda params: nbdl.optim.RMSprop(params, 0.1),
    "two groups": lambda params: nbdl.optim.SGD(
        [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.1}], 0.1
    ),
}


def numbers(*shape: int) -> nbdl.Tensor:
    return nbdl.tensor(np.random.default_rng(sum(shape)).normal(size=shape).astype("float32"))


def updates(optimizer: str, without: tuple[str, ...] = ()) -> tuple[list[np.ndarray], list[Operation]]:
    """Parameters after some compiled steps, and the operations of a step."""
    params = [nbdl.nn.Parameter(numbers(*shape)) for shape in SHAPES]
    update = OPTIMIZERS[optimizer](params)

    @nbdl.compile(without=without)
    def step() -> None:
        update.zero_grad()
        sum((p * p).sum() for p in params).backward()
        update.step()

    for _ in range(4):
        step()
    return [p.detach().numpy() for p in params], step.program().improved.operations


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_values_stay_the_same(backend: str, optimizer: str) -> None:
    values, operations = updates(optimizer)
    expected, separate = updates(optimizer, without=("groups",))
    assert any(operation.into and operation.parts for operation in operations)
    assert not any(operation.into and operation.parts for operation in separate)
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tasks_are_cut_anywhere(count: int) -> None:
    before = threads.get_num_threads()
    threads.set_num_threads(count)
    try:
        with nbdl.use_backend("numba"):
            values, operations = updates("Adam")
            expected, _ = updates("Adam", without=("groups",))
    finally:
        threads.set_num_threads(before)
    assert operations[-1].label.startswith("6 x adam")
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_array_equal(value, other)


# name -> what is done with five tensors, and of how many updates the operations consist
IN_PLACE = {
    "in a row": (lambda x, y, u, v, w: [x.add_(y), u.add_(y)], [2]),
    "one reads another": (lambda x, y, u, v, w: [x.add_(y), u.add_(x), v.add_(y)], [1, 2]),
    "one is read before": (lambda x, y, u, v, w: [x.add_(y), y.add_(u)], [1, 1]),
    "twice the same": (lambda x, y, u, v, w: [x.add_(y), x.add_(u)], [1, 1]),
    "parts of one": (lambda x, y, u, v, w: [w[:3].add_(x), w[1:].add_(x)], [1, 1]),
    "other formulas": (lambda x, y, u, v, w: [x.add_(y), u.mul_(y), v.add_(y)], [1, 1, 1]),
    "with strides": (lambda x, y, u, v, w: [u.add_(y), w[::2].add_(v[::2]), x.add_(y)], [3]),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_is_grouped(backend: str, name: str) -> None:
    function, sizes = IN_PLACE[name]
    results = []
    for compiles in (True, False):
        tensors = [numbers(3), numbers(3) + 1, numbers(3) + 2, numbers(3) + 3, numbers(4)]

        def update(tensors=tensors) -> None:
            function(*tensors)

        step = nbdl.compile(update, without=["fusion", "common"]) if compiles else update
        for _ in range(3):
            step()
        results.append([tensor.numpy().copy() for tensor in tensors])
        if compiles:
            operations = step.program().improved.operations
            assert [max(1, len(operation.parts)) for operation in operations] == sizes
    for value, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_arguments_are_updated_one_by_one(backend: str) -> None:
    """Their memory is another one at each call."""

    @nbdl.compile
    def step(x: nbdl.Tensor, y: nbdl.Tensor) -> None:
        x.mul_(3)
        y.mul_(3)

    for _ in range(3):
        x, y = numbers(3), numbers(4)
        step(x, y)
        np.testing.assert_array_equal(x.numpy(), 3 * numbers(3).numpy())
        np.testing.assert_array_equal(y.numpy(), 3 * numbers(4).numpy())
    assert not any(operation.parts for operation in step.program(x, y).improved.operations)
