"""Transformers: stacks of layers, and encoder and decoder together."""

from __future__ import annotations

import copy
import math
from typing import Any

from nbdl.autograd.modes import is_grad_enabled
from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.nn import functional as F
from nbdl.nn import init
from nbdl.nn.activation import GELU, ReLU
from nbdl.nn.containers import ModuleList
from nbdl.nn.module import Module
from nbdl.nn.normalization import LayerNorm
from nbdl.nn.transformer_layer import (
    ACTIVATIONS,
    Activation,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
)
from nbdl.ops.creation import full

__all__ = [
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]


class TransformerEncoder(Module):
    """A stack of encoder layers.

    Args:
        encoder_layer: copied ``num_layers`` times.
        num_layers: number of layers.
        norm: applied to the result, or None.
        enable_nested_tensor: where PyTorch would take padding out of the computation (in evaluation without
            gradients, padding at the ends, layers with ``batch_first`` and without ``norm_first``), set the
            padded positions of the result to 0, as it then does.
        mask_check: do so only if the padding is at the ends.

    Example:
        >>> import nbdl
        >>> layer = nbdl.nn.TransformerEncoderLayer(d_model=16, nhead=4)
        >>> nbdl.nn.TransformerEncoder(layer, num_layers=2)(nbdl.randn(5, 2, 16)).shape
        nbdl.Size([5, 2, 16])
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ):
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm
        self.enable_nested_tensor, self.mask_check = enable_nested_tensor, mask_check

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """The encoded sequence; arguments as of :meth:`TransformerEncoderLayer.forward`."""
        x = src
        for layer in self.layers:
            x = layer(
                x,
                src_mask=mask,
                src_key_padding_mask=src_key_padding_mask,
                is_causal=bool(is_causal),
            )
        if src_key_padding_mask is not None and self._drops_padding(src, mask):
            x = _without_padding(x, src_key_padding_mask, self.mask_check)
        return x if self.norm is None else self.norm(x)

    def _drops_padding(self, src: Tensor, mask: Tensor | None) -> bool:
        """Whether PyTorch computes without the padded positions."""
        layer = self.layers[0] if self.num_layers else None
        return (
            self.enable_nested_tensor
            and isinstance(layer, TransformerEncoderLayer)
            and not self.training
            and mask is None
            and src.ndim == 3
            and layer.self_attn.batch_first
            and layer.self_attn.in_proj_bias is not None
            and layer.self_attn.num_heads % 2 == 0
            and not layer.norm_first
            and (layer.activation in ACTIVATIONS.values() or isinstance(layer.activation, (ReLU, GELU)))
            and layer.norm1.eps == layer.norm2.eps
            and not (
                is_grad_enabled() and (src.requires_grad or any(p.requires_grad for p in self.parameters()))
            )
        )


def _without_padding(x: Tensor, padding: Tensor, checks: bool) -> Tensor:
    """(N, S, E) with zeros where there is padding; if it `checks`, only if all padding is at the ends."""
    is_padded = padding if padding.dtype == dtypes.BOOL else padding == -math.inf
    hidden = is_padded
    if checks:
        has_hole = (is_padded[:, :-1] & ~is_padded[:, 1:]).any()
        hidden = is_padded & ~has_hole
    return x.masked_fill(hidden.unsqueeze(-1), 0.0)


class TransformerDecoder(Module):
    """A stack of decoder layers.

    Args:
        decoder_layer: copied ``num_layers`` times.
        num_layers: number of layers.
        norm: applied to the result, or None.

    Example:
        >>> import nbdl
        >>> layer = nbdl.nn.TransformerDecoderLayer(d_model=16, nhead=4)
        >>> decoder = nbdl.nn.TransformerDecoder(layer, num_layers=2)
        >>> decoder(nbdl.randn(5, 2, 16), nbdl.randn(7, 2, 16)).shape
        nbdl.Size([5, 2, 16])
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None):
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(decoder_layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The decoded sequence; arguments as of :meth:`TransformerDecoderLayer.forward`."""
        x = tgt
        for layer in self.layers:
            x = layer(
                x,
                memory,
                tgt_mask=tgt_mask,
                memory_mask=memory_mask,
                tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
                tgt_is_causal=bool(tgt_is_causal),
                memory_is_causal=memory_is_causal,
            )
        return x if self.norm is None else self.norm(x)


class Transformer(Module):
    """Encoder and decoder.

    Args:
        d_model: width of the sequences.
        nhead: number of attention heads.
        num_encoder_layers: layers of the encoder.
        num_decoder_layers: layers of the decoder.
        dim_feedforward: width of the hidden layers of the networks.
        dropout: see :class:`TransformerEncoderLayer`.
        activation: likewise.
        custom_encoder: a module in place of the encoder.
        custom_decoder: a module in place of the decoder.
        layer_norm_eps: likewise.
        batch_first: sequences are (N, S, d_model) instead of (S, N, d_model).
        norm_first: likewise.
        bias: likewise.
        device: where the parameters are.
        dtype: their dtype.

    Source: Vaswani et al. (2017), Attention is all you need.

    Example:
        >>> import nbdl
        >>> model = nbdl.nn.Transformer(16, 4, 1, 1, 32)
        >>> mask = nbdl.nn.Transformer.generate_square_subsequent_mask(5)
        >>> model(nbdl.randn(7, 2, 16), nbdl.randn(5, 2, 16), tgt_mask=mask, tgt_is_causal=True).shape
        nbdl.Size([5, 2, 16])
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        layer = (
            d_model,
            nhead,
            dim_feedforward,
            dropout,
            activation,
            layer_norm_eps,
            batch_first,
            norm_first,
        )

        def norm() -> LayerNorm:
            return LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **place)

        if custom_encoder is None:
            encoder_layer = TransformerEncoderLayer(*layer, bias=bias, **place)
            custom_encoder = TransformerEncoder(encoder_layer, num_encoder_layers, norm())
        self.encoder = custom_encoder
        if custom_decoder is None:
            decoder_layer = TransformerDecoderLayer(*layer, bias=bias, **place)
            custom_decoder = TransformerDecoder(decoder_layer, num_decoder_layers, norm())
        self.decoder = custom_decoder
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The decoded sequence; arguments as of the layers.

        Raises:
            RuntimeError: the sequences have other widths, or batches of different lengths.
        """
        is_batched = src.ndim == 3
        axis = 0 if self.batch_first else 1
        if is_batched and src.ndim == tgt.ndim and src.shape[axis] != tgt.shape[axis]:
            raise RuntimeError("Transformer: the batch number of src and tgt must be equal")
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            raise RuntimeError("Transformer: the feature number of src and tgt must be equal to d_model")
        memory = self.encoder(
            src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal
        )
        return self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """(sz, sz) with -infinity above the diagonal, 0 elsewhere: position i looks at those up to i."""
        return full((sz, sz), -math.inf, device=device, dtype=dtype).triu(1)
