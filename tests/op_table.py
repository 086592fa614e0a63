"""Every public operation as a line; `op_samples.py` says what a line means, `test_op_table.py` checks it."""

from __future__ import annotations

from typing import Any

from op_samples import Op, between, bools, distinct, each, ints, op, positive, real
from op_table_functions import FUNCTION_LINES, FUNCTION_OTHERS
from op_table_indexing import INDEXING_LINES

import nbdl


def unpooled(functional: Any, n: int, x: Any) -> Any:
    """max_unpool of what max_pool chose."""
    values, indices = getattr(functional, f"max_pool{n}d")(x, 2, return_indices=True)
    return getattr(functional, f"max_unpool{n}d")(values, indices, 2)


def twin_functional() -> Any:
    """PyTorch's functions, asked for late since it need not be installed."""
    import torch

    return torch.nn.functional


ELEMENTARY: list[Op] = [
    *each(
        "exp expm1 sin cos sinh cosh tanh asinh atan sigmoid erf erfc sinc square negative neg", real(3, 4)
    ),
    *each("deg2rad rad2deg exp2 abs absolute relu frac arctan arcsinh expit", real(3, 4), twin=None),
    *each("log log2 log10 log1p sqrt rsqrt reciprocal", positive(3, 4)),
    op("cbrt", positive(3, 4), twin=None),
    *each("asin acos atanh erfinv", between(-0.8, 0.8, 3, 4)),
    *each("arcsin arccos arctanh", between(-0.8, 0.8, 3, 4)),
    *each("acosh arccosh", between(1.2, 3.0, 3, 4)),
    op("tan", between(-1.2, 1.2, 3, 4)),
    op("logit", between(0.1, 0.9, 3, 4)),
    op("logit", between(0.1, 0.9, 3, 4), eps=0.2),
    op("lgamma", between(1.2, 3.0, 3, 4), scale=4),
    op("digamma", between(2.0, 4.0, 3, 4), scale=4),
    # PyTorch's polygamma is right to 9 digits only.
    op("polygamma", 1, between(1.0, 4.0, 3, 4), scale=4, twin=None),
    op("polygamma", 2, between(1.0, 4.0, 3, 4), scale=4, twin=None),
    *each("sign floor ceil trunc fix round", real(3, 4)),
    op("round", real(3, 4), decimals=1, orders=1, half=False),
    op("nan_to_num", real(3, 4)),
    op("signbit", real(3, 4), orders=0),
    *each("isnan isinf isfinite logical_not", real(3, 4), orders=0),
    *each("bitwise_not", ints(-9, 9, 3, 4), orders=0),
    op("clamp", distinct(3, 4), -0.9, 0.8),
    op("clamp", distinct(3, 4), min=-0.9),
    op("clamp", distinct(3, 4), max=0.8),
    op("clamp", distinct(3, 4), between(-0.8, -0.6, 4), between(0.6, 0.7, 3, 1)),
    op("clip", distinct(3, 4), -0.9, 0.8),
]

BINARY: list[Op] = [
    *each("add sub subtract mul multiply div divide true_divide", real(3, 4), real(3, 4)),
    *each("add subtract multiply divide maximum minimum", real(2, 1, 4), real(3, 1)),
    *each("add subtract multiply divide", real(3, 4), 1.5),
    *each("add subtract multiply divide atan2 hypot", real(3, 4), real()),
    op("add", real(3, 4), real(4), alpha=2.5),
    op("sub", real(3, 4), real(4), alpha=2.5),
    op("div", real(3, 4), real(3, 4), rounding_mode="floor", orders=1),
    op("div", real(3, 4), real(3, 4), rounding_mode="trunc", orders=1),
    op("pow", positive(3, 4), real(3, 4)),
    op("pow", real(3, 4), 2),
    op("pow", real(3, 4), 3),
    op("pow", real(3, 4), -2),
    op("pow", positive(3, 4), -1.0),
    op("pow", positive(3, 4), 0.5),
    op("pow", 1.7, real(3, 4)),
    op("float_power", ints(1, 9, 3, 4), ints(0, 3, 3, 4), orders=0),
    *each("atan2 arctan2 hypot logaddexp logaddexp2 copysign", real(3, 4), real(3, 4)),
    *each("maximum minimum fmax fmin", distinct(3, 4), distinct(3, 4)),
    *each("maximum minimum fmax fmin", distinct(3, 4), between(0.1, 0.2, 4)),
    *each("remainder fmod", distinct(3, 4), between(0.6, 0.7, 3, 4), half=False),
    op("floor_divide", distinct(3, 4), between(0.6, 0.7, 3, 4), orders=1, half=False),
    op("xlogy", real(3, 4), positive(3, 4)),
    op("xlog1py", real(3, 4), positive(3, 4), twin="special.xlog1py"),
    op("heaviside", real(3, 4), real(4), orders=1),
    op("nextafter", real(3, 4), real(3, 4), orders=0, half=False),
    *each(
        "eq ne lt le gt ge not_equal less less_equal greater greater_equal",
        ints(0, 3, 3, 4),
        ints(0, 3, 4),
        orders=0,
    ),
    *each("logical_and logical_or logical_xor", ints(0, 2, 3, 4), ints(0, 2, 3, 4), orders=0),
    *each("bitwise_and bitwise_or bitwise_xor", ints(0, 9, 3, 4), ints(0, 9, 4), orders=0),
    *each("bitwise_left_shift bitwise_right_shift", ints(1, 50, 3, 4), ints(0, 4, 4), orders=0),
    op("isclose", real(3, 4), real(3, 4), orders=0),
    op("where", bools(3, 4), real(3, 4), real(4)),
    op("where", bools(3, 1), real(3, 4), 0.5),
    op("lerp", real(3, 4), real(3, 4), 0.3),
    op("lerp", real(3, 4), real(3, 4), real(4)),
    op("addcmul", real(3, 4), real(3, 4), real(4), value=0.7),
    op("addcdiv", real(3, 4), real(3, 4), positive(4), value=0.7),
]

REDUCTIONS: list[Op] = [
    *each("sum mean prod", real(3, 4)),
    *each("sum mean prod", real(2, 3, 4), dim=1),
    *each("sum mean prod", real(2, 3, 4), dim=-1, keepdim=True),
    *each("sum mean", real(2, 3, 4), dim=(0, 2)),
    *each("amax amin logsumexp", distinct(2, 3, 4), dim=(0, 2)),
    *each("amax amin logsumexp", distinct(2, 3, 4), dim=1, keepdim=True),
    *each("sum mean", real()),
    op("max", distinct(3, 4)),
    op("min", distinct(3, 4)),
    op("max", distinct(3, 4), dim=1),
    op("min", distinct(3, 4), dim=0, keepdim=True),
    op("max", distinct(3, 4), distinct(4)),
    *each("median", distinct(3, 5), dim=1),
    *each("argmax argmin", distinct(3, 4), orders=0),
    *each("argmax argmin", distinct(3, 4), dim=1, keepdim=True, orders=0),
    *each("any all", ints(0, 2, 3, 4), dim=1, orders=0),
    *each("any all", ints(0, 2, 3, 4), orders=0),
    *each("var std", real(3, 4)),
    *each("var std", real(2, 3, 4), dim=1, keepdim=True),
    *each("var std", real(2, 3, 4), dim=(0, 2), correction=0),
    *each("var_mean", real(2, 3, 4), dim=1),
    op("norm", real(3, 4)),
    op("norm", real(3, 4), p=1, dim=1),
    op("norm", real(3, 4), p=3, dim=0, keepdim=True),
    op("norm", distinct(3, 4), p=float("inf"), dim=1),
    *each("aminmax", distinct(3, 4), dim=1),
    op("std_mean", real(2, 3, 4), dim=1),
    op("count_nonzero", ints(0, 2, 3, 4), dim=1, orders=0),
    op("nansum", real(3, 4), dim=1),
    op("nanmean", real(3, 4), dim=1),
]

PRODUCTS: list[Op] = [
    op("matmul", real(3, 4), real(4, 5)),
    op("matmul", real(4), real(4)),
    op("matmul", real(3, 4), real(4)),
    op("matmul", real(4), real(4, 5)),
    op("matmul", real(2, 3, 4), real(4, 5)),
    op("matmul", real(2, 3, 4), real(2, 4, 5)),
    op("matmul", real(3, 4), real(2, 4, 5)),
    op("matmul", real(2, 1, 3, 4), real(3, 4, 2)),
    op("matmul", real(2, 3, 4), real(4)),
    op("matmul", real(4), real(2, 4, 3)),
    op("mm", real(3, 4), real(4, 5)),
    op("bmm", real(2, 3, 4), real(2, 4, 5)),
    op("mv", real(3, 4), real(4)),
    op("dot", real(4), real(4)),
    op("linear", real(3, 4), real(5, 4), real(5), twin="F.linear"),
    op("linear", real(2, 3, 4), real(5, 4), twin="F.linear"),
    op("linear", real(4), real(5, 4), real(5), twin="F.linear"),
]

SHAPES: list[Op] = [
    op("reshape", real(3, 4), (2, 6)),
    op("reshape", real(3, 4), (-1,)),
    op(".view", real(3, 4), 4, 3, strided=False),
    op("permute", real(2, 3, 4), (2, 0, 1)),
    op("transpose", real(2, 3, 4), 0, 2),
    op("movedim", real(2, 3, 4), 0, 2),
    op("t", real(3, 4)),
    op(".expand", real(3, 1), 2, 3, 4),
    op("broadcast_to", real(3, 1), (2, 3, 4)),
    op("squeeze", real(3, 1, 4, 1)),
    op("squeeze", real(3, 1, 4), 1),
    op("unsqueeze", real(3, 4), 1),
    op("flatten", real(2, 3, 4), 1),
    op("unflatten", real(3, 4), 1, (2, 2)),
    op("ravel", real(3, 4)),
    op("narrow", real(3, 4), 1, 1, 2),
    op("select", real(3, 4), 1, 2),
    op("diagonal", real(3, 4), 1),
    op("diagonal", real(2, 3, 4), -1, 1, 2),
    op("clone", real(3, 4)),
    op(".contiguous", real(3, 4)),
    op("tril", real(3, 4), 1),
    op("triu", real(3, 4), -1),
    op("matrix_transpose", real(2, 3, 4), twin=lambda x: x.mT),
    op("diagflat", real(2, 2), 1),
    op("tril_indices", 3, 4, 1, orders=0),
    op("triu_indices", 3, 4, -1, orders=0),
    op("diag", real(3)),
    op("diag", real(3, 4), 1),
    op("diag_embed", real(2, 3)),
]

JOINING: list[Op] = [
    *each("concat concatenate", [real(2, 3), real(4, 3)], dim=0),
    op("broadcast_tensors", real(3, 1), real(4)),
    op("meshgrid", real(3), real(2), indexing="ij"),
    op("cat", [real(2, 3), real(4, 3)], dim=0),
    op("cat", [real(2, 3), real(2, 1), real(2, 2)], dim=-1),
    op("stack", [real(2, 3), real(2, 3)], dim=1),
    op("hstack", [real(2, 3), real(2, 1)]),
    op("vstack", [real(2, 3), real(1, 3)]),
    op("dstack", [real(2, 3), real(2, 3)]),
    op("split", real(5, 3), 2),
    op("split", real(5, 3), [1, 4], dim=0),
    op("chunk", real(5, 3), 2, dim=0),
    op("unbind", real(3, 4), dim=1),
    op("tensor_split", real(5, 3), 3),
    op("flip", real(3, 4), (0, 1)),
    op("fliplr", real(3, 4)),
    op("flipud", real(3, 4)),
    op("roll", real(3, 4), 1, 0),
    op("roll", real(3, 4), (1, -2), (0, 1)),
    op("rot90", real(3, 4)),
    op("tile", real(3, 4), (2, 1)),
    op(".repeat", real(3, 4), 2, 1, 2),
    op("repeat_interleave", real(3, 4), 2, dim=1),
]

INDEXING: list[Op] = [
    op("x[1:, ::2]", real(3, 4), call=lambda x: x[1:, ::2], twin=lambda x: x[1:, ::2]),
    op("x[:, None, 1]", real(3, 4), call=lambda x: x[:, None, 1], twin=lambda x: x[:, None, 1]),
    op("x[..., -1]", real(2, 3, 4), call=lambda x: x[..., -1], twin=lambda x: x[..., -1]),
    op("x[i]", real(5, 3), ints(0, 5, 4), call=lambda x, i: x[i], twin=lambda x, i: x[i]),
    op("x[:, i]", real(2, 5, 3), ints(0, 5, 2, 2), call=lambda x, i: x[:, i], twin=lambda x, i: x[:, i]),
    op(
        "x[i, :, i]", real(3, 4, 3), ints(0, 3, 5), call=lambda x, i: x[i, :, i], twin=lambda x, i: x[i, :, i]
    ),
    op("x[mask]", real(3, 4), bools(3, 4), call=lambda x, m: x[m], twin=lambda x, m: x[m]),
    op(
        "index_put",
        real(3, 4),
        ints(0, 3, 5),
        real(5, 4),
        accumulate=True,
        call=lambda x, i, v, **options: nbdl.index_put(x, (i,), v, **options),
        twin=lambda x, i, v, **options: x.index_put((i,), v, **options),
    ),
    op("scatter_reduce", distinct(3, 4), 0, ints(0, 3, 2, 4), distinct(2, 4), "sum"),
    op("scatter_reduce", distinct(3, 4), 0, ints(0, 3, 2, 4), distinct(2, 4), "amax"),
    op("scatter_reduce", positive(3, 4), 0, ints(0, 3, 2, 4), positive(2, 4), "mean", include_self=False),
    op("index_copy", real(3, 4), 0, ints(1, 2, 1), real(1, 4)),
    op("masked_scatter", real(3, 4), bools(3, 4), real(12)),
    op("one_hot", ints(0, 4, 3), 5, orders=0, twin="F.one_hot"),
    op("take_rows", real(5, 3), ints(0, 5, 2, 2), twin=lambda x, i: x[i]),
    op("argwhere", ints(0, 2, 3, 4), orders=0),
    op("nonzero", ints(0, 2, 3, 4), orders=0),
    op("gather", real(3, 4), 1, ints(0, 4, 3, 2)),
    op("index_select", real(3, 4), 1, ints(0, 4, 3)),
    op("scatter", real(3, 4), 0, ints(0, 1, 1, 4), real(1, 4)),
    op("scatter_add", real(3, 4), 0, ints(0, 3, 2, 4), real(2, 4)),
    op("index_add", real(3, 4), 0, ints(0, 3, 5), real(5, 4)),
    op("take", real(3, 4), ints(0, 12, 5)),
    op("take_along_dim", real(3, 4), ints(0, 4, 3, 2), 1),
    op("masked_fill", real(3, 4), bools(3, 4), 0.5),
    op("masked_select", real(3, 4), bools(3, 4)),
    op(".index_fill", real(3, 4), 1, ints(0, 4, 2), 0.5),
]

SCANS: list[Op] = [
    *each("cumsum cumprod logcumsumexp", real(3, 4), dim=1),
    *each("cumsum cumprod", real(2, 3, 4), dim=0),
    *each("cummax cummin", distinct(3, 4), dim=1),
    op("linear_scan", real(3, 5), real(3, 5), twin=None),
    op("linear_scan", real(5, 3), real(3), dim=0, reverse=True, twin=None),
    op("diff", real(3, 4)),
    op("diff", real(3, 4), n=2, dim=0),
]

SORTING: list[Op] = [
    op("sort", distinct(3, 4)),
    op("sort", distinct(3, 4), dim=0, descending=True),
    op("argsort", distinct(3, 4), orders=0),
    op("topk", distinct(3, 5), 2),
    op("topk", distinct(3, 5), 2, dim=0, largest=False),
    op("kthvalue", distinct(3, 5), 2),
    op("mode", ints(0, 3, 3, 5), dim=1, orders=0),
    op("nanmedian", distinct(3, 5), dim=1),
    op("bucketize", real(3, 4), between(-0.1, 0.1, 1, constant=True), orders=0, half=False),
    op("unique", ints(0, 5, 3, 4), return_inverse=True, return_counts=True, orders=0),
    op("unique_consecutive", ints(0, 2, 9), return_counts=True, orders=0),
    op("msort", distinct(3, 4)),
    op(
        "searchsorted",
        between(0, 1, 5, constant=True),
        real(3),
        orders=0,
        call=lambda s, v: nbdl.searchsorted(s.sort()[0], v),
        twin=None,
    ),
]

SOFTMAX: list[Op] = [
    *each("softmax log_softmax", real(3, 4), dim=1),
    *each("softmax log_softmax", real(2, 3, 4), dim=1),
]

ACTIVATIONS: list[Op] = [
    *each(
        "F.relu F.relu6 F.elu F.selu F.celu F.silu F.mish F.softplus F.softsign F.tanhshrink F.logsigmoid"
        " F.hardsigmoid F.hardswish F.gelu F.leaky_relu F.hardtanh F.softshrink F.hardshrink F.sigmoid"
        " F.tanh",
        distinct(3, 5),
    ),
    op("F.gelu", real(3, 4), approximate="tanh"),
    op("F.softplus", real(3, 4), beta=2.0, threshold=3.0),
    op("F.leaky_relu", real(3, 4), 0.2),
    op("F.threshold", distinct(3, 4), 0.1, 5.0),
    op("F.prelu", real(3, 4), real(4)),
    op("F.glu", real(3, 4), dim=1),
    *each("F.softmax F.log_softmax F.softmin", real(3, 4), dim=1),
    op("F.normalize", real(3, 4)),
    op("F.cosine_similarity", real(3, 4), real(3, 4)),
    op("F.pairwise_distance", real(3, 4), real(3, 4)),
    op("F.bilinear", real(3, 4), real(3, 2), real(5, 4, 2), real(5)),
    op("F.linear", real(3, 4), real(5, 4), real(5)),
    op("F.scaled_dot_product_attention", real(2, 3, 4), real(2, 5, 4), real(2, 5, 3)),
]

LOSSES: list[Op] = [
    op("F.cross_entropy", real(4, 5), ints(0, 5, 4)),
    op("F.cross_entropy", real(4, 5), ints(0, 5, 4), label_smoothing=0.1, reduction="none"),
    op("F.cross_entropy", real(4, 5), ints(0, 5, 4), positive(5, constant=True), reduction="sum"),
    op("F.cross_entropy", real(2, 5, 3), ints(0, 5, 2, 3), ignore_index=1),
    op("F.cross_entropy", real(4, 5), between(0.1, 0.3, 4, 5)),
    op("F.nll_loss", real(4, 5), ints(0, 5, 4)),
    *each("F.mse_loss F.l1_loss F.smooth_l1_loss F.huber_loss", distinct(3, 4), real(3, 4)),
    *each("F.mse_loss F.l1_loss", distinct(3, 4), real(3, 4), reduction="none"),
    op("F.binary_cross_entropy", between(0.1, 0.9, 3, 4), between(0.1, 0.9, 3, 4, constant=True)),
    op("F.binary_cross_entropy_with_logits", real(3, 4), between(0.1, 0.9, 3, 4, constant=True)),
    op("F.kl_div", real(3, 4), positive(3, 4), reduction="batchmean"),
    op("F.poisson_nll_loss", real(3, 4), positive(3, 4)),
    op("F.gaussian_nll_loss", real(3, 4), real(3, 4), positive(3, 4)),
    op("F.hinge_embedding_loss", distinct(3, 4), between(1, 1, 3, 4, constant=True)),
    op("F.cosine_embedding_loss", real(3, 4), real(3, 4), between(1, 1, 3, constant=True)),
    op("F.multilabel_soft_margin_loss", real(3, 4), between(0.1, 0.9, 3, 4, constant=True)),
    op("F.multilabel_margin_loss", real(2, 3), ints(-1, 0, 2, 3)),
    op("F.triplet_margin_with_distance_loss", real(3, 4), real(3, 4), real(3, 4)),
    op("F.pdist", real(4, 3)),
    op("F.soft_margin_loss", real(3, 4), real(3, 4, constant=True)),
    op("F.margin_ranking_loss", distinct(5), real(5), real(5, constant=True)),
    op("F.triplet_margin_loss", real(3, 4), real(3, 4), real(3, 4)),
    op("F.multi_margin_loss", real(3, 4), ints(0, 4, 3)),
]

CONVOLUTIONS: list[Op] = [
    op("F.conv1d", real(2, 4, 7), real(6, 2, 3), real(6), stride=2, padding=1, groups=2),
    op("F.conv2d", real(2, 3, 5, 6), real(4, 3, 3, 2), real(4), padding=1),
    op("F.conv2d", real(1, 2, 7, 6), real(3, 2, 2, 3), stride=(2, 1), dilation=(1, 2)),
    op("F.conv2d", real(1, 2, 5, 5), real(2, 2, 3, 3), padding="same"),
    op("F.conv3d", real(1, 2, 4, 4, 4), real(2, 2, 2, 3, 2), real(2), padding=1),
    op("F.conv_transpose1d", real(2, 3, 5), real(3, 2, 3), real(2), stride=2, padding=1, output_padding=1),
    op("F.conv_transpose2d", real(1, 4, 3, 4), real(4, 2, 3, 3), stride=2, groups=2, dilation=(2, 1)),
    op("F.unfold", real(1, 2, 4, 5), 2),
    op("F.fold", real(1, 8, 12), (4, 5), 2),
    op("F.max_pool1d", distinct(2, 3, 8), 2),
    op("F.max_pool2d", distinct(1, 2, 6, 7), 3, stride=2, padding=1),
    op("F.max_pool2d", distinct(1, 2, 5, 5), 2, ceil_mode=True),
    op("F.max_pool3d", distinct(1, 2, 4, 4, 4), 2),
    op("F.avg_pool1d", real(2, 3, 8), 3, 2, 1),
    op("F.avg_pool2d", real(1, 2, 5, 6), 2, ceil_mode=True, count_include_pad=False),
    op("F.adaptive_avg_pool2d", real(1, 2, 5, 7), (2, 3)),
    op("F.adaptive_max_pool2d", distinct(1, 2, 5, 7), (2, 3)),
    op("F.lp_pool2d", positive(1, 2, 4, 4), 2, 2),
    op("F.pad", real(2, 3, 4), (1, 2)),
    *[
        op("F.pad", real(2, 3, 4, 5), (1, 2, 2, 1), mode=mode)
        for mode in ("constant", "reflect", "replicate", "circular")
    ],
    op("F.conv_transpose3d", real(1, 2, 2, 3, 2), real(2, 2, 2, 2, 2), real(2), stride=2),
    op("F.avg_pool3d", real(1, 2, 4, 4, 4), 2),
    op("F.adaptive_avg_pool1d", real(1, 2, 5), 3),
    op("F.adaptive_avg_pool3d", real(1, 2, 4, 5, 3), 2),
    op("F.adaptive_max_pool1d", distinct(1, 2, 5), 3),
    op("F.adaptive_max_pool3d", distinct(1, 2, 4, 5, 3), 2),
    op("F.lp_pool1d", positive(1, 2, 6), 3, 2),
    op("F.lp_pool3d", positive(1, 2, 4, 4, 4), 2, 2),
    *[
        op(
            f"F.max_unpool{n}d",
            distinct(1, 2, *[4] * n),
            twin=lambda x, n=n: unpooled(twin_functional(), n, x),
            call=lambda x, n=n: unpooled(nbdl.nn.functional, n, x),
        )
        for n in (1, 2, 3)
    ],
    op("F.channel_shuffle", real(1, 4, 2, 3), 2),
    op("F.pixel_shuffle", real(1, 8, 2, 3), 2),
    op("F.pixel_unshuffle", real(1, 2, 4, 6), 2),
]

NORMALIZATIONS: list[Op] = [
    op("F.layer_norm", real(3, 4, 5), (4, 5), real(4, 5), real(4, 5), scale=4),
    op("F.layer_norm", real(3, 6), (6,), scale=4),
    op("F.group_norm", real(2, 4, 3), 2, real(4), real(4), scale=4),
    op("F.rms_norm", real(3, 6), (6,), real(6), scale=4),
    op("F.instance_norm", real(2, 3, 4), scale=4),
    op("F.batch_norm", real(4, 3, 2), None, None, real(3), real(3), training=True, scale=4),
    op(
        "F.batch_norm",
        real(4, 3),
        real(3, constant=True),
        positive(3, constant=True),
        real(3),
        real(3),
        scale=4,
    ),
    op("F.embedding", ints(0, 5, 2, 3), real(5, 4)),
    op("F.local_response_norm", positive(1, 5, 3), 3, scale=4),
    op("F.one_hot", ints(0, 4, 3), 5, orders=0),
]

TABLE: list[Op] = [
    *ELEMENTARY, *BINARY, *REDUCTIONS, *PRODUCTS, *SHAPES, *JOINING, *INDEXING, *INDEXING_LINES, *SCANS,
    *SORTING, *SOFTMAX, *ACTIVATIONS,
    *LOSSES, *CONVOLUTIONS, *NORMALIZATIONS, *FUNCTION_LINES,
]  # fmt: skip

# Public functions that are no operations of this table: they make tensors, draw numbers, ask or convert.
OTHERS = {
    "allclose", "arange", "argwhere", "as_tensor", "asarray", "bernoulli", "cpu", "cuda", "empty",
    "empty_like", "equal", "eye", "finfo", "from_dlpack", "from_numpy", "full", "full_like", "iinfo",
    "is_floating_point", "is_tensor", "linspace", "logspace", "multinomial", "new_full", "new_ones",
    "new_tensor", "new_zeros", "normal", "ones", "ones_like", "pointwise", "promote_types", "rand",
    "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm", "result_type", "tensor",
    "to", "type_as", "zeros", "zeros_like", "F.alpha_dropout", "F.dropout", "F.dropout1d", "F.dropout2d",
    "F.dropout3d", "F.feature_alpha_dropout", "F.gumbel_softmax", "F.multi_head_attention_forward",
    "F.rrelu", *FUNCTION_OTHERS,
    # tests/torch_names/test_native.py and tests/distributions
    "binomial", "from_file", "histogramdd", "istft", "lu", "pca_lowrank", "poisson", "segment_reduce", "stft",
    "svd_lowrank",
}  # fmt: skip
