"""Image to source: what a clinic's worse image lacks of its better one, made from the better one.

Each is called as `degrade(images, generator)`: images (B, C, *S) in [-1, 1], 2-D or 3-D, and a generator on their device -> the source, in
[-1, 1], of the same shape but for `factor` (S' = S / factor) and `extra_channels` (C' = C + extra_channels). See base.py.
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
