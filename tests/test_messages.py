"""Errors of public functions: of PyTorch's class, naming the function, what was given and what is allowed.

The rules of single operations are tested beside them; this table walks across the whole interface.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import nbdl
from nbdl import nn, optim

F = nn.functional

X, SQUARE, VECTOR = nbdl.ones(3, 4), nbdl.ones(3, 3), nbdl.ones(3)
INTEGERS, IMAGE = nbdl.tensor([0, 1, 2]), nbdl.ones(1, 2, 4, 4)
WEIGHT = nbdl.ones(2, 2, 3, 3)


def parameters() -> list[nbdl.Tensor]:
    return [nbdl.ones(2, requires_grad=True)]


def square(x: nbdl.Tensor) -> nbdl.Tensor:
    return (x * x).sum()


# What is called, the class of the error, how its text begins, and what else it holds.
CASES: list[tuple[Callable[[], Any], type[Exception], tuple[str, ...]]] = [
    # new tensors
    (lambda: nbdl.tensor("abc"), TypeError, ("tensor: ", "str")),
    (lambda: nbdl.tensor([[1], [1, 2]]), ValueError, ("tensor: ", "ragged")),
    (lambda: nbdl.zeros(-1), RuntimeError, ("zeros: ", "-1")),
    (lambda: nbdl.zeros("a"), TypeError, ("zeros: ", "'a'", "integers")),
    (lambda: nbdl.full((2,), "abc"), TypeError, ("full: fill_value", "number", "str")),
    (lambda: nbdl.full((2,), None), TypeError, ("full: fill_value", "number", "NoneType")),
    (lambda: nbdl.eye(-1), RuntimeError, ("eye: ", "-1")),
    (lambda: nbdl.arange(0, 5, -1), RuntimeError, ("arange: ", "0, 5, -1")),
    (lambda: nbdl.linspace(0, 1, -3), RuntimeError, ("linspace: ", "-3")),
    (lambda: nbdl.zeros(2, dtype="foo"), TypeError, ("dtype: ", "'foo'")),
    (lambda: nbdl.zeros(2, device="foo"), RuntimeError, ("device: ", "foo", "cpu, cuda")),
    (lambda: nbdl.tensor([1], requires_grad=True), RuntimeError, ("requires_grad_: ", "int64", "floating")),
    # random numbers
    (lambda: nbdl.randint(5, 2, (3,)), RuntimeError, ("randint: ", "low=5", "high=2")),
    (lambda: nbdl.randperm(-1), RuntimeError, ("randperm: n ", "-1")),
    (lambda: nbdl.normal(0.0, -1.0, (2,)), RuntimeError, ("normal: ", "std >= 0", "-1.0")),
    (lambda: nbdl.normal(VECTOR, nbdl.ones(2)), RuntimeError, ("normal: ", "(3,)", "(2,)", "broadcast")),
    (lambda: nbdl.bernoulli(INTEGERS), RuntimeError, ("bernoulli: ", "floating", "int64")),
    (lambda: nbdl.multinomial(VECTOR, 4), RuntimeError, ("multinomial: ", "4", "3 categories")),
    (lambda: nbdl.manual_seed("a"), TypeError, ("manual_seed: ", "integer", "str")),
    # shapes
    (lambda: X.reshape(5, 5), RuntimeError, ("reshape: ", "[5, 5]", "12")),
    (lambda: X.t().view(12), RuntimeError, ("view: ", "[12]", "[4, 3]", "reshape")),
    (lambda: X.permute(0, 0), RuntimeError, ("permute: ", "(0, 0)", "duplicate")),
    (lambda: X.transpose(0, 7), IndexError, ("transpose: ", "7", "[-2, 1]")),
    (lambda: X.expand(2, 7), RuntimeError, ("expand: ", "[2, 7]", "[3, 4]")),
    (lambda: X.split(0), RuntimeError, ("split: split_size", "positive", "0")),
    (lambda: X.chunk(0), RuntimeError, ("chunk: ", "chunks", "0")),
    (lambda: X.narrow(0, 2, 5), RuntimeError, ("narrow: start (2)", "length (5)", "(3)")),
    (lambda: X.roll((1, 2), (0,)), RuntimeError, ("roll: shifts", "2", "1")),
    (lambda: X.rot90(1, (0, 0)), RuntimeError, ("rot90: ", "[0, 0]", "different")),
    (lambda: nbdl.cat([X, nbdl.ones(2, 5)]), RuntimeError, ("cat: ", "4", "5", "tensor number 1")),
    (lambda: nbdl.stack([X, SQUARE]), RuntimeError, ("stack: ", "[3, 4]", "[3, 3]")),
    (lambda: nbdl.tril(VECTOR), RuntimeError, ("tril: ", "at least 2", "1")),
    (lambda: nbdl.diag(nbdl.ones(2, 2, 2)), RuntimeError, ("diag: ", "1D or 2D", "3D")),
    # elements
    (lambda: X + nbdl.ones(5), RuntimeError, ("add: ", "(3, 4)", "(5,)", "broadcast")),
    (lambda: nbdl.bitwise_and(X, X), NotImplementedError, ("bitwise_and: ", "integers or bools", "float32")),
    (lambda: nbdl.div(X, X, rounding_mode="foo"), ValueError, ("divide: rounding_mode", "'floor'", "'foo'")),
    (lambda: X.clamp(), RuntimeError, ("clamp: ", "min or max", "None")),
    (lambda: nbdl.where(X, X, X), RuntimeError, ("where: ", "condition", "boolean", "float32")),
    (lambda: X.masked_fill(X, 0), RuntimeError, ("masked_fill: ", "mask", "boolean", "float32")),
    (lambda: X[0, 0, 0], IndexError, ("index: ", "3 were indexed", "2-dimensional")),
    (lambda: X[nbdl.tensor([0.5])], IndexError, ("index: ", "integers", "float32")),
    (lambda: X.select(0, 9), IndexError, ("select: ", "9", "[3, 4]")),
    (lambda: X.gather(0, nbdl.tensor([[9]])), RuntimeError, ("gather: index 9", "size 3")),
    (lambda: X.scatter(0, nbdl.tensor([[9]]), 1.0), RuntimeError, ("scatter: index 9", "size 3")),
    (lambda: X.item(), RuntimeError, ("item: ", "12 elements")),
    # reductions, sorting
    (lambda: nbdl.sum(X, dim=5), IndexError, ("sum: ", "5", "[-2, 1]")),
    (lambda: nbdl.sum(X, dim=(0, 0)), RuntimeError, ("sum: ", "dim 0", "(0, 0)")),
    (lambda: nbdl.mean(INTEGERS), RuntimeError, ("mean: ", "floating", "int64")),
    (lambda: X.topk(9), RuntimeError, ("topk: ", "k = 9", "size 4")),
    (lambda: X.kthvalue(9), RuntimeError, ("kthvalue: ", "k = 9", "size 4")),
    (lambda: nbdl.quantile(X, 2.0), RuntimeError, ("quantile: q", "[0, 1]", "2.0")),
    (lambda: nbdl.bucketize(X, X), RuntimeError, ("bucketize: boundaries", "1 dimension", "2")),
    (lambda: nbdl.diff(X, n=-1), RuntimeError, ("diff: order", "non-negative", "-1")),
    # products, matrices
    (lambda: X @ X, RuntimeError, ("matmul: ", "(3, 4)", "4 and 3")),
    (lambda: nbdl.mm(IMAGE, SQUARE), RuntimeError, ("mm: ", "two matrices", "4-D")),
    (lambda: nbdl.mv(X, VECTOR), RuntimeError, ("mv: ", "[3]", "[3, 4]")),
    (lambda: nbdl.dot(X, X), RuntimeError, ("dot: ", "1D", "2D")),
    (lambda: nbdl.einsum("ij,jk->ik", X, X), RuntimeError, ("einsum", "subscript j", "3", "4")),
    (lambda: nbdl.ormqr(X, VECTOR, X.t()), RuntimeError, ("ormqr: ", "4 and 3")),
    (lambda: nbdl.linalg.inv(X), RuntimeError, ("linalg.inv: A", "square", "3 by 4")),
    (lambda: nbdl.linalg.cross(X, X), RuntimeError, ("linalg.cross: ", "length 3", "4")),
    (lambda: nbdl.fft.fft(X, norm="foo"), RuntimeError, ("fft: norm", "'ortho'", "'foo'")),
    # functions of networks
    (lambda: F.conv2d(X, WEIGHT), RuntimeError, ("conv2d: ", "4D", "[3, 4]")),
    (lambda: F.conv2d(VECTOR.reshape(1, 3, 1, 1), WEIGHT), RuntimeError, ("conv2d: ", "2 channels", "3")),
    (lambda: F.conv1d(X, nbdl.ones(1, 3, 9)), RuntimeError, ("conv1d: ", "(4)", "(9)")),
    (lambda: F.conv_transpose1d(X, nbdl.ones(2, 2, 2)), RuntimeError, ("conv_transpose1d: ", "[1, 3, 4]")),
    (lambda: F.max_pool2d(IMAGE, 5), RuntimeError, ("max_pool2d: ", "(4, 4)", "(5, 5)")),
    (lambda: F.avg_pool1d(X, 5), RuntimeError, ("avg_pool1d: ", "(4,)", "(5,)")),
    (lambda: F.max_pool1d(nbdl.ones(0, 4), 2), RuntimeError, ("max_pool1d: ", "batch", "[0, 4]")),
    (lambda: F.embedding(INTEGERS, nbdl.ones(2, 2)), IndexError, ("embedding: index 2", "size 2")),
    (lambda: X.index_select(0, INTEGERS + 9), IndexError, ("index_select: index 11", "size 3")),
    (lambda: F.conv2d(IMAGE, WEIGHT, stride=0), RuntimeError, ("conv2d: stride", "at least 1", "0")),
    (lambda: F.conv2d(IMAGE, WEIGHT, padding="foo"), ValueError, ("conv2d: ", "'same'", "'foo'")),
    (lambda: F.linear(X, SQUARE), RuntimeError, ("linear: ", "(3, 4)", "(3, 3)")),
    (lambda: F.embedding(X, SQUARE), RuntimeError, ("embedding: ", "indices", "integers", "float32")),
    (lambda: F.dropout(X, 2.0), ValueError, ("dropout: ", "between 0 and 1", "2.0")),
    (lambda: F.softmax(X, 4), IndexError, ("softmax: ", "4", "[-2, 1]")),
    (lambda: F.normalize(X, dim=5), IndexError, ("normalize: ", "5", "[-2, 1]")),
    (lambda: F.layer_norm(X, (3,)), RuntimeError, ("layer_norm: ", "normalized_shape", "[3]", "[3, 4]")),
    (lambda: F.group_norm(IMAGE, 3), RuntimeError, ("group_norm: ", "[1, 2, 4, 4]", "num_groups=3")),
    (lambda: F.pad(X, (1,)), RuntimeError, ("pad: padding", "two widths", "(1,)")),
    (lambda: F.pad(X, (1, 1), mode="foo"), NotImplementedError, ("pad: ", "constant", "'foo'")),
    (lambda: F.interpolate(IMAGE, 2, mode="foo"), NotImplementedError, ("interpolate: ", "nearest", "'foo'")),
    (lambda: F.glu(VECTOR), RuntimeError, ("glu: ", "even", "3")),
    (lambda: F.one_hot(nbdl.tensor([5]), 3), RuntimeError, ("one_hot: ", "[0, 3)", "5")),
    # losses
    (lambda: F.cross_entropy(X, nbdl.tensor([0, 1, 9])), IndexError, ("cross_entropy: ", "9", "4 classes")),
    (lambda: F.cross_entropy(X, INTEGERS, reduction="foo"), ValueError, ("cross_entropy: ", "'foo'", "sum")),
    (lambda: F.mse_loss(X, nbdl.ones(2, 2)), RuntimeError, ("mse_loss: ", "(3, 4)", "(2, 2)", "broadcast")),
    (lambda: F.l1_loss(X, nbdl.ones(2)), RuntimeError, ("l1_loss: ", "(3, 4)", "(2,)", "broadcast")),
    (lambda: F.huber_loss(X, X, delta=-1), RuntimeError, ("huber_loss: ", "delta", "-1")),
    (lambda: F.binary_cross_entropy(X, VECTOR), ValueError, ("binary_cross_entropy: ", "(3, 4)", "(3,)")),
    (lambda: F.pairwise_distance(X, SQUARE), RuntimeError, ("pairwise_distance: ", "(3, 4)", "(3, 3)")),
    (
        lambda: F.triplet_margin_loss(X, SQUARE, X),
        RuntimeError,
        ("triplet_margin_loss: ", "(3, 3)"),
    ),
    (lambda: F.cosine_similarity(X, SQUARE), RuntimeError, ("cosine_similarity: ", "(3, 4)", "(3, 3)")),
    # modules, initial values
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, ("Conv2d: in_channels", "divisible", "3 and 2")),
    (
        lambda: nn.Conv2d(3, 4, 3, padding_mode="foo"),
        ValueError,
        ("Conv2d: padding_mode", "'foo'"),
    ),
    (lambda: nn.BatchNorm1d(3)(IMAGE), ValueError, ("BatchNorm1d: ", "2D or 3D", "4D")),
    (lambda: nn.LSTM(3, 4)(nbdl.ones(2, 2, 5)), RuntimeError, ("LSTM: ", "3", "5")),
    (lambda: nn.GroupNorm(2, 5), ValueError, ("GroupNorm: ", "divisible", "5 and 2")),
    (lambda: nn.LazyLinear(2).weight.shape, RuntimeError, ("UninitializedParameter: ", "shape")),
    (lambda: nn.Dropout(-1), ValueError, ("Dropout: ", "between 0 and 1", "-1")),
    (lambda: nn.ModuleList([nn.ReLU()])[5], IndexError, ("ModuleList: index 5", "1")),
    (lambda: nn.init.xavier_uniform_(nbdl.ones(3)), ValueError, ("xavier_uniform_: ", "(3,)")),
    (lambda: nn.init.kaiming_normal_(SQUARE, mode="foo"), ValueError, ("kaiming_normal_: ", "foo", "fan_in")),
    (lambda: nn.init.kaiming_normal_(VECTOR), ValueError, ("kaiming_normal_: ", "(3,)")),
    # optimizers
    (lambda: optim.SGD(parameters(), lr=-1), ValueError, ("SGD: ", "-1", "0 or more")),
    (lambda: optim.SGD(parameters(), lr="a"), TypeError, ("SGD: lr", "number", "'a'")),
    (lambda: optim.Adam(parameters(), betas=(2, 0.9)), ValueError, ("Adam: ", "2", "[0, 1)")),
    (lambda: optim.Adam(parameters(), betas=(0.9,)), ValueError, ("Adam: betas", "2 numbers", "(0.9,)")),
    (lambda: optim.Adam(VECTOR), TypeError, ("Adam: params", "iterable", "Tensor")),
    (lambda: optim.LBFGS(parameters(), line_search_fn="foo"), ValueError, ("LBFGS: line_search_fn", "'foo'")),
    (lambda: optim.minimize(square, VECTOR, method="foo"), ValueError, ("minimize: method", "bfgs", "'foo'")),
    (lambda: optim.minimize(lambda x: x, VECTOR), RuntimeError, ("minimize: fun", "scalar", "(3,)")),
    (lambda: optim.curvature.Hessian(3), TypeError, ("Hessian: source", "Risk", "int")),
    # derivatives, programs, settings
    (lambda: parameters()[0].backward(), RuntimeError, ("backward: ", "scalar", "(2,)")),
    (lambda: nbdl.func.grad(lambda x: x)(X), RuntimeError, ("grad: ", "scalar", "(3, 4)")),
    (lambda: nbdl.func.hessian(square)(INTEGERS), RuntimeError, ("hessian: ", "floating", "int64")),
    (lambda: nbdl.func.jvp(square, (X,), (SQUARE,)), RuntimeError, ("jvp: ", "(3, 3)", "(3, 4)")),
    (lambda: nbdl.func.vmap(square, in_dims=5)(X), ValueError, ("vmap", "in_dim=5", "-2 <= in_dim < 2")),
    (lambda: nbdl.compile(3), TypeError, ("compile: ", "function or a module", "int")),
    (lambda: nbdl.set_backend("foo"), ValueError, ("set_backend: ", "numpy, numba", "'foo'")),
    (lambda: nbdl.set_num_threads(0), ValueError, ("set_num_threads: ", "1 or more", "0")),
    (lambda: nbdl.set_default_dtype(nbdl.int64), TypeError, ("set_default_dtype: ", "floating", "int64")),
    (lambda: nbdl.amp.autocast("foo"), RuntimeError, ("autocast: ", "cpu, cuda", "'foo'")),
    # data
    (lambda: nbdl.utils.data.DataLoader([1], num_workers=-1), ValueError, ("DataLoader: num_workers", "-1")),
    (lambda: nbdl.utils.data.random_split([1, 2], [5]), ValueError, ("random_split: ", "[5]", "2 samples")),
    (lambda: nbdl.save(print, "no file"), TypeError, ("save: obj", "allowed are tensors")),
]


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{k} {texts[0].strip(': ')}" for k, (_, _, texts) in enumerate(CASES)]
)
def test_an_error_names_the_function_and_what_was_given(case: Any) -> None:
    call, error, texts = case
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(texts[0])
    assert [text for text in texts if text not in message] == []
