"""Batch normalization over the batches of all ranks that can be differentiated twice, as a penalty on D's gradient needs.

torch's SyncBatchNorm refuses CPU tensors, and its backward pass has no derivative (pytorch #61222), so that R1 fails with it.
"""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SumOverRanks(torch.autograd.Function):
    """Sum tensors of one shape over ranks. Each rank's loss depends on every rank's tensor, so the gradient is summed over ranks too."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return SumOverRanks.apply(gradient)


class Moments(torch.autograd.Function):
    """Compute mean and biased variance (C,) of x (B, C, *S); as autograd, but its backward pass reads x once in place of four times."""

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
    """Return one value a channel (C,), shaped (1, C, 1, …) to broadcast with x (B, C, *S)."""
    return values.view(1, -1, *[1] * (x.ndim - 2))


class SyncedBatchNorm(_BatchNorm):
    """Normalize x (B, C, *S) like nn.BatchNorm1d, 2d or 3d, by the mean and variance of all ranks' images together.

    y = (x - μ) / √(σ² + eps) · weight + bias over the joint batch; B may differ between ranks (Ioffe & Szegedy 2015, arXiv 1502.03167,
    algorithm 1). With losses averaged over ranks, as in DDP, gradients and their derivatives equal those of one process with all images.
    Statistics are float32 or finer under autocast. In evaluation mode, and in one process, it is nn.BatchNorm.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"batch normalization needs (B, C, *S), got {tuple(x.shape)}")

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
        """Update the running statistics, the variance by its unbiased estimate, as nn.BatchNorm does."""
        if not self.track_running_stats:
            return
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean += share * (mean - self.running_mean)
        self.running_var += share * (variance * count / (count - 1) - self.running_var)


def joint_statistics(x: Float[Tensor, "b c *space"]) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"], Float[Tensor, ""]]:
    """Return mean, biased variance and count of values a channel over all ranks, bit-equal on every rank.

    The moments of the ranks are merged (Chan, Golub & LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample
    variances): E[x²] - E[x]² would lose a small variance under a large mean.
    """
    mean, variance = Moments.apply(x)
    # A table with a row for each rank, 0 in all rows but its own: the sum is exact in any order and needs one exchange.
    table = x.new_zeros(dist.get_world_size(), 3, x.shape[1])
    table[dist.get_rank()] = torch.stack([torch.full_like(mean, x.numel() / x.shape[1]), mean, variance])
    counts, means, variances = SumOverRanks.apply(table).unbind(1)  # (world, C) each
    shares = counts / counts.sum(0)
    mean = (shares * means).sum(0)
    variance = (shares * (variances + (means - mean).square())).sum(0)
    return mean, variance, counts[:, 0].sum().detach()


def synced(network: nn.Module) -> nn.Module:
    """Return `network` itself with its batch norms now over all ranks; weights, statistics, their names and hooks stay as they are."""
    for layer in network.modules():
        if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            layer.__class__ = SyncedBatchNorm  # not a new layer: optimizers, EMA and shared layers refer to this one
    return network
