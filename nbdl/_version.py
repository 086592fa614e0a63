"""The version of nbdl, read by the build and by `nbdl.__version__`."""

__version__ = "0.1.0"
