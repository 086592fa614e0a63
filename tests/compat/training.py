"""Solvers and training inside of training, surgery on models, spectra, as a user of PyTorch writes them."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from typing import Any

from compat.common import integers, numbers, seeded


def implicit_layers(torch: Any) -> list[float]:
    """A fixed point derived by the implicit function theorem, an ODE, differentiable factorizations."""
    nn = torch.nn

    class FixedPoint(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, w: Any, u: Any) -> Any:
            z = torch.zeros_like(u)
            for _ in range(60):
                z = torch.tanh(z @ w.T + u)
            ctx.save_for_backward(w, z)
            return z

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, g: Any) -> Any:
            w, z = ctx.saved_tensors
            slope = 1 - z * z
            system = torch.eye(w.shape[0]) - slope.unsqueeze(-1) * w
            adjoint = torch.linalg.solve(system.mT, g.unsqueeze(-1)).squeeze(-1) * slope
            return torch.einsum("bi,bj->ij", adjoint, z), adjoint

    field = seeded(torch, nn.Sequential(nn.Linear(3, 6), nn.Softplus(), nn.Linear(6, 3)))
    w = nn.Parameter(0.2 * torch.tensor(numbers(3, 3)))
    damping = nn.Parameter(torch.tensor(-1.0))
    optimizer = torch.optim.RAdam([*field.parameters(), w, damping], lr=1e-2)
    u = torch.tensor(numbers(5, 3))
    losses = []
    for _ in range(3):
        z = FixedPoint.apply(w, u)
        x, h = z, 0.25
        for _ in range(4):
            k1 = field(x)
            k2 = field(x + h / 2 * k1)
            k3 = field(x + h / 2 * k2)
            k4 = field(x + h * k3)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        gram = x.mT @ x / 5 + damping.exp() * torch.eye(3)
        coefficients = torch.cholesky_solve(x.mT @ u, torch.linalg.cholesky(gram))
        values, vectors = torch.linalg.eigh(gram)
        loss = (x @ coefficients - u).pow(2).mean() + 0.01 * torch.logdet(gram)
        loss = loss + 0.01 * (vectors.abs() * values.rsqrt()).sum() + 0.01 * torch.linalg.matrix_norm(w, 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def hypergradient(torch: Any) -> list[float]:
    """Derivatives of training by its hyperparameters; Hessians; an influence; a Jacobian penalty."""
    nn, F = torch.nn, torch.nn.functional
    x, y = torch.tensor(numbers(9, 3)), torch.tensor(integers(2, 9)).double()
    held, label = torch.tensor(numbers(4, 3, seed=1)), torch.tensor([0.0, 1, 1, 0])
    log_rate, log_decay = torch.tensor(-1.0, requires_grad=True), torch.tensor(-3.0, requires_grad=True)
    outer = torch.optim.Rprop([log_rate, log_decay], lr=0.1)
    losses = []
    for _ in range(3):
        w, v = torch.tensor(0.1 * numbers(3, seed=2), requires_grad=True), torch.zeros(3)
        for _ in range(3):
            inner = F.binary_cross_entropy_with_logits(x @ w, y) + log_decay.exp() * w.square().sum()
            (g,) = torch.autograd.grad(inner, w, create_graph=True)
            v = 0.5 * v + g
            w = w - log_rate.exp() * v
        loss = F.binary_cross_entropy_with_logits(held @ w, label)
        outer.zero_grad()
        loss.backward()
        outer.step()
        losses += [loss.item(), log_rate.grad.item(), log_decay.grad.item()]

    def risk(w: Any) -> Any:
        return F.softplus(-(2 * y - 1) * (x @ w)).mean() + 0.05 * w.dot(w)

    point = w.detach()
    hessian = torch.autograd.functional.hessian(risk, point)
    _, product = torch.autograd.functional.vhp(risk, point, torch.ones(3))
    test_gradient = torch.func.grad(lambda w: F.softplus(held @ w).sum())(point)
    influence = -test_gradient @ torch.linalg.solve(hessian, torch.func.jacrev(risk)(point))
    net = seeded(torch, nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 2)))
    inputs = x.clone().requires_grad_()
    jacobian = torch.stack(
        [torch.autograd.grad(out.sum(), inputs, create_graph=True)[0] for out in net(inputs).unbind(1)], 1
    )
    penalty = torch.linalg.svdvals(jacobian).max(dim=-1).values.square().mean()
    penalty.backward()
    batched = torch.func.vmap(torch.func.jacfwd(net))(x)
    assert torch.allclose(batched, jacobian)
    return [
        *losses,
        product.sum().item(),
        influence.item(),
        penalty.item(),
        net[0].weight.grad.abs().sum().item(),
    ]


def surgery(torch: Any) -> list[float]:
    """Renamed and partial state dicts, tied weights, low-rank adapters, frozen parts, groups added later."""
    nn, F = torch.nn, torch.nn.functional

    class LoRA(nn.Module):
        def __init__(self, base: Any, rank: int) -> None:
            super().__init__()
            self.base = base
            for p in self.base.parameters():
                p.requires_grad = False
            self.A = nn.Parameter(0.1 * torch.ones(rank, base.in_features))
            self.B = nn.Parameter(torch.zeros(base.out_features, rank))

        def forward(self, x: Any) -> Any:
            return self.base(x) + x @ self.A.T @ self.B.T

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.body = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
            self.decode = nn.Linear(4, 7, bias=False)
            self.decode.weight = self.embed.weight

        def forward(self, x: Any) -> Any:
            return self.decode(self.body(self.embed(x)).mean(1))

    old = seeded(torch, Model())
    assert len(list(old.parameters())) == 5 and len(old.state_dict()) == 6
    renamed = OrderedDict(
        (f"module.{k}", v) for k, v in old.state_dict().items() if not k.startswith("body.2")
    )
    model = Model()
    missing, unexpected = model.load_state_dict({k[7:]: v for k, v in renamed.items()}, strict=False)
    assert sorted(missing) == ["body.2.bias", "body.2.weight"] and not unexpected
    nn.init.eye_(model.body[2].weight)
    nn.init.zeros_(model.body[2].bias)
    model.body[0] = LoRA(model.body[0], 2)
    model.embed.weight.requires_grad_(False)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adadelta(trainable[:2], lr=1.0)
    x, y = torch.tensor(integers(7, 6, 3)), torch.tensor(integers(7, 6, seed=1))
    losses, best = [], None
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=1.0)
    for step in range(5):
        if step == 2:
            optimizer.add_param_group({"params": trainable[2:], "lr": 0.5})
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        assert model.embed.weight.grad is None
        optimizer.step()
        if step != 2:
            plateau.step(loss.item()) if step < 2 else None
        losses.append(loss.item())
        if best is None or loss.item() < best[0]:
            best = loss.item(), copy.deepcopy(model.state_dict())
    model.load_state_dict(best[1])
    vector = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(vector * 0.5, model.parameters())
    clone = copy.deepcopy(model).half().double()
    total = sum(p.abs().sum() for p in clone.parameters())
    return [*losses, total.item(), F.cross_entropy(model(x), y).item(), optimizer.param_groups[0]["lr"]]


def rate_finder(torch: Any) -> list[float]:
    """A range test of learning rates on a copy, accumulated gradients, an average of weights."""
    nn = torch.nn
    net = seeded(torch, nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.0), nn.CELU(), nn.Linear(6, 1)))
    data = torch.utils.data.TensorDataset(torch.tensor(numbers(12, 4)), torch.tensor(numbers(12, 1, seed=1)))
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=False, drop_last=True)
    trial = copy.deepcopy(net)
    optimizer = torch.optim.SGD(trial.parameters(), lr=1e-4)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=10.0)
    curve, smooth = [], 0.0
    for k, (x, y) in enumerate(loader, 1):
        loss = nn.functional.mse_loss(trial(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        smooth = 0.9 * smooth + 0.1 * loss.item()
        curve.append(smooth / (1 - 0.9**k))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, dampening=0.1)
    cyclic = torch.optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, step_size_up=2, mode="triangular2")
    average = torch.optim.swa_utils.AveragedModel(net)
    for _ in range(2):
        optimizer.zero_grad()
        for k, (x, y) in enumerate(loader):
            (nn.functional.mse_loss(net(x), y, reduction="sum") / 12).backward()
            if (k + 1) % 3 == 0 or k + 1 == len(loader):
                optimizer.step()
                cyclic.step()
                optimizer.zero_grad()
        average.update_parameters(net)
        with torch.no_grad():
            x, y = data[:]
            curve.append(nn.functional.mse_loss(average(x), y).item())
        curve.append(cyclic.get_last_lr()[0])
    moments = optimizer.state_dict()["state"]
    assert sorted(moments) == [0, 1, 2, 3]
    return [*curve, sum(float(state["momentum_buffer"].abs().sum()) for state in moments.values())]


def signal_restoration(torch: Any) -> list[float]:
    """Spectra in a loss: rfft, stft, complex weights, a learned filter, a spectrogram's distance."""
    nn = torch.nn
    x = torch.tensor(numbers(2, 32))
    clean = torch.sin(torch.arange(32.0) * 0.7).repeat(2, 1)
    pairs = nn.Parameter(torch.tensor(1 + 0.1 * numbers(17, 2)))
    smooth = seeded(
        torch,
        nn.Sequential(
            nn.Conv1d(1, 3, 5, padding="same", padding_mode="circular"),
            nn.Mish(),
            nn.ConvTranspose1d(3, 1, 3, padding=1),
        ),
    )
    optimizer = torch.optim.SGD([pairs, *smooth.parameters()], lr=0.05)
    window = torch.hann_window(8)
    losses = []
    for _ in range(3):
        gain = torch.view_as_complex(pairs)
        filtered = torch.fft.irfft(torch.fft.rfft(x) * gain, n=32)
        y = smooth(filtered.unsqueeze(1)).squeeze(1)
        a, b = (torch.stft(s, 8, 4, window=window, return_complex=True).abs() for s in (y, clean))
        distance = torch.linalg.norm(a - b, dim=(-2, -1)) / torch.linalg.norm(b, dim=(-2, -1))
        loss = distance.mean() + (torch.log(a + 1e-3) - torch.log(b + 1e-3)).abs().mean()
        loss = loss + 0.1 * (gain.abs() - 1).relu().sum() + 0.01 * gain.angle().square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    correlation = torch.fft.ifft(torch.fft.fft(x) * torch.fft.fft(clean).conj()).real
    return [*losses, correlation.abs().max().item(), math.log(gain.detach().abs().sum().item())]


PROGRAMS = (implicit_layers, hypergradient, surgery, rate_finder, signal_restoration)
