"""Saving and loading: nested containers of tensors and plain values in safetensors files."""

from __future__ import annotations

from nbdl.serialization.checkpoint import load, load_file, save, save_file

__all__ = ["load", "load_file", "save", "save_file"]
