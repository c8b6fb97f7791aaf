"""The part of a scan that becomes an image, and its grid: a film, slices of a volume, a whole volume, or a volume to take patches from."""

from medgan_pl.data.prepare.layouts.base import Cut, Layout
from medgan_pl.data.prepare.layouts.film import Film
from medgan_pl.data.prepare.layouts.slices import Slices
from medgan_pl.data.prepare.layouts.volumes import Patches, Whole

__all__ = ["Cut", "Film", "Layout", "Patches", "Slices", "Whole"]
