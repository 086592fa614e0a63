"""Loops and CUDA C that no formula can say; installed as ``nbdl.kernels``."""
