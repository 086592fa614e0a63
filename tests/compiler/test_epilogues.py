"""Pointwise operations at the end of products: which are attached, and that the values stay the same."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
import nbdl.nn.functional as F
from nbdl import config
from nbdl.compiler import PASSES
from nbdl.compiler.program import Operation


def tensor(*shape: int, channels_last: bool = False) -> nbdl.Tensor:
    values = np.random.default_rng(len(shape) + sum(shape)).normal(size=shape).astype("float32")
    if channels_last:
        values = np.ascontiguousarray(np.moveaxis(values, 1, -1))
        return nbdl.tensor(values).movedim(-1, 1)
    return nbdl.tensor(values)


def scaled(y: nbdl.Tensor) -> nbdl.Tensor:
    """Reads one number a channel."""
    return y * tensor(y.shape[1], *[1] * (y.ndim - 2)) + 1


# name -> function of x, weight, shape of x, shape of the weight
CONVOLUTIONS = {
    "plain": (lambda x, w: F.conv2d(x, w), (3, 5, 9, 8), (7, 5, 3, 2)),
    "bias": (lambda x, w: F.conv2d(x, w, tensor(w.shape[0])), (3, 5, 9, 8), (7, 5, 3, 2)),
    "strided": (lambda x, w: F.conv2d(x, w, stride=2, padding=1), (2, 3, 9, 12), (4, 3, 3, 3)),
    "winograd": (lambda x, w: F.conv2d(x, w, padding=1), (3, 16, 27, 26), (24, 16, 3, 3)),
    "grouped": (lambda x, w: F.conv2d(x, w, groups=2), (2, 4, 6, 6), (6, 2, 3, 3)),
    "depthwise": (lambda x, w: F.conv2d(x, w, groups=4), (2, 4, 6, 6), (4, 1, 3, 3)),
    "many filters": (lambda x, w: F.conv2d(x, w), (1, 600, 6, 6), (300, 600, 1, 1)),
    "one dimension": (lambda x, w: F.conv1d(x, w), (3, 5, 20), (4, 5, 3)),
    "three dimensions": (lambda x, w: F.conv3d(x, w), (2, 3, 5, 6, 7), (4, 3, 2, 3, 2)),
    "transposed": (lambda x, w: F.conv_transpose2d(x, w), (3, 5, 9, 8), (5, 6, 3, 2)),
    "transposed, strided": (lambda x, w: F.conv_transpose2d(x, w, stride=2), (3, 5, 9, 8), (5, 6, 3, 2)),
}
ENDS = {"relu": nbdl.relu, "two steps": lambda y: (y * 2).relu(), "vector": scaled, "costly": nbdl.tanh}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_values_stay_the_same(backend: str, name: str, end: str) -> None:
    convolution, *shapes = CONVOLUTIONS[name]
    x, weight = tensor(*shapes[0], channels_last=True), tensor(*shapes[1])

    def function(x: nbdl.Tensor) -> nbdl.Tensor:
        return ENDS[end](convolution(x, weight))

    with nbdl.no_grad():
        compiled = nbdl.compile(function)
        (operation,) = compiled.program(x).improved.operations[-1:]
        assert len(operation.parts) == 2
        separate = nbdl.compile(function, without=["epilogues"])
        for _ in range(2):  # recorded, replayed
            result, expected = compiled(x), separate(x)
        np.testing.assert_array_equal(result.numpy(), expected.numpy())
        np.testing.assert_allclose(result.numpy(), function(x).numpy(), rtol=1e-5, atol=1e-5)


# name -> function of a, b, shape of a, shape of b
MATRICES = {
    "product": (lambda a, b: a @ b, (37, 20), (20, 50)),
    "blocks of columns": (lambda a, b: a @ b, (130, 600), (600, 1000)),
    "first transposed": (lambda a, b: a.T @ b, (20, 37), (20, 50)),
    "second transposed": (lambda a, b: a @ b.T, (37, 20), (50, 20)),
    "layer": (lambda a, b: F.linear(a, b, b[:, 0].contiguous()), (300, 40), (200, 40)),
    "layer over a batch": (lambda a, b: F.linear(a, b), (3, 5, 40), (20, 40)),
    "batch": (lambda a, b: a @ b, (3, 2, 11, 7), (3, 2, 7, 9)),
    "few long sums": (lambda a, b: a.T @ b, (700, 40), (700, 3)),
    "a vector": (lambda a, b: a @ b, (30, 40), (40, 1)),
}
# name -> function of the product and another array like it
MATRIX_ENDS = {
    "relu": lambda y, _: y.relu(),
    "summand": lambda y, z: y + z,
    "mask of a gradient": lambda y, z: nbdl.where(z > 0, y, 0),
    "number a row": lambda y, z: y * z[..., :1],
    "number a column": lambda y, z: (y * z[..., :1, :]).relu(),
    "costly": lambda y, z: (y + z).tanh(),
}


@pytest.mark.parametrize("dtype", [nbdl.float32, nbdl.float64])
@pytest.mark.parametrize("end", MATRIX_ENDS)
@pytest.mark.parametrize("name", MATRICES)
def test_matrices_stay_the_same(backend: str, name: str, end: str, dtype: nbdl.dtype) -> None:
    product, *shapes = MATRICES[name]
    a, b = (tensor(*shape).to(dtype) for shape in shapes)
    z = tensor(*product(a, b).shape).to(dtype)

    def function(a: nbdl.Tensor, b: nbdl.Tensor, z: nbdl.Tensor) -> nbdl.Tensor:
        return MATRIX_ENDS[end](product(a, b), z)

    with nbdl.no_grad():
        compiled = nbdl.compile(function)
        (operation,) = compiled.program(a, b, z).improved.operations[-1:]
        assert len(operation.parts) == 2
        separate = nbdl.compile(function, without=["epilogues"])
        for _ in range(2):  # recorded, replayed
            result, expected = compiled(a, b, z), separate(a, b, z)
        np.testing.assert_array_equal(result.numpy(), expected.numpy())
        np.testing.assert_allclose(result.numpy(), function(a, b, z).numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_blocks_of_several_threads(threads: int) -> None:
    a, b, z = tensor(257, 300), tensor(300, 515), tensor(257, 515)

    def function(a: nbdl.Tensor) -> nbdl.Tensor:
        return nbdl.where(z > 0, a @ b, 0)

    before = nbdl.get_num_threads()
    with nbdl.use_backend("numba"):
        nbdl.set_num_threads(threads)
        try:
            compiled = nbdl.compile(function)
            results = [compiled(a) for _ in range(2)]
        finally:
            nbdl.set_num_threads(before)
            config.NUM_THREADS.set(None)  # back to what the environment says
        np.testing.assert_allclose(results[1].numpy(), function(a).numpy(), rtol=1e-4, atol=1e-4)
        assert compiled.profile(a, runs=1).rows[-1].name.startswith("matmul + ")


def labels(function, *args) -> list[str]:
    with nbdl.use_backend("numpy"), nbdl.no_grad():
        program = nbdl.compile(function).program(*args).recorded
    return [operation.label for operation in PASSES["epilogues"](PASSES["fusion"](program)).operations]


class TestWhatIsAttached:
    x, w = tensor(2, 3, 6, 6, channels_last=True), tensor(4, 3, 3, 3)

    def test_the_last_operation_of_a_chain(self) -> None:
        assert labels(lambda x: F.conv2d(x, self.w).relu() * 2, self.x) == ["convolution + multiply_of_relu"]

    def test_nothing_to_a_result_that_others_read(self) -> None:
        def function(x: nbdl.Tensor) -> nbdl.Tensor:
            y = F.conv2d(x, self.w)
            return F.conv2d(y, tensor(2, 4, 3, 3)) + y.relu().sum()

        assert "convolution" in labels(function, self.x)

    def test_nothing_that_is_returned_itself(self) -> None:
        def function(x: nbdl.Tensor) -> tuple[nbdl.Tensor, nbdl.Tensor]:
            y = F.conv2d(x, self.w)
            return y, y.relu()

        assert labels(function, self.x) == ["convolution", "relu"]

    def test_nothing_that_reads_another_image(self) -> None:
        mask = nbdl.ones(2, 4, 4, 4)
        assert labels(lambda x: F.conv2d(x, self.w) * mask, self.x) == ["convolution", "multiply"]

    def test_nothing_with_another_layout(self) -> None:
        assert labels(lambda x: F.conv2d(x, self.w).double(), self.x)[0] == "convolution"


def test_only_cheap_ones_run_inside_of_the_kernel() -> None:
    pytest.importorskip("numba")
    x, weight = tensor(2, 3, 6, 6), tensor(4, 3, 3, 3)
    with nbdl.use_backend("numba"), nbdl.no_grad():
        for end, names in (("relu", ["convolution + relu"]), ("costly", ["convolution", "tanh"])):
            profile = nbdl.compile(lambda x, end=end: ENDS[end](F.conv2d(x, weight))).profile(x, runs=1)
            assert [row.name for row in profile.rows] == names


def test_parts_follow_when_operands_are_replaced() -> None:
    with nbdl.use_backend("numpy"), nbdl.no_grad():
        weight = tensor(4, 3, 3, 3)
        report = nbdl.compile(lambda x: F.conv2d(x, weight).relu()).program(tensor(2, 3, 6, 6))
    (operation,) = report.improved.operations
    assert isinstance(operation, Operation)
    old, new = operation.inputs[0].buffer, operation.inputs[1].buffer
    replaced = operation.replaced({old: new})
    assert replaced.inputs[0].buffer is replaced.parts[0].inputs[0].buffer is new
