"""The primitives, each with its shape rule, vjp and jvp, and the functions composed of them.

What users call is gathered here from the modules; :class:`~nbdl.autograd.tensor.Tensor` gets its operators
and methods when the package is imported.
"""

from __future__ import annotations

from nbdl.ops.arithmetic import *
from nbdl.ops.copying import *
from nbdl.ops.creation import *
from nbdl.ops.indexing import *
from nbdl.ops.joining import *
from nbdl.ops.matmul import *
from nbdl.ops.methods import attach as _attach
from nbdl.ops.pointwise import *
from nbdl.ops.random import *
from nbdl.ops.rearranging import *
from nbdl.ops.reduction import *
from nbdl.ops.scanning import *
from nbdl.ops.scattering import *
from nbdl.ops.selecting import *
from nbdl.ops.shape import *
from nbdl.ops.softmax import *
from nbdl.ops.sorting import *
from nbdl.ops.statistics import *
from nbdl.ops.triangular import *

# Functions only: the modules are attributes of the package too.
__all__ = [name for name, value in globals().items() if hasattr(value, "__code__") and name[0] != "_"]

_attach()
