"""What the benchmark of the layer zoo measures: modules and functions, on a small and on a large input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from program import Program, Programs
from zoo_functions import FUNCTIONS

SIZES = ("small", "large")


@dataclass(frozen=True)
class Input:
    """A tensor that a module is given.

    Attributes:
        small: its shape, where a call costs more than the arithmetic.
        large: its shape, where memory or arithmetic cost more than the call.
        kind: ``normal`` and ``chance`` (from 0.05 to 0.95), with a gradient; without: ``target``, ``share``
            (as chance), ``sign`` (1 or -1), ``even`` (each second position), ``integers`` below ``high``,
            ``lengths`` of ``high``.
        high: see there.
    """

    small: tuple[int, ...]
    large: tuple[int, ...]
    kind: str = "normal"
    high: Any = None

    def array(self, size: str, seed: int) -> np.ndarray:
        """Its elements."""
        shape, rng = getattr(self, size), np.random.default_rng(seed)
        if self.kind == "integers":
            return rng.integers(0, self.high, shape)
        if self.kind == "even":
            return np.broadcast_to(2 * np.arange(shape[-1]), shape).copy()
        if self.kind == "lengths":
            return np.full(shape, self.high)
        if self.kind in ("share", "chance"):
            return rng.uniform(0.05, 0.95, shape).astype(np.float32)
        values = rng.standard_normal(shape, np.float32)
        return np.sign(values) if self.kind == "sign" else values


@dataclass(frozen=True)
class Case:
    """A module with its arguments.

    Attributes:
        group: heading of the report, and what ``--only`` chooses.
        module: name in ``nn``.
        args: positional arguments of its constructor, or a function of the size that gives them.
        inputs: of a call.
        options: keyword arguments of the constructor.
    """

    group: str
    module: str
    args: Any
    inputs: tuple[Input, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def name(self, size: str) -> str:
        """Module, what tells it from others of its kind, and size; unique."""
        more = "".join(f" {value}" for value in self.options.values() if isinstance(value, str))
        return f"{self.module}{more} {size}"


def build(lib: ModuleType, case: Case, size: str) -> Callable[[], Any]:
    """A call of the module, forward and backward: the gradients of its inputs and parameters."""
    args = case.args(size) if callable(case.args) else case.args
    args = [getattr(lib.nn, a[3:])(8, 2, 16, batch_first=True) if _is_layer(a) else a for a in args]
    module = getattr(lib.nn, case.module)(*args, **case.options)
    inputs = [lib.from_numpy(entry.array(size, k)) for k, entry in enumerate(case.inputs)]
    for entry, tensor in zip(case.inputs, inputs):
        tensor.requires_grad_(entry.kind in ("normal", "chance"))
    wanted = [x for x in (*inputs, *module.parameters()) if x.requires_grad]
    first, grad = _first_of(module(*inputs)), lib.autograd.grad
    shape = tuple(first(module(*inputs)).shape)
    gradient = lib.from_numpy(np.random.default_rng(9).standard_normal(shape, np.float32).reshape(shape))
    return lambda: grad(first(module(*inputs)), wanted, gradient, allow_unused=True)


def _is_layer(argument: Any) -> bool:
    return isinstance(argument, str) and argument.startswith("nn.")


def _first_of(output: Any) -> Callable[[Any], Any]:
    """What takes the tensor out of the outputs."""
    return (lambda output: output[0]) if isinstance(output, tuple) else (lambda output: output)


def build_programs(lib: ModuleType) -> Programs:
    """The table that `worker.py` wants."""
    makers = {case.name(size): partial(build, lib, case, size) for case in CASES for size in SIZES}
    makers |= {case.name(size): partial(case.build, lib, size) for case in FUNCTIONS for size in SIZES}
    return {name: lambda variant, make=make: Program(make(), lambda _: 0.0) for name, make in makers.items()}


def _each(group: str, modules: Sequence[tuple[str, tuple[Any, ...]]], *inputs: Input) -> list[Case]:
    return [Case(group, name, args, inputs) for name, args in modules]


VECTOR = Input((8, 16), (1000, 1000))
LINE = Input((2, 4, 16), (16, 64, 1024))
IMAGE = Input((2, 4, 8, 8), (16, 32, 64, 64))
VOLUME = Input((1, 4, 4, 4, 4), (4, 16, 24, 24, 24))
RANKED = {1: LINE, 2: IMAGE, 3: VOLUME}

_POINTWISE = [
    ("ReLU", ()), ("ReLU6", ()), ("LeakyReLU", ()), ("PReLU", ()), ("RReLU", ()), ("ELU", ()), ("CELU", ()),
    ("SELU", ()), ("GELU", ()), ("SiLU", ()), ("Mish", ()), ("Sigmoid", ()), ("Tanh", ()), ("LogSigmoid", ()),
    ("Softplus", ()), ("Softsign", ()), ("Softshrink", ()), ("Hardshrink", ()), ("Tanhshrink", ()),
    ("Hardsigmoid", ()), ("Hardswish", ()), ("Hardtanh", ()), ("Threshold", (0.1, 2.0)), ("GLU", ()),
    ("Softmax", (-1,)), ("LogSoftmax", (-1,)), ("Softmin", (-1,)), ("Identity", ()),
]  # fmt: skip


def _activations() -> list[Case]:
    return [*_each("activation", _POINTWISE, VECTOR), Case("activation", "Softmax2d", (), (IMAGE,))]


def _pooling() -> list[Case]:
    cases = []
    for rank, x in RANKED.items():
        halved = Input(*[(*s[:2], *[n // 2 for n in s[2:]]) for s in (x.small, x.large)])
        places = Input(halved.small, halved.large, "even")
        cases += _each(
            "pooling",
            [
                (f"MaxPool{rank}d", (2,)), (f"AvgPool{rank}d", (2,)), (f"LPPool{rank}d", (2, 2)),
                (f"AdaptiveAvgPool{rank}d", (2,)), (f"AdaptiveMaxPool{rank}d", (2,)),
            ],
            x,
        )  # fmt: skip
        cases.append(Case("pooling", f"MaxUnpool{rank}d", (2,), (halved, places)))
        if rank > 1:
            cases.append(Case("pooling", f"FractionalMaxPool{rank}d", (2,), (x,), {"output_ratio": 0.6}))
    return cases


def _padding() -> list[Case]:
    names = ("ZeroPad", "ConstantPad", "ReflectionPad", "ReplicationPad", "CircularPad")
    return [
        Case("padding", f"{name}{rank}d", (1, 0.5) if name == "ConstantPad" else (1,), (x,))
        for name in names
        for rank, x in RANKED.items()
    ]


def _channels(x: Input, *more: Any) -> Callable[[str], tuple[Any, ...]]:
    """Constructor arguments that begin with the number of channels."""
    return lambda size: (getattr(x, size)[1], *more)


def _normalization() -> list[Case]:
    cases = [
        Case("normalization", f"{name}{rank}d", _channels(x), (x,), options)
        for rank, x in RANKED.items()
        for name, options in (("BatchNorm", {}), ("InstanceNorm", {"affine": True}))
    ]
    last = lambda size: (getattr(VECTOR, size)[-1],)  # noqa: E731
    return [
        *cases,
        Case("normalization", "LayerNorm", last, (VECTOR,)),
        Case("normalization", "RMSNorm", last, (VECTOR,)),
        Case("normalization", "GroupNorm", lambda size: (2, getattr(IMAGE, size)[1]), (IMAGE,)),
        Case("normalization", "LocalResponseNorm", (3,), (IMAGE,)),
        Case("normalization", "CrossMapLRN2d", (3,), (IMAGE,)),
    ]


def _dropouts() -> list[Case]:
    vectors = [("Dropout", (0.2,)), ("AlphaDropout", (0.2,)), ("FeatureAlphaDropout", (0.2,))]
    return [
        *_each("dropout", vectors, VECTOR),
        *[Case("dropout", f"Dropout{rank}d", (0.2,), (x,)) for rank, x in RANKED.items()],
    ]


def _convolutions() -> list[Case]:
    cases = []
    for rank, x in RANKED.items():
        for name in (f"Conv{rank}d", f"ConvTranspose{rank}d"):
            args = lambda size, x=x: (getattr(x, size)[1], getattr(x, size)[1], 3)  # noqa: E731
            cases.append(Case("convolution", name, args, (x,), {"padding": 1}))
    columns = Input((2, 36, 36), (16, 288, 900))
    return [
        *cases,
        Case("convolution", "Unfold", (3,), (IMAGE,)),
        Case("convolution", "Fold", lambda size: ((8, 8) if size == "small" else (32, 32), 3), (columns,)),
    ]


def _linear() -> list[Case]:
    tokens = Input((8,), (20_000,), "integers", 100)
    bags = Input((2, 4), (2_000, 10), "integers", 100)
    wide = lambda size: (getattr(VECTOR, size)[1], getattr(VECTOR, size)[1])  # noqa: E731
    pair = Input((8, 6), (256, 64))
    return [
        Case("linear and embedding", "Linear", wide, (VECTOR,)),
        Case(
            "linear and embedding", "Bilinear", lambda size: (*[getattr(pair, size)[1]] * 2, 8), (pair, pair)
        ),
        Case("linear and embedding", "Embedding", (100, 64), (tokens,)),
        Case("linear and embedding", "EmbeddingBag", (100, 64), (bags,)),
    ]


def _recurrent() -> list[Case]:
    steps = Input((4, 2, 8), (50, 32, 128))
    rows = Input((2, 8), (256, 256))
    sizes = lambda x: lambda size: (getattr(x, size)[-1], getattr(x, size)[-1])  # noqa: E731
    return [
        *[Case("recurrent", name, sizes(steps), (steps,)) for name in ("RNN", "GRU", "LSTM")],
        *[Case("recurrent", name, sizes(rows), (rows,)) for name in ("RNNCell", "GRUCell", "LSTMCell")],
    ]


def _attention() -> list[Case]:
    x = Input((2, 4, 8), (16, 128, 128))
    narrow = Input((2, 4, 8), (64, 128, 8))
    model = lambda size: (getattr(x, size)[-1], 2, 4 * getattr(x, size)[-1], 0.0)  # noqa: E731
    batch_first = {"batch_first": True}
    return [
        Case(
            "attention", "MultiheadAttention", lambda size: (getattr(x, size)[-1], 2), (x, x, x), batch_first
        ),
        Case("attention", "TransformerEncoderLayer", model, (x,), batch_first),
        Case("attention", "TransformerDecoderLayer", model, (x, x), batch_first),
        Case("attention", "TransformerEncoder", ("nn.TransformerEncoderLayer", 2), (narrow,)),
        Case("attention", "TransformerDecoder", ("nn.TransformerDecoderLayer", 2), (narrow, narrow)),
        Case("attention", "Transformer", (8, 2, 1, 1, 16, 0.0), (narrow, narrow), batch_first),
    ]


def _shapes() -> list[Case]:
    cases = _each(
        "shape",
        [
            ("PixelShuffle", (2,)), ("PixelUnshuffle", (2,)), ("ChannelShuffle", (2,)), ("Flatten", ()),
            ("UpsamplingNearest2d", (None, 2)), ("UpsamplingBilinear2d", (None, 2)),
        ],
        IMAGE,
    )  # fmt: skip
    modes = {"nearest": IMAGE, "linear": LINE, "bilinear": IMAGE, "bicubic": IMAGE, "trilinear": VOLUME}
    upsampling = [Case("shape", "Upsample", (None, 2), (x,), {"mode": mode}) for mode, x in modes.items()]
    unflatten = Case("shape", "Unflatten", (1, (2, -1)), (VECTOR,))
    distances = _each("shape", [("CosineSimilarity", ()), ("PairwiseDistance", ())], VECTOR, VECTOR)
    return [*cases, *upsampling, unflatten, *distances]


def _losses() -> list[Case]:
    scores = Input((8, 10), (10_000, 100))
    target = Input(scores.small, scores.large, "target")
    share = Input(scores.small, scores.large, "share")
    signs = Input(scores.small, scores.large, "sign")
    classes = Input((8,), (10_000,), "integers", 10)
    column = Input((8,), (10_000,), "sign")
    many = Input(scores.small, scores.large, "integers", 10)
    image = Input((2, 4, 8, 8), (16, 8, 64, 64))
    pixels = Input((2, 8, 8), (16, 64, 64), "integers", 4)
    paired = {
        "MSELoss": target, "L1Loss": target, "SmoothL1Loss": target, "HuberLoss": target,
        "BCEWithLogitsLoss": share,
        "PoissonNLLLoss": share, "SoftMarginLoss": signs, "HingeEmbeddingLoss": signs,
        "MultiLabelSoftMarginLoss": share, "MultiLabelMarginLoss": many, "MultiMarginLoss": classes,
        "CrossEntropyLoss": classes, "NLLLoss": classes,
    }  # fmt: skip
    time = Input((6, 2, 5), (60, 16, 30))
    labels = Input((2, 3), (16, 20), "integers", 4)
    steps, length = Input((2,), (16,), "lengths", 6), Input((2,), (16,), "lengths", 3)
    hidden = Input((8, 16), (1024, 128))
    return [
        *[Case("loss", name, (), (scores, other)) for name, other in paired.items()],
        Case("loss", "NLLLoss2d", (), (image, pixels)),
        Case(
            "loss", "LinearCrossEntropyLoss", lambda size: (getattr(scores, size)[1], 10), (scores, classes)
        ),
        Case("loss", "BCELoss", (), (Input(scores.small, scores.large, "chance"), share)),
        Case("loss", "KLDivLoss", (), (scores, share), {"reduction": "batchmean"}),
        Case("loss", "GaussianNLLLoss", (), (scores, target, share)),
        Case("loss", "MarginRankingLoss", (), (scores, scores, signs)),
        Case("loss", "CosineEmbeddingLoss", (), (scores, scores, column)),
        Case("loss", "TripletMarginLoss", (), (scores, scores, scores)),
        Case("loss", "TripletMarginWithDistanceLoss", (), (scores, scores, scores)),
        Case("loss", "CTCLoss", (), (time, labels, steps, length)),
        Case(
            "loss",
            "AdaptiveLogSoftmaxWithLoss",
            lambda size: (getattr(hidden, size)[1], 100, [10, 50]),
            (hidden, Input((8,), (1024,), "integers", 100)),
        ),
    ]


CASES = (
    *_activations(), *_pooling(), *_padding(), *_normalization(), *_dropouts(), *_convolutions(), *_linear(),
    *_recurrent(), *_attention(), *_shapes(), *_losses(),
)  # fmt: skip
GROUPS = tuple(dict.fromkeys(case.group for case in (*CASES, *FUNCTIONS)))
