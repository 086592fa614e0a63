"""Normalisation channel by channel: over a batch, with running statistics, and over an instance."""

from __future__ import annotations

from typing import Any, ClassVar

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn.module import Module
from nbdl.nn.normalization import reset_scale_and_shift
from nbdl.nn.parameter import Parameter
from nbdl.ops.creation import empty, ones, tensor, zeros
from nbdl.ops.normalization import count_up


class _ChannelNorm(Module):
    """What batch and instance normalisation share: scale and shift of channels, running statistics."""

    _ranks: ClassVar[tuple[int, ...]]  # allowed numbers of axes of the input
    _version = 2  # of what is saved; the first one had no num_batches_tracked

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: Any,
        dtype: Any,
        bias: bool,
    ):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        for name, is_there in (("weight", affine), ("bias", affine and bias)):
            value = Parameter(empty(num_features, device=device, dtype=dtype)) if is_there else None
            self.register_parameter(name, value)
        tracked = track_running_stats
        self.register_buffer(
            "running_mean", zeros(num_features, device=device, dtype=dtype) if tracked else None
        )
        self.register_buffer(
            "running_var", ones(num_features, device=device, dtype=dtype) if tracked else None
        )
        self.register_buffer("num_batches_tracked", tensor(0, device=device) if tracked else None)
        self.reset_parameters()

    @no_grad()
    def reset_running_stats(self) -> None:
        """Forget the running statistics."""
        if self.track_running_stats:
            self.running_mean.zero_()  # type: ignore[union-attr]
            self.running_var.fill_(1)  # type: ignore[union-attr]
            self.num_batches_tracked.zero_()  # type: ignore[union-attr]

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, no running statistics."""
        self.reset_running_stats()
        reset_scale_and_shift(self)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        """As any module; where an old state, or a plain dict, has no count of batches, it stays as it is."""
        if self.track_running_stats and local_metadata.get("version", 1) < 2:
            state_dict.setdefault(f"{prefix}num_batches_tracked", self.num_batches_tracked)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def _check_rank(self, input: Tensor) -> None:
        if input.ndim not in self._ranks:
            expected = " or ".join(f"{rank}D" for rank in self._ranks)
            raise ValueError(f"{type(self).__name__}: expected {expected} input (got {input.ndim}D input)")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check_rank(input)
        momentum: float | Tensor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            count_up(self.num_batches_tracked)
            if self.momentum is None:  # the plain mean of all batches
                momentum = 1.0 / self.num_batches_tracked.double()
        uses_batch = self.training or self.running_mean is None
        keeps_statistics = not self.training or self.track_running_stats
        return F.batch_norm(
            input,
            self.running_mean if keeps_statistics else None,
            self.running_var if keeps_statistics else None,
            self.weight,
            self.bias,
            uses_batch,
            momentum,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L); arguments and attributes as in :class:`BatchNorm2d`.

    Example:
        >>> import nbdl
        >>> nbdl.nn.BatchNorm1d(3)(nbdl.randn(8, 3)).shape
        nbdl.Size([8, 3])
    """

    _ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """(x - mean) / sqrt(var + eps) * weight + bias for every channel of (N, C, H, W).

    In training mean and variance are those of the batch; in evaluation the running ones, if they are tracked.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of a new batch in the running statistics; None gives the mean of all batches.
        affine: whether there are weight and bias.
        track_running_stats: whether there are running statistics.
        device: where parameters and buffers are.
        dtype: their dtype.
        bias: whether ``affine`` includes the bias.

    Attributes:
        weight: (C,), ones at first; or None.
        bias: (C,), zeros at first; or None.
        running_mean: (C,); or None.
        running_var: (C,), unbiased; or None.
        num_batches_tracked: number of batches seen; or None.

    Raises:
        ValueError: the input has another number of axes, or one value a channel in training.

    Source: Ioffe, Szegedy (2015), Batch normalization.

    Example:
        >>> import nbdl
        >>> layer = nbdl.nn.BatchNorm2d(3)
        >>> layer(nbdl.randn(2, 3, 8, 8)).shape
        nbdl.Size([2, 3, 8, 8])
        >>> int(layer.num_batches_tracked)
        1
    """

    _ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (N, C, D, H, W); arguments and attributes as in :class:`BatchNorm2d`."""

    _ranks = (5,)


class _InstanceNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check_rank(input)
        single = input.ndim == self._ranks[0]
        out = F.instance_norm(
            input.unsqueeze(0) if single else input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return out.squeeze(0) if single else out


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation of (N, C, L) or (C, L); see :class:`InstanceNorm2d`."""

    _ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """(x - mean) / sqrt(var + eps) * weight + bias for every channel of every image (C, H, W).

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of a new batch in the running statistics.
        affine: whether there are weight and bias.
        track_running_stats: whether there are running statistics, which evaluation then uses.
        device: where parameters and buffers are.
        dtype: their dtype.
        bias: whether ``affine`` includes the bias.

    Source: Ulyanov, Vedaldi, Lempitsky (2016), Instance normalization.
    """

    _ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Instance normalisation of (N, C, D, H, W) or (C, D, H, W); see :class:`InstanceNorm2d`."""

    _ranks = (4, 5)
