"""Operations with kernels of the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbdl.autograd.custom import CustomOp


class Custom:
    """The primitive of :func:`nbdl.autograd.custom_op`."""

    name: str
    xp: Any

    def custom_op(
        self, *inputs: Any, op: CustomOp, static: tuple[tuple[str, Any], ...], out: Any = None
    ) -> Any:
        """Run the kernel that ``op`` has for this backend.

        Args:
            inputs: the operands; the kernel gets them contiguous.
            op: the operation.
            static: names and values of its parameters.
            out: receives the result.
        """
        params = dict(static)
        specs, single = op.specs(inputs, params)
        outs = (
            out
            if type(out) is tuple
            else tuple(self.xp.empty(*spec) for spec in specs)
            if out is None
            else (out,)
        )
        operands = [x if x.flags.c_contiguous else x.copy("C") for x in inputs]
        op.kernel(self.name)(*operands, *outs, **params)
        return outs[0] if single else outs
