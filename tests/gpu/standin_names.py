"""The names that CuPy has, and so the stand-in."""

from __future__ import annotations

UFUNCS = [
    "abs", "absolute", "add", "arccos", "arccosh", "arcsin",
    "arcsinh", "arctan", "arctan2", "arctanh", "bitwise_and", "bitwise_or", "bitwise_xor", "ceil",
    "conj", "conjugate",
    "cos", "cosh", "divide", "equal", "exp", "expm1", "floor", "frexp", "gcd", "greater", "greater_equal",
    "isfinite", "isinf", "isnan", "lcm", "less", "less_equal", "log", "log1p", "log2", "logaddexp",
    "logical_and", "logical_not", "logical_or", "maximum", "minimum", "multiply", "negative", "not_equal",
    "power", "reciprocal", "rint", "sign", "signbit", "sin", "sinh", "sqrt", "square", "subtract", "tan",
    "tanh", "trunc",
]  # fmt: skip
FUNCTIONS = [
    "all", "any", "arange", "argmax", "argmin", "argsort", "argwhere", "clip", "concatenate", "cumprod",
    "cumsum", "einsum", "eye", "flip", "full", "linspace", "matmul", "max", "mean", "median", "min",
    "moveaxis", "nonzero", "ones", "packbits", "pad", "partition", "prod", "repeat", "roll", "searchsorted",
    "sort", "split", "stack", "std", "sum", "swapaxes", "take", "take_along_axis", "tensordot", "tile",
    "transpose", "tri", "tril", "triu", "unique", "var", "vdot", "where", "zeros", "zeros_like",
]  # fmt: skip
CONSTANTS = [
    "bool_", "dtype", "e", "finfo", "float16", "float32", "float64", "iinfo", "inf", "int16", "int32",
    "int64", "int8", "nan", "newaxis", "pi", "promote_types", "result_type", "uint8", "uint16", "uint32",
    "uint64",
]  # fmt: skip
OWN = [
    "RawModule", "array", "asarray", "ascontiguousarray", "asnumpy", "broadcast_to", "copyto", "cuda",
    "empty", "empty_like", "from_dlpack", "get_default_memory_pool", "ndarray", "put_along_axis",
    "reshape", "ufunc",
]  # fmt: skip
NAMES = frozenset((*UFUNCS, *FUNCTIONS, *CONSTANTS, *OWN))
