"""What PyTorch has at its top a second time: the same results, from the same positional arguments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nbdl

X = np.random.default_rng(0).uniform(0.1, 0.9, (2, 4, 6, 6))
W = np.random.default_rng(1).standard_normal((8, 5))
LENGTHS = [3, 2]


def parameters(lib: Any, blocks: int, features: int = 4, hidden: int = 3) -> list[Any]:
    """Weights of one recurrent layer."""
    rng = np.random.default_rng(2)
    shapes = [(blocks * hidden, features), (blocks * hidden, hidden), (blocks * hidden,), (blocks * hidden,)]
    return [lib.tensor(rng.standard_normal(shape)) for shape in shapes]


# A program of (library, image (2, 4, 6, 6) that needs a gradient): a tensor or a tuple of them.
PROGRAMS: dict[str, Callable[[Any, Any], Any]] = {
    "adaptive_max_pool1d": lambda t, x: t.adaptive_max_pool1d(x[0], 2),
    "affine_grid_generator": lambda t, x: t.affine_grid_generator(x[:, 0, :2, :3], [2, 4, 5, 3], False),
    "as_strided_scatter": lambda t, x: t.as_strided_scatter(
        x[0, 0].detach(), x[1, 0, :2, :2], (2, 2), (1, 6), 3
    ),
    "avg_pool1d": lambda t, x: t.avg_pool1d(x[0], 2),
    "batch_norm": lambda t, x: t.batch_norm(x, x[0, 0, 0, :4], None, None, None, True, 0.1, 1e-5, False),
    "binary_cross_entropy_with_logits": lambda t, x: t.binary_cross_entropy_with_logits(
        x, x.detach(), None, x[0, 0, 0].detach(), 2
    ),
    "celu_": lambda t, x: t.celu_(x * 1 - 0.5),
    "channel_shuffle": lambda t, x: t.channel_shuffle(x, 2),
    "constant_pad_nd": lambda t, x: t.constant_pad_nd(x, (1, 2, -1, 0), 0.5),
    "conv2d": lambda t, x: t.conv2d(x, x[:, :, :3, :3], None, 2, 1),
    "conv_tbc": lambda t, x: t.conv_tbc(x[0], x[1, :3, :6, :2], x[0, 0, 0, :2], 1),
    "convolution": lambda t, x: t.convolution(
        x, x[:, :, :2, :2], None, [1, 2], [1, 0], [1, 1], False, [0, 0], 1
    ),
    "convolution transposed": lambda t, x: t.convolution(
        x, x[:, :, 0, :3].transpose(0, 1)[..., None], None, [2, 1], [0, 0], [1, 1], True, [1, 0], 1
    ),
    "cosine_embedding_loss": lambda t, x: t.cosine_embedding_loss(x[0, 0], x[0, 1], t.ones(6), 0.1, 0),
    "ctc_loss": lambda t, x: t.ctc_loss(
        x[0, :, :2].log_softmax(-1),
        t.tensor([[1, 2], [3, 0]]),
        t.tensor([4, 4]),
        t.tensor([2, 1]),
        0,
        2,
        False,
    ),
    "detach": lambda t, x: (t.detach(x), x),
    "dropout": lambda t, x: (t.dropout(x, 0.5, False), t.alpha_dropout(x, 0.5, False)),
    "embedding": lambda t, x: t.embedding(x[0, 0], t.tensor([1, 1, 2]), 2),
    "embedding_renorm_": lambda t, x: (
        t.embedding_renorm_(x[0, 0].detach() * 9, t.tensor([1, 4]), 1.0, 2.0) * x
    ),
    "feature_dropout": lambda t, x: (
        t.feature_dropout(x, 0.5, False),
        t.feature_alpha_dropout(x, 0.5, False),
    ),
    "fill_": lambda t, x: t.fill_(x * 1, 2) * x,
    "grid_sampler": lambda t, x: t.grid_sampler(x, x.permute(0, 2, 3, 1)[..., :2] * 2 - 1, 0, 1, True),
    "grid_sampler_2d": lambda t, x: t.grid_sampler_2d(
        x, x.permute(0, 2, 3, 1)[..., :2] * 2.2 - 1, 2, 2, False
    ),
    "group_norm": lambda t, x: t.group_norm(x, 2, x[0, 0, 1, :4], x[0, 0, 0, :4], 1e-5, True),
    "gru_cell": lambda t, x: t.gru_cell(x[0, 0, :2, :4], x[0, 1, :2, :3], *parameters(t, 3)),
    "hardshrink": lambda t, x: (t.hardshrink(x, 0.4), x.hardshrink(0.3)),
    "hinge_embedding_loss": lambda t, x: t.hinge_embedding_loss(x, t.ones(6), 1.0, 1),
    "histogramdd": lambda t, x: (
        (h := t.histogramdd(x.detach().reshape(-1, 3), [2, 3, 4], weight=x.detach()[..., :2].flatten())).hist
        + 0 * h.bin_edges[2][:4]
        + 0 * x.sum()
    ),
    "instance_norm": lambda t, x: t.instance_norm(x, None, None, None, None, True, 0.1, 1e-5, False),
    "kl_div": lambda t, x: t.kl_div(x.log(), x.detach(), 2, log_target=True),
    "layer_norm": lambda t, x: t.layer_norm(x, (6, 6), x[0, 0], None, 1e-5, False),
    "lstm_cell": lambda t, x: t.lstm_cell(
        x[0, 0, :2, :4], [x[0, 1, :2, :3], x[0, 2, :2, :3]], *parameters(t, 4)
    ),
    "lu": lambda t, x: t.lu(x)[0],
    "margin_ranking_loss": lambda t, x: t.margin_ranking_loss(x[0], x[1], t.ones(4, 6, 6), 0.1, 0),
    "max_pool1d_with_indices": lambda t, x: t.max_pool1d_with_indices(x[0], 2),
    "norm_except_dim": lambda t, x: t.norm_except_dim(x, 2, 1),
    "pairwise_distance": lambda t, x: t.pairwise_distance(x[0], x[1], 1.0),
    "pdist": lambda t, x: t.pdist(x[0, 0]),
    "poisson_nll_loss": lambda t, x: t.poisson_nll_loss(x, x.detach(), False, True, 1e-8, 1),
    "prelu": lambda t, x: (t.prelu(x - 0.5, x[0, 0, 0, :4]), (x - 0.5).prelu(x[0, 0, 0, :1])),
    "relu_": lambda t, x: t.relu_(x - 0.5),
    "resize": lambda t, x: x.detach().clone().resize_(3, 4) * x[0, 0, 0, :4],
    "rms_norm": lambda t, x: t.rms_norm(x, (6,), None, 1e-5),
    "rnn_relu_cell": lambda t, x: t.rnn_relu_cell(x[0, 0, :2, :4], x[0, 1, :2, :3], *parameters(t, 1)),
    "rnn_tanh_cell": lambda t, x: t.rnn_tanh_cell(x[0, 0, :2, :4], x[0, 1, :2, :3], *parameters(t, 1)[:2]),
    "selu_": lambda t, x: t.selu_(x - 0.5),
    "set_": lambda t, x: x.detach()[1, 0].clone().set_(x.detach()[0]) * x,
    "threshold": lambda t, x: (t.threshold(x, 0.5, 2.0), t.threshold_(x * 1, 0.5, 2.0)),
    "triplet_margin_loss": lambda t, x: t.triplet_margin_loss(x[0], x[1], x[0] * 2, 1.0, 2.0, 1e-6, True, 0),
    "unsafe_chunk": lambda t, x: (*t.unsafe_chunk(x, 3, 2), *x.unsafe_split(4, 3)),
    "unsafe_split_with_sizes": lambda t, x: t.unsafe_split_with_sizes(x, [1, 5], 3),
    "vmap": lambda t, x: t.vmap(lambda row: row.sum(0))(x),
}
for _kind, _blocks in {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3}.items():
    PROGRAMS[_kind] = lambda t, x, kind=_kind, blocks=_blocks: getattr(t, kind)(
        x[0, :, :, :4], x[:1, 0, :, :3], parameters(t, blocks), True, 1, 0.0, False, False, False
    )
PROGRAMS["lstm"] = lambda t, x: t.lstm(
    x[0, :, :, :4], [x[:1, 0, :4, :3], x[:1, 1, :4, :3]], parameters(t, 4), True, 1, 0.0, True, False, True
)
PROGRAMS["lstm packed"] = lambda t, x: t.lstm(
    x[0, 0, :5, :4],
    t.tensor([2, 2, 1]),
    [x[:1, 0, :2, :3], x[:1, 1, :2, :3]],
    parameters(t, 4),
    True,
    1,
    0.0,
    True,
    False,
)
for _reduce in ("sum", "mean", "max", "min", "prod"):
    PROGRAMS[f"segment_reduce {_reduce}"] = lambda t, x, reduce=_reduce: t.segment_reduce(
        x, reduce, lengths=t.tensor([[1, 0, 3], [2, 1, 1]]), axis=1, initial=0.75
    )
    PROGRAMS[f"segment_reduce {_reduce} by offsets"] = lambda t, x, reduce=_reduce: t.segment_reduce(
        x[0], reduce, offsets=t.tensor([0, 1, 3, 4])
    )


def tensors(result: Any) -> list[Any]:
    return [result] if hasattr(result, "dtype") else [y for part in result for y in tensors(part)]


def values_and_gradient(lib: Any, program: Callable[[Any, Any], Any]) -> list[np.ndarray]:
    x = lib.tensor(X, requires_grad=True)
    outputs = tensors(program(lib, x))
    total = sum(
        (y * lib.arange(1.0, y.numel() + 1).reshape(y.shape)).sum() for y in outputs if y.requires_grad
    )
    (gradient,) = lib.autograd.grad(total, x)
    return [np.asarray(y.detach()) for y in (*outputs, gradient)]


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:torch.lu is deprecated")
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_against_torch(name: str) -> None:
    import torch

    with nbdl.use_backend("numpy"):  # other tests compare backends
        results = values_and_gradient(nbdl, PROGRAMS[name]), values_and_gradient(torch, PROGRAMS[name])
    assert len(results[0]) == len(results[1])
    for ours, theirs in zip(*results):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


IN_PLACE = [
    "abs_ acos_ arccos_ arcsin_ arctan_ arctanh_ asin_ asinh_ atan_ atanh_ ceil_ conj_physical_ cos_ cosh_",
    "deg2rad_ erf_ erfc_ exp2_ exp_ expm1_ fix_ floor_ frac_ i0_ log10_ log1p_ log2_ log_ logit_ nan_to_num_",
    "neg_ negative_ rad2deg_ reciprocal_ round_ rsqrt_ sigmoid_ sin_ sinc_ sinh_ sqrt_ square_ tan_ tanh_",
    "trunc_ zero_ arccosh_ acosh_ arcsinh_ detach_",
]


@pytest.mark.torch
@pytest.mark.parametrize("name", " ".join(IN_PLACE).split())
def test_in_place_functions(name: str) -> None:
    import torch

    start = X[0, 0] + 1 if ("cosh" in name and "arc" in name) or name == "acosh_" else X[0, 0]
    ours, theirs = nbdl.tensor(start), torch.tensor(start)
    assert getattr(nbdl, name)(ours) is ours
    getattr(torch, name)(theirs)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-13)


@pytest.mark.parametrize("name", ["conv4d", "frobnicate", "Conv2d"])
def test_unknown_names(name: str) -> None:
    assert name not in dir(nbdl)
    with pytest.raises(AttributeError, match=f"module 'nbdl' has no attribute '{name}'"):
        getattr(nbdl, name)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda x: nbdl.kl_div(x, x, 3),
            ValueError,
            r"kl_div: reduction must be 0 \(none\), 1 \(mean\) or 2",
        ),
        (lambda x: nbdl.layer_norm(x, (6,), None, None, 1e-5, True, 7), TypeError, "at most 6 positional"),
        (
            lambda x: nbdl.convolution(x[0, 0], x[0, 0], None, [1], [0], [1], False, [0], 1),
            RuntimeError,
            "3 to 5",
        ),
        (lambda x: nbdl.segment_reduce(x, "median", lengths=x), ValueError, "must be one of sum, mean"),
        (lambda x: nbdl.segment_reduce(x, "sum"), RuntimeError, "exactly one of lengths and offsets"),
        (
            lambda x: nbdl.segment_reduce(x, "sum", lengths=nbdl.tensor([1])),
            RuntimeError,
            "axis 0 to sum to 2",
        ),
        (lambda x: nbdl.svd_lowrank(x, 7), ValueError, "not greater than min"),
        (lambda x: nbdl.cond("yes", abs, abs, (x,)), RuntimeError, "Expected pred to be bool"),
        (lambda x: nbdl.while_loop(lambda y: True, lambda y: (y, y), (x,)), RuntimeError, "2 values for 1"),
        (lambda x: x.requires_grad_().resize_(2), RuntimeError, "require grad"),
        (lambda x: x[0].resize_(2), RuntimeError, "cannot resize a view"),
        (lambda x: nbdl.set_default_tensor_type("torch.LongTensor"), TypeError, "only floating-point"),
        (lambda x: nbdl.set_float32_matmul_precision("low"), RuntimeError, "'low' is not one of highest"),
        (lambda x: nbdl.cuda.set_device("cpu"), ValueError, "Expected a cuda device"),
        (lambda x: nbdl.from_file("no such file", size=3), RuntimeError, "from_file: no such file"),
    ],
)
def test_refused(call: Callable[[Any], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(nbdl.tensor(X))


def test_control_flow() -> None:
    x = nbdl.tensor([1.0, 2.0], requires_grad=True)
    for sign, expected in ((1, x.exp()), (-1, x.sin())):
        y = nbdl.cond((sign * x).sum() > 0, nbdl.exp, nbdl.sin, (x,))
        assert nbdl.equal(y, expected)
    doubled, count = nbdl.while_loop(
        lambda y, n: y.sum() < 20, lambda y, n: (y * 2, n + 1), (x, nbdl.tensor(0))
    )
    assert count.item() == 3
    assert nbdl.autograd.grad(doubled.sum(), x)[0].tolist() == [8.0, 8.0]


def test_low_rank_factors() -> None:
    rng = np.random.default_rng(0)
    a = nbdl.tensor(rng.standard_normal((2, 9, 3)) @ rng.standard_normal((2, 3, 7)))
    for matrix in (a, a.mT):
        U, S, V = nbdl.svd_lowrank(matrix, q=4)
        np.testing.assert_allclose((U * S.unsqueeze(-2) @ V.mT).numpy(), matrix.numpy(), atol=1e-10)
        np.testing.assert_allclose(S.numpy()[:, :3], nbdl.linalg.svdvals(matrix).numpy()[:, :3])
    U, S, V = nbdl.pca_lowrank(a, q=3)
    centred = a - a.mean(-2, keepdim=True)
    np.testing.assert_allclose((U * S.unsqueeze(-2) @ V.mT).numpy(), centred.numpy(), atol=1e-10)


def test_settings() -> None:
    try:
        nbdl.set_default_tensor_type("torch.DoubleTensor")
        assert nbdl.zeros(1).dtype == nbdl.float64
        nbdl.set_default_device("cpu")
        assert nbdl.get_default_device() == nbdl.device("cpu")
        nbdl.use_deterministic_algorithms(True, warn_only=True)
        assert nbdl.are_deterministic_algorithms_enabled()
        assert nbdl.get_deterministic_debug_mode() == 1
        nbdl.set_float32_matmul_precision("high")
        assert nbdl.get_float32_matmul_precision() == "high"
    finally:
        nbdl.set_default_tensor_type("torch.FloatTensor")
        nbdl.set_default_device(None)
        nbdl.set_deterministic_debug_mode("default")
        nbdl.set_float32_matmul_precision("highest")
    assert nbdl.zeros(1).dtype == nbdl.float32
    assert not nbdl.are_deterministic_algorithms_enabled()


def test_old_constructors() -> None:
    assert nbdl.Tensor([1, 2]).dtype == nbdl.float32
    assert nbdl.Tensor(2, 3).shape == nbdl.Tensor(nbdl.Size([2, 3])).shape == (2, 3)
    assert nbdl.Tensor().shape == (0,)
    assert nbdl.LongTensor([1, 2]).dtype == nbdl.int64
    assert isinstance(nbdl.zeros(1), nbdl.FloatTensor)
    assert not isinstance(nbdl.zeros(1), nbdl.DoubleTensor)
    for kind in (nbdl.LongTensor, "torch.LongTensor", "nbdl.LongTensor", nbdl.int64, "int64"):
        assert nbdl.zeros(1).type(kind).dtype == nbdl.int64
    x = nbdl.autograd.Variable(nbdl.ones(2), requires_grad=True)
    assert isinstance(x, nbdl.autograd.Variable)
    assert x.requires_grad


def test_files_are_memory(tmp_path: Path) -> None:
    file = tmp_path / "numbers"
    x = nbdl.from_file(str(file), shared=True, size=3, dtype=nbdl.float64)
    x[1] = 2.5
    assert np.fromfile(file).tolist() == [0.0, 2.5, 0.0]
    private = nbdl.from_file(str(file), size=2, dtype=nbdl.float64)
    private.fill_(7.0)
    assert np.fromfile(file).tolist() == [0.0, 2.5, 0.0]


def test_cuda_without_a_gpu() -> None:
    if nbdl.cuda.is_available():
        assert nbdl.cuda.device_count() > 0
        return
    assert nbdl.cuda.device_count() == nbdl.cuda.memory_allocated() == 0
    nbdl.cuda.empty_cache()
    nbdl.cuda.manual_seed_all(3)
    with pytest.raises(RuntimeError, match="device 'cuda' cannot be used"):
        nbdl.cuda.synchronize()
