"""The steps from a scan in native units to the images that are cached, and what the cache keeps of the scan."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from monai.transforms import Transform
from torch import Tensor

from medgan_pl.data.files.records import Item
from medgan_pl.data.hounsfield import shares
from medgan_pl.data.intensity import Intensity, Levels, to_unit
from medgan_pl.data.modality import Modality
from medgan_pl.data.phantom import Patient
from medgan_pl.data.prepare.label_maps import label_map
from medgan_pl.data.prepare.layouts import Layout
from medgan_pl.data.prepare.planes import acquired_in
from medgan_pl.data.readers.scan import Scan, ScanError


class CompanionReader(Protocol):
    """A reader of images on the same grid as the image: the source of a paired task, or masks.

    `channels`: those that it adds. `settings`: all settings that its images depend on besides the files. `root`: the folder of its files;
    None if the data's own table names them.
    """

    channels: int
    settings: Mapping[str, Any]
    modality: Modality
    root: str | None

    def simulate(self, modality: Modality, patient: Patient, shape: tuple[int, ...]) -> Scan:
        """Return the scan of a patient of the embedded cohort, whose image is of `modality`."""

    def read(self, item: Item) -> Scan:
        """Return the scan of the companion. Raise ScanError for a file with faulty content, or with values of another unit."""

    def facts(self, scan: Scan) -> dict[str, Any]:
        """Return facts of the scan as it was read, in plain containers."""

    def lay(self, scan: Scan, layout: Layout) -> Tensor:
        """Return its images (n, channels, *S) in [-1, 1], cut as the image is."""


@dataclass(frozen=True)
class Prepared:
    """The part of a scan that the cache keeps.

    - `images`: (n, C, *S) in [-1, 1]; further channels hold the companions.
    - `inside`: (n, *S) bool, the voxels that are image and no padding; None if all are.
    - `levels`: of the images. `spacing_mm`: of the images. `affine`: of a volume.
    - `facts`: of the scan as it was read, in plain containers; see `facts_of`.
    """

    images: Tensor
    levels: Levels
    spacing_mm: tuple[float, ...] | None
    affine: np.ndarray | None
    facts: dict[str, Any]
    inside: Tensor | None = None


CONSTANT = "it must have different values"  # begins the reason against a scan of one value


class Usable(Transform):
    """Return the scan. Raise ScanError for NaN, infinity, or the same value everywhere."""

    def __call__(self, scan: Scan) -> Scan:
        bad = scan.pixels.size - np.count_nonzero(np.isfinite(scan.pixels))
        if bad:
            raise ScanError(f"every value must be a finite number, got {bad} NaN or infinite of {scan.pixels.size}")
        if scan.pixels.min() == scan.pixels.max():
            raise ScanError(f"{CONSTANT}, got {scan.pixels.min():g} everywhere")
        return scan


class Prepare(Transform):
    """Maps a usable scan to Prepared: finds its levels, cuts it in native units, maps it to [-1, 1], and drops empty images.

    Raise ScanError if every image is empty or nothing lies between the levels.
    """

    def __init__(self, layout: Layout, intensity: Intensity, beside: Sequence[CompanionReader] = ()) -> None:
        self.layout, self.intensity, self.beside = layout, intensity, beside

    def __call__(self, scan: Scan) -> Prepared:
        layout = self.layout.of(scan)
        levels = self.intensity.levels(layout.seen(scan))
        cut = layout.cut(scan, fill=min(low for low, _ in levels))
        images = to_unit(cut.pixels, levels).movedim(0, 1)  # (n, C, *S)
        inside = layout.inside(scan, cut)
        keep = layout.worth(images)
        keep = keep if inside is None else keep & inside.flatten(1).any(1)
        facts = facts_of(scan) | {"empty": int((~keep).sum()), "enlarged": cut.enlarged}
        if layout.axis is not None:
            facts |= {"plane": layout.axis, "acquired": acquired_in(scan)}
        if not keep.any():
            raise ScanError(f"every one of its {len(keep)} slices is empty (data.slices.foreground); values {range_of(scan)}")
        if images.min() == images.max():
            raise ScanError(f"no value lies between the levels {levels} that become -1 and 1; values {range_of(scan)}")
        if self.beside:
            facts["beside"] = [beside.facts(other) for beside, other in zip(self.beside, scan.beside, strict=True)]
        under = [beside.lay(other, layout) for beside, other in zip(self.beside, scan.beside, strict=True)]
        inside = None if inside is None else inside[keep]
        return Prepared(torch.cat([images, *under], 1)[keep], levels, cut.spacing_mm, cut.affine, facts, inside)


def range_of(scan: Scan) -> str:
    return f"{scan.pixels.min():g} to {scan.pixels.max():g}"


def facts_of(scan: Scan) -> dict[str, Any]:
    """Return facts of a scan as it was read: shape, spacing, bits, range, a histogram of 64 bins over it, and the share of padding.

    `synthetic` is true if the file is marked as generated. `mask` is the reason why it looks like a mask, or "". `pixels` is the hash of
    the values, equal for equal images in any file. `shares`: of a volume, as in hounsfield.py.
    """
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
        "notes": list(scan.notes),
        "mask": label_map(scan.stored, counts),
        "pixels": content.hexdigest(),
        "shares": shares(scan.pixels) if scan.pixels.ndim == 3 else None,
    }
