"""Products with Jacobians and Hessians of functions of tensors, as ``torch.autograd.functional``.

:mod:`nbdl.func` does the same for nests of tensors, faster, and can be nested itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbdl.autograd import forward_ad
from nbdl.autograd.engine import grad
from nbdl.autograd.modes import enable_grad
from nbdl.autograd.tensor import Tensor

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Function = Callable[..., Any]


def _tuple(caller: str, what: str, given: Any) -> tuple[tuple[Tensor, ...], bool]:
    """Tensors as a tuple, and whether there was just one.

    Raises:
        TypeError: something else is among them.
    """
    single = isinstance(given, Tensor)
    values = (given,) if single else tuple(given) if isinstance(given, (tuple, list)) else (None,)
    for value in values:
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{caller}: {what} must be a tensor or a tuple of tensors, got {type(given).__name__}"
            )
    return values, single


def _connected(inputs: Sequence[Tensor], create_graph: bool) -> tuple[Tensor, ...]:
    """The inputs as tensors of their own, connected to the given ones if the result shall be."""
    return tuple(
        [x.view(x.shape) if create_graph and x.requires_grad else x.detach().requires_grad_() for x in inputs]
    )


def _run(caller: str, func: Function, inputs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], bool]:
    with enable_grad():
        return _tuple(caller, "the outputs of the function", func(*inputs))


def _scalar(caller: str, func: Function, inputs: Sequence[Tensor]) -> Tensor:
    """The output of a function that returns one number.

    Raises:
        RuntimeError: it returns several tensors or elements.
    """
    outputs, single = _run(caller, func, inputs)
    if not single or outputs[0].numel() != 1:
        raise RuntimeError(f"{caller}: the function must return a tensor with a single element")
    return outputs[0].reshape(())


def _directions(caller: str, v: Any, like: Sequence[Tensor], single: bool) -> tuple[Tensor, ...]:
    """The given vectors, checked; 1 where there are none and ``like`` is one number.

    Raises:
        RuntimeError: they have other shapes, or are missing.
    """
    if v is None:
        if not single or like[0].numel() != 1:
            raise RuntimeError(
                f"{caller}: the vector v can only be None if there is one tensor with a single element"
            )
        return (like[0].detach().ones_like(),)
    vectors, _ = _tuple(caller, "v", v)
    if [tuple(x.shape) for x in vectors] != [tuple(x.shape) for x in like]:
        raise RuntimeError(
            f"{caller}: v has invalid size: should be {[tuple(x.shape) for x in like]} but got "
            f"{[tuple(x.shape) for x in vectors]}"
        )
    return vectors


def _gradients(
    caller: str,
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    vectors: Sequence[Tensor],
    create_graph: bool,
    strict: bool,
) -> tuple[Tensor, ...]:
    """v^T J for all inputs; zeros where an input has no influence, or an error if ``strict``."""
    pairs = [(y, v) for y, v in zip(outputs, vectors, strict=True) if y.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if pairs:
        ys, vs = zip(*pairs, strict=True)
        found = grad(ys, inputs, vs, retain_graph=True, create_graph=create_graph, allow_unused=True)
    if strict and None in found:
        raise RuntimeError(f"{caller}: the outputs are independent of input {list(found).index(None)}")
    return tuple([x.zeros_like() if g is None else g for x, g in zip(inputs, found, strict=True)])


def _given_back(values: Sequence[Tensor], single: bool, create_graph: bool) -> Any:
    kept = tuple(values) if create_graph else tuple([value.detach() for value in values])
    return kept[0] if single else kept


def vjp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The outputs of a function, and the product of a vector with its Jacobian.

    Args:
        func: of tensors, returns a tensor or a tuple of them.
        inputs: a tensor or a tuple of them.
        v: as the outputs; may be left out if they are one number.
        create_graph: make the results differentiable.
        strict: an input that has no influence is an error, instead of zeros.

    Raises:
        TypeError: something is no tensor.
        RuntimeError: ``v`` does not fit, or ``strict``.

    Example:
        >>> import nbdl
        >>> nbdl.autograd.functional.vjp(lambda x: (x * x).sum(), nbdl.tensor([1.0, 2.0]))
        (tensor(5.), tensor([2., 4.]))
    """
    values, single = _tuple("vjp", "inputs", inputs)
    xs = _connected(values, create_graph)
    outputs, one = _run("vjp", func, xs)
    vectors = _directions("vjp", v, outputs, one)
    products = _gradients("vjp", outputs, xs, vectors, create_graph, strict)
    return _given_back(outputs, one, create_graph), _given_back(products, single, create_graph)


def jvp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The outputs of a function, and the product of its Jacobian with a vector.

    Args:
        func: of tensors, returns a tensor or a tuple of them.
        inputs: a tensor or a tuple of them.
        v: as the inputs; may be left out if they are one number.
        create_graph: make the results differentiable.
        strict: an output on which the inputs have no influence is an error, instead of zeros.

    Raises:
        TypeError: something is no tensor.
        RuntimeError: ``v`` does not fit, or ``strict``.
    """
    values, single = _tuple("jvp", "inputs", inputs)
    xs = _connected(values, create_graph)
    vectors = _directions("jvp", v, xs, single)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(xs, vectors, strict=True)]
        outputs, one = _run("jvp", func, duals)
        pairs = [forward_ad.unpack_dual(y) for y in outputs]
    if strict and any(pair.tangent is None for pair in pairs):
        raise RuntimeError("jvp: an output is independent of the inputs")
    tangents = [pair.primal.zeros_like() if pair.tangent is None else pair.tangent for pair in pairs]
    return (
        _given_back([pair.primal for pair in pairs], one, create_graph),
        _given_back(tangents, one, create_graph),
    )


def jacobian(
    func: Function,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian of a function, one backward pass an element of the outputs.

    Args:
        func: of tensors, returns a tensor or a tuple of them.
        inputs: a tensor or a tuple of them.
        create_graph: make the result differentiable.
        strict: an input that has no influence is an error, instead of zeros.
        vectorize: accepted; :func:`nbdl.func.jacrev` takes all rows at once.
        strategy: accepted: ``reverse-mode``, or ``forward-mode``, for which see :func:`nbdl.func.jacfwd`.

    Returns:
        A tensor with the axes of the output, then those of the input; a tuple of them over several inputs,
        in a tuple over several outputs.

    Raises:
        TypeError: something is no tensor.
        RuntimeError: ``strict``.
    """
    values, single = _tuple("jacobian", "inputs", inputs)
    xs = _connected(values, create_graph)
    outputs, one = _run("jacobian", func, xs)
    blocks = []
    for y in outputs:
        rows = []
        for k in range(y.numel()):
            unit = y.detach().zeros_like()
            unit.view(-1)[k] = 1
            rows.append(_gradients("jacobian", [y], xs, [unit], create_graph, strict))
        columns = [
            _rows(column, y, x) for x, column in zip(xs, zip(*rows) if rows else [()] * len(xs), strict=True)
        ]
        blocks.append(_given_back(columns, single, create_graph))
    return blocks[0] if one else tuple(blocks)


def _rows(gradients: Sequence[Tensor], y: Tensor, x: Tensor) -> Tensor:
    """One gradient for each element of ``y``, in its shape."""
    from nbdl.ops.joining import stack

    return (stack(list(gradients)) if gradients else x.new_zeros(0)).reshape((*y.shape, *x.shape))


def hessian(
    func: Function,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The Hessian of a function that returns one number; arguments as for :func:`jacobian`.

    Returns:
        A tensor with the axes of the input twice; of several inputs a tuple of tuples of them.

    Raises:
        RuntimeError: the function returns more than one number.

    Example:
        >>> import nbdl
        >>> nbdl.autograd.functional.hessian(lambda x: x.prod(), nbdl.tensor([2.0, 3.0]))
        tensor([[0., 1.],
                [1., 0.]])
    """
    values, single = _tuple("hessian", "inputs", inputs)

    def gradient(*xs: Tensor) -> tuple[Tensor, ...]:
        # What func returns as it is must not lose its history; so every input passes an operation.
        ys = tuple([x.view(x.shape) for x in xs])
        return _gradients("hessian", [_scalar("hessian", func, ys)], ys, [ys[0].new_ones(())], True, strict)

    result = jacobian(gradient, values, create_graph, strict)
    return result[0][0] if single else result


def vhp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The value of a function that returns one number, and the product of a vector with its Hessian.

    Arguments, results and errors as for :func:`vjp`; ``v`` is as the inputs.
    """
    return _second("vhp", func, inputs, v, create_graph, strict)


def hvp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """As :func:`vhp`: Hessians are symmetric."""
    return _second("hvp", func, inputs, v, create_graph, strict)


def _second(
    caller: str, func: Function, inputs: Any, v: Any, create_graph: bool, strict: bool
) -> tuple[Any, Any]:
    values, single = _tuple(caller, "inputs", inputs)
    xs = _connected(values, create_graph)
    vectors = _directions(caller, v, xs, single)
    y = _scalar(caller, func, xs)
    with enable_grad():
        slopes = _gradients(caller, [y], xs, [y.detach().ones_like()], True, strict)
    products = _gradients(caller, slopes, xs, vectors, create_graph, strict)
    return _given_back([y], True, create_graph), _given_back(products, single, create_graph)
