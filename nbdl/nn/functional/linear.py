"""Linear maps, embeddings and attention."""

from __future__ import annotations

import math

from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import arange
from nbdl.ops.matmul import linear as linear_map
from nbdl.ops.softmax import softmax


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias``.

    Args:
        input: (..., in).
        weight: (out, in).
        bias: (out,) or None.

    Returns:
        (..., out)

    Raises:
        RuntimeError: the shapes do not fit, or the dtypes differ.
    """
    return linear_map(input, weight, bias)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x1^T W_k x2 + bias_k for every output k.

    Args:
        input1: (..., in1).
        input2: (..., in2).
        weight: (out, in1, in2).
        bias: (out,) or None.

    Returns:
        (..., out)

    Raises:
        RuntimeError: the shapes do not fit.
    """
    a, b, w = input1.array.shape, input2.array.shape, weight.array.shape
    if len(w) != 3 or a[:-1] != b[:-1] or not a or a[-1] != w[1] or b[-1] != w[2]:
        raise RuntimeError(
            "bilinear: expected inputs (..., in1) and (..., in2) with the same leading axes and weight "
            f"(out, in1, in2), got {tuple(a)}, {tuple(b)} and {tuple(w)}"
        )
    outputs, n1, n2 = w
    products = (input1.unsqueeze(-1) * input2.unsqueeze(-2)).reshape((*a[:-1], n1 * n2))
    return linear_map(products, weight.reshape((outputs, n1 * n2)), bias)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query @ key^T * scale + mask) @ value (Vaswani et al. 2017).

    Args:
        query: (..., heads, L, E).
        key: (..., heads, S, E).
        value: (..., heads, S, V).
        attn_mask: broadcast to (..., L, S): bools, True where a query may look, or numbers that are added.
        dropout_p: probability with which an attention weight is dropped.
        is_causal: query i looks at keys up to i only.
        scale: default 1 / sqrt(E).
        enable_gqa: let several query heads share one of key and value.

    Returns:
        (..., heads, L, V); NaN for a query that may look at nothing.

    Raises:
        RuntimeError: a mask is given with ``is_causal``, or the shapes do not fit.
    """
    if attn_mask is not None and is_causal:
        raise RuntimeError(
            "scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True"
        )
    if enable_gqa:
        key, value = (_repeat_heads(query, x) for x in (key, value))
    factor = 1 / math.sqrt(query.array.shape[-1]) if scale is None else scale
    scores = (query * factor) @ key.transpose(-2, -1)
    length, source = scores.array.shape[-2:]
    if is_causal:
        rows = arange(length, device=query.device).unsqueeze(1)
        attn_mask = rows >= arange(source, device=query.device)
    if attn_mask is not None:
        if attn_mask.dtype == bool:
            scores = where(attn_mask, scores, -math.inf)
        else:
            scores = scores + attn_mask
    weights = softmax(scores, -1)
    if dropout_p > 0:
        from nbdl.nn.functional.dropout import dropout

        weights = dropout(weights, dropout_p)
    return weights @ value


def _repeat_heads(query: Tensor, x: Tensor) -> Tensor:
    """Every head of ``x`` as often as it takes to have those of ``query``."""
    *batch, heads, length, width = x.array.shape
    wanted = query.array.shape[-3]
    if heads == 0 or wanted % heads:
        raise RuntimeError(
            f"scaled_dot_product_attention: with enable_gqa the number of heads in key and value ({heads}) "
            f"must divide the number of heads in query ({wanted})"
        )
    repeated = x.unsqueeze(-3).expand((*batch, heads, wanted // heads, length, width))
    return repeated.reshape((*batch, wanted, length, width))
