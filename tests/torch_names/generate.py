"""Writes what of PyTorch's public names nbdl has: `docs/coverage.md`, and `names.txt` beside this file.

    python tests/torch_names/generate.py

It needs PyTorch. `test_torch_names.py` needs it not: it compares nbdl with `names.txt`.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import nbdl

NAMES = Path(__file__).with_name("names.txt")
TABLE = Path(__file__).parents[2] / "docs" / "coverage.md"
MODULES = (
    "", "nn", "nn.functional", "nn.init", "nn.utils", "nn.utils.parametrizations", "nn.utils.parametrize",
    "nn.utils.prune", "nn.utils.rnn", "optim", "optim.lr_scheduler", "autograd", "func", "linalg", "fft",
    "special", "distributions", "utils.data", "Tensor",
)  # fmt: skip
CLASSES = ("Generator", "Size", "Tensor", "device", "dtype", "enable_grad", "finfo", "iinfo",
           "inference_mode", "no_grad", "set_grad_enabled")  # fmt: skip
# Left out: other devices, small formats, quantisation, sparse and distributed tensors, compilers, internals.
ELSEWHERE = re.compile(
    r"q_|quant|fbgemm|mkldnn|onednn|cudnn|miopen|sparse|csr|csc|coo|crow|ccol|bsr|bsc|ddp|ipu|xpu|mps|mtia|hpu"
    r"|maia|vulkan|xla|_cuda|cudart|cuda_|sym_|Sym|nested|dequant|int_repr|distributed|Distributed|jit|Script"
    r"|vmap_|(Storage|Type|Error|torch_function|_notes|_args|DataPipe)$|compile|export|dispatch|deterministic"
    r"|typename|fork|wait|autocast|namedtensor|storage|chalf|record_stream|module_load|has_|refine_names|rename"
    r"|align_(as|to|tensors)|GradScaler|DataParallel|SyncBatchNorm|batch_norm_|native_|scaled_(grouped_)?mm"
    r"|(row|col)_indices|dense_dim|coalesce|_copy$|vitals|obj|layout|memory_format|channels_last|^new$|to_dense"
    r"|^parse_|^(import_ir_module|read_vitals|init_num_threads|merge_type|unify_type|set_anomaly)|_fallback"
    r"|factory_kwargs|assert_int_or_pair|is_(traceable|opaque)_|^(u?int[1-7]|bits\w*|float[48]_\w+|complex32|bit|classproperty)$|get_swap_module|grad_dtype|hash_tensor|qscheme"
)


def lookup(package: Any, path: str) -> Any:
    """A module or class by its dotted path below a package; None where there is none."""
    found = package
    for name in filter(None, path.split(".")):
        if inspect.ismodule(found) and not hasattr(found, name):
            try:
                importlib.import_module(f"{found.__name__}.{name}")
            except ImportError:
                return None
        found = getattr(found, name, None)
    return found


def is_public(module: Any, name: str) -> bool:
    """Whether PyTorch offers the name there, rather than having imported it for its own use."""
    if name.startswith("_") or ELSEWHERE.search(name):
        return False
    value = getattr(module, name)
    if inspect.ismodule(value):
        return False
    if inspect.isclass(module):
        return True
    origin = getattr(value, "__module__", None) or ""
    if inspect.isclass(value) and module.__name__ == "torch":
        return name in CLASSES
    if inspect.isclass(value):
        return origin.startswith(module.__name__)
    if type(value).__name__ == "dtype" or inspect.isbuiltin(value):
        return name != "bind"
    return callable(value) and origin.startswith("torch")


def public_names(torch: Any) -> dict[str, list[str]]:
    """PyTorch's names by module."""
    modules = {path: lookup(torch, path) for path in MODULES}
    return {path: [n for n in dir(module) if is_public(module, n)] for path, module in modules.items()}


def covered(path: str, names: list[str]) -> list[str]:
    """Those of the names that nbdl has too."""
    module = lookup(nbdl, path)
    return [] if module is None else [name for name in names if hasattr(module, name)]


def qualified(path: str, name: str) -> str:
    """``nn.Linear``; at the top just the name."""
    return f"{path}.{name}" if path else name


def title(path: str) -> str:
    """What the table calls a module."""
    return f"`torch.{path}`" if path else "`torch`"


def table(names: dict[str, list[str]], version: str) -> str:
    """The document."""
    lines = [
        "# Coverage of PyTorch's names",
        "",
        f"Public names of PyTorch {version} that nbdl has under the same name in the same place. Written by",
        "`tests/torch_names/generate.py`; a test fails when a name is lost. Left out are other devices,",
        "quantised, sparse and distributed tensors, compilers, older storage classes, and internals.",
        "",
        "| module | names | nbdl has | |",
        "|---|---|---|---|",
    ]
    missing = []
    for path, every in names.items():
        have = covered(path, every)
        share = len(have) / len(every) if every else 1.0
        lines.append(f"| {title(path)} | {len(every)} | {len(have)} | {share:.0%} |")
        lost = [name for name in every if name not in have]
        if lost:
            missing += ["", f"**{title(path)}**: " + ", ".join(f"`{name}`" for name in lost)]
    return "\n".join([*lines, "", "## Missing", *missing]) + "\n"


def main() -> None:
    """Write both files."""
    import torch

    names = public_names(torch)
    have = [qualified(path, name) for path, every in names.items() for name in covered(path, every)]
    NAMES.write_text("\n".join(have) + "\n")
    TABLE.write_text(table(names, torch.__version__.split("+")[0]))


if __name__ == "__main__":
    main()
