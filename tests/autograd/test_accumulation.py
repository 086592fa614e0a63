"""What ``backward`` does with gradients that are there already."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl


def leaves(*values, dtype="float32"):
    return [nbdl.tensor(value, dtype=dtype, requires_grad=True) for value in values]


def test_gradients_add_up_in_place(backend):
    x, y = leaves([1.0, 2.0], 3.0)
    (x * y).sum().backward()
    first = x.grad, y.grad
    version = x.grad._version
    (x * y).sum().backward()
    assert (x.grad, y.grad) == (first[0], first[1])
    assert x.grad is first[0]
    assert x.grad._version == version + 1
    np.testing.assert_array_equal(x.grad, [6, 6])
    np.testing.assert_array_equal(y.grad, 6)


def test_some_have_a_gradient_and_some_have_none(backend):
    x, y = leaves([1.0, 2.0], [3.0, 4.0])
    x.grad = nbdl.ones(2)
    (x * y).sum().backward()
    np.testing.assert_array_equal(x.grad, [4, 5])
    np.testing.assert_array_equal(y.grad, [1, 2])


@pytest.mark.parametrize(
    "existing",
    [
        lambda: nbdl.ones(2, 2).T,
        lambda: nbdl.ones(4, 2)[::2],
        lambda: nbdl.ones(2, 2, requires_grad=True) * 1,
    ],
    ids=["transposed", "window", "recorded"],
)
def test_gradients_of_any_kind(backend, existing):
    (x,) = leaves([[1.0, 2.0], [3.0, 4.0]])
    x.grad = existing()
    dtype = x.grad.dtype
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad.detach(), [[3, 5], [7, 9]])
    assert x.grad.dtype == dtype


def test_an_expanded_gradient_cannot_be_overwritten(backend):
    (x,) = leaves([1.0, 2.0])
    x.grad = nbdl.ones(1).expand(2)
    with pytest.raises(RuntimeError, match="single memory location"):
        (x * x).sum().backward()


def test_a_saved_gradient_is_stale_after_accumulation(backend):
    (x,) = leaves([1.0, 2.0])
    (x * x).sum().backward()
    (scale,) = leaves(2.0)
    loss = (x.grad * scale).sum()
    (x * x).sum().backward()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_accumulation_of_a_recorded_pass_is_recorded(backend):
    (x,) = leaves([1.0, 2.0], dtype="float64")
    (x**3).sum().backward(create_graph=True)
    first = x.grad
    (x**3).sum().backward(create_graph=True)
    assert x.grad is not first
    np.testing.assert_allclose(nbdl.autograd.grad(x.grad.sum(), x)[0], [12, 24])


def test_hooks_run_when_all_is_added(backend):
    x, y = leaves(1.0, 2.0)
    seen = []
    for leaf in (x, y):
        leaf.register_post_accumulate_grad_hook(lambda leaf: seen.append(float(leaf.grad)))
    for _ in range(2):
        (x * y).backward()
    assert sorted(seen[:2]) == [1, 2]
    assert sorted(seen[2:]) == [2, 4]


def test_inputs_that_are_no_leaves(backend):
    x, unused = leaves([1.0, 2.0], 1.0)
    y = x * 2
    (y * y).sum().backward(inputs=[y, y])
    np.testing.assert_array_equal(y.grad, [4, 8])
    assert x.grad is None
    z = x * 3
    (z * unused).sum().backward(inputs=[x, z])
    np.testing.assert_array_equal(x.grad, [3, 3])
    np.testing.assert_array_equal(z.grad, [1, 1])
    assert unused.grad is None


def test_the_seed_is_nobody_elses(backend):
    (x,) = leaves([3.0])
    x.backward()
    x.grad.mul_(5)
    (y,) = leaves([[4.0]])
    y.backward()
    np.testing.assert_array_equal(y.grad, [[1]])
    assert y.grad.shape == (1, 1)
    loss = y.sum()
    loss.retain_grad()
    loss.backward()
    loss.grad.zero_()
    np.testing.assert_array_equal(y.grad, [[2]])


def test_large_gradients_are_taken_over(backend):
    """Also those in memory from a pool, which is the base of their arrays; views are copied."""
    (weight,) = leaves(np.zeros((600, 600)))
    x = nbdl.ones(600, 600)

    def labels(function):
        def step():
            weight.grad = None
            function().backward()

        return [operation.primitive.label for operation in nbdl.compile(step).program().recorded.operations]

    assert "copy" not in labels(lambda: (x @ weight).sum())
    assert "copy" in labels(lambda: weight.sum())
