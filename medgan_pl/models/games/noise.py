"""The noise that a generator starts from: independent numbers of mean 0."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Noise(Protocol):
    def __call__(self, count: int, latent: int, device: torch.device) -> Tensor:
        """Return noise (count, latent) from the global generator."""


@dataclass(frozen=True)
class Normal:
    """N(0, 1)."""

    def __call__(self, count: int, latent: int, device: torch.device) -> Tensor:
        return torch.randn(count, latent, device=device)


@dataclass(frozen=True)
class Uniform:
    """U(-1, 1), as in the first DCGAN (Radford et al. 2016, sec. 4); its variance is a third of the normal's."""

    def __call__(self, count: int, latent: int, device: torch.device) -> Tensor:
        return torch.rand(count, latent, device=device) * 2 - 1
