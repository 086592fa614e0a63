"""nn.functional, continued: values and derivatives, identities, errors."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from functional_cases import Case
from functional_cases_rest import CASES

import nbdl
import nbdl.nn.functional as F
from nbdl.autograd import gradcheck, gradgradcheck


@pytest.fixture(autouse=True)
def reference_backend() -> Iterator[None]:
    """What is composed is tested on the backend that is the specification; kernels have own tests."""
    with nbdl.use_backend("numpy"):
        yield


def results(case: Case, functions: Any, tensor: Callable, grad: Callable) -> list[np.ndarray | None]:
    """The value, its gradients for a fixed cotangent, and the gradients of their squares."""
    arrays = case.operands(np.random.default_rng(0))
    operands = [tensor(array, requires_grad=array.dtype.kind == "f") for array in arrays]
    inputs = [x for x, array in zip(operands, arrays, strict=True) if array.dtype.kind == "f"]
    options = {key: tensor(v) if isinstance(v, np.ndarray) else v for key, v in case.options.items()}
    out = getattr(functions, case.name)(*operands, **options)
    first = grad(out, inputs, (out.detach() * 0.3 + 0.5,), create_graph=case.order > 1, allow_unused=True)
    found = [out, *first]
    if case.order > 1:
        squares = [(g * g).sum() for g in first if g is not None and g.requires_grad]
        found += grad(sum(squares[1:], squares[0]), inputs, allow_unused=True) if squares else []
    return [None if x is None else x.detach().numpy() for x in found]


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_value_and_derivatives_equal_pytorchs(case: Case) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours = results(case, F, nbdl.tensor, nbdl.autograd.grad)
    theirs = results(case, torch.nn.functional, torch.tensor, torch.autograd.grad)
    for k, (a, b) in enumerate(itertools.zip_longest(ours, theirs)):
        if a is None or b is None:  # one library may know that a derivative is zero
            assert not np.any(a if b is None else b), f"result {k}"
            continue
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10, err_msg=f"result {k}")


# ----------------------------------------------------------------------------------------------- alignments
LENGTHS = [([3, 2, 0], [7, 6, 4]), ([5, 5, 1], [7, 7, 7]), ([1, 4, 2], [7, 5, 2])]


@pytest.mark.torch
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize(("target_lengths", "input_lengths"), LENGTHS)
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("concatenated", [True, False])
def test_ctc(reduction, target_lengths, input_lengths, normalised, concatenated) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=(7, 3, 5)), random.integers(1, 5, (3, 5))
    labels[0, 1] = labels[0, 0]  # equal neighbours need a blank between them
    if concatenated:
        labels = np.concatenate([row[:n] for row, n in zip(labels, target_lengths, strict=True)])

    def loss(functional: Any, tensor: Callable) -> tuple[Any, Any]:
        x = tensor(scores, requires_grad=True)
        log_probs = x.log_softmax(2) if normalised else x
        value = functional.ctc_loss(
            log_probs, tensor(labels), tensor(input_lengths), tensor(target_lengths), reduction=reduction
        )
        value.sum().backward()
        return value.detach().numpy(), x.grad.numpy()

    for a, b in zip(loss(F, nbdl.tensor), loss(torch.nn.functional, torch.tensor), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_ctc_counts_alignments() -> None:
    """Of even probabilities p the loss is -log(number of alignments p^T): binomial numbers."""
    for steps, n in [(1, 1), (4, 1), (5, 2), (6, 3)]:
        labels = nbdl.arange(1, n + 1).unsqueeze(0)
        log_probs = nbdl.full((steps, 1, 4), 0.25, dtype="float64").log()
        loss = F.ctc_loss(log_probs, labels, [steps], [n], reduction="sum").item()
        paths = {
            path
            for path in itertools.product(range(4), repeat=steps)
            if [k for k, _ in itertools.groupby(path) if k] == list(range(1, n + 1))
        }
        assert np.exp(-loss) * 4.0**steps == pytest.approx(len(paths), rel=1e-12)


def test_ctc_without_alignment() -> None:
    log_probs = nbdl.full((2, 2, 3), 1 / 3, dtype="float64").log().requires_grad_()
    labels = nbdl.tensor([[1, 1], [1, 2]])
    losses = F.ctc_loss(log_probs, labels, [2, 2], [2, 2], reduction="none")
    assert losses.tolist() == [np.inf, pytest.approx(2 * np.log(3))]
    F.ctc_loss(log_probs, labels, [2, 2], [2, 2], zero_infinity=True).backward()
    assert not log_probs.grad.numpy()[:, 0].any()
    assert np.isfinite(log_probs.grad.numpy()).all()


# ------------------------------------------------------------------------------------- finite differences
def random(*shape: int) -> Any:
    return nbdl.tensor(np.random.default_rng(sum(shape)).normal(size=shape), requires_grad=True)


DIFFERENTIABLE = [
    ("bilinear", lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"), [(1, 2, 3, 4)]),
    ("bicubic", lambda x: F.interpolate(x, size=(5, 2), mode="bicubic", align_corners=True), [(1, 1, 3, 4)]),
    ("antialias", lambda x: F.interpolate(x, size=(2, 2), mode="bilinear", antialias=True), [(1, 1, 5, 4)]),
    ("grid_sample", lambda x, g: F.grid_sample(x, g.tanh() * 0.6), [(1, 2, 4, 5), (1, 2, 3, 2)]),
    ("cubic grid", lambda x, g: F.grid_sample(x, g.tanh() * 0.6, "bicubic"), [(1, 1, 4, 5), (1, 1, 2, 2)]),
    ("affine_grid", lambda t: F.affine_grid(t, (2, 1, 2, 3)), [(2, 2, 3)]),
    ("ctc_loss", lambda x: F.ctc_loss(x.log_softmax(2), nbdl.tensor([[1, 2]]), [4], [2]), [(4, 1, 3)]),
    ("soboleva_tanh", F.soboleva_tanh, [(4,), (), (), (), ()]),
    ("gaussian", F.gaussian, [(5,)]),
    ("maxout", lambda x: F.maxout(x, 2, 0), [(4, 3)]),
    ("hinge", lambda x: F.multiclass_hinge_loss(x, nbdl.tensor([0, 2])), [(2, 3)]),
    ("half_squared_error", F.half_squared_error, [(3, 2), (3, 2)]),
    ("entropy", lambda x: F.entropy(x.softmax(-1)), [(2, 3)]),
    ("cross-entropy", lambda x, y: F.distribution_cross_entropy(x.softmax(1), y.softmax(1)), [(2, 3)] * 2),
    ("divergence", lambda x, y: F.distribution_kl_divergence(x.softmax(0), y.softmax(0), 0), [(3, 2)] * 2),
    ("convolution_matrix", lambda w: F.convolution_matrix(w, 4, stride=2, padding=1), [(2, 1, 3)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "function", "shapes"), DIFFERENTIABLE, ids=[row[0] for row in DIFFERENTIABLE]
)
def test_finite_differences(name: str, function: Callable, shapes: list) -> None:
    inputs = tuple(random(*shape) for shape in shapes)
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


# ----------------------------------------------------------------------------------------- textbook functions
def test_maxout_shares_gradients_of_ties() -> None:
    x = nbdl.tensor([1.0, 3.0, 3.0, 2.0, 2.0, 0.0], requires_grad=True)
    y = F.maxout(x, 3)
    assert y.tolist() == [3.0, 2.0]
    y.sum().backward()
    assert x.grad.tolist() == [0, 0.5, 0.5, 0.5, 0.5, 0]


def test_binary_step_and_its_gradients() -> None:
    x = nbdl.tensor([-2.0, -0.0, 0.0, 3.0, np.nan, np.inf], requires_grad=True)
    expected = [0, 1, 1, 1]
    y = F.binary_step(x)
    assert y.tolist()[:4] == expected
    assert np.isnan(y.tolist()[4])
    assert not nbdl.autograd.grad(y[:4].sum(), x)[0].numpy().any()
    z = F.binary_step(x, straight_through=True)
    assert z.tolist()[:4] == expected
    assert nbdl.autograd.grad(z[:4].sum(), x)[0].tolist()[:4] == [1] * 4


def test_soboleva_tanh_far_out() -> None:
    x = nbdl.tensor([-1e4, -800.0, 800.0, 1e4], dtype="float64", requires_grad=True)
    y = F.soboleva_tanh(x, 1.0, 1.0, 1.0, 1.0)
    assert y.tolist() == [-1, -1, 1, 1]
    y.sum().backward()
    assert x.grad.tolist() == [0] * 4
    assert F.soboleva_tanh(x.detach(), 1.0, 1.0, 2.0, 3.0).tolist() == [0] * 4  # a < c, b < d: back to 0
    points = nbdl.linspace(-3, 3, 13, dtype="float64")
    u, rates = points.numpy(), (0.5, 1.5, 1.2, 2.0)
    a, b, c, d = rates
    expected = (np.exp(a * u) - np.exp(-b * u)) / (np.exp(c * u) + np.exp(-d * u))
    np.testing.assert_allclose(F.soboleva_tanh(points, *rates).numpy(), expected, rtol=1e-13, atol=1e-15)


def test_scores_of_the_lecture() -> None:
    scores, first = nbdl.tensor([3.2, 5.1, -1.7], dtype="float64"), nbdl.tensor(0)
    assert F.softmax(scores, 0)[0].item() == pytest.approx(0.1300, abs=5e-5)
    assert F.cross_entropy(scores, first).item() == pytest.approx(2.0404, abs=5e-5)
    assert F.multiclass_hinge_loss(scores, first).item() == pytest.approx(2.9, rel=1e-12)


def test_entropies() -> None:
    random = np.random.default_rng(0)
    p, q = (nbdl.tensor(random.dirichlet(np.ones(4), 5)) for _ in range(2))
    h, cross, kl = F.entropy(p), F.distribution_cross_entropy(p, q), F.distribution_kl_divergence(p, q)
    np.testing.assert_allclose(kl.numpy(), (cross - h).numpy(), rtol=1e-12)
    assert (h <= cross).all()
    certain = nbdl.tensor([0.0, 1.0], dtype="float64")
    assert F.entropy(certain).item() == 0
    assert F.distribution_cross_entropy(certain, certain).item() == 0
    assert F.distribution_kl_divergence(certain.flip(0), certain).item() == np.inf
    scores = nbdl.tensor([0.0, 2000.0], requires_grad=True)  # the softmax underflows
    information = F.entropy(scores.softmax(0)) + F.distribution_kl_divergence(scores.softmax(0), certain)
    information.backward()
    assert scores.grad is not None and scores.grad.tolist() == [0.0, 0.0]


CONVOLUTIONS = [
    ((2, 3, 3), (5,), {"stride": 2, "padding": 1}),
    ((4, 1, 2, 3), (4, 5), {"groups": 2, "dilation": (2, 1)}),
    ((2, 2, 3, 3), (4, 3), {"padding": "same"}),
    ((2, 1, 2, 1, 2), (3, 2, 3), {}),
]


@pytest.mark.parametrize(("weight", "size", "options"), CONVOLUTIONS)
def test_matrix_of_a_convolution(weight: tuple, size: tuple, options: dict) -> None:
    kernel = random(*weight)
    x = random(weight[1] * options.get("groups", 1), *size)
    convolution = getattr(F, f"conv{len(size)}d")(x, kernel, **options)
    matrix = F.convolution_matrix(kernel, size, **options)
    np.testing.assert_allclose(
        (matrix @ x.flatten()).detach().numpy(),
        convolution.flatten().detach().numpy(),
        rtol=1e-12,
        atol=1e-13,
    )


def test_half_squared_error_has_the_difference_as_gradient() -> None:
    x, y = random(3, 2), random(3, 2).detach() + 1
    F.half_squared_error(x, y, reduction="sum").backward()
    np.testing.assert_allclose(x.grad.numpy(), (x - y).detach().numpy(), rtol=1e-12)


def test_in_place_and_indexed_variants() -> None:
    for name in ("relu_", "elu_", "selu_", "celu_", "hardtanh_", "leaky_relu_", "rrelu_"):
        x = nbdl.tensor([-1.0, 2.0])
        expected = getattr(F, name[:-1])(x.clone())
        assert getattr(F, name)(x) is x
        assert x.tolist() == expected.tolist()
    x = nbdl.arange(16.0).reshape(1, 1, 4, 4)
    values, indices = F.max_pool2d_with_indices(x, 2)
    assert indices.flatten().tolist() == values.flatten().tolist() == [5, 7, 13, 15]
    assert F.adaptive_max_pool2d_with_indices(x, 1)[1].item() == 15


# ---------------------------------------------------------------------------------------------------- errors
IMAGE = nbdl.zeros(1, 1, 4, 4)
TABLE, INDEX = nbdl.zeros(3, 2), nbdl.tensor([0, 1])
ERRORS = [
    (lambda: F.interpolate(IMAGE), ValueError, "exactly one of size and scale_factor"),
    (lambda: F.interpolate(IMAGE, 2, 2.0), ValueError, "exactly one of size and scale_factor"),
    (lambda: F.interpolate(IMAGE, (2, 2, 2)), ValueError, "same number of spatial dimensions"),
    (lambda: F.interpolate(IMAGE, 2, mode="cubic"), NotImplementedError, "unknown mode 'cubic'"),
    (lambda: F.interpolate(IMAGE, 2, mode="linear"), NotImplementedError, "needs 3D input"),
    (lambda: F.interpolate(IMAGE, 2, align_corners=True), ValueError, "align_corners option can only"),
    (lambda: F.interpolate(IMAGE, 2, antialias=True), ValueError, "Anti-alias option is restricted"),
    (lambda: F.interpolate(IMAGE, 2, mode="lanczos"), ValueError, "requires antialias"),
    (lambda: F.interpolate(IMAGE, 0), RuntimeError, "greater than 0"),
    (lambda: F.interpolate(IMAGE, 3, recompute_scale_factor=True), ValueError, "not meaningful"),
    (lambda: F.grid_sample(IMAGE, nbdl.zeros(1, 2, 2, 3)), RuntimeError, "expected 4D or 5D input"),
    (lambda: F.grid_sample(IMAGE, nbdl.zeros(2, 2, 2, 2)), RuntimeError, "same batch size"),
    (lambda: F.grid_sample(IMAGE, nbdl.zeros(1, 2, 2, 2), "area"), ValueError, "'nearest' or 'bicubic'"),
    (lambda: F.grid_sample(IMAGE, nbdl.zeros(1, 2, 2, 2), padding_mode="wrap"), ValueError, "got: 'wrap'"),
    (lambda: F.affine_grid(nbdl.zeros(1, 2, 2), (1, 1, 2, 2)), ValueError, "expected theta"),
    (lambda: F.affine_grid(nbdl.zeros(1, 2, 3), (1, 1, 0, 2)), ValueError, "positive output size"),
    (lambda: F.embedding_bag(INDEX, TABLE), ValueError, "offsets has to be a 1D Tensor but got None"),
    (lambda: F.embedding_bag(INDEX, TABLE, INDEX, mode="min"), ValueError, "one of sum, mean or max"),
    (lambda: F.embedding_bag(INDEX[None], TABLE, INDEX), ValueError, "offsets has to be None"),
    (lambda: F.embedding_bag(INDEX[None], TABLE, per_sample_weights=nbdl.ones(1, 2)), NotImplementedError,
     "only supported for mode='sum'"),
    (lambda: F.embedding_bag(INDEX[None], TABLE, mode="sum", per_sample_weights=nbdl.ones(3)), ValueError,
     "must have the same shape"),
    (lambda: F.fractional_max_pool2d(IMAGE, 2), ValueError, "either an output_size or an output_ratio"),
    (lambda: F.fractional_max_pool2d(IMAGE, 2, 4), RuntimeError, "too large"),
    (lambda: F.fractional_max_pool2d(IMAGE, 2, output_ratio=1.5), ValueError, "between 0 and 1"),
    (lambda: F.ctc_loss(nbdl.zeros(2, 1, 3), INDEX[None], [2], [2], blank=3), RuntimeError, "blank must be"),
    (lambda: F.ctc_loss(nbdl.zeros(2, 1, 3), INDEX[None], [2, 2], [2]), RuntimeError, "of size batch_size"),
    (lambda: F.ctc_loss(nbdl.zeros(2, 1, 3), INDEX, [2], [1]), RuntimeError, "sum.target_lengths. = 1"),
    (lambda: F.maxout(TABLE, 4), RuntimeError, "multiple of pieces=4"),
    (lambda: F.half_squared_error(TABLE, TABLE[0]), ValueError, "same shape"),
    (lambda: F.convolution_matrix(TABLE, 3), RuntimeError, "1 to 3 spatial axes"),
]  # fmt: skip


@pytest.mark.parametrize(("action", "kind", "message"), ERRORS)
def test_errors(action: Callable, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        action()


@pytest.mark.parametrize(
    "name",
    [
        "max_pool1d_with_indices",
        "max_pool2d_with_indices",
        "max_pool3d_with_indices",
        "adaptive_max_pool1d_with_indices",
        "adaptive_max_pool2d_with_indices",
        "adaptive_max_pool3d_with_indices",
    ],
)
def test_pools_that_always_give_indices(name):
    plain = name.removesuffix("_with_indices")
    rank = int(plain[-2])
    x = nbdl.tensor(np.random.default_rng(rank).normal(size=(2, 3, *[4] * rank)))
    for given, wanted in zip(
        getattr(F, name)(x, 2), getattr(F, plain)(x, 2, return_indices=True), strict=True
    ):
        np.testing.assert_array_equal(given.numpy(), wanted.numpy())


@pytest.mark.parametrize("rank", [2, 3])
def test_fractional_pools_give_indices(rank):
    names = {2: "fractional_max_pool2d_with_indices", 3: "fractional_max_pool3d_with_indices"}
    x = nbdl.tensor(np.random.default_rng(rank).normal(size=(1, 2, *[6] * rank)))
    samples = nbdl.full((1, 2, rank), 0.4, dtype=nbdl.float64)
    values, indices = getattr(F, names[rank])(x, 2, output_size=3, _random_samples=samples)
    flat = x.reshape(1, 2, -1)
    np.testing.assert_array_equal(
        flat.gather(2, indices.reshape(1, 2, -1)).numpy(), values.reshape(1, 2, -1).numpy()
    )


@pytest.mark.parametrize(
    ("name", "mode", "corners"),
    [
        ("upsample_nearest", "nearest", None),
        ("upsample_bilinear", "bilinear", True),
        ("upsample", "nearest", None),
    ],
)
def test_the_old_names_of_interpolate(name, mode, corners):
    x = nbdl.tensor(np.random.default_rng(0).normal(size=(1, 2, 3, 4)))
    expected = F.interpolate(x, scale_factor=2, mode=mode, align_corners=corners)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(getattr(F, name)(x, scale_factor=2).numpy(), expected.numpy())


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("batched", ["table", "indices", "table of offsets"])
def test_bags_of_many_examples_are_one_operation(batched: str, mode: str, monkeypatch) -> None:
    tables = nbdl.arange(30.0, dtype="float64").reshape(3, 5, 2).cos()
    indices = (nbdl.arange(24) * 7 % 5).reshape(3, 2, 4)
    offsets = nbdl.tensor([0, 3, 3]) if batched == "table of offsets" else None
    same = indices[0].flatten() if offsets is not None else indices[0]

    def loss(table: nbdl.Tensor, index: nbdl.Tensor) -> nbdl.Tensor:
        return F.embedding_bag(index, table, offsets, mode=mode, padding_idx=1).sin().sum()

    slope = nbdl.func.grad(loss)
    if batched == "indices":
        expected = nbdl.stack([F.embedding_bag(index, tables[0], mode=mode) for index in indices])
    else:
        expected = nbdl.stack([slope(table, same) for table in tables])
    monkeypatch.setattr("nbdl.ops.primitive.one_by_one", None)  # the loop over examples
    if batched == "indices":
        found = nbdl.func.vmap(lambda index: F.embedding_bag(index, tables[0], mode=mode))(indices)
    else:
        found = nbdl.func.vmap(slope, in_dims=(0, None))(tables, same)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-14)
