"""Intensity, there and back: which native values become -1 and 1, per image and channel, and the inverse.

Every rule is one linear map a channel, so its inverse is exact where nothing was clipped: only how `Levels` are found differs.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from medgan_pl.data.readers.scan import Scan, ScanError, centred_affine

# What to take where a scan has no bit depth that holds.
OTHERS = "use intensity@data.intensity=window for CT, intensity@data.intensity=percentiles for others"

# For each channel the native values that become -1 and 1.
Levels = tuple[tuple[float, float], ...]


def to_unit(pixels: Tensor, levels: Levels) -> Tensor:
    """(*S) native -> (C, *S) in [-1, 1], one channel a pair of `levels`; what lies outside is clipped."""
    return torch.stack([((pixels - low) * (2 / (high - low)) - 1).clamp_(-1, 1) for low, high in levels])


def from_unit(image: Tensor, levels: Levels) -> Tensor:
    """(C, *S) in [-1, 1] -> (*S) native.

    Of several channels each voxel takes the value of the one that the others agree with most: that under which all channels, windowed
    anew, would be nearest to what they are (sum of squares), the narrowest window where two agree alike. A value outside a window puts that
    channel at its end, and there it has no say, even where a generator comes only near the end.
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
    """`channels` of the image it makes; `settings`: all its output depends on besides the scan."""

    channels: int
    settings: Mapping[str, Any]

    def levels(self, scan: Scan) -> Levels:
        """The levels of this scan. Raises ScanError where it has none."""


class Window:
    """CT by fixed windows: `windows_hu`, a pair (low, high) in HU for each channel."""

    def __init__(self, windows_hu: Sequence[Sequence[float]]) -> None:
        pairs = isinstance(windows_hu, Sequence) and [w for w in windows_hu if isinstance(w, Sequence) and len(w) == 2]
        if not pairs or len(pairs) != len(windows_hu) or not all(low < high and math.isfinite(high - low) for low, high in pairs):
            raise ValueError(
                f"data.intensity.windows_hu must be pairs [low, high] with low < high, such as [[-1000, 400]], got {windows_hu!r}"
            )
        self.windows: Levels = tuple((float(low), float(high)) for low, high in pairs)
        self.channels = len(self.windows)
        self.settings = {"window": [list(w) for w in self.windows]}

    def levels(self, scan: Scan) -> Levels:
        return self.windows


class Percentiles:
    """The percentiles `low_percentile`, `high_percentile` (0 to 100) of the scan, padding left out.

    `nonzero` leaves out voxels of value 0 too: the air around a skull-stripped brain.
    """

    channels = 1

    def __init__(self, low_percentile: float = 0.5, high_percentile: float = 99.5, nonzero: bool = False) -> None:
        ends = (low_percentile, high_percentile)
        if not 0 <= ends[0] < ends[1] <= 100:
            raise ValueError(
                f"data.intensity.low_percentile and high_percentile must be 0 <= low < high <= 100, got {ends[0]} and {ends[1]}"
            )
        self.ends, self.nonzero = ends, nonzero
        self.settings = {"percentiles": list(ends), "nonzero": nonzero}

    def levels(self, scan: Scan) -> Levels:
        low, high = np.percentile(seen(scan, self.nonzero), self.ends)
        if not low < high:
            raise ScanError(f"almost constant: the {self.ends[0]:g}th and {self.ends[1]:g}th percentiles are equal")
        return ((float(low), float(high)),)


class ZScore:
    """Mean - `clip_sd` standard deviations to mean + as many, over the voxels that are not 0 (nor padding), per scan."""

    channels = 1

    def __init__(self, clip_sd: float = 4.0) -> None:
        if not clip_sd > 0:
            raise ValueError(f"data.intensity.clip_sd must be above 0 standard deviations, got {clip_sd}")
        self.clip_sd = clip_sd
        self.settings = {"z_score": clip_sd}

    def levels(self, scan: Scan) -> Levels:
        values = seen(scan, nonzero=True).astype(np.float64)
        mean, reach = float(values.mean()), self.clip_sd * float(values.std())
        if not reach > 0:
            raise ScanError("almost constant: the standard deviation is 0")
        return ((mean - reach, mean + reach),)


class FullRange:
    """0 to 2^bits - 1 of the stored integers: nothing is stretched or clipped, so films keep their exposure."""

    channels = 1
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
    """The values (n,) that count: outside the padding and, if asked, not 0; of more than 2^24 an even sample. Raises ScanError for none."""
    every = scan.pixels.size // 2**24 + 1 | 1  # odd, so that it does not keep to the columns of an even image
    values = scan.pixels.reshape(-1)[::every]
    if scan.padding is not None:
        values = values[~scan.padding.reshape(-1)[::every]]
    if nonzero:
        values = values[values != 0]
    if not values.size:
        raise ScanError("it must show something, got nothing but padding and zeros")
    return values


@dataclass(frozen=True)
class Unit:
    """What native values are in: HU and grey levels mean something as they are; an arbitrary signal only by its range."""

    name: str
    absolute: bool = True

    @property
    def of_loss(self) -> str:
        """What a loss is told in."""
        return self.name if self.absolute else "thousandths of the range"

    def loss(self, error: float, levels: Levels) -> float:
        """The largest error of a value stored `error` off on the [-1, 1] scale, in `of_loss`."""
        return error / 2 * (max(high - low for low, high in levels) if self.absolute else 1000)


HU = Unit("HU")
GREY_LEVELS = Unit("grey levels")
SIGNAL = Unit("signal", absolute=False)


@dataclass(frozen=True)
class Inverse:
    """What takes a generated image back to native values and into space; rides in the checkpoint as plain containers.

    - `levels`: the median over the training scans: exact for CT windows, the typical contrast elsewhere. `unit`: the name of their unit.
    - `modality`: as DICOM has it (CT, MR, CR).
    - `spacing_mm`: of the image's axes, the median over the training scans; None where nobody said.
    - `directions`: where each of the three axes (slices, rows, columns) leads, as RAS+ unit vectors; None for films.
    """

    levels: Levels
    unit: str
    modality: str
    spacing_mm: tuple[float, ...] | None
    directions: tuple[tuple[float, ...], ...] | None

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Inverse":
        levels = tuple((float(low), float(high)) for low, high in plain["levels"])
        spacing_mm = plain["spacing_mm"] and tuple(map(float, plain["spacing_mm"]))
        directions = plain["directions"] and tuple(tuple(map(float, row)) for row in plain["directions"])
        return cls(levels, str(plain["unit"]), str(plain["modality"]), spacing_mm, directions)

    def plain(self) -> dict[str, Any]:
        return json.loads(json.dumps(vars(self)))

    def __call__(self, image: Tensor) -> Tensor:
        """(C, *S) in [-1, 1] -> (*S) native."""
        return from_unit(image, self.levels)

    def affine(self, shape: tuple[int, ...]) -> np.ndarray | None:
        """(4, 4): indices (slice, row, column) of an image of `shape` -> RAS+ mm, its middle at the origin; None without spacing.
        A picture (H, W) is one slice, as thick as its pixels are wide."""
        if self.spacing_mm is None or self.directions is None:
            return None
        shape, spacing = ((1, *shape), (max(self.spacing_mm), *self.spacing_mm)) if len(shape) == 2 else (shape, self.spacing_mm)
        return centred_affine(shape, spacing, self.directions)
