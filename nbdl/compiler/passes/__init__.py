"""The improver: passes from program to program, each to be switched off by its name.

Example:
    >>> from nbdl.compiler import PASSES
    >>> list(PASSES)[:2]
    ['operands', 'dead_code']
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from nbdl.compiler.passes.biases import join_biases
from nbdl.compiler.passes.common import merge_common
from nbdl.compiler.passes.constants import fold_constants
from nbdl.compiler.passes.dead_code import remove_dead_code
from nbdl.compiler.passes.epilogues import attach_epilogues
from nbdl.compiler.passes.fusion import fuse
from nbdl.compiler.passes.groups import group_updates
from nbdl.compiler.passes.operands import drop_unread_operands
from nbdl.compiler.passes.products import join_products
from nbdl.compiler.passes.windows import work_on_windows
from nbdl.compiler.program import Program

Pass = Callable[[Program], Program]

# In the order in which they run.
PASSES: dict[str, Pass] = {
    "operands": drop_unread_operands,
    "dead_code": remove_dead_code,
    "common": merge_common,
    "constants": fold_constants,
    "biases": join_biases,
    "products": join_products,
    "windows": work_on_windows,
    "fusion": fuse,
    "epilogues": attach_epilogues,
    "groups": group_updates,
}


def improve(program: Program, without: Collection[str] = ()) -> Program:
    """The program after all passes but those named in ``without``."""
    for name, run in PASSES.items():
        if name not in without:
            program = run(program)
    return program
