"""nn.utils: gradients, vectors, fusion, weights that are computed from others, pruning."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import nbdl
from nbdl import nn
from nbdl.nn.utils import parametrizations, parametrize, prune


def values(*shapes):
    random = np.random.default_rng(0)
    return [random.standard_normal(shape) for shape in shapes]


def as_array(x):
    return x.detach().numpy()


def twins(make, torch):
    """A layer of nbdl and one of PyTorch, in float64 with the same state."""
    ours, theirs = make(nn).double(), make(torch.nn).double()
    theirs.load_state_dict({k: torch.tensor(as_array(v)) for k, v in ours.state_dict().items()})
    return ours, theirs


def assert_same_state(ours, theirs, **tolerance):
    mine = {name: as_array(value) for name, value in ours.state_dict().items()}
    assert list(mine) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(mine[name], value.numpy(), **(tolerance or {"rtol": 1e-12}), err_msg=name)


# -------------------------------------------------------------------------------------------------- gradients
@pytest.mark.torch
@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, 0.5, math.inf])
@pytest.mark.parametrize("max_norm", [0.1, 1e3])
def test_clip_grad_norm(norm_type, max_norm, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    arrays = values((3, 4), (5,), ())
    ours = [nbdl.zeros(*a.shape, dtype="float64", requires_grad=True) for a in arrays]
    theirs = [torch.zeros(a.shape, dtype=torch.float64, requires_grad=True) for a in arrays]
    for a, p, q in zip(arrays, ours, theirs, strict=True):
        p.grad, q.grad = nbdl.tensor(a), torch.tensor(a)
    total = nn.utils.clip_grad_norm_(iter(ours), max_norm, norm_type)
    other = torch.nn.utils.clip_grad_norm_(iter(theirs), max_norm, norm_type)
    np.testing.assert_allclose(total.item(), other.item(), rtol=1e-13)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)


def test_clip_grad_value_and_no_gradients():
    p = nbdl.zeros(3, requires_grad=True)
    assert nn.utils.clip_grad_norm_(p, 1.0).item() == 0
    p.grad = nbdl.tensor([-3.0, 0.25, 2.0])
    nn.utils.clip_grad_value_([p], 0.5)
    assert p.grad.tolist() == [-0.5, 0.25, 0.5]


def test_a_norm_that_is_not_finite():
    p = nbdl.zeros(2, requires_grad=True)
    p.grad = nbdl.tensor([1.0, math.nan])
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert math.isnan(nn.utils.clip_grad_norm_(p, 1.0).item())
    assert np.isnan(p.grad.numpy()).all()


def test_vector_of_parameters():
    layer = nn.Linear(3, 2)
    vector = nn.utils.parameters_to_vector(layer.parameters())
    np.testing.assert_array_equal(as_array(vector[:6]), as_array(layer.weight).reshape(-1))
    new = nbdl.arange(8.0)
    nn.utils.vector_to_parameters(new, layer.parameters())
    assert layer.weight.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert layer.bias.tolist() == [6, 7]
    assert layer.weight.is_leaf and layer.weight.requires_grad
    with pytest.raises(TypeError, match="expected a Tensor, but got: list"):
        nn.utils.vector_to_parameters([1.0], layer.parameters())


# ------------------------------------------------------------------------------------------------ fusion
FUSIONS = [
    (lambda: nn.Conv2d(3, 4, 3, bias=False), lambda: nn.BatchNorm2d(4), (2, 3, 5, 5), False),
    (lambda: nn.Conv1d(3, 4, 3, padding=1), lambda: nn.BatchNorm1d(4, affine=False), (2, 3, 5), False),
    (lambda: nn.ConvTranspose2d(3, 4, 3), lambda: nn.BatchNorm2d(4), (2, 3, 5, 5), True),
]


def with_statistics(norm):
    random = np.random.default_rng(1)
    for value in norm.state_dict().values():
        if value.is_floating_point():
            value.copy_(nbdl.tensor(random.uniform(0.5, 2, value.shape)))
    return norm.double().eval()


@pytest.mark.parametrize(("conv", "norm", "shape", "transpose"), FUSIONS)
def test_fused_convolution(conv, norm, shape, transpose):
    layer, norm = conv().double().eval(), with_statistics(norm())
    x = nbdl.tensor(values(shape)[0])
    fused = nn.utils.fuse_conv_bn_eval(layer, norm, transpose)
    assert type(fused) is type(layer)
    np.testing.assert_allclose(as_array(fused(x)), as_array(norm(layer(x))), rtol=1e-12, atol=1e-13)


def test_fused_linear_layer():
    layer, norm = nn.Linear(3, 4).double().eval(), with_statistics(nn.BatchNorm1d(4))
    x = nbdl.tensor(values((5, 3))[0])
    fused = nn.utils.fuse_linear_bn_eval(layer, norm)
    np.testing.assert_allclose(as_array(fused(x)), as_array(norm(layer(x))), rtol=1e-12, atol=1e-13)
    with pytest.raises(AssertionError, match="Fusion only for eval"):
        nn.utils.fuse_linear_bn_eval(layer.train(), norm)


def test_skip_init():
    nbdl.manual_seed(0)
    state = nbdl.get_rng_state()
    layer = nn.utils.skip_init(nn.Conv2d, 2, 3, 3, dtype=nbdl.float64)
    assert type(layer) is nn.Conv2d
    assert layer.weight.dtype == nbdl.float64
    assert (np.asarray(nbdl.get_rng_state()) == np.asarray(state)).all()
    with pytest.raises(RuntimeError, match="must support a 'device'"):
        nn.utils.skip_init(nn.ReLU)


# -------------------------------------------------------------------------------------- weights by hooks
HOOKED = [
    (lambda p: p.utils.weight_norm(p.Linear(4, 3)), (2, 4)),
    (lambda p: p.utils.weight_norm(p.Linear(4, 3), dim=None), (2, 4)),
    (lambda p: p.utils.weight_norm(p.Linear(4, 3), "bias"), (2, 4)),
    (lambda p: p.utils.weight_norm(p.Conv2d(2, 3, 2), dim=1), (1, 2, 4, 4)),
    (lambda p: p.utils.spectral_norm(p.Linear(4, 3)), (2, 4)),
    (lambda p: p.utils.spectral_norm(p.ConvTranspose2d(2, 3, 2), n_power_iterations=3), (1, 2, 4, 4)),
    (lambda p: p.utils.parametrizations.weight_norm(p.Linear(4, 3)), (2, 4)),
    (lambda p: p.utils.parametrizations.weight_norm(p.Conv1d(2, 3, 2), dim=None), (1, 2, 4)),
    (lambda p: p.utils.parametrizations.spectral_norm(p.Linear(4, 3)), (2, 4)),
    (lambda p: p.utils.parametrizations.spectral_norm(p.ConvTranspose1d(2, 3, 2)), (1, 2, 4)),
]  # fmt: skip


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")  # PyTorch: its older form is deprecated
@pytest.mark.parametrize("k", range(len(HOOKED)))
def test_computed_weights_same_as_torch(k, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    make, shape = HOOKED[k]
    ours, theirs = twins(make, torch)
    (array,) = values(shape)
    for training in (True, True, False):
        ours.train(training)
        theirs.train(training)
        y, z = ours(nbdl.tensor(array)), theirs(torch.tensor(array))
        np.testing.assert_allclose(as_array(y), z.detach().numpy(), rtol=1e-9, atol=1e-12)
        (y * y).sum().backward()
        (z * z).sum().backward()
        assert_same_state(ours, theirs, rtol=1e-9, atol=1e-12)
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-8, atol=1e-11, err_msg=name)


@pytest.mark.parametrize(
    ("add", "remove"),
    [
        (nn.utils.weight_norm, nn.utils.remove_weight_norm),
        (nn.utils.spectral_norm, nn.utils.remove_spectral_norm),
    ],
)
def test_hooks_can_be_removed(add, remove):
    layer = add(nn.Linear(4, 3))
    x = nbdl.ones(2, 4)
    with nbdl.no_grad():  # as in PyTorch, only a weight without history can be copied
        out = layer.eval()(x)
    with pytest.raises(RuntimeError, match="two"):
        add(layer)
    other = copy.deepcopy(layer)
    for each in (other, layer):  # the copy has hooks of its own
        remove(each)
        assert sorted(each.state_dict()) == ["bias", "weight"]
        np.testing.assert_allclose(as_array(each(x)), as_array(out), rtol=1e-6)
    with pytest.raises(ValueError, match="no such hook of 'weight'"):
        remove(layer)


def test_computed_weights_in_a_chain():
    """A chain may compute a layer with the activation behind it: the weight must still be computed."""
    layer = nn.utils.weight_norm(nn.Linear(4, 3))
    other = parametrizations.weight_norm(nn.Linear(3, 3))
    chain = nn.Sequential(layer, nn.ReLU(), other, nn.Tanh())
    x = nbdl.tensor(values((5, 4))[0].astype(np.float32))
    before = as_array(chain(x))
    with nbdl.no_grad():
        layer.weight_g.mul_(2)
    expected = nn.functional.tanh(nn.functional.linear(layer(x).relu(), other.weight, other.bias))
    np.testing.assert_allclose(as_array(chain(x)), as_array(expected), rtol=1e-5)
    assert np.abs(as_array(chain(x)) - before).max() > 1e-3


# -------------------------------------------------------------------------------------- parametrizations
class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).mT

    def right_inverse(self, a):
        return a.triu()


class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return 2 * x

    def right_inverse(self, y):
        return y / 2


def test_parametrizations_compose():
    layer = nn.Linear(3, 3)
    weight, parameter = as_array(layer.weight).copy(), layer.weight
    parametrize.register_parametrization(layer, "weight", Symmetric())
    upper = np.triu(weight)
    np.testing.assert_allclose(as_array(layer.weight), upper + np.triu(upper, 1).T)
    parametrize.register_parametrization(layer, "weight", Doubled())
    np.testing.assert_allclose(as_array(layer.weight), 2 * (upper + np.triu(upper, 1).T))
    assert type(layer).__name__ == "ParametrizedLinear"
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.original"]
    assert layer.parametrizations.weight.original is parameter  # an optimizer that has it goes on
    layer.weight = nbdl.eye(3)
    np.testing.assert_array_equal(as_array(layer.weight), np.eye(3))
    layer.weight.sum().backward()
    np.testing.assert_array_equal(parameter.grad.numpy(), np.triu(np.full((3, 3), 4.0)) - 2 * np.eye(3))
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    assert layer.weight is parameter
    np.testing.assert_array_equal(as_array(layer.weight), np.eye(3))


def test_cached_values():
    layer, doubled = nn.Linear(3, 3), Doubled()
    parametrize.register_parametrization(layer, "weight", doubled)
    before = doubled.calls
    with parametrize.cached():
        assert layer.weight is layer.weight
    assert doubled.calls == before + 1
    assert layer.weight is not layer.weight


def test_parametrized_modules_are_copied_but_not_pickled():
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Symmetric())
    twin = copy.deepcopy(layer)
    twin.weight = nbdl.ones(2, 2)
    assert as_array(twin.weight).tolist() == [[1, 1], [1, 1]]
    assert not (as_array(layer.weight) == 1).all()
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(layer)
    target = parametrize.transfer_parametrizations_and_params(layer, nn.Linear(2, 2), "weight")
    np.testing.assert_array_equal(as_array(target.weight), as_array(layer.weight))


class Longer(nn.Module):
    def forward(self, x):
        return nbdl.cat([x, x])


PARAMETRIZATION_ERRORS = [
    (lambda: parametrize.register_parametrization(nn.Linear(2, 2), "w", Symmetric()), "does not have"),
    (lambda: parametrize.register_parametrization(nn.Linear(2, 2), "weight", Longer()), "change the shape"),
    (lambda: parametrize.remove_parametrizations(nn.Linear(2, 2), "weight"), "does not have a parametriz"),
    (lambda: parametrizations.orthogonal(nn.Linear(2, 2), "bias"), "Expected a matrix"),
    (lambda: parametrizations.orthogonal(nn.Linear(2, 2), orthogonal_map="qr"), "orthogonal_map has to be"),
    (lambda: parametrizations.spectral_norm(nn.Linear(2, 2), n_power_iterations=0), "to be positive"),
]


@pytest.mark.parametrize(("action", "message"), PARAMETRIZATION_ERRORS)
def test_parametrization_errors(action, message):
    with pytest.raises(ValueError, match=message):
        action()


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
@pytest.mark.parametrize("name", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("trivialization", [True, False])
def test_orthogonal_weights(shape, name, trivialization):
    layer = nn.Linear(*shape).double()
    parametrizations.orthogonal(layer, orthogonal_map=name, use_trivialization=trivialization)
    maps = layer.parametrizations.weight
    with nbdl.no_grad():
        maps.original.add_(nbdl.tensor(values(maps.original.shape)[0]) * (0.3 if trivialization else 0))
    weight = as_array(layer.weight)
    tall = weight if weight.shape[0] >= weight.shape[1] else weight.T
    np.testing.assert_allclose(tall.T @ tall, np.eye(tall.shape[1]), atol=1e-12)
    layer.weight.square().sum().backward()
    np.testing.assert_allclose(maps.original.grad.numpy(), 0, atol=1e-12)  # the norm is constant
    if trivialization:
        q = np.linalg.qr(values(shape if shape[0] > shape[1] else shape[::-1])[0])[0]
        target = q if q.shape == weight.shape else q.T
        layer.weight = nbdl.tensor(target)
        np.testing.assert_allclose(as_array(layer.weight), target, atol=1e-12)


def test_checkpoints_of_the_older_weight_norm_load():
    older, newer = nn.utils.weight_norm(nn.Linear(3, 2)), parametrizations.weight_norm(nn.Linear(3, 2))
    newer.load_state_dict(older.state_dict())
    x = nbdl.ones(3)
    np.testing.assert_allclose(as_array(newer(x)), as_array(older(x)), rtol=1e-6)


# ----------------------------------------------------------------------------------------------- pruning
def prune_once(p, m):
    p.l1_unstructured(m, "weight", amount=0.3)


def prune_twice(p, m):
    p.l1_unstructured(m, "weight", amount=4)
    p.ln_structured(m, "weight", amount=0.4, n=2, dim=0)


def prune_slices(p, m):
    p.ln_structured(m, "weight", amount=2, n=1, dim=1)
    p.l1_unstructured(m, "weight", amount=0.5)


def prune_both(p, m):
    p.global_unstructured([(m, "weight"), (m, "bias")], p.L1Unstructured, amount=0.4)
    p.global_unstructured([(m, "weight"), (m, "bias")], p.L1Unstructured, amount=0.4)


def prune_and_keep(p, m):
    p.identity(m, "weight")
    p.l1_unstructured(m, "bias", 2)
    p.remove(m, "bias")


@pytest.mark.torch
@pytest.mark.parametrize("action", [prune_once, prune_twice, prune_slices, prune_both, prune_and_keep])
def test_pruning_same_as_torch(action):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    import torch.nn.utils.prune as reference

    ours, theirs = twins(lambda package: package.Linear(6, 5), torch)
    action(prune, ours)
    action(reference, theirs)
    assert_same_state(ours, theirs)
    assert prune.is_pruned(ours) == reference.is_pruned(theirs)
    (array,) = values((3, 6))
    y, z = ours(nbdl.tensor(array)), theirs(torch.tensor(array))
    y.square().sum().backward()
    z.square().sum().backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12, err_msg=name)


def test_random_pruning():
    layer = prune.random_unstructured(nn.Linear(6, 5), "weight", amount=0.5)
    assert int((layer.weight_mask == 0).sum().item()) == 15
    layer = prune.random_structured(nn.Linear(6, 5), "weight", amount=2, dim=1)
    assert int((layer.weight_mask.sum(0) == 0).sum().item()) == 2
    prune.remove(layer, "weight")
    assert not prune.is_pruned(layer)
    assert int((layer.weight.sum(0) == 0).sum().item()) == 2


PRUNING_ERRORS = [
    (lambda: prune.l1_unstructured(nn.Linear(2, 2), "weight", 1.5), ValueError, r"range \[0.0, 1.0\]"),
    (lambda: prune.l1_unstructured(nn.Linear(2, 2), "weight", 5), ValueError, "should be smaller"),
    (lambda: prune.l1_unstructured(nn.Linear(2, 2), "weight", "all"), TypeError, "Must be int or float"),
    (lambda: prune.random_structured(nn.Linear(2, 2), "bias", 1, 0), ValueError, "multidimensional"),
    (lambda: prune.random_structured(nn.Linear(2, 2), "weight", 1, 2), IndexError, "Invalid index 2"),
    (lambda: prune.remove(nn.Linear(2, 2), "weight"), ValueError, "has to be pruned before"),
]


@pytest.mark.parametrize(("action", "kind", "message"), PRUNING_ERRORS)
def test_pruning_errors(action, kind, message):
    with pytest.raises(kind, match=message):
        action()
