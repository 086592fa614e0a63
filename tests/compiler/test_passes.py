"""What each pass does to a small program, and where it must not touch it."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
from nbdl.compiler import PASSES
from nbdl.compiler.memory import lifetimes, plan_memory


def recorded(function, *args):
    """The program of ``function`` as it was written down."""
    with nbdl.use_backend("numpy"):
        return nbdl.compile(function).program(*args).recorded


def labels(program) -> list[str]:
    return [operation.primitive.label for operation in program.operations]


@pytest.fixture
def x():
    return nbdl.tensor(np.linspace(-1, 1, 12).reshape(3, 4))


class TestDeadCode:
    def test_what_nobody_reads_goes(self, x):
        def function(x):
            _ = (x * 3).exp()
            return x + 1

        assert labels(PASSES["dead_code"](recorded(function, x))) == ["add"]

    def test_writes_to_memory_from_outside_stay(self, x):
        counter = nbdl.zeros(())

        def function(x):
            counter.add_(1)
            return x + 1

        assert labels(PASSES["dead_code"](recorded(function, x))) == ["add", "add"]

    def test_what_is_overwritten_unread_goes_with_its_operands(self, x):
        def function(x):
            y = x.exp()
            y.copy_(x)
            return y * 2

        program = PASSES["dead_code"](PASSES["operands"](recorded(function, x)))
        assert [operation.into for operation in program.operations] == [True, False]


class TestCommon:
    def test_equal_operations_are_one(self, x):
        program = PASSES["common"](recorded(lambda x: x.exp() + x.exp(), x))
        assert labels(program).count("exp") == 1

    def test_not_if_the_operand_changed_in_between(self, x):
        def function(x):
            first = x.exp()
            x.add_(1)
            return first + x.exp()

        assert labels(PASSES["common"](recorded(function, x))).count("exp") == 2

    def test_not_for_random_numbers(self):
        program = PASSES["common"](recorded(lambda: nbdl.rand(3) - nbdl.rand(3)))
        assert sum(label.startswith("random") for label in labels(program)) == 2

    def test_not_if_a_result_is_changed_in_place(self, x):
        def function(x):
            first, second = x.exp(), x.exp()
            first.mul_(2)
            return first + second

        assert labels(PASSES["common"](recorded(function, x))).count("exp") == 2


class TestConstants:
    def test_numbers_become_literals(self, x):
        program = PASSES["constants"](recorded(lambda x: x * 2.5, x))
        (operation,) = program.operations
        assert len(operation.inputs) == 1
        assert "2.5" in repr(operation.primitive.formula)

    def test_not_where_the_number_decides_the_dtype(self):
        program = PASSES["constants"](recorded(lambda n: n * 2.5, nbdl.tensor([1, 2])))
        assert len(program.operations[0].inputs) == 2

    def test_not_for_hyperparameters(self, x):
        weight = nbdl.ones(4, dtype=nbdl.float64, requires_grad=True)
        optimizer = nbdl.optim.SGD([weight], lr=0.25)

        def function(x):
            optimizer.zero_grad()
            (x * weight).sum().backward()
            optimizer.step()

        program = PASSES["constants"](recorded(function, x))
        assert "0.25" not in str([op.primitive.params.get("formula") for op in program.operations])

    @pytest.mark.parametrize("backend", ["numpy", "numba"])
    def test_not_for_complex_numbers(self, x, backend):
        with nbdl.use_backend(backend):
            compiled = nbdl.compile(lambda x: (x * 2j + x).abs())
            for _ in range(2):
                np.testing.assert_allclose(compiled(x).numpy(), np.sqrt(5) * abs(x.numpy()), rtol=1e-6)


class TestFusion:
    @pytest.mark.parametrize("backend", ["numpy", "numba"])
    @pytest.mark.parametrize(
        "function",
        [
            lambda x, y: nbdl.where((x > 0) | (y > 0), -x, 0.0) * 2,
            lambda x, y: (x * ((x > 0) & (y > 0))).sum(),
            lambda x, y: nbdl.where(~(x > y), x.exp(), y).mean(),
        ],
        ids=["where", "sum", "not"],
    )
    def test_conditions_of_bits_beside_numbers(self, x, function, backend):
        """A formula of bits and floats does not exist: such operations stay apart."""
        y = x.flip(0)
        with nbdl.use_backend(backend):
            compiled = nbdl.compile(function)
            for _ in range(2):
                np.testing.assert_allclose(compiled(x, y).numpy(), function(x, y).numpy(), rtol=1e-6)

    def test_a_chain_is_one_loop(self, x):
        program = PASSES["fusion"](recorded(lambda x: (x.tanh() * 2 + 1).exp(), x))
        assert len(program.operations) == 1

    def test_a_sum_takes_in_what_it_adds_up(self, x):
        program = PASSES["fusion"](recorded(lambda x: (x * x + 1).sum(1), x))
        (operation,) = program.operations
        assert operation.primitive.name == "reduce"

    @pytest.mark.parametrize(
        ("narrow", "wide"), [("float16", "float32"), ("bfloat16", "float32"), ("float32", "float64")]
    )
    def test_a_sum_in_higher_precision_takes_what_was_rounded(self, narrow, wide):
        def function(x, y):
            return nbdl.nn.functional.mse_loss(x * x, y, reduction="sum")

        x = nbdl.tensor([1.1, 2.3, -3.7], dtype=getattr(nbdl, narrow))
        y = nbdl.zeros(3, dtype=getattr(nbdl, wide))
        assert labels(PASSES["fusion"](recorded(function, x, y)))[0] == "multiply"
        for same in (x, y):
            (operation,) = PASSES["fusion"](recorded(function, same.float(), same.float())).operations
            assert operation.primitive.name == "reduce"

    def test_values_that_others_read_are_written_too(self, x):
        def function(x):
            y = x.tanh()
            return y * 2, y @ y.t()

        fused, product = PASSES["fusion"](recorded(function, x)).operations
        assert len(fused.outputs) == 2
        assert product.inputs[0].buffer in [window.buffer for window in fused.outputs]

    def test_a_shifted_reader_is_not_fused(self, x):
        def function(x):
            y = x * 2
            return y[:, 1:] + y[:, :-1]

        assert len(PASSES["fusion"](recorded(function, x)).operations) == 2

    def test_an_overwritten_operand_keeps_its_order(self, x):
        state = nbdl.zeros(3, 4, dtype=nbdl.float64)

        def function(x):
            y = state + x
            state[:, 1:] = x[:, :-1]
            return y * 2 + state

        program = PASSES["fusion"](recorded(function, x))
        assert len(program.operations) >= 2

    def test_casts_are_not_crossed(self, x):
        program = PASSES["fusion"](recorded(lambda x: (x.float() * 2).double() + x, x))
        assert len(program.operations) >= 3


def test_memory_of_the_dead_is_used_again(x):
    def function(x):
        for _ in range(6):
            x = x @ x.t() @ x
        return x

    program = recorded(function, x)
    layout = plan_memory(program)
    alive = lifetimes(program)
    assert layout.size < sum(buffer.nbytes for buffer in alive)
    for a in alive:
        for b in alive:
            together = alive[a].first <= alive[b].last and alive[b].first <= alive[a].last
            if a is not b and together:
                apart = (
                    layout.offsets[a] + a.nbytes <= layout.offsets[b]
                    or layout.offsets[b] + b.nbytes <= layout.offsets[a]
                )
                assert apart or alive[a].last == alive[b].first or alive[b].last == alive[a].first


class TestBiases:
    def test_a_product_and_a_row_are_a_linear_layer(self, x):
        weight, bias = nbdl.ones(4, 2, dtype=nbdl.float64), nbdl.arange(2.0, dtype=nbdl.float64)
        for function in (lambda x: x @ weight + bias, lambda x: bias + x @ weight.clone()):
            program = PASSES["biases"](recorded(function, x))
            assert labels(program)[-1] == "linear"
            assert "matmul" not in labels(program)
            for backend in nbdl.available_backends():
                with nbdl.use_backend(backend):
                    step = nbdl.compile(function)
                    step(x)
                    np.testing.assert_allclose(step(x * 2).numpy(), function(x * 2).numpy(), rtol=1e-14)

    @pytest.mark.parametrize(
        "function",
        [
            lambda x: x @ x.t() + x[:, :1],  # a column
            lambda x: x @ x.t() + nbdl.ones(2, 1, 3, dtype=nbdl.float64),  # broadcasts the product
            lambda x: x @ x.t() + nbdl.ones(3),  # of another dtype
            lambda x: x.t().mT @ nbdl.ones(4, dtype=nbdl.float64) + nbdl.ones(3, dtype=nbdl.float64),
            lambda x: sum((y := x @ x.t(), y + nbdl.ones(3, dtype=nbdl.float64))),  # read twice
        ],
    )
    def test_other_sums_stay(self, x, function):
        assert "linear" not in labels(PASSES["biases"](recorded(function, x)))
