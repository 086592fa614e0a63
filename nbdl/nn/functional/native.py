"""PyTorch's other copies of these functions: ``torch.layer_norm`` beside ``torch.nn.functional.layer_norm``.

They have the arguments of its C++: in another order, reductions and modes as numbers, and switches of CUDA's
libraries among them. Traced and translated programs contain them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn.functional.dropout import feature_dropout as _feature_dropout
from nbdl.nn.functional.embedding import limit_rows
from nbdl.nn.functional.reduction import REDUCTIONS
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.matrix_functions import vector_norm

__all__ = [
    "adaptive_max_pool1d", "affine_grid_generator", "alpha_dropout", "alpha_dropout_", "batch_norm",
    "binary_cross_entropy_with_logits", "constant_pad_nd", "convolution", "cosine_embedding_loss", "ctc_loss",
    "dropout", "dropout_", "embedding", "embedding_renorm_", "feature_alpha_dropout",
    "feature_alpha_dropout_", "feature_dropout", "feature_dropout_", "grid_sampler", "grid_sampler_2d",
    "grid_sampler_3d", "group_norm", "hinge_embedding_loss", "instance_norm", "kl_div", "layer_norm",
    "margin_ranking_loss", "norm_except_dim", "poisson_nll_loss", "triplet_margin_loss",
]  # fmt: skip

_IGNORED = ("cudnn_enabled", "cudnn_enable", "sparse")


def _ordered(
    function: Callable[..., Any], order: str, name: str | None = None, **fixed: Any
) -> Callable[..., Any]:
    """``function`` with the positional arguments of ``order``, ``theirs:ours`` where names differ."""
    pairs = [entry.partition(":")[::2] for entry in order.split()]
    ours = {theirs: own or theirs for theirs, own in pairs}
    label = name or function.__name__

    def native(*args: Any, **kwargs: Any) -> Any:
        if len(args) > len(ours):
            raise TypeError(f"{label}() takes at most {len(ours)} positional arguments ({len(args)} given)")
        given = dict(zip(ours, args)) | kwargs
        values = {ours.get(key, key): value for key, value in given.items() if key not in _IGNORED}
        reduction = values.get("reduction")
        if isinstance(reduction, int):
            if not 0 <= reduction < len(REDUCTIONS):
                raise ValueError(f"{label}: reduction must be 0 (none), 1 (mean) or 2 (sum), got {reduction}")
            values["reduction"] = REDUCTIONS[reduction]
        return function(**values, **fixed)

    native.__name__ = native.__qualname__ = label
    native.__doc__ = f":func:`nbdl.nn.functional.{function.__name__}` of ({', '.join(ours)})."
    return native


_DROPOUT = "input p train:training"
alpha_dropout = _ordered(F.alpha_dropout, _DROPOUT)
alpha_dropout_ = _ordered(F.alpha_dropout, _DROPOUT, "alpha_dropout_", inplace=True)
dropout = _ordered(F.dropout, _DROPOUT)
dropout_ = _ordered(F.dropout, _DROPOUT, "dropout_", inplace=True)
feature_alpha_dropout = _ordered(F.feature_alpha_dropout, _DROPOUT)
feature_alpha_dropout_ = _ordered(F.feature_alpha_dropout, _DROPOUT, "feature_alpha_dropout_", inplace=True)

_NORM = "input weight bias running_mean running_var {} momentum eps cudnn_enabled"
batch_norm = _ordered(F.batch_norm, _NORM.format("training"))
instance_norm = _ordered(F.instance_norm, _NORM.format("use_input_stats"))
group_norm = _ordered(F.group_norm, "input num_groups weight bias eps cudnn_enabled")
layer_norm = _ordered(F.layer_norm, "input normalized_shape weight bias eps cudnn_enable")

binary_cross_entropy_with_logits = _ordered(
    F.binary_cross_entropy_with_logits, "input target weight pos_weight reduction"
)
cosine_embedding_loss = _ordered(F.cosine_embedding_loss, "input1 input2 target margin reduction")
ctc_loss = _ordered(
    F.ctc_loss, "log_probs targets input_lengths target_lengths blank reduction zero_infinity"
)
hinge_embedding_loss = _ordered(F.hinge_embedding_loss, "input target margin reduction")
kl_div = _ordered(F.kl_div, "input target reduction")
margin_ranking_loss = _ordered(F.margin_ranking_loss, "input1 input2 target margin reduction")
poisson_nll_loss = _ordered(F.poisson_nll_loss, "input target log_input full eps reduction")
triplet_margin_loss = _ordered(F.triplet_margin_loss, "anchor positive negative margin p eps swap reduction")


def feature_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """Dropout of whole channels of (N, C, ...)."""
    return _feature_dropout(input, p, train)


def feature_dropout_(input: Tensor, p: float, train: bool) -> Tensor:
    """:func:`feature_dropout` in place."""
    return _feature_dropout(input, p, train, True)


def embedding(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """:func:`nbdl.nn.functional.embedding` with the table first; -1: no padding."""
    unused = None if padding_idx < 0 else padding_idx
    return F.embedding(indices, weight, unused, scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)


def embedding_renorm_(input: Tensor, indices: Tensor, max_norm: float, norm_type: float) -> Tensor:
    """Scale down those of the rows at ``indices`` whose norm exceeds ``max_norm``, in place."""
    limit_rows(input, indices, max_norm, norm_type)
    return input


@numpy_keywords
def norm_except_dim(v: Tensor, pow: int = 2, dim: int = 0) -> Tensor:
    """The ``pow``-norm of every slice along ``dim``, broadcastable with ``v``; of all if dim is -1."""
    if dim == -1:
        return vector_norm(v, pow)
    return vector_norm(v, pow, [axis for axis in range(v.array.ndim) if axis != dim], True)


def constant_pad_nd(input: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    """:func:`nbdl.nn.functional.pad` with a constant."""
    return F.pad(input, pad, "constant", value)


def adaptive_max_pool1d(input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    """:func:`nbdl.nn.functional.adaptive_max_pool1d` with the positions of the maxima."""
    return F.adaptive_max_pool1d(input, output_size, return_indices=True)


def affine_grid_generator(theta: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """:func:`nbdl.nn.functional.affine_grid`."""
    return F.affine_grid(theta, size, align_corners)


def grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """:func:`nbdl.nn.functional.grid_sample`; modes are their places in its lists of modes."""
    return F.grid_sample(
        input,
        grid,
        list(F.GRID_SAMPLE_INTERPOLATION_MODES)[interpolation_mode],
        list(F.GRID_SAMPLE_PADDING_MODES)[padding_mode],
        align_corners,
    )


grid_sampler_2d = grid_sampler_3d = grid_sampler


def convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    """Convolution, or transposed convolution, over as many axes as ``weight`` has behind the first two.

    Raises:
        RuntimeError: they are not 1 to 3.
    """
    rank = weight.array.ndim - 2
    if rank not in (1, 2, 3):
        raise RuntimeError(f"convolution: weight must have 3 to 5 axes, got shape {list(weight.shape)}")
    if transposed:
        function = getattr(F, f"conv_transpose{rank}d")
        return function(input, weight, bias, stride, padding, output_padding, groups, dilation)
    return getattr(F, f"conv{rank}d")(input, weight, bias, stride, padding, dilation, groups)
