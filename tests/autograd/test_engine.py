"""Backward passes: what is accumulated where, what is kept, hooks, modes, threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import nbdl
from nbdl.autograd import grad


def leaf(values, dtype="float64"):
    return nbdl.tensor(values, dtype=dtype, requires_grad=True)


# ------------------------------------------------------------------------------------------- what flows where
def test_gradients_of_several_paths_add_up():
    x = leaf([1.0, 2.0])
    y = x * x
    (y * x + y).sum().backward()
    assert x.grad.tolist() == [5.0, 16.0]  # 3 x^2 + 2 x


def test_backward_accumulates():
    x = leaf([1.0, 2.0])
    for _ in range(3):
        (x * x).sum().backward()
    assert x.grad.tolist() == [6.0, 12.0]


@pytest.mark.parametrize("gradient", [None, 2.0])
def test_seed(gradient):
    x = leaf(3.0)
    (x * x).backward(None if gradient is None else nbdl.tensor(gradient, dtype="float64"))
    assert x.grad.item() == 6.0 * (gradient or 1.0)


def test_a_single_element_counts_as_scalar():
    x = leaf([[3.0]])
    (x * x).backward()
    assert x.grad.tolist() == [[6.0]]


def test_only_the_given_inputs_get_a_gradient():
    x, y = leaf(2.0), leaf(3.0)
    (x * y).backward(inputs=[x])
    assert x.grad.item() == 3.0
    assert y.grad is None


def test_several_roots():
    x, y = leaf([1.0, 2.0]), leaf(3.0)
    nbdl.autograd.backward([(x * y).sum(), x * x], [None, nbdl.ones(2, dtype="float64")])
    assert x.grad.tolist() == [5.0, 7.0]
    assert y.grad.item() == 3.0


def test_grad_of_an_intermediate_tensor():
    x = leaf(2.0)
    y = x * x
    z = y * y + x
    assert [g.item() for g in grad(z, (y, x))] == [8.0, 33.0]


def test_grad_leaves_the_leaves_alone():
    x = leaf(2.0)
    grad(x * x, x)
    assert x.grad is None


@pytest.mark.parametrize("options", [{"allow_unused": True}, {"materialize_grads": True}])
def test_unused_inputs(options):
    x, y = leaf(2.0), leaf([1.0, 2.0])
    (found,) = grad(x * x, (y,), **options)
    assert found is None if "allow_unused" in options else found.tolist() == [0.0, 0.0]


def test_an_output_that_is_the_input():
    x = leaf([1.0, 2.0])
    (g,) = grad(x, x, nbdl.tensor([3.0, 4.0], dtype="float64"))
    assert g.tolist() == [3.0, 4.0]


def test_batched_gradients():
    x = leaf([1.0, 2.0])
    (jacobian,) = grad(x * x, x, nbdl.eye(2, dtype="float64"), is_grads_batched=True)
    assert jacobian.tolist() == [[2.0, 0.0], [0.0, 4.0]]


def test_operands_without_gradient():
    x, c = leaf([1.0, 2.0]), nbdl.tensor([3.0, 4.0], dtype="float64")
    (x * c).sum().backward()
    assert x.grad.tolist() == [3.0, 4.0]
    assert c.grad is None


def test_the_same_tensor_as_both_operands():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    (x @ x).sum().backward()
    ones = np.ones((2, 2))
    np.testing.assert_array_equal(x.grad.numpy(), ones @ x.detach().numpy().T + x.detach().numpy().T @ ones)


# ------------------------------------------------------------------------------------------ shapes and dtypes
@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 1, 4), (3, 1)), ((1,), ()), ((0, 3), (1, 3))],
)
def test_gradients_of_broadcast_operands_have_their_shapes(a, b):
    x, y = (nbdl.ones(shape, dtype="float64", requires_grad=True) for shape in (a, b))
    out = x * y
    out.sum().backward()
    assert x.grad.shape == a
    assert y.grad.shape == b
    assert x.grad.sum().item() == y.grad.sum().item() == out.numel()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1)])
def test_empty_and_0d(shape):
    x = nbdl.ones(shape, dtype="float64", requires_grad=True)
    (x.exp() + x.sum()).sum().backward()
    assert x.grad.shape == shape


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_gradients_have_the_dtype_of_their_tensor(dtype):
    x = nbdl.ones(3, dtype=dtype, requires_grad=True)
    wide = nbdl.ones(3, dtype="float64", requires_grad=True)
    (x * wide).sum().backward()
    assert x.grad.dtype == dtype
    assert wide.grad.dtype == "float64"


def test_integer_operands():
    x = leaf([1.0, 2.0])
    (x * nbdl.tensor([3, 4])).sum().backward()
    assert x.grad.tolist() == [3.0, 4.0]


# ---------------------------------------------------------------------------------------- keeping and freeing
def test_the_graph_is_freed_unless_retained():
    x = leaf(2.0)
    y = x.exp()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


def test_create_graph_retains():
    x = leaf(2.0)
    y = x**3
    (first,) = grad(y, x, create_graph=True)
    (second,) = grad(first, x, create_graph=True)
    (third,) = grad(second, x)
    assert [first.item(), second.item(), third.item()] == [12.0, 12.0, 6.0]
    assert not third.requires_grad


def test_backward_with_create_graph_gives_a_differentiable_gradient():
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    first = x.grad
    x.grad = None
    first.backward()
    assert x.grad.item() == 12.0


def test_gradients_do_not_share_memory():
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    seed = nbdl.ones(2, dtype="float64")
    (x + y).backward(seed)
    assert len({x.grad.data_ptr(), y.grad.data_ptr(), seed.data_ptr()}) == 3
    x.grad.zero_()
    assert y.grad.tolist() == seed.tolist() == [1.0, 1.0]


def test_accumulating_does_not_change_a_gradient_that_was_handed_out():
    x = leaf([1.0, 2.0])
    y = x * 3
    g = nbdl.ones(2, dtype="float64")
    y.backward(g, retain_graph=True)
    y.backward(g)
    assert g.tolist() == [1.0, 1.0]
    assert x.grad.tolist() == [6.0, 6.0]


def test_a_gradient_that_views_are_made_of_is_a_tensor_of_its_own():
    x, y = leaf([[1.0, 2.0]]), leaf([[1.0, 2.0]])
    (x.expand(3, 2).sum() + y.T.sum()).backward()
    x.grad.add_(1)
    assert y.grad.tolist() == [[1.0, 1.0]]


# ------------------------------------------------------------------------------------------------------ hooks
def test_hook_on_a_leaf_replaces_the_gradient():
    x = leaf([1.0, 2.0])
    seen = []
    handle = x.register_hook(lambda g: seen.append(g.tolist()) or g * 10)
    (x * 2).sum().backward()
    assert seen == [[2.0, 2.0]]
    assert x.grad.tolist() == [20.0, 20.0]
    handle.remove()
    handle.remove()
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("is_leaf", [True, False])
@pytest.mark.parametrize(
    ("hook", "error", "message"),
    [
        (lambda g: g.sum(), RuntimeError, r"changed the size of value: from \(2,\) to \(\)"),
        (lambda g: g.to(np.float32), RuntimeError, "changed the type of value: from float64 to float32"),
        (lambda g: 2.0, TypeError, "returned float, expected a tensor or None"),
    ],
)
def test_a_hook_that_returns_something_else(hook, error, message, is_leaf):
    x = nbdl.ones(2, dtype=np.float64, requires_grad=True)
    y = x * 2
    (x if is_leaf else y).register_hook(hook)
    with pytest.raises(error, match=message):
        y.sum().backward()


def test_hook_on_an_intermediate_tensor_sees_the_whole_gradient_once():
    x = leaf(3.0)
    y = x * x
    seen = []
    y.register_hook(lambda g: seen.append(g.item()))
    y.register_hook(lambda g: g * 2)
    (y + y * 2).backward()
    assert seen == [3.0]
    assert x.grad.item() == 36.0


def test_hooks_run_for_grad_as_well():
    x = leaf(3.0)
    x.register_hook(lambda g: -g)
    assert grad(x * x, x)[0].item() == -6.0


def test_retain_grad():
    x = leaf(3.0)
    y = x * x
    assert not y.retains_grad
    y.retain_grad()
    (y * 2).backward()
    assert y.retains_grad
    assert y.grad.item() == 2.0
    assert x.grad.item() == 12.0


def test_retain_grad_sees_what_later_hooks_leave():
    x = nbdl.ones(2, requires_grad=True)
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 3)
    y.sum().backward()
    np.testing.assert_array_equal(y.grad.numpy(), [3, 3])


def test_post_accumulate_hook_sees_the_accumulated_gradient():
    x = leaf(3.0)
    seen = []
    handle = x.register_post_accumulate_grad_hook(lambda tensor: seen.append(tensor.grad.item()))
    (x * 2).backward()
    (x * 2).backward()
    handle.remove()
    (x * 2).backward()
    assert seen == [2.0, 4.0]


def test_hooks_of_several_outputs():
    x = leaf([3.0, 1.0, 2.0])
    values, _ = x.sort()
    values.register_hook(lambda g: g * 5)
    values[0].backward()
    assert x.grad.tolist() == [0.0, 5.0, 0.0]


# ------------------------------------------------------------------------------------------------------ modes
def test_no_grad_and_enable_grad():
    x = leaf(1.0)
    with nbdl.no_grad():
        assert not (x * 2).requires_grad
        with nbdl.enable_grad():
            assert (x * 2).requires_grad
        assert not nbdl.is_grad_enabled()
    assert (x * 2).requires_grad


def test_modes_are_decorators_that_may_recurse():
    x = leaf(1.0)

    @nbdl.no_grad()
    def without(depth):
        return without(depth - 1) if depth else x * 2

    @nbdl.enable_grad()
    def within():
        return x * 2

    assert not without(3).requires_grad
    assert nbdl.is_grad_enabled()
    with nbdl.no_grad():
        assert within().requires_grad


def test_modes_are_restored_after_an_error():
    with pytest.raises(ZeroDivisionError), nbdl.no_grad():
        raise ZeroDivisionError
    assert nbdl.is_grad_enabled()


def test_set_grad_enabled():
    x = leaf(1.0)
    with nbdl.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    assert nbdl.is_grad_enabled()
    try:
        nbdl.set_grad_enabled(False)
        assert not (x * 2).requires_grad
    finally:
        nbdl.set_grad_enabled(True)

    @nbdl.set_grad_enabled(False)
    def quiet():
        return x * 2

    assert nbdl.is_grad_enabled(), "decorating must not switch the mode"
    assert not quiet().requires_grad


def test_inference_mode():
    x = leaf([1.0, 2.0])
    with nbdl.inference_mode():
        y = x * 2
        assert nbdl.is_inference_mode_enabled()
        y.add_(1)
    assert not y.requires_grad
    with pytest.raises(RuntimeError, match="inference tensor"):
        y.add_(1)
    with pytest.raises(RuntimeError, match="inference tensor"):
        x * y
    assert (x * y.clone()).requires_grad


def test_detach():
    x = leaf([1.0, 2.0])
    y = (x * 2).detach()
    assert not y.requires_grad
    assert y.is_leaf
    z = x * 2
    assert np.shares_memory(z.detach().numpy(), z.detach().numpy())
    assert z.detach_() is z
    assert z.is_leaf


# ---------------------------------------------------------------------------------------------------- threads
def test_modes_belong_to_a_thread():
    seen = {}

    def other():
        seen["grad"] = nbdl.is_grad_enabled()
        with nbdl.no_grad():
            ready.set()
            go.wait(5)

    ready, go = threading.Event(), threading.Event()
    with nbdl.no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        ready.wait(5)
    assert nbdl.is_grad_enabled()
    go.set()
    thread.join()
    assert seen == {"grad": True}


def test_backward_in_several_threads():
    results = {}

    def train(k):
        x = leaf(np.arange(50.0) + k)
        for _ in range(20):
            x.grad = None
            (x.sin() * x).sum().backward()
        results[k] = x.grad.numpy()

    threads = [threading.Thread(target=train, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, found in results.items():
        x = np.arange(50.0) + k
        np.testing.assert_allclose(found, np.cos(x) * x + np.sin(x), rtol=1e-12)


# ------------------------------------------------------------------------------------------------------ depth
def test_a_chain_of_100_000_operations():
    x = leaf(1.0, "float32")
    y = x
    for _ in range(100_000):
        y = y + x
    y.backward()
    assert x.grad.item() == 100_001
    del y  # must not recurse either


def test_a_long_chain_is_differentiated_twice():
    x = leaf(1.0)
    y = x
    for _ in range(3000):
        y = y * 1.0001
    (first,) = grad((y * y).sum(), x, create_graph=True)
    (second,) = grad(first, x)
    assert second.item() == pytest.approx(2 * 1.0001**6000)


def test_wide_graphs_visit_a_node_once():
    x = leaf(1.0)
    y = x
    for _ in range(60):  # 2^60 paths
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60
