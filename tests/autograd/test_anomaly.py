"""detect_anomaly: the operation and the user's line that made the first NaN or infinity."""

from __future__ import annotations

import pytest

import nbdl
from nbdl.autograd import detect_anomaly


def leaf(*values):
    return nbdl.tensor(values, dtype="float64", requires_grad=True)


def this_line(offset: int) -> str:
    import sys

    return f"test_anomaly.py:{sys._getframe(1).f_lineno + offset} in"


def test_forward(backend):
    x = leaf(1.0, 0.0)
    with detect_anomaly():
        y = x * 2
        with pytest.raises(RuntimeError, match=f"log produced -inf at .*{this_line(1)}"):
            y.log()
    assert y.log().tolist()[1] == -float("inf")


def test_backward(backend):
    x = leaf(1.0, 0.0)
    with detect_anomaly():
        line = this_line(1)
        y = x.sqrt().sum()
        with pytest.raises(RuntimeError, match=f"SqrtBackward.*inf values in its gradient number 0.*{line}"):
            y.backward()


def test_several_outputs_and_integers():
    with detect_anomaly():
        _, indices = leaf(3.0, 1.0).sort()
        nbdl.tensor([1, 2]) + 1
    assert indices.tolist() == [1, 0]


def test_lines_only():
    x = leaf(0.0)
    with detect_anomaly(check_nan=False):
        line = this_line(1)
        y = x.log()
        y.sum().backward()
        assert line in y.grad_fn.origin
    assert x.grad.item() == float("inf")


def test_nested_and_restored():
    x = leaf(0.0)
    with detect_anomaly(), detect_anomaly(check_nan=False):
        x.log()
    x.log()


def test_in_a_function_of_the_user():
    def deep(x):
        return x / 0

    with detect_anomaly(), pytest.raises(RuntimeError, match=r"divide produced inf at .*in deep"):
        deep(leaf(1.0))


def test_the_changed_value_is_traced_to_its_line():
    x = leaf(1.0)
    with detect_anomaly():
        y = x * 1
        line = this_line(1)
        z = y * y
        y.add_(1)
        with pytest.raises(RuntimeError, match=f"It was recorded at .*{line}"):
            z.sum().backward()
