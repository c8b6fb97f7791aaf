"""The exponential moving average (EMA) of a generator's weights (Yazıcı et al. 2019), with a half-life in images (Karras et al. 2020)."""

import copy

import torch
from torch import nn


class EMA(nn.Module):
    """An exponential moving average of a network's parameters and float buffers.

    Whole-number buffers are copied, and so are those of spectral norm: the mean of unit vectors is shorter than 1, so the averaged weights
    would be divided by too little.

    After n images the weight of the older average is 0.5 ** (n / h), with h = min(`halflife_images`, `ramp` × images shown so far). The
    ramp lets the average forget the first, useless weights of a short run.

    - `halflife_images`: > 0, in real images; 500 k images at batch 32 is the half-life of decay 0.99996.
    - `ramp`: > 0, as a share of the images shown; None switches it off.

    Raise ValueError for other values.
    """

    def __init__(self, network: nn.Module, halflife_images: float = 10_000, ramp: float | None = 0.1) -> None:
        super().__init__()
        if halflife_images <= 0 or (ramp is not None and ramp <= 0):
            raise ValueError(
                f"`halflife_images` and `ramp` must be above 0, got {halflife_images} and {ramp}; ramp=null switches the ramp off"
            )
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.halflife_images, self.ramp = halflife_images, ramp
        self.averaged = [buffer.is_floating_point() and ".parametrizations." not in f".{name}" for name, buffer in network.named_buffers()]

    def train(self, mode: bool = True) -> "EMA":
        """Stay in evaluation mode: batch norm uses the averaged statistics whatever mode the module around it is in."""
        return super().train(False)

    @torch.no_grad()
    def update(self, network: nn.Module, *, images: int, new_images: int) -> None:
        """Move the average towards `network` after `new_images` more images, `images` in all."""
        halflife = self.halflife_images if self.ramp is None else min(self.halflife_images, self.ramp * images)
        share = 1 - 0.5 ** (new_images / halflife)
        mine, theirs = list(self.network.parameters()), list(network.parameters())
        for own, new, averaged in zip(self.network.buffers(), network.buffers(), self.averaged, strict=True):
            if averaged:
                mine.append(own)
                theirs.append(new)
            else:
                own.copy_(new)
        torch._foreach_lerp_(mine, theirs, share)
