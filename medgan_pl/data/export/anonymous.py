"""DICOM of a patient's image without the patient: the Basic Application Level Confidentiality Profile (PS3.15 E.2), as an allow-list.

Table E.1-1 of the profile says what to remove. Here all is removed but what is listed: a name may stand in any attribute. None that is
kept is in that table (2026c), and each is written anew: a number as a number, a word only if the standard defines it.
"""

import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import format_number_as_ds

from medgan_pl.core.version import __version__
from medgan_pl.data.export.iods import TYPE_2
from medgan_pl.data.readers.header import HEADER_BYTES, PIECE_BYTES, DicomFile, numbers, parse, text
from medgan_pl.data.readers.scan import ScanError

# Written by us, for every image alike.
OURS = "SOPClassUID Modality ImageType SeriesDescription Manufacturer SoftwareVersions ContentQualification DerivationDescription"
OURS += " WindowCenter WindowWidth VOILUTFunction"
# Measures of the acquisition, with the number of values; spacings are those of rows and columns.
MEASURES = dict.fromkeys(("SliceThickness", "KVP", "RepetitionTime", "EchoTime", "LossyImageCompressionRatio"), 1)
MEASURES |= {"PixelSpacing": 2, "ImagerPixelSpacing": 2}
# The terms that PS3.3 and PS3.16 (annex L, the usual ones) define.
TERMS = {
    "PatientPosition": r"(HF|FF)(P|S|DR|DL)",
    "Laterality": "R|L",
    "ViewPosition": "AP|PA|LL|RL|RLD|LLD|RLO|LLO",
    "PatientOrientation": r"[APRLHF]{1,3}\\[APRLHF]{1,3}",
    "BodyPartExamined": "ABDOMEN|ANKLE|ARM|BRAIN|BREAST|CHEST|CLAVICLE|COCCYX|CSPINE|ELBOW|EXTREMITY|FOOT|HAND|HEAD|HEART|HIP|JAW|KNEE|LEG|"
    "LIVER|LSPINE|NECK|PELVIS|PROSTATE|RIB|SHOULDER|SKULL|SPINE|SSPINE|TSPINE|WHOLEBODY|WRIST",
    "MRAcquisitionType": "2D|3D",
    "ScanningSequence": r"(SE|IR|GR|EP|RM)(\\(SE|IR|GR|EP|RM))*",
    "SequenceVariant": r"(SK|MTC|SS|TRSS|SP|MP|OSP|NONE)(\\(SK|MTC|SS|TRSS|SP|MP|OSP|NONE))*",
    "LossyImageCompression": "00|01",
    "LossyImageCompressionMethod": r"ISO_\d{4,5}_\d{1,2}",
    "BurnedInAnnotation": "NO",
}
REPLACED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
# Terms of types 1 that a source may lack: research mode, no variant.
UNKNOWN_TERMS = {"ScanningSequence": "RM", "SequenceVariant": "NONE"}


class Alias:
    """New names for patients and new UIDs: the same for one old one, and of another `Alias` never the same.

    They are made with a random key that is written nowhere, so nobody can find the old ones by trying.
    """

    def __init__(self) -> None:
        self.key = secrets.token_bytes(32)

    def uid(self, old: str) -> UID:
        """Return the UID in place of an old one, below 2.25 (PS3.5 B.2)."""
        return UID(f"2.25.{uuid.UUID(bytes=self.hidden(old)[:16], version=4).int}")

    def patient(self, old: str) -> str:
        """Return the PatientID in place of an old one."""
        return f"ANONYMOUS-{self.hidden(old).hex()[:12]}"

    def hidden(self, old: str) -> bytes:
        return hmac.digest(self.key, old.encode(), hashlib.sha256)


def anonymized(one: Dataset, alias: Alias) -> Dataset:
    """Return a header of `derived.header` with nothing of the patient, and the marks of the profile. Dates and times are removed."""
    new = Dataset()
    new.SpecificCharacterSet = "ISO_IR 192"
    for name in OURS.split():
        new.add(one[name])
    for name, count in MEASURES.items():
        if values := numbers(one, name, count):
            setattr(new, name, [format_number_as_ds(value) for value in values])
    for name, terms in TERMS.items():
        value = text(one, name)
        if re.fullmatch(terms, value) or (name in one and (value := UNKNOWN_TERMS.get(name, ""))):
            setattr(new, name, value.split("\\"))
    for name in TYPE_2[one.SOPClassUID].split():
        if name not in new:
            setattr(new, name, None)
    for name in REPLACED:
        setattr(new, name, alias.uid(text(one, name)))
    new.SeriesNumber = 1
    new.PatientID = alias.patient(f"{text(one, 'IssuerOfPatientID')}\\{text(one, 'PatientID') or text(one, 'StudyInstanceUID')}")
    new.PatientName = new.PatientID
    new.PatientIdentityRemoved, new.LongitudinalTemporalInformationModified = "YES", "REMOVED"
    new.DeidentificationMethod = f"medgan_pl {__version__}: all removed but an allow-list"
    profile = Dataset()
    profile.CodeValue, profile.CodingSchemeDesignator = "113100", "DCM"
    profile.CodeMeaning = "Basic Application Confidentiality Profile"
    new.DeidentificationMethodCodeSequence = [profile]
    return new


def refuse_burned_in(paths: Sequence[Path]) -> None:
    """Raise ScanError if a DICOM file states that there is text in its pixels, which nothing here removes."""
    for place, path in enumerate(paths):
        with path.open("rb") as file:
            try:
                found = parse(DicomFile(file, HEADER_BYTES, PIECE_BYTES), ["BurnedInAnnotation"])
            except ScanError:  # no DICOM: it states nothing
                return
        if text(found, "BurnedInAnnotation").upper() == "YES":
            raise ScanError("anonymize=true cannot remove text from pixels, and BurnedInAnnotation is YES; black it out first", place)
