"""The graphs of cuDNN as the true nvidia-cudnn-frontend sees them: a program of its own, without a GPU.

The first argument is a folder with the libraries of `STUBS`, which must be in LD_LIBRARY_PATH. They say that
there is cuDNN 9.10 and a device of compute capability 9.0, and that is all that the frontend asks before it
plans. It prints a line for each graph that the frontend finds well described.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from nbdl.backend.cupy import convolution, dnn, dnn_attention, dnn_normalization

# By name of the library: its source.
STUBS = {
    "libcudnn.so.9": 'extern "C" unsigned long cudnnGetVersion() { return 91000; }',
    # major and minor stand behind 360 bytes of the properties
    "libcudart.so.13": """
        #include <cstring>
        extern "C" int cudaGetDevice(int* device) { *device = 0; return 0; }
        extern "C" int cudaGetDeviceProperties(char* properties, int) {
            std::memset(properties, 0, 512);
            properties[360] = 9;
            return 0;
        }
    """,
}
HEADS = ((2, 3, 16, 8), (384, 128, 8, 1))
IMAGE = ((2, 8, 4, 4), (128, 1, 32, 8))
SHAPES = {1: (2, 8, 9), 2: (5, 8, 3), 3: (2, 5, 7)}  # of a convolution with one spatial axis, by operand


def _convolution(wanted: int) -> object:
    steps = {number: dnn.packed(shape, dnn.image_order(3, True)) for number, shape in SHAPES.items()}
    places = [(number, SHAPES[number], steps[number]) for number in SHAPES if number != wanted]
    geometry = convolution.Geometry((1,), ((0, 0),), (1,))
    result = (wanted, SHAPES[wanted], steps[wanted])
    return lambda sketch: convolution._describe(places, result, geometry, sketch)


GRAPHS = {
    "conv_fprop": (_convolution(3), "float32"),
    "conv_dgrad": (_convolution(1), "float32"),
    "conv_wgrad": (_convolution(2), "float32"),
    "batchnorm": (lambda sketch: dnn_normalization._describe(IMAGE, 1e-5, sketch), "float16"),
    "batchnorm_backward": (lambda sketch: dnn_normalization._describe_back(IMAGE, 1e-5, sketch), "float16"),
    "sdpa": (lambda sketch: dnn_attention._describe([HEADS] * 3, [HEADS], 0.3, True, sketch), "float16"),
    "sdpa_backward": (
        lambda sketch: dnn_attention._describe_back([HEADS] * 5, [HEADS] * 3, 0.3, True, sketch),
        "bfloat16",
    ),
}


def main(folder: str) -> None:
    sys.modules["torch"] = None  # type: ignore[assignment]  # of which only the frontend's conveniences know
    import cudnn

    library = ctypes.CDLL(str(Path(folder) / "libcudnn.so.9"))
    cudnn._pybind_module._set_dlhandle_cudnn(library._handle)
    for name, (describe, kind) in GRAPHS.items():
        sketch = dnn.Sketch(cudnn, kind, 1)
        describe(sketch)
        sketch.graph.validate()
        print(name)


if __name__ == "__main__":
    main(sys.argv[1])
