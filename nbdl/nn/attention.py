"""Attention of several heads."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.nn import init
from nbdl.nn.functional.attention import multi_head_attention
from nbdl.nn.linear import Linear
from nbdl.nn.module import Module
from nbdl.nn.parameter import Parameter
from nbdl.ops.creation import empty


class MultiheadAttention(Module):
    """Attention of several heads: concat(head_1, ..., head_h) W_o + b_o.

    head_i = softmax(Q_i K_i^T / sqrt(E / h) + mask) V_i, with Q_i, K_i, V_i linear in query, key and value.

    Args:
        embed_dim: E, the width of query and result.
        num_heads: h, divides E.
        dropout: probability of an attention weight to be dropped in training.
        bias: whether the projections add biases.
        add_bias_kv: append a learnt key and value.
        add_zero_attn: append a key and a value of zeros.
        kdim: width of the key; default E.
        vdim: width of the value; default E.
        batch_first: the batch is the first axis instead of the second.
        device: where the parameters are.
        dtype: their dtype.

    Attributes:
        in_proj_weight: (3 E, E), the projections of query, key and value; None with other widths, and then
        q_proj_weight: (E, E).
        k_proj_weight: (E, kdim).
        v_proj_weight: (E, vdim).
        in_proj_bias: (3 E,), zeros at first; or None.
        out_proj: the projection of the result, a :class:`Linear`.
        bias_k: (1, 1, E); or None.
        bias_v: (1, 1, E); or None.

    Shape:
        query (L, N, E), key (S, N, kdim), value (S, N, vdim) -> (L, N, E); with ``batch_first`` N comes
        first; without a batch it is missing.

    Raises:
        ValueError: a size is not positive.
        AssertionError: the heads do not divide the width.

    Source: Vaswani et al. (2017), Attention is all you need, section 3.2.2.

    Example:
        >>> import nbdl
        >>> attention = nbdl.nn.MultiheadAttention(16, 4, batch_first=True)
        >>> x = nbdl.randn(2, 5, 16)
        >>> y, weights = attention(x, x, x)
        >>> y.shape, weights.shape
        (nbdl.Size([2, 5, 16]), nbdl.Size([2, 5, 5]))
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                "MultiheadAttention: embed_dim and num_heads must be greater than 0, got "
                f"embed_dim={embed_dim} and num_heads={num_heads} instead"
            )
        if embed_dim % num_heads:
            raise AssertionError(
                "MultiheadAttention: embed_dim must be divisible by num_heads, got "
                f"{embed_dim} and {num_heads}"
            )
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        is_separate = self._is_separate = self.kdim != embed_dim or self.vdim != embed_dim

        def register(name: str, is_there: bool, *shape: int) -> None:
            value = Parameter(empty(*shape, device=device, dtype=dtype)) if is_there else None
            self.register_parameter(name, value)

        register("q_proj_weight", is_separate, embed_dim, embed_dim)
        register("k_proj_weight", is_separate, embed_dim, self.kdim)
        register("v_proj_weight", is_separate, embed_dim, self.vdim)
        register("in_proj_weight", not is_separate, 3 * embed_dim, embed_dim)
        register("in_proj_bias", bias, 3 * embed_dim)
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        register("bias_k", add_bias_kv, 1, 1, embed_dim)
        register("bias_v", add_bias_kv, 1, 1, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections and the appended rows anew, and set the biases to 0."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for row in (self.bias_k, self.bias_v):
            if row is not None:
                init.xavier_normal_(row)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The result and the weights; see :func:`nbdl.nn.functional.multi_head_attention_forward`."""
        return multi_head_attention(
            self.batch_first,
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            self.training,
            key_padding_mask,
            need_weights,
            attn_mask,
            self._is_separate,
            self.q_proj_weight,
            self.k_proj_weight,
            self.v_proj_weight,
            None,
            None,
            average_attn_weights,
            is_causal,
        )
