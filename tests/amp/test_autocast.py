"""autocast: dtypes and values against PyTorch on the CPU, scope, cache, gradients, and the lists for GPUs."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import nbdl
import nbdl.nn.functional as F
from nbdl.amp.rules import RULES, rule_on_cpu, rule_on_gpu
from nbdl.autograd.autocast import FLOAT32, LOWER, WIDEST
from nbdl.formula import dtypes

pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")

# One entry an operation: called with the library, its functional module, a float32 matrix, a half-precision
# one, a vector and class indices.
CASES = {
    "matmul": lambda t, F, x, y, b, c: x @ y,
    "mm": lambda t, F, x, y, b, c: t.mm(x, x),
    "bmm": lambda t, F, x, y, b, c: t.bmm(x.reshape(1, 4, 4), y.reshape(1, 4, 4)),
    "addmm": lambda t, F, x, y, b, c: t.addmm(x, x, y),
    "baddbmm": lambda t, F, x, y, b, c: t.baddbmm(x[None], x[None], y[None]),
    "einsum": lambda t, F, x, y, b, c: t.einsum("ij,jk->ik", x, y),
    "linear": lambda t, F, x, y, b, c: F.linear(x, x, b),
    "conv1d": lambda t, F, x, y, b, c: F.conv1d(x.reshape(1, 4, 4), x.reshape(4, 4, 1), b),
    "conv_transpose1d": lambda t, F, x, y, b, c: F.conv_transpose1d(x[None], x.reshape(4, 4, 1), b),
    "attention": lambda t, F, x, y, b, c: F.scaled_dot_product_attention(x[None], y[None], x[None]),
    "double": lambda t, F, x, y, b, c: x.double() @ x.double(),
    "add": lambda t, F, x, y, b, c: x + y,
    "exp": lambda t, F, x, y, b, c: y.exp(),
    "softmax": lambda t, F, x, y, b, c: F.softmax(y, 1),
    "sum": lambda t, F, x, y, b, c: y.sum(),
    "prod": lambda t, F, x, y, b, c: (y * 0.5).prod(),
    "cat": lambda t, F, x, y, b, c: t.cat([x, y]),
    "cdist": lambda t, F, x, y, b, c: t.cdist(y, y * 2),
    "layer_norm": lambda t, F, x, y, b, c: F.layer_norm(y, (4,), b, b),
    "group_norm": lambda t, F, x, y, b, c: F.group_norm(y, 2, b, b),
    "batch_norm": lambda t, F, x, y, b, c: F.batch_norm(y, b * 0, b * 0 + 1, b, b, True),
    "batch_norm_eval": lambda t, F, x, y, b, c: F.batch_norm(y, b * 0, b * 0 + 1, b, b, False),
    "cross_entropy": lambda t, F, x, y, b, c: F.cross_entropy(y, c),
    "nll_loss": lambda t, F, x, y, b, c: F.nll_loss(y, c),
    "mse_loss": lambda t, F, x, y, b, c: F.mse_loss(y, y * 2),
    "l1_loss": lambda t, F, x, y, b, c: F.l1_loss(y, y * 2),
    "smooth_l1_loss": lambda t, F, x, y, b, c: F.smooth_l1_loss(y, y * 2),
    "huber_loss": lambda t, F, x, y, b, c: F.huber_loss(y, y * 2),
    "kl_div": lambda t, F, x, y, b, c: F.kl_div(y, F.softmax(y, 1), reduction="sum"),
    "bce": lambda t, F, x, y, b, c: F.binary_cross_entropy_with_logits(y, t.sigmoid(y)),
    "poisson": lambda t, F, x, y, b, c: F.poisson_nll_loss(y, y * y),
    "hinge": lambda t, F, x, y, b, c: F.hinge_embedding_loss(y, t.sign(y)),
    "cosine": lambda t, F, x, y, b, c: F.cosine_embedding_loss(y, y * y, b * 0 + 1),
    "multi_margin": lambda t, F, x, y, b, c: F.multi_margin_loss(y, c),
    "no input": lambda t, F, x, y, b, c: F.relu(y),
}  # fmt: skip


def run(library, functional, name, dtype, device="cpu"):
    random = np.random.default_rng(0)
    tensor = library.tensor if library is nbdl else library.from_numpy
    x = tensor(random.standard_normal((4, 4)).astype(np.float32))
    b = tensor(random.standard_normal(4).astype(np.float32))
    c = tensor(np.arange(4))
    autocast = library.amp.autocast
    with autocast(device, dtype=getattr(library, dtype)):
        y = x.to(getattr(library, dtype))
        result = CASES[name](library, functional, x, y, b, c)
    return str(result.dtype).removeprefix("torch."), result.to(library.float32).numpy()


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_dtypes_and_values_are_those_of_pytorch(backend, name, dtype):
    torch = pytest.importorskip("torch")
    kind, values = run(torch, torch.nn.functional, name, dtype)
    got_kind, got = run(nbdl, F, name, dtype)
    assert got_kind == kind
    np.testing.assert_allclose(got, values, rtol=4e-2, atol=4e-2 if dtype == "bfloat16" else 6e-3)


@pytest.mark.torch
def test_a_training_step_is_that_of_pytorch(backend):
    """Parameters stay in float32; gradients arrive in float32, computed in bfloat16."""
    torch = pytest.importorskip("torch")
    found = []
    for library in (nbdl, torch):
        random = np.random.default_rng(1)
        tensor = library.tensor if library is nbdl else library.from_numpy
        w = tensor(random.standard_normal((3, 8)).astype(np.float32)).requires_grad_()
        x = tensor(random.standard_normal((16, 8)).astype(np.float32))
        with library.amp.autocast("cpu", dtype=library.bfloat16):
            loss = library.nn.functional.cross_entropy(
                library.nn.functional.linear(x, w), tensor(np.arange(16) % 3)
            )
        loss.backward()
        assert w.grad.dtype == library.float32
        found.append(w.grad.numpy())
    np.testing.assert_allclose(*found, rtol=2e-2, atol=2e-3)


class TestScope:
    x = nbdl.ones(2, 2)

    def dtype(self) -> str:
        return (self.x @ self.x).dtype.name

    def test_blocks_nest(self):
        with nbdl.autocast("cpu", dtype=nbdl.float16):
            assert self.dtype() == "float16"
            with nbdl.autocast("cpu", enabled=False):
                assert self.dtype() == "float32"
                assert not nbdl.amp.is_autocast_enabled("cpu")
                with nbdl.autocast("cpu"):
                    assert self.dtype() == "bfloat16"
            assert nbdl.amp.get_autocast_dtype("cpu") == np.float16
        assert self.dtype() == "float32"

    def test_a_block_for_gpus_leaves_the_cpu_alone(self):
        with nbdl.autocast("cuda"):
            assert self.dtype() == "float32"
            assert nbdl.amp.get_autocast_dtype("cuda") == np.float16

    def test_it_ends_with_an_exception(self):
        with pytest.raises(KeyError), nbdl.autocast("cpu"):
            raise KeyError
        assert self.dtype() == "float32"

    def test_decorator(self):
        @nbdl.autocast("cpu", dtype=nbdl.float16)
        def product(again):
            return (self.dtype(), *product(again - 1)) if again else (self.dtype(),)

        assert product(1) == ("float16", "float16")
        assert self.dtype() == "float32"

    def test_other_threads_are_not_concerned(self):
        seen = []
        with nbdl.autocast("cpu"):
            thread = threading.Thread(target=lambda: seen.append(self.dtype()))
            thread.start()
            thread.join()
        assert seen == ["float32"]

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (("tpu",), RuntimeError, "unsupported autocast device_type 'tpu'"),
            ((3,), ValueError, "type `str`"),
            (("cpu", "float32"), RuntimeError, "must be bfloat16 or float16"),
        ],
    )
    def test_bad_arguments(self, arguments, error, message):
        with pytest.raises(error, match=message):
            nbdl.autocast(*arguments)


class TestGradients:
    def test_backward_inside_the_block_computes_in_the_dtypes_of_forward(self):
        w = nbdl.ones(2, 2, requires_grad=True)
        with nbdl.autocast("cpu", dtype=nbdl.float16):
            y = (w.double() @ w.double()).sum() + (w * w).sum()
            y.backward()
        np.testing.assert_array_equal(w.grad.numpy(), 6)

    def test_second_derivatives(self):
        w = nbdl.tensor([[2.0]], requires_grad=True)
        with nbdl.autocast("cpu", dtype=nbdl.float16):
            y = (w @ w @ w).float().sum()
        (g,) = nbdl.autograd.grad(y, w, create_graph=True)
        (h,) = nbdl.autograd.grad(g.sum(), w)
        assert (g.item(), h.item()) == (12.0, 12.0)

    def test_two_backward_passes_through_one_cached_cast(self):
        w = nbdl.ones(2, 2, requires_grad=True)
        with nbdl.autocast("cpu", dtype=nbdl.float16):
            first, second = (w @ w).sum(), (w @ w).sum()
        first.backward()
        second.backward()
        np.testing.assert_array_equal(w.grad.numpy(), 8)

    def test_custom_function(self):
        class Product(nbdl.autograd.Function):
            @staticmethod
            @nbdl.amp.custom_fwd(device_type="cpu", cast_inputs=nbdl.float32)
            def forward(ctx, a, b):
                ctx.save_for_backward(a, b)
                return a @ b

            @staticmethod
            @nbdl.amp.custom_bwd(device_type="cpu")
            def backward(ctx, g):
                a, b = ctx.saved_tensors
                return g @ b.T, a.T @ g

        w = nbdl.ones(2, 2, requires_grad=True)
        with nbdl.autocast("cpu", dtype=nbdl.float16):
            y = Product.apply(w, w.half())
        assert y.dtype == np.float32
        y.sum().backward()
        np.testing.assert_array_equal(w.grad.numpy(), 4)

    def test_vmap(self):
        w = nbdl.ones(3, 3)
        with nbdl.autocast("cpu", dtype=nbdl.float16):
            y = nbdl.func.vmap(lambda x: x @ w)(nbdl.ones(4, 3))
        assert y.dtype == np.float16
        np.testing.assert_array_equal(y.numpy(), 3)


class TestCache:
    def test_parameters_are_cast_once(self, monkeypatch):
        w, x = nbdl.ones(2, 2, requires_grad=True), nbdl.ones(2, 2)
        casts = []
        to = nbdl.Tensor.to
        monkeypatch.setattr(nbdl.Tensor, "to", lambda t, *args: casts.append(t is w) or to(t, *args))
        with nbdl.autocast("cpu", dtype=nbdl.float16):
            for _ in range(3):
                nbdl.linear(x, w)
        assert casts.count(True) == 1
        casts.clear()
        with nbdl.autocast("cpu", dtype=nbdl.float16, cache_enabled=False):
            for _ in range(3):
                nbdl.linear(x, w)
        assert casts.count(True) == 3

    def test_a_parameter_that_changed_is_cast_again(self):
        w, x = nbdl.ones(1, 1, requires_grad=True), nbdl.ones(1, 1)
        with nbdl.autocast("cpu", dtype=nbdl.float16):
            assert nbdl.linear(x, w).item() == 1
            with nbdl.no_grad():
                w.fill_(3)
            assert nbdl.linear(x, w).item() == 3

    def test_a_cast_without_history_is_not_used_with_gradients(self):
        w, x = nbdl.ones(1, 1, requires_grad=True), nbdl.ones(1, 1)
        with nbdl.autocast("cpu", dtype=nbdl.float16):
            with nbdl.no_grad():
                nbdl.linear(x, w)
            nbdl.linear(x, w).sum().backward()
        assert w.grad.item() == 1


def test_compiled_functions_know_the_block_around_them():
    w = nbdl.ones(2, 2, requires_grad=True)
    product = nbdl.compile(lambda x: nbdl.linear(x, w).detach())
    x = nbdl.ones(2, 2)
    for _ in range(2):
        assert product(x).dtype == np.float32
        with nbdl.autocast("cpu", dtype=nbdl.float16):
            assert product(x).dtype == np.float16
    with nbdl.autocast("cpu", dtype=nbdl.float16):
        with nbdl.no_grad():
            w.fill_(2)
        assert product(x)[0, 0].item() == 4


@pytest.mark.parametrize(
    ("rule", "operations"),
    [
        (LOWER, ["matmul", "mm", "bmm", "einsum", "linear", "conv1d", "conv_transpose1d", "attention"]),
        (FLOAT32, ["exp", "softmax", "sum", "prod", "layer_norm", "group_norm"]),
        (WIDEST, ["batch_norm"]),
        (None, ["add", "no input"]),
    ],
)
def test_the_list_for_gpus(rule, operations, monkeypatch):
    """The rules that the primitives of an operation have on a GPU: this one, and no other."""
    seen = []

    def rules(primitive):
        seen.append(rule_on_gpu(primitive))
        return rule_on_cpu(primitive)

    monkeypatch.setitem(RULES, "cpu", rules)
    for name in operations:
        seen.clear()
        run(nbdl, F, name, "float16")
        assert rule in seen, name
        assert not {LOWER, FLOAT32, WIDEST} - {rule} & set(seen), (name, seen)


def test_half_precision_dtypes():
    assert dtypes.is_half(np.dtype(np.float16))
    assert dtypes.is_half(dtypes.bfloat16())
    assert not dtypes.is_half(np.dtype(np.float32))


def test_the_older_spelling_is_for_the_gpu() -> None:
    inner = nbdl.cuda.amp.autocast(enabled=False)
    assert inner.device_type == "cuda"
    with inner:
        assert not nbdl.amp.is_autocast_enabled("cuda")
    assert not nbdl.cuda.amp.GradScaler(enabled=False).is_enabled()
