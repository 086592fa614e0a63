"""Which primitives are cast how: PyTorch's lists, by type of device.

Products are computed in the lower dtype, in which they are several times as fast and lose nothing that
training needs: they add up in float32. What has a narrow range of good arguments, or adds up many numbers,
is computed in float32 on a GPU. On a CPU half-precision elements are widened for each operation anyway, so
that only losses and long products are. The losses themselves are marked where they stand, with
``in_float32``.
"""

from __future__ import annotations

from nbdl.autograd.autocast import FLOAT32, LOWER, WIDEST
from nbdl.ops.primitive import Primitive

_LOWER = frozenset((
    "activated_linear", "attention", "convolution", "convolution_input", "linear", "matmul", "recurrent",
))  # fmt: skip
_GPU_FLOAT32 = frozenset(("cross_entropy", "fourier_real", "log_softmax", "scan", "softmax"))
_GPU_FLOAT32_FORMULAS = frozenset((
    "acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log1p", "log2", "pow", "reciprocal",
    "rsqrt", "sinh", "softplus", "tan",
))  # fmt: skip
_GPU_FLOAT32_REDUCTIONS = frozenset(("prod", "sum"))


def rule_on_cpu(primitive: Primitive) -> str | None:
    """What a primitive on CPU tensors does with its operands; None: it takes them as they are."""
    name = primitive.name
    if name in _LOWER:
        return LOWER
    if name == "cross_entropy" or (name == "reduce" and primitive.params["kind"] == "prod"):
        return FLOAT32
    return WIDEST if name == "normalize" else None


def rule_on_gpu(primitive: Primitive) -> str | None:
    """What a primitive on GPU tensors does with its operands; None: it takes them as they are."""
    name, params = primitive.name, primitive.params
    if name == "pointwise":
        return FLOAT32 if params["formula"].name in _GPU_FLOAT32_FORMULAS else None
    if name in _LOWER:
        return LOWER
    if name == "normalize":  # a batch norm, which averages over the batch, gives what it gets
        return WIDEST if params["by_channel"] and not params["groups"] else FLOAT32
    if name == "reduce":
        return FLOAT32 if params["kind"] in _GPU_FLOAT32_REDUCTIONS else None
    return FLOAT32 if name in _GPU_FLOAT32 else None


RULES = {"cpu": rule_on_cpu, "cuda": rule_on_gpu}
