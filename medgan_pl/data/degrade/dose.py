"""Fewer photons: a CT at a lower dose, through its projections or by a stated short cut, and a film."""

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
    """A degradation that needs Hounsfield units. `windows_hu`: the windows of the data, a pair [low, high] for each channel; `pixel_mm`:
    side of a pixel
    of what it is given, after the steps before it in a `Chain`; `photons`: that leave the tube along each ray, a pixel wide, in each of
    `views`.

    HU outside all windows are not known and count as the nearest end: under a soft-tissue window lungs attenuate too much.
    """

    def __init__(self, *, windows_hu: Sequence[Sequence[float]], pixel_mm: float, photons: Ends, views: int = 128) -> None:
        self.windows_hu = Window(windows_hu).windows_hu
        self.photons = Range("photons", photons, 1)
        if not are_numbers([pixel_mm], 1) or pixel_mm <= 0:
            raise ValueError(f"`pixel_mm` must be a number above 0 mm, got {pixel_mm!r}")
        self.pixel_mm, self.views = pixel_mm, whole_number("views", views, 8)

    def native(self, images: Images) -> Float[Tensor, "b d h w"]:
        """HU of all slices; one of each picture."""
        native = torch.stack([from_unit(image, self.windows_hu) for image in images])
        return native.unsqueeze(1) if native.ndim == 3 else native

    def lost(self, native: Tensor) -> Tensor:
        """Attenuation for each pixel of a ray's way, a pure number: -log of the share of photons that pass."""
        return (native / 1000 + 1).clamp(min=0) * (MU_WATER * self.pixel_mm)

    def in_hu(self, attenuation: Tensor) -> Tensor:
        """The change of HU that a change of `lost` is."""
        return attenuation * (1000 / (MU_WATER * self.pixel_mm))

    def images(self, native: Float[Tensor, "b d h w"], like: Images) -> Images:
        return torch.stack([to_unit(scan, self.windows_hu) for scan in native.view(len(like), *like.shape[2:])])


class LowDose(OfCT):
    """The noise of a CT of `photons` a ray: Poisson in its projections, and from there into the slice by filtered back-projection.

    For each ray the line integral p is taken of the image, N ~ Poisson(photons · exp(-p)) are counted, at least 1, and the error
    -log(N / photons) - p is back-projected and added: as the back-projection is linear, its own artifacts do not enter, and without noise
    the image is what it was. So the noise is stronger where rays are weakened, and streaks along them; its power goes as 1 / photons.
    Each slice of the last two axes by itself, which must be axial, in a parallel beam; no electronic noise, scatter or bow-tie filter, and
    a monochromatic beam. Noise that leaves a window is clipped.

    Costs some 0.1 s for 16 of 128² on one core; it takes a batch at once, but in a `Chain` each row by itself: 4 times that.
    """

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        native = self.native(images)
        through = project(self.lost(native).flatten(0, 1), self.views).unflatten(0, native.shape[:2])  # (B, D, views, rays)
        error = torch.stack([self.error(lines, generator) for lines in through]).flatten(0, 1)
        noise = back_project(error, native.shape[-2:]).view_as(native)
        return self.images(native + self.in_hu(noise), images)

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        return self(image, generator)

    def error(self, through: Tensor, generator: torch.Generator) -> Tensor:
        photons = self.photons.draw(generator)
        counts = torch.poisson(photons * torch.exp(-through), generator=generator).clamp(min=1)
        return -torch.log(counts / photons) - through


class DoseNoise(OfCT):
    """A short cut to `LowDose`: white Gaussian noise in HU, of the variance that its noise would have.

    The variance of a pixel is (π² / 18 - 1 / 6) / (views · photons) times the mean over all rays through it of exp(p), per pixel squared
    (projection.py); of all rays two are taken, along its row and its column. An approximation: noise of a CT is not white, but has little
    power at low frequencies, and streaks. Some 40 times as fast.
    """

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        native = self.native(image)
        lost = self.lost(native)
        weaker = (lost.sum(-1, keepdim=True).exp() + lost.sum(-2, keepdim=True).exp()) / 2
        variance = (math.pi**2 / 18 - 1 / 6) / (self.views * self.photons.draw(generator)) * weaker
        noise = variance.sqrt() * normal(generator, *native.shape)
        return self.images(native + self.in_hu(noise), image)


class Quanta(Degradation):
    """Quantum noise of a detector whose signal is the gray scale: N ~ Poisson(photons · (x + 1) / 2) of `photons` where it is brightest.

    A film shown bright where little came through is noisier there, not in the dark; for it this is an approximation.
    """

    def __init__(self, photons: Ends) -> None:
        self.photons = Range("photons", photons, 1)

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        photons = self.photons.draw(generator)
        counts = torch.poisson((photons * (image + 1) / 2).clamp(min=0), generator=generator)  # -1 may have been rounded below
        return (2 * counts / photons - 1).clamp(max=1)
