"""The functions that users call: what the modules of this package list in ``__all__``."""

from __future__ import annotations

from nbdl.ops.arithmetic import *
from nbdl.ops.buffers import *
from nbdl.ops.calculus import *
from nbdl.ops.clamping import *
from nbdl.ops.closeness import *
from nbdl.ops.complex_numbers import *
from nbdl.ops.copying import *
from nbdl.ops.counting import *
from nbdl.ops.creation import *
from nbdl.ops.einsum import *
from nbdl.ops.extrema import *
from nbdl.ops.index_writing import *
from nbdl.ops.indexing import *
from nbdl.ops.joining import *
from nbdl.ops.keywords import offer as _offer
from nbdl.ops.layout import *
from nbdl.ops.low_rank import *
from nbdl.ops.masks import *
from nbdl.ops.matmul import *
from nbdl.ops.matrix_aliases import *
from nbdl.ops.new_like import *
from nbdl.ops.numbers import *
from nbdl.ops.pointwise import *
from nbdl.ops.products import *
from nbdl.ops.quantiles import *
from nbdl.ops.random import *
from nbdl.ops.rearranging import *
from nbdl.ops.reduction import *
from nbdl.ops.rejection import *
from nbdl.ops.scanning import *
from nbdl.ops.scattering import *
from nbdl.ops.searching import *
from nbdl.ops.segments import *
from nbdl.ops.selecting import *
from nbdl.ops.shape import *
from nbdl.ops.short_time import *
from nbdl.ops.softmax import *
from nbdl.ops.sorting import *
from nbdl.ops.special_functions import *
from nbdl.ops.spectral_windows import *
from nbdl.ops.statistics import *
from nbdl.ops.triangular import *
from nbdl.ops.type_rules import *
from nbdl.ops.window_scattering import *

_offer(globals())
