"""Inputs that few programs have, and what PyTorch answers to them: a result, or a class of error."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any


def counted(torch: Any, *shape: int) -> Any:
    """float64 numbers from 1 in a shape."""
    return torch.arange(1.0, 1.0 + prod(shape), dtype=torch.float64).reshape(shape)


def bools(torch: Any, *shape: int) -> Any:
    """Every other one True."""
    return counted(torch, *shape) % 2 == 1


def resynthesised(torch: Any, return_complex: bool) -> Any:
    """A signal out of its short-time spectra, with a complex window."""
    window = torch.ones(8, dtype=torch.complex128)
    x = counted(torch, 32).to(torch.complex128)
    spectra = torch.stft(x, 8, window=window, onesided=False, return_complex=True)
    return torch.istft(spectra, 8, window=window, onesided=False, return_complex=return_complex)


def assigned(torch: Any, index: Any) -> Any:
    """A matrix of which a part was overwritten."""
    x = counted(torch, 2, 3)
    x[index] = 0.0
    return x


# The input, the vector of factors and what is multiplied.
REFLECTIONS = {
    "other rows": ((3, 3), (3,), (4, 3)),
    "more factors": ((3, 3), (4,), (3, 3)),
    "a vector": ((3,), (3,), (3, 3)),
    "onto a vector": ((3, 3), (3,), (3,)),
    "factors without batch": ((2, 3, 3), (3,), (3, 3)),
    "other batch": ((2, 3, 3), (2, 3), (3, 3, 3)),
    "that fit": ((3, 2), (2,), (3, 4)),
}
POOLS: dict[str, tuple[Any, ...]] = {
    "max_pool1d": (2,), "avg_pool1d": (2,), "lp_pool1d": (2, 2), "adaptive_max_pool1d": (2,),
    "adaptive_avg_pool1d": (2,),
}  # fmt: skip
INDICES = {
    "two": (..., ...), "around": (..., 0, ...), "two behind": (..., [0], ...), "at the end": ([0], ..., ...),
    "of nothing": (0, ..., ..., 1), "three": (..., ..., ...), "before an axis": (..., ..., 1),
}  # fmt: skip
RARE: dict[str, Callable[[Any], Any]] = {
    "addr of bools": lambda torch: torch.addr(bools(torch, 3, 2), bools(torch, 3), bools(torch, 2)),
    "addr of scaled bools": lambda torch: torch.addr(
        bools(torch, 3, 2), bools(torch, 3), bools(torch, 2), beta=2, alpha=2
    ),
    "addr of bools and half": lambda torch: torch.addr(
        bools(torch, 3, 2), bools(torch, 3), bools(torch, 2), beta=0.5
    ),
    "addr of several dtypes": lambda torch: torch.addr(
        bools(torch, 3, 2), counted(torch, 3).int(), bools(torch, 2)
    ),
    "istft with a complex window": lambda torch: resynthesised(torch, True),
    "real istft with a complex window": lambda torch: resynthesised(torch, False),
    "aminmax of none": lambda torch: torch.aminmax(torch.zeros(0)),
    "aminmax of no rows": lambda torch: torch.aminmax(torch.zeros(0, 2), dim=0),
    "aminmax of rows of none": lambda torch: torch.aminmax(torch.zeros(0, 2), dim=1),
    "kthvalue of none": lambda torch: torch.kthvalue(torch.zeros(0), 1),
    **{
        f"ormqr {name}": lambda torch, shapes=shapes: torch.ormqr(*[counted(torch, *s) for s in shapes])
        for name, shapes in REFLECTIONS.items()
    },
    "ormqr of two dtypes": lambda torch: torch.ormqr(
        counted(torch, 3, 3), counted(torch, 3), counted(torch, 3, 3).float()
    ),
    "ormqr of integers": lambda torch: torch.ormqr(
        counted(torch, 3, 3).long(), counted(torch, 3).long(), counted(torch, 3, 3).long()
    ),
    **{
        f"{name} of {shape}": lambda torch, name=name, args=args, shape=shape: getattr(
            torch.nn.functional, name
        )(torch.zeros(shape), *args)
        for name, args in POOLS.items()
        for shape in ((0, 10), (0, 3, 10), (3, 0, 10), (3, 0), (2, 3, 0))
    },
    **{
        f"margin loss with weights {shape}": lambda torch, shape=shape: torch.nn.functional.multi_margin_loss(
            counted(torch, 2, 3), torch.tensor([0, 1]), weight=counted(torch, *shape)
        )
        for shape in ((2,), (3,), (3, 1), ())
    },
    "margin loss with weights of float32": lambda torch: torch.nn.functional.multi_margin_loss(
        counted(torch, 2, 3), torch.tensor([0, 1]), weight=torch.ones(3)
    ),
    **{f"{name} ellipses": lambda torch, k=k: counted(torch, 2, 3)[k] for name, k in INDICES.items()},
    **{f"{name} ellipses assigned": lambda torch, k=k: assigned(torch, k) for name, k in INDICES.items()},
    **{
        f"{name} of a lazy layer": lambda torch, f=f: f(torch.nn.LazyLinear(3).weight)
        for name, f in {
            "shape": lambda weight: weight.shape,
            "size": lambda weight: list(map(bool, weight.size())),
            "numel": lambda weight: weight.numel(),
            "text": repr,
        }.items()
    },
    "shape of a lazy statistic": lambda torch: torch.nn.LazyBatchNorm1d().running_mean.shape,
    "lazy into lazy": lambda torch: repr(
        torch.nn.LazyLinear(3).load_state_dict(torch.nn.LazyLinear(3).state_dict())
    ),
    "lazy into ready": lambda torch: torch.nn.Linear(2, 3).load_state_dict(
        torch.nn.LazyLinear(3).state_dict()
    ),
    "is_lazy": lambda torch: torch.nn.parameter.is_lazy(torch.nn.LazyLinear(3).weight),
    "bag of a cube": lambda torch: torch.nn.functional.embedding_bag(
        torch.tensor([[1, 0]]), counted(torch, 2, 3, 4)
    ),
    "instance norm without space": lambda torch: torch.nn.functional.instance_norm(counted(torch, 1, 2)),
    "groups of one value": lambda torch: torch.nn.functional.group_norm(counted(torch, 1, 4), 4),
    "groups of two values": lambda torch: torch.nn.functional.group_norm(counted(torch, 1, 4), 2),
}
