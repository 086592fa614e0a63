"""Networks that are fitted to labels, as a user of PyTorch writes them."""

from __future__ import annotations

from typing import Any

from compat.common import integers, numbers, seeded


def mlp_with_scheduler(torch: Any) -> list[float]:
    """Classification by an MLP: weight decay by groups, clipping, a schedule, mini-batches."""
    nn, F = torch.nn, torch.nn.functional
    x, y = torch.from_numpy(numbers(24, 6)), torch.from_numpy(integers(3, 24))
    model = seeded(torch, nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.0), nn.Linear(16, 3)))
    decay = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1e-2
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=10)
    losses = []
    for _ in range(3):
        model.train()
        for inputs, targets in loader:
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(inputs), targets, label_smoothing=0.1)
            loss.backward()
            losses += [loss.item(), nn.utils.clip_grad_norm_(model.parameters(), 0.5).item()]
            optimizer.step()
        scheduler.step()
        losses.append(scheduler.get_last_lr()[0])
    model.eval()
    with torch.no_grad():
        accuracy = (model(x).argmax(dim=1) == y).float().mean().item()
    return [*losses, accuracy]


class Net:
    """LeNet written with functions in ``forward``; made by `lenet`."""

    @staticmethod
    def of(torch: Any) -> Any:
        nn, F = torch.nn, torch.nn.functional

        class LeNet(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
                self.conv2 = nn.Conv2d(4, 6, 3)
                self.fc1 = nn.Linear(6 * 3 * 3, 10)
                self.fc2 = nn.Linear(10, 4)

            def forward(self, x: Any) -> Any:
                x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
                x = F.relu(self.conv2(x))
                x = torch.flatten(x, 1)
                return F.log_softmax(self.fc2(F.relu(self.fc1(x))), dim=1)

        return LeNet()


def lenet(torch: Any) -> list[float]:
    """A convolutional network with the negative log-likelihood, SGD with Nesterov momentum."""
    model = seeded(torch, Net.of(torch))
    x, y = torch.tensor(numbers(6, 1, 10, 10)), torch.tensor(integers(4, 6))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = torch.nn.functional.nll_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def resnet_block(torch: Any) -> list[float]:
    """Residual blocks with batch normalisation, in training and in evaluation, ReduceLROnPlateau."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, c_in: int, c_out: int, stride: int = 1):
            super().__init__()
            self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
            self.norm1 = nn.BatchNorm2d(c_out)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(c_out)
            self.relu = nn.ReLU(inplace=True)
            self.downsample = None
            if stride != 1 or c_in != c_out:
                self.downsample = nn.Sequential(
                    nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
                )

        def forward(self, x: Any) -> Any:
            identity = x if self.downsample is None else self.downsample(x)
            out = self.relu(self.norm1(self.conv1(x)))
            out = self.norm2(self.conv2(out))
            out += identity
            return self.relu(out)

    model = nn.Sequential(Block(3, 4), Block(4, 6, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    seeded(torch, model)
    x, y = torch.tensor(numbers(5, 3, 8, 8)), torch.tensor(integers(3, 5))
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    losses = []
    for _ in range(4):
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss.item())
        losses += [loss.item(), optimizer.param_groups[0]["lr"]]
    model.eval()
    with torch.inference_mode():
        losses.append(criterion(model(x), y).item())
    return [*losses, model[0].norm1.running_var.sum().item(), model[0].norm1.num_batches_tracked.item()]


def unet(torch: Any) -> list[float]:
    """A U-Net: pooling, interpolation and transposed convolution, skip connections, Dice and pixel losses."""
    nn, F = torch.nn, torch.nn.functional

    def double(c_in: int, c_out: int) -> Any:
        return nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, padding=1, padding_mode="reflect"),
            nn.GroupNorm(2, c_out),
            nn.SiLU(),
            nn.Conv2d(c_out, c_out, 3, padding="same"),
            nn.LeakyReLU(0.1),
        )

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down1, self.down2, self.bottom = double(1, 4), double(4, 6), double(6, 8)
            self.up2 = nn.ConvTranspose2d(8, 6, 2, stride=2)
            self.right2, self.right1 = double(12, 6), double(10, 4)
            self.head = nn.Conv2d(4, 1, 1)

        def forward(self, x: Any) -> Any:
            a = self.down1(x)
            b = self.down2(F.max_pool2d(a, 2))
            c = self.bottom(F.avg_pool2d(b, 2))
            b = self.right2(torch.cat([self.up2(c), b], dim=1))
            up = F.interpolate(b, size=a.shape[-2:], mode="bilinear", align_corners=False)
            return self.head(self.right1(torch.cat((up, a), 1)))

    model = seeded(torch, UNet())
    x, y = torch.tensor(numbers(2, 1, 12, 8)), torch.tensor(integers(2, 2, 1, 12, 8)).double()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        logits = model(x)
        p = torch.sigmoid(logits)
        dice = 1 - (2 * (p * y).sum(dim=(1, 2, 3)) + 1) / (p.sum((1, 2, 3)) + y.sum((1, 2, 3)) + 1)
        loss = F.binary_cross_entropy_with_logits(logits, y, pos_weight=torch.tensor(2.0)) + dice.mean()
        model.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def deep_sets(torch: Any) -> list[float]:
    """Sums over sets of different sizes by index_add and scatter_reduce; Huber loss, Adagrad."""
    nn = torch.nn
    sizes = torch.tensor([3, 1, 5, 2])
    owner = torch.repeat_interleave(torch.arange(4), sizes)
    x, y = torch.tensor(numbers(11, 3)), torch.tensor(numbers(4, 1, seed=1))
    phi = seeded(torch, nn.Sequential(nn.Linear(3, 8), nn.ELU(), nn.Linear(8, 5)))
    rho = seeded(torch, nn.Sequential(nn.Linear(10, 6), nn.Softplus(), nn.Linear(6, 1)), 1)
    optimizer = torch.optim.Adagrad([*phi.parameters(), *rho.parameters()], lr=0.1)
    losses = []
    for _ in range(4):
        h = phi(x)
        total = torch.zeros(4, 5).index_add(0, owner, h)
        top = torch.full((4, 5), float("-inf")).scatter_reduce(0, owner[:, None].expand_as(h), h, "amax")
        loss = nn.HuberLoss(delta=0.5)(rho(torch.cat([total, top], -1)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def siamese_triplet(torch: Any) -> list[float]:
    """Embeddings under a triplet loss with the hardest negatives, a cosine loss, and exponential decay."""
    nn, F = torch.nn, torch.nn.functional
    net = seeded(torch, nn.Sequential(nn.Linear(5, 12), nn.PReLU(), nn.LayerNorm(12), nn.Linear(12, 4)))
    anchor, positive = torch.tensor(numbers(7, 5)), torch.tensor(numbers(7, 5, seed=1))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, amsgrad=True)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    losses = []
    for _ in range(4):
        a, p = F.normalize(net(anchor), dim=-1), F.normalize(net(positive), dim=-1)
        distances = torch.cdist(a, p)
        distances = distances.masked_fill(torch.eye(7, dtype=torch.bool), float("inf"))
        n = p[distances.argmin(dim=1)]
        loss = F.triplet_margin_loss(a, p, n, margin=0.3)
        loss = loss + F.cosine_embedding_loss(a, n, -torch.ones(7), margin=0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


def embedding_bag_classifier(torch: Any) -> list[float]:
    """Bags of words with offsets, a weighted sampler's dataset, multi-label losses."""
    nn = torch.nn

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag = nn.EmbeddingBag(20, 6, mode="mean", padding_idx=0)
            self.fc = nn.Linear(6, 3)

        def forward(self, text: Any, offsets: Any) -> Any:
            return self.fc(torch.tanh(self.bag(text, offsets)))

    model = seeded(torch, Classifier())
    text, offsets = torch.tensor(integers(20, 15)), torch.tensor([0, 4, 4, 9])
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]])
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    losses = []
    for _ in range(4):
        logits = model(text, offsets)
        loss = nn.MultiLabelSoftMarginLoss()(logits, labels) + nn.BCEWithLogitsLoss()(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


PROGRAMS = (
    mlp_with_scheduler, lenet, resnet_block, unet, deep_sets, siamese_triplet, embedding_bag_classifier,
)  # fmt: skip
