"""Lines of the op table: products, quantiles, sampled functions, layout, linear algebra, complex numbers."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from op_samples import Op, between, distinct, each, ints, op, positive, real

import nbdl


def regular(x: Any) -> Any:
    """A matrix that can be inverted, and made of any square one."""
    return x + 3 * (x.detach() * 0 + 1).diagonal(0, -2, -1).diag_embed()


def definite(x: Any) -> Any:
    return regular(x @ x.mT)


def of(name: str, change: Any, *args: Any, twin: str = "", **options: Any) -> Op:
    """A line for `name` of a changed first operand."""

    def call(x: Any, *rest: Any, **keywords: Any) -> Any:
        return attrgetter(name)(nbdl)(change(x), *rest, **keywords)

    def torch_twin(x: Any, *rest: Any, **keywords: Any) -> Any:
        import torch

        return attrgetter(twin or name)(torch)(change(x), *rest, **keywords)

    return op(name, *args, half=False, scale=20, call=call, twin=torch_twin, **options)


FUNCTION_LINES: list[Op] = [
    # products
    op("addmm", real(3, 5), real(3, 4), real(4, 5), beta=0.5, alpha=2.0),
    op("addmm", real(5), real(3, 4), real(4, 5)),
    op("addmv", real(3), real(3, 4), real(4), beta=2.0),
    op("addr", real(3, 4), real(3), real(4), alpha=0.5),
    op("baddbmm", real(2, 3, 5), real(2, 3, 4), real(2, 4, 5), beta=0),
    op("addbmm", real(3, 5), real(2, 3, 4), real(2, 4, 5)),
    *each("outer ger", real(3), real(4)),
    op("vdot", real(4), real(4)),
    op("inner", real(2, 4), real(3, 4)),
    op("inner", real(2, 4), real()),
    op("cross", real(2, 3), real(2, 3), twin="linalg.cross"),
    op("cross", real(3, 2), real(3, 2), dim=0),
    op("vander", real(4), 3),
    op("vander", real(3), increasing=True),
    op("tensordot", real(2, 3, 4), real(3, 4, 5)),
    op("tensordot", real(2, 3), real(4), 0),
    op("tensordot", real(2, 3, 4), real(4, 3, 5), dims=([1, 2], [1, 0])),
    op("kron", real(2, 3), real(3, 2)),
    op("kron", real(2), real(2, 1, 3)),
    op("trace", real(3, 4)),
    op("chain_matmul", real(2, 3), real(3, 4), real(4, 2), twin=lambda a, b, c: a @ b @ c),
    op("einsum", "bij,bjk,kl->bil", real(2, 3, 4), real(2, 4, 3), real(3, 2), scale=4),
    op("einsum", "ii->i", real(3, 3)),
    *[op("cdist", real(2, 3, 4), distinct(5, 4), p=p, scale=4) for p in (0.0, 1.0, 2.0, 3.0, float("inf"))],
    op("cdist", real(3, 4), distinct(30, 4), scale=40, half=False),
    op("dist", real(3, 4), distinct(4), 3.0),
    # statistics
    op("quantile", distinct(3, 4), 0.3, dim=1, half=False),
    op("quantile", distinct(3, 4), between(0.1, 0.9, 2, constant=True), half=False, orders=1),
    op("nanquantile", distinct(3, 4), 0.6, dim=0, keepdim=True, half=False),
    op("cov", real(3, 5), scale=4),
    op("cov", real(5), correction=0, scale=4),
    op("cov", real(2, 4), fweights=None, aweights=None),
    op("corrcoef", real(3, 5), scale=4),
    op("renorm", real(3, 4), 2, 0, 1.0),
    # sampled functions
    *each("trapezoid trapz cumulative_trapezoid", real(3, 4), dim=1),
    op("trapezoid", real(3, 4), real(4)),
    op("cumulative_trapezoid", real(3, 4), real(3, 4), dim=0),
    op("gradient", real(3, 4), spacing=0.5, scale=4),
    op("gradient", real(4, 4), dim=0, edge_order=2, scale=4),
    # pointwise
    op("clamp_min", distinct(3, 4), -0.9),
    op("clamp_max", distinct(3, 4), 0.8),
    op("rsub", real(3, 4), real(4), alpha=2.0),
    op("positive", real(3, 4)),
    op("fill", real(3, 4), 2.0),
    *each("isneginf isposinf isreal", real(3, 4), orders=0),
    op("frexp", real(3, 4), half=False),
    op("ldexp", real(3, 4), real(4)),
    op("modf", real(3, 4), twin=None),
    op("as_strided_scatter", real(3, 4), real(2, 2), (2, 2), (4, 2), 1, strided=False),
    op("unsafe_chunk", real(4, 3), 2),
    op("unsafe_split", real(4, 3), 2),
    op("unsafe_split_with_sizes", real(4, 3), (1, 3)),
    op("spacing", real(3, 4), twin=None, orders=0, half=False),
    *each("gcd lcm", ints(-9, 9, 3, 4), ints(-6, 7, 4), orders=0),
    op("i0", real(3, 4), scale=4),
    op("igamma", positive(3, 4, constant=True), positive(4), scale=4),
    op("igammac", positive(3, 4, constant=True), positive(4), scale=4),
    op("mvlgamma", between(1.5, 3.0, 3, 4), 3, scale=20),
    # layout
    op("as_strided", real(3, 4), (2, 3), (4, 2), 1, strided=False),
    op("as_strided", real(3, 4), (3, 3), (2, 1), strided=False),
    op(".unfold", real(3, 7), 1, 3, 2),
    *each("atleast_1d atleast_2d atleast_3d", real(4)),
    op("atleast_3d", real(2, 3)),
    op("column_stack", [real(3), real(3, 2)]),
    op("row_stack", [real(3), real(2, 3)]),
    op("hsplit", real(3, 4), 2),
    op("vsplit", real(4, 3), [1, 3]),
    op("dsplit", real(2, 3, 4), 2),
    *each("swapaxes swapdims moveaxis", real(2, 3, 4), 0, 2),
    op("narrow_copy", real(3, 4), 1, 1, 2),
    op(".sum_to_size", real(2, 3, 4), 3, 1),
    # linear algebra
    *[
        of(name, regular, real(3, 3))
        for name in ("det", "slogdet", "inverse", "pinverse", "logdet", "matrix_exp")
    ],
    op("nuclear_norm", real(3, 4), half=False, scale=20, twin=lambda x: x.norm("nuc")),
    op("frobenius_norm", real(3, 4), dim=1, twin="linalg.norm"),
    of("matrix_power", regular, real(3, 3), 3),
    of("cholesky", definite, real(3, 3), twin="linalg.cholesky"),
    op("cholesky_solve", real(3, 2), between(0.5, 2, 3, 3), half=False, scale=20),
    op("cholesky_inverse", between(0.5, 2, 3, 3), half=False, scale=40),
    op(
        "triangular_solve",
        real(3, 2),
        between(0.5, 2, 3, 3),
        transpose=True,
        half=False,
        scale=20,
        twin=lambda b, a, transpose: (a.triu().T.inverse() @ b, a),
    ),
    op("qr", real(4, 3), half=False, scale=20, twin="linalg.qr"),
    op(
        "svd",
        distinct(4, 3),
        half=False,
        scale=40,
        call=lambda x: nbdl.svd(x).U.abs() * nbdl.svd(x).S,
        twin=lambda x: x.svd().U.abs() * x.svd().S,
    ),
    op(
        "lu_solve",
        real(3, 3),
        real(3, 2),
        half=False,
        scale=20,
        call=lambda a, b: nbdl.lu_solve(b, *nbdl.linalg.lu_factor(regular(a))),
        twin=lambda a, b: regular(a).inverse() @ b,
    ),
    op(
        "lu_unpack",
        real(3, 3),
        ints(3, 4, 3),
        half=False,
        twin=None,
        call=lambda x, p: nbdl.lu_unpack(x, p.int()),
    ),
    op("geqrf", real(4, 3), half=False, orders=0),
    op("orgqr", real(4, 3), real(3), half=False, scale=20),
    op("ormqr", real(4, 3), real(3), real(4, 2), half=False, scale=20),
]

# Public functions of this area that are tested in ops/test_complex.py and ops/test_functions.py.
FUNCTION_OTHERS = {
    "adjoint", "angle", "bartlett_window", "blackman_window", "broadcast_shapes", "can_cast", "complex",
    "conj", "conj_physical", "empty_permuted", "empty_strided", "frombuffer", "hamming_window",
    "hann_window", "imag", "is_complex", "is_conj", "is_inference", "is_neg", "is_nonzero", "is_same_size",
    "is_signed", "kaiser_window", "new_empty", "new_empty_strided", "numel", "polar", "range", "real",
    "resolve_conj", "resolve_neg", "scalar_tensor", "sgn", "view_as_complex", "view_as_real",
}  # fmt: skip
