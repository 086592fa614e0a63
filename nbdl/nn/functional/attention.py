"""Attention: of given queries, keys and values, and with several heads and projections."""

from __future__ import annotations

import math

from nbdl.autograd.autocast import lowered
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.nn.functional.activation import softmax
from nbdl.nn.functional.dropout import dropout
from nbdl.nn.functional.linear import linear
from nbdl.ops.arithmetic import where
from nbdl.ops.attention import attention
from nbdl.ops.joining import cat
from nbdl.ops.matmul import MatMul
from nbdl.ops.padding import pad_constant

_WITH_TRANSPOSED = MatMul.of(False, True)
_LABEL = "scaled_dot_product_attention"


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
    """softmax(query @ key^T * scale + mask) @ value (Vaswani et al. 2017, equation 1).

    Args:
        query: (..., heads, L, E); the axes before the last two are broadcast with those of key and value.
        key: (..., heads, S, E).
        value: (..., heads, S, V).
        attn_mask: broadcast to (..., L, S): bools, True where a query may look, or numbers that are added.
        dropout_p: probability with which an attention weight is dropped.
        is_causal: query i looks at keys up to i only.
        scale: default 1 / sqrt(E).
        enable_gqa: let several query heads share one of key and value.

    Returns:
        (..., heads, L, V); zeros for a query that may look at nothing.

    Raises:
        RuntimeError: a mask is given with ``is_causal``, or shapes or dtypes do not fit.

    Example:
        >>> import nbdl
        >>> q = nbdl.randn(2, 8, 5, 16)
        >>> nbdl.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True).shape
        nbdl.Size([2, 8, 5, 16])
    """
    query, key, value, attn_mask = lowered(query, key, value, attn_mask)
    _check(query, key, value, attn_mask, dropout_p, is_causal)
    if not enable_gqa:
        return attention(query, key, value, attn_mask, dropout_p, is_causal, scale)
    heads = query.array.shape[-3]
    groups = _groups("key", key, heads), _groups("value", value, heads)
    if groups[0] != groups[1]:
        key, value = (_repeated(x, heads) for x in (key, value))
        return attention(query, key, value, attn_mask, dropout_p, is_causal, scale)
    shared, times = groups[0], heads // groups[0]
    out = attention(
        _split_heads(query, shared, times),
        key.unsqueeze(-3),
        value.unsqueeze(-3),
        attn_mask
        if attn_mask is None or attn_mask.array.ndim < 3
        else _split_heads(attn_mask, shared, times),
        dropout_p,
        is_causal,
        scale,
    )
    return out.reshape((*out.array.shape[:-4], heads, *out.array.shape[-2:]))


def _check(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float, is_causal: bool
) -> None:
    if mask is not None and is_causal:
        raise RuntimeError(f"{_LABEL}: Explicit attn_mask should not be set when is_causal=True")
    if any(x.array.ndim < 2 for x in (query, key, value)):
        raise RuntimeError(
            f"{_LABEL}: Expected query, key, and value to all be at least 2 dimensional, but got query.dim: "
            f"{query.ndim} key.dim: {key.ndim} and value.dim: {value.ndim} instead"
        )
    kinds = [x.array.dtype for x in (query, key, value)]
    if len(set(kinds)) > 1 or not dtypes.is_floating(kinds[0]):
        raise RuntimeError(
            f"{_LABEL}: Expected query, key, and value to have the same floating dtype, but got query.dtype: "
            f"{kinds[0]} key.dtype: {kinds[1]} and value.dtype: {kinds[2]} instead"
        )
    if mask is not None and mask.array.dtype not in (dtypes.BOOL, kinds[0]):
        raise RuntimeError(
            f"{_LABEL}: Expected attn_mask dtype to be bool or to match query dtype, but got "
            f"attn_mask.dtype: {mask.array.dtype} and query.dtype: {kinds[0]} instead"
        )
    if dropout_p > 1:
        raise RuntimeError(f"{_LABEL}: dropout probability has to be between 0 and 1, but got {dropout_p}")


def _groups(name: str, x: Tensor, heads: int) -> int:
    """The number of heads of ``x``, which must divide ``heads``."""
    own = x.array.shape[-3]
    if own == 0 or heads % own:
        raise RuntimeError(
            f"{_LABEL}: Number of heads in key and value must divide the number of heads in query: "
            f"{name} has {own}, query {heads}"
        )
    return own


def _split_heads(x: Tensor, shared: int, times: int) -> Tensor:
    """(..., heads, m, n) as (..., shared, times, m, n); a single head stays one."""
    *batch, heads, m, n = x.array.shape
    return x.unsqueeze(-3) if heads == 1 else x.reshape((*batch, shared, times, m, n))


def _repeated(x: Tensor, heads: int) -> Tensor:
    """Every head of ``x`` as often as it takes to have so many."""
    *batch, own, m, n = x.array.shape
    repeated = x.unsqueeze(-3).expand((*batch, own, heads // own, m, n))
    return repeated.reshape((*batch, heads, m, n))


# ---------------------------------------------------------------------------------------------- several heads
def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention of several heads with projections of their own (Vaswani et al. 2017, section 3.2.2).

    Args:
        query: (L, N, E), or (L, E) without a batch.
        key: (S, N, kdim), likewise.
        value: (S, N, vdim), likewise.
        embed_dim_to_check: E.
        num_heads: number of heads; divides E.
        in_proj_weight: (3 E, E), the projections of query, key and value, one below the other.
        in_proj_bias: (3 E,) or None.
        bias_k: (1, 1, E), a key that is appended, or None.
        bias_v: its value.
        add_zero_attn: append a key and a value of zeros.
        dropout_p: probability of an attention weight to be dropped.
        out_proj_weight: (E, E), the projection of the result.
        out_proj_bias: (E,) or None.
        training: without it nothing is dropped.
        key_padding_mask: (N, S) or (S,): bools, true for keys that are ignored, or numbers that are added.
        need_weights: return the weights too, which takes memory of their size, and more time.
        attn_mask: (L, S) or (N * num_heads, L, S): bools, true where a query may not look, or numbers.
        use_separate_proj_weight: use the following weights instead of ``in_proj_weight``.
        q_proj_weight: (E, E).
        k_proj_weight: (E, kdim).
        v_proj_weight: (E, vdim).
        static_k: (N * num_heads, S, E / num_heads), instead of the projected key.
        static_v: instead of the projected value.
        average_attn_weights: return the mean of the weights over the heads.
        is_causal: hint that ``attn_mask`` is causal, which is then not read if nothing else masks.

    Returns:
        The result (L, N, E) or (L, E), and the weights (N, L, S), (N, num_heads, L, S), or None.

    Raises:
        AssertionError: sizes do not fit.
        RuntimeError: ``is_causal`` without a mask, or a mask of another shape.
    """
    return multi_head_attention(
        False,
        query,
        key,
        value,
        embed_dim_to_check,
        num_heads,
        in_proj_weight,
        in_proj_bias,
        bias_k,
        bias_v,
        add_zero_attn,
        dropout_p,
        out_proj_weight,
        out_proj_bias,
        training,
        key_padding_mask,
        need_weights,
        attn_mask,
        use_separate_proj_weight,
        q_proj_weight,
        k_proj_weight,
        v_proj_weight,
        static_k,
        static_v,
        average_attn_weights,
        is_causal,
    )


def multi_head_attention(
    batch_first: bool,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool,
    key_padding_mask: Tensor | None,
    need_weights: bool,
    attn_mask: Tensor | None,
    use_separate_proj_weight: bool,
    q_proj_weight: Tensor | None,
    k_proj_weight: Tensor | None,
    v_proj_weight: Tensor | None,
    static_k: Tensor | None,
    static_v: Tensor | None,
    average_attn_weights: bool,
    is_causal: bool,
) -> tuple[Tensor, Tensor | None]:
    """:func:`multi_head_attention_forward`, with ``batch_first`` for query, key, value, result (N, L, E)."""
    is_batched = _check_ranks(query, key, value, key_padding_mask, attn_mask, num_heads)
    same_key, same_value = key is query, value is key
    if not is_batched:
        query, key, value = (x.unsqueeze(0) for x in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    if is_causal and attn_mask is None:
        raise RuntimeError(
            "multi_head_attention_forward: Need attn_mask if specifying the is_causal hint. You may use the "
            "Transformer module method `generate_square_subsequent_mask` to create this mask"
        )
    _check_sizes(query, key, value, embed_dim_to_check, num_heads, use_separate_proj_weight)
    swaps = is_batched and not batch_first
    if swaps:
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    if use_separate_proj_weight:
        weights = q_proj_weight, k_proj_weight, v_proj_weight
        q, k, v = _project_separately((query, key, value), weights, in_proj_bias)
    else:
        q, k, v = _project(query, key, value, in_proj_weight, in_proj_bias, same_key, same_value)
    if bias_k is not None and bias_v is not None:
        k, v = (_appended(x, bias) for x, bias in ((k, bias_k), (v, bias_v)))
    q, k, v = (_by_heads(x, num_heads) for x in (q, k, v))
    batch = q.array.shape[0]
    k, v = (
        x if static is None else static.reshape((batch, num_heads, *static.array.shape[1:]))
        for x, static in ((k, static_k), (v, static_v))
    )
    if add_zero_attn:
        k, v = (_padded(x, -2, 1) for x in (k, v))
    appended = int(bias_k is not None) + int(add_zero_attn)
    hides_only_later = is_causal and key_padding_mask is None and not need_weights
    mask = None if hides_only_later else _merged_mask(attn_mask, key_padding_mask, q, k, appended)
    p = dropout_p if training else 0.0
    attention_weights = None
    if need_weights:
        scores = apply(_WITH_TRANSPOSED, q * math.sqrt(1 / q.array.shape[-1]), k)
        attention_weights = softmax(scores if mask is None else scores + mask, -1)
        attention_weights = dropout(attention_weights, p) if p > 0 else attention_weights
        out = attention_weights @ v
        attention_weights = attention_weights.mean(1) if average_attn_weights else attention_weights
    else:
        out = scaled_dot_product_attention(q, k, v, mask, p, hides_only_later)
    out = out.transpose(1, 2).reshape((batch, -1, embed_dim_to_check))
    out = linear(out, out_proj_weight, out_proj_bias)
    if is_batched:
        return out.transpose(0, 1) if swaps else out, attention_weights
    return out.squeeze(0), None if attention_weights is None else attention_weights.squeeze(0)


def _check_ranks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    num_heads: int,
) -> bool:
    """Whether there is an axis of batch entries; ranks and shapes of the masks must go with it."""
    rank = query.array.ndim
    if rank not in (2, 3):
        raise AssertionError(
            f"query should be unbatched 2D or batched 3D tensor but received {rank}-D query tensor"
        )
    described = "batched (3-D)" if rank == 3 else "unbatched (2-D)"
    if key.array.ndim != rank or value.array.ndim != rank:
        raise AssertionError(
            f"For {described} `query`, expected `key` and `value` to be {rank}-D but found {key.ndim}-D and "
            f"{value.ndim}-D tensors respectively"
        )
    for name, mask, ranks in (
        ("key_padding_mask", key_padding_mask, (rank - 1,)),
        ("attn_mask", attn_mask, (2, 3)),
    ):
        if mask is None:
            continue
        if mask.array.ndim not in ranks:
            allowed = " or ".join(f"{r}-D" for r in ranks)
            raise AssertionError(
                f"For {described} `query`, expected `{name}` to be `None` or {allowed} but found "
                f"{mask.ndim}-D tensor instead"
            )
        if mask.array.dtype != dtypes.BOOL and not dtypes.is_floating(mask.array.dtype):
            raise AssertionError(f"only bool and floating types of {name} are supported")
    if rank == 2 and attn_mask is not None and attn_mask.array.ndim == 3:
        expected = num_heads, query.array.shape[0], key.array.shape[0]
        if attn_mask.array.shape != expected:
            raise AssertionError(
                f"Expected `attn_mask` shape to be {expected} but got {tuple(attn_mask.array.shape)}"
            )
    return rank == 3


def _check_sizes(
    query: Tensor, key: Tensor, value: Tensor, embed_dim: int, num_heads: int, is_separate: bool
) -> None:
    width = query.array.shape[-1]
    if width != embed_dim:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim}, but got {width}")
    if width % num_heads:
        raise AssertionError(f"embed_dim {width} not divisible by num_heads {num_heads}")
    shapes = tuple(key.array.shape), tuple(value.array.shape)
    if is_separate:
        shapes = shapes[0][:2], shapes[1][:2]
    if shapes[0] != shapes[1]:
        raise AssertionError(f"key shape {shapes[0]} does not match value shape {shapes[1]}")


def _project(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    same_key: bool,
    same_value: bool,
) -> tuple[Tensor, ...]:
    """The three projections; one product for operands that are the same."""
    if weight is None:
        raise AssertionError("use_separate_proj_weight is False but in_proj_weight is None")
    if same_key and same_value:
        return linear(query, weight, bias).chunk(3, -1)
    width = query.array.shape[-1]
    if not same_value:
        return _project_separately((query, key, value), weight.chunk(3), bias)
    of_query, of_rest = weight.split((width, 2 * width))
    biases = (None, None) if bias is None else bias.split((width, 2 * width))
    return (linear(query, of_query, biases[0]), *linear(key, of_rest, biases[1]).chunk(2, -1))


def _project_separately(
    inputs: tuple[Tensor, ...], weights: tuple[Tensor | None, ...], bias: Tensor | None
) -> tuple[Tensor, ...]:
    if any(weight is None for weight in weights):
        raise AssertionError(
            "use_separate_proj_weight is True but q_proj_weight, k_proj_weight or v_proj_weight is None"
        )
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    return tuple(linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True) if w is not None)


def _appended(x: Tensor, bias: Tensor) -> Tensor:
    """(N, S, E) with one more row, the same for all batch entries."""
    return cat([x, bias.expand((x.array.shape[0], 1, x.array.shape[-1]))], 1)


def _padded(x: Tensor, axis: int, after: int) -> Tensor:
    """``x`` with zeros behind the last index of an axis."""
    amounts = [(0, 0)] * x.array.ndim
    amounts[axis] = (0, after)
    return pad_constant(x, amounts, 0.0)


def _by_heads(x: Tensor, heads: int) -> Tensor:
    """(N, L, heads * width) as (N, heads, L, width)."""
    batch, length, width = x.array.shape
    return x.reshape((batch, length, heads, width // heads)).transpose(1, 2)


def _merged_mask(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, q: Tensor, k: Tensor, appended: int
) -> Tensor | None:
    """Numbers to be added to the scores (N, heads, L, S), 0 for keys that were appended; None: no mask."""
    batch, heads, length, _ = q.array.shape
    source = k.array.shape[-2] - appended
    total = None
    if attn_mask is not None:
        shape = tuple(attn_mask.array.shape)
        expected = (length, source) if len(shape) == 2 else (batch * heads, length, source)
        if shape != expected:
            raise RuntimeError(
                f"The shape of the {len(shape)}D attn_mask is {shape}, but should be {expected}"
            )
        split = (1, 1) if len(shape) == 2 else (batch, heads)
        total = _additive(attn_mask, q).reshape((*split, length, source))
    if key_padding_mask is not None:
        shape = tuple(key_padding_mask.array.shape)
        if shape != (batch, source):
            raise AssertionError(f"expecting key_padding_mask shape of {(batch, source)}, but got {shape}")
        padding = _additive(key_padding_mask, q).reshape((batch, 1, 1, source))
        total = padding if total is None else total + padding
    return total if total is None or not appended else _padded(total, -1, appended)


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as numbers: -infinity for true, 0 for false."""
    if mask.array.dtype != dtypes.BOOL:
        return mask
    return where(mask, -math.inf, 0.0).to(like.dtype)
