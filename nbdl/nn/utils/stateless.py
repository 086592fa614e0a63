"""An older place of :func:`nbdl.func.functional_call`."""

from __future__ import annotations

from typing import Any

from nbdl.func import functional_call as call_functional


def functional_call(
    module: Any,
    parameters_and_buffers: Any,
    args: Any = None,
    kwargs: Any = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """See :func:`nbdl.func.functional_call`, whose arguments these are."""
    return call_functional(
        module, parameters_and_buffers, args, kwargs, tie_weights=tie_weights, strict=strict
    )
