"""Write a network's result as a file of its input's kind: same orientation and geometry, same bit depth or the patient's study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from medgan_pl.data.export.derived import write_derived
from medgan_pl.data.export.frame import Frame, frame_of
from medgan_pl.data.export.nifti import write_nifti
from medgan_pl.data.export.origin import Facts, Provenance
from medgan_pl.data.export.pictures import write_png, write_tiff
from medgan_pl.data.files.names import ITK, NIFTI, PICTURES
from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import GREY_LEVELS
from medgan_pl.data.readers.header import read_header
from medgan_pl.data.readers.scan import Scan
from medgan_pl.data.readers.series import in_order

DERIVED = "DERIVED"


class Alike(Protocol):
    """A writer of arrays (*S · factors), axes as in the Scan, to `path` plus the ending of its kind of file; it returns the path.

    `image`: native values. `labels`: whole numbers from 0. `spread`: values ≥ 0 in native units, always as floats.
    """

    def image(self, path: Path, values: np.ndarray, facts: Facts, provenance: Provenance, modality: str) -> Path: ...

    def labels(self, path: Path, values: np.ndarray) -> Path: ...

    def spread(self, path: Path, values: np.ndarray) -> Path: ...


def alike(item: Item, scan: Scan, factors: Sequence[int], settings: dict) -> Alike:
    """Return the writer of results for a scan, with `factors` times as many voxels along each axis; `settings` as in `write_derived`."""
    if scan.affine is not None:
        frame = frame_of(item.paths, scan.affine)
        files = item.paths[0].name.lower().endswith((*NIFTI, *ITK))
        return AsNifti(frame, factors) if files else AsSeries(frame, factors, item.paths, settings)
    return AsPicture(scan) if item.paths[0].suffix.lower() in PICTURES else AsFilm(scan, factors, item.paths[0], settings)


class AsNifti:
    """NIfTI for NIfTI, NRRD and MetaImage."""

    def __init__(self, frame: Frame, factors: Sequence[int]) -> None:
        self.frame, self.factors = frame, factors

    def image(self, path: Path, values: np.ndarray, facts: Facts, provenance: Provenance, modality: str) -> Path:
        return self.written(path, values, np.float32)

    def labels(self, path: Path, values: np.ndarray) -> Path:
        return self.written(path, values, np.uint8)

    def spread(self, path: Path, values: np.ndarray) -> Path:
        return self.written(path, values, np.float32)

    def written(self, path: Path, values: np.ndarray, dtype: type) -> Path:
        path = path.with_name(path.name + ".nii.gz")
        write_nifti(path, self.frame.own(values), self.frame.finer(self.factors), dtype=dtype, mark=DERIVED)
        return path


class AsSeries(AsNifti):
    """A DICOM series; labels and spreads, which do not fit its modality, as NIfTI in the geometry of the series."""

    def __init__(self, frame: Frame, factors: Sequence[int], paths: Sequence[Path], settings: dict) -> None:
        super().__init__(frame, factors)
        self.paths, self.settings = paths, settings

    def image(self, path: Path, values: np.ndarray, facts: Facts, provenance: Provenance, modality: str) -> Path:
        own = {axis: factor for axis, factor in zip(self.frame.order, self.factors, strict=True)}
        write_derived(
            path, self.frame.own(values), [header.path for header in in_order([read_header(path) for path in self.paths])], facts,
            provenance, modality=modality, affine=self.frame.finer(self.factors), factors=[own[axis] for axis in range(3)],
            settings=self.settings,
        )  # fmt: skip
        return path


class AsPicture:
    """A PNG for PNG, JPEG and TIFF, of the film's 8 or 16 bits; a TIFF of 32-bit floats if it had floats or values are no gray levels."""

    def __init__(self, scan: Scan) -> None:
        self.bits = None if scan.bits is None else 8 if scan.bits <= 8 else 16

    def image(self, path: Path, values: np.ndarray, facts: Facts, provenance: Provenance, modality: str) -> Path:
        if self.bits is None or facts.unit != GREY_LEVELS.name:
            return self.spread(path, values)
        bits = 8 if self.bits == 8 and facts.high <= 255 else 16
        return self.png(path, values, bits)

    def labels(self, path: Path, values: np.ndarray) -> Path:
        return self.png(path, values, 8)

    def spread(self, path: Path, values: np.ndarray) -> Path:
        path = path.with_name(path.name + ".tif")
        write_tiff(path, values)
        return path

    def png(self, path: Path, values: np.ndarray, bits: int) -> Path:
        path = path.with_name(path.name + ".png")
        write_png(path, values, bits=bits, low=0, high=2**bits - 1, mark="Derived")
        return path


class AsFilm(AsPicture):
    """A DICOM film as Computed Radiography; labels and spreads as pictures."""

    def __init__(self, scan: Scan, factors: Sequence[int], source: Path, settings: dict) -> None:
        super().__init__(scan)
        self.factors, self.source, self.settings = factors, source, settings

    def image(self, path: Path, values: np.ndarray, facts: Facts, provenance: Provenance, modality: str) -> Path:
        path = path.with_name(path.name + ".dcm")
        write_derived(path, values, [self.source], facts, provenance, modality=modality, factors=(1, *self.factors), settings=self.settings)
        return path
