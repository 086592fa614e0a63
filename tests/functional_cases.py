"""The calls of nn.functional that `nn/test_functional.py` compares with PyTorch, one a line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """A call of one function.

    Attributes:
        name: the function, of the same name in PyTorch.
        operands: makes the array operands from a random generator; floats get gradients.
        options: keyword arguments; a float array among them becomes a tensor without gradient.
        order: how many derivatives are compared.
    """

    name: str
    operands: Callable[[np.random.Generator], tuple]
    options: dict[str, Any] = {}  # noqa: RUF012  (never changed)
    order: int = 2

    def __repr__(self) -> str:
        options = ",".join(
            f"{k}={v if np.ndim(v) == 0 or isinstance(v, tuple) else '...'}" for k, v in self.options.items()
        )
        return f"{self.name}({options})"


def normal(*shapes: tuple[int, ...]) -> Callable:
    return lambda rng: tuple(rng.normal(size=shape) for shape in shapes)


def spread(*shape: int) -> Callable:
    """Distinct values well away from each other, so that no maximum is a tie."""
    return lambda rng: (rng.permutation(math.prod(shape)).reshape(shape) * 0.37 - 1,)


def mixed(*makers: Callable) -> Callable:
    return lambda rng: tuple(array for maker in makers for array in maker(rng))


def uniform(low: float, high: float, *shapes: tuple[int, ...]) -> Callable:
    return lambda rng: tuple(rng.uniform(low, high, shape) for shape in shapes)


def integers(low: int, high: int, *shape: int) -> Callable:
    return lambda rng: (rng.integers(low, high, shape),)


def constant(values: Any, dtype: Any = None) -> Callable:
    return lambda rng: (np.array(values, dtype),)


def signs(*shape: int) -> Callable:
    return lambda rng: (rng.integers(0, 2, shape) * 2 - 1.0,)


POINTS = constant([-40.0, -6.2, -3.1, -1.0, -0.6, -0.2, 0.3, 0.7, 1.0, 2.9, 6.1, 25.0])

ACTIVATIONS = [
    Case(name, POINTS, options)
    for name, options in [
        ("relu", {}),
        ("relu6", {}),
        ("leaky_relu", {}),
        ("leaky_relu", {"negative_slope": 0.2}),
        ("elu", {}),
        ("elu", {"alpha": 0.7}),
        ("selu", {}),
        ("celu", {}),
        ("celu", {"alpha": 1.7}),
        ("gelu", {}),
        ("gelu", {"approximate": "tanh"}),
        ("silu", {}),
        ("mish", {}),
        ("softplus", {}),
        ("softplus", {"beta": 2.0, "threshold": 5.0}),
        ("softsign", {}),
        ("tanhshrink", {}),
        ("softshrink", {}),
        ("softshrink", {"lambd": 0.25}),
        ("hardshrink", {}),
        ("hardtanh", {}),
        ("hardtanh", {"min_val": -0.5, "max_val": 2.0}),
        ("hardswish", {}),
        ("logsigmoid", {}),
        ("sigmoid", {}),
        ("tanh", {}),
        ("rrelu", {}),
        ("threshold", {"threshold": 0.5, "value": 3.0}),
    ]
] + [
    Case("hardsigmoid", POINTS, {}, 1),
    Case("glu", normal((3, 4)), {}),
    Case("glu", normal((3, 4, 2)), {"dim": 1}),
    Case("prelu", normal((3, 4, 2), (4,)), {}),
    Case("prelu", normal((3, 4), (1,)), {}),
    Case("prelu", normal((5,), (1,)), {}),
    Case("softmax", normal((3, 4)), {"dim": 1}),
    Case("softmax", normal((3, 4, 2)), {"dim": -2}),
    Case("softmin", normal((3, 4)), {"dim": 0}),
    Case("log_softmax", normal((3, 4)), {"dim": 1}),
    Case("log_softmax", normal((2, 3, 4)), {"dim": 0}),
]

PAIR = normal((3, 4), (3, 4))
REDUCTIONS = ("none", "mean", "sum")


def with_reductions(
    name: str, operands: Callable, options: dict[str, Any] | None = None, order: int = 2
) -> list[Case]:
    return [
        Case(name, operands, {**(options or {}), "reduction": reduction}, order) for reduction in REDUCTIONS
    ]


WEIGHTS = np.linspace(0.5, 2, 12).reshape(3, 4)
POSITIVE = np.array([0.5, 2.0, 1.5, 0.7])
LOSSES = [
    *with_reductions("mse_loss", PAIR),
    *with_reductions("l1_loss", PAIR),
    *with_reductions("smooth_l1_loss", PAIR),
    *with_reductions("smooth_l1_loss", PAIR, {"beta": 0.4}),
    Case("smooth_l1_loss", PAIR, {"beta": 0}),
    *with_reductions("huber_loss", PAIR, {"delta": 0.6}),
    *with_reductions("mse_loss", PAIR, {"weight": WEIGHTS}),
    *with_reductions("poisson_nll_loss", mixed(normal((3, 4)), uniform(0.1, 5, (3, 4)))),
    Case("poisson_nll_loss", uniform(0.1, 5, (3, 4), (3, 4)), {"log_input": False, "full": True}),
    *with_reductions("gaussian_nll_loss", mixed(PAIR, uniform(0.5, 2, (3, 4)))),
    Case("gaussian_nll_loss", mixed(PAIR, uniform(0.5, 2, (3, 1))), {"full": True}),
    *with_reductions("binary_cross_entropy", uniform(0.05, 0.95, (3, 4), (3, 4))),
    Case("binary_cross_entropy", uniform(0.05, 0.95, (3, 4), (3, 4)), {"weight": POSITIVE}),
    *with_reductions("binary_cross_entropy_with_logits", mixed(normal((3, 4)), uniform(0, 1, (3, 4)))),
    Case(
        "binary_cross_entropy_with_logits",
        mixed(normal((3, 4)), uniform(0, 1, (3, 4))),
        {"pos_weight": POSITIVE},
    ),
    Case(
        "binary_cross_entropy_with_logits",
        mixed(normal((3, 4)), uniform(0, 1, (3, 4))),
        {"weight": POSITIVE, "pos_weight": POSITIVE},
    ),
    *[
        Case("kl_div", mixed(normal((3, 4)), uniform(0.1, 1, (3, 4))), {"reduction": r})
        for r in ("none", "sum")
    ],
    Case("kl_div", mixed(normal((3, 4)), uniform(0.1, 1, (3, 4))), {"reduction": "batchmean"}),
    Case("kl_div", normal((3, 4), (3, 4)), {"log_target": True, "reduction": "batchmean"}),
    *with_reductions(
        "soft_margin_loss", mixed(normal((3, 4)), lambda r: (r.integers(0, 2, (3, 4)) * 2 - 1,))
    ),
    *with_reductions(
        "hinge_embedding_loss", mixed(normal((3, 4)), lambda r: (r.integers(0, 2, (3, 4)) * 2 - 1,))
    ),
    *with_reductions("margin_ranking_loss", mixed(normal((5,), (5,)), signs(5)), {"margin": 0.3}),
    *with_reductions(
        "cosine_embedding_loss",
        mixed(normal((5, 3), (5, 3)), lambda r: (np.array([1, -1, 1, -1, -1]),)),
        {"margin": 0.1},
    ),
    Case("cosine_embedding_loss", mixed(normal((3,), (3,)), constant(1)), {}),
    *with_reductions(
        "multilabel_soft_margin_loss", mixed(normal((3, 4)), lambda r: (r.integers(0, 2, (3, 4)) * 1.0,))
    ),
    *with_reductions("triplet_margin_loss", normal((5, 3), (5, 3), (5, 3))),
    Case("triplet_margin_loss", normal((5, 3), (5, 3), (5, 3)), {"swap": True, "p": 3.0, "margin": 2.0}),
    Case("triplet_margin_with_distance_loss", normal((5, 3), (5, 3), (5, 3)), {"swap": True}),
    # classes
    *with_reductions("cross_entropy", mixed(normal((5, 4)), constant([0, 3, -100, 2, 2]))),
    *with_reductions(
        "cross_entropy",
        mixed(normal((5, 4)), constant([0, 3, 1, 2, 2])),
        {"ignore_index": 2, "weight": POSITIVE},
    ),
    *with_reductions(
        "cross_entropy", mixed(normal((5, 4)), constant([0, 3, -100, 2, 2])), {"label_smoothing": 0.2}
    ),
    *with_reductions(
        "cross_entropy",
        mixed(normal((5, 4)), constant([0, 3, -100, 2, 2])),
        {"label_smoothing": 0.2, "weight": POSITIVE},
    ),
    *with_reductions("cross_entropy", mixed(normal((2, 4, 3)), integers(0, 4, 2, 3))),
    *with_reductions(
        "cross_entropy", mixed(normal((2, 4, 3, 2)), integers(0, 4, 2, 3, 2)), {"weight": POSITIVE}
    ),
    *with_reductions("cross_entropy", mixed(normal((4,)), constant(2))),
    *with_reductions("cross_entropy", mixed(normal((5, 4)), uniform(0, 1, (5, 4)))),
    *with_reductions(
        "cross_entropy",
        mixed(normal((2, 4, 3)), uniform(0, 1, (2, 4, 3))),
        {"weight": POSITIVE, "label_smoothing": 0.3},
    ),
    *with_reductions("nll_loss", mixed(normal((5, 4)), constant([0, 3, -100, 2, 2]))),
    *with_reductions(
        "nll_loss", mixed(normal((2, 4, 3)), integers(0, 4, 2, 3)), {"weight": POSITIVE, "ignore_index": 1}
    ),
    Case("nll_loss", mixed(normal((4,)), constant(1)), {}),
    *with_reductions("multi_margin_loss", mixed(normal((5, 4)), integers(0, 4, 5)), order=1),
    Case(
        "multi_margin_loss",
        mixed(normal((5, 4)), integers(0, 4, 5)),
        {"p": 2, "margin": 0.7, "weight": POSITIVE},
        1,
    ),
    *with_reductions("multi_margin_loss", mixed(normal(()), constant(0)), order=1),
    *with_reductions("multi_margin_loss", mixed(normal((4,)), constant([2])), {"p": 2}, order=1),
    *with_reductions("multilabel_margin_loss", mixed(normal(()), constant(0)), order=1),
    *with_reductions(
        "multilabel_margin_loss",
        mixed(normal((3, 4)), constant([[3, 0, -1, 1], [0, 1, 2, 3], [-1, 2, 0, 0]])),
        order=1,
    ),
]

IMAGE = normal((2, 4, 7, 6))
CONVOLUTIONS = [
    Case("conv1d", normal((2, 4, 9), (6, 4, 3), (6,)), {"stride": 2, "padding": 1}),
    Case("conv1d", normal((4, 9), (6, 2, 3)), {"groups": 2, "padding": "same", "dilation": 2}),
    Case("conv1d", normal((2, 4, 9), (6, 4, 4)), {"padding": "same", "dilation": 2}),
    Case("conv2d", normal((2, 4, 7, 6), (6, 4, 3, 3), (6,)), {}),
    Case(
        "conv2d",
        normal((2, 4, 7, 6), (6, 2, 3, 2), (6,)),
        {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2},
    ),
    Case("conv2d", normal((2, 4, 7, 6), (8, 1, 3, 3)), {"groups": 4, "padding": 1}),
    Case("conv2d", normal((2, 4, 7, 6), (3, 4, 1, 1)), {"stride": 3}),
    Case("conv2d", normal((4, 7, 6), (3, 4, 2, 4), (3,)), {"padding": "same", "dilation": 2}),
    Case("conv2d", normal((0, 4, 7, 6), (3, 4, 2, 4), (3,)), {}),
    Case("conv3d", normal((2, 2, 4, 5, 3), (3, 2, 2, 3, 2), (3,)), {"stride": (1, 2, 1), "padding": 1}),
    Case(
        "conv_transpose1d",
        normal((2, 4, 5), (4, 3, 3), (3,)),
        {"stride": 2, "padding": 1, "output_padding": 1},
    ),
    Case(
        "conv_transpose2d",
        normal((2, 4, 3, 4), (4, 3, 3, 2), (6,)),
        {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2), "groups": 2},
    ),
    Case("conv_transpose2d", normal((4, 3, 4), (4, 3, 2, 2)), {"dilation": (2, 3), "output_padding": (1, 2)}),
    Case(
        "conv_transpose3d",
        normal((1, 2, 2, 3, 2), (2, 3, 2, 2, 3), (3,)),
        {"stride": 2, "padding": (0, 1, 1)},
    ),
    Case("unfold", IMAGE, {"kernel_size": (2, 3), "stride": (2, 1), "padding": 1, "dilation": (2, 1)}),
    Case("unfold", normal((3, 5, 5)), {"kernel_size": 3}),
    Case("fold", normal((2, 12, 20)), {"output_size": (5, 6), "kernel_size": 2}),
    Case(
        "fold",
        normal((2, 12, 9)),
        {"output_size": (5, 6), "kernel_size": (2, 3), "stride": 2, "padding": (1, 1)},
    ),
]

POOLS = [
    Case("max_pool1d", spread(2, 3, 9), {"kernel_size": 3}),
    Case("max_pool2d", spread(2, 4, 7, 6), {"kernel_size": 2}),
    Case(
        "max_pool2d",
        spread(2, 4, 7, 6),
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "ceil_mode": True},
    ),
    Case("max_pool2d", spread(4, 7, 6), {"kernel_size": 3, "stride": 1, "padding": 1}),
    Case("max_pool3d", spread(2, 2, 4, 5, 6), {"kernel_size": 2, "stride": 2, "ceil_mode": True}),
    Case("avg_pool1d", normal((2, 3, 9)), {"kernel_size": 3, "stride": 2, "padding": 1}),
    Case("avg_pool2d", IMAGE, {"kernel_size": 2}),
    Case(
        "avg_pool2d", IMAGE, {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 1), "ceil_mode": True}
    ),
    Case(
        "avg_pool2d",
        IMAGE,
        {
            "kernel_size": (3, 2),
            "stride": (2, 3),
            "padding": 1,
            "ceil_mode": True,
            "count_include_pad": False,
        },
    ),
    Case("avg_pool2d", IMAGE, {"kernel_size": 3, "divisor_override": 5}),
    Case("avg_pool3d", normal((2, 2, 4, 5, 6)), {"kernel_size": (2, 3, 2), "padding": (1, 1, 0)}),
    Case("adaptive_avg_pool1d", normal((2, 3, 9)), {"output_size": 4}),
    Case("adaptive_avg_pool2d", IMAGE, {"output_size": (3, 2)}),
    Case("adaptive_avg_pool2d", IMAGE, {"output_size": 1}),
    Case("adaptive_avg_pool2d", IMAGE, {"output_size": (7, 3)}),
    Case("adaptive_avg_pool2d", IMAGE, {"output_size": (None, 9)}),
    Case("adaptive_avg_pool3d", normal((2, 2, 4, 5, 6)), {"output_size": (2, 3, 3)}),
    Case("adaptive_max_pool1d", spread(2, 3, 9), {"output_size": 4}),
    Case("adaptive_max_pool2d", spread(2, 4, 7, 6), {"output_size": (3, 4)}),
    Case("adaptive_max_pool3d", spread(2, 2, 4, 5, 6), {"output_size": (2, 3, 3)}),
    Case("lp_pool1d", uniform(0.1, 2, (2, 3, 9)), {"norm_type": 3, "kernel_size": 3}),
    Case("lp_pool2d", IMAGE, {"norm_type": 2, "kernel_size": (2, 3), "stride": 2, "ceil_mode": True}),
]

NORMS = [
    Case("batch_norm", normal((5, 4), (4,), (4,)), {}),
    Case("batch_norm", normal((3, 4, 5), (4,), (4,)), {"eps": 0.1}),
    Case("batch_norm", normal((3, 4, 2, 3)), {}),
    Case("layer_norm", normal((2, 3, 4), (3, 4), (3, 4)), {"normalized_shape": (3, 4)}),
    Case("layer_norm", normal((2, 3, 4), (4,), (4,)), {"normalized_shape": (4,), "eps": 0.01}),
    Case("layer_norm", normal((2, 3, 4)), {"normalized_shape": (4,)}),
    Case("layer_norm", normal((4,), (4,)), {"normalized_shape": (4,)}),
    Case("rms_norm", normal((2, 3, 4), (4,)), {"normalized_shape": (4,)}),
    Case("rms_norm", normal((2, 3, 4)), {"normalized_shape": (3, 4), "eps": 0.2}),
    Case("group_norm", normal((2, 6, 4, 3), (6,), (6,)), {"num_groups": 3}),
    Case("group_norm", normal((2, 6)), {"num_groups": 2}),
    Case("instance_norm", normal((2, 3, 4), (3,), (3,)), {}),
    Case("instance_norm", normal((2, 3, 4, 2)), {"eps": 0.3}),
    Case("local_response_norm", normal((2, 5, 4)), {"size": 3, "alpha": 0.5, "k": 2.0}),
    Case("local_response_norm", normal((2, 5, 4, 2)), {"size": 2, "alpha": 0.5, "beta": 0.6}),
    Case("local_response_norm", normal((2, 5, 4)), {"size": 3, "alpha": -0.1, "beta": 2.0, "k": 3.0}),
    Case("normalize", normal((3, 4)), {}),
    Case("normalize", normal((3, 4, 2)), {"p": 3.0, "dim": 2}),
    Case("normalize", normal((3, 4)), {"p": 1.0, "dim": 0}),
    Case("normalize", spread(3, 4), {"p": math.inf}),
]

OTHERS = [
    Case("linear", normal((2, 3, 4), (5, 4), (5,)), {}),
    Case("bilinear", normal((2, 3), (2, 4), (5, 3, 4), (5,)), {}),
    Case("bilinear", normal((2, 3, 3), (2, 3, 4), (5, 3, 4)), {}),
    Case("cosine_similarity", normal((3, 4), (3, 4)), {}),
    Case("cosine_similarity", normal((3, 4, 2), (4, 2)), {"dim": 2}),
    Case("pairwise_distance", normal((3, 4), (3, 4)), {}),
    Case("pairwise_distance", normal((3, 4), (4,)), {"p": 3.0, "keepdim": True}),
    Case("pdist", normal((4, 3)), {}, 1),
    Case("pdist", normal((4, 3)), {"p": 0.0}, 1),
    Case("pixel_shuffle", normal((2, 8, 3, 2)), {"upscale_factor": 2}),
    Case("pixel_unshuffle", normal((2, 4, 6)), {"downscale_factor": 2}),
    Case("channel_shuffle", normal((2, 6, 3, 2)), {"groups": 3}),
    Case("pad", normal((2, 3, 4)), {"pad": (1, 2)}),
    Case("pad", normal((2, 3, 4)), {"pad": (1, -2, 0, 3), "value": 1.5}),
    Case("pad", normal((2, 3, 4)), {"pad": (2, 1), "mode": "reflect"}),
    Case("pad", normal((1, 2, 3, 4)), {"pad": (2, 1, 1, 2), "mode": "reflect"}),
    Case("pad", normal((1, 2, 3, 4)), {"pad": (5, 1, 1, 4), "mode": "replicate"}),
    Case("pad", normal((1, 2, 3, 4)), {"pad": (2, 1, 3, 0), "mode": "circular"}),
    Case("scaled_dot_product_attention", normal((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 2)), {}),
    Case(
        "scaled_dot_product_attention",
        normal((2, 4, 5), (2, 6, 5), (2, 6, 2)),
        {"is_causal": True, "scale": 0.3},
    ),
    Case(
        "scaled_dot_product_attention", normal((2, 4, 4, 5), (2, 2, 6, 5), (2, 2, 6, 3)), {"enable_gqa": True}
    ),
    Case(
        "scaled_dot_product_attention",
        normal(
            (2, 4, 5),
            (2, 6, 5),
            (2, 6, 2),
        ),
        {"attn_mask": np.linspace(-1, 1, 24).reshape(4, 6)},
    ),
]

CASES = ACTIVATIONS + LOSSES + CONVOLUTIONS + POOLS + NORMS + OTHERS
