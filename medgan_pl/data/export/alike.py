"""Write a network's result as a file of its input's kind: same orientation and geometry, same bit depth or the patient's study."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from medgan_pl.data.export.anonymous import Alias
from medgan_pl.data.export.derived import write_derived
from medgan_pl.data.export.nifti import write_nifti
from medgan_pl.data.export.origin import Facts, Provenance
from medgan_pl.data.export.pictures import write_png, write_tiff
from medgan_pl.data.files.names import MGH, NIFTI, PICTURES, VOLUMES
from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import GRAY_LEVELS, HU
from medgan_pl.data.readers.header import Header
from medgan_pl.data.readers.inflated import PIECE, Inflated, regular
from medgan_pl.data.readers.itk_headers import meta_fields, meta_layout, nrrd_fields, nrrd_layout
from medgan_pl.data.readers.mgh import mgh_affine
from medgan_pl.data.readers.nifti import affine_of, header_of
from medgan_pl.data.readers.scan import Scan, ScanError
from medgan_pl.data.readers.series import grid_or_near, slices_in

DERIVED = "DERIVED"


class Alike(Protocol):
    """A writer of arrays (*S · factors), axes as in the Scan, to `path` plus the ending of its kind of file; it returns the path.

    `image`: native values. `labels`: whole numbers from 0. `spread`: values ≥ 0 in native units, always as floats.
    """

    def image(self, path: Path, values: np.ndarray, facts: Facts, provenance: Provenance, modality: str) -> Path: ...

    def labels(self, path: Path, values: np.ndarray) -> Path: ...

    def spread(self, path: Path, values: np.ndarray) -> Path: ...


def alike(item: Item, scan: Scan, factors: Sequence[int], settings: dict, note: str = "", alias: Alias | None = None) -> Alike:
    """Return the writer of results for a scan, with `factors` times as many voxels along each axis.

    `settings`, `note` and `alias` are those of `write_derived`. Where a volume file or a TIFF has NaN, its padding, the result has NaN,
    too.
    """
    outside = enlarged(scan.padding, factors)
    write = partial(write_derived, settings=settings, note=note, alias=alias)
    if scan.affine is not None:
        if item.paths[0].name.lower().endswith(VOLUMES):
            return AsNifti(frame_of(item.paths, scan.affine), factors, outside)
        headers = slices_in(item.paths, item.part)
        near, loose = grid_or_near(headers)
        if loose and scan.loose is None:  # resampled: its slices are not those of the files
            return AsNifti(Frame.of(scan.affine, scan.affine), factors)
        return AsSeries(Frame.of(near, scan.affine), factors, headers, write, loose)
    return AsPicture(scan, outside) if item.paths[0].suffix.lower() in PICTURES else AsFilm(scan, factors, item.paths[0], write)


def enlarged(padding: np.ndarray | None, factors: Sequence[int]) -> np.ndarray | None:
    """Return the padding with `factors` times as many voxels along each axis."""
    for axis, factor in enumerate(factors if padding is not None else ()):
        padding = padding.repeat(factor, axis)
    return padding


class AsNifti:
    """NIfTI for NIfTI, NRRD, MetaImage and MGH, and for a series that was resampled to a straight grid.

    NaN, or 0 of labels, is written at `outside`, bool on the axes of the scan.
    """

    def __init__(self, frame: "Frame", factors: Sequence[int], outside: np.ndarray | None = None) -> None:
        self.frame, self.factors = frame, factors
        self.outside = None if outside is None else frame.own(outside)

    def image(self, path: Path, values: np.ndarray, facts: Facts, provenance: Provenance, modality: str) -> Path:
        return self.written(path, values, np.float32)

    def labels(self, path: Path, values: np.ndarray) -> Path:
        return self.written(path, values, np.uint8)

    def spread(self, path: Path, values: np.ndarray) -> Path:
        return self.written(path, values, np.float32)

    def written(self, path: Path, values: np.ndarray, dtype: type) -> Path:
        path = path.with_name(path.name + ".nii.gz")
        write_nifti(path, self.frame.own(values), self.frame.finer(self.factors), dtype=dtype, mark=DERIVED, outside=self.outside)
        return path


class AsSeries(AsNifti):
    """A DICOM series; labels and spreads, which do not fit its modality, as NIfTI in the geometry of the series.

    `write`: `write_derived` with what is the same for all images.
    `loose`: the reason why its slices are on no even, straight grid. Each then keeps its own place, and NIfTI is refused.
    """

    def __init__(
        self, frame: "Frame", factors: Sequence[int], headers: Sequence[Header], write: Callable[..., None], loose: str | None = None
    ) -> None:
        super().__init__(frame, factors)
        self.headers, self.write, self.loose = headers, write, loose

    def image(self, path: Path, values: np.ndarray, facts: Facts, provenance: Provenance, modality: str) -> Path:
        own = {axis: factor for axis, factor in zip(self.frame.order, self.factors, strict=True)}
        self.write(
            path, self.frame.own(values), [header.path for header in self.headers], facts, provenance, modality=modality,
            affine=self.frame.finer(self.factors), factors=[own[axis] for axis in range(3)], moved=self.moved(),
        )  # fmt: skip
        return path

    def moved(self) -> np.ndarray | None:
        """Return how far each slice lies from its place on the even grid, (n, 3) RAS mm; None on such a grid."""
        if self.loose is None:
            return None
        places = np.array([header.position for header in self.headers]) * [-1, -1, 1]  # LPS -> RAS
        return places - self.frame.affine[:3, 3] - np.arange(len(places))[:, None] * self.frame.affine[:3, 0]

    def written(self, path: Path, values: np.ndarray, dtype: type) -> Path:
        if self.loose is not None:
            raise ScanError(f"label maps and deviations of a series are NIfTI, which needs an even, straight grid: {self.loose}")
        return super().written(path, values, dtype)


class AsPicture:
    """A PNG for PNG, JPEG and TIFF, of the picture's 8 or 16 bits; a TIFF of 32-bit floats if it had floats.

    The PNG has the picture's own black and white: gray levels as they are stored, or HU. Values of another unit need a TIFF, too.
    """

    def __init__(self, scan: Scan, outside: np.ndarray | None = None) -> None:
        self.outside = outside
        self.bits = None if scan.bits is None else 8 if scan.bits <= 8 else 16
        self.shades = scan.shades

    def image(self, path: Path, values: np.ndarray, facts: Facts, provenance: Provenance, modality: str) -> Path:
        if self.shades is not None and facts.unit == HU.name:
            return self.png(path, values, self.bits, *self.shades, unit=HU.name)
        if self.bits is None or facts.unit != GRAY_LEVELS.name:
            return self.spread(path, values)
        bits = 8 if self.bits == 8 and facts.high <= 255 else 16
        return self.png(path, values, bits)

    def labels(self, path: Path, values: np.ndarray) -> Path:
        return self.png(path, values if self.outside is None else np.where(self.outside, 0, values), 8)

    def spread(self, path: Path, values: np.ndarray) -> Path:
        path = path.with_name(path.name + ".tif")
        write_tiff(path, values, self.outside)
        return path

    def png(self, path: Path, values: np.ndarray, bits: int, low: float = 0, high: float | None = None, unit: str = "") -> Path:
        path = path.with_name(path.name + ".png")
        write_png(path, values, bits=bits, low=low, high=2**bits - 1 if high is None else high, mark="Derived", unit=unit)
        return path


class AsFilm(AsPicture):
    """A DICOM film as Computed Radiography; labels and spreads as pictures."""

    def __init__(self, scan: Scan, factors: Sequence[int], source: Path, write: Callable[..., None]) -> None:
        super().__init__(scan)
        self.factors, self.source, self.write = factors, source, write

    def image(self, path: Path, values: np.ndarray, facts: Facts, provenance: Provenance, modality: str) -> Path:
        path = path.with_name(path.name + ".dcm")
        self.write(path, values, [self.source], facts, provenance, modality=modality, factors=(1, *self.factors))
        return path


# The grid of the input ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """The grid of a file.

    - `affine` (4, 4): indices of the file's axes, slowest first (slice, row, column of a series; z, y, x of a NIfTI) -> RAS+ mm.
    - `order`, `signs`: for each axis of the canonical volume the file's axis, and 1 for the same direction, -1 for the opposite one.
    """

    affine: np.ndarray
    order: tuple[int, ...]
    signs: tuple[int, ...]

    @classmethod
    def of(cls, affine: np.ndarray, canonical: np.ndarray) -> "Frame":
        """Return the frame of a volume whose Scan has the affine `canonical`."""
        turn = np.rint(np.linalg.solve(affine[:3, :3], canonical[:3, :3]))  # canonical steps in the file's steps
        order = np.abs(turn).argmax(0)
        return cls(affine, tuple(order.tolist()), tuple(int(turn[axis, i]) for i, axis in enumerate(order)))

    def own(self, values: np.ndarray) -> np.ndarray:
        """Return a canonical volume, on the volume's grid or a finer one, in the file's axes; it may be a view."""
        turned = values[tuple(slice(None, None, sign) for sign in self.signs)]
        return turned.transpose(np.argsort(self.order))

    def finer(self, factors: Sequence[int]) -> np.ndarray:
        """Return the affine of a grid with `factors` times as many voxels along each canonical axis, over the same field."""
        change = np.eye(4)
        for axis, factor in zip(self.order, factors, strict=True):
            change[axis, axis] = 1 / factor
            change[axis, 3] = (1 / factor - 1) / 2  # voxel centers: half a new voxel lies inside the old border
        return self.affine @ change


def frame_of(paths: Sequence[Path], canonical: np.ndarray, part: int | None = None) -> Frame:
    """Return the frame of the volume in these files. Raise ScanError as their reader does."""
    name = paths[0].name.lower()
    if name.endswith(VOLUMES):
        reader = nifti_affine if name.endswith(NIFTI) else mgh_affine if name.endswith(MGH) else itk_affine
        affine = reader(paths[0])
        return Frame.of(affine[:, [2, 1, 0, 3]], canonical)
    return Frame.of(grid_or_near(slices_in(paths, part))[0], canonical)


def nifti_affine(path: Path) -> np.ndarray:
    """Return the affine (4, 4), indices (x, y, z) -> RAS+ mm, from the header."""
    with regular(path).open("rb") as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        return affine_of(header_of(io.BufferedReader(Inflated(file), PIECE) if packed else file)[0])


def itk_affine(path: Path) -> np.ndarray:
    with regular(path).open("rb") as file:
        nrrd = file.peek(4)[:4] == b"NRRD"
        return (nrrd_layout(nrrd_fields(file)) if nrrd else meta_layout(meta_fields(file))).affine
