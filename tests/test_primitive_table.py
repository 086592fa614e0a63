"""docs/primitives.md says how each backend runs each primitive, as it is now."""

from __future__ import annotations

import pytest

pytest.importorskip("numba")

import primitive_table


def test_the_table_is_up_to_date():
    assert primitive_table.FILE.read_text(encoding="utf-8") == primitive_table.table(), (
        "run python tests/primitive_table.py"
    )


def test_what_every_training_step_needs_is_no_composition_of_cupys_functions():
    for name in ("pointwise", "reduce", "index", "gather", "cross_entropy_loss", "normalize", "dropout"):
        assert primitive_table.on_cupy(name).startswith("kernel")
