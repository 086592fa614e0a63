"""The functions that users call: what the modules of this package list in ``__all__``."""

from __future__ import annotations

from nbdl.ops.arithmetic import *
from nbdl.ops.copying import *
from nbdl.ops.creation import *
from nbdl.ops.indexing import *
from nbdl.ops.joining import *
from nbdl.ops.matmul import *
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
