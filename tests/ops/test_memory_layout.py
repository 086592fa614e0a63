"""Layouts, shared memory, and views that are copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbdl

VIEWS: dict[str, tuple[Any, ...]] = {
    "alias": (), "as_strided": ((2, 2), (2, 1), 1), "detach": (), "diagonal": (), "expand": ((2, 4, 4),),
    "permute": ((1, 0),), "select": (0, 1), "split": (3,), "split_with_sizes": ([1, 3],), "squeeze": (),
    "t": (), "transpose": (0, 1), "unbind": (), "unfold": (0, 2, 1), "unsqueeze": (1,), "view": ((2, 8),),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", VIEWS)
def test_copies_of_views(name, backend):
    import torch

    arguments = VIEWS[name]
    x, expected = nbdl.arange(16.0).reshape(4, 4), torch.arange(16.0).reshape(4, 4)
    actual = getattr(nbdl, f"{name}_copy")(x, *arguments)
    wanted = getattr(torch, f"{name}_copy")(expected, *arguments)
    pairs = [(actual, wanted)] if isinstance(wanted, torch.Tensor) else list(zip(actual, wanted, strict=True))
    for a, b in pairs:
        np.testing.assert_array_equal(a, b.numpy())
        assert not a._is_view()
        a.zero_()
    np.testing.assert_array_equal(x, expected.numpy())


def test_a_copy_is_differentiable_and_takes_out(backend):
    x = nbdl.ones(2, 2, requires_grad=True)
    nbdl.view_copy(x, (4,)).square().sum().backward()
    np.testing.assert_array_equal(x.grad, np.full((2, 2), 2))
    out = nbdl.zeros(4)
    assert nbdl.view_copy(x.detach(), (4,), out=out) is out
    np.testing.assert_array_equal(out, np.ones(4))


def test_copies_of_complex_views(backend):
    x = nbdl.tensor([[1.0, 2.0]])
    z = nbdl.view_as_complex_copy(x)
    np.testing.assert_array_equal(z, np.array([1 + 2j], "complex64"))
    np.testing.assert_array_equal(nbdl.view_as_real_copy(z), x)
    assert not z._is_view()


def test_layout_and_base(backend):
    x = nbdl.ones(2, 2)
    assert x.layout is nbdl.strided
    assert repr(x.layout) == "nbdl.strided"
    assert isinstance(x.layout, nbdl.layout)
    assert x._base is None
    assert x[1].view(-1)._base is x
    assert x[1]._is_view()
    assert not x.clone()._is_view()


def test_storages(backend):
    x = nbdl.ones(2, 2)
    storage = x[1].untyped_storage()
    assert storage == x.untyped_storage() == x.detach().untyped_storage()
    assert hash(storage) == hash(x.untyped_storage())
    assert storage != x.clone().untyped_storage()
    assert (storage.nbytes(), storage.size(), len(storage)) == (16, 16, 16)
    assert storage.data_ptr() == x.data_ptr()
    assert storage.device == x.device
    assert x[1].storage_offset() == 2
