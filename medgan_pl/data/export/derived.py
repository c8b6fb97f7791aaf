"""DICOM of a network's result for a patient's image: a new series in the same study and position, derived and for research."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from medgan_pl.core.files import write_whole
from medgan_pl.data.export.anonymous import Alias, anonymized
from medgan_pl.data.export.dicom import IMAGE_TYPES, SOP_CLASSES, clean, ds, levels, sliced, uid, write_folder
from medgan_pl.data.export.iods import TYPE_1, TYPE_2
from medgan_pl.data.export.origin import Facts, Provenance, finite, whole_int16
from medgan_pl.data.readers.header import HEADER_BYTES, PIECE_BYTES, DicomFile, parse, text, whole
from medgan_pl.data.readers.pictures import faults

# Attributes copied from the source of any modality: patient, study and position (PS3.3 C.7.1 to C.7.4).
KEPT = "SpecificCharacterSet PatientName PatientID IssuerOfPatientID PatientBirthDate PatientSex PatientAge PatientSize PatientWeight"
KEPT += " StudyInstanceUID StudyDate StudyTime AccessionNumber ReferringPhysicianName StudyID StudyDescription AcquisitionDate"
KEPT += " AcquisitionTime BodyPartExamined PatientPosition Laterality ViewPosition PatientOrientation FrameOfReferenceUID"
KEPT += " SliceThickness PositionReferenceIndicator BurnedInAnnotation LossyImageCompression LossyImageCompressionRatio"
KEPT += " LossyImageCompressionMethod"
ASKED = "Modality SOPClassUID SOPInstanceUID SeriesNumber PixelSpacing ImagerPixelSpacing"
LAST_SERIES = 2**31 - 1  # VR IS


def write_derived(
    path: Path, values: np.ndarray, sources: Sequence[Path], facts: Facts, provenance: Provenance, *, modality: str,
    affine: np.ndarray | None = None, factors: Sequence[int] = (1, 1, 1), settings: dict | None = None, note: str = "",
    moved: np.ndarray | None = None, alias: Alias | None = None,
) -> None:  # fmt: skip
    """Write the result for the images in `sources`: (H, W) as one file at `path`, (D, H, W) as a folder of slices, one series.

    - values: native units. CT in whole HU; MR and CR in the steps of `dicom.levels`.
    - sources: the files of the slices, in the order of the slices of `values`; each gives `factors[0]` slices.
    - affine: (4, 4), indices of `values` -> RAS+ mm; None for films, whose pixel spacing becomes that of the source / factors.
    - settings: plain containers; all that made these values besides `provenance`, for the UIDs: the same image has the same UIDs.
    - note: what else DerivationDescription says, such as the detail that is lost.
    - moved: (D, 3) RAS mm from the place of each slice on the even grid of `affine` to its own; None: all lie on the grid.
    - alias: for a result without the patient (`anonymous.py`).

    Patient, study, frame of reference and, for the same modality, the acquisition are those of each source; series and instances are new.
    With an `alias` patient, study and frame are replaced, and all else that may tell of the patient is removed.
    ImageType is DERIVED, ContentQualification RESEARCH. Raise ScanError for a source with a corrupt header, and as `write_dicom`.
    """
    image = finite(values)
    slices = image if image.ndim == 3 else image[None]
    stored, slope, intercept = (whole_int16(slices), 1.0, 0.0) if modality == "CT" else levels(slices, facts)
    made = json.dumps([asdict(facts), asdict(provenance) | {"created": ""}, settings, modality, slope, intercept])
    identity = hashlib.sha256(made.encode() + stored.tobytes()).hexdigest()
    files = {}
    with faults("a DICOM whose header cannot be copied"):
        headers = [read(source, modality) for source in sources]
        for k in range(len(stored)):
            one = header(headers[k // factors[0]], facts, provenance, modality, identity, note)
            one = one if alias is None else anonymized(one, alias)
            one.RescaleSlope, one.RescaleIntercept = ds(slope), ds(intercept)
            one.RescaleType = "HU" if modality == "CT" else "US"
            one.PixelRepresentation = int(modality == "CT")
            if factors[0] > 1 and "SliceThickness" in one:
                del one.SliceThickness  # each slice of the source is now several
            if affine is None:
                for name in ("PixelSpacing", "ImagerPixelSpacing"):
                    if name in one:
                        one[name].value = [ds(float(mm) / factor) for mm, factor in zip(one[name].value, factors[1:], strict=True)]
            files[f"{k + 1:04d}.dcm"] = sliced(one, stored[k], k, affine, None if moved is None else moved[k])
    if image.ndim == 2:
        write_whole(path, files["0001.dcm"])
    else:
        write_folder(path, files, own)


def read(source: Path, modality: str) -> Dataset:
    """Return the attributes that are copied or checked; nothing private."""
    sop = SOP_CLASSES[modality]
    with source.open("rb") as file:
        return parse(DicomFile(file, HEADER_BYTES, PIECE_BYTES), f"{KEPT} {ASKED} {TYPE_1[sop]} {TYPE_2[sop]}".split())


def header(source: Dataset, facts: Facts, provenance: Provenance, modality: str, identity: str, note: str = "") -> Dataset:
    """Return the header of an image of `modality` without pixels and position; required attributes that the source lacks are empty."""
    sop, one = SOP_CLASSES[modality], Dataset()
    same = f"{TYPE_1[sop]} {TYPE_2[sop]}".split() if text(source, "Modality") == modality else []
    film = ["PixelSpacing", "ImagerPixelSpacing"] if modality == "CR" else []
    for name in dict.fromkeys([*KEPT.split(), *same, *film]):
        if name in source:
            one.add(source[name])
    for name in TYPE_2[sop].split():
        if name not in one:
            setattr(one, name, None)
    for name, role in (("StudyInstanceUID", "study"), ("FrameOfReferenceUID", "frame")):
        if not one.get(name):
            setattr(one, name, uid(identity, role))
    if modality == "MR" and not (one.get("ScanningSequence") and one.get("SequenceVariant")):
        one.ScanningSequence, one.SequenceVariant = "RM", "NONE"
    one.SOPClassUID, one.Modality, one.SeriesInstanceUID = sop, modality, uid(identity, "series")
    one.ImageType = ["DERIVED", "SECONDARY", *IMAGE_TYPES[modality][:-1]]  # without SYNTHETIC: there was a patient
    one.SeriesNumber = min(whole(source, "SeriesNumber", 0) + 1000, LAST_SERIES)
    one.SeriesDescription = f"medgan_pl {provenance.model}"[:64]
    one.Manufacturer, one.SoftwareVersions = "medgan_pl", provenance.version
    one.ContentQualification = "RESEARCH"
    one.DerivationDescription = clean(
        f"Made by a generative network, not measured: medgan_pl {provenance.version}, model {provenance.model}, checkpoint SHA-256 "
        f"{provenance.checkpoint_sha256}" + (f". {note}" if note else "")
    )
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.get("SOPClassUID"), source.get("SOPInstanceUID")
    one.SourceImageSequence = [reference] if reference.ReferencedSOPInstanceUID else []
    one.WindowCenter, one.WindowWidth = ds((facts.low + facts.high) / 2), ds(facts.high - facts.low)
    one.VOILUTFunction = "LINEAR_EXACT"
    return one


def own(file: Path) -> bool:
    """Return True if the file is a slice that an earlier run wrote here."""
    try:
        return file.suffix == ".dcm" and str(dcmread(file, stop_before_pixels=True).get("SeriesDescription", "")).startswith("medgan_pl ")
    except InvalidDicomError:
        return False
