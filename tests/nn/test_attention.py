"""Attention and transformers: values and gradients as PyTorch's, differences, dropout, errors."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import nbdl
import nbdl.nn.functional as F
from nbdl import nn
from nbdl.autograd import gradcheck, gradgradcheck
from nbdl.ops.attention import attention

SEED = 3


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape) + len(shape)).standard_normal(shape)


def causal(length: int, source: int | None = None) -> np.ndarray:
    return np.where(np.triu(np.ones((length, source or length)), 1) > 0, -np.inf, 0.0)


def padding(batch: int, length: int) -> np.ndarray:
    """The last two positions of the second sequence."""
    mask = np.zeros((batch, length), bool)
    mask[1, -2:] = True
    return mask


# ---- scaled_dot_product_attention ----

# shapes of query, key, value; further arguments
CALLS = {
    "plain": ([(2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 2)], {}),
    "matrices": ([(4, 5), (6, 5), (6, 2)], {"scale": 0.3}),
    "causal": ([(2, 6, 5), (2, 6, 5), (2, 6, 2)], {"is_causal": True}),
    "causal, fewer keys": ([(2, 6, 5), (2, 4, 5), (2, 4, 2)], {"is_causal": True}),
    "bools": ([(2, 4, 5), (2, 6, 5), (2, 6, 2)], {"attn_mask": normal(2, 4, 6) > -0.5}),
    "a row of bools": ([(2, 4, 5), (2, 6, 5), (2, 6, 2)], {"attn_mask": np.arange(6) != 2}),
    "nothing seen": ([(2, 4, 5), (2, 6, 5), (2, 6, 2)], {"attn_mask": np.arange(4)[:, None] != [[1] * 6]}),
    "numbers": ([(2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 2)], {"attn_mask": normal(2, 1, 4, 6)}),
    "broadcast": ([(3, 1, 4, 5), (1, 2, 6, 5), (6, 2)], {}),
    "groups of heads": ([(2, 4, 4, 5), (2, 2, 6, 5), (2, 2, 6, 3)], {"enable_gqa": True}),
    "groups, masked": (
        [(2, 4, 4, 5), (2, 2, 6, 5), (2, 2, 6, 3)],
        {"enable_gqa": True, "attn_mask": normal(2, 4, 4, 6)},
    ),
    "groups, one mask": (
        [(2, 4, 4, 5), (2, 2, 6, 5), (2, 2, 6, 3)],
        {"enable_gqa": True, "attn_mask": normal(2, 1, 4, 6) > -0.5},
    ),
    "groups of two kinds": ([(1, 6, 4, 5), (1, 3, 6, 5), (1, 2, 6, 3)], {"enable_gqa": True}),
    "no keys": ([(2, 4, 5), (2, 0, 5), (2, 0, 3)], {}),
    "no queries": ([(2, 0, 5), (2, 4, 5), (2, 4, 3)], {}),
}


def attend(case: str) -> tuple[Any, list[nbdl.Tensor]]:
    shapes, options = CALLS[case]
    options = {k: nbdl.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    inputs = [nbdl.tensor(normal(*shape), requires_grad=True) for shape in shapes]
    return lambda *x: F.scaled_dot_product_attention(*x, **options), inputs


@pytest.mark.torch
@pytest.mark.parametrize("case", CALLS)
def test_attention_equals_pytorchs(case, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    _, options = CALLS[case]
    function, inputs = attend(case)
    twins = [torch.tensor(x.detach().numpy(), requires_grad=True) for x in inputs]
    options = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    y, z = function(*inputs), torch.nn.functional.scaled_dot_product_attention(*twins, **options)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-12, atol=1e-13)
    weights = normal(*z.shape)
    (y * nbdl.tensor(weights)).sum().backward()
    (z * torch.tensor(weights)).sum().backward()
    for a, b in zip(inputs, twins, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("case", [case for case, (shapes, _) in CALLS.items() if 0 not in shapes[1]])
def test_derivatives(case, backend):
    function, inputs = attend(case)
    assert gradcheck(function, inputs, fast_mode=True, check_forward_ad=backend == "numpy")
    assert gradgradcheck(function, inputs, fast_mode=True, check_fwd_over_rev=backend == "numpy")


def test_derivatives_by_the_mask(backend):
    inputs = [nbdl.tensor(normal(*shape), requires_grad=True) for shape in [(2, 4, 5), (2, 6, 5), (4, 6)]]
    assert gradcheck(lambda q, k, mask: attention(q, k, k, mask), inputs, fast_mode=True)


def test_derivatives_with_dropout(backend):
    inputs = [nbdl.tensor(normal(2, 4, 5), requires_grad=True) for _ in range(3)]

    def function(*x: nbdl.Tensor) -> nbdl.Tensor:
        nbdl.manual_seed(SEED)
        return F.scaled_dot_product_attention(*x, dropout_p=0.4)

    assert gradcheck(function, inputs, fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(function, inputs, fast_mode=True)


def test_dropout_of_attention_is_dropout_of_weights(backend):
    q, k, v = (nbdl.tensor(normal(2, 3, length, 5)) for length in (4, 7, 7))
    nbdl.manual_seed(SEED)
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.4)
    nbdl.manual_seed(SEED)
    weights = F.dropout(F.softmax(q @ k.transpose(-2, -1) / math.sqrt(5), -1), 0.4)
    np.testing.assert_allclose(y.numpy(), (weights @ v).numpy(), rtol=1e-12, atol=1e-13)
    again = F.scaled_dot_product_attention(q, k, v, dropout_p=0.4)
    assert not np.allclose(again.numpy(), y.numpy())


def test_half_precision():
    q, k, v = (nbdl.tensor(normal(2, 4, 8)) for _ in range(3))
    y = F.scaled_dot_product_attention(q, k, v)
    low = F.scaled_dot_product_attention(*(x.to("float16") for x in (q, k, v)))
    assert low.dtype == np.float16
    np.testing.assert_allclose(low.numpy(), y.numpy(), atol=4e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_the_backward_pass_sum_to_one(dtype):
    """They are made of the logarithms of their sums, which half precision would round by some percent."""
    pytest.importorskip("ml_dtypes")
    q, k = (nbdl.tensor(3 * normal(*shape)).to(dtype) for shape in ((40, 8), (200, 8)))
    v = nbdl.ones(200, 1, dtype=dtype).requires_grad_()
    query = q.detach().requires_grad_()
    y = F.scaled_dot_product_attention(query, k, v)
    for row in range(0, 40, 8):
        (gradient,) = nbdl.autograd.grad(y[row].sum(), [v], retain_graph=True)
        assert abs(float(gradient.double().sum()) - 1) < {"float16": 3e-4, "bfloat16": 3e-3}[dtype]
    first = nbdl.autograd.grad(y.float().square().sum(), [query], create_graph=True)[0]
    assert nbdl.autograd.grad(first.float().sum(), [query])[0].dtype == query.dtype


def test_gradients_of_rows_that_are_no_neighbours(backend):
    x = nbdl.tensor(normal(2, 5, 4), requires_grad=True)
    columns = x.transpose(1, 2)
    F.scaled_dot_product_attention(columns, columns, columns).sum().backward()
    y = nbdl.tensor(normal(2, 5, 4).swapaxes(1, 2).copy(), requires_grad=True)
    F.scaled_dot_product_attention(y, y, y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy().swapaxes(1, 2), rtol=1e-12, atol=1e-13)


X, LONG, WIDE = nbdl.zeros(2, 3, 4), nbdl.zeros(2, 5, 4), nbdl.zeros(2, 3, 6)
BAD_CALLS = [
    (lambda: F.scaled_dot_product_attention(X, X, X, X, is_causal=True), "attn_mask should not be set"),
    (lambda: F.scaled_dot_product_attention(X[0, 0], X, X), "at least 2 dimensional, but got query.dim: 1"),
    (lambda: F.scaled_dot_product_attention(X, X.double(), X), "same floating dtype"),
    (lambda: F.scaled_dot_product_attention(X.long(), X.long(), X.long()), "same floating dtype"),
    (lambda: F.scaled_dot_product_attention(X, WIDE, WIDE), r"a query \(..., L, E\)"),
    (lambda: F.scaled_dot_product_attention(X, X, LONG), "the same length, got 3 and 5"),
    (lambda: F.scaled_dot_product_attention(X, X, X, nbdl.zeros(4, 3)), "cannot be broadcast"),
    (lambda: F.scaled_dot_product_attention(X, X, X, nbdl.zeros(2, 2, 3, 3)), "does not broadcast"),
    (lambda: F.scaled_dot_product_attention(X, X, X, nbdl.zeros(3, 3).double()), "to match query dtype"),
    (lambda: F.scaled_dot_product_attention(X, X, X, dropout_p=1.5), "between 0 and 1, but got 1.5"),
    (
        lambda: F.scaled_dot_product_attention(nbdl.zeros(6, 2, 4), *nbdl.zeros(2, 4, 2, 4), enable_gqa=True),
        "Number of heads in key and value must divide",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("action", "message"), BAD_CALLS)
def test_bad_calls(action, message, backend):
    with pytest.raises(RuntimeError, match=message):
        action()


# ---- Modules ----


def twins(torch: Any, name: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    """A module of both libraries in float64 with the same state."""
    ours, theirs = getattr(nn, name)(*args, **options), getattr(torch.nn, name)(*args, **options)
    ours, theirs = ours.double(), theirs.double()
    state, expected = ours.state_dict(), theirs.state_dict()
    assert [(k, tuple(v.shape)) for k, v in state.items()] == [
        (k, tuple(v.shape)) for k, v in expected.items()
    ]
    random = np.random.default_rng(SEED)
    values = {key: random.standard_normal(tuple(value.shape)) / 2 for key, value in state.items()}
    ours.load_state_dict({key: nbdl.tensor(value) for key, value in values.items()})
    theirs.load_state_dict({key: torch.tensor(value) for key, value in values.items()})
    return ours, theirs


def results_and_gradients(
    library: Any, module: Any, arrays: list[np.ndarray], options: dict[str, Any]
) -> list[np.ndarray]:
    inputs = [library.tensor(array, requires_grad=True) for array in arrays]
    keywords = {k: library.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    outputs = module(*inputs, **keywords)
    outputs = [y for y in (outputs if isinstance(outputs, tuple) else (outputs,)) if y is not None]
    module.zero_grad()
    sum((y * library.tensor(normal(*y.shape))).sum() for y in outputs).backward()
    gradients = [x.grad for x in (*inputs, *module.parameters()) if x.grad is not None]
    return [np.asarray(y.detach()) for y in (*outputs, *gradients)]


def assert_twins(torch: Any, modules: tuple[Any, Any], *arrays: np.ndarray, **options: Any) -> None:
    found = results_and_gradients(nbdl, modules[0], list(arrays), options)
    expected = results_and_gradients(torch, modules[1], list(arrays), options)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)


ATTENTIONS = [
    {},
    {"bias": False},
    {"add_bias_kv": True},
    {"add_zero_attn": True, "batch_first": True},
    {"add_bias_kv": True, "add_zero_attn": True},
    {"kdim": 3, "vdim": 5, "batch_first": True},
]
LENGTH, SOURCE, BATCH, EMBED, HEADS = 4, 5, 3, 8, 2
MASKS = [
    None,
    normal(LENGTH, SOURCE),
    normal(BATCH * HEADS, LENGTH, SOURCE),
    normal(LENGTH, SOURCE) > 1,
]


@pytest.mark.torch
@pytest.mark.parametrize("options", ATTENTIONS, ids=lambda options: "-".join(options) or "plain")
def test_multihead_attention_equals_pytorchs(options, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    modules = twins(torch, "MultiheadAttention", EMBED, HEADS, **options)
    sizes = [(LENGTH, EMBED), (SOURCE, options.get("kdim", EMBED)), (SOURCE, options.get("vdim", EMBED))]
    inputs = [normal(n, BATCH, width) for n, width in sizes]
    if "batch_first" in options:
        inputs = [np.ascontiguousarray(x.swapaxes(0, 1)) for x in inputs]
    for mask, needs_weights, is_padded in itertools.product(MASKS, (True, False), (False, True)):
        padded = padding(BATCH, SOURCE) if is_padded else None
        if padded is not None and mask is not None and mask.dtype != bool:
            padded = np.where(padded, -np.inf, 0.0)
        assert_twins(
            torch, modules, *inputs,
            attn_mask=mask, key_padding_mask=padded, need_weights=needs_weights,
            average_attn_weights=is_padded,
        )  # fmt: skip
    hint = {"attn_mask": causal(LENGTH, SOURCE), "is_causal": True, "need_weights": False}
    assert_twins(torch, modules, *inputs, **hint)
    assert_twins(
        torch, modules, *inputs, **hint, key_padding_mask=np.where(padding(BATCH, SOURCE), -np.inf, 0.0)
    )
    single = [normal(*size) for size in sizes]
    assert_twins(torch, modules, *single, key_padding_mask=padding(2, SOURCE)[1])
    assert_twins(torch, modules, *single, attn_mask=normal(HEADS, LENGTH, SOURCE), need_weights=False)


@pytest.mark.torch
@pytest.mark.parametrize("batch_first", [False, True])
def test_operands_that_are_the_same(batch_first, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours, theirs = twins(torch, "MultiheadAttention", EMBED, HEADS, batch_first=batch_first)

    class Shared:
        """Query, key and value, or key and value, are one tensor."""

        def __init__(self, module: Any):
            self.module, self.parameters, self.zero_grad = module, module.parameters, module.zero_grad

        def __call__(self, query: Any, key: Any = None) -> Any:
            key = query if key is None else key
            return self.module(query, key, key)

    shared = Shared(ours), Shared(theirs)
    assert_twins(torch, shared, normal(4, 4, EMBED))
    assert_twins(torch, shared, normal(4, 3, EMBED), normal(4, 3, EMBED))


LAYERS = [
    {"norm_first": norm_first, "batch_first": batch_first, "activation": activation, "bias": bias}
    for norm_first, batch_first, activation, bias in [
        (False, False, "relu", True),
        (True, False, "gelu", True),
        (False, True, "gelu", False),
        (True, True, "relu", False),
    ]
]


def sequences(options: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Source and target, (length, batch, width) or with the batch first."""
    src, tgt = normal(SOURCE, BATCH, EMBED), normal(LENGTH, BATCH, EMBED)
    if options["batch_first"]:
        src, tgt = (np.ascontiguousarray(x.swapaxes(0, 1)) for x in (src, tgt))
    return src, tgt


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")  # PyTorch's
@pytest.mark.parametrize("options", LAYERS, ids=lambda o: "-".join(k for k, v in o.items() if v))
def test_transformers_equal_pytorchs(options, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    src, tgt = sequences(options)
    padded = np.where(padding(BATCH, SOURCE), -np.inf, 0.0)

    encoder = twins(torch, "TransformerEncoderLayer", EMBED, HEADS, 16, 0.0, **options)
    assert_twins(torch, encoder, src)
    assert_twins(torch, encoder, src, src_mask=causal(SOURCE), src_key_padding_mask=padded)
    assert_twins(torch, encoder, src, src_mask=causal(SOURCE), is_causal=True)

    decoder = twins(torch, "TransformerDecoderLayer", EMBED, HEADS, 16, 0.0, **options)
    assert_twins(torch, decoder, tgt, src, tgt_mask=causal(LENGTH), tgt_is_causal=True)
    assert_twins(torch, decoder, tgt, src, memory_mask=normal(LENGTH, SOURCE), memory_key_padding_mask=padded)

    both = twins(torch, "Transformer", EMBED, HEADS, 2, 2, 16, 0.0, **options)
    assert_twins(
        torch, both, src, tgt, tgt_mask=causal(LENGTH), tgt_is_causal=True,
        src_key_padding_mask=padded, memory_key_padding_mask=padded,
    )  # fmt: skip
    assert_twins(torch, both, src, tgt, src_mask=causal(SOURCE), src_is_causal=True)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, of nested tensors
@pytest.mark.parametrize("has_hole", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_padding_in_evaluation(training, has_hole, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    options = {"dropout": 0.0, "batch_first": True, "num_decoder_layers": 0}
    ours, theirs = twins(torch, "Transformer", EMBED, HEADS, 2, dim_feedforward=16, **options)
    padded = padding(BATCH, SOURCE)
    padded[0, 1] = has_hole
    src = normal(BATCH, SOURCE, EMBED)
    ours.train(training)
    theirs.train(training)
    with nbdl.no_grad(), torch.no_grad():
        y = ours.encoder(nbdl.tensor(src), src_key_padding_mask=nbdl.tensor(padded))
        z = theirs.encoder(torch.tensor(src), src_key_padding_mask=torch.tensor(padded))
    np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-10, atol=1e-11)


def test_layers_of_a_stack_are_copies():
    layer = nn.TransformerEncoderLayer(EMBED, HEADS, 16)
    stack = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(EMBED))
    weights = [entry.linear1.weight for entry in stack.layers]
    np.testing.assert_array_equal(weights[0].detach().numpy(), weights[1].detach().numpy())
    assert weights[0] is not weights[1]
    assert (
        list(nn.TransformerEncoderLayer(EMBED, HEADS, 16, activation=nn.GELU()).children())[-1].approximate
        == "none"
    )


def test_dropout_is_for_training(backend):
    model = nn.Transformer(EMBED, HEADS, 1, 1, 16, dropout=0.5).double()
    src, tgt = nbdl.tensor(normal(SOURCE, BATCH, EMBED)), nbdl.tensor(normal(LENGTH, BATCH, EMBED))
    a, b = model(src, tgt), model(src, tgt)
    assert not np.allclose(a.detach().numpy(), b.detach().numpy())
    a.sum().backward()
    model.eval()
    np.testing.assert_array_equal(model(src, tgt).detach().numpy(), model(src, tgt).detach().numpy())


def test_dropout_of_returned_weights(backend):
    nbdl.manual_seed(SEED)
    module = nn.MultiheadAttention(EMBED, HEADS, dropout=0.5)
    x = nbdl.randn(40, 2, EMBED)
    _, weights = module(x, x, x, average_attn_weights=False)
    assert 0.45 < (weights.detach().numpy() == 0).mean() < 0.55


def test_initial_values():
    nbdl.manual_seed(SEED)
    module = nn.MultiheadAttention(64, 4, add_bias_kv=True)
    bound = math.sqrt(6 / (64 + 3 * 64))
    values = module.in_proj_weight.detach().numpy()
    assert 0.98 * bound < np.abs(values).max() <= bound
    assert not module.in_proj_bias.detach().numpy().any()
    assert not module.out_proj.bias.detach().numpy().any()
    np.testing.assert_allclose(module.bias_k.detach().numpy().std(), math.sqrt(2 / (64 + 64)), rtol=0.3)


def test_square_subsequent_mask():
    mask = nn.Transformer.generate_square_subsequent_mask(3)
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask.numpy(), causal(3))
    assert nn.Transformer.generate_square_subsequent_mask(2, dtype=nbdl.float64).dtype == np.float64


MODULE = nn.MultiheadAttention(4, 2)
SEQUENCE = nbdl.zeros(5, 3, 4)
MODEL = nn.Transformer(4, 2, 1, 1, 8)
BAD_MODULES = [
    (lambda: nn.MultiheadAttention(0, 2), ValueError, "must be greater than 0, got embed_dim=0"),
    (lambda: nn.MultiheadAttention(5, 2), AssertionError, "divisible by num_heads"),
    (lambda: nn.TransformerEncoderLayer(4, 2, activation="tanh"), RuntimeError, "relu/gelu, not tanh"),
    (lambda: MODULE(SEQUENCE[None], SEQUENCE, SEQUENCE), AssertionError, "received 4-D query"),
    (lambda: MODULE(SEQUENCE, SEQUENCE[0], SEQUENCE), AssertionError, "to be 3-D but found 2-D and 3-D"),
    (lambda: MODULE(nbdl.zeros(5, 3, 6), SEQUENCE, SEQUENCE), AssertionError, "dimension of 4, but got 6"),
    (lambda: MODULE(SEQUENCE, SEQUENCE[:4], SEQUENCE), AssertionError, r"\(4, 3, 4\) does not match value"),
    (lambda: MODULE(SEQUENCE, SEQUENCE, SEQUENCE, is_causal=True), RuntimeError, "Need attn_mask"),
    (
        lambda: MODULE(SEQUENCE, SEQUENCE, SEQUENCE, attn_mask=nbdl.zeros(4, 5)),
        RuntimeError,
        r"The shape of the 2D attn_mask is \(4, 5\), but should be \(5, 5\)",
    ),
    (
        lambda: MODULE(SEQUENCE, SEQUENCE, SEQUENCE, attn_mask=nbdl.zeros(3, 5, 5)),
        RuntimeError,
        r"3D attn_mask is \(3, 5, 5\), but should be \(6, 5, 5\)",
    ),
    (
        lambda: MODULE(SEQUENCE[:, 0], SEQUENCE[:, 0], SEQUENCE[:, 0], attn_mask=nbdl.zeros(3, 5, 5)),
        AssertionError,
        r"shape to be \(2, 5, 5\)",
    ),
    (
        lambda: MODULE(SEQUENCE, SEQUENCE, SEQUENCE, key_padding_mask=nbdl.zeros(5, 3)),
        AssertionError,
        r"key_padding_mask shape of \(3, 5\), but got \(5, 3\)",
    ),
    (
        lambda: MODULE(SEQUENCE, SEQUENCE, SEQUENCE, key_padding_mask=nbdl.zeros(3, 5).long()),
        AssertionError,
        "only bool and floating types of key_padding_mask",
    ),
    (lambda: MODEL(SEQUENCE, SEQUENCE[:, :2]), RuntimeError, "batch number of src and tgt"),
    (lambda: MODEL(SEQUENCE, nbdl.zeros(5, 3, 6)), RuntimeError, "feature number of src and tgt"),
]


@pytest.mark.parametrize(("action", "kind", "message"), BAD_MODULES)
def test_bad_arguments(action, kind, message):
    with pytest.raises(kind, match=message):
        action()
