"""Densities, samples and discrete structure, as a user of PyTorch writes them."""

from __future__ import annotations

import math
from typing import Any

from compat.common import integers, numbers, seeded


def normalizing_flow(torch: Any) -> list[float]:
    """RealNVP: coupling layers as a distribution's transforms, and by hand."""
    nn, D = torch.nn, torch.distributions

    class Coupling(nn.Module):
        def __init__(self, flip: bool) -> None:
            super().__init__()
            self.flip = flip
            self.net = nn.Sequential(nn.Linear(1, 8), nn.LeakyReLU(0.1), nn.Linear(8, 2))

        def forward(self, x: Any) -> Any:
            a, b = x.chunk(2, dim=-1)
            if self.flip:
                a, b = b, a
            scale, shift = self.net(a).unbind(-1)
            scale = torch.tanh(scale)[..., None]
            b = (b - shift[..., None]) * torch.exp(-scale)
            return torch.cat([b, a] if self.flip else [a, b], dim=-1), -scale.squeeze(-1)

    flows = nn.ModuleList([seeded(torch, Coupling(k % 2 == 0), k) for k in range(3)])
    base = D.MultivariateNormal(torch.zeros(2), torch.eye(2))
    affine = nn.ParameterList([nn.Parameter(torch.tensor([0.1, -0.2])), nn.Parameter(torch.zeros(2))])
    optimizer = torch.optim.Adam([*flows.parameters(), *affine], lr=5e-3)
    x = torch.tensor(numbers(16, 2)) * torch.tensor([2.0, 0.5]) + 1
    losses = []
    for _ in range(4):
        z, log_det = x, 0
        for flow in flows:
            z, ld = flow(z)
            log_det = log_det + ld
        stages = [D.AffineTransform(affine[0], affine[1].exp(), event_dim=1), D.TanhTransform()]
        last = D.TransformedDistribution(base, stages)
        loss = -(last.log_prob(z.tanh().clamp(-0.95, 0.95)) + log_det).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def mixture_density_network(torch: Any) -> list[float]:
    """A network that gives the parameters of a mixture of Gaussians."""
    nn, D, F = torch.nn, torch.distributions, torch.nn.functional
    net = seeded(torch, nn.Sequential(nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 9)))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=1e-3, amsgrad=True)
    y = torch.linspace(-2, 2, 20).unsqueeze(1)
    x = y + 0.5 * torch.sin(3 * y)
    losses = []
    for _ in range(4):
        logits, mu, raw = net(x).split(3, dim=1)
        mixture = D.MixtureSameFamily(D.Categorical(logits=logits), D.Normal(mu, F.softplus(raw) + 1e-3))
        loss = -mixture.log_prob(y.squeeze(-1)).mean()
        by_hand = torch.logsumexp(
            F.log_softmax(logits, 1)
            - 0.5 * ((y - mu) / (F.softplus(raw) + 1e-3)) ** 2
            - torch.log(F.softplus(raw) + 1e-3)
            - 0.5 * math.log(2 * math.pi),
            dim=1,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses += [
            loss.item(),
            -by_hand.mean().item(),
            mixture.mean.std().item(),
            mixture.variance.sum().item(),
        ]
    return losses


def linear_chain_crf(torch: Any) -> list[float]:
    """A tagger with an LSTM and a conditional random field: forward algorithm, masks, Viterbi."""
    nn = torch.nn
    tags, start, stop = 5, 3, 4

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 6, padding_idx=0)
            self.lstm = nn.LSTM(6, 4, bidirectional=True, batch_first=True)
            self.out = nn.Linear(8, tags)
            self.transitions = nn.Parameter(torch.zeros(tags, tags))
            self.register_buffer("forbidden", torch.zeros(tags, tags, dtype=torch.bool))
            self.forbidden[start, :] = True
            self.forbidden[:, stop] = True

        def score(self, words: Any, gold: Any, lengths: Any) -> Any:
            h, _ = self.lstm(self.embedding(words))
            emissions = self.out(h)
            moves = self.transitions.masked_fill(self.forbidden, -1e4)
            alpha = torch.full((len(words), tags), -1e4)
            alpha[:, start] = 0.0
            path = torch.zeros(len(words))
            previous = torch.full((len(words),), start)
            for t in range(words.shape[1]):
                alive = (t < lengths).unsqueeze(1)
                step = torch.logsumexp(alpha.unsqueeze(1) + moves + emissions[:, t].unsqueeze(2), dim=2)
                alpha = torch.where(alive, step, alpha)
                here = emissions[:, t].gather(1, gold[:, t : t + 1]).squeeze(1) + moves[gold[:, t], previous]
                path = path + here * alive.squeeze(1)
                previous = torch.where(alive.squeeze(1), gold[:, t], previous)
            partition = torch.logsumexp(alpha + moves[stop], dim=1)
            return (partition - path - moves[stop, previous]).mean()

        @torch.no_grad()
        def viterbi(self, words: Any) -> Any:
            emissions = self.out(self.lstm(self.embedding(words))[0])
            best, pointers = emissions[:, 0], []
            for t in range(1, words.shape[1]):
                best, pointer = (best.unsqueeze(1) + self.transitions).max(dim=2)
                best = best + emissions[:, t]
                pointers.append(pointer)
            tag = best.argmax(1)
            path = [tag]
            for pointer in reversed(pointers):
                tag = pointer.gather(1, tag.unsqueeze(1)).squeeze(1)
                path.append(tag)
            return torch.stack(path[::-1], dim=1)

    model = seeded(torch, Tagger())
    words, gold = torch.tensor(integers(10, 3, 5)) + 1, torch.tensor(integers(3, 3, 5, seed=1))
    lengths = torch.tensor([5, 3, 4])
    words[torch.arange(5)[None, :] >= lengths[:, None]] = 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = model.score(words, gold, lengths)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [*losses, float(model.viterbi(words).sum())]


def gumbel_vae(torch: Any) -> list[float]:
    """A discrete autoencoder: relaxed one-hot samples from given uniform numbers, straight through."""
    nn, F, D = torch.nn, torch.nn.functional, torch.distributions
    encoder = seeded(torch, nn.Sequential(nn.Linear(8, 12), nn.ELU(), nn.Unflatten(1, (3, 4))))
    decoder = seeded(torch, nn.Sequential(nn.Flatten(), nn.Linear(12, 8)), 1)
    optimizer = torch.optim.Adam(
        [{"params": encoder.parameters()}, {"params": decoder.parameters(), "lr": 1e-2}]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda k: 0.9**k, lambda k: 1.0])
    x = (torch.tensor(numbers(6, 8)) > 0).to(torch.get_default_dtype())
    prior = D.OneHotCategorical(probs=torch.full((3, 4), 0.25))
    losses = []
    for step in range(4):
        temperature = max(0.5, math.exp(-0.1 * step))
        logits = encoder(x)
        u = torch.tensor(numbers(6, 3, 4, seed=step)).sigmoid()
        soft = F.softmax((logits - torch.log(-torch.log(u))) / temperature, dim=-1)
        hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
        z = hard - soft.detach() + soft
        reconstruction = D.Independent(D.Bernoulli(logits=decoder(z)), 1).log_prob(x)
        kl = D.kl_divergence(D.OneHotCategorical(logits=logits), prior).sum(-1)
        loss = (kl - reconstruction).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses += [loss.item(), kl.mean().item(), optimizer.param_groups[0]["lr"]]
    relaxed = D.RelaxedOneHotCategorical(torch.tensor(0.7), logits=logits.detach())
    return [*losses, relaxed.log_prob(soft.detach()).sum().item()]


def proximal_policy(torch: Any) -> list[float]:
    """PPO: an actor and a critic with one trunk, clipped ratios, generalized advantages, a KL stop."""
    nn, D = torch.nn, torch.distributions

    class ActorCritic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
            self.mean, self.value = nn.Linear(8, 2), nn.Linear(8, 1)
            self.log_std = nn.Parameter(-0.5 * torch.ones(2))

        def forward(self, state: Any) -> Any:
            h = self.trunk(state)
            return D.Normal(self.mean(h), self.log_std.exp()), self.value(h).squeeze(-1)

    model = seeded(torch, ActorCritic())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, eps=1e-5)
    states, noise = torch.tensor(numbers(12, 4)), torch.tensor(numbers(12, 2, seed=1))
    with torch.no_grad():
        policy, values = model(states)
        actions = policy.mean + policy.stddev * noise
        old = policy.log_prob(actions).sum(-1)
        rewards = -(actions**2).sum(-1)
        advantages, last = torch.zeros_like(rewards), 0.0
        for t in reversed(range(12)):
            following = values[t + 1] if t + 1 < 12 else 0.0
            last = rewards[t] + 0.99 * following - values[t] + 0.99 * 0.95 * last
            advantages[t] = last
        returns = advantages + values
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        before = D.Normal(policy.loc.clone(), policy.scale.clone())
    losses = []
    for epoch in range(2):
        for batch in torch.tensor(integers(12, 2, 6, seed=epoch)):
            policy, value = model(states[batch])
            ratio = (policy.log_prob(actions[batch]).sum(-1) - old[batch]).exp()
            clipped = torch.clamp(ratio, 0.8, 1.2) * advantages[batch]
            actor = -torch.min(ratio * advantages[batch], clipped).mean()
            critic = 0.5 * nn.functional.smooth_l1_loss(value, returns[batch])
            loss = actor + critic - 0.01 * policy.entropy().sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5, norm_type=float("inf"))
            optimizer.step()
            losses += [loss.item(), norm.item()]
    with torch.no_grad():
        losses.append(D.kl_divergence(before, model(states)[0]).sum(-1).mean().item())
    return losses


def variational_regression(torch: Any) -> list[float]:
    """Bayes by backprop: layers with distributions for weights, several densities in one bound."""
    nn, D, F = torch.nn, torch.distributions, torch.nn.functional

    class BayesLinear(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.mu = nn.Parameter(torch.zeros(outputs, inputs))
            self.rho = nn.Parameter(torch.full((outputs, inputs), -3.0))

        def forward(self, x: Any, noise: Any) -> Any:
            q = D.Normal(self.mu, F.softplus(self.rho))
            weight = q.loc + q.scale * noise
            self.kl = (q.log_prob(weight) - D.StudentT(3.0).log_prob(weight)).sum()
            return F.linear(x, weight)

    first, second = seeded(torch, BayesLinear(2, 5)), seeded(torch, BayesLinear(5, 1), 1)
    precision = nn.Parameter(torch.tensor([1.5, 0.7]))
    optimizer = torch.optim.Adagrad([*first.parameters(), *second.parameters(), precision], lr=0.05)
    x = torch.tensor(numbers(15, 2))
    y = (x[:, :1] * x[:, 1:]).squeeze(1)
    losses = []
    for step in range(4):
        h = torch.relu(first(x, torch.tensor(numbers(5, 2, seed=step))))
        out = second(h, torch.tensor(numbers(1, 5, seed=step + 9))).squeeze(1)
        a, b = precision.exp()
        noise = D.Gamma(a, b)
        likelihood = D.StudentT(2 * a, out, (b / a).sqrt()).log_prob(y).sum()
        loss = first.kl + second.kl - likelihood + D.kl_divergence(noise, D.Gamma(torch.ones(()), 1.0))
        loss = loss + D.Beta(a, b).entropy() + D.Dirichlet(precision.exp()).log_prob(torch.tensor([0.3, 0.7]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


PROGRAMS = (
    normalizing_flow, mixture_density_network, linear_chain_crf, gumbel_vae, proximal_policy,
    variational_regression,
)  # fmt: skip
