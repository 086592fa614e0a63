"""The GPU backend as a whole: its contract, training, devices, and that it does not wait for the device."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from gpu import emulator, standin, standin_names
from gpu.samples import assert_same

import nbdl
from nbdl.backend import registry
from nbdl.backend.cupy.backend import CupyBackend
from nbdl.backend.numpy import NumpyBackend
from nbdl.ops.matmul import LINEAR, MatMul


def test_methods_have_the_signatures_of_the_specification():
    for name, method in inspect.getmembers(NumpyBackend, inspect.isfunction):
        if name != "__init__":
            assert inspect.signature(getattr(CupyBackend, name)) == inspect.signature(method), name


@pytest.mark.usefixtures("gpu")
class TestMatrixProducts:
    @pytest.mark.parametrize("transpose_a", [False, True])
    @pytest.mark.parametrize("transpose_b", [False, True])
    @pytest.mark.parametrize("batch", [(), (3,)], ids=str)
    def test_matmul(self, transpose_a, transpose_b, batch):
        random = np.random.default_rng(0)
        a = random.standard_normal((*batch, 5, 7) if transpose_a else (*batch, 7, 5)).astype(np.float32)
        b = random.standard_normal((9, 5) if transpose_b else (5, 9)).astype(np.float32)
        assert_same(MatMul.of(transpose_a, transpose_b), a, b)

    def test_vectors(self):
        a, b = np.arange(4.0), np.arange(12.0).reshape(4, 3)
        assert_same(MatMul.of(False, False), a, b)
        assert_same(MatMul.of(False, False), a, a)

    def test_linear(self):
        random = np.random.default_rng(0)
        x, weight, bias = (
            random.standard_normal(shape).astype(np.float32) for shape in ((2, 6, 5), (3, 5), (3,))
        )
        assert_same(LINEAR, x, weight)
        assert_same(LINEAR, x, weight, bias)

    @pytest.mark.parametrize("layout", ["fresh", "transposed", "operand"])
    def test_given_outputs(self, layout):
        backend = registry.load("cupy")
        a = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
        x = backend.xp.asarray(a)
        out = {"fresh": backend.xp.zeros((4, 4), np.float32), "operand": x}.get(
            layout, backend.xp.zeros((4, 4), np.float32).T
        )
        backend.execute(MatMul.of(False, False), [x, x], out=out)
        np.testing.assert_allclose(out.get(), a @ a, rtol=1e-5, atol=1e-6)

    def test_bfloat16(self):
        bfloat16 = pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes").bfloat16
        a = np.random.default_rng(0).standard_normal((4, 5)).astype(bfloat16)
        assert_same(MatMul.of(False, True), a, a)


def trained(backend: str, device: str, steps: int = 5) -> tuple[list[float], list[np.ndarray]]:
    """Losses and parameters of a small network after some steps of momentum, written out."""
    with nbdl.use_backend(backend):
        random = np.random.default_rng(0)

        def tensor(*shape: int) -> nbdl.Tensor:
            return nbdl.tensor(random.standard_normal(shape).astype(np.float32), device=device)

        x, target = tensor(32, 6), tensor(32, 3)
        parameters = [tensor(16, 6) * 0.4, tensor(16) * 0.1, tensor(3, 16) * 0.3, tensor(3) * 0.1]
        for parameter in parameters:
            parameter.requires_grad_()
        momenta = [parameter.detach().zeros_like() for parameter in parameters]
        losses = []
        for _ in range(steps):
            w1, b1, w2, b2 = parameters
            loss = (nbdl.linear(nbdl.linear(x, w1, b1).tanh(), w2, b2) - target).square().mean()
            for parameter in parameters:
                parameter.grad = None
            loss.backward()
            with nbdl.no_grad():
                for parameter, momentum in zip(parameters, momenta, strict=True):
                    momentum.mul_(0.9).add_(parameter.grad)
                    parameter.sub_(momentum, alpha=0.05)
            losses.append(loss.detach())
        return [loss.item() for loss in losses], [
            parameter.detach().cpu().numpy() for parameter in parameters
        ]


@pytest.mark.usefixtures("gpu")
class TestTraining:
    def test_it_equals_training_on_the_cpu(self, order):
        losses, parameters = trained("numpy", "cpu")
        got_losses, got_parameters = trained("cupy", "cuda")
        assert losses[-1] < losses[0]
        np.testing.assert_allclose(got_losses, losses, rtol=1e-5)
        for a, b in zip(got_parameters, parameters, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

    def test_gradients_are_no_windows(self):
        x = nbdl.ones(3, 4, requires_grad=True)
        x.sum().backward()
        x.sum().backward()
        np.testing.assert_array_equal(x.grad.cpu().numpy(), 2)


class TestDevices:
    def test_new_tensors_are_on_the_device(self, gpu):
        assert nbdl.zeros(3).device.type == "cuda"
        assert nbdl.zeros(3, device="cpu").device.type == "cpu"
        assert nbdl.get_backend() == "cupy"

    def test_mixed_devices_are_an_error(self, gpu):
        with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
            nbdl.zeros(3) + nbdl.zeros(3, device="cpu")

    def test_numbers_on_the_host_mix_with_tensors_on_the_device(self, gpu):
        np.testing.assert_array_equal((nbdl.ones(3) + nbdl.tensor(2.0, device="cpu")).cpu().numpy(), 3)

    def test_tensors_of_the_cpu_are_computed_there(self, gpu):
        assert (nbdl.ones(3, device="cpu") * 2).device.type == "cpu"

    def test_a_device_that_does_not_exist(self, gpu):
        with pytest.raises(RuntimeError, match="'cuda:99' does not exist"):
            nbdl.zeros(3, device="cuda:99")

    def test_moves_there_and_back(self, gpu):
        x = nbdl.arange(6.0, device="cpu", requires_grad=True)
        (x.cuda() * 2).sum().backward()
        assert x.grad.device.type == "cpu"
        np.testing.assert_array_equal(x.grad.numpy(), 2)

    def test_numpy_asks_for_a_copy(self, gpu):
        with pytest.raises(TypeError, match="copy it to the host"):
            nbdl.zeros(3).numpy()


def test_a_program_is_warmed_up(gpu, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import nbdl\nassert (nbdl.ones(3) * 7 + 5).device.type == 'cuda'\n")
    (first,), (second,) = (nbdl.utils.warmup(program, backend="cupy") for _ in range(2))
    assert (first.kernels > 0, second.kernels) == (True, 0)


class TestStandIn:
    """What only the stand-in can see."""

    @pytest.fixture(autouse=True)
    def _only_there(self, gpu):
        if gpu != "standin":
            pytest.skip("counts what the stand-in does")

    def test_a_training_step_does_not_wait_for_the_device(self):
        trained("cupy", "cuda", steps=1)
        standin.counters.reset()
        trained("cupy", "cuda", steps=1)
        first = standin.counters.synchronisations
        standin.counters.reset()
        trained("cupy", "cuda", steps=4)
        assert standin.counters.synchronisations == first + 3  # the losses, read at the end
        assert standin.counters.launches > 40

    def test_arrays_refuse_to_become_numpy_arrays(self):
        with pytest.raises(TypeError, match="Implicit conversion"):
            np.asarray(nbdl.zeros(3).array)

    def test_a_write_beside_an_array_is_caught(self):
        module = standin.RawModule(code='extern "C" __global__ void f(float* x, int k) { x[k] = 1; }')
        x = nbdl.zeros(3).array
        for place in (-1, 3):
            with pytest.raises(emulator.KernelError, match="wrote outside its array of 12 bytes"):
                module.get_function("f")((1,), (1,), (x, np.int32(place)))
        with pytest.raises(emulator.KernelError, match="illegal memory access"):
            module.get_function("f")((1,), (1,), (x, np.int32(1000)))


def test_the_stand_in_has_only_names_of_cupy():
    cupy = pytest.importorskip("cupy", reason="compares the stand-in with CuPy, which is not installed")
    assert not [name for name in standin_names.NAMES if not hasattr(cupy, name)]
    methods = [name for name in dir(standin.ndarray) if not name.startswith("_")]
    assert not [name for name in methods if not hasattr(cupy.ndarray, name)]
    made = standin.make_module().cuda
    assert not [name for name in vars(made) if name[0] != "_" and not hasattr(cupy.cuda, name)]
    for kind in (made.Stream, made.Event, made.Graph, made.MemoryPool, made.MemoryPointer):
        theirs, added = getattr(cupy.cuda, kind.__name__), ("allocate", "operations", "was_trimmed")
        assert not [
            name for name in vars(kind) if name[0] != "_" and name not in added and not hasattr(theirs, name)
        ]
