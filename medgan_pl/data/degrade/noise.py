"""Noise that is independent of the scanner."""

import torch
from torch import Tensor

from medgan_pl.data.degrade.base import Degradation, Ends, Range, normal, uniform


class Gaussian(Degradation):
    """Add white noise of standard deviation `sd` on the [-1, 1] scale, independent in each channel; clip to the range."""

    def __init__(self, sd: Ends) -> None:
        self.sd = Range("sd", sd, 0, 2)

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        return (image + self.sd.draw(generator) * normal(generator, *image.shape)).clamp(-1, 1)


class Salt(Degradation):
    """Set a `share` of the pixels to -1 or 1, equally likely, in all channels alike: salt and pepper, as of dead and hot detectors."""

    def __init__(self, share: Ends) -> None:
        self.share = Range("share", share, 0, 1)

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        half = self.share.draw(generator) / 2
        place = uniform(generator, *image.shape[2:])
        return torch.where(place < half, -1.0, torch.where(place >= 1 - half, 1.0, image))
