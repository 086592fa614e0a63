"""The switches that programs set for CUDA's libraries.

Attributes:
    matmul: ``matmul.allow_tf32`` says whether float32 products may be computed in TF32; it is what
        :func:`nbdl.set_float32_matmul_precision` sets.
"""

from __future__ import annotations

from nbdl.settings import get_float32_matmul_precision, set_float32_matmul_precision

__all__ = ["is_built", "matmul"]


class _Products:
    """Switches of matrix products."""

    @property
    def allow_tf32(self) -> bool:
        """Whether float32 products may be computed in TF32."""
        return get_float32_matmul_precision() != "highest"

    @allow_tf32.setter
    def allow_tf32(self, value: bool) -> None:
        set_float32_matmul_precision("high" if value else "highest")


matmul = _Products()


def is_built() -> bool:
    """True, kernels for CUDA are a part of nbdl; :func:`nbdl.cuda.is_available` says if there is a GPU."""
    return True
