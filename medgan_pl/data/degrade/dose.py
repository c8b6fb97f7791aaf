"""Fewer photons: a CT at a lower dose, by its projections or by an approximation, and a film."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from medgan_pl.core.counts import whole_number
from medgan_pl.data.degrade.base import Degradation, Ends, Images, Range, normal
from medgan_pl.data.degrade.projection import back_project, project
from medgan_pl.data.intensity import Window, from_unit, to_unit
from medgan_pl.data.settings import are_numbers

MU_WATER = 0.02  # attenuation of water per mm, near 65 keV: the mean energy of a beam of 120 kVp


class OfCT(Degradation):
    """A degradation that needs Hounsfield units.

    - `windows_hu`: the windows of the data, a pair [low, high] for each channel.
    - `pixel_mm`: side of an input pixel, after the earlier steps of a `Chain`.
    - `photons`: number that leaves the tube along each ray, a pixel wide, in each of `views`.

    HU outside all windows are unknown and count as the nearest end: with a soft-tissue window lungs attenuate too much.
    """

    needs_whole = True

    def __init__(self, *, windows_hu: Sequence[Sequence[float]], pixel_mm: float, photons: Ends, views: int = 128) -> None:
        self.windows_hu = Window(windows_hu).windows_hu
        self.photons = Range("photons", photons, 1)
        if not are_numbers([pixel_mm], 1) or pixel_mm <= 0:
            raise ValueError(f"`pixel_mm` must be a number above 0 mm, got {pixel_mm!r}")
        self.pixel_mm, self.views = pixel_mm, whole_number("views", views, 8)

    def native(self, images: Images) -> Float[Tensor, "b d h w"]:
        """Return the HU of all slices; one of each picture."""
        native = torch.stack([from_unit(image, self.windows_hu) for image in images])
        return native.unsqueeze(1) if native.ndim == 3 else native

    def lost(self, native: Tensor) -> Tensor:
        """Return the attenuation for each pixel of a ray's path, a pure number: -log of the share of photons that pass."""
        return (native / 1000 + 1).clamp(min=0) * (MU_WATER * self.pixel_mm)

    def in_hu(self, attenuation: Tensor) -> Tensor:
        """Return the change of HU for a change of `lost`."""
        return attenuation * (1000 / (MU_WATER * self.pixel_mm))

    def images(self, native: Float[Tensor, "b d h w"], like: Images) -> Images:
        return torch.stack([to_unit(scan, self.windows_hu) for scan in native.view(len(like), *like.shape[2:])])


class LowDose(OfCT):
    """Add the noise of a CT of `photons` a ray: Poisson noise in its projections, mapped to the slice by filtered back-projection.

    For each ray with line integral p, N ~ Poisson(photons · exp(-p)) photons are counted, at least 1. The error -log(N / photons) - p is
    back-projected and added. As the back-projection is linear, its artifacts do not enter, and without noise the image is unchanged. So
    the noise is stronger along attenuated rays, with streaks; its power is proportional to 1 / photons. Each slice, the last two axes, must
    be axial. The beam is parallel and monochromatic; there is no electronic noise, scatter or bow-tie filter. Values beyond a window are
    clipped.

    It takes about 0.1 s for 16 slices of 128² on one core, as one batch; in a `Chain` rows are processed one by one, 4 times as long.
    """

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        native = self.native(images)
        integrals = project(self.lost(native).flatten(0, 1), self.views).unflatten(0, native.shape[:2])  # (B, D, views, rays)
        error = torch.stack([self.error(lines, generator) for lines in integrals]).flatten(0, 1)
        noise = back_project(error, native.shape[-2:]).view_as(native)
        return self.images(native + self.in_hu(noise), images)

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        return self(image, generator)

    def error(self, integrals: Tensor, generator: torch.Generator) -> Tensor:
        photons = self.photons.draw(generator)
        counts = torch.poisson(photons * torch.exp(-integrals), generator=generator).clamp(min=1)
        return -torch.log(counts / photons) - integrals


class DoseNoise(OfCT):
    """Approximate `LowDose` by white Gaussian noise in HU of the same variance, about 40 times as fast.

    The variance of a pixel is (π² / 18 - 1 / 6) / (views · photons) times the mean over all rays through it of exp(p), per pixel squared
    (projection.py); only the two rays along its row and its column are used. Real CT noise is not white: it has little power at low
    frequencies, and streaks.
    """

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        native = self.native(image)
        lost = self.lost(native)
        weaker = (lost.sum(-1, keepdim=True).exp() + lost.sum(-2, keepdim=True).exp()) / 2
        variance = (math.pi**2 / 18 - 1 / 6) / (self.views * self.photons.draw(generator)) * weaker
        noise = variance.sqrt() * normal(generator, *native.shape)
        return self.images(native + self.in_hu(noise), image)


class Quanta(Degradation):
    """Add the quantum noise of a detector whose signal is the gray scale: N ~ Poisson(photons · (x + 1) / 2), `photons` at the brightest.

    It is an approximation for a film that is bright where few photons passed: such a film is noisier there.
    """

    def __init__(self, photons: Ends) -> None:
        self.photons = Range("photons", photons, 1)

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        photons = self.photons.draw(generator)
        counts = torch.poisson((photons * (image + 1) / 2).clamp(min=0), generator=generator)  # rounding may give values below -1
        return (2 * counts / photons - 1).clamp(max=1)
