"""The layers of transformers: attention among positions, and a network for every position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn.attention import MultiheadAttention
from nbdl.nn.dropout import Dropout
from nbdl.nn.linear import Linear
from nbdl.nn.module import Module
from nbdl.nn.normalization import LayerNorm

Activation = str | Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


def _activation(activation: Activation) -> Callable[[Tensor], Tensor]:
    if not isinstance(activation, str):
        return activation
    if activation not in ACTIVATIONS:
        raise RuntimeError(f"activation should be relu/gelu, not {activation}")
    return ACTIVATIONS[activation]


class _Layer(Module):
    """What encoder and decoder layers have in common: attention among the positions, a network for each."""

    _attends_to_memory = False

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        attention = {"dropout": dropout, "batch_first": batch_first, "bias": bias, **place}
        norm = {"eps": layer_norm_eps, "bias": bias, **place}
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, **attention)
        if self._attends_to_memory:
            self.multihead_attn = MultiheadAttention(d_model, nhead, **attention)
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, **place)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, **place)
        self.norm1 = LayerNorm(d_model, **norm)
        self.norm2 = LayerNorm(d_model, **norm)
        if self._attends_to_memory:
            self.norm3 = LayerNorm(d_model, **norm)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        if self._attends_to_memory:
            self.dropout3 = Dropout(dropout)
        self.activation = _activation(activation)

    def _residual(self, x: Tensor, block: Callable[[Tensor], Tensor], norm: Module) -> Tensor:
        """x + block(norm(x)), or norm(x + block(x))."""
        return x + block(norm(x)) if self.norm_first else norm(x + block(x))

    def _attend(self, x: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool) -> Tensor:
        out, _ = self.self_attn(
            x, x, x, attn_mask=mask, key_padding_mask=padding, need_weights=False, is_causal=is_causal
        )
        return self.dropout1(out)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoderLayer(_Layer):
    """Attention of a sequence to itself, then a network of two layers at every position.

    Both blocks are added to their inputs, and normalised: norm(x + block(x)), or with ``norm_first``
    x + block(norm(x)).

    Args:
        d_model: width of the sequence.
        nhead: number of attention heads.
        dim_feedforward: width of the hidden layer of the network.
        dropout: probability of dropout behind both blocks, of weights and of hidden units.
        activation: of the hidden layer: "relu", "gelu", or a function.
        layer_norm_eps: of the normalisations.
        batch_first: sequences are (N, S, d_model) instead of (S, N, d_model).
        norm_first: normalise before the blocks instead of after.
        bias: whether linear layers and normalisations have biases.
        device: where the parameters are.
        dtype: their dtype.

    Raises:
        RuntimeError: there is no such activation.

    Source: Vaswani et al. (2017), Attention is all you need, section 3.1; ``norm_first``: Xiong et al.
    (2020), On layer normalization in the transformer architecture.

    Example:
        >>> import nbdl
        >>> layer = nbdl.nn.TransformerEncoderLayer(d_model=16, nhead=4, batch_first=True)
        >>> layer(nbdl.randn(2, 5, 16)).shape
        nbdl.Size([2, 5, 16])
    """

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """The encoded sequence.

        Args:
            src: (S, N, d_model), (N, S, d_model) with ``batch_first``, or (S, d_model).
            src_mask: (S, S) or (N * nhead, S, S): bools, true where a position may not look, or numbers that
                are added to the scores.
            src_key_padding_mask: (N, S) or (S,), likewise, positions that are ignored.
            is_causal: hint that ``src_mask`` is causal.
        """

        def attend(x: Tensor) -> Tensor:
            return self._attend(x, src_mask, src_key_padding_mask, is_causal)

        x = self._residual(src, attend, self.norm1)
        return self._residual(x, self._feed_forward_block, self.norm2)

    def _feed_forward_block(self, x: Tensor) -> Tensor:
        return self.dropout2(self._feed_forward(x))


class TransformerDecoderLayer(_Layer):
    """Attention of a sequence to itself, then to the output of an encoder, then a network at every position.

    Arguments and errors are those of :class:`TransformerEncoderLayer`.

    Source: Vaswani et al. (2017), Attention is all you need, section 3.1.

    Example:
        >>> import nbdl
        >>> layer = nbdl.nn.TransformerDecoderLayer(d_model=16, nhead=4)
        >>> layer(nbdl.randn(5, 2, 16), nbdl.randn(7, 2, 16)).shape
        nbdl.Size([5, 2, 16])
    """

    _attends_to_memory = True

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The decoded sequence.

        Args:
            tgt: (T, N, d_model), (N, T, d_model) with ``batch_first``, or (T, d_model).
            memory: output of the encoder, likewise, of any length.
            tgt_mask: (T, T) or (N * nhead, T, T), as in :class:`TransformerEncoderLayer`.
            memory_mask: (T, S) or (N * nhead, T, S), likewise.
            tgt_key_padding_mask: (N, T) or (T,), likewise.
            memory_key_padding_mask: (N, S) or (S,), likewise.
            tgt_is_causal: hint that ``tgt_mask`` is causal.
            memory_is_causal: hint that ``memory_mask`` is causal.
        """

        def attend(x: Tensor) -> Tensor:
            return self._attend(x, tgt_mask, tgt_key_padding_mask, tgt_is_causal)

        def attend_to_memory(x: Tensor) -> Tensor:
            out, _ = self.multihead_attn(
                x,
                memory,
                memory,
                attn_mask=memory_mask,
                key_padding_mask=memory_key_padding_mask,
                need_weights=False,
                is_causal=memory_is_causal,
            )
            return self.dropout2(out)

        x = self._residual(tgt, attend, self.norm1)
        x = self._residual(x, attend_to_memory, self.norm2)
        return self._residual(x, self._feed_forward_block, self.norm3)

    def _feed_forward_block(self, x: Tensor) -> Tensor:
        return self.dropout3(self._feed_forward(x))
