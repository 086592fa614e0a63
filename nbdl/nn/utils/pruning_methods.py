"""What prunes a parameter: the methods and their masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn.functional.distance import vector_norm
from nbdl.nn.module import Module
from nbdl.nn.parameter import Parameter
from nbdl.nn.utils.normalized_weights import as_matrix
from nbdl.ops.new_like import ones_like
from nbdl.ops.random import rand, rand_like
from nbdl.ops.sorting import topk

Amount = int | float


class BasePruningMethod(ABC):
    """What prunes one parameter; subclasses say which elements, in :meth:`compute_mask`.

    Attributes:
        PRUNING_TYPE: ``unstructured`` (elements), ``structured`` (whole slices along an attribute ``dim``) or
            ``global``.
    """

    PRUNING_TYPE: ClassVar[str] = "unstructured"
    _tensor_name: str | None = None

    def __call__(self, module: Module, inputs: Any) -> None:
        """Before each call of the module: mask the parameter."""
        setattr(module, str(self._tensor_name), self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """``default_mask`` with more zeros.

        Args:
            t: how important the elements are.
            default_mask: the mask so far, of the same shape.
        """

    def apply_mask(self, module: Module) -> Tensor:
        """The parameter, masked.

        Raises:
            AssertionError: the method has not been applied.
        """
        if self._tensor_name is None:
            raise AssertionError(f"prune: Module {module} has to be pruned")
        original = getattr(module, f"{self._tensor_name}_orig")
        return getattr(module, f"{self._tensor_name}_mask").to(dtype=original.dtype) * original

    @classmethod
    def apply(
        cls, module: Module, name: str, *args: Any, importance_scores: Tensor | None = None, **kwargs: Any
    ) -> BasePruningMethod:
        """Prune a parameter from now on.

        Args:
            module: whose parameter it is.
            name: the parameter.
            args: of the constructor.
            importance_scores: what decides instead of the values, of the same shape.
            kwargs: of the constructor.

        Returns:
            the method, or the :class:`PruningContainer` if the parameter had been pruned before
        """
        method: BasePruningMethod = cls(*args, **kwargs)
        method._tensor_name = name
        older = take_hook(module, name)
        if older is not None:
            container = older if isinstance(older, PruningContainer) else PruningContainer(older)
            container.add_pruning_method(method)
            method = container
        value = getattr(module, name)
        scores = value if importance_scores is None else importance_scores
        if scores.shape != value.shape:
            raise AssertionError(
                f"prune: importance_scores should have the same shape as parameter {name} of {module}, got "
                f"{tuple(scores.shape)} and {tuple(value.shape)}"
            )
        with no_grad():
            mask = ones_like(value) if older is None else getattr(module, f"{name}_mask").clone()
            mask = method.compute_mask(scores.detach(), default_mask=mask)
        if older is None:
            delattr(module, name)
            module.register_parameter(f"{name}_orig", value)
        module.register_buffer(f"{name}_mask", mask)
        setattr(module, name, method.apply_mask(module))
        module.register_forward_pre_hook(method)
        return method

    @no_grad()
    def prune(
        self, t: Tensor, default_mask: Tensor | None = None, importance_scores: Tensor | None = None
    ) -> Tensor:
        """A tensor with pruned elements set to 0.

        Args:
            t: the tensor.
            default_mask: what was pruned before; default: nothing.
            importance_scores: what decides instead of the values.
        """
        scores = t if importance_scores is None else importance_scores
        mask = ones_like(t) if default_mask is None else default_mask
        return t * self.compute_mask(scores, default_mask=mask)

    def remove(self, module: Module) -> None:
        """Make the masked parameter an ordinary one; what was pruned stays 0 until it is trained."""
        name = str(self._tensor_name)
        with no_grad():
            value = self.apply_mask(module)
        original: Parameter = getattr(module, f"{name}_orig")
        original.data = value
        for attribute in (name, f"{name}_orig", f"{name}_mask"):
            delattr(module, attribute)
        setattr(module, name, original)


def take_hook(module: Module, name: str) -> BasePruningMethod | None:
    """The method that prunes a parameter, if any; it is no longer called."""
    if module._hooks is not None:
        for key, hook in module._hooks.forward_pre.items():
            method = hook.function
            if isinstance(method, BasePruningMethod) and method._tensor_name == name:
                del module._hooks.forward_pre[key]
                return method
    return None


class PruningContainer(BasePruningMethod):
    """Methods that are applied to one parameter, one after the other."""

    PRUNING_TYPE = "container"

    def __init__(self, *args: BasePruningMethod):
        self._methods: list[BasePruningMethod] = []
        if args:
            self._tensor_name = args[0]._tensor_name
        for method in args:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod) -> None:
        """Apply another method after the others.

        Raises:
            TypeError: it is no pruning method.
            ValueError: it prunes another parameter.
        """
        if not isinstance(method, BasePruningMethod):
            raise TypeError(f"PruningContainer: {type(method)} is not a BasePruningMethod subclass")
        if method._tensor_name != self._tensor_name:
            raise ValueError(
                "PruningContainer: Can only add pruning methods acting on the parameter named "
                f"{self._tensor_name!r}. Found {method._tensor_name!r}"
            )
        self._methods.append(method)

    def __len__(self) -> int:
        return len(self._methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._methods)

    def __getitem__(self, index: int) -> BasePruningMethod:
        return self._methods[index]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The last method's mask of what the others left."""
        method, mask = self._methods[-1], default_mask
        chosen = _left(method, t, mask)
        mask = mask.to(dtype=t.dtype)
        mask[chosen] = method.compute_mask(t[chosen], default_mask=mask[chosen]).to(dtype=mask.dtype)
        return mask


def _left(method: BasePruningMethod, t: Tensor, mask: Tensor) -> Any:
    """An index of what is not pruned yet, in the units of a method."""
    if method.PRUNING_TYPE == "unstructured":
        return mask == 1
    if method.PRUNING_TYPE == "global":
        return ...
    if method.PRUNING_TYPE != "structured":
        raise ValueError(f"PruningContainer: Unrecognized PRUNING_TYPE {method.PRUNING_TYPE}")
    dim = method.dim % t.array.ndim  # type: ignore[attr-defined]
    others = [axis for axis in range(t.array.ndim) if axis != dim]
    kept = mask.sum(others) != 0
    before = [slice(None)] * dim
    return (*before, kept)


class Identity(BasePruningMethod):
    """Prunes nothing."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return default_mask


class _ByAmount(BasePruningMethod):
    """Prunes the units with the lowest scores.

    Args:
        amount: how many, or which part if it is a float in [0, 1].
    """

    def __init__(self, amount: Amount):
        if isinstance(amount, bool) or not isinstance(amount, (int, float)):
            raise TypeError(f"prune: Invalid type for amount: {amount!r}. Must be int or float.")
        if amount < 0 or (isinstance(amount, float) and amount > 1):
            raise ValueError(
                f"prune: amount={amount} should either be a float in the range [0.0, 1.0] or a non-negative "
                "integer"
            )
        self.amount = amount

    def count(self, units: int) -> int:
        """How many of the units are pruned."""
        number = round(self.amount * units) if isinstance(self.amount, float) else self.amount
        if number > units:
            raise ValueError(
                f"prune: amount={number} should be smaller than the number of parameters to prune={units}"
            )
        return number


class _Unstructured(_ByAmount):
    """Prunes single elements."""

    @staticmethod
    def scores(t: Tensor) -> Tensor:
        """The elements with the lowest scores are pruned."""
        raise NotImplementedError

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        mask = default_mask.clone().reshape((-1,))
        number = self.count(t.array.size)
        if number:
            lowest = topk(self.scores(t).reshape((-1,)), number, largest=False)
            mask[lowest.indices] = 0
        return mask.reshape(default_mask.array.shape)


class RandomUnstructured(_Unstructured):
    """Prunes elements at random.

    Args:
        amount: how many, or which part if it is a float.
    """

    @staticmethod
    def scores(t: Tensor) -> Tensor:
        return rand_like(t)


class L1Unstructured(_Unstructured):
    """Prunes the elements of least magnitude.

    Args:
        amount: how many, or which part if it is a float.
    """

    @staticmethod
    def scores(t: Tensor) -> Tensor:
        return t.abs()


class RandomStructured(_ByAmount):
    """Prunes whole slices at random.

    Args:
        amount: how many, or which part if it is a float.
        dim: the axis along which the slices are counted.
    """

    PRUNING_TYPE = "structured"

    def __init__(self, amount: Amount, dim: int = -1):
        super().__init__(amount)
        self.dim = dim

    def scores(self, t: Tensor) -> Tensor:
        """The slices with the lowest scores are pruned."""
        return rand(t.array.shape[self.dim], device=t.device)

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        if t.array.ndim < 2:
            raise ValueError(
                "prune: Structured pruning can only be applied to multidimensional tensors. Found tensor of "
                f"shape {tuple(t.shape)} with {t.array.ndim} dims"
            )
        if not -t.array.ndim <= self.dim < t.array.ndim:
            raise IndexError(f"prune: Invalid index {self.dim} for tensor of size {tuple(t.shape)}")
        mask = default_mask.clone()
        number = self.count(t.array.shape[self.dim])
        if number:
            lowest = topk(self.scores(t), number, largest=False)
            before = [slice(None)] * (self.dim % t.array.ndim)
            index = (*before, lowest.indices)
            mask[index] = 0
        return mask


class LnStructured(RandomStructured):
    """Prunes the slices with the least norm.

    Args:
        amount: how many, or which part if it is a float.
        n: the order of the norm, also infinite or ``fro``.
        dim: the axis along which the slices are counted.
    """

    def __init__(self, amount: Amount, n: float | str, dim: int = -1):
        super().__init__(amount, dim)
        self.n = n

    def scores(self, t: Tensor) -> Tensor:
        order = 2.0 if self.n == "fro" else float(self.n)
        return vector_norm(as_matrix(t, self.dim), order, 1, False)


class CustomFromMask(BasePruningMethod):
    """Prunes what a given mask says.

    Args:
        mask: zeros where elements are pruned.
    """

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor):
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return default_mask * self.mask.to(dtype=default_mask.dtype)
