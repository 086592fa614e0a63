"""Matrix products on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered
from nbdl.formula import IDENTITY, Formula, dtypes


class LinearAlgebra:
    """Matrix primitives."""

    # Of the classes Elementwise and Reduction.
    pointwise: Callable[..., Any]
    reduce: Callable[..., Any]

    def matmul(
        self, a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False, out: Any = None
    ) -> Any:
        """``a @ b``; batches broadcast, a vector is a row on the left and a column on the right.

        Args:
            a: (..., m, k) or (k,); (..., k, m) if transposed.
            b: (..., k, n) or (k,); (..., n, k) if transposed.
            transpose_a: take the last two axes of ``a`` exchanged.
            transpose_b: likewise.
            out: receives the result.
        """
        if a.dtype != b.dtype or a.dtype.kind == "b":
            raise TypeError(f"matmul: operands have dtypes {a.dtype} and {b.dtype}")
        if transpose_a:
            a = a.swapaxes(-1, -2)
        if transpose_b:
            b = b.swapaxes(-1, -2)
        with np.errstate(all="ignore"):
            if out is None or dtypes.arithmetic_dtype(a.dtype) != a.dtype:
                product = np.asarray(np.matmul(widened(a), widened(b)))
                return delivered(narrowed(product, a.dtype), out)
            return np.matmul(a, b, out=out)

    def linear(self, x: Any, weight: Any, *bias: Any, out: Any = None) -> Any:
        """``x @ weight.T + bias``.

        Args:
            x: (..., in).
            weight: (out, in).
            bias: (out,) or nothing.
            out: (..., out), receives the result.
        """
        result = self.matmul(x, weight.T, out=out)
        if bias:
            result += bias[0]
        return result

    def linear_gradients(self, gradient: Any, *operands: Any, needs: int, out: Any = None) -> Any:
        """The gradients of ``linear``'s operands, of those that are needed.

        Args:
            gradient: (rows, out), of the result.
            operands: weight (out, in) if the input's gradient is needed, x (rows, in) if the weight's is.
            needs: bit 0 is set where the gradient of x is needed, bit 1: weight, bit 2: bias.
            out: receives the results.
        """
        remaining = iter(operands)
        results = []
        if needs & 1:
            results.append(self.matmul(gradient, next(remaining)))
        if needs & 2:
            results.append(self.matmul(gradient, next(remaining), transpose_a=True))
        if needs & 4:
            results.append(self.reduce(gradient, formula=IDENTITY, kind="sum", axes=(0,), keepdims=False))
        return delivered(tuple(results), out)

    def activated_linear(self, x: Any, weight: Any, *bias: Any, activation: Formula, out: Any = None) -> Any:
        """``activation(linear(x, weight, *bias))``.

        Args:
            x: (..., in).
            weight: (out, in).
            bias: (out,) or nothing.
            activation: a formula of one operand.
            out: (..., out), receives the result.
        """
        return self.pointwise(self.linear(x, weight, *bias), formula=activation, out=out)

    def activated_linear_gradients(
        self, gradient: Any, result: Any, *operands: Any, activation: Formula, needs: int, out: Any = None
    ) -> Any:
        """The gradient before the activation, then what :meth:`linear_gradients` makes of it.

        Args:
            gradient: (rows, out), of the result.
            result: (rows, out).
            operands: as in :meth:`linear_gradients`.
            activation: a formula of one operand whose derivative is a function of its value.
            needs: as in :meth:`linear_gradients`.
            out: receives the results.
        """
        (term,) = activation.vjp(1).terms
        assert term is not None
        sources = [gradient if kind == "g" else result for kind, _ in term.sources]
        slope = self.pointwise(*sources, formula=term.formula)
        return delivered((slope, *self.linear_gradients(slope, *operands, needs=needs)), out)
