"""Check that a DICOM file is a valid synthetic image: the rules of its IOD, sound pixels, marked everywhere, nobody in it."""

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

HEAD_BYTES = 2**20  # of our files all but the pixels is below 3 KiB; of a hostile one no more is read
PIXELS = b"\xe0\x7f\x10\x00OW\0\0"  # tag (7FE0,0010) and VR, then 4 bytes of length, as Explicit VR Little Endian has them

MODALITY = {CTImageStorage: "CT", MRImageStorage: "MR", ComputedRadiographyImageStorage: "CR"}
VALUE_3 = {"CT": ("AXIAL", "LOCALIZER"), "MR": ("OTHER",)}

# What tells of a person, a time or a place (PS3.15 E.1): people, dates, times and ages by their VR, the rest by name.
PERSONAL_VR = ("PN", "DA", "TM", "DT", "AS")
PERSONAL = "PatientSex OtherPatientIDs PatientAddress PatientTelephoneNumbers PatientComments PatientWeight PatientSize EthnicGroup"
PERSONAL += " MedicalRecordLocator AccessionNumber StudyID InstitutionName InstitutionAddress InstitutionalDepartmentName StationName"
PERSONAL += " DeviceSerialNumber AdditionalPatientHistory Occupation ProtocolName OtherPatientIDsSequence IssuerOfPatientID"


def check_dicom(path: Path) -> list[str]:
    """Return what is wrong with a DICOM file as a synthetic CT, MR or CR image, a sentence each; none for what write_dicom writes.

    It asks: valid by its IOD (type 1 filled, type 2 present, values fit their VR and VM, UIDs valid)? pixels as long as the header says? a
    sound slice plane? marked as synthetic? no private attribute, nothing about a person, a time or a place? The sentences name
    attributes, never values. Raises OSError where the file cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's quote values; what matters is in the list
        try:
            # Asked first: pydicom would inflate a deflated file whole, and a small one may hold anything.
            if read_file_meta_info(path).get("TransferSyntaxUID") != ExplicitVRLittleEndian:
                return ["the transfer syntax must be Explicit VR Little Endian"]
            with path.open("rb") as file:
                head = io.BytesIO(file.read(HEAD_BYTES))
            one = dcmread(head, stop_before_pixels=True)
            tag = head.read(12)
            after = path.stat().st_size - head.tell()
            if unreadable := [name for name, element in elements(one) if element is None]:
                return [f"{name} must hold a value that can be read" for name in unreadable]
            if one.get("SOPClassUID") not in TYPE_1:
                return ["the SOP class must be CT, MR or Computed Radiography Image Storage"]
            unfit = [*values(one)]  # then there are no numbers to compare
            agree = [] if unfit else [*sound(one), *pixels(one, tag, after)]
            return [*presence(one), *unfit, *agree, *marks(one), *nobody(one)]
        except Exception as error:  # pydicom raises whatever the bytes provoke
            if getattr(error, "errno", None):  # a disk that fails is not a file that does
                raise
            return [f"not a DICOM file, or corrupt or truncated ({type(error).__name__})"]


def elements(one: Dataset) -> Iterator[tuple[str, DataElement | None]]:
    """Name and element of every attribute, those within sequences too; None for one whose bytes make no value."""
    for tag in one.keys():  # noqa: SIM118 - iterating a Dataset reads its values, and one that cannot be read would end it
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
    """Type 1 must be there and say something, type 2 must be there; the file's meta header must name the same object."""
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
    """Each attribute must be one of the standard's (PS3.6), with its VR and VM; each value must fit its VR (PS3.5 6.2)."""
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
    """Layout of the pixels (C.7.6.3), rescale (C.11.1) and slice plane (C.7.6.2) must each make sense."""
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
    """PixelData must be what follows the header, as long as it says and as Rows and Columns ask, and nothing may follow it.

    tag: 12 bytes, where PixelData should begin; after: bytes of the file behind them.
    """
    if tag[:8] != PIXELS:
        yield "PixelData must be present (type 1), in VR OW, within the first MiB"
        return
    expected, claimed = (one.get("Rows") or 0) * (one.get("Columns") or 0) * 2, int.from_bytes(tag[8:], "little")
    if not expected == claimed == after:
        yield f"PixelData must hold Rows × Columns × 2 = {expected} bytes and end the file, got {claimed} claimed and {after} there"


def marks(one: Dataset) -> Iterator[str]:
    """Every mark there is must say synthetic: a viewer shows one of them at least."""
    kinds = list(one.get("ImageType") or [])
    modality = MODALITY[one.SOPClassUID]
    if one.get("Modality") != modality:
        yield f"Modality must be {modality}, as the SOP class is"
    if kinds[:2] != ["DERIVED", "SECONDARY"] or "SYNTHETIC" not in kinds[2:]:
        yield "ImageType must be DERIVED\\SECONDARY and further on SYNTHETIC"
    if modality in VALUE_3 and (len(kinds) < 3 or kinds[2] not in VALUE_3[modality]):
        yield f"ImageType's third value must be {' or '.join(VALUE_3[modality])}"
    if one.get("SyntheticData") != "YES":
        yield "SyntheticData must be YES"
    for name in ("PatientName", "PatientID", "SeriesDescription"):
        if not str(one.get(name) or "").startswith("SYNTHETIC"):
            yield f"{name} must begin with SYNTHETIC"


def nobody(one: Dataset) -> Iterator[str]:
    """Nothing may tell of a person, a time or a place, and nothing may be private: it could tell anything."""
    for name, element in elements(one):
        if element.tag.is_private:
            yield "no attribute may be private"
        elif not element.is_empty and name != "PatientName" and (element.VR in PERSONAL_VR or name in PERSONAL.split()):
            yield f"{name} must be empty or absent: it tells of a person, a time or a place"
