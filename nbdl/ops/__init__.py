"""The primitives, each with its shape rule, vjp and jvp, and the functions composed of them.

:class:`~nbdl.autograd.tensor.Tensor` gets its operators and methods when this package is imported.
"""

from __future__ import annotations

from nbdl.ops.functions import *
from nbdl.ops.methods import attach as _attach

_attach()
