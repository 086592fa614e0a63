"""Curvature operators against dense matrices that are computed another way, in float64."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
from nbdl import nn
from nbdl.nn import functional as F
from nbdl.optim import curvature
from nbdl.utils.data import DataLoader, TensorDataset
from nbdl.utils.flops import flops
from nbdl.utils.observer import observing

LOSSES = {
    "cross-entropy": (nn.CrossEntropyLoss, lambda r: r.integers(0, 3, 7)),
    "mse": (nn.MSELoss, lambda r: r.standard_normal((7, 3))),
    "bce": (nn.BCEWithLogitsLoss, lambda r: r.integers(0, 2, (7, 3)).astype(float)),
}
MATRICES = {
    "Hessian": curvature.Hessian,
    "Hessian, forward": lambda source: curvature.Hessian(source, 7, outer_strategy="forward-mode"),
    "GGN": curvature.GGN,
    "Fisher": curvature.Fisher,
    "MonteCarloFisher": lambda source: curvature.MonteCarloFisher(source, n_samples=3, seed=5),
    "EmpiricalFisher": curvature.EmpiricalFisher,
}


def network(bias=True):
    nbdl.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5, bias=bias), nn.Tanh(), nn.Linear(5, 3, bias=bias)).double()


def risk_of(name, reduction="mean", loader=False, model=None):
    kind, targets = LOSSES[name]
    r = np.random.default_rng(1)
    x, y = nbdl.tensor(r.standard_normal((7, 4))), nbdl.tensor(targets(r))
    data = DataLoader(TensorDataset(x, y), batch_size=3) if loader else (x, y)
    return curvature.Risk(model or network(), kind(reduction=reduction), data), x, y


def pieces(risk):
    """Flat parameters, and functions of them: outputs and loss, for numpy and finite differences."""
    names = dict(risk.model.named_parameters())
    layout = risk.layout

    def at(flat):
        start, tensors = 0, {}
        for name, param in names.items():
            tensors[name] = flat[start : start + param.numel()].reshape(param.shape)
            start += param.numel()
        return tensors

    theta = layout.flat([p.detach() for p in names.values()])
    return theta, lambda flat, x: nbdl.func.functional_call(risk.model, at(flat), x)


def expected(kind, risk, x, y):
    """The matrix by whole Jacobians and Hessians of nbdl.func, which finite differences check elsewhere."""
    theta, outputs_at = pieces(risk)
    if kind.startswith("Hessian"):
        return nbdl.func.hessian(lambda t: risk.loss(outputs_at(t, x), y))(theta).numpy()
    jac = nbdl.func.jacrev(lambda t: outputs_at(t, x))(theta).numpy()  # (7, 3, n)
    outputs = outputs_at(theta, x).detach()
    if kind == "EmpiricalFisher":
        rows = nbdl.func.jacrev(lambda t: risk.loss_rows(outputs_at(t, x), y))(theta).numpy()
        total = rows.T @ rows
        return total / 7 if risk.reduction == "mean" else total
    inner = nbdl.func.hessian(lambda f: risk.loss(f, y))(outputs).numpy().reshape(21, 21)
    return jac.reshape(21, -1).T @ inner @ jac.reshape(21, -1)


def loss_rows(risk, name):
    """The loss of every row on its own, as the likelihood counts it."""
    function = {
        "cross-entropy": F.cross_entropy, "mse": F.mse_loss, "bce": F.binary_cross_entropy_with_logits,
    }[name]  # fmt: skip

    def rows(outputs, targets):
        losses = function(outputs, targets, reduction="none")
        if losses.ndim == 1:
            return losses
        return losses.mean(1) if risk.reduction == "mean" else losses.sum(1)

    return rows


@pytest.mark.parametrize("loader", [False, True], ids=["pair", "loader"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", ["Hessian", "Hessian, forward", "GGN", "Fisher", "EmpiricalFisher"])
def test_against_whole_matrices(kind, name, reduction, loader):
    risk, x, y = risk_of(name, reduction, loader)
    risk.loss_rows = loss_rows(risk, name)
    found = MATRICES[kind](risk).to_dense().numpy()
    np.testing.assert_allclose(found, expected(kind, risk, x, y), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", MATRICES)
def test_products_and_views_agree(kind, backend):
    risk, *_ = risk_of("cross-entropy", loader=kind == "GGN")
    matrix = MATRICES[kind](risk)
    dense = matrix.to_dense()
    v = nbdl.tensor(np.random.default_rng(0).standard_normal((matrix.shape[0], 2)))
    np.testing.assert_allclose((matrix @ v).numpy(), (dense @ v).numpy(), atol=1e-12)
    np.testing.assert_allclose((matrix @ v[:, 0]).numpy(), (dense @ v[:, 0]).numpy(), atol=1e-12)
    np.testing.assert_allclose(matrix.diagonal().numpy(), dense.diagonal().numpy(), atol=1e-12)
    np.testing.assert_allclose((matrix.to_scipy() @ v.numpy()), (dense @ v).numpy(), atol=1e-12)
    assert matrix.T is matrix
    assert matrix.dtype == np.float64
    assert not (matrix @ v).requires_grad


def test_the_hessian_by_finite_differences():
    risk, *_ = risk_of("cross-entropy")
    v = nbdl.tensor(np.random.default_rng(0).standard_normal(risk.layout.size))
    product = (curvature.Hessian(risk) @ v).numpy()
    gradients = []
    for sign in (1, -2):  # to one side, then twice as far to the other
        with nbdl.no_grad():
            for param, part in zip(risk.params, risk.layout.split(v), strict=True):
                param += sign * 1e-5 * part
        gradients.append(risk.gradient().numpy())
    np.testing.assert_allclose((gradients[0] - gradients[1]) / 2e-5, product, rtol=1e-5, atol=1e-9)


@pytest.mark.torch
def test_the_hessian_of_torch():
    import torch

    risk, x, y = risk_of("cross-entropy")
    weights = [torch.tensor(p.detach().numpy()) for p in risk.params]

    def loss(*w):
        hidden = torch.tanh(torch.nn.functional.linear(torch.tensor(x.numpy()), w[0], w[1]))
        logits = torch.nn.functional.linear(hidden, w[2], w[3])
        return torch.nn.functional.cross_entropy(logits, torch.tensor(y.numpy()))

    blocks = torch.autograd.functional.hessian(loss, tuple(weights))
    sizes = [w.numel() for w in weights]
    rows = [
        torch.cat([block.reshape(m, n) for block, n in zip(row, sizes, strict=True)], 1)
        for row, m in zip(blocks, sizes, strict=True)
    ]
    found = curvature.Hessian(risk).to_dense().numpy()
    np.testing.assert_allclose(found, torch.cat(rows).numpy(), rtol=1e-10, atol=1e-12)


def test_mini_batches_in_a_list_and_pairs_with_several_inputs():
    risk, x, y = risk_of("mse")
    whole = curvature.GGN(risk).to_dense().numpy()
    pieces = [[x[:3], y[:3]], [x[3:], y[3:]]]
    listed = curvature.Risk(risk.model, nn.MSELoss(), pieces)
    np.testing.assert_allclose(curvature.GGN(listed).to_dense().numpy(), whole, atol=1e-12)
    several = curvature.Risk(
        lambda pair: risk.model(pair[0] + pair[1]), nn.MSELoss(), ((x - 1, x * 0 + 1), y), risk.params
    )
    np.testing.assert_allclose(curvature.GGN(several).to_dense().numpy(), whole, atol=1e-12)


def test_monte_carlo_converges_to_the_exact_matrix():
    for name in LOSSES:
        risk, *_ = risk_of(name)
        exact = curvature.Fisher(risk).to_dense().numpy()
        sampled = curvature.MonteCarloFisher(risk, n_samples=4000).to_dense().numpy()
        spread = np.sqrt(np.outer(exact.diagonal(), exact.diagonal()))
        assert abs(sampled - exact).max() < 0.1 * spread.max()


def test_monte_carlo_is_one_operator_while_the_parameters_change():
    risk, *_ = risk_of("mse")
    matrix = curvature.MonteCarloFisher(risk, seed=3)
    before = matrix.to_dense()
    with nbdl.no_grad():
        risk.params[0] += 0.1
    assert not nbdl.allclose(matrix.to_dense(), before)
    with nbdl.no_grad():
        risk.params[0] -= 0.1
    np.testing.assert_allclose(matrix.to_dense().numpy(), before.numpy(), atol=1e-12)


def test_functions_of_a_vector():
    x = nbdl.tensor([1.0, 2.0, 3.0], dtype=nbdl.float64)
    at = curvature.Function(lambda x: (x[:2] ** 3) * x[2], x, loss=lambda r: r.exp().log().sum() ** 2)
    assert at.value().item() == pytest.approx(27.0**2)
    np.testing.assert_allclose(at.gradient().numpy(), [2 * 27 * 9, 2 * 27 * 36, 2 * 27 * 9])
    jacobian = curvature.Jacobian(at)
    np.testing.assert_allclose(jacobian.to_dense().numpy(), [[9, 0, 1], [0, 36, 8]])
    np.testing.assert_allclose(jacobian.T.to_dense().numpy(), [[9, 0], [0, 36], [1, 8]])
    dense = jacobian.to_dense().numpy()
    ggn = curvature.GGN(at).to_dense().numpy()
    np.testing.assert_allclose(ggn, 2 * np.outer(dense.sum(0), dense.sum(0)))
    np.testing.assert_array_equal(curvature.Hessian(curvature.Function(lambda x: x.sum(), x)) @ x, 0)


def test_convolutions_and_norms_in_one_batched_pass():
    nbdl.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(2, 3),
    ).double().eval()  # fmt: skip
    data = nbdl.randn(4, 1, 6, 6, dtype=nbdl.float64), nbdl.tensor([0, 1, 2, 0])
    risk = curvature.Risk(model, nn.CrossEntropyLoss(), data)
    for kind in (curvature.Hessian, curvature.GGN):
        matrix = kind(risk, chunk_size=5)
        columns = [matrix @ unit for unit in nbdl.eye(risk.layout.size, dtype=nbdl.float64).unbind(0)]
        np.testing.assert_allclose(matrix.to_dense().numpy(), nbdl.stack(columns, 1).numpy(), atol=1e-12)


def count(function):
    total = 0

    def observe(call):
        nonlocal total
        total += flops(call)

    with observing(observe):
        function()
    return total


def test_a_product_costs_at_most_four_gradients():
    # Kept recordings, and recording for every product: counted, not timed.
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    x, y = nbdl.randn(32, 64), nbdl.randint(0, 10, (32,))
    single = curvature.Risk(model, nn.CrossEntropyLoss(), (x, y))
    loader = curvature.Risk(model, nn.CrossEntropyLoss(), [(x[:16], y[:16]), (x[16:], y[16:])])
    gradient = count(single.gradient)
    v = nbdl.ones(single.layout.size)
    assert gradient > 0
    for kind in (curvature.Hessian, curvature.GGN):
        matrix = kind(single)
        matrix @ v
        assert count(lambda matrix=matrix: matrix @ v) <= 2 * gradient
        matrix = kind(loader)
        assert count(lambda matrix=matrix: matrix @ v) <= 3 * gradient
    for source in (single, loader):
        forward = curvature.Hessian(source, outer_strategy="forward-mode")
        assert count(lambda forward=forward: forward @ v) <= 4 * gradient


def test_forward_mode_computes_a_loss_twice_at_most():
    risk, *_ = risk_of("cross-entropy")
    forward = curvature.Hessian(risk, outer_strategy="forward-mode")
    calls = []
    with observing(lambda call: calls.append(call.primitive.name)):
        forward @ nbdl.ones(risk.layout.size, dtype=nbdl.float64)
    assert calls.count("cross_entropy_loss") == 2  # again for the outputs that the backward rule reads, once
    assert calls.count("activated_linear") == 1


def test_forward_mode_leaves_the_parameters_as_they_were():
    risk, *_ = risk_of("cross-entropy")
    v = nbdl.ones(risk.layout.size, dtype=nbdl.float64)
    curvature.Hessian(risk, outer_strategy="forward-mode") @ v
    assert all(p.dual is None and p.grad is None and p.is_leaf for p in risk.params)
    risk.loss = lambda outputs, targets: 1 / 0
    with pytest.raises(ZeroDivisionError):
        curvature.Hessian(risk, outer_strategy="forward-mode") @ v
    assert all(p.dual is None for p in risk.params)
    with pytest.raises(ValueError, match="'reverse-mode' or 'forward-mode', got 'fwd'"):
        curvature.Hessian(risk, outer_strategy="fwd")


# --------------------------------------------------------------------------------------- blocks and memory


def test_block_diagonal():
    risk, *_ = risk_of("mse")
    whole = curvature.GGN(risk).to_dense().numpy()
    blocks = curvature.block_diagonal(curvature.GGN, risk)
    mask = np.zeros_like(whole)
    mask[:25, :25] = mask[25:, 25:] = 1
    np.testing.assert_allclose(blocks.to_dense().numpy(), whole * mask, atol=1e-12)
    np.testing.assert_allclose(blocks.diagonal().numpy(), whole.diagonal(), atol=1e-12)
    split = [risk.params[::2], risk.params[1::2]]  # blocks of parameters that do not lie side by side
    blocks = curvature.block_diagonal(curvature.GGN, risk, split)
    weights = np.r_[0:20, 25:40]
    found = blocks.to_dense().numpy()
    np.testing.assert_allclose(found[np.ix_(weights, weights)], whole[np.ix_(weights, weights)], atol=1e-12)
    assert abs(found[np.ix_(weights, np.r_[20:25, 40:43])]).max() == 0


@pytest.mark.parametrize(("count", "right"), [(1, 1), (3, 3), (1, 3), (3, 1)])
def test_kronecker_products(count, right):
    r = np.random.default_rng(0)
    a, b = r.standard_normal((count, 3, 3)), r.standard_normal((right, 2, 2))
    a, b = a @ a.transpose(0, 2, 1), b @ b.transpose(0, 2, 1)
    g = max(count, right)
    dense = np.zeros((6 * g, 6 * g))
    for k in range(g):
        dense[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] = np.kron(a[k % count], b[k % right])
    product = curvature.Kronecker(nbdl.tensor(a), nbdl.tensor(b))
    v = nbdl.tensor(r.standard_normal(6 * g))
    damped = dense + 0.1 * np.eye(6 * g)
    np.testing.assert_allclose(product.to_dense().numpy(), dense, atol=1e-12)
    np.testing.assert_allclose(product.diagonal().numpy(), dense.diagonal(), atol=1e-12)
    np.testing.assert_allclose(product.solve(v, 0.1).numpy(), np.linalg.solve(damped, v.numpy()), atol=1e-9)
    assert product.logdet(0.1) == pytest.approx(np.linalg.slogdet(damped)[1])
    np.testing.assert_allclose(np.sort(product.eigenvalues().numpy()), np.linalg.eigvalsh(dense), atol=1e-10)


def pairs(m, n):
    r = np.random.default_rng(m)
    hessian = r.standard_normal((n, n))
    hessian = hessian @ hessian.T + np.eye(n)
    steps = r.standard_normal((m, n))
    return steps, steps @ hessian


def test_quasi_newton_memories():
    steps, changes = pairs(3, 6)
    matrix = np.eye(6) * (changes[-1] @ changes[-1]) / (steps[-1] @ changes[-1])
    dense = curvature.BFGSMatrix(nbdl.tensor(np.linalg.inv(matrix)))
    for s, y in zip(steps, changes, strict=True):  # Nocedal & Wright (2006), eq. (6.19)
        u = matrix @ s
        matrix = matrix - np.outer(u, u) / (s @ u) + np.outer(y, y) / (s @ y)
        dense = dense.updated(nbdl.tensor(s), nbdl.tensor(y))
    memory = curvature.LBFGSMemory(nbdl.tensor(steps), nbdl.tensor(changes))
    v = nbdl.tensor(np.arange(6.0))
    for found in (memory, dense):
        np.testing.assert_allclose(found.to_dense().numpy(), matrix, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(found.diagonal().numpy(), matrix.diagonal(), rtol=1e-8)
        inverse = found.inverse.to_dense().numpy()
        np.testing.assert_allclose(inverse @ matrix, np.eye(6), atol=1e-8)
    np.testing.assert_allclose(
        memory.solve(v, 0.5).numpy(), np.linalg.solve(matrix + 0.5 * np.eye(6), v.numpy()), rtol=1e-8
    )
    np.testing.assert_allclose(dense.solve(v).numpy(), np.linalg.solve(matrix, v.numpy()), rtol=1e-8)


def test_memories_of_optimizers():
    weight = nbdl.zeros(5, dtype=nbdl.float64, requires_grad=True)
    scale = nbdl.arange(1, 6).double()

    def closure():
        optimizer.zero_grad()
        loss = (scale * (weight - 1) ** 2).sum() / 2
        loss.backward()
        return loss

    for optimizer, memory in (
        (nbdl.optim.LBFGS([weight], max_iter=4), curvature.LBFGSMemory),
        (nbdl.optim.BFGS([weight], max_iter=4), curvature.BFGSMatrix),
    ):
        with pytest.raises(ValueError, match="so far"):
            memory.of(optimizer)
        with nbdl.no_grad():
            weight.zero_()
        optimizer.step(closure)
        matrix = memory.of(optimizer).to_dense().numpy()
        values = np.linalg.eigvalsh(matrix)
        assert values[0] > 0
        assert values[-1] == pytest.approx(5.0, rel=0.3)


def test_sums_multiples_and_rectangles():
    a = curvature.DenseOperator(nbdl.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]]))
    both = 2 * a + a
    dense = 3 * a.to_dense()
    np.testing.assert_array_equal(both.to_dense(), dense)
    np.testing.assert_array_equal(both.T.to_dense(), dense.T)
    np.testing.assert_array_equal(both.T.T.to_dense(), dense)
    np.testing.assert_array_equal(both @ nbdl.zeros(3, 0), np.zeros((2, 0)))
    diagonal = curvature.DiagonalOperator(nbdl.tensor([1.0, 2.0]))
    np.testing.assert_array_equal((diagonal + diagonal * 2).diagonal(), [3, 6])
    np.testing.assert_array_equal(diagonal.solve(nbdl.tensor([2.0, 3.0]), 1.0), [1, 1])
    square = curvature.FunctionOperator((2, 2), np.float32, lambda v: v.flip(0) * 3)
    np.testing.assert_array_equal(square.to_dense(), [[0, 3], [3, 0]])


MODEL = network()
PAIR = nbdl.zeros(2, 4, dtype=nbdl.float64), nbdl.tensor([0, 1])
RISK = curvature.Risk(MODEL, nn.MSELoss(), PAIR)
WRONG = {
    "iterator": (lambda: curvature.Risk(MODEL, nn.MSELoss(), iter([PAIR])), TypeError, "whenever"),
    "model": (lambda: curvature.Risk(3, nn.MSELoss(), PAIR), TypeError, "model must be"),
    "no params": (lambda: curvature.Risk(lambda x: x, nn.MSELoss(), PAIR), ValueError, "params must"),
    "frozen": (
        lambda: curvature.Risk(lambda x: x, nn.MSELoss(), PAIR, [nbdl.ones(2)]), RuntimeError, "gradient",
    ),
    "nothing": (lambda: curvature.Risk(nn.ReLU(), nn.MSELoss(), PAIR), RuntimeError, "no tensor"),
    "reduction": (
        lambda: curvature.Risk(MODEL, nn.MSELoss(reduction="none"), PAIR), ValueError, "'mean' or 'sum'",
    ),
    "empty data": (
        lambda: curvature.Hessian(curvature.Risk(MODEL, nn.MSELoss(), [])).diagonal(),
        RuntimeError, "mini-batch",
    ),
    "vector loss": (
        lambda: curvature.Hessian(curvature.Risk(MODEL, lambda f, y: f, PAIR)).diagonal(),
        RuntimeError, "scalar",
    ),
    "no source": (lambda: curvature.GGN(MODEL), TypeError, "Risk or a Function"),
    "chunk": (
        lambda: curvature.GGN(RISK, chunk_size=0), ValueError, "chunk_size",
    ),
    "likelihood": (
        lambda: curvature.Fisher(curvature.Risk(MODEL, nn.L1Loss(), PAIR)), ValueError, "likelihood is known",
    ),
    "smoothing": (
        lambda: curvature.Fisher(curvature.Risk(MODEL, nn.CrossEntropyLoss(label_smoothing=0.1), PAIR)),
        ValueError, "label_smoothing=0.0",
    ),
    "samples": (
        lambda: curvature.MonteCarloFisher(RISK, 0), ValueError, "n_samples",
    ),
    "length": (
        lambda: curvature.Hessian(RISK) @ nbdl.ones(3), RuntimeError, "shape",
    ),
    "dtype": (
        lambda: curvature.Hessian(RISK) @ nbdl.ones(43),
        RuntimeError, "dtype",
    ),
    "array": (
        lambda: curvature.Hessian(RISK) @ np.ones(43), TypeError, "ndarray",
    ),
    "blocks": (
        lambda: curvature.block_diagonal(curvature.GGN, RISK, [[]]),
        ValueError, "exactly once",
    ),
    "block size": (
        lambda: curvature.BlockDiagonal([curvature.DenseOperator(nbdl.ones(2, 3))]),
        RuntimeError, "positions",
    ),
    "kronecker": (lambda: curvature.Kronecker(nbdl.ones(2, 3), nbdl.ones(2, 2)), RuntimeError, "left"),
    "counts": (lambda: curvature.Kronecker(nbdl.ones(2, 3, 3), nbdl.ones(3, 2, 2)), RuntimeError, "as many"),
    "memory": (lambda: curvature.LBFGSMemory(nbdl.ones(1, 2), -nbdl.ones(1, 2)), ValueError, "s\\^T y > 0"),
    "pairs": (lambda: curvature.LBFGSMemory(nbdl.ones(1, 2), nbdl.ones(2)), RuntimeError, "one shape"),
    "sum": (
        lambda: curvature.DenseOperator(nbdl.ones(2, 3)) + curvature.DenseOperator(nbdl.ones(3, 2)),
        RuntimeError, "one shape",
    ),
    "diagonal": (lambda: curvature.DenseOperator(nbdl.ones(2, 3)).diagonal(), RuntimeError, "square"),
    "function": (lambda: curvature.Function(abs, 3.0), TypeError, "x must be a tensor"),
    "integers": (lambda: curvature.Function(abs, nbdl.arange(3)), RuntimeError, "floating"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_bad_input(case):
    function, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        function()
