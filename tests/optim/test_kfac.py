"""Kronecker factors against a plain NumPy transcription, and where they are exact."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
from nbdl import nn
from nbdl.optim import curvature


def double(model):
    return model.double().eval()


def test_exact_for_a_linear_net_with_squared_error_on_one_datum():
    nbdl.manual_seed(0)
    model = double(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 3)))
    data = nbdl.randn(1, 3, dtype=nbdl.float64), nbdl.randn(1, 3, dtype=nbdl.float64)
    for reduction in ("mean", "sum"):
        risk = curvature.Risk(model, nn.MSELoss(reduction=reduction), data)
        blocks = curvature.block_diagonal(curvature.GGN, risk).to_dense().numpy()
        kfac = curvature.KFAC(risk)
        np.testing.assert_allclose(kfac.to_dense().numpy(), blocks, atol=1e-12)
        np.testing.assert_allclose(kfac.diagonal().numpy(), blocks.diagonal(), atol=1e-12)
        v = nbdl.tensor(np.random.default_rng(0).standard_normal(len(blocks)))
        damped = blocks + 0.1 * np.eye(len(blocks))
        np.testing.assert_allclose(kfac.solve(v, 0.1).numpy(), np.linalg.solve(damped, v.numpy()), atol=1e-9)
        assert kfac.logdet(0.1) == pytest.approx(np.linalg.slogdet(damped)[1])


def numpy_factors(model, x, labels, fisher):
    """Martens & Grosse (2015), section 3, for two linear layers with tanh and the softmax, in loops."""
    w1, b1, w2, b2 = (p.detach().numpy() for p in model.parameters())
    left, right = [0.0, 0.0], [0.0, 0.0]
    for a0, label in zip(x, labels, strict=True):
        a1 = np.tanh(w1 @ a0 + b1)
        logits = w2 @ a1 + b2
        p = np.exp(logits - logits.max())
        p /= p.sum()
        right[0] = right[0] + np.outer(np.r_[a0, 1], np.r_[a0, 1]) / len(x)
        right[1] = right[1] + np.outer(np.r_[a1, 1], np.r_[a1, 1]) / len(x)
        for c in range(len(p)) if fisher == "exact" else [label]:
            g2 = p - np.eye(len(p))[c]
            g1 = (w2.T @ g2) * (1 - a1**2)
            weight = (p[c] if fisher == "exact" else 1.0) / len(x)
            left[0], left[1] = left[0] + weight * np.outer(g1, g1), left[1] + weight * np.outer(g2, g2)
    return list(zip(left, right, strict=True))


@pytest.mark.parametrize("loader", [False, True], ids=["pair", "loader"])
@pytest.mark.parametrize("fisher", ["exact", "empirical"])
def test_factors_are_those_of_the_paper(fisher, loader, backend):
    nbdl.manual_seed(0)
    model = double(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)))
    r = np.random.default_rng(0)
    x, y = r.standard_normal((7, 3)), r.integers(0, 3, 7)
    data = nbdl.tensor(x), nbdl.tensor(y)
    batches = [(data[0][:2], data[1][:2]), (data[0][2:], data[1][2:])] if loader else data
    kfac = curvature.KFAC(curvature.Risk(model, nn.CrossEntropyLoss(), batches), fisher)
    for block, (left, right) in zip(kfac.blocks, numpy_factors(model, x, y, fisher), strict=True):
        np.testing.assert_allclose(block.product.left[0].numpy(), left, atol=1e-12)
        np.testing.assert_allclose(block.product.right[0].numpy(), right, atol=1e-12)


def test_sampled_targets_give_the_exact_factors_on_average():
    nbdl.manual_seed(0)
    model = double(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)))
    data = nbdl.randn(6, 3, dtype=nbdl.float64), nbdl.randint(0, 3, (6,))
    risk = curvature.Risk(model, nn.CrossEntropyLoss(), data)
    exact, sampled = (
        curvature.KFAC(risk),
        curvature.KFAC(risk, "mc", n_samples=3000, generator=nbdl.Generator().manual_seed(1)),
    )
    for a, b in zip(exact.blocks, sampled.blocks, strict=True):
        scale = a.product.left.abs().amax().item()
        np.testing.assert_allclose(b.product.left.numpy(), a.product.left.numpy(), atol=0.1 * scale)
        np.testing.assert_array_equal(b.product.right.numpy(), a.product.right.numpy())


def test_kfac_helps_conjugate_gradients_where_the_damping_is_small():
    nbdl.manual_seed(0)
    model = double(nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 6)))
    scales = nbdl.logspace(-2, 1, 8, dtype=nbdl.float64)  # badly scaled inputs
    data = nbdl.randn(200, 8, dtype=nbdl.float64) * scales, nbdl.randint(0, 6, (200,))
    risk = curvature.Risk(model, nn.CrossEntropyLoss(), data)
    ggn, kfac, gradient = curvature.GGN(risk), curvature.KFAC(risk), risk.gradient()
    inverse = curvature.FunctionOperator(kfac.shape, kfac.dtype, lambda v: kfac.solve(v, 1e-5))
    plain = curvature.cg(ggn, gradient, damping=1e-5, rtol=1e-2)
    helped = curvature.cg(ggn, gradient, damping=1e-5, rtol=1e-2, M=inverse)
    assert plain.info == helped.info == 0
    for found in (plain, helped):
        rest = gradient - ggn @ found.x - 1e-5 * found.x
        assert rest.norm().item() <= 1.01e-2 * gradient.norm().item()
    assert helped.iterations < 0.7 * plain.iterations


# Layers whose block is exact for one example: one position, one row of the table, or every scale by itself.
EXACT = {
    "conv1d": (lambda: nn.Conv1d(2, 3, 3), (1, 2, 3)),
    "conv2d": (lambda: nn.Conv2d(2, 4, (2, 3), padding=(0, 1), stride=2), (1, 2, 2, 2)),
    "conv2d groups": (lambda: nn.Conv2d(4, 6, 2, groups=2, dilation=2, bias=False), (1, 4, 3, 3)),
    "conv2d circular": (lambda: nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), (1, 1, 1, 1)),
    "conv2d same": (lambda: nn.Conv2d(1, 2, 3, padding="same"), (1, 1, 1, 1)),
    "conv3d": (lambda: nn.Conv3d(1, 2, (2, 1, 2)), (1, 1, 2, 1, 2)),
    "linear": (lambda: nn.Linear(4, 3, bias=False), (1, 4)),
    "embedding": (lambda: nn.Embedding(5, 3), None),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_exact_for_one_position_of_one_example(name):
    nbdl.manual_seed(0)
    make, shape = EXACT[name]
    layer = make()
    x = nbdl.tensor([3]) if shape is None else nbdl.randn(*shape, dtype=nbdl.float64)
    model = double(nn.Sequential(layer, nn.Flatten()))
    outputs = model(x)
    groups = getattr(layer, "groups", 1)
    risk = curvature.Risk(model, nn.MSELoss(), (x, outputs.detach().ones_like()))
    kfac, ggn = curvature.KFAC(risk).to_dense().numpy(), curvature.GGN(risk).to_dense().numpy()
    assert abs(ggn).max() > 0
    assert groups == 1 or abs(ggn[: len(ggn) // 2, len(ggn) // 2 :]).max() == 0
    np.testing.assert_allclose(kfac, ggn, atol=1e-12)


NORMS = {
    "batch": (lambda: nn.BatchNorm1d(3), (5, 3)),
    "batch2d": (lambda: nn.BatchNorm2d(3), (5, 3, 2, 2)),
    "layer": (lambda: nn.LayerNorm(4), (5, 3, 4)),
    "group": (lambda: nn.GroupNorm(2, 4), (5, 4, 3)),
    "instance": (lambda: nn.InstanceNorm1d(3, affine=True), (5, 3, 4)),
    "rms": (lambda: nn.RMSNorm(4), (5, 4)),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_have_the_exact_blocks_of_scale_and_shift(name):
    nbdl.manual_seed(0)
    make, shape = NORMS[name]
    layer = double(make())
    with nbdl.no_grad():
        for param in layer.parameters():
            param.normal_()
    model = double(nn.Sequential(layer, nn.Flatten()))
    x = nbdl.randn(*shape, dtype=nbdl.float64)
    risk = curvature.Risk(model, nn.MSELoss(), (x, model(x).detach() + 1))
    kfac, ggn = curvature.KFAC(risk).to_dense().numpy(), curvature.GGN(risk).to_dense().numpy()
    n = layer.weight.numel()
    belongs = np.arange(len(ggn)) % n  # to which scale
    np.testing.assert_allclose(kfac, ggn * (belongs[:, None] == belongs), atol=1e-12)


def test_shared_layers_and_frozen_ones():
    nbdl.manual_seed(0)
    layer = nn.Linear(3, 3)
    model = double(nn.Sequential(layer, nn.Tanh(), layer))
    data = nbdl.randn(4, 3, dtype=nbdl.float64), nbdl.randn(4, 3, dtype=nbdl.float64)
    kfac = curvature.KFAC(curvature.Risk(model, nn.MSELoss(), data))
    assert kfac.shape == (12, 12)
    assert kfac.blocks[0].product.right.numpy()[0, 3, 3] == pytest.approx(1.0)  # a mean over both calls
    model = double(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    model[0].requires_grad_(False)
    assert curvature.KFAC(curvature.Risk(model, nn.MSELoss(), data)).shape == (12, 12)


def test_activations_in_place_change_nothing():
    nbdl.manual_seed(0)
    layers = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)
    data = nbdl.randn(5, 3, dtype=nbdl.float64), nbdl.randint(0, 3, (5,))
    plain = double(nn.Sequential(*layers))
    in_place = double(nn.Sequential(layers[0], nn.ReLU(inplace=True), layers[2]))
    found = [
        curvature.KFAC(curvature.Risk(model, nn.CrossEntropyLoss(), data)).to_dense()
        for model in (plain, in_place)
    ]
    np.testing.assert_array_equal(found[0], found[1])


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        return self.used(x)


DATA = nbdl.zeros(2, 3), nbdl.zeros(2, 2)


def linear_risk(layer=None, loss=None):
    return curvature.Risk(layer or nn.Linear(3, 2), loss or nn.MSELoss(), DATA)


WRONG = {
    "function": (
        lambda: curvature.KFAC(curvature.Function(lambda x: x.sum(), nbdl.ones(2))),
        TypeError, "Risk of a module",
    ),
    "kind": (lambda: curvature.KFAC(linear_risk(), "true"), ValueError, "exact, mc"),
    "samples": (lambda: curvature.KFAC(linear_risk(), "mc", 0), ValueError, "n_samples"),
    "layer": (lambda: curvature.KFAC(linear_risk(nn.Bilinear(3, 3, 2))), ValueError, "weight, bias"),
    "loss": (lambda: curvature.KFAC(linear_risk(loss=nn.L1Loss())), ValueError, "likelihood"),
    "never called": (lambda: curvature.KFAC(linear_risk(Unused())), ValueError, "'unused'"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_bad_input(case):
    function, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        function()
