"""Check that a DICOM file is a valid synthetic image: its IOD's rules, correct pixels, synthetic marks, no personal data."""

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import config, dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VM, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ComputedRadiographyImageStorage, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import STR_VR, validate_value

from medgan_pl.data.export.iods import TYPE_1, TYPE_2

HEAD_BYTES = 2**20  # the header of our files is below 3 KiB; no more is read of a hostile one
PIXELS = b"\xe0\x7f\x10\x00OW\0\0"  # tag (7FE0,0010) and VR, then 4 bytes of length, in Explicit VR Little Endian

MODALITY = {CTImageStorage: "CT", MRImageStorage: "MR", ComputedRadiographyImageStorage: "CR"}
VALUE_3 = {"CT": ("AXIAL", "LOCALIZER"), "MR": ("OTHER",)}

# Attributes about a person, a time or a place (PS3.15 E.1): people, dates, times and ages by their VR, the rest by name.
PERSONAL_VR = ("PN", "DA", "TM", "DT", "AS")
PERSONAL = "PatientSex OtherPatientIDs PatientAddress PatientTelephoneNumbers PatientComments PatientWeight PatientSize EthnicGroup"
PERSONAL += " MedicalRecordLocator AccessionNumber StudyID InstitutionName InstitutionAddress InstitutionalDepartmentName StationName"
PERSONAL += " DeviceSerialNumber AdditionalPatientHistory Occupation ProtocolName OtherPatientIDsSequence IssuerOfPatientID"


def check_dicom(path: Path) -> list[str]:
    """Return the faults of a DICOM file as a synthetic CT, MR or CR image, one sentence each; none for files of write_dicom.

    It checks the IOD (type 1 filled, type 2 present, values fit their VR and VM, UIDs valid), the length of the pixels, the slice plane,
    the synthetic marks, and that there is no private attribute and nothing about a person, a time or a place. The sentences name
    attributes, never values. Raise OSError if the file cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values; the list has all faults
        try:
            # Checked first: pydicom would inflate a deflated file completely, and a small one may be huge.
            if read_file_meta_info(path).get("TransferSyntaxUID") != ExplicitVRLittleEndian:
                return ["the transfer syntax must be Explicit VR Little Endian"]
            with path.open("rb") as file:
                head = io.BytesIO(file.read(HEAD_BYTES))
            one = dcmread(head, stop_before_pixels=True)
            tag = head.read(12)
            after = path.stat().st_size - head.tell()
            if unreadable := [name for name, element in elements(one) if element is None]:
                return [f"{name} must hold a readable value" for name in unreadable]
            if one.get("SOPClassUID") not in TYPE_1:
                return ["the SOP class must be CT, MR or Computed Radiography Image Storage"]
            unfit = [*values(one)]  # without valid numbers the other checks are skipped
            agree = [] if unfit else [*sound(one), *pixels(one, tag, after)]
            return [*presence(one), *unfit, *agree, *marks(one), *nobody(one)]
        except Exception as error:  # pydicom raises any error for corrupt bytes
            if getattr(error, "errno", None):  # an error of the disk is no fault of the file
                raise
            return [f"not a DICOM file, or corrupt or truncated ({type(error).__name__})"]


def elements(one: Dataset) -> Iterator[tuple[str, DataElement | None]]:
    """Yield the name and element of every attribute, also within sequences; None for an unreadable one."""
    for tag in one.keys():  # noqa: SIM118 - iterating a Dataset reads its values and would stop at an unreadable one
        name = keyword_for_tag(tag) or ("a private attribute" if tag.is_private else "an unknown attribute")
        try:
            element = one[tag]
        except Exception:
            yield name, None
            continue
        yield name, element
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)


def presence(one: Dataset) -> Iterator[str]:
    """Check that type 1 is present and filled, type 2 is present, and the meta header names the same object."""
    for name in TYPE_1[one.SOPClassUID].split():
        if name not in one or one[name].is_empty:
            yield f"{name} must be present and not empty (type 1)"
    for name in TYPE_2[one.SOPClassUID].split():
        if name not in one:
            yield f"{name} must be present, empty if unknown (type 2)"
    for name in ("SOPClassUID", "SOPInstanceUID"):
        if one.file_meta.get(f"MediaStorage{name}") != one.get(name):
            yield f"MediaStorage{name} in the meta header must be {name}"


def values(one: Dataset) -> Iterator[str]:
    """Check that each attribute is in the standard (PS3.6), with its VR and VM, and that each value fits its VR (PS3.5 6.2)."""
    for name, element in elements(one):
        if element.tag.is_private:
            continue  # nobody() refuses it
        if not dictionary_has_tag(element.tag):
            yield "every attribute must be in the dictionary (PS3.6)"
            continue
        if element.VR not in dictionary_VR(element.tag):
            yield f"{name} must have VR {dictionary_VR(element.tag)}"
        if element.is_empty or element.VR == "SQ":
            continue
        vm = dictionary_VM(element.tag)
        if vm.isdigit() and int(vm) != element.VM:
            yield f"{name} must have {vm} value(s), got {element.VM}"
        if element.VR in STR_VR and not all(fits(element.VR, value) for value in (element.value if element.VM > 1 else [element.value])):
            yield f"{name} must hold a valid {element.VR}"


def fits(vr: str, value: object) -> bool:
    try:
        validate_value(vr, getattr(value, "original_string", None) or str(value), config.RAISE)
    except ValueError:
        return False
    return vr != "UI" or UID(str(value)).is_valid


def sound(one: Dataset) -> Iterator[str]:
    """Check the layout of the pixels (C.7.6.3), the rescale (C.11.1) and the slice plane (C.7.6.2)."""
    if one.get("SamplesPerPixel") != 1 or one.get("PhotometricInterpretation") != "MONOCHROME2":
        yield "the image must be MONOCHROME2 with SamplesPerPixel 1"
    allocated, stored = one.get("BitsAllocated") or 0, one.get("BitsStored") or 0
    if allocated != 16 or not 12 <= stored <= 16 or one.get("HighBit") != stored - 1 or one.get("PixelRepresentation") not in (0, 1):
        yield "BitsAllocated must be 16, BitsStored 12 to 16, HighBit one less, PixelRepresentation 0 or 1"
    slope = float(one.get("RescaleSlope") or 0)
    if not np.isfinite(slope) or slope == 0:
        yield "RescaleSlope must be finite and not 0"
    if "ImageOrientationPatient" in one:
        across, down = np.array(one.ImageOrientationPatient, np.float64).reshape(2, 3)
        if not np.allclose([across @ across, down @ down, across @ down], [1, 1, 0], atol=1e-4):
            yield "ImageOrientationPatient must hold two perpendicular unit vectors"
    for name in ("PixelSpacing", "ImagerPixelSpacing", "SliceThickness"):
        if name in one and not one[name].is_empty and not np.all(np.array(one[name].value, np.float64) > 0):
            yield f"{name} must be positive"


def pixels(one: Dataset, tag: bytes, after: int) -> Iterator[str]:
    """Check that PixelData follows the header, with its own length and that of Rows and Columns, and ends the file.

    tag: 12 bytes at the expected start of PixelData; after: number of bytes of the file after them.
    """
    if tag[:8] != PIXELS:
        yield "PixelData must be present (type 1), in VR OW, within the first MiB"
        return
    expected, claimed = (one.get("Rows") or 0) * (one.get("Columns") or 0) * 2, int.from_bytes(tag[8:], "little")
    if not expected == claimed == after:
        yield f"PixelData must hold Rows × Columns × 2 = {expected} bytes and end the file, got {claimed} claimed and {after} there"


def marks(one: Dataset) -> Iterator[str]:
    """Check that every mark is synthetic: a viewer shows at least one of them."""
    kinds = list(one.get("ImageType") or [])
    modality = MODALITY[one.SOPClassUID]
    if one.get("Modality") != modality:
        yield f"Modality must be {modality}, as the SOP class is"
    if kinds[:2] != ["DERIVED", "SECONDARY"] or "SYNTHETIC" not in kinds[2:]:
        yield "ImageType must be DERIVED\\SECONDARY and end with SYNTHETIC"
    if modality in VALUE_3 and (len(kinds) < 3 or kinds[2] not in VALUE_3[modality]):
        yield f"ImageType's third value must be {' or '.join(VALUE_3[modality])}"
    if one.get("SyntheticData") != "YES":
        yield "SyntheticData must be YES"
    for name in ("PatientName", "PatientID", "SeriesDescription"):
        if not str(one.get(name) or "").startswith("SYNTHETIC"):
            yield f"{name} must begin with SYNTHETIC"


def nobody(one: Dataset) -> Iterator[str]:
    """Check that no attribute is about a person, a time or a place, and that none is private, as it could hold anything."""
    for name, element in elements(one):
        if element.tag.is_private:
            yield "no attribute may be private"
        elif not element.is_empty and name != "PatientName" and (element.VR in PERSONAL_VR or name in PERSONAL.split()):
            yield f"{name} must be empty or absent: it describes a person, a time or a place"
