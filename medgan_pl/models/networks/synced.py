"""Batch normalization over the batches of all ranks, which can be differentiated twice: a penalty on D's gradient needs it.

torch's SyncBatchNorm takes no tensors on the CPU, and its backward pass has no derivative (pytorch #61222): R1 through a D with batch
normalization fails under it.
"""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SumOverRanks(torch.autograd.Function):
    """The sum over ranks of tensors of one shape. Each rank's loss depends on every rank's tensor, so the gradient is their sum in turn."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return SumOverRanks.apply(gradient)


class Moments(torch.autograd.Function):
    """Mean and biased variance (C,) of x (B, C, *S). What autograd would do by itself, with one pass over x backwards in place of four."""

    @staticmethod
    def forward(ctx, x: Tensor) -> tuple[Tensor, Tensor]:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        mean = x.mean(axes)
        ctx.save_for_backward(x, mean)
        return mean, (x - along(mean, x)).square_().mean(axes)

    @staticmethod
    def backward(ctx, to_mean: Tensor, to_variance: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        count = x.numel() / x.shape[1]
        slope = to_variance * (2 / count)
        return torch.addcmul(along(to_mean / count - slope * mean, x), x, along(slope, x))


def along(values: Tensor, x: Tensor) -> Tensor:
    """A value a channel (C,), shaped (1, C, 1, …) to go with x (B, C, *S)."""
    return values.view(1, -1, *[1] * (x.ndim - 2))


class SyncedBatchNorm(_BatchNorm):
    """nn.BatchNorm1d, 2d or 3d with the mean and variance of all ranks' images together; x (B, C, *S) -> (B, C, *S).

    y = (x - μ) / √(σ² + eps) · weight + bias over the joint batch, whatever B is on each rank (Ioffe & Szegedy 2015, arXiv 1502.03167,
    algorithm 1). With losses averaged over ranks, as DDP does, gradients and their derivatives are those of one process that holds it all.
    Statistics are float32 or finer under autocast. In evaluation mode, and in one process, it is nn.BatchNorm.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"batch normalisation needs (B, C, *S), got {tuple(x.shape)}")

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        self._check_input_dim(x)
        with torch.autocast(x.device.type, enabled=False):
            fine = x.to(torch.promote_types(x.dtype, torch.float32))
            mean, variance, count = joint_statistics(fine)
            self._remember(mean.detach(), variance.detach(), count)
            scale = (variance + self.eps).rsqrt()
            shift = -mean * scale
            if self.affine:
                scale, shift = scale * self.weight, shift * self.weight + self.bias
            return torch.addcmul(along(shift, x), fine, along(scale, x)).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Moves the running statistics, the variance by its unbiased estimate, as nn.BatchNorm does."""
        if not self.track_running_stats:
            return
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean += share * (mean - self.running_mean)
        self.running_var += share * (variance * count / (count - 1) - self.running_var)


def joint_statistics(x: Float[Tensor, "b c *space"]) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"], Float[Tensor, ""]]:
    """Mean, biased variance and count of values a channel over all ranks; the same to the bit on every rank.

    Each rank's own moments are merged (Chan, Golub & LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample
    variances): E[x²] - E[x]² would lose a small variance beside a large mean.
    """
    mean, variance = Moments.apply(x)
    # A table with a row for each rank, all but the own 0: the sum is exact, so its order does not matter, and one exchange brings all.
    table = x.new_zeros(dist.get_world_size(), 3, x.shape[1])
    table[dist.get_rank()] = torch.stack([torch.full_like(mean, x.numel() / x.shape[1]), mean, variance])
    counts, means, variances = SumOverRanks.apply(table).unbind(1)  # (world, C) each
    shares = counts / counts.sum(0)
    mean = (shares * means).sum(0)
    variance = (shares * (variances + (means - mean).square())).sum(0)
    return mean, variance, counts[:, 0].sum().detach()


def synced(network: nn.Module) -> nn.Module:
    """`network` itself, its batch norms from now on taken over all ranks; weights, statistics, their names and hooks stay as they are."""
    for layer in network.modules():
        if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            layer.__class__ = SyncedBatchNorm  # not a new layer: optimizers, averages and shared layers keep hold of this one
    return network
