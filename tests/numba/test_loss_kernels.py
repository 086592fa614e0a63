"""The kernels of softmax, losses and bags, and of a linear layer's gradients, against the NumPy backend."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks import SPECIFICATION, check, normal, run

# ---- Softmax and cross-entropy ----

CLASSES = {
    "vector": (7,),
    "few": (33, 10),
    "one": (20, 1),
    "many": (5, 1000),
    "image": (2, 5, 4, 4),
    "deep image": (2, 70, 3, 3),
    "volume": (2, 3, 4, 5, 2),
    "large": (1500, 10),
}


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("case", CLASSES)
def test_softmax(case, axis, dtype, layout, thread_count):
    shape = CLASSES[case]
    if len(shape) == 1 and axis == 1:
        pytest.skip("a vector has one axis")
    axis %= len(shape)
    x, g = layout(normal(shape, dtype) * 5), layout(normal(shape, dtype, seed=1))
    for name in ("softmax", "log_softmax"):
        check(name, x, axis=axis, terms=shape[axis])
        y = layout(getattr(SPECIFICATION, name)(x, axis=axis))
        check(f"{name}_input", y, g, axis=axis, terms=shape[axis] * 4)


@pytest.mark.parametrize("shape", [(20, 10), (20, 100)])
def test_softmax_of_extreme_values(shape, dtype, layout):
    x = normal(shape, dtype)
    x[1, 3], x[2, 4], x[3, 5], x[4], x[5, 6] = np.nan, np.inf, -np.inf, -np.inf, 1e30
    check("softmax", layout(x), axis=1)
    check("log_softmax", layout(x), axis=1)


@pytest.mark.parametrize("case", [case for case, shape in CLASSES.items() if len(shape) > 1])
def test_cross_entropy(case, dtype, layout, thread_count):
    shape = CLASSES[case]
    logits = layout(normal(shape, dtype) * 5)
    classes = np.random.default_rng(1).integers(0, shape[1], (shape[0], *shape[2:]))
    classes.flat[::7] = -100
    check("cross_entropy", logits, classes, ignore_index=-100, terms=shape[1])
    _, probabilities = SPECIFICATION.cross_entropy(logits, classes, ignore_index=-100)
    g = normal(classes.shape, dtype, seed=2)
    check("cross_entropy_input", layout(probabilities), classes, g, ignore_index=-100)


@pytest.mark.parametrize("mean", [True, False], ids=["mean", "sum"])
@pytest.mark.parametrize("shape", [(5, 3), (7, 100), (3, 4, 5), (2, 5, 3, 4), (900, 700)], ids=str)
def test_losses_over_classes(shape, mean, dtype, thread_count):
    scores = normal(shape, dtype) * 5
    classes = np.random.default_rng(1).integers(0, shape[1], (shape[0], *shape[2:]))
    classes.flat[::7] = 2
    options = {"ignore_index": 2, "mean": mean}
    check("cross_entropy_loss", scores, classes, terms=shape[1], **options)
    _, probabilities, _, share = SPECIFICATION.cross_entropy_loss(scores, classes, **options)
    g = np.asarray(dtype.type(1.7))
    check("cross_entropy_loss_input", probabilities, classes, g, share, ignore_index=2)
    check("nll_loss", scores, classes, terms=classes.size, **options)
    check("nll_loss_input", g, classes, share, ignore_index=2, shape=shape)


@pytest.mark.parametrize("batch", [(7,), (2, 5), (3, 1, 4)], ids=str)
@pytest.mark.parametrize("needs", [3, 5, 6, 7])
def test_gradients_of_a_linear_layer(batch, needs, dtype, thread_count):
    operands = [normal((*batch, 6), dtype)]
    if needs & 1:
        operands.append(normal((6, 4), dtype, seed=1))
    if needs & 2:
        operands.append(normal((*batch, 4), dtype, seed=2))
    check("linear_gradients", *operands, needs=needs)


@pytest.mark.parametrize(("shape", "axis"), [((4, 6), 1), ((2, 6, 5), 1), ((8,), 0), ((900, 60), 0)], ids=str)
def test_gated_linear_unit(shape, axis, dtype, thread_count):
    x = normal(shape, dtype) * 4
    check("glu", x, axis=axis)
    check("glu_input", SPECIFICATION.glu(x, axis=axis), x, axis=axis)


@pytest.mark.parametrize("mean", [True, False], ids=["mean", "sum"])
@pytest.mark.parametrize("shape", [(4, 3), (7, 20), (3000, 60)], ids=str)
def test_margin_losses(shape, mean, dtype, thread_count):
    rng, scores, g = np.random.default_rng(1), normal(shape, dtype), np.asarray(dtype.type(1.7))
    classes = rng.integers(0, shape[1], shape[:1])
    for p in (1, 2):
        options = {"p": p, "margin": 0.7, "mean": mean}
        check("multi_margin_loss", scores, classes, terms=scores.size, **options)
        check("multi_margin_loss_input", g, scores, classes, terms=shape[1], **options)
    several = rng.integers(0, shape[1], shape)
    several[:, 2:] = -1
    several[0] = -1
    check("multilabel_margin_loss", scores, several, terms=scores.size, mean=mean)
    check("multilabel_margin_loss_input", g, scores, several, terms=shape[1], mean=mean)


@pytest.mark.parametrize("mean", [True, False], ids=["mean", "sum"])
@pytest.mark.parametrize("shape", [(1, 1, 3, 1), (9, 3, 5, 4), (90, 40, 30, 20)], ids=str)
def test_alignments(shape, mean, dtype, thread_count):
    (steps, batch, classes, most), rng = shape, np.random.default_rng(1)
    labels = rng.integers(1, classes, (batch, most))
    labels[:, 1:2] = labels[:, :1]  # equal neighbours need a blank between them
    counts, lengths = rng.integers(0, most + 1, batch), rng.integers(0, steps + 1, batch)
    lengths[0] = steps
    for order in (2, 1):  # the log-probabilities of the steps, or of the samples, lie together
        x = normal((steps, batch, classes), dtype) if order == 2 else normal((batch, steps, classes), dtype)
        x = (x - np.log(np.exp(x).sum(-1, keepdims=True))).astype(dtype)
        operands = (x if order == 2 else x.swapaxes(0, 1), labels, lengths, counts)
        for zero_infinity in (True, False):
            options = {"blank": 0, "mean": mean, "zero_infinity": zero_infinity}
            check("ctc_loss", *operands, terms=steps * batch, **options)
            # What rounding makes of a logarithm grows with its size, and so with the steps.
            check("ctc_loss_input", *operands, normal((batch,), dtype), terms=100 * steps**2, **options)
            check("ctc_loss_input", *operands, normal((), dtype), terms=100 * steps**2, **options)


@pytest.mark.parametrize("mean", [True, False], ids=["mean", "sum"])
@pytest.mark.parametrize(("count", "columns"), [(1, 3), (30, 16), (4000, 70)], ids=str)
@pytest.mark.parametrize("bags", ["of one length", "of one", "of starts"])
def test_bags(bags, count, columns, mean, dtype, thread_count):
    """Indices count from both ends; row 2 does not count; bags may be empty."""
    rng = np.random.default_rng(3)
    table = normal((9, columns), dtype)
    shape = {"of one length": (count, 3), "of one": (count,), "of starts": (3 * count,)}[bags]
    indices, starts = rng.integers(-9, 9, shape), ()
    if bags == "of starts":
        starts = (np.sort(np.append(rng.integers(0, 3 * count, count), 0)),)
    options = {"mean": mean, "padding": 2}
    check("embedding_bag", table, indices, *starts, terms=count, **options)
    g = normal((len(starts[0]) if starts else count, columns), dtype, seed=1)
    check("embedding_bag_input", g, indices, *starts, rows=9, terms=count, **options)


def test_a_class_that_does_not_exist_has_no_loss(dtype):
    losses, _ = run("cross_entropy", np.zeros((3, 4), dtype), np.array([1, 4, -1]), ignore_index=-100)
    np.testing.assert_array_equal(np.isnan(losses), [False, True, True])
