"""Compiling ahead: kernels are made before they are needed, and kept in the cache.

Kernels depend on dtypes and on the layout of operands, not on their sizes. What :data:`TABLE` runs covers
contiguous operands of single and double precision; what another program needs is compiled by running it.
"""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import nbdl
from nbdl import backend as backends
from nbdl import config, nn, optim
from nbdl.formula import FUNCTIONS
from nbdl.ops import arithmetic

DTYPES = ("float32", "float64")


class Warmed(NamedTuple):
    """What was compiled for a backend.

    Attributes:
        backend: its name.
        kernels: how many kernels were compiled that the cache did not have.
        seconds: how long all of it took.
    """

    backend: str
    kernels: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.backend}: {self.kernels} kernels compiled in {self.seconds:.1f} s"


def warmup(
    program: str | Path | None = None, arguments: Sequence[str] = (), backend: str | None = None
) -> list[Warmed]:
    """Compile kernels ahead.

    Args:
        program: a Python file, which is run as a script; default: the operations of :data:`TABLE`.
        arguments: of the program.
        backend: ``numba`` or ``cupy``; default: every one of them that can be used.

    Raises:
        FileNotFoundError: there is no such program.
        RuntimeError: the backend cannot be used here.
        ValueError: it compiles nothing, or there is no such backend.

    Example:
        >>> import tempfile
        >>> import nbdl
        >>> with tempfile.NamedTemporaryFile("w", suffix=".py") as program:
        ...     _ = program.write("import nbdl; nbdl.ones(3).sum()")
        ...     program.flush()
        ...     [warmed] = nbdl.utils.warmup(program.name, backend="numba")
        >>> warmed.backend
        'numba'
    """
    if program is not None and not Path(program).is_file():
        raise FileNotFoundError(f"warmup: there is no program {str(program)!r}")
    found = []
    for name in _chosen(backend):
        before, start = _kernel_count(name), time.perf_counter()
        with nbdl.use_backend(name):
            if program is None:
                run_table()
            else:
                _run_program(str(program), arguments)
        found.append(Warmed(name, _kernel_count(name) - before, time.perf_counter() - start))
    return found


def _chosen(backend: str | None) -> list[str]:
    known = {status.name: status for status in backends.status() if status.name != "numpy"}
    if backend is None:
        return [name for name, status in known.items() if status.available]
    if backend not in known:
        raise ValueError(f"warmup: backend must be one of {', '.join(known)}, got {backend!r}")
    status = known[backend]
    if not status.available:
        raise RuntimeError(f"warmup: backend {backend} is missing: {status.reason}; {status.remedy}")
    return [backend]


def _kernel_count(backend: str) -> int:
    """Kernels in the cache; on the GPU those of this process, since CuPy's cache is not nbdl's alone."""
    if backend == "cupy":
        from nbdl.backend import registry

        loaded: Any = registry.load("cupy")
        return int(loaded.kernel_count)
    return sum(1 for _ in config.cache_dir().rglob("*.o"))


def _run_program(program: str, arguments: Sequence[str]) -> None:
    outer, path = sys.argv, list(sys.path)
    sys.argv = [program, *arguments]
    sys.path.insert(0, str(Path(program).resolve().parent))  # as Python does for its programs
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"warmup: {program} ended with the exit code {end.code}") from None
    finally:
        sys.argv, sys.path[:] = outer, path


# ------------------------------------------------------------------------------------------------- the table
def run_table(names: Sequence[str] | None = None) -> None:
    """Run entries of :data:`TABLE`, by default all, under the backend in force."""
    state = nbdl.get_rng_state()
    for name in TABLE if names is None else names:
        for dtype in DTYPES:
            with _default_dtype(dtype):
                TABLE[name]()
    nbdl.set_rng_state(state)


@contextmanager
def _default_dtype(dtype: str) -> Iterator[None]:
    outer = nbdl.get_default_dtype()
    nbdl.set_default_dtype(getattr(nbdl, dtype))
    try:
        yield
    finally:
        nbdl.set_default_dtype(outer)


def _number(*shape: int) -> nbdl.Tensor:
    """Numbers between 0 and 1, where every function is defined."""
    return nbdl.rand(*shape, requires_grad=True)


def _backward(result: Any) -> None:
    for y in result if isinstance(result, tuple) else (result,):
        if isinstance(y, nbdl.Tensor) and y.requires_grad:
            y.sum().backward(retain_graph=True)


def _formulas() -> None:
    """Every function of the vocabulary of formulas that has a name of its own, with its derivative."""
    x = _number(40)
    for name in sorted(FUNCTIONS.keys() & set(arithmetic.__all__)):
        function, operands = getattr(nbdl, name), [_number(40) for _ in range(FUNCTIONS[name].arity)]
        if name.startswith("bitwise"):
            function(*[nbdl.arange(1, 41) for _ in operands])
        elif name == "polygamma":
            _backward(function(1, x))
        elif name == "nan_to_num":
            _backward(function(x))
        else:
            _backward(function(*[x > 0.5, *operands[1:]] if name == "where" else operands))


def _arithmetic() -> None:
    """Operators with rows, columns and numbers beside a matrix, and in place."""
    x = _number(20, 30)
    for y in (_number(20, 30), _number(30), _number(20, 1), 2.0):
        for result in (x + y, x - y, x * y, x / y, x > y):
            _backward(result)
    z = x.detach().clone()
    z.add_(x.detach()).mul_(0.5).zero_()


def _reductions() -> None:
    x = _number(20, 30)
    for kind in ("sum", "mean", "prod", "amax", "amin", "var", "std", "logsumexp"):
        for dim in (0, 1, (0, 1)):
            if kind != "prod" or dim != (0, 1):
                _backward(getattr(x, kind)(dim))
    for kind in ("argmax", "argmin", "cumsum", "cumprod", "sort"):
        for dim in (0, 1):
            getattr(x.detach(), kind)(dim)


def _products() -> None:
    x = _number(20, 30)
    for result in (x @ _number(30, 10), x.t() @ x, nbdl.bmm(_number(2, 4, 5), _number(2, 5, 6))):
        _backward(result)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(12, 8), (5, 12)),
    "Conv1d": (lambda: nn.Conv1d(4, 8, 3, padding=1), (2, 4, 16)),
    "Conv2d": (lambda: nn.Conv2d(4, 8, 3, padding=1), (2, 4, 12, 12)),
    "Conv2d, stride 2": (lambda: nn.Conv2d(4, 8, 3, stride=2, padding=1), (2, 4, 12, 12)),
    "Conv2d, 1 x 1": (lambda: nn.Conv2d(4, 8, 1), (2, 4, 12, 12)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 8, 2, stride=2), (2, 4, 6, 6)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(6), (5, 6)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), (2, 4, 6, 6)),
    "LayerNorm": (lambda: nn.LayerNorm(12), (5, 12)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (2, 4, 6, 6)),
    "RMSNorm": (lambda: nn.RMSNorm(12), (5, 12)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), (2, 4, 6, 6)),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), (2, 4, 6, 6)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(1), (2, 4, 6, 6)),
    "Dropout": (lambda: nn.Dropout(0.1), (5, 12)),
    "Softmax": (lambda: nn.Softmax(-1), (5, 12)),
    "LogSoftmax": (lambda: nn.LogSoftmax(-1), (5, 12)),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
    "RNN": (lambda: nn.RNN(6, 8), (5, 2, 6)),
    "LSTM": (lambda: nn.LSTM(6, 8), (5, 2, 6)),
    "GRU": (lambda: nn.GRU(6, 8), (5, 2, 6)),
}
ACTIVATIONS = (
    "ReLU", "LeakyReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Sigmoid", "Tanh", "Softplus",
    "Hardtanh", "Hardswish", "Hardsigmoid", "LogSigmoid", "Softsign", "PReLU",
)  # fmt: skip
LOSSES = ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss", "BCEWithLogitsLoss", "KLDivLoss")
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1}, "Momentum": {"lr": 0.1}, "Adam": {}, "AdamW": {}, "RMSprop": {}, "Adagrad": {},
    "Adamax": {}, "NAdam": {}, "RAdam": {}, "Lion": {},
}  # fmt: skip


def _layers() -> None:
    for make, shape in LAYERS.values():
        _backward(make()(_number(*shape)))
    for name in ACTIVATIONS:
        _backward(getattr(nn, name)()(_number(20, 30)))
    embedding = nn.Embedding(10, 6)
    _backward(embedding(nbdl.arange(4)))


def _losses() -> None:
    for name in LOSSES:
        _backward(getattr(nn, name)()(_number(20, 5), _number(20, 5).detach()))
    classes = nbdl.arange(20) % 5
    for loss in (nn.CrossEntropyLoss(), nn.NLLLoss()):
        _backward(loss(_number(20, 5), classes))


def _optimizers() -> None:
    for name, settings in OPTIMIZERS.items():
        params = [_number(6, 5), _number(6)]
        optimizer = getattr(optim, name)(params, **settings)
        for _ in range(2):
            for param in params:
                param.grad = param.detach().clone()
            optimizer.step()


def _training() -> None:
    """A compiled step of a small network, whose loops are fused."""
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = optim.Adam(model.parameters())

    @nbdl.compile
    def step(x: nbdl.Tensor, y: nbdl.Tensor) -> nbdl.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(3):
        step(nbdl.rand(6, 12), nbdl.tensor(np.arange(6) % 3))


TABLE: dict[str, Callable[[], None]] = {
    "formulas": _formulas,
    "arithmetic": _arithmetic,
    "reductions": _reductions,
    "products": _products,
    "layers": _layers,
    "losses": _losses,
    "optimizers": _optimizers,
    "training": _training,
}
"""What is compiled ahead, by name; each entry runs operations in the default dtype."""
