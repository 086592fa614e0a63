"""Activations that layers offer, and libraries for products compute on the way."""

from __future__ import annotations

import math

from nbdl.formula.formula import Formula
from nbdl.formula.functions import relu, tanh

RELU = Formula("relu", relu, 1)
GELU_TANH = Formula(
    "gelu_tanh", lambda x: 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x)))), 1
)
"""Hendrycks and Gimpel, Gaussian Error Linear Units (2016): the approximation by tanh."""
