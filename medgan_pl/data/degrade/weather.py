"""Haze: a scattering layer between the object and the observer."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from medgan_pl.data.degrade.base import Degradation, Ends, Frame, Images, Range, normal, uniform
from medgan_pl.data.settings import are_numbers


class Fog(Degradation):
    """Apply the scattering model I = J t + A (1 - t) on the [0, 1] scale, with t smooth in space.

    - `transmission`: the range of t, within (0, 1]; in each image t varies between two numbers drawn from it.
    - `airlight`: the range of A, in [0, 1]; one number an image.
    - `waves`: t has fewer than that many half-waves along each side; 2 to 16, larger values give smaller clouds.

    Source: He et al. 2011 (doi 10.1109/TPAMI.2010.168), eq. 1. There t follows the depth of the scene; a film has none, so t is noise.
    """

    needs_whole = True

    def __init__(self, *, transmission: Ends, airlight: Ends, waves: int = 4) -> None:
        self.transmission = Range("transmission", transmission, 0.01, 1)  # t = 0 cannot be inverted
        self.airlight = Range("airlight", airlight, 0, 1)
        if not are_numbers([waves], 1, int) or not 2 <= waves <= 16:
            raise ValueError(f"`waves` must be a whole number from 2 to 16, got {waves!r}")
        self.waves = waves

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        return foggy(image, *self.layer(image, generator))

    def frame(self, spatial_dims: int) -> Frame:
        return replace(super().frame(spatial_dims), moves_levels=True)

    def layer(self, images: Images, generator: torch.Generator) -> tuple[Float[Tensor, "b 1 *space"], Float[Tensor, "b 1 *one"]]:
        """Return t (B, 1, *S) and A (B, 1, 1, …) that a call applies to `images` with a generator in the same state."""
        t, a = zip(*(self.one(image, generator) for image in images.split(1)), strict=True)
        return torch.cat(t), torch.cat(a)

    def one(self, image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        ends = self.transmission.draw(generator, 2).sort().values
        t = ends[0] + (ends[1] - ends[0]) * smooth(image.shape[2:], self.waves, generator)
        a = self.airlight.draw(generator, *[1] * image.ndim)
        return t.to(image.dtype)[None, None], a.to(image.dtype)

    @staticmethod
    def clear(foggy: Images, t: Tensor, a: Tensor) -> Images:
        """Return J = (I - A (1 - t)) / t: the image under a known layer."""
        return (foggy + 1 - 2 * a * (1 - t)) / t - 1


def foggy(images: Images, t: Tensor, a: Tensor) -> Images:
    # On the [-1, 1] scale: (2 J - 1) t + (2 A - 1) (1 - t).
    return images * t + (2 * a - 1) * (1 - t)


def smooth(sides: torch.Size, waves: int, generator: torch.Generator) -> Float[Tensor, "*space"]:
    """Return noise from 0 to 1, both ends reached: cosines of fewer than `waves` half-waves along each side, with normal weights."""
    field = normal(generator, *[waves] * len(sides))
    for side in sides:
        place = (torch.arange(side, device=field.device) + 0.5) / side
        # Without random phases all cosines would be flat at the border.
        turns = torch.arange(waves, device=field.device)[:, None] * place / 2 + uniform(generator, waves, 1)
        cosines = torch.cos(2 * math.pi * turns)
        field = torch.tensordot(field, cosines, ([0], [0]))  # the next axis becomes the first, this one the last
    field = field - field.amin()
    return field / field.amax()
