"""Representations of images, views and graphs, as a user of PyTorch writes them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from compat.common import integers, numbers, seeded


def contrastive(torch: Any) -> list[float]:
    """SimCLR: two views, the normalised temperature-scaled cross-entropy; then a probe on frozen features."""
    nn, F = torch.nn, torch.nn.functional
    encoder = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d((2, 2)),
        nn.Flatten(),
    )
    head = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8, affine=False), nn.ReLU(), nn.Linear(8, 5))
    seeded(torch, encoder)
    seeded(torch, head, 1)
    optimizer = torch.optim.SGD(
        [{"params": encoder.parameters()}, {"params": head.parameters(), "weight_decay": 1e-2}], lr=0.1
    )
    x = torch.tensor(numbers(4, 1, 6, 6))
    losses = []
    for step in range(3):
        views = torch.cat(
            [x.flip(-1), torch.roll(x, (1, -1), (2, 3)) + 0.1 * torch.tensor(numbers(4, 1, 6, 6, seed=step))]
        )
        z = F.normalize(head(encoder(views)), dim=1)
        similarity = z @ z.t() / 0.5
        similarity.fill_diagonal_(float("-inf"))
        targets = torch.arange(8).roll(4)
        loss = F.cross_entropy(similarity, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    encoder.requires_grad_(False).eval()
    probe = seeded(torch, nn.Linear(16, 3), 2)
    with torch.no_grad():
        features = F.normalize(encoder(x))
    for _ in range(2):
        loss = F.multi_margin_loss(probe(features), torch.tensor([0, 2, 1, 1]), p=2)
        probe.zero_grad()
        loss.backward()
        for p in probe.parameters():
            p.data.add_(p.grad, alpha=-0.1)
        losses.append(loss.item())
    assert all(p.grad is None or not p.requires_grad for p in encoder.parameters())
    return losses


def distillation(torch: Any) -> list[float]:
    """A student learns from a teacher's soft targets and, by hooks, from its features."""
    nn, F = torch.nn, torch.nn.functional
    teacher = seeded(torch, nn.Sequential(nn.Linear(5, 9), nn.GELU(), nn.Linear(9, 4))).eval()
    student = seeded(torch, nn.Sequential(nn.Linear(5, 6), nn.Hardswish(), nn.Linear(6, 4)), 1)
    adapter = seeded(torch, nn.Linear(6, 9, bias=False), 2)
    features: dict[str, Any] = {}
    handles = [
        net[1].register_forward_hook(
            lambda module, inputs, output, name=name: features.__setitem__(name, output)
        )
        for name, net in (("teacher", teacher), ("student", student))
    ]
    x, y = torch.tensor(numbers(10, 5)), torch.tensor(integers(4, 10))
    optimizer = torch.optim.NAdam([*student.parameters(), *adapter.parameters()], lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=5)
    losses = []
    for _ in range(4):
        with torch.inference_mode():
            soft = teacher(x)
        logits, T = student(x), 3.0
        kd = (
            F.kl_div(F.log_softmax(logits / T, 1), F.softmax(soft.clone() / T, 1), reduction="batchmean")
            * T
            * T
        )
        hard = F.cross_entropy(logits, y, label_smoothing=0.1)
        match = (
            1 - F.cosine_similarity(adapter(features["student"]), features["teacher"].clone(), dim=1).mean()
        )
        loss = 0.7 * kd + 0.3 * hard + 0.1 * match
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses += [loss.item(), schedule.get_last_lr()[0]]
    for handle in handles:
        handle.remove()
    features.clear()
    student(x)
    assert not features
    return losses


def graph_attention(torch: Any) -> list[float]:
    """Message passing on edge lists: softmax by scatter_reduce and index_add, pooling by graph."""
    nn, F = torch.nn, torch.nn.functional

    class GAT(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.lin = nn.Linear(inputs, outputs, bias=False)
            self.a = nn.Parameter(torch.empty(2, outputs))
            nn.init.xavier_uniform_(self.a)

        def forward(self, x: Any, edges: Any) -> Any:
            source, target = edges
            h = self.lin(x)
            score = F.leaky_relu((h * self.a[0]).sum(-1)[source] + (h * self.a[1]).sum(-1)[target], 0.2)
            top = torch.full((len(x),), -torch.inf).scatter_reduce(0, target, score.detach(), "amax")
            weight = torch.exp(score - top[target])
            total = torch.zeros(len(x)).index_add(0, target, weight).clamp_min(1e-16)
            return torch.zeros_like(h).index_add_(
                0, target, h[source] * (weight / total[target]).unsqueeze(-1)
            )

    layers = [seeded(torch, GAT(3, 4)), seeded(torch, GAT(4, 4), 1)]
    readout = seeded(torch, nn.Bilinear(4, 4, 2), 2)
    parameters = [p for module in (*layers, readout) for p in module.parameters()]
    optimizer = torch.optim.RMSprop(parameters, lr=1e-2, centered=True, momentum=0.5)
    x, edges = torch.tensor(numbers(7, 3)), torch.tensor(integers(7, 2, 15))
    graph = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    y = torch.tensor([0, 1, 1])
    losses = []
    for _ in range(3):
        h = F.elu(layers[0](x, edges))
        h = layers[1](h, edges) + h
        sums = torch.zeros(3, 4).scatter_add(0, graph[:, None].expand_as(h), h)
        mean = sums / torch.bincount(graph, minlength=3)[:, None]
        largest = torch.stack([h[graph == g].max(dim=0).values for g in range(3)])
        loss = F.nll_loss(F.log_softmax(readout(mean, largest), dim=-1), y, weight=torch.tensor([1.0, 2.0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def vision_transformer(torch: Any) -> list[float]:
    """Patches, a class token, rotary positions, experts chosen by topk, scaled layers, checkpointing."""
    nn, F = torch.nn, torch.nn.functional

    class Experts(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.gate = nn.Linear(width, 3, bias=False)
            self.experts = nn.ModuleList(
                nn.Sequential(OrderedDict(up=nn.Linear(width, 10), act=nn.SiLU(), down=nn.Linear(10, width)))
                for _ in range(3)
            )

        def forward(self, x: Any) -> Any:
            flat = x.flatten(0, 1)
            weights, chosen = torch.topk(self.gate(flat).softmax(-1), 2)
            weights = weights / weights.sum(-1, keepdim=True)
            out = torch.zeros_like(flat)
            for k, expert in enumerate(self.experts):
                rows, slot = torch.where(chosen == k)
                out[rows] += expert(flat[rows]) * weights[rows, slot, None]
            return out.view_as(x)

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.RMSNorm(width)
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp = Experts(width)
            self.gamma = nn.Parameter(0.1 * torch.ones(width))

        def rotate(self, x: Any) -> Any:
            n, half = x.shape[-2], x.shape[-1] // 2
            angle = torch.outer(torch.arange(n) * 1.0, 100.0 ** (-torch.arange(half) / half))
            a, b = x[..., :half], x[..., half:]
            return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)

        def forward(self, x: Any) -> Any:
            B, N, C = x.shape
            q, k, v = self.qkv(self.norm1(x)).reshape(B, N, 3, 2, C // 2).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v)
            x = x + self.gamma * self.proj(y.transpose(1, 2).contiguous().view(B, N, C))
            return x + self.mlp(self.norm2(x))

    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(1, 8, 3, stride=3)
            self.cls = nn.Parameter(torch.zeros(1, 1, 8))
            self.blocks = nn.ModuleList([Block(8) for _ in range(2)])
            self.head = nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            x = self.patch(x).flatten(2).mT
            x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1)
            for block in self.blocks:
                x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)
            return self.head(x[:, 0])

    model = seeded(torch, ViT())
    decay = [p for n, p in model.named_parameters() if p.ndim > 1]
    rest = [p for n, p in model.named_parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-2
    )
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, cosine], milestones=[2])
    x, y = torch.tensor(numbers(4, 1, 6, 6)), torch.tensor([0, 2, 1, 2])
    losses = []
    for _ in range(4):
        logits = model(x)
        p = logits.softmax(-1).gather(1, y[:, None]).squeeze(1)
        loss = (-((1 - p) ** 2.0) * p.log()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses += [loss.item(), optimizer.param_groups[0]["lr"]]
    return losses


def spatial_transformer(torch: Any) -> list[float]:
    """affine_grid and grid_sample, interpolation, unfold and fold, total variation."""
    nn, F = torch.nn, torch.nn.functional
    localise = seeded(torch, nn.Sequential(nn.Flatten(), nn.Linear(36, 6)))
    with torch.no_grad():
        localise[1].weight.mul_(0.1)
        localise[1].bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))
    refine = seeded(
        torch, nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 4, 1), nn.PReLU(4), nn.PixelShuffle(2)), 1
    )
    optimizer = torch.optim.Adamax([*localise.parameters(), *refine.parameters()], lr=1e-2)
    x = torch.tensor(numbers(3, 1, 6, 6))
    target = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
    losses = []
    for _ in range(3):
        theta = localise(x).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.size()), align_corners=False)
        y = refine(F.grid_sample(x, grid, padding_mode="border", align_corners=False))
        small = F.interpolate(y, size=(3, 3), mode="area")
        columns = F.unfold(y, 3, padding=1) * torch.hann_window(9)[None, :, None]
        blurred = F.fold(columns, (6, 6), 3, padding=1)
        tv = (y[..., 1:, :] - y[..., :-1, :]).abs().mean() + torch.diff(y, dim=-1).abs().mean()
        loss = F.huber_loss(small, target, delta=0.5) + 0.1 * tv + 0.01 * blurred.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


PROGRAMS = (contrastive, distillation, graph_attention, vision_transformer, spatial_transformer)
