"""Degradations: make the worse source of a paired task from a better image.

Each is called as `degrade(images, generator)`: images (B, C, *S) in [-1, 1], 2-D or 3-D, and a generator on their device. It returns the
source in [-1, 1] with S' = S / `factor` and C' = C + `extra_channels`. See base.py.
"""

from medgan_pl.data.degrade.base import Chain, Degradation
from medgan_pl.data.degrade.dose import DoseNoise, LowDose, Quanta
from medgan_pl.data.degrade.gaps import Boxes, FreeForm, Holes, MissingSlices
from medgan_pl.data.degrade.kspace import KSpace, Motion
from medgan_pl.data.degrade.metal import MetalLike
from medgan_pl.data.degrade.noise import Gaussian, Salt
from medgan_pl.data.degrade.resolution import Blur, Shrink
from medgan_pl.data.degrade.weather import Fog

__all__ = ["Blur", "Boxes", "Chain", "Degradation", "DoseNoise", "Fog", "FreeForm", "Gaussian", "Holes", "KSpace", "LowDose", "MetalLike"]
__all__ += ["MissingSlices", "Motion", "Quanta", "Salt", "Shrink"]
