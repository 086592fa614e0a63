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
    "nn.utils.prune", "nn.utils.rnn", "optim", "optim.lr_scheduler", "autograd", "autograd.functional",
    "autograd.graph", "func", "linalg", "fft", "special", "distributions", "utils.data", "Tensor",
)  # fmt: skip
CLASSES = ("Generator", "Size", "Tensor", "device", "dtype", "enable_grad", "finfo", "iinfo",
           "inference_mode", "no_grad", "set_grad_enabled")  # fmt: skip
# What nbdl leaves out on purpose: the reason, and regular expressions for whole names.
EXCLUDED = tuple(
    (reason, re.compile("|".join(pattern.split())))
    for reason, pattern in {
        "quantised numbers: floats, integers and complex numbers only": r"""
            q_.* .*fake_quant.* .*quantize_.* .*_quantize.* quantized_.* quantize .*quantized dequantize
            .*fbgemm.* int_repr
            qscheme choose_qparams.* q?u?int\dx?\d? q(u?)int\d+(x\d)? u?int[1-7]""",
        "formats of fewer than 16 bits, and complex numbers of two half floats": r"""
            float[48]_.* bits\w* bit complex32 chalf""",
        "sparse and nested tensors: all tensors are dense": r"""
            .*sparse.* .*_indices indices values .*coalesced? dense_dim to_dense to_padded_tensor
            (ds|hs|s|sp|hsp)(mm|addmm|paddmm) sspaddmm saddmm is_nested lobpcg
            (.*_)?indices_copy values_copy""",
        "other devices, and single functions of their libraries: a GPU is what CuPy computes on": r"""
            (cudnn|miopen|mkldnn|onednn)_.* .*_mkldnn .*_?(xpu|ipu|xla|mps|mtia|hpu|maia|vulkan)(_.*)?
            .*_cuda(12)? set_.*_stream(_mismatch)? get_device_module grouped_mm
            scaled_.*mm ScalingType SwizzleType""",
        "several processes that train one model, and locks between threads": r"""
            .*[dD]istributed.* SyncBatchNorm DataParallel batch_norm_(backward|elemt|gather|stats|update).*
            fork wait .*_multithreading_enabled thread_safe_generator""",
        "casts are switched by a block, nbdl.amp.autocast, and not behind its back": r".*autocast.*",
        "other compilers and recorders; nbdl.compile replays what it has seen": r"""
            sym_.* slice_copy import_ir_.* parse_.* merge_type.* unify_type.* boolean_dispatch functionalize
            debug_unwrap region_activation_.* is_traceable_.* is_opaque_.* get_swap_module.*
            as_subclass dispatch.*""",
        "memory formats and storages: kernels choose the order of memory, arrays own it": r"""
            convert_conv\dd_weight_memory_format (is_|typed_)?storage storage_type enforce_grad_layout_policy
            hash_tensor module_load grad_dtype slice_inverse is_view_replay_enabled""",
        "names that PyTorch keeps only to say what replaced them, or that nothing documents": r"""
            eig lstsq matrix_rank solve symeig Container resize resize_as reinforce volatile NestedIOFunction
            PackedSequence_ bind copy_method_params bisect_right factory_kwargs classproperty index
            embedding_bag
            assert_int_or_pair compiled_with_.* get_file_path prepare_multiprocessing_environment
            init_num_threads set_anomaly_enabled kineto_available native_.* profiler_allow.* non_deterministic
            LinearCrossEntropyOptions""",
        "__torch_function__: classes from outside do not take over functions": r"""
            (handle|has)_torch_function.* is_tensor_like""",
        "data pipes, which PyTorch has moved elsewhere": r"""
            .*DataPipe DataChunk argument_validation functional_datapipe .*runtime_validation.*
            guaranteed_datapipes_determinism""",
        "string patterns for axes, of an optional package": "rearrange",
    }.items()
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
    if name.startswith("_"):
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
    if isinstance(value, float):
        return module.__name__ == "torch"
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


def reason(name: str) -> str | None:
    """Why nbdl leaves a name out; None: it is just missing."""
    return next((why for why, pattern in EXCLUDED if pattern.fullmatch(name)), None)


def listed(names: list[str]) -> str:
    """Names in Markdown."""
    return ", ".join(f"`{name}`" for name in names)


def table(names: dict[str, list[str]], version: str) -> str:
    """The document."""
    lines = [
        "# Coverage of PyTorch's names",
        "",
        f"Public names of PyTorch {version} that nbdl has under the same name in the same place. Written by",
        "`tests/torch_names/generate.py`; a test fails when a name is lost. Names that are left out on",
        "purpose are listed below with the reason; the share is of all others.",
        "",
        "| module | names | nbdl has | left out | missing | |",
        "|---|---|---|---|---|---|",
    ]
    missing, excluded = [], {why: [] for why, _ in EXCLUDED}
    for path, every in names.items():
        have = covered(path, every)
        absent = [name for name in every if name not in have]
        lost = [name for name in absent if reason(name) is None]
        wanted = len(have) + len(lost)
        share = len(have) / wanted if wanted else 1.0
        left_out = len(absent) - len(lost)
        lines.append(
            f"| {title(path)} | {len(every)} | {len(have)} | {left_out} | {len(lost)} | {share:.0%} |"
        )
        if lost:
            missing += ["", f"**{title(path)}**: {listed(lost)}"]
        for name in absent:
            if name not in lost:
                excluded[reason(name)].append(qualified(path, name))
    lines += ["", "## Missing", *(missing or ["", "Nothing."]), "", "## Left out on purpose"]
    for why, found in excluded.items():
        lines += ["", f"**{why[0].upper()}{why[1:]}**: {listed(found)}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    import torch

    names = public_names(torch)
    have = [qualified(path, name) for path, every in names.items() for name in covered(path, every)]
    NAMES.write_text("\n".join(have) + "\n")
    TABLE.write_text(table(names, torch.__version__.split("+")[0]))


if __name__ == "__main__":
    main()
