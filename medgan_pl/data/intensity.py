"""Intensity and its inverse: the native values that become -1 and 1, for each image and channel.

Every rule is one linear map for each channel, so its inverse is exact where nothing was clipped. The rules differ only in how they find
the `Levels`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from medgan_pl.data.readers.scan import Scan, ScanError, centered_affine

# Remedy for a scan without a usable bit depth.
ALMOST_CONSTANT = "almost constant"  # begins the reason against a scan of nearly one value
OTHERS = "use intensity@data.intensity=window for CT, intensity@data.intensity=percentiles for others"

# For each channel the two native values that become -1 and 1.
Levels = tuple[tuple[float, float], ...]


def to_unit(pixels: Tensor, levels: Levels) -> Tensor:
    """Map native values (*S) to (C, *S) in [-1, 1], one channel for each pair of `levels`; values outside are clipped."""
    return torch.stack([((pixels - low) * (2 / (high - low)) - 1).clamp_(-1, 1) for low, high in levels])


def from_unit(image: Tensor, levels: Levels) -> Tensor:
    """Map (C, *S) in [-1, 1] back to native values (*S). Raise ValueError for a wrong number of channels.

    With several channels, each voxel takes the native value of the channel that agrees best with the others: if all channels were
    windowed again from that value, the sum of squared differences to the given channels would be smallest. If two channels agree equally
    well, the narrower window decides. A channel whose value lies outside its window sits at the end of its range and so never decides, even
    if a generator only comes near that end.
    """
    if len(image) != len(levels):
        raise ValueError(f"an image must have a channel for each of {len(levels)} windows, got {len(image)}")
    image = image.clamp(-1, 1)
    native = torch.stack([(image[c] + 1) * ((high - low) / 2) + low for c, (low, high) in enumerate(levels)])  # (C, *S)
    if len(levels) == 1:
        return native[0]
    order = sorted(range(len(levels)), key=lambda c: levels[c][1] - levels[c][0])  # the narrowest first
    off = torch.stack([(to_unit(native[c], levels) - image).square().sum(0) for c in order])  # (C, *S)
    return native[order].gather(0, off.argmin(0, keepdim=True))[0]


class Intensity(Protocol):
    """A rule that finds the levels of a scan.

    It keeps each argument of its constructor as an attribute of the same name, so that a checkpoint can store it.

    - `channels`: of the image it makes. `settings`: all settings that the levels depend on besides the scan.
    - `from_values`: True if the levels follow from the values of each scan, so that a change of its contrast (fog) moves them.
    """

    channels: int
    settings: Mapping[str, Any]
    from_values: bool

    def levels(self, scan: Scan) -> Levels:
        """Return the levels of this scan. Raise ScanError if it has none."""


class Window:
    """CT by fixed windows: `windows_hu`, a pair [low, high] in HU for each channel. Raise ValueError for anything else."""

    from_values = False

    def __init__(self, windows_hu: Sequence[Sequence[float]]) -> None:
        pairs = isinstance(windows_hu, Sequence) and [w for w in windows_hu if isinstance(w, Sequence) and len(w) == 2]
        if not pairs or len(pairs) != len(windows_hu) or not all(low < high and math.isfinite(high - low) for low, high in pairs):
            raise ValueError(
                f"data.intensity.windows_hu must be pairs [low, high] with low < high, such as [[-1000, 400]], got {windows_hu!r}"
            )
        self.windows_hu: Levels = tuple((float(low), float(high)) for low, high in pairs)
        self.channels = len(self.windows_hu)
        self.settings = {"window": [list(w) for w in self.windows_hu]}

    def levels(self, scan: Scan) -> Levels:
        return self.windows_hu


class Percentiles:
    """The percentiles `low_percentile` and `high_percentile` (0 to 100) of the scan, without its padding.

    `nonzero` leaves out voxels of value 0 too: the air around a skull-stripped brain. Raise ValueError for percentiles out of order.
    """

    channels, from_values = 1, True

    def __init__(self, low_percentile: float = 0.5, high_percentile: float = 99.5, nonzero: bool = False) -> None:
        ends = (low_percentile, high_percentile)
        if not 0 <= ends[0] < ends[1] <= 100:
            raise ValueError(
                f"data.intensity.low_percentile and high_percentile must be 0 <= low < high <= 100, got {ends[0]} and {ends[1]}"
            )
        self.low_percentile, self.high_percentile, self.nonzero = low_percentile, high_percentile, nonzero
        self.settings = {"percentiles": list(ends), "nonzero": nonzero}

    def levels(self, scan: Scan) -> Levels:
        ends = (self.low_percentile, self.high_percentile)
        low, high = np.percentile(seen(scan, self.nonzero), ends)
        if not low < high:
            raise ScanError(f"{ALMOST_CONSTANT}: the {ends[0]:g}th and {ends[1]:g}th percentiles are equal")
        return ((float(low), float(high)),)


class ZScore:
    """Mean minus to mean plus `clip_sd` standard deviations of each scan, over the voxels that are neither 0 nor padding.

    Raise ValueError unless `clip_sd` is above 0.
    """

    channels, from_values = 1, True

    def __init__(self, clip_sd: float = 4.0) -> None:
        if not clip_sd > 0:
            raise ValueError(f"data.intensity.clip_sd must be above 0 standard deviations, got {clip_sd}")
        self.clip_sd = clip_sd
        self.settings = {"z_score": clip_sd}

    def levels(self, scan: Scan) -> Levels:
        values = seen(scan, nonzero=True).astype(np.float64)
        mean, reach = float(values.mean()), self.clip_sd * float(values.std())
        if not reach > 0:
            raise ScanError(f"{ALMOST_CONSTANT}: the standard deviation is 0")
        return ((mean - reach, mean + reach),)


class FullRange:
    """0 to 2^bits - 1 of the stored integers: nothing is stretched or clipped, so radiographs keep their exposure."""

    channels, from_values = 1, False
    settings: Mapping[str, Any] = {"full_range": True}

    def levels(self, scan: Scan) -> Levels:
        if scan.bits is None:
            raise ScanError(f"floating-point values have no bit depth; {OTHERS}")
        if scan.pixels.min() < 0 or scan.pixels.max() > 2**scan.bits - 1:
            raise ScanError(
                f"values must lie in 0 to {2**scan.bits - 1} for {scan.bits} bits, got {scan.pixels.min():g} to {scan.pixels.max():g} "
                f"(rescaled or signed); {OTHERS}"
            )
        return ((0.0, float(2**scan.bits - 1)),)


def seen(scan: Scan, nonzero: bool) -> np.ndarray:
    """Return the values (n,) that count: outside the padding and, with `nonzero`, not 0; of more than 2^24 an even sample.

    Raise ScanError if there are none.
    """
    every = scan.pixels.size // 2**24 + 1 | 1  # odd, so that it does not select whole columns of an even image
    values = scan.pixels.reshape(-1)[::every]
    if scan.padding is not None:
        values = values[~scan.padding.reshape(-1)[::every]]
    if nonzero:
        values = values[values != 0]
    if not values.size:
        raise ScanError("it must have values besides padding and zeros, got none")
    return values


@dataclass(frozen=True)
class Unit:
    """The unit of native values. HU and gray levels have an absolute meaning (`absolute`); an arbitrary signal only has its range."""

    name: str
    absolute: bool = True

    @property
    def of_loss(self) -> str:
        """Return the unit in which a loss of precision is reported."""
        return self.name if self.absolute else "thousandths of the range"

    def loss(self, error: float, levels: Levels) -> float:
        """Return the largest error, in the unit `of_loss`, of a value that is stored `error` off on the [-1, 1] scale."""
        return error / 2 * (max(high - low for low, high in levels) if self.absolute else 1000)


HU = Unit("HU")
GRAY_LEVELS = Unit("gray levels")
SIGNAL = Unit("signal", absolute=False)


@dataclass(frozen=True)
class Inverse:
    """The map of a generated image back to native values and into space. The checkpoint stores it as plain values.

    - `levels`: the median over the training scans: exact for CT windows, the typical contrast otherwise. `unit`: the name of their unit.
    - `modality`: the DICOM name (CT, MR, CR).
    - `spacing_mm`: along the axes of the image, the median over the training scans; None if no scan has a spacing.
    - `directions`: of the three axes (slices, rows, columns), as RAS+ unit vectors; None for films.
    """

    levels: Levels
    unit: str
    modality: str
    spacing_mm: tuple[float, ...] | None
    directions: tuple[tuple[float, ...], ...] | None

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Inverse":
        """Return the inverse that `plain` describes."""
        levels = tuple((float(low), float(high)) for low, high in plain["levels"])
        spacing_mm = plain["spacing_mm"] and tuple(map(float, plain["spacing_mm"]))
        directions = plain["directions"] and tuple(tuple(map(float, row)) for row in plain["directions"])
        return cls(levels, str(plain["unit"]), str(plain["modality"]), spacing_mm, directions)

    def plain(self) -> dict[str, Any]:
        """Return the inverse as lists, numbers and strings."""
        return json.loads(json.dumps(vars(self)))

    def __call__(self, image: Tensor) -> Tensor:
        """Map an image (C, *S) in [-1, 1] to native values (*S)."""
        return from_unit(image, self.levels)

    def affine(self, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return the matrix (4, 4) from indices (slice, row, column) of an image of `shape` to RAS+ mm; None without spacing.

        The center of the image lies at the origin. A picture (H, W) is one slice, as thick as its pixels are wide.
        """
        if self.spacing_mm is None or self.directions is None:
            return None
        shape, spacing = ((1, *shape), (max(self.spacing_mm), *self.spacing_mm)) if len(shape) == 2 else (shape, self.spacing_mm)
        return centered_affine(shape, spacing, self.directions)
