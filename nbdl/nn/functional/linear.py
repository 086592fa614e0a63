"""Linear and bilinear maps."""

from __future__ import annotations

from nbdl.autograd.autocast import in_widest
from nbdl.autograd.tensor import Tensor
from nbdl.ops.matmul import linear


@in_widest("cpu", "cuda")
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
    return linear(products, weight.reshape((outputs, n1 * n2)), bias)
