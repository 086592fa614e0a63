"""Layers: values, gradients, names, initial values and printing, compared with PyTorch where it is there."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nbdl
from nbdl import nn
from nbdl.nn import init

# (layer, arguments, keyword arguments, shapes of the inputs)
LAYERS = [
    ("Identity", (), {}, [(2, 3)]),
    ("Linear", (3, 4), {}, [(2, 5, 3)]),
    ("Linear", (3, 4), {"bias": False}, [(3,)]),
    ("Bilinear", (3, 4, 5), {}, [(2, 3), (2, 4)]),
    ("Bilinear", (3, 4, 5), {"bias": False}, [(2, 3), (2, 4)]),
    ("Flatten", (), {}, [(2, 3, 4)]),
    ("Flatten", (0, 1), {}, [(2, 3, 4)]),
    ("Unflatten", (1, (2, 3)), {}, [(2, 6, 4)]),
    ("PixelShuffle", (2,), {}, [(1, 8, 3, 3)]),
    ("PixelUnshuffle", (2,), {}, [(1, 2, 4, 6)]),
    ("ChannelShuffle", (2,), {}, [(1, 6, 2, 2)]),
    ("Unfold", ((2, 3),), {"padding": 1, "stride": 2}, [(2, 3, 5, 6)]),
    ("Fold", ((4, 5), 2), {}, [(2, 8, 12)]),
    ("Conv1d", (4, 6, 3), {"padding": 2, "dilation": 2, "groups": 2}, [(2, 4, 9)]),
    ("Conv1d", (4, 6, 3), {"padding": "same", "padding_mode": "circular"}, [(4, 9)]),
    ("Conv2d", (3, 4, 3), {}, [(2, 3, 7, 6)]),
    ("Conv2d", (3, 4, (2, 3)), {"stride": (2, 1), "padding": (1, 2), "bias": False}, [(2, 3, 7, 6)]),
    ("Conv2d", (3, 4, 3), {"padding": "same"}, [(3, 6, 5)]),
    ("Conv2d", (3, 4, 3), {"padding": "valid"}, [(3, 6, 5)]),
    ("Conv2d", (2, 2, 3), {"padding": (1, 2), "padding_mode": "reflect"}, [(1, 2, 6, 5)]),
    ("Conv2d", (2, 2, 3), {"padding": 1, "padding_mode": "replicate"}, [(1, 2, 6, 5)]),
    ("Conv3d", (2, 3, 2), {"padding": 1}, [(1, 2, 3, 4, 3)]),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "output_padding": 1, "groups": 2}, [(2, 4, 5)]),
    ("ConvTranspose2d", (3, 4, 3), {"stride": (2, 1), "padding": 1, "dilation": (1, 2)}, [(2, 3, 4, 5)]),
    ("ConvTranspose2d", (3, 4, 3), {"bias": False}, [(3, 4, 5)]),
    ("ConvTranspose3d", (2, 3, 2), {"stride": 2}, [(1, 2, 3, 2, 3)]),
    ("MaxPool1d", (2,), {}, [(2, 3, 7)]),
    ("MaxPool2d", (3, 2, 1), {"ceil_mode": True}, [(2, 3, 7, 6)]),
    ("MaxPool3d", (2,), {}, [(1, 2, 4, 4, 5)]),
    ("AvgPool1d", (2,), {}, [(2, 3, 7)]),
    ("AvgPool2d", (3, 2, 1), {"count_include_pad": False}, [(2, 3, 7, 6)]),
    ("AvgPool2d", (2,), {"divisor_override": 3}, [(2, 3, 7, 6)]),
    ("AvgPool3d", (2,), {}, [(1, 2, 4, 4, 5)]),
    ("LPPool1d", (2, 3), {}, [(2, 3, 7)]),
    ("LPPool2d", (2, 3), {"stride": 2}, [(2, 3, 7, 7)]),
    ("AdaptiveAvgPool1d", (3,), {}, [(2, 3, 7)]),
    ("AdaptiveAvgPool2d", ((3, None),), {}, [(2, 3, 7, 5)]),
    ("AdaptiveAvgPool3d", (2,), {}, [(1, 2, 3, 4, 5)]),
    ("AdaptiveMaxPool1d", (3,), {}, [(2, 3, 7)]),
    ("AdaptiveMaxPool2d", (2,), {}, [(2, 3, 7, 5)]),
    ("AdaptiveMaxPool3d", (2,), {}, [(1, 2, 3, 4, 5)]),
    ("BatchNorm1d", (3,), {}, [(4, 3)]),
    ("BatchNorm1d", (3,), {"affine": False}, [(4, 3, 5)]),
    ("BatchNorm2d", (3,), {}, [(4, 3, 2, 3)]),
    ("BatchNorm2d", (3,), {"momentum": None, "eps": 1e-3}, [(4, 3, 2, 3)]),
    ("BatchNorm2d", (3,), {"track_running_stats": False}, [(4, 3, 2, 3)]),
    ("BatchNorm2d", (3,), {"bias": False}, [(4, 3, 2, 3)]),
    ("BatchNorm3d", (3,), {}, [(2, 3, 2, 3, 2)]),
    ("InstanceNorm1d", (3,), {"affine": True}, [(3, 5)]),
    ("InstanceNorm2d", (3,), {"track_running_stats": True}, [(2, 3, 4, 5)]),
    ("InstanceNorm3d", (3,), {}, [(2, 3, 2, 3, 2)]),
    ("LayerNorm", ((3, 4),), {}, [(2, 3, 4)]),
    ("LayerNorm", (4,), {"bias": False}, [(2, 3, 4)]),
    ("LayerNorm", (4,), {"elementwise_affine": False}, [(2, 3, 4)]),
    ("RMSNorm", (4,), {}, [(2, 3, 4)]),
    ("GroupNorm", (2, 6), {}, [(2, 6, 3)]),
    ("GroupNorm", (3, 6), {"bias": False}, [(2, 6, 3)]),
    ("LocalResponseNorm", (3,), {"alpha": 0.1}, [(2, 5, 3, 3)]),
    ("ConstantPad1d", ((1, 2), 3.5), {}, [(2, 3, 4)]),
    ("ConstantPad2d", (1, 3.5), {}, [(2, 3, 4)]),
    ("ZeroPad2d", ((1, 0, 2, 1),), {}, [(2, 3, 4)]),
    ("ReflectionPad1d", (2,), {}, [(2, 3, 4)]),
    ("ReflectionPad2d", ((1, 2, 0, 1),), {}, [(2, 3, 4, 4)]),
    ("ReplicationPad2d", (2,), {}, [(2, 3, 4, 4)]),
    ("ReplicationPad3d", (1,), {}, [(1, 2, 3, 4, 4)]),
    ("CircularPad2d", (1,), {}, [(2, 3, 4, 4)]),
    ("CosineSimilarity", (), {}, [(4, 5), (4, 5)]),
    ("PairwiseDistance", (1.5,), {}, [(4, 5), (4, 5)]),
    ("Dropout", (0.3,), {}, None),
    ("Dropout2d", (0.3, True), {}, None),
    ("AlphaDropout", (0.3,), {}, None),
    ("Sigmoid", (), {}, [(3, 4)]),
    ("Tanh", (), {}, [(3, 4)]),
    ("LogSigmoid", (), {}, [(3, 4)]),
    ("Softsign", (), {}, [(3, 4)]),
    ("Tanhshrink", (), {}, [(3, 4)]),
    ("ReLU", (), {}, [(3, 4)]),
    ("ReLU6", (), {}, [(3, 4)]),
    ("SELU", (), {}, [(3, 4)]),
    ("SiLU", (), {}, [(3, 4)]),
    ("Mish", (), {}, [(3, 4)]),
    ("Hardsigmoid", (), {}, [(3, 4)]),
    ("Hardswish", (), {}, [(3, 4)]),
    ("LeakyReLU", (0.2,), {}, [(3, 4)]),
    ("ELU", (0.7,), {}, [(3, 4)]),
    ("CELU", (0.7,), {}, [(3, 4)]),
    ("GELU", (), {}, [(3, 4)]),
    ("GELU", ("tanh",), {}, [(3, 4)]),
    ("Softplus", (2.0, 1.5), {}, [(3, 4)]),
    ("Softshrink", (0.3,), {}, [(3, 4)]),
    ("Hardshrink", (0.3,), {}, [(3, 4)]),
    ("Hardtanh", (-0.5, 0.7), {}, [(3, 4)]),
    ("Threshold", (0.1, 0.5), {}, [(3, 4)]),
    ("PReLU", (), {}, [(3, 4)]),
    ("PReLU", (4, 0.1), {}, [(3, 4)]),
    ("GLU", (), {}, [(3, 4)]),
    ("Softmax", (1,), {}, [(3, 4)]),
    ("Softmin", (0,), {}, [(3, 4)]),
    ("LogSoftmax", (-1,), {}, [(3, 4)]),
    ("Softmax2d", (), {}, [(2, 3, 2, 2)]),
]  # fmt: skip
PRINTED_OTHERWISE = {"AvgPool1d", "ReLU6", "RReLU"}  # PyTorch shows 1-d sizes as tuples, ReLU6 nothing


def case_name(case):
    return f"{case[0]}-{len(case[1])}-{'-'.join(map(str, case[2]))}"


def made(case, package):
    name, args, kwargs, _ = case
    return getattr(package, name)(*args, **kwargs)


def with_values_of(torch_layer, layer):
    """Both layers in float64 with the same random state."""
    random = np.random.default_rng(0)
    state = {}
    for name, value in torch_layer.state_dict().items():
        if value.dtype.is_floating_point:
            state[name] = random.uniform(0.5, 1.5, tuple(value.shape))
    layer.double().load_state_dict(state, strict=False)
    torch_layer.double()
    import torch

    torch_layer.load_state_dict({name: torch.tensor(value) for name, value in state.items()}, strict=False)


@pytest.mark.torch
@pytest.mark.parametrize("case", LAYERS, ids=case_name)
def test_same_as_torch(case, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    theirs, ours = made(case, torch.nn), made(case, nn)
    assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }
    if case[0] not in PRINTED_OTHERWISE:
        assert repr(ours) == repr(theirs)
    if case[3] is None:
        return
    with_values_of(theirs, ours)
    random = np.random.default_rng(1)
    arrays = [random.standard_normal(shape) for shape in case[3]]
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        x = [nbdl.tensor(array, requires_grad=True) for array in arrays]
        t = [torch.tensor(array, requires_grad=True) for array in arrays]
        y, z = ours(*x), theirs(*t)
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-9, atol=1e-10)
        weights = random.standard_normal(tuple(z.shape))
        (y * nbdl.tensor(weights)).sum().backward()
        (z * torch.tensor(weights)).sum().backward()
        for a, b in zip(x, t, strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-7, atol=1e-9)
        for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-8, atol=1e-9, err_msg=name)
        for (name, a), b in zip(ours.named_buffers(), theirs.buffers(), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, err_msg=name)


# (loss, keyword arguments, makers of the inputs); the last input has no gradient
def _normal(*shape):
    return lambda random: random.standard_normal(shape)


def _signs(*shape):
    return lambda random: random.choice([-1.0, 1.0], shape)


def _unit(*shape):
    return lambda random: random.uniform(0.05, 0.95, shape)


def _classes(n, *shape):
    return lambda random: random.integers(0, n, shape)


def _label_lists(random):
    return np.array([[3, 0, -1, 1], [1, -1, 2, 0]])


WEIGHTS = np.array([0.5, 2.0, 1.0, 0.7])
LOSSES = [
    ("L1Loss", {}, [_normal(3, 4), _normal(3, 4)]),
    ("MSELoss", {}, [_normal(3, 4), _normal(3, 4)]),
    ("SmoothL1Loss", {"beta": 0.7}, [_normal(3, 4), _normal(3, 4)]),
    ("HuberLoss", {"delta": 0.7}, [_normal(3, 4), _normal(3, 4)]),
    ("CrossEntropyLoss", {}, [_normal(3, 4), _classes(4, 3)]),
    ("CrossEntropyLoss", {"weight": WEIGHTS, "label_smoothing": 0.1, "ignore_index": 1},
     [_normal(6, 4), _classes(4, 6)]),
    ("CrossEntropyLoss", {}, [_normal(3, 4, 2), _unit(3, 4, 2)]),
    ("NLLLoss", {"weight": WEIGHTS}, [_normal(3, 4), _classes(4, 3)]),
    ("PoissonNLLLoss", {"full": True}, [_normal(3, 4), _unit(3, 4)]),
    ("GaussianNLLLoss", {"full": True}, [_normal(3, 4), _normal(3, 4), _unit(3, 4)]),
    ("KLDivLoss", {}, [_normal(3, 4), _unit(3, 4)]),
    ("KLDivLoss", {"log_target": True}, [_normal(3, 4), _normal(3, 4)]),
    ("BCELoss", {"weight": WEIGHTS}, [_unit(3, 4), _unit(3, 4)]),
    ("BCEWithLogitsLoss", {"weight": WEIGHTS, "pos_weight": WEIGHTS}, [_normal(3, 4), _unit(3, 4)]),
    ("HingeEmbeddingLoss", {"margin": 0.5}, [_normal(3, 4), _signs(3, 4)]),
    ("MarginRankingLoss", {"margin": 0.3}, [_normal(5), _normal(5), _signs(5)]),
    ("SoftMarginLoss", {}, [_normal(3, 4), _signs(3, 4)]),
    ("CosineEmbeddingLoss", {"margin": 0.1}, [_normal(3, 4), _normal(3, 4), _signs(3)]),
    ("MultiMarginLoss", {"p": 2, "margin": 0.7, "weight": WEIGHTS}, [_normal(3, 4), _classes(4, 3)]),
    ("MultiLabelMarginLoss", {}, [_normal(2, 4), _label_lists]),
    ("MultiLabelSoftMarginLoss", {"weight": WEIGHTS}, [_normal(3, 4), _classes(2, 3, 4)]),
    ("TripletMarginLoss", {"margin": 0.5, "swap": True}, [_normal(3, 4), _normal(3, 4), _normal(3, 4)]),
    ("TripletMarginWithDistanceLoss", {"margin": 0.5}, [_normal(3, 4), _normal(3, 4), _normal(3, 4)]),
]  # fmt: skip


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:reduction.*batchmean:UserWarning")  # PyTorch, of KLDivLoss
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("case", LOSSES, ids=lambda case: f"{case[0]}-{'-'.join(case[1])}")
def test_losses_same_as_torch(case, reduction, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    name, options, makers = case
    random = np.random.default_rng(2)
    arrays = [make(random) for make in makers]

    def loss_and_inputs(package, tensor):
        keywords = {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        inputs = [tensor(array) for array in arrays]
        for value in inputs[:-1]:
            value.requires_grad_()
        loss = getattr(package, name)(reduction=reduction, **keywords)
        return loss(*inputs), inputs[:-1]

    ours, x = loss_and_inputs(nn, nbdl.tensor)
    theirs, t = loss_and_inputs(torch.nn, torch.tensor)
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-9, atol=1e-12)
    ours.sum().backward()
    theirs.sum().backward()
    for a, b in zip(x, t, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-8, atol=1e-12)


def test_loss_weights_move_with_the_module():
    loss = nn.CrossEntropyLoss(weight=nbdl.ones(4)).double()
    assert loss.weight.dtype == np.float64
    assert list(loss.state_dict()) == ["weight"]
    assert list(nn.CrossEntropyLoss().state_dict()) == []


BAD_ARGUMENTS = [
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "in_channels must be divisible .* 3 and 2"),
    (lambda: nn.Conv2d(4, 3, 3, groups=2), ValueError, "out_channels must be divisible .* 3 and 2"),
    (lambda: nn.Conv2d(4, 4, 3, groups=0), ValueError, "groups must be a positive integer"),
    (lambda: nn.Conv2d(4, 4, (3, 3, 3)), ValueError, "kernel_size must be an integer or 2 of them"),
    (lambda: nn.Conv2d(4, 4, 3, padding="half"), ValueError, "Invalid padding string 'half'"),
    (lambda: nn.Conv2d(4, 4, 3, stride=2, padding="same"), ValueError, "not supported for strided"),
    (lambda: nn.Conv2d(4, 4, 3, padding_mode="wrap"), ValueError, "padding_mode must be one of"),
    (lambda: nn.ConvTranspose2d(4, 4, 3, padding_mode="circular"), ValueError, "Only \"zeros\" padding mode"),
    (lambda: nn.ConvTranspose2d(4, 4, 3, padding="same"), ValueError, "must be given in numbers"),
    (lambda: nn.ConvTranspose2d(1, 1, 3, 2)(nbdl.zeros(1, 1, 3, 3), (20, 20)), ValueError, "valid sizes"),
    (lambda: nn.ConvTranspose2d(1, 1, 3, 2)(nbdl.zeros(1, 1, 3, 3), (7,)), ValueError, "2 elements"),
    (lambda: nn.Bilinear(0, 1, 1), ValueError, "in1_features must be > 0"),
    (lambda: nn.Dropout(1.5), ValueError, "between 0 and 1, but got 1.5"),
    (lambda: nn.GroupNorm(4, 6), ValueError, "num_channels must be divisible by num_groups, got 6 and 4"),
    (lambda: nn.BatchNorm2d(3)(nbdl.zeros(2, 3)), ValueError, r"expected 4D input \(got 2D input\)"),
    (lambda: nn.BatchNorm1d(3)(nbdl.zeros(3)), ValueError, r"expected 2D or 3D input \(got 1D input\)"),
    (lambda: nn.Embedding(3, 2, padding_idx=3), ValueError, "padding_idx must be within num_embeddings"),
    (lambda: nn.Embedding.from_pretrained(nbdl.zeros(3)), ValueError, "2-dimensional"),
    (lambda: nn.Unflatten(1, 3), TypeError, "tuple of ints"),
    (lambda: nn.Hardtanh(1.0, 1.0), ValueError, "max_val must be larger than min_val"),
    (lambda: nn.Softmax2d()(nbdl.zeros(3)), ValueError, "3D or 4D"),
    (lambda: nn.MSELoss(reduction="average"), ValueError, "average"),
    (lambda: init.calculate_gain("cubic"), ValueError, "Unsupported nonlinearity cubic"),
    (lambda: init.xavier_uniform_(nbdl.zeros(3)), ValueError, "fewer than 2 dimensions"),
    (lambda: init.kaiming_normal_(nbdl.zeros(3, 3), mode="fan"), ValueError, "Mode fan not supported"),
    (lambda: init.eye_(nbdl.zeros(3)), ValueError, "2 dimensions"),
    (lambda: init.dirac_(nbdl.zeros(3, 3)), ValueError, "3, 4, or 5 dimensions"),
    (lambda: init.orthogonal_(nbdl.zeros(3)), ValueError, "2 or more dimensions"),
    (lambda: init.sparse_(nbdl.zeros(3), 0.1), ValueError, "2 dimensions"),
]  # fmt: skip


@pytest.mark.parametrize(("action", "kind", "message"), BAD_ARGUMENTS)
def test_bad_arguments(action, kind, message):
    with pytest.raises(kind, match=message):
        action()


def test_layers_take_device_and_dtype():
    for layer in (
        nn.Linear(2, 3, device="cpu", dtype=nbdl.float64),
        nn.Conv2d(1, 2, 3, device="cpu", dtype=nbdl.float64),
        nn.BatchNorm2d(3, device="cpu", dtype=nbdl.float64),
        nn.LayerNorm(3, device="cpu", dtype=nbdl.float64),
        nn.Embedding(3, 2, device="cpu", dtype=nbdl.float64),
        nn.PReLU(device="cpu", dtype=nbdl.float64),
    ):
        assert {parameter.dtype for parameter in layer.parameters()} == {np.dtype(np.float64)}


def test_dropout_only_in_training():
    nbdl.manual_seed(0)
    x = nbdl.ones(1000)
    for layer in (nn.Dropout(0.25), nn.Dropout1d(0.25)):
        out = layer(x.reshape(1, 1000, 1)).flatten()
        kept = out != 0
        assert 0.65 < kept.float().mean().item() < 0.85
        np.testing.assert_allclose(out[kept].numpy(), 1 / 0.75, rtol=1e-6)
        assert (layer.eval()(x.reshape(1, 1000, 1)) == 1).all()


def test_max_unpool_inverts_max_pool():
    x = nbdl.tensor(np.random.default_rng(0).permutation(16).astype(np.float32)).reshape(1, 1, 4, 4)
    values, indices = nn.MaxPool2d(2, return_indices=True)(x)
    back = nn.MaxUnpool2d(2)(values, indices)
    assert (nn.MaxPool2d(2)(back) == values).all()
    assert int((back != 0).sum().item()) <= 4


def test_conv_transpose_output_size():
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)
    x = nbdl.zeros(1, 2, 4, 5)
    assert layer(x).shape == (1, 3, 7, 9)
    assert layer(x, output_size=(8, 9)).shape == (1, 3, 8, 9)
    assert layer(x, output_size=(1, 3, 7, 10)).shape == (1, 3, 7, 10)


def test_embedding():
    layer = nn.Embedding(5, 3, padding_idx=-1)
    assert layer.padding_idx == 4
    assert layer.weight[4].tolist() == [0.0] * 3
    layer(nbdl.tensor([[0, 4], [0, 2]])).sum().backward()
    assert layer.weight.grad.tolist() == [[2.0] * 3, [0.0] * 3, [1.0] * 3, [0.0] * 3, [0.0] * 3]
    table = nbdl.ones(2, 3)
    frozen = nn.Embedding.from_pretrained(table)
    assert not frozen.weight.requires_grad
    assert frozen.weight.data_ptr() == table.data_ptr()
    assert repr(layer) == "Embedding(5, 3, padding_idx=4)"


# --------------------------------------------------------------------------------------------- initial values
def uniform(bound):
    return -bound, bound, bound / math.sqrt(3)


# (filled tensor, lowest, highest, standard deviation): of the distribution
DISTRIBUTIONS = [
    ("Linear", lambda: nn.Linear(50, 400).weight, *uniform(1 / math.sqrt(50))),
    ("Linear bias", lambda: nn.Linear(50, 20000).bias, *uniform(1 / math.sqrt(50))),
    ("Conv2d", lambda: nn.Conv2d(8, 300, 3).weight, *uniform(1 / math.sqrt(72))),
    ("Conv2d bias", lambda: nn.Conv2d(8, 20000, 3).bias, *uniform(1 / math.sqrt(72))),
    ("ConvTranspose2d", lambda: nn.ConvTranspose2d(300, 8, 3).weight, *uniform(1 / math.sqrt(72))),
    ("Bilinear", lambda: nn.Bilinear(30, 30, 30).weight, *uniform(1 / math.sqrt(30))),
    ("Embedding", lambda: nn.Embedding(300, 70).weight, -6, 6, 1.0),
    ("uniform_", lambda: init.uniform_(nbdl.empty(20000), 2.0, 4.0), 2, 4, 2 / math.sqrt(12)),
    ("normal_", lambda: init.normal_(nbdl.empty(20000), 3.0, 2.0), -9, 15, 2.0),
    ("trunc_normal_", lambda: init.trunc_normal_(nbdl.empty(20000), std=2.0, a=-2, b=2), -2, 2, 1.0796),
    ("xavier_uniform_", lambda: init.xavier_uniform_(nbdl.empty(100, 200), 2.0), *uniform(2 * 0.02**0.5)),
    ("xavier_normal_", lambda: init.xavier_normal_(nbdl.empty(100, 200)), -1, 1, math.sqrt(2 / 300)),
    ("kaiming_uniform_", lambda: init.kaiming_uniform_(nbdl.empty(100, 20, 3, 3), nonlinearity="relu"),
     *uniform(math.sqrt(6 / 180))),
    ("kaiming_normal_", lambda: init.kaiming_normal_(nbdl.empty(100, 20, 3, 3), mode="fan_out"),
     -1, 1, math.sqrt(2 / 900)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "std", "make"), [(*d[2:], d[1]) for d in DISTRIBUTIONS], ids=[d[0] for d in DISTRIBUTIONS]
)
def test_initial_distribution(make, low, high, std):
    nbdl.manual_seed(0)
    values = make().detach().numpy().ravel().astype(np.float64)
    assert low <= values.min()
    assert values.max() <= high
    assert abs(values.std() / std - 1) < 0.03
    assert abs(values.mean() - (low + high) / 2) < 5 * std / math.sqrt(values.size)


def test_initial_values_without_randomness():
    assert init.constant_(nbdl.empty(3), 2.5).tolist() == [2.5] * 3
    assert init.ones_(nbdl.empty(2)).tolist() == [1.0, 1.0]
    assert init.zeros_(nbdl.empty(2)).tolist() == [0.0, 0.0]
    assert init.eye_(nbdl.empty(2, 3)).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    x = nbdl.randn(1, 4, 5, 5)
    kernel = init.dirac_(nbdl.empty(4, 2, 3, 3), groups=2)
    assert nbdl.allclose(nn.functional.conv2d(x, kernel, padding=1, groups=2), x)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 2, 2)])
def test_orthogonal(shape):
    matrix = init.orthogonal_(nbdl.empty(*shape, dtype=nbdl.float64), gain=2.0).reshape(shape[0], -1).numpy()
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


def test_sparse():
    matrix = init.sparse_(nbdl.empty(10, 7), sparsity=0.25).numpy()
    assert ((matrix == 0).sum(axis=0) == 3).all()


@pytest.mark.parametrize(
    ("name", "param", "gain"),
    [("linear", None, 1), ("conv2d", None, 1), ("sigmoid", None, 1), ("tanh", None, 5 / 3),
     ("relu", None, 2**0.5),
     ("leaky_relu", 0.2, (2 / 1.04) ** 0.5), ("selu", None, 0.75)],
)  # fmt: skip
def test_gain(name, param, gain):
    assert init.calculate_gain(name, param) == pytest.approx(gain, rel=1e-15)


def test_initial_values_are_not_recorded():
    layer = nn.Linear(3, 3)
    assert init.orthogonal_(layer.weight) is layer.weight
    assert layer.weight.is_leaf
    assert layer.weight.requires_grad
