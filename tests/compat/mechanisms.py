"""Hooks, parametrisations, checkpoints, own functions: the machinery around a training loop."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from compat.common import integers, numbers, seeded


def lbfgs_fit(torch: Any) -> list[float]:
    """Logistic regression by L-BFGS with a closure; then a sine by plain tensors."""
    x, y = torch.tensor(numbers(20, 3)), torch.tensor(integers(2, 20)).double()
    w, b = torch.zeros(3, requires_grad=True), torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], lr=1, max_iter=6, history_size=4)
    losses = []

    def closure() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(x @ w + b, y) + 1e-2 * w.dot(w)
        loss.backward()
        losses.append(loss.item())
        return loss

    optimizer.step(closure)
    optimizer.step(closure)
    a = torch.tensor([0.3, -0.2, 0.1], requires_grad=True)
    t = torch.linspace(-3, 3, 30)
    for _ in range(3):
        loss = ((a[0] + a[1] * t + a[2] * t**3) - t.sin()).pow(2).sum()
        loss.backward()
        with torch.no_grad():
            a -= 1e-5 * a.grad
            a.grad = None
        losses.append(loss.item())
    return losses


def normalized_weights(torch: Any) -> list[float]:
    """weight_norm and spectral_norm, old and new, orthogonal, and an own parametrisation."""
    nn = torch.nn
    P = nn.utils.parametrizations

    class Symmetric(nn.Module):
        def forward(self, w: Any) -> Any:
            return w.triu() + w.triu(1).transpose(-1, -2)

        def right_inverse(self, w: Any) -> Any:
            return w.triu()

    first = P.weight_norm(seeded(torch, nn.Linear(4, 6)), name="weight")
    second = seeded(torch, nn.Linear(6, 6), 1)
    nn.utils.parametrize.register_parametrization(second, "weight", Symmetric())
    third = P.orthogonal(
        seeded(torch, nn.Linear(6, 6), 2), orthogonal_map="householder", use_trivialization=False
    )
    fourth = P.spectral_norm(seeded(torch, nn.Linear(6, 2), 3), n_power_iterations=3)
    with torch.no_grad():  # the power iteration starts from random vectors
        spectral = fourth.parametrizations.weight[0]
        spectral._u.copy_(torch.nn.functional.normalize(torch.ones(2), dim=0))
        spectral._v.copy_(torch.nn.functional.normalize(torch.arange(1.0, 7), dim=0))
    model = nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), third, nn.Tanh(), fourth)
    x = torch.tensor(numbers(5, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(4):
        loss = (model(x) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert nn.utils.parametrize.is_parametrized(second)
    nn.utils.parametrize.remove_parametrizations(second, "weight")
    assert torch.equal(second.weight, second.weight.T)
    return [
        *losses,
        second.weight.sum().item(),
        (third.weight @ third.weight.T).trace().item(),
        *names(model),
    ]


def names(model: Any) -> list[float]:
    """The names of the state, as numbers that differ when they do."""
    return [float(sum(map(ord, name))) for name in model.state_dict()]


def checkpoint_and_resume(torch: Any) -> list[float]:
    """state_dicts of model, optimizer and schedule, taken in the middle and continued in new objects."""
    nn = torch.nn
    x, y = torch.tensor(numbers(8, 3)), torch.tensor(numbers(8, 2, seed=1))

    def build() -> Any:
        model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Sigmoid(), nn.Linear(5, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)

    def train(model: Any, optimizer: Any, scheduler: Any, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            loss = nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        return losses

    run = build()
    seeded(torch, run[0])
    before = train(*run, 3)
    saved = copy.deepcopy([part.state_dict() for part in run])
    after = train(*run, 3)
    again = build()
    for part, state in zip(again, saved):
        part.load_state_dict(state)
    assert train(*again, 3) == after
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict"):
        again[0].load_state_dict({"0.weight": torch.zeros(5, 3)})
    return before + after + sorted(map(float, saved[1]["state"]))


def own_function(torch: Any) -> list[float]:
    """torch.autograd.Function: saved tensors, constants, a non-differentiable output, double backward."""

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, factor: float) -> Any:
            ctx.save_for_backward(x)
            ctx.factor = factor
            return factor * x**3

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            (x,) = ctx.saved_tensors
            assert ctx.needs_input_grad == (True, False)
            return gradient * ctx.factor * 3 * x**2, None

    class StraightThrough(torch.autograd.Function):
        @staticmethod
        def forward(x: Any) -> Any:
            return x.sign()

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            (x,) = ctx.saved_tensors
            return gradient.masked_fill(x.abs() > 1, 0)

    x = torch.tensor(numbers(5), requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: Cube.apply(z, 2.0), (x,))
    (first,) = torch.autograd.grad(Cube.apply(x, 2.0).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    StraightThrough.apply(x * 2).dot(torch.arange(5.0)).backward()
    return [*first.tolist(), *second.tolist(), *x.grad.tolist()]


def hooks(torch: Any) -> list[float]:
    """Hooks on modules and tensors: activations, gradients, pre-hooks, removal, retain_grad."""
    nn = torch.nn
    model = seeded(torch, nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    seen: dict[str, Any] = {}

    def remember(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            seen[name] = output.detach().abs().sum().item()

        return hook

    handles = [m.register_forward_hook(remember(name)) for name, m in model.named_modules() if name]
    handles.append(model[1].register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,)))
    handles.append(
        model[2].register_full_backward_hook(
            lambda module, given, output: seen.update(backward=given[0].sum().item() + output[0].sum().item())
        )
    )
    model[0].weight.register_hook(lambda gradient: gradient * 0.5)
    x = torch.tensor(numbers(4, 3), requires_grad=True)
    h = model[0](x)
    h.retain_grad()
    model[2](model[1](h)).square().sum().backward()
    result = [seen[key] for key in sorted(seen)] + [h.grad.sum().item(), model[0].weight.grad.sum().item()]
    for handle in handles:
        handle.remove()
    seen.clear()
    result.append(model(x).sum().item())
    assert not seen
    return result


def moving_average(torch: Any) -> list[float]:
    """An exponential moving average by hand, frozen layers, copies, buffers, gradient accumulation."""
    nn = torch.nn
    model = seeded(torch, nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Hardswish(), nn.Linear(4, 1)))
    shadow = copy.deepcopy(model).requires_grad_(False)
    model[0].requires_grad_(False)
    optimizer = torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=0.1)
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
    losses = []
    for step in range(6):
        x = torch.tensor(numbers(5, 3, seed=step))
        loss = (model(x).squeeze(-1) - x.sum(1)).abs().mean() / 2
        loss.backward()
        if step % 2:
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                for ours, theirs in zip(shadow.parameters(), model.parameters()):
                    ours.mul_(0.9).add_(theirs, alpha=0.1)
                for ours, theirs in zip(shadow.buffers(), model.buffers()):
                    ours.copy_(theirs)
        losses.append(loss.item())
    assert model[0].weight.grad is None
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return [*losses, shadow.eval()(x).sum().item(), float(count)]


def dqn(torch: Any) -> list[float]:
    """Q-learning: gather, a target network, double selection; and a policy gradient step."""
    nn, F = torch.nn, torch.nn.functional
    policy = seeded(torch, nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    target = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    target.load_state_dict(policy.state_dict())
    state, following = torch.tensor(numbers(6, 4)), torch.tensor(numbers(6, 4, seed=1))
    action, reward = torch.tensor(integers(3, 6)), torch.tensor(numbers(6, seed=2))
    alive = torch.tensor([True, True, False, True, False, True])
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2, amsgrad=True)
    losses = []
    for _ in range(3):
        value = policy(state).gather(1, action.unsqueeze(1))
        future = torch.zeros(6)
        with torch.no_grad():
            best = policy(following).max(1).indices
            future[alive] = target(following[alive]).gather(1, best[alive, None]).squeeze(1)
        loss = F.smooth_l1_loss(value, (future * 0.9 + reward).unsqueeze(1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(policy.parameters(), 0.1)
        optimizer.step()
        weights, others = target.state_dict(), policy.state_dict()
        for key in others:
            weights[key] = others[key] * 0.1 + weights[key] * 0.9
        target.load_state_dict(weights)
        losses.append(loss.item())
    advantage = (reward - reward.mean()) / (reward.std() + 1e-8)
    log_p = policy(state).log_softmax(-1)[torch.arange(6), action]
    entropy = -(policy(state).softmax(-1) * policy(state).log_softmax(-1)).sum(-1)
    surrogate = torch.min(log_p.exp() * advantage, log_p.exp().clamp(0.2, 0.4) * advantage)
    (-surrogate.mean() - 0.01 * entropy.mean()).backward()
    return [*losses, nn.utils.parameters_to_vector(p.grad for p in policy.parameters()).norm().item()]


PROGRAMS = (
    lbfgs_fit, normalized_weights, checkpoint_and_resume, own_function, hooks, moving_average, dqn,
)  # fmt: skip
