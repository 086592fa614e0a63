"""Programs refuse wrong elements as the function itself does: the same class of error, the same text.

A program knows the operation, and not the function that was called: ``index`` stands for ``embedding``.
"""

import numpy as np
import pytest

import nbdl
import nbdl.nn.functional as F

CLASSES = 5
PROBABILITIES = np.random.default_rng(0).uniform(0.1, 0.9, (6, CLASSES))
FIT = np.array([0, 1, 2, 3, 4, 0])

# name -> function of (scores, classes)
OF_CLASSES = {
    "cross_entropy": F.cross_entropy,
    "cross_entropy of rows": lambda x, t: F.cross_entropy(x, t, reduction="none"),
    "cross_entropy, smooth": lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1),
    "cross_entropy, weighted": lambda x, t: F.cross_entropy(x, t, weight=x.new_ones(CLASSES)),
    "nll_loss": F.nll_loss,
    "multi_margin_loss": F.multi_margin_loss,
    "embedding": lambda x, t: F.embedding(t, x[:CLASSES]),
    "embedding_bag": lambda x, t: F.embedding_bag(t[None], x[:CLASSES]),
    "gather": lambda x, t: x.gather(1, t[:, None]),
    "index_select": lambda x, t: x.index_select(1, t),
    "one_hot": lambda x, t: F.one_hot(t, CLASSES),
    "computed classes": lambda x, t: F.cross_entropy(x.relu() @ x.T @ x, t * 2 - t),
}
# name -> function of an operand that must not be negative
OF_VALUES = {
    "binary_cross_entropy": lambda x: F.binary_cross_entropy(x, x * 0.5),
    "binary_cross_entropy of elements": lambda x: F.binary_cross_entropy(x, x * 0.5, reduction="none"),
    "gaussian_nll_loss": lambda x: F.gaussian_nll_loss(x * 0.5, x, x),
}


def same_error(function, *arguments):
    with pytest.raises((IndexError, RuntimeError, ValueError)) as expected:
        function(*arguments)
    _, _, text = str(expected.value).partition(": ")
    return pytest.raises(type(expected.value), match=rf"^\w+: {escaped(text)}$")


def escaped(text):
    return "".join(f"\\{c}" if c in r"[]().*+?|^$" else c for c in text)


@pytest.mark.parametrize("wrong", [9, -7])
@pytest.mark.parametrize("name", OF_CLASSES)
def test_classes(name, wrong, backend):
    function = OF_CLASSES[name]
    compiled = nbdl.compile(function)
    x, fit = nbdl.tensor(PROBABILITIES, dtype=nbdl.float32), nbdl.tensor(FIT)
    expected = function(x, fit)
    compiled(x, fit)
    bad = nbdl.tensor(np.where(np.arange(6) == 3, wrong, FIT))
    with same_error(function, x, bad):
        compiled(x, bad)
    nbdl.testing.assert_close(compiled(x, fit), expected)  # the next call is as if nothing had been


@pytest.mark.parametrize("dtype", [nbdl.float32, nbdl.float64])
@pytest.mark.parametrize("name", OF_VALUES)
def test_values(name, dtype, backend):
    function = OF_VALUES[name]
    compiled = nbdl.compile(function)
    x = nbdl.tensor(PROBABILITIES, dtype=dtype)
    expected = function(x)
    compiled(x)
    nbdl.testing.assert_close(compiled(x), expected)
    with same_error(function, x - 0.5):
        compiled(x - 0.5)


def test_a_program_stops_where_it_fails(backend):
    weight = nbdl.zeros(CLASSES, CLASSES, requires_grad=True)
    optimizer = nbdl.optim.SGD([weight], lr=0.1)

    @nbdl.compile
    def step(x, t):
        optimizer.zero_grad()
        F.cross_entropy(x @ weight, t).backward()
        optimizer.step()

    x = nbdl.tensor(PROBABILITIES, dtype=nbdl.float32)
    for _ in range(3):
        step(x, nbdl.tensor(FIT))
    before = weight.detach().clone()
    with pytest.raises(IndexError, match="cross_entropy: Target 5 is out of bounds"):
        step(x, nbdl.tensor(FIT + 1))
    assert weight.equal(before)
    assert before.any()


def test_what_is_required_stays_in_the_program():
    x = nbdl.tensor(PROBABILITIES)
    report = nbdl.compile(OF_VALUES["binary_cross_entropy"]).program(x)
    assert "requirement" in str(report)
