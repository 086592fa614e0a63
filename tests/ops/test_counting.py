"""Histograms, counts, membership, and writing into windows: edge cases and bad input."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl


def test_edges_of_histograms(backend):
    x = nbdl.tensor([0.0, 1.0, 1.0, 2.0, float("nan"), 3.0, -1.0])
    np.testing.assert_array_equal(nbdl.histc(x, 2, 0, 2).numpy(), [1, 3])  # the last bin has both edges
    hist, edges = nbdl.histogram(x, nbdl.tensor([0.0, 1.0, 3.0]))
    np.testing.assert_array_equal(hist.numpy(), [1, 4])
    np.testing.assert_array_equal(edges.numpy(), [0, 1, 3])
    weighted, _ = nbdl.histogram(x[:4], 2, range=(0, 2), weight=nbdl.tensor([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(weighted.numpy(), [1, 9])


@pytest.mark.torch
@pytest.mark.parametrize("bins", [1, 2, 8, 64])
def test_elements_on_edges_are_in_pytorchs_bins(backend, bins):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for dtype in ("float32", "float64"):
        values = np.linspace(-4, 4, 2 * bins + 1).astype(dtype)  # edges that floats can say
        for bounds in ((-4, 4), (-1, 3), (0, 0)):
            found = nbdl.histc(nbdl.tensor(values), bins, *bounds)
            expected = torch.histc(torch.tensor(values), bins, *bounds)
            np.testing.assert_array_equal(found.numpy(), expected.numpy(), strict=True)


@pytest.mark.torch
def test_histograms_of_nothing_and_of_one_value(backend):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for values in ([], [2.0, 2.0]):
        for ours, theirs in (
            (nbdl.histc(nbdl.tensor(values), 4), torch.histc(torch.tensor(values), 4)),
            (nbdl.histogram(nbdl.tensor(values), 3)[0], torch.histogram(torch.tensor(values), 3)[0]),
            (nbdl.histogram(nbdl.tensor(values), 3)[1], torch.histogram(torch.tensor(values), 3)[1]),
        ):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), strict=True)


def test_counts_of_nothing(backend):
    nothing = nbdl.tensor([], dtype="int64")
    np.testing.assert_array_equal(nbdl.bincount(nothing, minlength=3).numpy(), [0, 0, 0])
    assert nbdl.bincount(nothing).shape == (0,)
    np.testing.assert_array_equal(nbdl.isin(nbdl.tensor([1, 2]), nothing).numpy(), [False, False])
    assert nbdl.nonzero_static(nbdl.zeros(3), size=2).tolist() == [[-1], [-1]]
    assert nbdl.nonzero_static(nbdl.tensor(5.0), size=2).shape == (2, 0)


def test_membership(backend):
    x = nbdl.tensor([1.0, float("nan"), 3.0])
    assert nbdl.isin(x, x).tolist() == [True, False, True]
    assert nbdl.isin(2, nbdl.tensor([1, 2])).tolist() is True
    assert nbdl.isin(nbdl.tensor([[1, 2], [3, 4]]), nbdl.tensor([2.0, 3.0])).tolist() == [
        [False, True],
        [True, False],
    ]


def test_first_nonzero_elements(backend):
    x = nbdl.tensor([[0, 1], [2, 3]])
    assert nbdl.nonzero_static(x, size=2).tolist() == [[0, 1], [1, 0]]
    assert nbdl.nonzero_static(x, size=4, fill_value=9).tolist() == [[0, 1], [1, 0], [1, 1], [9, 9]]
    assert nbdl.nonzero_static(x, size=0).shape == (0, 2)


def test_in_place(backend):
    x = nbdl.arange(6.0).reshape(2, 3)
    assert x.cumsum_(1) is x
    assert x.tolist() == [[0, 1, 3], [3, 7, 12]]
    x.put_(nbdl.tensor([0, -1]), nbdl.tensor([5.0, 6.0]))
    assert x.tolist() == [[5, 1, 3], [3, 7, 6]]
    x.T.put_(nbdl.tensor([1, 1]), nbdl.tensor([1.0, 2.0]), accumulate=True)
    assert x.tolist() == [[5, 1, 3], [6, 7, 6]]
    x.index_reduce_(0, nbdl.tensor([0, 0]), nbdl.ones(2, 3) * 4, "amax")
    assert x.tolist() == [[5, 4, 4], [6, 7, 6]]
    factors = nbdl.tensor([2.0, 3.0, 4.0], requires_grad=True)
    product = factors.clone().cumprod_(0)
    product.sum().backward()
    np.testing.assert_allclose(factors.grad.numpy(), [16.0, 10.0, 6.0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nbdl.bincount(nbdl.tensor([1, -1])),
            RuntimeError,
            "1-d non-negative integral inputs, got -1",
        ),
        (lambda: nbdl.bincount(nbdl.ones(2)), RuntimeError, "bincount: only supports"),
        (lambda: nbdl.bincount(nbdl.arange(3), nbdl.ones(2)), RuntimeError, "weights should be 1-d"),
        (lambda: nbdl.bincount(nbdl.arange(3), minlength=-1), RuntimeError, "minlength should be >= 0"),
        (lambda: nbdl.histc(nbdl.arange(3)), RuntimeError, "histc: expected a floating tensor, got int64"),
        (lambda: nbdl.histc(nbdl.ones(3), 0), RuntimeError, "histc: bins must be > 0, got 0"),
        (lambda: nbdl.histc(nbdl.ones(3), 3, 2, 1), RuntimeError, "max must be larger than min"),
        (lambda: nbdl.histc(nbdl.ones(3), 3, 0, float("inf")), RuntimeError, "is not finite"),
        (lambda: nbdl.histogram(nbdl.ones(3), nbdl.ones(1)), RuntimeError, "2 or more edges"),
        (
            lambda: nbdl.histogram(nbdl.ones(3), 2, weight=nbdl.ones(2)),
            RuntimeError,
            "histogram: weight must",
        ),
        (lambda: nbdl.isin(1, 2), RuntimeError, "isin: at least one"),
        (
            lambda: nbdl.slice_scatter(nbdl.ones(4), nbdl.ones(3), 0, 0, 2),
            RuntimeError,
            "slice size = \\[2\\]",
        ),
        (lambda: nbdl.slice_scatter(nbdl.ones(4), nbdl.ones(3), step=0), ValueError, "step must be positive"),
        (
            lambda: nbdl.select_scatter(nbdl.ones(4, 2), nbdl.ones(4), 0, 0),
            RuntimeError,
            "src size = \\[4\\]",
        ),
        (lambda: nbdl.diagonal_scatter(nbdl.ones(4, 2), nbdl.ones(4)), RuntimeError, "slice size = \\[2\\]"),
        (lambda: nbdl.ones(2).put(nbdl.tensor([3]), nbdl.ones(1)), IndexError, "index 3 is out of bounds"),
        (lambda: nbdl.ones(2).put(nbdl.tensor([1]), nbdl.ones(2)), RuntimeError, "put: expected source"),
        (lambda: nbdl.ones(2).put(nbdl.ones(1), nbdl.ones(1)), IndexError, "integer index, got float32"),
        (
            lambda: nbdl.ones(2).index_reduce(0, nbdl.tensor([0]), nbdl.ones(1), "sum"),
            RuntimeError,
            "reduce argument must be prod, mean, amax or amin, got 'sum'",
        ),
        (
            lambda: nbdl.ones(2).index_reduce(0, nbdl.tensor([0]), nbdl.ones(2), "prod"),
            RuntimeError,
            "source must have shape \\[1\\], got \\[2\\]",
        ),
        (lambda: nbdl.nonzero_static(nbdl.ones(2), size=-1), RuntimeError, "size must be non-negative"),
        (lambda: nbdl.unravel_index(nbdl.ones(2), (2,)), TypeError, "integer indices, got float32"),
        (lambda: nbdl.unravel_index(nbdl.arange(2), (-2,)), ValueError, "negative lengths"),
        (lambda: nbdl.cartesian_prod(nbdl.ones(2, 2)), RuntimeError, "cartesian_prod: expected vectors"),
        (lambda: nbdl.combinations(nbdl.ones(2, 2)), RuntimeError, "combinations: expected a 1-D vector"),
        (
            lambda: nbdl.block_diag(nbdl.ones(2, 2, 2)),
            RuntimeError,
            "block_diag: expected tensors of at most 2",
        ),
        (lambda: nbdl.ones(3).cumsum_(0, dtype="float64"), RuntimeError, "cumsum_: dtype must be"),
    ],
)
def test_bad_input(call, error, message, backend):
    with pytest.raises(error, match=message):
        call()
