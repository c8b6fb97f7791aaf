"""DICOM: CT and MR slices as one series, films as Computed Radiography; every file is marked as synthetic in six places.

Films are CR because a Digital X-Ray image must name the body part, the view and the detector in coded terms, which are unknown here.
"""

import hashlib
import io
import json
import math
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ComputedRadiographyImageStorage, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from medgan_pl.core.files import atomically, remove_leftovers, write_whole
from medgan_pl.data.export.origin import Facts, Provenance, finite, whole_int16
from medgan_pl.data.readers.scan import canonical

SOP_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "CR": ComputedRadiographyImageStorage}
# Value 3 must be a term of the modality (PS3.3 C.8.2.1.1.1, C.8.3.1.1.1): AXIAL is any cross-section, OTHER any contrast. CR has none.
IMAGE_TYPES = {"CT": ["AXIAL", "SYNTHETIC"], "MR": ["OTHER", "SYNTHETIC"], "CR": ["SYNTHETIC"]}
# Attributes of type 2 that only a scanner or a patient could fill. Laterality is 2C: it is unknown if the part is one of a pair.
UNKNOWN = "PatientBirthDate PatientSex StudyDate StudyTime AccessionNumber ReferringPhysicianName StudyID Laterality"
UNKNOWN_OF = {
    "CT": "PatientPosition PositionReferenceIndicator KVP AcquisitionNumber",
    "MR": "PatientPosition PositionReferenceIndicator ScanOptions MRAcquisitionType RepetitionTime EchoTime EchoTrainLength",
    "CR": "BodyPartExamined ViewPosition PatientOrientation",
}
DERIVATION_CHARACTERS = 1024  # VR ST
PERPENDICULAR = 1e-4  # largest cosine between rows and columns that readers accept


def write_dicom(
    path: Path, values: np.ndarray, facts: Facts, provenance: Provenance, *, modality: str, affine: np.ndarray | None = None
) -> None:
    """Write (H, W) as one file at `path`, (D, H, W) as a folder of slices 0001.dcm …, one series; the same image gives the same bytes.

    - values: native units. CT in whole HU, at most 0.5 off. MR and CR in steps of a power of two, at most 1/65535 of the range off; whole
      numbers are exact if low is whole and the range at most 65535; values beyond low and high are kept.
    - modality: CT or MR with an affine (4, 4), indices of (D, H, W) -> RAS+ mm, where (H, W) is slice 0; or CR, a film (H, W) without
      affine, whose `facts.spacing_mm` is that of the detector.

    Patient, study, series and instances are new. Their UIDs follow from the image and its origin: the same image has the same UIDs, and
    another image never does. Dates, times and the patient's data are empty. The folder is written completely or not at all.
    Raise ValueError for an unfit modality, unit, shape or affine, a folder that holds files, NaN, infinity; ScanError for a bad affine.
    """
    image = finite(values)
    demand(image, facts, modality, affine)
    slices = image if image.ndim == 3 else image[None]  # (D, H, W)
    stored, slope, intercept = (whole_int16(slices), 1.0, 0.0) if modality == "CT" else levels(slices, facts)
    common = header(facts, provenance, modality, identity(stored, slope, intercept, facts, provenance, modality, affine))
    common.RescaleSlope, common.RescaleIntercept = ds(slope), ds(intercept)
    common.RescaleType = "HU" if modality == "CT" else "US"
    common.PixelRepresentation = int(modality == "CT")
    files = [sliced(common, stored[k], k, affine) for k in range(len(stored))]
    if image.ndim == 2:
        write_whole(path, files[0])
    else:
        write_folder(path, {f"{k:04d}.dcm": file for k, file in enumerate(files, 1)})


def demand(image: np.ndarray, facts: Facts, modality: str, affine: np.ndarray | None) -> None:
    if modality not in SOP_CLASSES:
        raise ValueError(f"`modality` must be CT, MR or CR, got {modality}; write films of any kind (DX, MG) as CR")
    if modality == "CT" and facts.unit != "HU":
        raise ValueError(f"a CT must be in HU, got {facts.unit}; undo the normalization first")
    if modality == "CR":
        if image.ndim != 2 or affine is not None:
            raise ValueError(f"a CR must be one film (H, W) without an affine, got {image.shape}; write volumes as CT or MR")
        if facts.spacing_mm is not None and len(facts.spacing_mm) != 2:
            raise ValueError(f"a film's `spacing_mm` must be two numbers, got {facts.spacing_mm}")
        return
    if affine is None:
        raise ValueError(f"{modality} needs an affine (4, 4); scan.centered_affine(shape, spacing_mm) makes one")
    canonical(image if image.ndim == 3 else image[None], affine)  # raises for an invalid affine
    across, down = (affine[:3, axis] / np.linalg.norm(affine[:3, axis]) for axis in (2, 1))
    if abs(across @ down) > PERPENDICULAR:
        raise ValueError(f"rows and columns must be perpendicular, got a cosine of {across @ down:.2g}; resample to a straight grid")


def levels(slices: np.ndarray, facts: Facts) -> tuple[np.ndarray, float, float]:
    """Return uint16 values with a slope and an intercept that hold all values, without clipping; whole numbers stay whole."""
    low, high = min(facts.low, slices.min()), max(facts.high, slices.max())
    slope = 2.0 ** math.ceil(math.log2((high - low) / 65535))
    if round((high - math.floor(low / slope) * slope) / slope) > 65535:  # the floor may cost one level
        slope *= 2
    slope = float(ds(slope))  # as a reader sees it, at most 16 characters
    intercept = float(ds(math.floor(low / slope) * slope))
    return np.rint((slices - intercept) / slope).clip(0, 65535).astype(np.uint16), slope, intercept


def identity(
    stored: np.ndarray, slope: float, intercept: float, facts: Facts, provenance: Provenance, modality: str, affine: np.ndarray | None
) -> str:
    """Return 64 hexadecimal digits that identify the image and its origin; they do not depend on the time and the name of the file."""
    place = None if affine is None else np.asarray(affine, np.float64).tolist()
    drawn_by = [provenance.checkpoint_sha256, provenance.seed, provenance.version]
    origin = json.dumps([drawn_by, asdict(facts), modality, stored.shape, slope, intercept, place])
    return hashlib.sha256(origin.encode() + stored.tobytes()).hexdigest()


def uid(identity: str, role: str) -> UID:
    """Return a UID below 2.25, which anybody may use (PS3.5 B.2), from a name-based UUID."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'medgan_pl/{identity}/{role}').int}")


def ds(number: float) -> str:
    """Return the most exact decimal string of at most 16 characters."""
    return format_number_as_ds(float(number))


def header(facts: Facts, provenance: Provenance, modality: str, identity: str) -> Dataset:
    """Return the attributes of all slices: those of type 1 and 2 in PS3.3 A.2.3, A.3.3, A.4.3; empty if only a scanner could know them."""
    one = Dataset()
    one.SpecificCharacterSet = "ISO_IR 192"
    one.SOPClassUID, one.Modality = SOP_CLASSES[modality], modality
    one.ImageType = ["DERIVED", "SECONDARY", *IMAGE_TYPES[modality]]
    one.SyntheticData = "YES"
    one.PatientName, one.PatientID = "SYNTHETIC^medgan_pl", f"SYNTHETIC-{identity[:12]}"
    one.SeriesDescription = one.StudyDescription = f"SYNTHETIC medgan_pl {modality}"
    one.StudyInstanceUID, one.SeriesInstanceUID = uid(identity, "study"), uid(identity, "series")
    for name in f"{UNKNOWN} {UNKNOWN_OF[modality]}".split():
        setattr(one, name, None)
    if modality == "MR":  # the most neutral of the allowed terms: research mode, nothing special
        one.ScanningSequence, one.SequenceVariant = "RM", "NONE"
    if modality == "CR" and facts.spacing_mm is not None:
        one.ImagerPixelSpacing = [ds(n) for n in facts.spacing_mm]
    if modality != "CR":
        one.FrameOfReferenceUID = uid(identity, "frame")
    one.SeriesNumber = 1
    one.Manufacturer, one.SoftwareVersions = "medgan_pl", provenance.version
    one.BurnedInAnnotation = "NO"
    one.ImageComments = clean(f"SYNTHETIC: drawn by a generative model, shows no patient. Image {facts.index}, label {facts.label}")
    one.DerivationDescription = clean(
        f"SYNTHETIC: medgan_pl {provenance.version}, checkpoint SHA-256 {provenance.checkpoint_sha256}, seed {provenance.seed}, "
        f"image {facts.index}, {provenance.images_seen} training images, model {provenance.model}"
    )
    one.WindowCenter, one.WindowWidth = ds((facts.low + facts.high) / 2), ds(facts.high - facts.low)
    one.VOILUTFunction = "LINEAR_EXACT"  # LINEAR subtracts one level from the width, which breaks a range like 0 … 1
    return one


def clean(text: str) -> str:
    return " ".join(text.split())[:DERIVATION_CHARACTERS]


def sliced(common: Dataset, stored: np.ndarray, k: int, affine: np.ndarray | None, moved: np.ndarray | None = None) -> bytes:
    """Return one file: the common header, the pixels (H, W), slice k's position and its own UID. `affine`, `moved`: of `put_in_place`."""
    one = Dataset()
    one.update(common)
    one.SOPInstanceUID = UID(uid(common.SeriesInstanceUID, f"instance {k}"))
    one.InstanceNumber = k + 1
    one.Rows, one.Columns = stored.shape
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit = 15
    if affine is not None:
        put_in_place(one, np.asarray(affine, np.float64), k, moved)
    one.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    one.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def put_in_place(one: Dataset, affine: np.ndarray, k: int, moved: np.ndarray | None = None) -> None:
    """Set the Image Plane (PS3.3 C.7.6.2): DICOM's x and y point left and back, ours right and front.

    `moved` (3,) RAS mm: from the place of slice k on the grid of `affine` to its own. The distance of such slices is not stated.
    """
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    between_slices, down, across = (np.linalg.norm(lps[:3, axis]) for axis in range(3))
    one.ImageOrientationPatient = [ds(n) for n in (*(lps[:3, 2] / across), *(lps[:3, 1] / down))]
    one.ImagePositionPatient = [ds(n) for n in (lps @ [k, 0, 0, 1])[:3]]
    one.PixelSpacing = [ds(down), ds(across)]
    if moved is not None:
        place = (lps @ [k, 0, 0, 1])[:3] + np.array([-1.0, -1.0, 1.0]) * moved
        one.ImagePositionPatient = [ds(n) for n in place]
        return
    one.SpacingBetweenSlices = ds(between_slices)
    if not one.get("SliceThickness"):  # slices of a patient may overlap or have gaps
        one.SliceThickness = one.SpacingBetweenSlices


def drawn(file: Path) -> bool:
    """Return True if the file is a slice that an earlier run wrote here."""
    try:
        return file.suffix == ".dcm" and dcmread(file, stop_before_pixels=True).get("SyntheticData") == "YES"
    except InvalidDicomError:
        return False


def write_folder(path: Path, files: dict[str, bytes], own: Callable[[Path], bool] = drawn) -> None:
    """Write a folder of these files `atomically`.

    Raise ValueError if `path` holds a file that is not our `own`: many viewers combine two series into one wrong volume.
    """
    if path.is_dir() and not all(own(file) for file in path.iterdir()):
        raise ValueError(f"the folder of a series must be new or hold an earlier one, got {path}, which holds other files; choose another")
    remove_leftovers(path)
    with atomically(path) as temporary:
        temporary.mkdir()
        for name, content in files.items():
            (temporary / name).write_bytes(content)
