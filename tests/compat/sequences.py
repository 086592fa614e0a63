"""Recurrent networks and transformers, as a user of PyTorch writes them."""

from __future__ import annotations

import math
from typing import Any

from compat.common import integers, numbers, seeded


def lstm_language_model(torch: Any) -> list[float]:
    """Two LSTM layers with tied weights, state carried on and detached, truncated backpropagation."""
    nn, F = torch.nn, torch.nn.functional

    class Model(nn.Module):
        def __init__(self, words: int = 12, width: int = 8):
            super().__init__()
            self.encoder = nn.Embedding(words, width)
            self.rnn = nn.LSTM(width, width, num_layers=2, dropout=0.0)
            self.decoder = nn.Linear(width, words)
            self.decoder.weight = self.encoder.weight

        def forward(self, tokens: Any, hidden: Any) -> Any:
            output, hidden = self.rnn(self.encoder(tokens), hidden)
            return self.decoder(output), hidden

    model = seeded(torch, Model())
    tokens = torch.tensor(integers(12, 13, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    hidden = (torch.zeros(2, 3, 8), torch.zeros(2, 3, 8))
    for start in range(0, 12, 4):
        hidden = tuple(h.detach() for h in hidden)
        optimizer.zero_grad()
        logits, hidden = model(tokens[start : start + 4], hidden)
        loss = F.cross_entropy(logits.view(-1, 12), tokens[start + 1 : start + 5].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        losses.append(math.exp(loss.item()))
    return [*losses, hidden[1].abs().mean().item()]


def gru_seq2seq(torch: Any) -> list[float]:
    """A bidirectional GRU encoder on packed sequences, a GRUCell decoder with attention, masked loss."""
    nn, F = torch.nn, torch.nn.functional

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(10, 4, padding_idx=0)
            self.gru = nn.GRU(4, 5, batch_first=True, bidirectional=True)
            self.fc = nn.Linear(10, 6)

        def forward(self, source: Any, lengths: Any) -> Any:
            packed = nn.utils.rnn.pack_padded_sequence(
                self.embedding(source), lengths, batch_first=True, enforce_sorted=False
            )
            outputs, hidden = self.gru(packed)
            outputs, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
            return outputs, torch.tanh(self.fc(torch.cat((hidden[-2], hidden[-1]), dim=1)))

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(9, 4)
            self.attention = nn.Linear(6, 10, bias=False)
            self.cell = nn.GRUCell(14, 6)
            self.out = nn.Linear(6, 9)

        def forward(self, token: Any, hidden: Any, outputs: Any, mask: Any) -> Any:
            scores = torch.bmm(outputs, self.attention(hidden).unsqueeze(2)).squeeze(2)
            weights = scores.masked_fill(~mask, -1e10).softmax(dim=1)
            context = torch.einsum("bt,bth->bh", weights, outputs)
            hidden = self.cell(torch.cat([self.embedding(token), context], 1), hidden)
            return self.out(hidden), hidden

    encoder, decoder = seeded(torch, Encoder()), seeded(torch, Decoder(), 1)
    lengths = torch.tensor([3, 5, 2])
    source = nn.utils.rnn.pad_sequence(
        [torch.tensor(integers(9, n, seed=n)) + 1 for n in lengths.tolist()], batch_first=True
    )
    target = torch.tensor(integers(9, 3, 4))
    target[0, 3] = -100
    mask = torch.arange(5)[None, :] < lengths[:, None]
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.01)
    losses = []
    for _ in range(3):
        outputs, hidden = encoder(source, lengths)
        token, steps = torch.zeros(3, dtype=torch.long), []
        for k in range(4):
            logits, hidden = decoder(token, hidden, outputs, mask)
            steps.append(logits)
            token = target[:, k].clamp(min=0) if k % 2 else logits.argmax(1)
        loss = F.cross_entropy(torch.stack(steps, dim=2), target, ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def transformer_translation(torch: Any) -> list[float]:
    """nn.Transformer with positional encoding, causal and padding masks, and a warm-up schedule."""
    nn = torch.nn

    class Model(nn.Module):
        def __init__(self, width: int = 8):
            super().__init__()
            position = torch.arange(16).unsqueeze(1)
            rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
            table = torch.zeros(16, width)
            table[:, 0::2] = torch.sin(position * rate)
            table[:, 1::2] = torch.cos(position * rate)
            self.register_buffer("table", table, persistent=False)
            self.source, self.target = nn.Embedding(11, width), nn.Embedding(11, width)
            self.transformer = nn.Transformer(
                width, 2, 1, 2, 16, dropout=0.0, batch_first=True, activation="gelu"
            )
            self.generator = nn.Linear(width, 11)

        def forward(self, source: Any, target: Any) -> Any:
            causal = nn.Transformer.generate_square_subsequent_mask(target.size(1))
            padding = source == 0
            out = self.transformer(
                self.source(source) + self.table[: source.size(1)],
                self.target(target) + self.table[: target.size(1)],
                tgt_mask=causal,
                src_key_padding_mask=padding,
                memory_key_padding_mask=padding,
                tgt_is_causal=True,
            )
            return self.generator(out)

    model = seeded(torch, Model())
    for p in model.parameters():
        if p.dim() > 1:
            p.data.mul_(0.9)
    source, target = torch.tensor(integers(10, 3, 6)) + 1, torch.tensor(integers(10, 3, 5, seed=1)) + 1
    source[0, 4:] = 0
    criterion = nn.CrossEntropyLoss(ignore_index=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, betas=(0.9, 0.98), eps=1e-9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min((k + 1) ** -0.5, (k + 1) / 2))
    losses = []
    for _ in range(3):
        logits = model(source, target[:, :-1])
        loss = criterion(logits.reshape(-1, logits.shape[-1]), target[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    with torch.no_grad():
        losses.append(model(source, target).logsumexp(-1).sum().item())
    return losses


def gpt(torch: Any) -> list[float]:
    """A decoder of own blocks with scaled_dot_product_attention, then greedy and sampled generation."""
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self, width: int, heads: int):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, 16), nn.GELU(approximate="tanh"), nn.Linear(16, width))
            self.heads = heads

        def forward(self, x: Any) -> Any:
            b, t, c = x.size()
            q, k, v = self.qkv(self.norm1(x)).split(c, dim=2)
            q, k, v = (z.view(b, t, self.heads, c // self.heads).transpose(1, 2) for z in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(y.transpose(1, 2).contiguous().view(b, t, c))
            return x + self.mlp(self.norm2(x))

    model = nn.ModuleDict(
        {
            "tokens": nn.Embedding(9, 8),
            "positions": nn.Embedding(6, 8),
            "blocks": nn.ModuleList([Block(8, 2) for _ in range(2)]),
            "head": nn.Linear(8, 9, bias=False),
        }
    )
    seeded(torch, model)

    def logits_of(tokens: Any) -> Any:
        x = model["tokens"](tokens) + model["positions"](torch.arange(tokens.size(1)))
        for block in model["blocks"]:
            x = block(x)
        return model["head"](x)

    data = torch.tensor(integers(9, 4, 7))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    losses = []
    for _ in range(3):
        loss = F.cross_entropy(logits_of(data[:, :-1]).flatten(0, 1), data[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    tokens = data[:1, :2]
    with torch.no_grad():
        for _ in range(4):
            last = logits_of(tokens)[:, -1]
            top, _ = torch.topk(last, 3)
            last[last < top[:, [-1]]] = -float("inf")
            tokens = torch.cat((tokens, last.softmax(-1).argmax(-1, keepdim=True)), dim=1)
    return [*losses, *map(float, tokens.flatten())]


def transformer_encoder(torch: Any) -> list[float]:
    """nn.TransformerEncoder and a decoder layer for classification, MultiheadAttention with its weights."""
    nn = torch.nn
    layer = nn.TransformerEncoderLayer(d_model=8, nhead=2, dim_feedforward=12, dropout=0.0)
    encoder = seeded(torch, nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False))
    decoder = seeded(torch, nn.TransformerDecoderLayer(8, 4, 10, dropout=0.0), 1)
    attention = seeded(torch, nn.MultiheadAttention(8, 2, kdim=5, vdim=6), 2)
    x, y = torch.tensor(numbers(4, 3, 8)), torch.tensor(numbers(2, 3, 8, seed=1))
    k, v = torch.tensor(numbers(7, 3, 5)), torch.tensor(numbers(7, 3, 6))
    mask = torch.zeros(4, 4).masked_fill(torch.ones(4, 4).triu(1).bool(), -1e9)
    parameters = [*encoder.parameters(), *decoder.parameters(), *attention.parameters()]
    optimizer = torch.optim.NAdam(parameters, lr=1e-2)
    losses = []
    for _ in range(3):
        memory = encoder(x, mask=mask)
        out, weights = attention(decoder(y, memory), k, v)
        loss = out.pow(2).mean() + weights.var()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses += [loss.item(), weights.max().item()]
    return losses


def speech_ctc(torch: Any) -> list[float]:
    """A convolution and an RNN with the CTC loss, then greedy decoding."""
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(3, 6, 3, stride=2, padding=1)
            self.norm = nn.InstanceNorm1d(6, affine=True)
            self.rnn = nn.RNN(6, 7, nonlinearity="relu", batch_first=True)
            self.fc = nn.Linear(7, 5)

        def forward(self, x: Any) -> Any:
            h = torch.nn.functional.hardtanh(self.norm(self.conv(x)), 0, 20)
            return self.fc(self.rnn(h.permute(0, 2, 1))[0]).log_softmax(-1).transpose(0, 1)

    model = seeded(torch, Net())
    x, y = torch.tensor(numbers(3, 3, 20)), torch.tensor(integers(4, 3, 4)) + 1
    lengths, sizes = torch.full((3,), 10, dtype=torch.long), torch.tensor([4, 2, 3])
    criterion = nn.CTCLoss(blank=0, zero_infinity=True)
    optimizer = torch.optim.Adamax(model.parameters(), lr=0.02)
    losses = []
    for _ in range(3):
        loss = criterion(model(x), y, lengths, sizes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    path = torch.unique_consecutive(model(x).argmax(-1)[:, 0])
    return [*losses, *map(float, path[path != 0].tolist())]


PROGRAMS = (
    lstm_language_model, gru_seq2seq, transformer_translation, gpt, transformer_encoder, speech_ctc,
)  # fmt: skip
