"""Curvature as linear operators: matrices of second derivatives, known by their products with vectors.

What is differentiated is a :class:`Risk` (the loss of a model over data) or a :class:`Function` at a point.
Of it there are :class:`Hessian`, :class:`GGN`, :class:`Fisher`, :class:`MonteCarloFisher`,
:class:`EmpiricalFisher`, their blocks (:func:`block_diagonal`), and :class:`KFAC`. An operator multiplies by
``@``, and has ``.T``, ``diagonal()``, ``to_dense()``, ``to_scipy()``, ``shape`` and ``dtype``. Functions
compute with any of them: eigenvalues (:func:`eigsh`), spectral density, traces, determinants, solutions of
equations.

Example:
    >>> import nbdl
    >>> from nbdl.optim import curvature
    >>> at = curvature.Function(lambda x: (x ** 4).sum(), nbdl.tensor([1.0, 2.0], dtype=nbdl.float64))
    >>> hessian = curvature.Hessian(at)
    >>> hessian.diagonal()
    tensor([12., 48.], dtype=float64)
    >>> curvature.cg(hessian, at.gradient()).x
    tensor([0.3333, 0.6667], dtype=float64)
"""

from __future__ import annotations

from nbdl.optim.curvature.blocks import BlockDiagonal, Kronecker, block_diagonal
from nbdl.optim.curvature.kfac import KFAC
from nbdl.optim.curvature.matrices import (
    GGN,
    CurvatureMatrix,
    EmpiricalFisher,
    Fisher,
    Hessian,
    Jacobian,
    MonteCarloFisher,
)
from nbdl.optim.curvature.quasi_newton import BFGSMatrix, LBFGSMemory
from nbdl.optim.curvature.solvers import Solution, cg, cholesky, lsmr, minres
from nbdl.optim.curvature.source import Function, Risk, Source
from nbdl.optim.curvature.spectrum import (
    Estimate,
    SpectralDensity,
    eigsh,
    hutchinson_diagonal,
    hutchinson_trace,
    hutchpp_trace,
    logdet,
)
from nbdl.optim.operators import DenseOperator, DiagonalOperator, FunctionOperator, LinearOperator

__all__ = [
    "GGN", "KFAC", "BFGSMatrix", "BlockDiagonal", "CurvatureMatrix", "DenseOperator", "DiagonalOperator",
    "EmpiricalFisher", "Estimate", "Fisher", "Function", "FunctionOperator", "Hessian", "Jacobian",
    "Kronecker", "LBFGSMemory", "LinearOperator", "MonteCarloFisher", "Risk", "Solution", "Source",
    "SpectralDensity", "block_diagonal", "cg", "cholesky", "eigsh", "hutchinson_diagonal",
    "hutchinson_trace", "hutchpp_trace", "logdet", "lsmr", "minres",
]  # fmt: skip
