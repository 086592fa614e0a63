"""How tensors look."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl


def test_plain():
    assert (
        repr(nbdl.tensor([[1.0, 2.5], [-3.0, 4.0]]))
        == "tensor([[ 1.0000,  2.5000],\n        [-3.0000,  4.0000]])"
    )
    assert repr(nbdl.tensor([1.0, 2.0])) == "tensor([1., 2.])"
    assert repr(nbdl.tensor(3)) == "tensor(3)"
    assert repr(nbdl.tensor([True, False])) == "tensor([ True, False])"


@pytest.mark.torch
@pytest.mark.parametrize(
    "values",
    [
        [1.0, 2.0], [0.5, 100.25], [1e-5, 1.0], [1e9, 1.0], [float("nan"), 1.0], [float("inf"), 1.5], 2.0,
        [], [1, 2], [-0.0, 1.0],
        [[1.0], [2.0]], [1e-10], [12345678.0], [0.1, 0.12345678],
    ],
)  # fmt: skip
def test_as_torch_prints(values):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    assert repr(nbdl.tensor(values)) == repr(torch.tensor(values))


def test_what_is_not_the_default_is_named():
    assert repr(nbdl.tensor([1.0], dtype="float64")) == "tensor([1.], dtype=float64)"
    assert repr(nbdl.ones(1, dtype="int32")) == "tensor([1], dtype=int32)"
    assert repr(nbdl.ones(1, requires_grad=True)) == "tensor([1.], requires_grad=True)"
    assert repr(nbdl.ones(1, requires_grad=True) * 2) == "tensor([2.], grad_fn=<MultiplyBackward>)"
    assert repr(nbdl.ones(2, 0)) == "tensor([], size=(2, 0))"
    assert repr(nbdl.ones(2, dtype="float16")) == "tensor([1., 1.], dtype=float16)"


def test_long_tensors_are_summarised():
    text = repr(nbdl.arange(5000))
    assert text == "tensor([   0,    1,    2,  ..., 4997, 4998, 4999])"


def test_in_forward_mode_and_under_backends(backend):
    assert repr(nbdl.ones(2)) == "tensor([1., 1.])"


def test_formatting_of_scalars():
    assert f"{nbdl.tensor(2.0):.2f}" == "2.00"
    assert f"{nbdl.tensor([2.0])}" == "tensor([2.])"
    assert f"{nbdl.tensor(2.0)}" == "2.0"
    assert str(nbdl.tensor(2.0)) == "tensor(2.)"


def test_options():
    from nbdl.autograd import printing

    before = dict(printing._options)
    try:
        printing.set_printoptions(precision=2)
        assert repr(nbdl.tensor([0.12345])) == "tensor([0.12])"
    finally:
        printing.set_printoptions(**before)


def test_graph_names():
    x = nbdl.ones(2, 2, requires_grad=True)
    y = nbdl.log_softmax(x @ x, 1)
    assert repr(y.grad_fn) == "<LogSoftmaxBackward>"
    ((below, index),) = y.grad_fn.next_functions
    assert (repr(below), index) == ("<MatmulBackward>", 0)
    leaf, _ = below.next_functions[0]
    assert (leaf.variable, leaf.name()) == (x, "AccumulateGrad")
    assert leaf == below.next_functions[1][0]


def test_printing_reads_views_in_order():
    assert repr(nbdl.from_numpy(np.arange(4).reshape(2, 2)).T) == "tensor([[0, 2],\n        [1, 3]])"


def test_print_options() -> None:
    x = nbdl.tensor([0.5, 123456.0])
    try:
        nbdl.set_printoptions(precision=2, sci_mode=False)
        assert repr(x) == "tensor([     0.50, 123456.00])"
        nbdl.set_printoptions(sci_mode=True)
        assert repr(x) == "tensor([5.00e-01, 1.23e+05])"
        with pytest.raises(ValueError, match="profile must be one of default, short, full, got 'long'"):
            nbdl.set_printoptions(profile="long")
    finally:
        nbdl.set_printoptions(profile="default")
    assert repr(nbdl.tensor([0.5])) == "tensor([0.5000])"
