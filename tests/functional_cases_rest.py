"""More calls of nn.functional, for `nn/test_functional_rest.py`: sizes, positions, bags, alignments."""

from __future__ import annotations

import numpy as np
from functional_cases import Case, integers, mixed, normal, spread, uniform

IMAGE, VOLUME = (2, 3, 5, 7), (1, 2, 3, 4, 5)

RESIZED = [
    Case("interpolate", normal(shape), {"mode": mode, **options})
    for mode, shape, variants in [
        ("nearest", (2, 3, 7), [{"size": 4}, {"scale_factor": 1.7}]),
        ("nearest", IMAGE, [{"size": (11, 3)}, {"scale_factor": (0.6, 2)}]),
        ("nearest", VOLUME, [{"scale_factor": 2}]),
        ("nearest-exact", IMAGE, [{"size": (11, 3)}, {"scale_factor": 0.6}]),
        ("linear", (2, 3, 7), [{"size": 11}, {"scale_factor": 0.6, "align_corners": True}]),
        ("bilinear", IMAGE, [
            {"size": (8, 3)}, {"size": (1, 9), "align_corners": True}, {"scale_factor": 1.7},
            {"scale_factor": 1.7, "recompute_scale_factor": True}, {"size": (2, 3), "antialias": True},
            {"scale_factor": 0.6, "antialias": True, "align_corners": True},
        ]),
        ("bicubic", IMAGE, [
            {"size": (8, 3)}, {"scale_factor": 1.7, "align_corners": True},
            {"size": (3, 9), "antialias": True},
        ]),
        ("lanczos", (1, 2, 9, 8), [{"size": (4, 11), "antialias": True}]),
        ("trilinear", VOLUME, [{"size": (5, 2, 7)}, {"scale_factor": 2, "align_corners": True}]),
        ("area", (2, 3, 7), [{"size": 3}]),
        ("area", IMAGE, [{"size": (2, 3)}]),
        ("area", VOLUME, [{"scale_factor": 0.7}]),
    ]
    for options in variants
]  # fmt: skip

# PyTorch has no second derivatives in the grid: first ones are compared.
SAMPLED = [
    Case(
        "grid_sample",
        mixed(normal(shape), uniform(-2.3, 2.3, grid)),
        {"mode": mode, "padding_mode": padding, "align_corners": aligned},
        1,
    )
    for mode in ("bilinear", "nearest", "bicubic")
    for padding in ("zeros", "border", "reflection")
    for aligned in (True, False)
    for shape, grid in [((2, 3, 4, 5), (2, 6, 3, 2)), ((2, 1, 1, 5), (2, 4, 3, 2)), (VOLUME, (1, 3, 2, 4, 3))]
    if not (mode == "bicubic" and len(shape) == 5)
] + [
    Case("affine_grid", normal((2, 2, 3)), {"size": (2, 3, 4, 5), "align_corners": True}),
    Case("affine_grid", normal((2, 2, 3)), {"size": (2, 3, 1, 5), "align_corners": False}),
    Case("affine_grid", normal((2, 3, 4)), {"size": (2, 3, 4, 1, 3), "align_corners": False}),
]

BAGS = [
    Case("embedding_bag", mixed(integers(0, 6, *shape), normal((6, 3))), {"mode": mode, **options}, 1)
    for mode in ("sum", "mean", "max")
    for shape, options in [
        ((5, 2), {}),
        ((5, 4), {"padding_idx": 2}),
        ((10,), {"offsets": np.array([0, 3, 3, 7])}),
        ((10,), {"offsets": np.array([0, 3, 3, 7, 10]), "include_last_offset": True, "padding_idx": -1}),
    ]
] + [
    Case("embedding_bag", mixed(integers(0, 6, 5, 2), normal((6, 3))),
         {"mode": "sum", "per_sample_weights": np.linspace(-1, 2, 10).reshape(5, 2)}, 1),
    Case("embedding_bag", mixed(integers(0, 6, 10), normal((6, 3))),
         {"mode": "sum", "per_sample_weights": np.linspace(-1, 2, 10), "offsets": np.array([0, 4])}, 1),
]  # fmt: skip

POOLS = [
    Case("fractional_max_pool2d", spread(2, 3, 9, 11),
         {"kernel_size": (2, 3), "output_size": (4, 3),
          "_random_samples": np.linspace(0, 0.99, 12).reshape(2, 3, 2)}),
    Case("fractional_max_pool2d", spread(3, 9, 11),
         {"kernel_size": 2, "output_ratio": (0.6, 0.6),
          "_random_samples": np.linspace(0.05, 0.9, 6).reshape(1, 3, 2)}),
    Case("fractional_max_pool3d", spread(1, 2, 6, 7, 8),
         {"kernel_size": 2, "output_size": (3, 1, 4),
          "_random_samples": np.linspace(0, 0.9, 6).reshape(1, 2, 3)}, 1),
]  # fmt: skip

OTHERS = [
    Case("conv_tbc", normal((6, 2, 3), (3, 3, 4), (4,)), {"pad": 1}),
    Case("linear_cross_entropy", normal((5, 3), (4, 3)), {"target": np.array([0, 3, 1, 2, 1])}),
    Case("linear_cross_entropy", normal((5, 3), (4, 3)),
         {"target": np.array([0, 3, 1, 2, 1]), "ignore_index": 1, "label_smoothing": 0.1,
          "linear_bias": np.linspace(-1, 1, 4), "weight": np.array([0.5, 2.0, 1.0, 0.7])}),
    Case("local_response_norm", normal((2, 5, 4, 2)), {"size": 4, "alpha": 0.5}),
]  # fmt: skip

CASES = RESIZED + SAMPLED + BAGS + POOLS + OTHERS
