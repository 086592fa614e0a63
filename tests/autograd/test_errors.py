"""Bad input: exceptions of PyTorch's class that name function, argument, what was given and is allowed."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import nbdl
from nbdl.autograd import backward, grad


def leaf(*shape):
    return nbdl.ones(shape, dtype="float64", requires_grad=True)


x, c = leaf(3), nbdl.ones(3, dtype="float64")

CASES = [
    (lambda: (x * 2).backward(), RuntimeError, r"only for scalar outputs, got shape \(3,\)"),
    (lambda: c.sum().backward(), RuntimeError, "does not require grad and does not have a grad_fn"),
    (lambda: (x * 2).backward(nbdl.ones(2)), RuntimeError, r"gradient has shape \(2,\), the tensor \(3,\)"),
    (lambda: (x * 2).backward(3.0), TypeError, "gradient must be a tensor or None, got float"),
    (lambda: backward([x.sum(), x.sum()], [None]), RuntimeError, "got 2 tensors and 1 gradients"),
    (lambda: backward("x"), TypeError, "expected tensors, got str"),
    (lambda: x.sum().backward(inputs=[]), RuntimeError, "inputs must not be empty"),
    (lambda: x.sum().backward(inputs=[c]), RuntimeError, r"inputs\[0\] does not require grad"),
    (lambda: grad(x.sum(), c), RuntimeError, r"inputs\[0\] does not require grad"),
    (lambda: grad(x.sum(), [3]), TypeError, r"inputs\[0\] must be a tensor, got int"),
    (
        lambda: grad(x.sum(), leaf(2)),
        RuntimeError,
        "appears to not have been used in the graph.*allow_unused=True",
    ),
    (
        lambda: grad(x * 2, x, is_grads_batched=True),
        RuntimeError,
        "is_grads_batched needs one tensor in grad_outputs",
    ),
    (
        lambda: nbdl.tensor([1, 2], requires_grad=True),
        RuntimeError,
        "only tensors of floating point and complex dtype.*int64",
    ),
    (
        lambda: nbdl.tensor([1, 2]).requires_grad_(),
        RuntimeError,
        "only tensors of floating point and complex dtype",
    ),
    (lambda: (x * 2).requires_grad_(False), RuntimeError, "only change requires_grad flags of leaf"),
    (lambda: c.register_hook(print), RuntimeError, "doesn't require gradient"),
    (lambda: (x * 2).register_post_accumulate_grad_hook(print), RuntimeError, "need a leaf tensor"),
    (lambda: x.numpy(), RuntimeError, "tensor that requires grad; use tensor.detach"),
    (lambda: np.asarray(x), RuntimeError, "use tensor.detach"),
    (lambda: copy.deepcopy(x * 2), RuntimeError, "graph leaves"),
    (lambda: pickle.dumps(x * 2), RuntimeError, "graph leaves"),
    (lambda: bool(x), RuntimeError, "Boolean value of a tensor with 3 values is ambiguous"),
    (lambda: bool(leaf(0)), RuntimeError, "Boolean value of a tensor with 0 values"),
    (lambda: x.item(), RuntimeError, "3 elements cannot be converted to a scalar"),
    (lambda: len(leaf()), TypeError, r"len\(\) of a 0-d tensor"),
    (lambda: list(leaf()), TypeError, "iteration over a 0-d tensor"),
    (lambda: [1, 2][leaf()], TypeError, "only integer tensors of a single element"),
    (
        lambda: x + leaf(2),
        RuntimeError,
        r"add: shapes \(3,\) and \(2,\) cannot be broadcast: sizes 2 and 3 meet at axis -1",
    ),
    (lambda: x + "y", TypeError, "unsupported operand"),
    (
        lambda: nbdl.add(x, "y"),
        TypeError,
        r"add\(\): argument 2 must be a tensor, an array or a number, got str",
    ),
    (lambda: x.sum(dim=1), IndexError, r"expected to be in range of \[-1, 0\], but got 1"),
    (lambda: x.sum(dim=(0, 0)), RuntimeError, "appears multiple times"),
    (lambda: x.sum(dim="a"), TypeError, "dim must be an integer, got str"),
    (lambda: leaf(0).amax(0), IndexError, "cannot reduce over an axis of size 0"),
    (lambda: leaf(0).amax(), RuntimeError, "max: a tensor without elements has none"),
    (
        lambda: leaf(2, 3) @ leaf(2, 3),
        RuntimeError,
        r"matmul: shapes \(2, 3\) and \(2, 3\) cannot be multiplied",
    ),
    (lambda: leaf(2, 3) @ nbdl.ones(3, 2), RuntimeError, "same dtype, but got float32 and float64"),
    (lambda: leaf() @ leaf(3), RuntimeError, "at least 1D, but they are 0D and 1D"),
    (lambda: x.reshape(2, 2), RuntimeError, r"shape '\[2, 2\]' is invalid for input of size 3"),
    (lambda: x.reshape(-1, -1), RuntimeError, "only one dimension can be inferred"),
    (lambda: nbdl.tensor([1, 2]).mean(), RuntimeError, "must be floating, got int64"),
    (lambda: nbdl.tensor([[1.0], [1.0, 2.0]]), ValueError, "ragged"),
    (lambda: nbdl.tensor(["a"]), TypeError, "could not make a tensor of list"),
    (lambda: nbdl.ones(2, device="tpu"), RuntimeError, "expected one of cpu, cuda"),
]


@pytest.mark.parametrize(("call", "error", "message"), CASES, ids=[message[:40] for _, _, message in CASES])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_nan_seeds_are_passed_on():
    y = leaf(3)
    (y * 2).backward(nbdl.tensor([1.0, float("nan"), float("inf")], dtype="float64"))
    np.testing.assert_array_equal(y.grad.numpy(), [2.0, np.nan, np.inf])


def test_a_failed_pass_leaves_the_mode_and_the_leaves_alone():
    y = leaf(3)
    z = (y * 2).sum()

    def fail(gradient):
        raise ZeroDivisionError

    y.register_hook(fail)
    with pytest.raises(ZeroDivisionError):
        z.backward()
    assert nbdl.is_grad_enabled()
    assert y.grad is None


def test_non_contiguous_and_read_only_operands():
    array = np.arange(12.0).reshape(3, 4)
    array.flags.writeable = False
    y = nbdl.from_numpy(array).T[::2]
    assert (y + 1).tolist() == (array.T[::2] + 1).tolist()
    assert (y @ y.T).tolist() == (array.T[::2] @ array[:, ::2]).tolist()


def test_copies_of_leaves():
    y = leaf(3)
    y.grad = nbdl.ones(3, dtype="float64")
    for twin in (copy.deepcopy(y), pickle.loads(pickle.dumps(y))):
        assert twin.requires_grad
        assert twin.tolist() == y.tolist()
        assert twin.data_ptr() != y.data_ptr()
