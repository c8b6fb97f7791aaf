"""The differences between X-ray, CT and MRI: their files, how they are read, the unit of their values, and the embedded cohort."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np

from medgan_pl.data.doubts import not_a_signal, unlike_hu
from medgan_pl.data.files.names import ITK, MGH, NIFTI, PAIRS, PICTURES, VOLUMES
from medgan_pl.data.files.records import Item, is_dicom
from medgan_pl.data.hounsfield import shares
from medgan_pl.data.intensity import GRAY_LEVELS, HU, SIGNAL, Unit
from medgan_pl.data.modality import Modality
from medgan_pl.data.phantom import CLASSES, TISSUES, Patient, head_ct, head_mri, thorax_ct
from medgan_pl.data.phantom.film import FILM_MM, film_image
from medgan_pl.data.phantom.head import check_times
from medgan_pl.data.phantom.structures import CHEST, chest_masks, film_masks, head_masks
from medgan_pl.data.readers.anatomy import Choice
from medgan_pl.data.readers.bias_field import even, simple_itk
from medgan_pl.data.readers.dicom import read_film
from medgan_pl.data.readers.gather import Gathered, gather_films, gather_volumes
from medgan_pl.data.readers.itk import read_itk
from medgan_pl.data.readers.mgh import read_mgh
from medgan_pl.data.readers.nan import REFUSE, checked
from medgan_pl.data.readers.nifti import heads_pair, read_nifti
from medgan_pl.data.readers.pictures import read_picture
from medgan_pl.data.readers.scan import Scan, ScanError, centered_affine
from medgan_pl.data.readers.series import read_series
from medgan_pl.data.readers.shades import NOT_STATED, check_alone, stated

# Modalities whose single images are slices, photographs or doses, and no films.
SLICED = ("CT", "ECG", "ES", "GM", "IVUS", "MR", "NM", "OP", "OPT", "PT", "RTDOSE", "SEG", "SM", "US", "XC")


class XRay:
    """X-ray films: PNG, JPEG, TIFF of 8 to 32 bits and DICOM, one file each.

    `voi`: read a DICOM as its VOI LUT or window displays it. `nan`: refuse NaN of a TIFF, or read it as padding.
    """

    name, spatial_dims, kinds, classes = "CR", 2, "PNG, JPEG, TIFF or DICOM films", CLASSES
    structures = CHEST
    series = None
    choice = Choice()

    def __init__(self, voi: bool = False, nan: str = REFUSE) -> None:
        self.voi, self.nan = voi, checked(nan)
        self.settings = {"modality": self.name, "voi": voi, **of_nan(nan)}

    def takes(self, path: Path) -> bool:
        return path.suffix.lower() in PICTURES or is_dicom(path)

    def gather(self, items: Sequence[Item]) -> Gathered:
        return gather_films(items, SLICED)

    def read(self, item: Item) -> Scan:
        (path,) = item.paths
        return read_film(path, voi=self.voi) if is_dicom(path) else read_picture(path, nan=self.nan)

    def read_mask(self, item: Item) -> Scan:
        (path,) = item.paths
        return read_film(path) if is_dicom(path) else read_picture(path, numbers=True)

    def choosing(self, series: str | None) -> Self:
        if series is not None:
            raise ValueError(f"`series` chooses among DICOM series of volumes, but the generator needs films, got {series}")
        return self

    def doubt(self, item: Item, scan: Scan, low: float) -> None:
        """Return None: pictures may hold any values on any scale."""

    def unit(self, scan: Scan) -> Unit:
        if scan.bits is None or (not self.voi and np.any(scan.pixels % 1)):  # rescaled films have their own scale
            return SIGNAL
        return GRAY_LEVELS

    def simulate(self, patient: Patient, shape: tuple[int, ...]) -> Scan:
        return Scan(np.rint(film_image(patient, shape)[0]), (FILM_MM / shape[0],) * 2, bits=12)

    def label(self, patient: Patient) -> int:
        return patient.label

    def masks(self, patient: Patient, shape: tuple[int, ...], names: Sequence[str]) -> np.ndarray:
        return film_masks(patient, shape, names)


class Volumes:
    """The common part of CT and MRI: volumes as DICOM series, NIfTI, NRRD or MetaImage; or single slices as pictures.

    `series`, `image_type`, `volume`: the choice of DICOM series, see `readers.anatomy.Choice`. Raise ValueError as it does.
    `straighten`: resample slices of a tilted gantry or at uneven steps to a straight grid, see `readers.straight`.
    `pictures`: the meaning of the gray values of pictures, see `readers.shades.stated`; only pictures are then read, each a slice (H, W)
    of unknown spacing.
    `nan`: refuse NaN of volume files and TIFF, or read it as padding, see `readers.nan`.
    """

    name: str
    spatial_dims, kinds = 3, "NIfTI, NRRD, MetaImage, MGZ volumes or DICOM series"
    calibrated = False

    def __init__(
        self, series: str | None = None, image_type: str | None = None, volume: str | int | None = None, straighten: bool = False,
        pictures: str | Sequence[float] | None = None, nan: str = REFUSE,
    ) -> None:  # fmt: skip
        self.choice = Choice(series, image_type, volume)
        self.series, self.image_type, self.volume = series, image_type, volume
        self.straighten, self.nan = straighten, checked(nan)
        self.settings: dict[str, Any] = {"modality": self.name, **({"straighten": True} if straighten else {}), **of_nan(nan)}
        self.pictures = stated(pictures, calibrated=self.calibrated)
        if self.pictures is not None:
            check_alone(pictures, series=series, image_type=image_type, volume=volume, straighten=straighten)
            self.spatial_dims, self.kinds = 2, "PNG, JPEG or TIFF slices (data.modality.pictures)"
            self.settings["pictures"] = self.pictures

    def takes(self, path: Path) -> bool:
        name = path.name.lower()
        if self.pictures is not None:
            return name.endswith(PICTURES)
        if name.endswith(PAIRS):
            return heads_pair(path)
        return name.endswith(VOLUMES) or (path.suffix.lower() not in PICTURES and is_dicom(path))

    def gather(self, items: Sequence[Item]) -> Gathered:
        return gather_volumes(items, self.name, self.choice)

    def read(self, item: Item) -> Scan:
        name = item.paths[0].name.lower()
        if name.endswith(PICTURES):
            if self.pictures is None:
                raise ScanError(NOT_STATED)
            return read_picture(item.paths[0], meaning=self.pictures if self.calibrated else None, nan=self.nan)
        if name.endswith(NIFTI):
            return read_nifti(item.paths[0], item.part, self.nan)
        if name.endswith(MGH):
            return read_mgh(item.paths[0], item.part, self.nan)
        return read_itk(item.paths[0], self.nan) if name.endswith(ITK) else read_series(item.paths, item.part, self.straighten)

    def read_mask(self, item: Item) -> Scan:
        if self.pictures is not None:
            return XRay().read_mask(item)
        return Volumes.read(self, item)  # nothing that corrects or checks intensities

    def choosing(self, series: str | None) -> Self:
        other = copy(self)
        Volumes.__init__(other, series, self.image_type, self.volume, self.straighten, self.pictures, self.nan)
        other.settings = self.settings
        return other


class CT(Volumes):
    """CT in HU. The embedded cohort shows the chest."""

    name, classes, calibrated = "CT", CLASSES, True
    structures: tuple[str, ...] = CHEST

    def doubt(self, item: Item, scan: Scan, low: float) -> str | None:
        return unlike_hu(item, low, float(scan.pixels.min()), shares(scan.pixels) if scan.pixels.ndim == 3 else None)

    def unit(self, scan: Scan) -> Unit:
        return HU

    def simulate(self, patient: Patient, shape: tuple[int, ...]) -> Scan:
        made = thorax_ct(patient, size=shape)
        return Scan(made.hu, made.spacing_mm, centered_affine(made.hu.shape, made.spacing_mm), acquired=0)

    def label(self, patient: Patient) -> int:
        return patient.label

    def masks(self, patient: Patient, shape: tuple[int, ...], names: Sequence[str]) -> np.ndarray:
        return chest_masks(patient, shape, names)


class Heads:
    """The common part of MRI and CT of the cohort's heads: patients with an ill chest have a lesion, and the masks are tissues."""

    classes: tuple[str, ...] = ("normal", "lesion")
    structures: tuple[str, ...] = TISSUES

    def label(self, patient: Patient) -> int:
        return int(patient.label > 0)

    def masks(self, patient: Patient, shape: tuple[int, ...], names: Sequence[str]) -> np.ndarray:
        return head_masks(patient, shape, names, lesion=self.label(patient) == 1)


class HeadCT(Heads, CT):
    """CT in HU. The embedded cohort shows the head, on the same grid as MRI."""

    def __init__(
        self, series: str | None = None, image_type: str | None = None, volume: str | int | None = None, straighten: bool = False,
        pictures: str | Sequence[float] | None = None, nan: str = REFUSE,
    ) -> None:  # fmt: skip
        super().__init__(series, image_type, volume, straighten, pictures, nan)
        self.settings |= {"head": True}  # the cohort's image differs from that of the chest

    def simulate(self, patient: Patient, shape: tuple[int, ...]) -> Scan:
        made = head_ct(patient, size=shape, lesion=self.label(patient) == 1)
        return Scan(made.hu, made.spacing_mm, centered_affine(made.hu.shape, made.spacing_mm), acquired=0)


class MRI(Heads, Volumes):
    """MRI in arbitrary units.

    - `bias_field`: correct the shading of the coil by N4 (Tustison et al. 2010, IEEE TMI 29:1310; needs SimpleITK).
    - `tr_ms`, `te_ms`, `ti_ms`: times of the spin echo in the embedded cohort. 500 and 15 give T1 weighting, 4000 and 100 T2 weighting;
      9000 and 120 with an inversion time of 1700 give FLAIR.
    """

    name = "MR"

    def __init__(
        self, series: str | None = None, bias_field: bool = False, tr_ms: float = 500.0, te_ms: float = 15.0, ti_ms: float | None = None,
        image_type: str | None = None, volume: str | int | None = None, straighten: bool = False, pictures: str | None = None,
        nan: str = REFUSE,
    ) -> None:  # fmt: skip
        super().__init__(series, image_type, volume, straighten, pictures, nan)
        check_alone(pictures, bias_field=bias_field)
        check_times(tr_ms, te_ms, ti_ms)
        if bias_field:
            simple_itk()
        self.bias_field, self.tr_ms, self.te_ms, self.ti_ms = bias_field, tr_ms, te_ms, ti_ms
        self.settings |= {"bias_field": bias_field, "echo": [tr_ms, te_ms] if ti_ms is None else [tr_ms, te_ms, ti_ms]}

    def doubt(self, item: Item, scan: Scan, low: float) -> str | None:
        return not_a_signal(item, scan)

    def unit(self, scan: Scan) -> Unit:
        return SIGNAL if self.pictures is None or scan.bits is None else GRAY_LEVELS

    def read(self, item: Item) -> Scan:
        scan = super().read(item)
        return even(scan) if self.bias_field else scan

    def simulate(self, patient: Patient, shape: tuple[int, ...]) -> Scan:
        echo = {"tr_ms": self.tr_ms, "te_ms": self.te_ms, "ti_ms": self.ti_ms}
        made = head_mri(patient, size=shape, **echo, lesion=self.label(patient) == 1)
        scan = Scan(made.signal, made.spacing_mm, centered_affine(made.signal.shape, made.spacing_mm), acquired=0)
        return even(scan) if self.bias_field else scan


def of_nan(nan: str) -> dict[str, str]:
    """Return the setting as a part of the key of a cache; the default is none, so that older caches stay valid."""
    return {} if nan == REFUSE else {"nan": nan}


def reader_of_masks(modality: Modality) -> Modality:
    """Return the modality that reads the mask files of scans of `modality`: pictures for films, any kind of volume for volumes."""
    return XRay() if modality.spatial_dims == 2 else CT()
