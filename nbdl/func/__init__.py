"""Derivatives of functions, with the signatures of ``torch.func``."""

from __future__ import annotations

from nbdl.func.forward import jvp
from nbdl.func.functional import functional_call, replace_all_batch_norm_modules_, stack_module_state
from nbdl.func.jacobian import hessian, hvp, jacfwd, jacrev
from nbdl.func.reverse import grad, grad_and_value, linearize, vjp
from nbdl.func.vectorize import vmap

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "hvp",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "replace_all_batch_norm_modules_",
    "stack_module_state",
    "vjp",
    "vmap",
]
