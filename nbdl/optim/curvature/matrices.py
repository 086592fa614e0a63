"""Hessian, Gauss-Newton and Fisher matrices of a loss as operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nbdl.autograd import forward_ad
from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.func.vectorize import vmap
from nbdl.ops.joining import cat
from nbdl.ops.random import bernoulli
from nbdl.optim.curvature.likelihood import draws, likelihood_of
from nbdl.optim.curvature.source import Source, Term, Total
from nbdl.optim.operators import LinearOperator
from nbdl.optim.recorded import Linearized, along, gradients_of, pulled_back
from nbdl.random import Generator

Recorded = Callable[[list[Tensor], bool], list[Tensor]]
OutputProduct = Callable[[Tensor, bool], Tensor]


class CurvatureMatrix(LinearOperator):
    """A symmetric matrix (n, n) over the parameters of a loss, summed over its mini-batches.

    A subclass defines :meth:`record`. What it records is kept while the parameters stay the same if there is
    only one mini-batch, so that a product is nothing but passes backward; otherwise every product goes
    through the data. The columns of a matrix are multiplied together, batched by :func:`nbdl.func.vmap`.

    Args:
        source: the loss: a :class:`~nbdl.optim.curvature.Risk` or :class:`~nbdl.optim.curvature.Function`.
        chunk_size: how many columns to multiply at a time.

    Attributes:
        source: as given.
    """

    def __init__(self, source: Source, chunk_size: int = 64):
        label = type(self).__name__
        if not isinstance(source, Source):
            raise TypeError(f"{label}: source must be a Risk or a Function, got {type(source).__name__}")
        if chunk_size < 1:
            raise ValueError(f"{label}: chunk_size must be at least 1, got {chunk_size}")
        first, n = source.params[0], source.layout.size
        super().__init__((n, n), first.dtype, first.device)
        self.source, self._chunk_size = source, chunk_size
        self._kept: tuple[list[int], list[tuple[Recorded, float]]] | None = None

    def record(self, term: Term) -> Recorded:
        """What multiplies tensors in the shapes of the parameters by the matrix of one mini-batch.

        Its second argument says whether the first axis of the tensors counts several vectors.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no record")

    def matvec(self, v: Tensor) -> Tensor:
        parts, layout = self.source.layout.split(v), self.source.layout
        total = Total(self.source.reduction)
        for multiply, weight in self._recorded():
            products = multiply(parts, False)
            with no_grad():
                total.add(layout.flat(products), weight)
        return total.value()

    def matmat(self, v: Tensor) -> Tensor:
        pieces = [self._columns(part) for part in v.detach().split(self._chunk_size, 1)]
        with no_grad():
            return cat(pieces, 1) if len(pieces) > 1 else pieces[0]

    def _columns(self, matrix: Tensor) -> Tensor:
        layout = self.source.layout
        parts, total = layout.split_columns(matrix), Total(self.source.reduction)
        for multiply, weight in self._recorded():
            products = multiply(parts, True)
            with no_grad():
                total.add(layout.columns(products), weight)
        return total.value()

    def _recorded(self) -> Iterator[tuple[Recorded, float]]:
        versions = [param._version for param in self.source.params]
        if self._kept is not None and self._kept[0] == versions:
            yield from self._kept[1]
            return
        self._begin_pass()
        found = []
        for term in self.source.terms():
            found.append((self.record(term), term.weight))
            if not self.source.is_single:
                yield found.pop()
        if self.source.is_single:
            self._kept = versions, found
            yield from found

    def _begin_pass(self) -> None:
        """Called before the mini-batches are gone through."""


class Hessian(CurvatureMatrix):
    """The Hessian of the loss.

    By default a product is one pass backward through the recorded gradient, which needs at most twice the
    operations of a gradient; three times as many with the recording. In forward mode the loss and its
    gradient are computed together with their tangents: three times the operations of a gradient for every
    product, and nothing is kept between products. ``examples/benchmarks/curvature_products.py`` measures
    both.

    Args:
        source: the loss.
        chunk_size: how many columns to multiply at a time.
        outer_strategy: "reverse-mode" or "forward-mode", how the gradient is differentiated.

    Raises:
        ValueError: the strategy is unknown.

    Source: Pearlmutter (1994), Fast exact multiplication by the Hessian.

    Example:
        >>> import nbdl
        >>> from nbdl.optim import curvature
        >>> hessian = curvature.Hessian(curvature.Function(lambda x: x[0] * x[1], nbdl.tensor([1.0, 2.0])))
        >>> hessian.to_dense()
        tensor([[0., 1.],
                [1., 0.]])
    """

    def __init__(self, source: Source, chunk_size: int = 64, outer_strategy: str = "reverse-mode"):
        super().__init__(source, chunk_size)
        if outer_strategy not in ("reverse-mode", "forward-mode"):
            raise ValueError(
                f"Hessian: outer_strategy must be 'reverse-mode' or 'forward-mode', got {outer_strategy!r}"
            )
        self._is_forward = outer_strategy == "forward-mode"

    def record(self, term: Term) -> Recorded:
        params = self.source.params
        gradients = gradients_of(self.source.loss_of(term), params, create_graph=True)
        return lambda parts, batched: pulled_back(gradients, params, parts, batched)

    def matvec(self, v: Tensor) -> Tensor:
        if not self._is_forward:
            return super().matvec(v)
        layout = self.source.layout
        products = self._pushed(*layout.split(v))
        with no_grad():
            return layout.flat(products)

    def _columns(self, matrix: Tensor) -> Tensor:
        if not self._is_forward:
            return super()._columns(matrix)
        layout = self.source.layout
        products = vmap(self._pushed)(*layout.split_columns(matrix))
        with no_grad():
            return layout.columns(products)

    def _pushed(self, *parts: Tensor) -> list[Tensor]:
        """The tangents of the gradients where the parameters move along ``parts``."""
        params, totals = self.source.params, [Total(self.source.reduction) for _ in parts]
        with along(params, parts) as level:
            for term in self.source.terms():
                gradients = gradients_of(
                    self.source.loss_of(term), params, create_graph=False, retain_graph=True
                )
                for total, gradient in zip(totals, gradients, strict=True):
                    tangent = forward_ad.split_tangent(gradient, level).tangent
                    total.add(gradient.zeros_like() if tangent is None else tangent, term.weight)
        return [total.value() for total in totals]


class _ThroughOutputs(CurvatureMatrix):
    """J^T B J with the Jacobian J of the outputs and a matrix B that connects the elements of a row."""

    def record(self, term: Term) -> Recorded:
        linearized = Linearized(term.outputs, self.source.params)
        multiply = self.output_matrix(term)

        def product(parts: list[Tensor], batched: bool) -> list[Tensor]:
            pushed = linearized.push(parts, batched)
            with no_grad():
                middle = multiply(pushed, batched)
            return linearized.pull(middle, batched)

        return product

    def output_matrix(self, term: Term) -> OutputProduct:
        """What multiplies tensors in the shape of the outputs by B of the mini-batch's loss."""
        raise NotImplementedError(f"{type(self).__name__} defines no output_matrix")


class GGN(_ThroughOutputs):
    """The generalized Gauss-Newton matrix: B is the Hessian of the loss by the outputs.

    It is positive semidefinite for losses that are convex in the outputs. For residuals r and the loss
    |r|^2 / 2 it is J^T J.

    Args:
        source: the loss.
        chunk_size: how many columns to multiply at a time.

    Source: Schraudolph (2002), Fast curvature matrix-vector products for second-order gradient descent.

    Example:
        >>> import nbdl
        >>> from nbdl.optim import curvature
        >>> residuals = curvature.Function(
        ...     lambda x: x ** 2, nbdl.tensor([1.0, 2.0]), loss=lambda r: (r ** 2).sum() / 2
        ... )
        >>> curvature.GGN(residuals).diagonal()
        tensor([ 4., 16.])
    """

    def output_matrix(self, term: Term) -> OutputProduct:
        outputs = term.outputs.detach().requires_grad_()
        (gradient,) = gradients_of(
            self.source.loss_of(term._replace(outputs=outputs)), [outputs], create_graph=True
        )
        return lambda u, batched: pulled_back([gradient], [outputs], [u], batched)[0]


class Fisher(_ThroughOutputs):
    """The Fisher information matrix: the mean of g g^T over targets drawn from the model's own predictions.

    The mean over the targets is exact, since the covariance of the gradient by the outputs is known: for the
    softmax (``CrossEntropyLoss``), the normal (``MSELoss``) and the Bernoulli distribution
    (``BCEWithLogitsLoss``). For these it equals the Gauss-Newton matrix.

    Args:
        source: the loss.
        chunk_size: how many columns to multiply at a time.

    Raises:
        ValueError: the loss is none of these.

    Source: Amari (1998), Natural gradient works efficiently in learning; Martens (2020), New insights and
        perspectives on the natural gradient method, section 9.
    """

    def __init__(self, source: Source, chunk_size: int = 64):
        super().__init__(source, chunk_size)
        self._likelihood = likelihood_of(type(self).__name__, source.loss, source.reduction)

    def output_matrix(self, term: Term) -> OutputProduct:
        outputs, share = term.outputs.detach(), 1 / self.source.scale(term.outputs)
        return lambda u, batched: self._likelihood.product(outputs, u) * share


class _OfGradients(_ThroughOutputs):
    """B_n is the sum of g_kn g_kn^T over gradients by the outputs of row n."""

    def gradients(self, term: Term) -> Tensor:
        """The gradients g (K, N, ...) of the rows' own losses."""
        raise NotImplementedError(f"{type(self).__name__} defines no gradients")

    def output_matrix(self, term: Term) -> OutputProduct:
        share = 1 / self.source.scale(term.outputs)
        g = self.gradients(term).detach()
        axes = tuple(range(2 - g.ndim, 0))  # of a row

        def multiply(u: Tensor, batched: bool) -> Tensor:
            along = g * u.unsqueeze(-g.ndim)
            return (g * (along.sum(axes, keepdim=True) if axes else along)).sum(-g.ndim) * share

        return multiply


class MonteCarloFisher(_OfGradients):
    """An unbiased estimate of :class:`Fisher` from targets that are drawn from the model's predictions.

    Every product draws the same targets, so the operator stays the same while the data come in one order.

    Args:
        source: the loss.
        n_samples: targets for every row.
        seed: of the draws.
        chunk_size: how many columns to multiply at a time.

    Raises:
        ValueError: the loss has no known likelihood, or ``n_samples`` is not positive.

    Source: Kunstner, Balles, Hennig (2019), Limitations of the empirical Fisher approximation, section 2.
    """

    def __init__(self, source: Source, n_samples: int = 1, seed: int = 0, chunk_size: int = 64):
        super().__init__(source, chunk_size)
        if n_samples < 1:
            raise ValueError(f"MonteCarloFisher: n_samples must be at least 1, got {n_samples}")
        self._likelihood = likelihood_of("MonteCarloFisher", source.loss, source.reduction)
        self._n_samples, self._seed = n_samples, seed
        self._generator = Generator(self.device)

    def _begin_pass(self) -> None:
        self._generator.manual_seed(self._seed)

    def gradients(self, term: Term) -> Tensor:
        with no_grad():
            return draws(self._likelihood, term.outputs.detach(), self._n_samples, self._generator)


class EmpiricalFisher(_OfGradients):
    """The mean of g g^T over the gradients g of the examples with their own targets.

    It is the second moment of the gradients, and no approximation of the Fisher matrix far from a good fit.
    Rows of the outputs must not depend on other examples (no batch norm in training mode).

    Args:
        source: the loss, a sum or mean over the rows of the outputs.
        chunk_size: how many columns to multiply at a time.

    Source: Kunstner, Balles, Hennig (2019), Limitations of the empirical Fisher approximation, section 2.
    """

    def gradients(self, term: Term) -> Tensor:
        outputs = term.outputs.detach().requires_grad_()
        (gradient,) = gradients_of(
            self.source.loss_of(term._replace(outputs=outputs)), [outputs], create_graph=False
        )
        with no_grad():
            return (gradient * self.source.scale(outputs)).unsqueeze(0)


def squared_gradients(source: Source, n_signs: int, generator: Generator) -> Tensor:
    """An unbiased estimate of the diagonal of :class:`EmpiricalFisher` (n,), by ``n_signs`` passes backward.

    The square of a sum of the rows' gradients with random signs has the sum of their squares as its mean.

    Args:
        source: the loss.
        n_signs: how many such sums are averaged.
        generator: where the signs come from.

    Source: Chapelle, Erhan (2011), Improved preconditioner for Hessian free optimization, section 3.
    """
    fisher, total = EmpiricalFisher(source), Total(source.reduction)
    for term in source.terms():
        gradients = fisher.gradients(term)  # (1, N, ...)
        with no_grad():
            rows = [n_signs, *gradients.shape[1:2], *[1] * (gradients.ndim - 2)]
            signs = 2 * bernoulli(gradients.new_full(rows, 0.5), generator=generator) - 1
            cotangents = signs * gradients
        pulled = pulled_back([term.outputs], source.params, [cotangents], True)
        with no_grad():
            sums = source.layout.columns(pulled)
            total.add((sums * sums).mean(1) / source.scale(term.outputs), term.weight)
    return total.value()


class Jacobian(LinearOperator):
    """The Jacobian (m, n) of all outputs by all parameters, of a source with one mini-batch.

    Args:
        source: whose outputs; its loss does not matter.

    Raises:
        ValueError: the source has several mini-batches.

    Example:
        >>> import nbdl
        >>> from nbdl.optim import curvature
        >>> jacobian = curvature.Jacobian(curvature.Function(lambda x: x[:1] * x, nbdl.tensor([1.0, 2.0])))
        >>> jacobian.T @ nbdl.tensor([1.0, 1.0])
        tensor([4., 1.])
    """

    is_symmetric = False

    def __init__(self, source: Source):
        if not source.is_single:
            raise ValueError("Jacobian: expected a source with one mini-batch, got one with several")
        (term,) = source.terms()
        first = source.params[0]
        super().__init__((term.outputs.numel(), source.layout.size), first.dtype, first.device)
        self._linearized, self._layout = Linearized(term.outputs, source.params), source.layout
        self._shape = tuple(term.outputs.shape)

    def matvec(self, v: Tensor) -> Tensor:
        return self._linearized.push(self._layout.split(v)).reshape(-1)

    def matmat(self, v: Tensor) -> Tensor:
        pushed = self._linearized.push(self._layout.split_columns(v), True)
        with no_grad():
            return pushed.reshape(v.shape[1], -1).T

    def rmatvec(self, v: Tensor) -> Tensor:
        pulled = self._linearized.pull(v.reshape(self._shape))
        with no_grad():
            return self._layout.flat(pulled)
