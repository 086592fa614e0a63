"""Loss slices, optimizer paths, fields, curves, spectra: their numbers, and the pictures."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import nbdl
from nbdl import nn, viz


@pytest.fixture
def plt():
    pytest.importorskip("matplotlib", reason="draws a picture").use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def bowl(p: nbdl.Tensor) -> nbdl.Tensor:
    return p[0] ** 2 + 10 * p[1] ** 2


# Slices of a loss


def test_slice_of_a_quadratic_is_exact(backend):
    w = nbdl.tensor([1.0, -2.0], dtype=nbdl.float64, requires_grad=True)
    first, second = nbdl.tensor([2.0, 0.0]), nbdl.tensor([0.0, 1.0])
    found = viz.loss_slice(lambda: bowl(w), [w], [[first], [second]], radius=0.5, points=5)
    a, b = np.meshgrid(found.steps, found.steps)
    np.testing.assert_allclose(found.losses, (1 + 2 * a) ** 2 + 10 * (b - 2) ** 2, rtol=1e-14)
    assert w.tolist() == [1.0, -2.0]
    assert w.grad is None


def test_random_directions_have_the_lengths_of_filters():
    nbdl.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Linear(5, 4, bias=False))
    with nbdl.no_grad():
        net[1].weight[2] = 0.0
    params = list(net.parameters())
    before = [param.detach().numpy().copy() for param in params]
    seen = []

    def loss() -> nbdl.Tensor:
        seen.append([param.detach().numpy() - kept for param, kept in zip(params, before, strict=True)])
        return params[0].sum()

    assert viz.loss_slice(loss, params, 1, radius=2.0, points=2).losses.shape == (2,)
    for moved, kept in zip(seen[-1], before, strict=True):
        rows = (-1,) if kept.ndim == 1 else (len(kept), -1)
        lengths = [np.linalg.norm(part.reshape(rows), axis=-1) for part in (moved, kept)]
        np.testing.assert_allclose(lengths[0], 2 * lengths[1], rtol=1e-5, atol=1e-6)
    for param, kept in zip(params, before, strict=True):
        np.testing.assert_array_equal(param.detach().numpy(), kept)


def test_parameters_are_restored_after_an_error():
    w = nbdl.ones(2, requires_grad=True)
    with pytest.raises(ZeroDivisionError):
        viz.loss_slice(lambda: 1 / 0, [w], 1)
    assert w.tolist() == [1.0, 1.0]


SLICES = [
    ({"directions": 3}, "expected 1 or 2 directions, got 3"),
    ({"directions": [[nbdl.ones(3)]]}, r"a direction must have the shapes \[\(2,\)\], got \[\(3,\)\]"),
    ({"radius": 0.0}, "radius must be positive"),
    ({"points": 1}, "points at least 2"),
]


@pytest.mark.parametrize(("options", "text"), SLICES)
def test_slice_refusals(options, text):
    w = nbdl.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match=text):
        viz.loss_slice(lambda: bowl(w), [w], **options)


def test_slices_are_drawn(plt):
    w = nbdl.ones(2, requires_grad=True)
    line = viz.loss_slice(lambda: bowl(w), [w], 1, points=7)
    np.testing.assert_array_equal(line.plot().lines[0].get_ydata(), line.losses)
    plane = viz.loss_slice(lambda: bowl(w), [w], 2, points=4)
    assert plane.plot().get_xlabel() == "step along direction 1"
    assert plane.plot_surface().get_zlabel() == "loss"
    with pytest.raises(ValueError, match="the slice is a line"):
        line.plot_surface()


# Paths

OPTIMIZERS = {
    "SGD": lambda params: nbdl.optim.SGD(params, lr=0.02),
    "Nesterov": lambda params: nbdl.optim.Nesterov(params, nbdl.optim.SGD, momentum=0.5, lr=0.02),
    "LBFGS": lambda params: nbdl.optim.LBFGS(params, max_iter=1, line_search_fn="strong_wolfe"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_path_of_each_kind_of_optimizer(name, backend):
    path = viz.optimizer_path(bowl, [4.0, 1.0], OPTIMIZERS[name], 12)
    assert path.shape == (13, 2)
    assert path[0].tolist() == [4.0, 1.0]
    values = path[:, 0] ** 2 + 10 * path[:, 1] ** 2
    assert values[-1] < 0.5 * values[0]
    if name == "SGD":
        decay = np.array([1 - 0.04, 1 - 0.4]) ** np.arange(13)[:, None]
        np.testing.assert_allclose(path, decay * [4.0, 1.0], rtol=1e-12)


def test_a_path_ends_where_it_is_not_finite():
    with np.errstate(over="ignore", invalid="ignore"):
        path = viz.optimizer_path(bowl, [1.0, 1.0], lambda p: nbdl.optim.SGD(p, lr=1e200), 50)
    assert len(path) < 5
    assert not np.isfinite(path[-1]).all()


def test_paths_are_drawn_and_animated(plt, tmp_path):
    tracks = {
        "steep": np.array([[1.0, 1.0], [0.5, -0.5], [0.0, 0.0]]),
        "short": np.array([[1.0, 1.0], [0.9, 0.9]]),
    }
    ax = viz.paths(bowl, tracks, (-2, 2), (-1, 1), points=21, log=True)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["steep", "short"]
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), tracks["steep"])
    assert (ax.get_xlim(), ax.get_ylim()) == ((-2, 2), (-1, 1))
    animation = viz.animate_paths(bowl, tracks, (-2, 2), (-1, 1), frames=9, points=5)
    animation.save(tmp_path / "paths.gif", writer="pillow", dpi=20)
    from PIL import Image

    with Image.open(tmp_path / "paths.gif") as picture:
        assert picture.n_frames == 3  # one a step, though nine were allowed


# Functions of two variables, and of one


def test_surface_and_field_hold_the_values(plt):
    assert viz.surface(bowl, (-1, 1), (-1, 1), points=5).get_zlim()[1] > 10
    ax = viz.vector_field(nbdl.func.grad(bowl), (-1.0, 1.0), (-1.0, 1.0), points=3)
    (arrows,) = ax.collections
    assert arrows.U.tolist() == [-2.0, 0.0, 2.0] * 3
    assert arrows.V.tolist() == [-20.0] * 3 + [0.0] * 3 + [20.0] * 3


def test_activation_with_its_derivative(plt):
    value, slope = viz.activation(nbdl.tanh, (-2.0, 2.0), points=5, label="tanh").lines
    x = np.linspace(-2, 2, 5)
    np.testing.assert_allclose(value.get_ydata(), np.tanh(x), rtol=1e-14)
    np.testing.assert_allclose(slope.get_ydata(), 1 - np.tanh(x) ** 2, rtol=1e-13)


def test_training_curves_are_smoothed(plt):
    ax = viz.training_curves({"train": [4.0, 2.0, 1.0], "test": nbdl.tensor([5.0, 3.0, 3.0])}, smoothing=0.5)
    assert [line.get_label() for line in ax.lines if line.get_alpha() is None] == ["train", "test"]
    raw, smooth = ax.lines[0].get_ydata(), ax.lines[1].get_ydata()
    np.testing.assert_array_equal(raw, [4.0, 2.0, 1.0])
    means = [4.0, (0.5 * 4 + 2) / 1.5, (0.25 * 4 + 0.5 * 2 + 1) / 1.75]
    np.testing.assert_allclose(smooth, means, rtol=1e-14)
    assert len(viz.training_curves({"train": [1.0, 2.0]}).lines) == 1


SPECTRA = [
    ([3.0, -1.0, 0.0, 2.0], ["2 positive", "1 negative", "1 zero up to rounding"]),
    (nbdl.tensor([[2.0, 1.0], [1.0, 2.0]]), ["2 positive"]),
    ([[0.0, 1.0], [1.0, 0.0]], ["1 positive", "1 negative"]),
]


@pytest.mark.parametrize(("values", "legend"), SPECTRA)
def test_spectrum(values, legend, plt):
    ax = viz.spectrum(values)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == legend


UNIT = (0, 1)
REFUSALS = [
    (lambda: viz.optimizer_path(bowl, [0, 0], OPTIMIZERS["SGD"], -1), "steps must not be negative, got -1"),
    (lambda: viz.contours(bowl, (1, 0), UNIT), r"contours: xlim must be \(low, high\)"),
    (lambda: viz.surface(bowl, UNIT, (2, 2)), r"surface: ylim must be \(low, high\)"),
    (lambda: viz.contours(bowl, UNIT, UNIT, points=1), "points must be at least 2, got 1"),
    (lambda: viz.vector_field(bowl, UNIT, UNIT), r"must return a vector of shape \(2,\), got one of shape"),
    (lambda: viz.paths(bowl, {}, UNIT, UNIT), "tracks must hold at least one path"),
    (lambda: viz.paths(bowl, {"a": [1]}, UNIT, UNIT), r"'a' must have the shape \(n, 2\), got \(1,\)"),
    (lambda: viz.animate_paths(bowl, {"a": [[0, 0]]}, UNIT, UNIT, frames=0), "frames must be at least 1"),
    (lambda: viz.training_curves({}, smoothing=1.0), r"smoothing must be in \[0, 1\), got 1.0"),
    (lambda: viz.activation(nbdl.tanh, (1, 1)), "expected low < high"),
    (lambda: viz.spectrum(np.ones((2, 3))), r"values must be \(n,\) or \(n, n\), got the shape \(2, 3\)"),
]


@pytest.mark.parametrize(("call", "text"), REFUSALS)
def test_refusals(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"nbdl\.viz: matplotlib is missing: pip install matplotlib"):
        viz.spectrum([1.0])
