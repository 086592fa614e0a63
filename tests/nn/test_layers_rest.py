"""Layers, continued: lazy ones, bags, resizing, structured losses, and what textbooks have beside PyTorch."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import nbdl
from nbdl import nn, optim


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def as_array(x):
    return x.detach().numpy()


# (make, shapes of the inputs); integers are indices below 4
LAYERS = [
    (lambda p: p.Upsample(scale_factor=2), [(1, 2, 3, 4)]),
    (lambda p: p.Upsample(size=(5, 3), mode="bilinear", align_corners=True), [(1, 2, 3, 4)]),
    (lambda p: p.UpsamplingNearest2d(4), [(1, 2, 3, 4)]),
    (lambda p: p.UpsamplingBilinear2d(scale_factor=2), [(1, 2, 3, 4)]),
    (lambda p: p.EmbeddingBag(4, 3), ["int", (5, 2)]),
    (lambda p: p.EmbeddingBag(4, 3, mode="sum", padding_idx=1), ["int", (5, 2)]),
    (lambda p: p.EmbeddingBag(4, 3, max_norm=1.0, mode="max"), ["int", (5, 2)]),
    (lambda p: p.LazyLinear(3), [(5, 4)]),
    (lambda p: p.LazyConv1d(4, 2, groups=2), [(2, 6, 5)]),
    (lambda p: p.LazyConv2d(4, 3, padding=1, bias=False), [(2, 3, 5, 4)]),
    (lambda p: p.LazyConv3d(2, 2), [(1, 3, 3, 3, 3)]),
    (lambda p: p.LazyConvTranspose1d(2, 3), [(3, 5)]),
    (lambda p: p.LazyConvTranspose2d(2, 3, stride=2), [(2, 3, 4, 3)]),
    (lambda p: p.LazyConvTranspose3d(2, 2), [(1, 3, 3, 3, 3)]),
    (lambda p: p.LazyBatchNorm1d(), [(5, 3)]),
    (lambda p: p.LazyBatchNorm2d(eps=0.1, affine=False), [(5, 3, 2, 2)]),
    (lambda p: p.LazyBatchNorm3d(momentum=None), [(2, 3, 2, 2, 2)]),
    (lambda p: p.LazyInstanceNorm1d(affine=True), [(2, 3, 5)]),
    (lambda p: p.LazyInstanceNorm2d(track_running_stats=True), [(2, 3, 2, 3)]),
    (lambda p: p.LazyInstanceNorm3d(), [(2, 3, 2, 2, 2)]),
]


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")  # PyTorch
@pytest.mark.parametrize("k", range(len(LAYERS)))
def test_same_as_torch(k, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    make, shapes = LAYERS[k]
    ours, theirs = make(nn).double(), make(torch.nn).double()
    assert repr(ours) == repr(theirs)
    if shapes[0] == "int":
        arrays = [np.random.default_rng(0).integers(0, 4, shapes[1])]
    else:
        arrays = [array(*shape) for shape in shapes]
    ours(*map(nbdl.tensor, arrays))  # lazy layers are ready from here on
    theirs(*map(torch.tensor, arrays))
    assert repr(ours) == repr(theirs)
    state = {name: array(*value.shape) ** 2 + 0.5 for name, value in ours.state_dict().items() if value.ndim}
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(state, strict=False)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in state.items()}, strict=False)
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        y, z = ours(*map(nbdl.tensor, arrays)), theirs(*map(torch.tensor, arrays))
        np.testing.assert_allclose(as_array(y), z.detach().numpy(), rtol=1e-9, atol=1e-11)
        if not list(ours.parameters()):
            continue
        y.square().sum().backward()
        z.square().sum().backward()
        for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-8, atol=1e-9, err_msg=name)
    for (name, a), b in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, err_msg=name)


# ------------------------------------------------------------------------------------------- lazy layers
def test_lazy_parameters_stay_the_same_objects():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    held = list(model.parameters())
    assert all(isinstance(parameter, nn.UninitializedParameter) for parameter in held)
    copied = copy.deepcopy(model)
    assert model(nbdl.zeros(1, 3, 5, 5)).shape == (1, 2)
    assert all(a is b for a, b in zip(held, model.parameters(), strict=True))
    assert {type(parameter) for parameter in held} == {nn.Parameter}
    assert [type(layer) for layer in model] == [nn.Conv2d, nn.ReLU, nn.Flatten, nn.Linear]
    assert copied[0].has_uninitialized_params()
    assert copied(nbdl.zeros(1, 2, 4, 4)).shape == (1, 2)


def test_lazy_layers_load_and_save():
    ready, lazy = nn.Linear(4, 3), nn.LazyLinear(3)
    lazy.load_state_dict(ready.state_dict())
    assert not lazy.has_uninitialized_params()
    x = nbdl.tensor(array(2, 4).astype(np.float32))
    np.testing.assert_array_equal(as_array(lazy(x)), as_array(ready(x)))
    assert lazy.in_features == 4
    other = nn.LazyLinear(3)
    other.load_state_dict(nn.LazyLinear(3).state_dict())
    assert other.has_uninitialized_params()
    wrong = nn.LazyLinear(3)
    wrong.load_state_dict(ready.state_dict())
    with pytest.raises(RuntimeError, match="was loaded, has shape"):
        wrong(nbdl.zeros(2, 5))
    with pytest.raises(RuntimeError, match=r"Expected 3D \(unbatched\) or 4D"):
        nn.LazyConv2d(2, 3)(nbdl.zeros(2, 3))


# ------------------------------------------------------------------------------------- structured losses
@pytest.mark.torch
@pytest.mark.parametrize("head_bias", [True, False])
def test_adaptive_log_softmax(head_bias):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    arguments = (16, 12, [3, 7])
    ours = nn.AdaptiveLogSoftmaxWithLoss(*arguments, div_value=2.0, head_bias=head_bias).double()
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(*arguments, div_value=2.0, head_bias=head_bias).double()
    theirs.load_state_dict({k: torch.tensor(as_array(v)) for k, v in ours.state_dict().items()})
    x, target = array(6, 16), np.array([0, 11, 3, 6, 2, 8])
    y, z = ours(nbdl.tensor(x), nbdl.tensor(target)), theirs(torch.tensor(x), torch.tensor(target))
    np.testing.assert_allclose(as_array(y.output), z.output.detach().numpy(), rtol=1e-12)
    y.loss.backward()
    z.loss.backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-14)
    full = ours.log_prob(nbdl.tensor(x))
    np.testing.assert_allclose(as_array(full), theirs.log_prob(torch.tensor(x)).detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(as_array(full.exp().sum(1)), 1, rtol=1e-12)
    assert ours.predict(nbdl.tensor(x)).tolist() == theirs.predict(torch.tensor(x)).tolist()
    single = ours(nbdl.tensor(x[1]), nbdl.tensor(11))
    np.testing.assert_allclose(single.output.item(), y.output[1].item(), rtol=1e-12)


@pytest.mark.torch
def test_linear_cross_entropy_loss():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours = nn.LinearCrossEntropyLoss(3, 4, bias=True, label_smoothing=0.1).double()
    theirs = torch.nn.LinearCrossEntropyLoss(3, 4, bias=True, label_smoothing=0.1).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict({k: torch.tensor(as_array(v)) for k, v in ours.state_dict().items()})
    x, target = array(5, 3), np.array([0, 3, 1, 2, 1])
    y, z = ours(nbdl.tensor(x), nbdl.tensor(target)), theirs(torch.tensor(x), torch.tensor(target))
    np.testing.assert_allclose(y.item(), z.item(), rtol=1e-12)


def test_losses_as_modules():
    log_probs = nbdl.tensor(array(6, 2, 4)).log_softmax(2)
    arguments = (log_probs, nbdl.tensor([[1, 2], [3, 3]]), nbdl.tensor([6, 5]), nbdl.tensor([2, 2]))
    expected = nn.functional.ctc_loss(*arguments, blank=0, reduction="sum")
    assert nn.CTCLoss(reduction="sum")(*arguments).item() == expected.item()
    assert isinstance(nn.NLLLoss2d(), nn.NLLLoss)


def test_fractional_max_pooling():
    nbdl.manual_seed(0)
    x = nbdl.tensor(array(2, 3, 9, 9))
    layer = nn.FractionalMaxPool2d(2, output_ratio=0.5, return_indices=True)
    values, indices = layer(x)
    assert values.shape == (2, 3, 4, 4)
    np.testing.assert_array_equal(
        values.numpy(), x.flatten(2).gather(2, indices.flatten(2)).reshape(2, 3, 4, 4)
    )
    assert nn.FractionalMaxPool3d(2, output_size=(1, 2, 3))(nbdl.zeros(2, 4, 4, 5)).shape == (2, 1, 2, 3)


# ---------------------------------------------------------------------------------- textbook activations
def test_fixed_and_learned_activations():
    x = nbdl.tensor([-1.0, 2.0], requires_grad=True)
    assert not nn.PReLU(learnable=False).weight.requires_grad
    assert list(nn.PReLU(learnable=False).state_dict()) == ["weight"]
    learned, fixed = nn.SobolevaTanh(0.5, 1, 1.5, 2, learnable=True), nn.SobolevaTanh(0.5, 1, 1.5, 2)
    assert [name for name, _ in learned.named_parameters()] == list("abcd")
    assert [name for name, _ in fixed.named_buffers()] == list("abcd")
    assert not list(fixed.parameters())
    assert learned(x).tolist() == fixed(x).tolist()
    learned(x).sum().backward()
    assert all(p.grad is not None and p.grad.item() != 0 for p in learned.parameters())
    assert nn.BinaryStep()(x).tolist() == [0, 1]
    assert nn.Gaussian()(x).tolist() == pytest.approx([np.exp(-1), np.exp(-4)])


def test_maxout_layer_represents_the_absolute_value():
    layer = nn.Maxout(1, 1, pieces=2, bias=False)
    with nbdl.no_grad():
        layer.affine.weight.copy_(nbdl.tensor([[1.0], [-1.0]]))
    assert layer(nbdl.tensor([[-3.0], [2.0]])).tolist() == [[3.0], [2.0]]


# ------------------------------------------------------------------------------------------------ blocks
def test_residual_blocks():
    x = nbdl.tensor(array(2, 4).astype(np.float32))
    block = nn.Linear(4, 3)
    shortcut = nn.Linear(4, 3, bias=False)
    y = nn.Residual(block, shortcut)(x)
    np.testing.assert_allclose(as_array(y), as_array(block(x) + shortcut(x)), rtol=1e-6)
    layer = nn.ResidualLinear(4)
    np.testing.assert_allclose(as_array(layer(x)), as_array(x + layer.linear(x).tanh()), rtol=1e-6)


def test_densely_connected_block():
    layers = [nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(5, 4, 1)]
    x = nbdl.tensor(array(1, 2, 4, 4).astype(np.float32))
    u1 = layers[0](x)
    u2 = layers[1](nbdl.cat([x, u1], 1))
    y = nn.DenselyConnected(layers)(x)
    np.testing.assert_allclose(as_array(y), as_array(nbdl.cat([x, u1, u2], 1)), rtol=1e-6)


# ------------------------------------------------------------------------------ penalties and neighbours
def test_penalties():
    model = nn.Linear(2, 1)
    with nbdl.no_grad():
        model.weight.copy_(nbdl.tensor([[3.0, -4.0]]))
        model.bias.fill_(10)
    assert nn.L1(0.1)(model).item() == pytest.approx(0.7)
    assert nn.L2(0.1)(model).item() == pytest.approx(2.5)
    assert nn.L2(0.1, biases=True)(model).item() == pytest.approx(12.5)
    nn.L2(0.5)([model.weight]).backward()
    assert model.weight.grad.tolist() == [[3.0, -4.0]]
    with pytest.raises(ValueError, match="must not be negative"):
        nn.L1(-1)
    with pytest.raises(ValueError, match="no parameters"):
        nn.L2()(nn.ReLU())


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize("k", [1, 3])
def test_nearest_neighbor(p, k):
    samples, labels, queries = array(40, 2, 3), np.arange(40) % 4, array(11, 2, 3, seed=1)
    model = nn.NearestNeighbor(k, p, block=4).train(nbdl.tensor(samples), nbdl.tensor(labels))
    distances = (np.abs(queries[:, None] - samples) ** p).sum((2, 3))
    votes = labels[np.argsort(distances, 1)[:, :k]]
    expected = [np.bincount(row).argmax() for row in votes]
    assert model.predict(nbdl.tensor(queries)).tolist() == expected
    with pytest.raises(RuntimeError, match="call train first"):
        nn.NearestNeighbor().predict(nbdl.tensor(queries))
    with pytest.raises(ValueError, match="a label a sample"):
        nn.NearestNeighbor().train(nbdl.zeros(3, 2), nbdl.zeros(2))


# -------------------------------------------------------------------------------- radial basis functions
def blobs():
    """Four clusters of 30 points around the corners of a square, their centres, and the clusters' numbers."""
    corners = np.array([[0.0, 0.0], [0.0, 8.0], [8.0, 0.0], [8.0, 8.0]])
    numbers = np.arange(120) % 4
    return nbdl.tensor(corners[numbers] + 0.3 * array(120, 2)), corners, numbers


def test_rbf_layer():
    layer = nn.RBF(2, 3).double()
    with nbdl.no_grad():
        layer.widths.copy_(nbdl.tensor([0.5, 1.0, 2.0]))
    x = array(5, 2)
    mu, sigma = as_array(layer.centers), as_array(layer.widths)
    expected = np.exp(-((x[:, None] - mu) ** 2).sum(2) / (2 * sigma**2))
    np.testing.assert_allclose(as_array(layer(nbdl.tensor(x))), expected, rtol=1e-12)
    inputs = (nbdl.tensor(x, requires_grad=True), layer.centers, layer.widths)
    assert nbdl.autograd.gradcheck(lambda x, *_: layer(x), inputs)
    assert nbdl.autograd.gradgradcheck(lambda x, *_: layer(x), inputs)
    assert not any(p.requires_grad for p in nn.RBF(2, 3, learnable=False).parameters())
    with pytest.raises(RuntimeError, match=r"expected an input \(\.\.\., 2\)"):
        layer(nbdl.zeros(3))


@pytest.mark.parametrize(
    "choose", [nn.rbf.kmeans_plus_plus, nn.rbf.k_means, nn.rbf.growing_neural_gas], ids=lambda f: f.__name__
)
def test_centers_find_clusters(choose):
    nbdl.manual_seed(0)
    x, corners, _ = blobs()
    centers = as_array(choose(x, 4))
    assert centers.shape == (4, 2)
    nearest = np.linalg.norm(centers[:, None] - corners, axis=2)
    if choose is not nn.rbf.growing_neural_gas:  # which spreads nodes by error, not by cluster
        assert sorted(nearest.argmin(1)) == [0, 1, 2, 3]
    assert nearest.min(1).max() < 4.5


def test_a_gas_covers_all_clusters():
    nbdl.manual_seed(1)
    x, corners, _ = blobs()
    centers = as_array(nn.rbf.growing_neural_gas(x, 16))
    assert centers.shape == (16, 2)
    distances = np.linalg.norm(centers[:, None] - corners, axis=2)
    assert distances.min(0).max() < 0.8  # every cluster has a node


def test_k_means_is_a_fixed_point():
    nbdl.manual_seed(0)
    x, _, numbers = blobs()
    centers = as_array(nn.rbf.k_means(x, 4))
    means = np.array([x.numpy()[numbers == k].mean(0) for k in range(4)])
    order = np.linalg.norm(centers[:, None] - means, axis=2).argmin(0)
    np.testing.assert_allclose(centers[order], means, rtol=1e-12)


def test_random_centers_and_widths():
    x = nbdl.tensor(array(10, 3))
    chosen = nn.rbf.random_centers(x, 10).numpy()
    assert sorted(map(tuple, chosen)) == sorted(map(tuple, x.numpy()))
    same = nn.rbf.kmeans_plus_plus(nbdl.ones(5, 2), 3)
    assert same.tolist() == [[1.0, 1.0]] * 3
    widths = nn.rbf.neighbor_widths(nbdl.tensor([[0.0], [3.0], [7.0]]), neighbors=1)
    assert widths.tolist() == [3.0, 3.0, 4.0]
    for bad in (0, 11):
        with pytest.raises(ValueError, match=r"number of centres in \[1, N\]"):
            nn.rbf.random_centers(x, bad)


@pytest.mark.parametrize("centers", ["random", "k-means++", "k-means", "growing neural gas"])
def test_two_step_training_classifies(centers):
    nbdl.manual_seed(0)
    x, _, numbers = blobs()
    target = nbdl.tensor(numbers)
    network = nn.RBFNetwork(2, 12, 4, dtype=nbdl.float64)
    before = as_array(network.output.weight).copy()
    nn.rbf.train_two_step(
        network, x, target, nn.CrossEntropyLoss(), centers=centers, epochs=20,
        optimizer=lambda parameters: optim.Adam(parameters, lr=0.1),
    )  # fmt: skip
    assert (network(x).argmax(1) == target).float().mean().item() > 0.97
    assert np.abs(as_array(network.output.weight) - before).max() > 0.1
    assert network.rbf.centers.grad is None
    assert network.rbf.centers.requires_grad


def test_three_step_training_improves_on_two():
    nbdl.manual_seed(0)
    x = nbdl.linspace(-3, 3, 80, dtype="float64").unsqueeze(1)
    y, loss = x.sin(), nn.MSELoss()
    network = nn.RBFNetwork(1, 6, dtype=nbdl.float64)
    make = lambda parameters: optim.Adam(parameters, lr=0.02)  # noqa: E731
    history = nn.rbf.train_three_step(
        network, x, y, loss, epochs=60, final_epochs=60, batch_size=16, optimizer=make
    )
    assert len(history) == 120
    final = loss(network(x), y).item()
    assert final < 0.01
    assert final < 0.5 * history[59].item()
    with pytest.raises(ValueError, match="unknown method 'grid'"):
        nn.rbf.place_centers(network, x, "grid")
