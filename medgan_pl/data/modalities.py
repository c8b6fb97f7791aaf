"""What differs between X-ray, CT and MRI: which files hold them, how they are read, what their numbers mean, how the cohort looks."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from medgan_pl.data.files.names import DICOMS, ITK, NIFTI, PICTURES
from medgan_pl.data.files.records import Item, is_dicom, several
from medgan_pl.data.intensity import GREY_LEVELS, HU, SIGNAL, Unit
from medgan_pl.data.phantom import CLASSES, TISSUES, Patient, head_ct, head_mri, thorax_ct
from medgan_pl.data.phantom.film import FILM_MM, film_image
from medgan_pl.data.phantom.head import check_times
from medgan_pl.data.phantom.structures import CHEST, chest_masks, film_masks, head_masks
from medgan_pl.data.readers.bias_field import even, simple_itk
from medgan_pl.data.readers.dicom import read_film
from medgan_pl.data.readers.header import Header, read_header
from medgan_pl.data.readers.itk import files_of, read_itk
from medgan_pl.data.readers.nifti import read_nifti
from medgan_pl.data.readers.pictures import read_picture
from medgan_pl.data.readers.scan import Scan, ScanError, centred_affine
from medgan_pl.data.readers.series import group_series, read_series

# Modalities (PS3.3 C.7.3.1.1.1) that are told by name; what else stands in that field might name a patient.
TOLD = ("CR", "CT", "DX", "MG", "MR", "NM", "OT", "PT", "PX", "RF", "RTDOSE", "RTIMAGE", "SC", "SEG", "US", "XA")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Air is -1000 HU, and below fat, -100, only what holds air; a signal has such values but where interpolation rings, in FEW % of voxels.
FROM_AIR_HU, NO_TISSUE_HU, FEW = -900, -200, 1
# Of these no single image is a film.
SLICED = ("CT", "MR", "NM", "PT", "SEG", "US")


@dataclass(frozen=True)
class Gathered:
    """Files put together: the `items`; `unusable`: name -> why; `skipped`: reason -> how many; `descriptions` of all series, which may name
    a patient: for the screen of who asks, never for a file or a log."""

    items: list[Item]
    unusable: dict[str, str]
    skipped: Counter[str]
    descriptions: Counter[str]


class Modality(Protocol):
    """`name` as DICOM has it; `spatial_dims` of its scans; `kinds` of file, for messages; `settings`: what `read` depends on besides it.

    `chosen`: which DICOM series it takes. `classes` are those of the cohort, as `label` counts them, `structures` what it has masks of.
    """

    name: str
    spatial_dims: int
    kinds: str
    settings: Mapping[str, Any]
    classes: tuple[str, ...]
    structures: tuple[str, ...]
    chosen: str | None

    def takes(self, path: Path) -> bool:
        """Whether the file may hold such an image, by its name or its first bytes."""

    def gather(self, items: Sequence[Item]) -> Gathered:
        """Files -> scans, each with its DICOM patient."""

    def read(self, item: Item) -> Scan:
        """Raises ScanError for a file whose content is at fault."""

    def doubt(self, item: Item, scan: Scan, low: float) -> str | None:
        """What in the values of a scan speaks against this modality, if its files do not name it; None: nothing does. `low`: the native
        value that becomes -1."""

    def unit(self, scan: Scan) -> Unit:
        """What the numbers of a scan are in."""

    def simulate(self, patient: Patient, shape: tuple[int, ...]) -> Scan: ...

    def label(self, patient: Patient) -> int: ...

    def masks(self, patient: Patient, shape: tuple[int, ...], names: Sequence[str]) -> np.ndarray:
        """On the voxels of `simulate`: see `phantom.structures`."""


class XRay:
    """Films: PNG, JPEG, TIFF of 8 to 32 bit and DICOM, one file each. `voi`: take a DICOM as its VOI LUT or window displays it."""

    name, spatial_dims, kinds, classes = "CR", 2, "PNG, JPEG, TIFF or DICOM films", CLASSES
    structures = CHEST
    chosen = None

    def __init__(self, voi: bool = False) -> None:
        self.voi = voi
        self.settings = {"modality": self.name, "voi": voi}

    def takes(self, path: Path) -> bool:
        return path.suffix.lower() in PICTURES or is_dicom(path)

    def gather(self, items: Sequence[Item]) -> Gathered:
        headers, _ = headers_of(items)  # a film whose header cannot be read is told of when its pixels are
        slices = {paths: header.modality for paths, header in headers.items() if header.modality in SLICED}
        known = [item.of(headers[item.paths].patient) if item.paths in headers else item for item in items if item.paths not in slices]
        skipped = Counter(f"images of modality {modality}, which are no films" for modality in slices.values())
        return Gathered(known, {}, skipped, Counter(header.description for header in headers.values()))

    def read(self, item: Item) -> Scan:
        (path,) = item.paths
        return read_film(path, voi=self.voi) if is_dicom(path) else read_picture(path)

    def doubt(self, item: Item, scan: Scan, low: float) -> None:
        """Pictures may hold anything on any scale."""

    def unit(self, scan: Scan) -> Unit:
        if scan.bits is None or (not self.voi and np.any(scan.pixels % 1)):  # rescaled films are on a scale of their own
            return SIGNAL
        return GREY_LEVELS

    def simulate(self, patient: Patient, shape: tuple[int, ...]) -> Scan:
        return Scan(np.rint(film_image(patient, shape)[0]), (FILM_MM / shape[0],) * 2, bits=12)

    def label(self, patient: Patient) -> int:
        return patient.label

    def masks(self, patient: Patient, shape: tuple[int, ...], names: Sequence[str]) -> np.ndarray:
        return film_masks(patient, shape, names)


class Volumes:
    """What CT and MRI share: DICOM series, NIfTI, NRRD, MetaImage.

    `series`: a regular expression found in the SeriesDescription of the DICOM series to take; None takes all of the modality.
    """

    name: str
    spatial_dims, kinds = 3, "NIfTI, NRRD, MetaImage volumes or DICOM series"

    def __init__(self, series: str | None = None) -> None:
        self.chosen = series
        try:
            self.series = None if series is None else re.compile(series)
        except re.error as error:
            raise ValueError(f"data.modality.series must be a regular expression, got {series!r}: {error}") from None
        self.settings: dict[str, Any] = {"modality": self.name}

    def takes(self, path: Path) -> bool:
        return path.name.lower().endswith((*NIFTI, *ITK)) or (path.suffix.lower() not in PICTURES and is_dicom(path))

    def gather(self, items: Sequence[Item]) -> Gathered:
        headers, unusable = headers_of(items)
        by_path = {item.paths[0]: item for item in items}
        scans = [item for item in items if item.paths not in headers and item.name not in unusable]
        scans, torn = with_data(scans)
        unusable |= torn
        skipped: Counter[str] = Counter()
        descriptions: Counter[str] = Counter()
        hollow = {header.series for header in headers.values() if not header.has_pixels and header.series}
        for series in group_series(list(headers.values())):
            descriptions[series.headers[0].description] += 1
            reason = series.skipped or self.passed_over(series.headers)
            if reason:
                skipped[reason] += 1
                continue
            first = by_path[series.headers[0].path]
            name = several(first.name, len(series.headers))
            if series.headers[0].series in hollow:
                unusable[name] = "some files of the series have no pixel data: the volume would lack slices"
                continue
            if len({(item.label, item.split, item.identity, item.told) for item in (by_path[h.path] for h in series.headers)}) > 1:
                unusable[name] = "its slices are given different classes, splits or patients"
                continue
            paths = tuple(h.path for h in series.headers)
            scans.append(first.merged(name, paths).of(series.headers[0].patient))
        if self.series and not headers:
            raise ValueError(
                "data.modality.series chooses among DICOM series, and there is none; choose files by their path with data.files"
            )
        return Gathered(sorted(scans, key=lambda item: item.name), unusable, skipped, descriptions)

    def passed_over(self, headers: Sequence[Header]) -> str | None:
        """Why a series is not for this data set, None if it is."""
        modality = headers[0].modality
        if modality != self.name:
            return f"series of modality {modality}" if modality in TOLD else "series of another modality"
        if headers[0].sop_class.startswith(SECONDARY_CAPTURE):
            return "secondary captures (reports, screenshots)"
        if self.series and not self.series.search(headers[0].description):
            return "series of another description"
        return None

    def read(self, item: Item) -> Scan:
        name = item.paths[0].name.lower()
        if name.endswith(NIFTI):
            return read_nifti(item.paths[0])
        return read_itk(item.paths[0]) if name.endswith(ITK) else read_series(item.paths)


class CT(Volumes):
    """CT in HU; in the cohort of the chest."""

    name, classes = "CT", CLASSES
    structures: tuple[str, ...] = CHEST

    def doubt(self, item: Item, scan: Scan, low: float) -> str | None:
        """A window from air on is for images that show some; one of a brain, cut close, has none, and neither has its window."""
        least = float(scan.pixels.min())
        if says_modality(item) or low > FROM_AIR_HU or least < NO_TISSUE_HU:
            return None
        return f"the window of training begins at {low:g} HU, and its least value is {least:g}, while air is below {NO_TISSUE_HU}"

    def unit(self, scan: Scan) -> Unit:
        return HU

    def simulate(self, patient: Patient, shape: tuple[int, ...]) -> Scan:
        made = thorax_ct(patient, size=shape)
        return Scan(made.hu, made.spacing_mm, centred_affine(made.hu.shape, made.spacing_mm))

    def label(self, patient: Patient) -> int:
        return patient.label

    def masks(self, patient: Patient, shape: tuple[int, ...], names: Sequence[str]) -> np.ndarray:
        return chest_masks(patient, shape, names)


class Heads:
    """What MRI and CT of the cohort's heads share: who has a lesion (whose chest is ill), and what each voxel is of."""

    classes: tuple[str, ...] = ("normal", "lesion")
    structures: tuple[str, ...] = TISSUES

    def label(self, patient: Patient) -> int:
        return int(patient.label > 0)

    def masks(self, patient: Patient, shape: tuple[int, ...], names: Sequence[str]) -> np.ndarray:
        return head_masks(patient, shape, names, lesion=self.label(patient) == 1)


class HeadCT(Heads, CT):
    """CT in HU; in the cohort of the head that MRI shows, on the same grid."""

    def __init__(self, series: str | None = None) -> None:
        super().__init__(series)
        self.settings |= {"head": True}  # of the cohort, another image than the chest's

    def simulate(self, patient: Patient, shape: tuple[int, ...]) -> Scan:
        made = head_ct(patient, size=shape, lesion=self.label(patient) == 1)
        return Scan(made.hu, made.spacing_mm, centred_affine(made.hu.shape, made.spacing_mm))


class MRI(Heads, Volumes):
    """MRI in arbitrary units. `bias_field`: even out the coil's shading by N4 (Tustison et al. 2010, IEEE TMI 29:1310; SimpleITK).

    `tr_ms`, `te_ms`, `ti_ms`: of the embedded cohort's spin echo; 500 and 15 are T1-weighted, 4000 and 100 T2-weighted, 9000, 120 and,
    after an inversion, 1700 FLAIR.
    """

    name = "MR"

    def __init__(
        self, series: str | None = None, bias_field: bool = False, tr_ms: float = 500.0, te_ms: float = 15.0, ti_ms: float | None = None
    ) -> None:
        super().__init__(series)
        check_times(tr_ms, te_ms, ti_ms)
        if bias_field:
            simple_itk()
        self.bias_field, self.tr_ms, self.te_ms, self.ti_ms = bias_field, tr_ms, te_ms, ti_ms
        self.settings |= {"bias_field": bias_field, "echo": [tr_ms, te_ms] if ti_ms is None else [tr_ms, te_ms, ti_ms]}

    def doubt(self, item: Item, scan: Scan, low: float) -> str | None:
        least = float(np.percentile(scan.pixels, FEW))
        if says_modality(item) or not least < NO_TISSUE_HU:
            return None
        return f"{FEW} % of its values are at most {least:.4g}, while a signal's are not below {NO_TISSUE_HU}, as HU of air are"

    def unit(self, scan: Scan) -> Unit:
        return SIGNAL

    def read(self, item: Item) -> Scan:
        scan = super().read(item)
        return even(scan) if self.bias_field else scan

    def simulate(self, patient: Patient, shape: tuple[int, ...]) -> Scan:
        echo = {"tr_ms": self.tr_ms, "te_ms": self.te_ms, "ti_ms": self.ti_ms}
        made = head_mri(patient, size=shape, **echo, lesion=self.label(patient) == 1)
        scan = Scan(made.signal, made.spacing_mm, centred_affine(made.signal.shape, made.spacing_mm))
        return even(scan) if self.bias_field else scan


def says_modality(item: Item) -> bool:
    """Whether the files name the modality, as DICOM does, by which it was then chosen."""
    return not item.paths[0].name.lower().endswith((*NIFTI, *ITK))


def headers_of(items: Sequence[Item]) -> tuple[dict[tuple[Path, ...], Header], dict[str, str]]:
    """The headers of the DICOM files among the items, by their paths; and by name why some cannot be read."""
    found, unusable = {}, {}

    def look(item: Item) -> Header | str:
        try:
            return read_header(item.paths[0])
        except ScanError as error:
            return str(error)

    dicoms = [item for item in items if item.paths[0].suffix.lower() in DICOMS or is_dicom(item.paths[0])]
    with ThreadPoolExecutor(4) as pool:
        for item, header in zip(dicoms, pool.map(look, dicoms), strict=True):
            if isinstance(header, str):
                unusable[item.name] = header
            else:
                found[item.paths] = header
    return found, unusable


def with_data(items: Sequence[Item]) -> tuple[list[Item], dict[str, str]]:
    """The items, those whose data lie in a second file with that one, whose content counts too; and by name why some are none."""
    found, unusable = [], {}
    for item in items:
        try:
            detached = item.paths[0].name.lower().endswith(ITK)
            found.append(item.merged(item.name, files_of(item.paths[0])) if detached else item)
        except ScanError as error:
            unusable[item.name] = str(error)
    return found, unusable
