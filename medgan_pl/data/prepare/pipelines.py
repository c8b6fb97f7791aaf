"""From a scan in native units to the images that are cached: what is cut from it, on which grid, at which intensity. Nothing random."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from monai.transforms import Compose, Transform
from torch import Tensor

from medgan_pl.data.intensity import Intensity, Levels, to_unit
from medgan_pl.data.modalities import Modality
from medgan_pl.data.phantom import Patient
from medgan_pl.data.prepare.layouts import Layout
from medgan_pl.data.readers.scan import Scan, ScanError

# Part of every cache's key: raise it whenever the same file would come out otherwise.
VERSION = 3


class Beside(Protocol):
    """`channels` it adds; `settings`: all that its images depend on besides the files; `root`: where its files lie, None where the data's
    own table says."""

    channels: int
    settings: Mapping[str, Any]
    modality: Modality
    root: str | None

    def simulate(self, modality: Modality, patient: Patient, shape: tuple[int, ...]) -> Scan:
        """That of a patient of the cohort, whose image is of `modality`."""

    def lay(self, scan: Scan, layout: Layout) -> Tensor:
        """(n, channels, *S) in [-1, 1], cut as the image is."""


@dataclass(frozen=True)
class Prepared:
    """What the cache keeps of a scan: `images` (n, C, *S) in [-1, 1], what lies beside them in further channels, the `levels` that made
    the images, their `spacing_mm` and, of volumes, `affine`; `facts` of the scan as it came, in plain containers (see `facts_of`)."""

    images: Tensor
    levels: Levels
    spacing_mm: tuple[float, ...] | None
    affine: np.ndarray | None
    facts: dict[str, Any]


class Usable(Transform):
    """Passes a scan on; raises ScanError for NaN, infinity or one value only."""

    def __call__(self, scan: Scan) -> Scan:
        bad = scan.pixels.size - np.count_nonzero(np.isfinite(scan.pixels))
        if bad:
            raise ScanError(f"every value must be a finite number, got {bad} NaN or infinite of {scan.pixels.size}")
        if scan.pixels.min() == scan.pixels.max():
            raise ScanError(f"it must show something, got {scan.pixels.min():g} everywhere")
        return scan


class Prepare(Transform):
    """A usable scan -> Prepared: the levels of what counts, the cut on its grid in native units, then [-1, 1]; empty cuts dropped."""

    def __init__(self, layout: Layout, intensity: Intensity, beside: Sequence[Beside] = ()) -> None:
        self.layout, self.intensity, self.beside = layout, intensity, beside

    def __call__(self, scan: Scan) -> Prepared:
        levels = self.intensity.levels(self.layout.seen(scan))
        cut = self.layout.cut(scan, fill=min(low for low, _ in levels))
        images = to_unit(cut.pixels, levels).movedim(0, 1)  # (n, C, *S)
        keep = self.layout.worth(images)
        facts = facts_of(scan) | {"empty": int((~keep).sum()), "enlarged": cut.enlarged}
        if not keep.any():
            raise ScanError(f"every one of its {len(keep)} slices is empty (data.slices.foreground); values {range_of(scan)}")
        if images.min() == images.max():
            raise ScanError(f"nothing lies between the levels {levels} that become -1 and 1; values {range_of(scan)}")
        under = [beside.lay(other, self.layout) for beside, other in zip(self.beside, scan.beside, strict=True)]
        return Prepared(torch.cat([images, *under], 1)[keep], levels, cut.spacing_mm, cut.affine, facts)


def range_of(scan: Scan) -> str:
    return f"{scan.pixels.min():g} to {scan.pixels.max():g}"


def facts_of(scan: Scan) -> dict[str, Any]:
    """Of the scan as it came: shape, spacing, bits, range, a histogram of 64 bins over it, the share of padding, whether it is synthetic,
    and `pixels`, the hash of its values: equal for equal images, whatever their files say."""
    low, high = float(scan.pixels.min()), float(scan.pixels.max())
    counts, content = np.zeros(64, np.int64), hashlib.blake2b(str(scan.pixels.shape).encode(), digest_size=16)
    for part in scan.pixels if scan.pixels.ndim == 3 else [scan.pixels]:  # slice by slice: whole, a volume would be copied
        content.update(np.ascontiguousarray(part))
        counts += np.histogram(part.astype(np.float64) - low, 64, (0, high - low))[0]
    return {
        "shape": list(scan.pixels.shape),
        "spacing_mm": scan.spacing_mm and list(scan.spacing_mm),
        "bits": scan.bits,
        "low": low,
        "high": high,
        "histogram": counts.tolist(),
        "padding": 0.0 if scan.padding is None else float(scan.padding.mean()),
        "synthetic": scan.synthetic,
        "pixels": content.hexdigest(),
    }


class Pipeline:
    """Scan -> Prepared. `settings`: all that the result depends on besides the scan's files, for the cache's key; `reading` is the part
    of them that tells how the files were read (`Modality.settings`)."""

    def __init__(
        self, layout: Layout, intensity: Intensity, reading: Mapping[str, Any] = MappingProxyType({}), beside: Sequence[Beside] = ()
    ) -> None:
        self.layout, self.intensity = layout, intensity
        self.chain = Compose([Usable(), Prepare(layout, intensity, beside)], log_stats=False)
        self.settings = {"version": VERSION, **reading, **layout.settings, **intensity.settings}
        if beside:
            self.settings["beside"] = [dict(each.settings) for each in beside]

    def __call__(self, scan: Scan) -> Prepared:
        try:
            return self.chain(scan)
        except RuntimeError as error:  # MONAI wraps what a transform raises
            if isinstance(error.__cause__, ScanError):
                raise error.__cause__ from None
            raise
