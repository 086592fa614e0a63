"""Generative models and derivatives of derivatives, as a user of PyTorch writes them."""

from __future__ import annotations

from typing import Any

from compat.common import numbers, seeded


def vae(torch: Any) -> list[float]:
    """A variational autoencoder with given noise."""
    nn, F = torch.nn, torch.nn.functional

    class VAE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc21, self.fc22 = nn.Linear(9, 7), nn.Linear(7, 2), nn.Linear(7, 2)
            self.fc3, self.fc4 = nn.Linear(2, 7), nn.Linear(7, 9)

        def encode(self, x: Any) -> Any:
            h = F.relu(self.fc1(x))
            return self.fc21(h), self.fc22(h)

        def forward(self, x: Any, noise: Any) -> Any:
            mu, logvar = self.encode(x)
            z = mu + noise * torch.exp(0.5 * logvar)
            return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, logvar

    model = seeded(torch, VAE())
    x = torch.from_numpy(numbers(6, 9)).sigmoid()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(4):
        noise = torch.from_numpy(numbers(6, 2, seed=step))
        reconstruction, mu, logvar = model(x, noise)
        loss = F.binary_cross_entropy(reconstruction, x, reduction="sum")
        loss += -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() / len(x))
    return losses


def dcgan(torch: Any) -> list[float]:
    """Generator and discriminator with detached samples and batch normalisation."""
    nn = torch.nn
    generator = nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, 1, 0, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(True),
        nn.ConvTranspose2d(6, 1, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Dropout2d(0.0),
        nn.Conv2d(4, 1, 3, 1, 0, bias=False),
        nn.Sigmoid(),
        nn.Flatten(0),
    )

    def initialise(m: Any) -> None:
        name = m.__class__.__name__
        if name.find("Conv") != -1:
            nn.init.normal_(m.weight.data, 0.0, 0.02)
        elif name.find("BatchNorm") != -1:
            nn.init.normal_(m.weight.data, 1.0, 0.02)
            nn.init.constant_(m.bias.data, 0)

    generator.apply(initialise)
    seeded(torch, generator)
    seeded(torch, discriminator, 1)
    criterion = nn.BCELoss()
    of_d = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    of_g = torch.optim.Adam(generator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    real = torch.tensor(numbers(5, 1, 6, 6)).tanh()
    losses = []
    for step in range(3):
        discriminator.zero_grad()
        label = torch.full((5,), 1.0)
        error = criterion(discriminator(real).view(-1), label)
        error.backward()
        fake = generator(torch.tensor(numbers(5, 4, 1, 1, seed=step)))
        label.fill_(0.0)
        error_fake = criterion(discriminator(fake.detach()).view(-1), label)
        error_fake.backward()
        of_d.step()
        generator.zero_grad()
        error_g = criterion(discriminator(fake).view(-1), label.fill_(1.0))
        error_g.backward()
        of_g.step()
        losses += [(error + error_fake).item(), error_g.item()]
    return losses


def wgan_gp(torch: Any) -> list[float]:
    """The gradient penalty: a derivative inside the loss."""
    nn = torch.nn
    critic = seeded(
        torch, nn.Sequential(nn.Conv2d(2, 4, 3, 2), nn.Softplus(), nn.Flatten(), nn.Linear(16, 1))
    )
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2, betas=(0.0, 0.9))
    real, fake = torch.tensor(numbers(4, 2, 5, 5)), torch.tensor(numbers(4, 2, 5, 5, seed=1))
    losses = []
    for step in range(4):
        alpha = torch.tensor(numbers(4, 1, 1, 1, seed=step)).sigmoid().expand_as(real)
        mixed = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
        scores = critic(mixed)
        (gradient,) = torch.autograd.grad(
            outputs=scores,
            inputs=mixed,
            grad_outputs=torch.ones_like(scores),
            create_graph=True,
            retain_graph=True,
        )
        penalty = ((gradient.view(4, -1).norm(2, dim=1) - 1) ** 2).mean()
        loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses += [loss.item(), penalty.item()]
    return losses


def maml(torch: Any) -> list[float]:
    """Inner steps with create_graph, by functional_call and torch.func.grad alike."""
    nn, F = torch.nn, torch.nn.functional
    model = seeded(torch, nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)))
    outer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(3):
        outer.zero_grad()
        total = torch.zeros(())
        for task in range(2):
            x = torch.tensor(numbers(5, 1, seed=10 * step + task))
            y = torch.sin(x + task)
            fast = dict(model.named_parameters())
            for _ in range(2):
                loss = F.mse_loss(torch.func.functional_call(model, fast, (x,)), y)
                gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
                fast = {name: p - 0.1 * g for (name, p), g in zip(fast.items(), gradients)}
            total = total + F.mse_loss(
                torch.func.functional_call(model, fast, (x + 0.1,)), torch.sin(x + 0.1 + task)
            )
        total.backward()
        outer.step()
        losses.append(total.item())

    def loss_of(parameters: Any, x: Any) -> Any:
        return torch.func.functional_call(model, parameters, (x,)).pow(2).sum()

    parameters = {name: p.detach() for name, p in model.named_parameters()}
    batch = torch.tensor(numbers(4, 1))
    each = torch.vmap(torch.func.grad(loss_of), in_dims=(None, 0))(parameters, batch)
    return [*losses, *[each[name].square().sum().item() for name in sorted(each)]]


def pinn(torch: Any) -> list[float]:
    """Burgers' equation: derivatives by the inputs, fitted by Adam, then L-BFGS."""
    nn = torch.nn
    net = seeded(
        torch, nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    )
    x = torch.tensor(numbers(9, 1), requires_grad=True)
    t = torch.tensor(numbers(9, 1, seed=1), requires_grad=True)

    def residual() -> Any:
        u = net(torch.hstack([x, t]))
        u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
        u_xx = torch.autograd.grad(u_x, x, torch.ones_like(u_x), create_graph=True)[0]
        return (u_t + u * u_x - 0.01 / torch.pi * u_xx).square().mean() + (u - torch.sin(x)).square().mean()

    adam = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(3):
        adam.zero_grad()
        loss = residual()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    lbfgs = torch.optim.LBFGS(net.parameters(), max_iter=5, line_search_fn="strong_wolfe")

    def closure() -> Any:
        lbfgs.zero_grad()
        loss = residual()
        loss.backward()
        return loss

    return [*losses, lbfgs.step(closure).item(), residual().item()]


def diffusion(torch: Any) -> list[float]:
    """Noise prediction with time embeddings; an average of the weights; sampling."""
    nn, F = torch.nn, torch.nn.functional

    class Denoiser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.time = nn.Embedding(5, 6)
            self.first, self.last = nn.Linear(2, 6), nn.Linear(6, 2)
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Any, t: Any) -> Any:
            return self.last(F.mish(self.first(x) + self.time(t))) * self.scale

    model = seeded(torch, Denoiser())
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )
    beta = torch.linspace(0.1, 0.5, 5)
    alpha_bar = torch.cumprod(1 - beta, dim=0)
    x = torch.tensor(numbers(8, 2))
    optimizer = torch.optim.RAdam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(4):
        t = torch.arange(8) % 5
        noise = torch.tensor(numbers(8, 2, seed=step))
        a = alpha_bar[t].view(-1, 1)
        loss = F.smooth_l1_loss(model(a.sqrt() * x + (1 - a).sqrt() * noise, t), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(model)
        losses.append(loss.item())
    with torch.no_grad():
        sample = torch.tensor(numbers(3, 2, seed=9))
        for k in reversed(range(5)):
            predicted = average(sample, torch.full((3,), k))
            sample = (sample - beta[k] / torch.sqrt(1 - alpha_bar[k]) * predicted) * torch.rsqrt(1 - beta[k])
    return [*losses, sample.norm().item()]


PROGRAMS = (vae, dcgan, wgan_gp, maml, pinn, diffusion)
