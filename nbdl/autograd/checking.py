"""Derivatives checked against finite differences.

:func:`gradcheck` compares the derivatives that the rules give with central differences, :func:`gradgradcheck`
does the same to the gradient itself, :func:`grad_check_sparse` looks at a few elements of something large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbdl.autograd.engine import grad
from nbdl.autograd.jacobians import (
    Matrix,
    Problem,
    array_of,
    difference,
    directional_difference,
    flat,
    forward_jacobians,
    host,
    jvp,
    numerical_jacobians,
    problem_of,
    random_gradient,
    reverse_jacobians,
    vjp,
)
from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import tensor


class GradcheckError(RuntimeError):
    """A derivative is not what it should be."""


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Compare the derivatives of ``func`` with central differences.

    Args:
        func: takes ``inputs``, returns a tensor or several.
        inputs: the arguments; the tensors among them that require a gradient (float64, else rounding hides
            the derivative) are checked. Their elements are changed in place and restored.
        eps: step of the differences.
        atol: absolute tolerance.
        rtol: relative tolerance.
        raise_exception: raise an error at a mismatch instead of returning False.
        nondet_tol: how much two backward passes may differ.
        check_undefined_grad: whether a gradient that is missing for some outputs acts as zero.
        check_grad_dtypes: whether gradients have the dtype of their inputs.
        check_batched_grad: whether ``grad(..., is_grads_batched=True)`` gives the same.
        check_forward_ad: check forward mode.
        check_backward_ad: check reverse mode.
        fast_mode: compare one random projection of each Jacobian instead of all of it.
        masked: accepted; tensors are dense.

    Returns:
        Whether all is well.

    Raises:
        ValueError: no input requires a gradient, or neither mode is checked.
        GradcheckError: a mismatch; the message names output, input and the worst element.

    Example:
        >>> import nbdl
        >>> x = nbdl.tensor([0.5, 2.0], dtype="float64", requires_grad=True)
        >>> nbdl.autograd.gradcheck(nbdl.log, x)
        True
    """
    problem = problem_of("gradcheck", func, inputs, eps, atol, rtol, nondet_tol)
    if not (check_forward_ad or check_backward_ad):
        raise ValueError("gradcheck: at least one of check_forward_ad and check_backward_ad must be True")
    try:
        outputs = problem.outputs()
        compare = _compare_projections if fast_mode else _compare_jacobians
        compare(problem, outputs, check_forward_ad, check_backward_ad)
        if check_backward_ad:
            _check_reentrant(problem, outputs)
            if check_undefined_grad:
                _check_undefined(problem, outputs)
            if check_grad_dtypes:
                _check_dtypes(problem, outputs)
            if check_batched_grad:
                _check_batched(problem, outputs)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Compare the second derivatives of ``func`` with central differences of the first.

    The gradient, as a function of the inputs and of the gradients of the outputs, goes through
    :func:`gradcheck`.

    Args:
        func: takes ``inputs``, returns a tensor or several.
        inputs: the arguments, see :func:`gradcheck`.
        grad_outputs: gradients of the outputs; random ones by default.
        eps: step of the differences.
        atol: absolute tolerance.
        rtol: relative tolerance.
        gen_non_contig_grad_outputs: make the random gradients not contiguous.
        raise_exception: raise an error at a mismatch instead of returning False.
        nondet_tol: how much two backward passes may differ.
        check_undefined_grad: whether a gradient that is missing for some outputs acts as zero.
        check_grad_dtypes: whether gradients have the dtype of their inputs.
        check_batched_grad: whether ``grad(..., is_grads_batched=True)`` gives the same.
        check_fwd_over_rev: check the forward derivative of the gradient.
        check_rev_over_rev: check the gradient of the gradient.
        fast_mode: compare one random projection of each Jacobian instead of all of it.
        masked: accepted; tensors are dense.

    Returns:
        Whether all is well.

    Raises:
        ValueError: no input requires a gradient, or neither mode is checked.
        GradcheckError: a mismatch.
    """
    first = problem_of("gradgradcheck", func, inputs, eps, atol, rtol, nondet_tol)
    outputs = [y for y in first.outputs() if y.requires_grad]
    if grad_outputs is None:
        seeds = [random_gradient(y, gen_non_contig_grad_outputs) for y in outputs]
    else:
        seeds = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)
    count = len(first.inputs)

    def gradient(*values: Any) -> tuple[Tensor, ...]:
        results = [y for y in first.outputs(*values[:count]) if y.requires_grad]
        sources = [values[k] for k in first.differentiated]
        found = grad(results, sources, list(values[count:]), create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(
        gradient,
        (*first.inputs, *seeds),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad,
        check_forward_ad=check_fwd_over_rev,
        check_backward_ad=check_rev_over_rev,
        fast_mode=fast_mode,
        masked=masked,
    )


class ElementCheck(NamedTuple):
    """One element of :func:`grad_check_sparse`."""

    index: tuple[int, ...]  # type: ignore[assignment]  # hides a method of tuples that nobody calls
    numerical: float
    analytic: float
    relative_error: float


def grad_check_sparse(
    f: Callable[[Any], Any], x: Any, analytic_grad: Any, num_checks: int = 10, h: float = 1e-7
) -> list[ElementCheck]:
    """Compare a gradient with central differences at a few random elements.

    Args:
        f: takes ``x``, returns a number or a tensor with one element; it may as well read the memory of ``x``
            elsewhere.
        x: tensor or array; one element at a time is changed in place and restored.
        analytic_grad: the gradient to check, of the shape of ``x``.
        num_checks: number of elements.
        h: step of the differences, for float64.

    Returns:
        For each element its index, both derivatives, and |a - b| / (|a| + |b|), 0 where both are 0.

    Raises:
        ValueError: the gradient has another shape than ``x``.
    """
    array = array_of(x)
    gradient = array_of(analytic_grad)
    if gradient.shape != array.shape:
        raise ValueError(
            f"grad_check_sparse: analytic_grad must have the shape of x, {tuple(array.shape)}, got "
            f"{tuple(gradient.shape)}"
        )
    generator = np.random.default_rng()
    checks = []
    for _ in range(num_checks if array.size else 0):
        index = tuple(int(generator.integers(n)) for n in array.shape)
        (column,) = difference(lambda: [np.asarray(host(f(x)), np.float64)], array, index, h)
        numerical, analytic = float(column.reshape(())), float(gradient[index])
        size = abs(numerical) + abs(analytic)
        checks.append(
            ElementCheck(index, numerical, analytic, abs(numerical - analytic) / size if size else 0.0)
        )
    return checks


# -------------------------------------------------------------------------------------------- the comparisons
def _compare_jacobians(problem: Problem, outputs: list[Tensor], forward: bool, backward: bool) -> None:
    """All elements of all Jacobians."""
    reverse = [reverse_jacobians(problem, y) for y in outputs] if backward else []
    for i, k in enumerate(problem.differentiated):
        numerical = numerical_jacobians(problem, k) if problem.inputs[k].numel() else []
        tangents = forward_jacobians(problem, k, outputs) if forward else []
        for j in range(len(outputs) if numerical else 0):
            if backward:
                _require_close(problem, "backward", j, k, numerical[j], reverse[j][i])
            if forward:
                _require_close(problem, "forward", j, k, numerical[j], tangents[j])


def _require_close(problem: Problem, mode: str, j: int, k: int, numerical: Matrix, analytic: Matrix) -> None:
    wrong = ~(np.abs(analytic - numerical) <= problem.atol + problem.rtol * np.abs(numerical))
    if not wrong.any():
        return
    distance = np.where(np.isnan(analytic - numerical), np.inf, np.abs(analytic - numerical))
    row, column = np.unravel_index(np.argmax(np.where(wrong, distance, -1.0)), wrong.shape)
    raise GradcheckError(
        f"{problem.caller}: Jacobian mismatch in {mode} mode for output {j} with respect to input {k}: "
        f"the derivative of "
        f"element {column} by element {row} (flattened) is {analytic[row, column]:.9g}, finite "
        f"differences give "
        f"{numerical[row, column]:.9g}; {int(wrong.sum())} of {wrong.size} elements differ\n"
        f"numerical:\n{numerical}\nanalytical:\n{analytic}"
    )


def _compare_projections(problem: Problem, outputs: list[Tensor], forward: bool, backward: bool) -> None:
    """v^T J u for random u and v, for every pair of an output and an input."""
    generator = np.random.default_rng(0)
    vectors = [_unit(generator, y.numel()) for y in outputs]
    reverse = [vjp(problem, [y], [v]) for y, v in zip(outputs, vectors, strict=True)] if backward else []
    for i, k in enumerate(problem.differentiated):
        u = _unit(generator, problem.inputs[k].numel())
        numerical = directional_difference(problem, k, u)
        tangents = jvp(problem, k, u) if forward else []
        for j, v in enumerate(vectors):
            expected = float(numerical[j] @ v)
            found = {}
            if backward:
                found["backward"] = float(flat(reverse[j][i], u.size) @ u)
            if forward:
                found["forward"] = float(flat(tangents[j], v.size) @ v)
            # The tolerance of an element, added up as the projection adds the elements.
            allowed = problem.atol * float(np.abs(u).sum() * np.abs(v).sum()) + problem.rtol * abs(expected)
            for mode, value in found.items():
                if not abs(value - expected) <= allowed:
                    raise GradcheckError(
                        f"{problem.caller}: Jacobian mismatch in {mode} mode for output {j} with respect "
                        f"to input {k}: a random "
                        f"projection is {value:.9g}, finite differences give {expected:.9g}; with "
                        f"fast_mode=False the "
                        "message names the elements"
                    )


def _unit(generator: np.random.Generator, size: int) -> Matrix:
    vector = generator.uniform(0.5, 1.5, size) * generator.choice([-1.0, 1.0], size)
    return vector / max(float(np.linalg.norm(vector)), 1e-300)


def _random_vectors(outputs: Sequence[Tensor]) -> list[Matrix]:
    generator = np.random.default_rng(1)
    return [generator.uniform(-1, 1, y.numel()) for y in outputs]


def _check_reentrant(problem: Problem, outputs: list[Tensor]) -> None:
    """Two passes over one graph give the same."""
    vectors = _random_vectors(outputs)
    first, second = vjp(problem, outputs, vectors), vjp(problem, outputs, vectors)
    for k, a, b in zip(problem.differentiated, first, second, strict=True):
        size = problem.inputs[k].numel()
        distance = np.abs(flat(a, size) - flat(b, size)).max(initial=0.0)
        if distance > problem.nondet_tol:
            raise GradcheckError(
                f"{problem.caller}: Backward is not reentrant: two passes with the same gradients differ "
                f"by {distance:.3g} for "
                f"input {k}; nondet_tol is {problem.nondet_tol}"
            )


def _check_undefined(problem: Problem, outputs: list[Tensor]) -> None:
    """A rule that gets None for an unused output gives what it gives for zeros."""
    if len(outputs) < 2:
        return
    vectors = _random_vectors(outputs)
    for j, (y, v) in enumerate(zip(outputs, vectors, strict=True)):
        alone = vjp(problem, [y], [v])
        beside_zeros = vjp(
            problem, outputs, [v if i == j else np.zeros(o.numel()) for i, o in enumerate(outputs)]
        )
        for k, a, b in zip(problem.differentiated, alone, beside_zeros, strict=True):
            size = problem.inputs[k].numel()
            if not np.allclose(flat(a, size), flat(b, size), problem.rtol, problem.atol, equal_nan=True):
                raise GradcheckError(
                    f"{problem.caller}: the gradient of input {k} from output {j} alone differs from the "
                    f"one with zeros for the "
                    "other outputs: the rule must take a missing gradient (None) as zero"
                )


def _check_dtypes(problem: Problem, outputs: list[Tensor]) -> None:
    for k, g in zip(problem.differentiated, vjp(problem, outputs, _random_vectors(outputs)), strict=True):
        if g is not None and g.dtype != problem.inputs[k].dtype:
            raise GradcheckError(
                f"{problem.caller}: the gradient of input {k} has dtype {g.dtype}, the input "
                f"{problem.inputs[k].dtype}"
            )


def _check_batched(problem: Problem, outputs: list[Tensor]) -> None:
    """Several vectors at once give what they give one by one."""
    sources = [problem.inputs[k] for k in problem.differentiated]
    for y in outputs:
        if not y.requires_grad:
            continue
        vectors = np.random.default_rng(2).uniform(-1, 1, (2, *y.shape))
        seeds = tensor(vectors, dtype=y.dtype, device=y.device)
        batched = grad(y, sources, seeds, retain_graph=True, allow_unused=True, is_grads_batched=True)
        singly = [vjp(problem, [y], [v]) for v in vectors]
        for i, (k, g) in enumerate(zip(problem.differentiated, batched, strict=True)):
            size = problem.inputs[k].numel()
            expected = np.concatenate([flat(row[i], size) for row in singly])
            if not np.allclose(flat(g, 2 * size), expected, problem.rtol, problem.atol):
                raise GradcheckError(
                    f"{problem.caller}: the batched gradient of input {k} differs from the gradients one "
                    f"by one"
                )
