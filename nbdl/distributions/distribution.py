"""What every distribution is: parameters, shapes, samples, probabilities."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Size, Tensor
from nbdl.distributions import constraints
from nbdl.distributions.constraints import Constraint
from nbdl.distributions.utils import lazy_property
from nbdl.ops.drawing import is_everywhere

Shape = Sequence[int]


class Distribution:
    """Base of all distributions: a batch of them, of which each gives events of one shape.

    A sample has the shape ``sample_shape + batch_shape + event_shape``; :meth:`log_prob` of it has the shape
    ``sample_shape + batch_shape``.

    Args:
        batch_shape: shape of the batch.
        event_shape: shape of one event.
        validate_args: whether parameters and arguments are checked; default: as
            :meth:`set_default_validate_args` says. Inside of ``vmap`` and of a program that is recorded
            values cannot be read, and are not checked.

    Attributes:
        has_rsample: whether samples are differentiable by the parameters.
        has_enumerate_support: whether all events can be listed.
        arg_constraints: what the parameters have to satisfy, by their names.

    Raises:
        ValueError: a parameter is not what its constraint says.

    Example:
        >>> import nbdl
        >>> normal = nbdl.distributions.Normal(nbdl.zeros(3), 1.0)
        >>> normal.batch_shape, normal.event_shape, normal.sample((2,)).shape
        (nbdl.Size([3]), nbdl.Size([]), nbdl.Size([2, 3]))
    """

    has_rsample: Any = False
    has_enumerate_support: Any = False
    arg_constraints: Any = {}
    _validate_args: bool = __debug__

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Say whether distributions that are not told check their arguments.

        Raises:
            ValueError: ``value`` is no bool.
        """
        if value not in (True, False):
            raise ValueError(f"set_default_validate_args: expected True or False, got {value!r}")
        Distribution._validate_args = value

    def __init__(self, batch_shape: Shape = (), event_shape: Shape = (), validate_args: bool | None = None):
        self._batch_shape, self._event_shape = Size(batch_shape), Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            self._check_parameters()

    def _check_parameters(self) -> None:
        for name, constraint in self.arg_constraints.items():
            # A parameter that is computed from others when it is asked for needs no check.
            if constraints.is_dependent(constraint) or name not in vars(self):
                continue
            value = getattr(self, name)
            if not is_everywhere(_checked(constraint, value)):
                raise ValueError(
                    f"Expected parameter {name} ({type(value).__name__} of shape {tuple(value.shape)}) of "
                    f"distribution {self!r} to satisfy the constraint {constraint!r}, but found invalid "
                    f"values:\n{value}"
                )

    # ------------------------------------------------------------------------------------------------ shapes
    @property
    def batch_shape(self) -> Size:
        """The shape of the batch."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """The shape of an event."""
        return self._event_shape

    def expand(self, batch_shape: Shape, _instance: Any = None) -> Any:
        """The same distribution for a larger batch, without a copy of the parameters.

        Args:
            batch_shape: to which the batch shape broadcasts.
            _instance: the object to be made, for classes that override this.
        """
        shape = Size(batch_shape)
        new = copy.copy(self) if _instance is None else _instance
        for name, value in list(vars(self).items()):
            if name in self.arg_constraints:
                kept = value.ndim - self.arg_constraints[name].event_dim
                vars(new)[name] = value.expand(shape + value.shape[kept:])
            elif isinstance(getattr(type(self), name, None), lazy_property):
                vars(new).pop(name, None)  # computed anew from the expanded parameters
            else:
                vars(new)[name] = value
        new._batch_shape = shape
        return new

    def _extended_shape(self, sample_shape: Shape = ()) -> Size:
        """The shape of a sample."""
        return Size((*sample_shape, *self._batch_shape, *self._event_shape))

    # ------------------------------------------------------------------------------------------------ moments
    @property
    def support(self) -> Any:
        """The set of events."""
        raise NotImplementedError

    @property
    def mean(self) -> Tensor:
        """The mean."""
        raise NotImplementedError

    @property
    def mode(self) -> Tensor:
        """The event of the largest probability or density."""
        raise NotImplementedError(f"{type(self)} does not implement mode")

    @property
    def variance(self) -> Tensor:
        """The variance of each element of an event."""
        raise NotImplementedError

    @property
    def stddev(self) -> Tensor:
        """The square root of the variance."""
        return self.variance.sqrt()

    def entropy(self) -> Tensor:
        """The entropy in nats, of the batch shape."""
        raise NotImplementedError

    def perplexity(self) -> Tensor:
        """e to the power of the entropy."""
        return self.entropy().exp()

    # ------------------------------------------------------------------------------------------------ samples
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Samples without a gradient, from the default generator of the device of the parameters."""
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Samples that are differentiable by the parameters, where ``has_rsample`` says so."""
        raise NotImplementedError

    def sample_n(self, n: int) -> Tensor:
        """``n`` samples; :meth:`sample` with the shape (n,) is the same."""
        return self.sample((n,))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All events of a discrete distribution along a new first axis.

        Args:
            expand: to the batch shape; else the batch axes have length 1.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------ probabilities
    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density or probability at ``value``.

        Raises:
            ValueError: ``value`` is no tensor, does not broadcast, or is not in the support.
        """
        raise NotImplementedError

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of events up to ``value``."""
        raise NotImplementedError

    def icdf(self, value: Tensor) -> Tensor:
        """The event up to which the probability is ``value``."""
        raise NotImplementedError

    def _validate_sample(self, value: Any) -> None:
        """Check the argument of :meth:`log_prob` and its like, if arguments are checked.

        Raises:
            ValueError: it is no tensor, does not broadcast, or is not in the support.
        """
        if not self._validate_args:
            return
        if not isinstance(value, Tensor):
            raise ValueError("The value argument to log_prob must be a Tensor")
        events = self._event_shape
        if value.ndim < len(events) or value.shape[value.ndim - len(events) :] != events:
            raise ValueError(
                f"The right-most size of value must match event_shape: {value.shape} vs {events}."
            )
        expected = self._batch_shape + events
        for n, m in zip(reversed(value.shape), reversed(expected)):
            if n != 1 and m != 1 and n != m:
                raise ValueError(
                    f"Value is not broadcastable with batch_shape+event_shape: {value.shape} vs "
                    f"{Size(expected)}."
                )
        try:
            support = self.support
        except NotImplementedError:
            return  # a distribution that does not say where it lives
        if not is_everywhere(_checked(support, value)):
            raise ValueError(
                f"Expected value argument ({type(value).__name__} of shape {tuple(value.shape)}) to be "
                f"within the support ({support!r}) of the distribution {self!r}, but found invalid "
                f"values:\n{value}"
            )

    def _get_checked_instance(self, cls: type, _instance: Any = None) -> Any:
        """A new object for :meth:`expand` of a class that overrides it, as PyTorch's subclasses use it.

        Raises:
            NotImplementedError: a subclass with an ``__init__`` of its own inherits that ``expand``.
        """
        if _instance is None and type(self).__init__ is not cls.__init__:  # type: ignore[misc]
            raise NotImplementedError(
                f"Subclass {type(self).__name__} of {cls.__name__} that defines a custom __init__ method "
                "must also define a custom .expand() method."
            )
        return type(self).__new__(type(self)) if _instance is None else _instance

    def __repr__(self) -> str:
        names = [name for name in self.arg_constraints if isinstance(vars(self).get(name), Tensor)]
        return f"{type(self).__name__}({', '.join(map(self._described, names))})"

    def _described(self, name: str) -> str:
        value = vars(self)[name]
        readable = value.numel() == 1 and value.batch is None
        return f"{name}: {value.array.item() if readable else value.shape}"


def _checked(constraint: Constraint, value: Tensor) -> Tensor:
    with no_grad():
        return constraint.check(value)
