"""Linear algebra, as ``torch.linalg``: batched, differentiable to any order, single and double precision.

Example:
    >>> import nbdl
    >>> a = nbdl.tensor([[3.0, 1.0], [1.0, 2.0]], requires_grad=True)
    >>> nbdl.linalg.det(a).backward()
    >>> a.grad
    tensor([[ 2., -1.],
            [-1.,  3.]])
"""

from __future__ import annotations

from nbdl.backend.numpy.decompositions import LinAlgError
from nbdl.ops.determinants import det, slogdet
from nbdl.ops.factorizations import (
    cholesky,
    cholesky_ex,
    ldl_factor,
    ldl_factor_ex,
    ldl_solve,
    qr,
)
from nbdl.ops.keywords import offer as _offer
from nbdl.ops.lu_factors import lu, lu_factor, lu_factor_ex, lu_solve
from nbdl.ops.matmul import matmul
from nbdl.ops.matrix_functions import (
    cond,
    cross,
    diagonal,
    matrix_exp,
    matrix_norm,
    matrix_power,
    matrix_rank,
    multi_dot,
    norm,
    vander,
    vecdot,
    vector_norm,
)
from nbdl.ops.reflections import householder_product
from nbdl.ops.solving import (
    inv,
    inv_ex,
    lstsq,
    pinv,
    solve,
    solve_ex,
    tensorinv,
    tensorsolve,
)
from nbdl.ops.spectra import eig, eigh, eigvals, eigvalsh, svd, svdvals
from nbdl.ops.triangular_systems import solve_triangular

__all__ = [
    "LinAlgError", "cholesky", "cholesky_ex", "cond", "cross", "det", "diagonal", "eig", "eigh", "eigvals",
    "eigvalsh", "householder_product", "inv", "inv_ex", "ldl_factor", "ldl_factor_ex", "ldl_solve", "lstsq",
    "lu", "lu_factor", "lu_factor_ex", "lu_solve", "matmul", "matrix_exp", "matrix_norm", "matrix_power",
    "matrix_rank", "multi_dot", "norm", "pinv", "qr", "slogdet", "solve", "solve_ex", "solve_triangular",
    "svd", "svdvals", "tensorinv", "tensorsolve", "vander", "vecdot", "vector_norm",
]  # fmt: skip

_offer(globals())
