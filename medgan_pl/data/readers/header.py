"""The header of a DICOM file, read with bounds; an attribute that is not stated legibly is None, 0 or empty."""

import hashlib
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.config import IGNORE
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medgan_pl.data.files.headless import PREAMBLE, headless_start
from medgan_pl.data.readers.pictures import Bounded, faults
from medgan_pl.data.readers.scan import ScanError

HEADER_BYTES, PIECE_BYTES = 2**28, 2**20  # in total, each of at most 2^18 reads counts as 1 KiB; at once: the largest LUT has 128 KiB
ORIGIN = ["ImageType", "SeriesDescription"]
LAYOUT = ["Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"]
HEADER_TAGS = [
    *(
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SOPInstanceUID",
        "PatientID",
        "Modality",
        "SOPClassUID",
        "InstanceNumber",
        "RescaleType",
        *ORIGIN,
        *LAYOUT,
    ),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("SeriesNumber", "ComplexImageComponent", "EchoNumbers", "EchoTime", "TemporalPositionIdentifier", "AcquisitionNumber"),
]
# Facts that two images of one exposure share wherever both state them.
EXPOSURE_TAGS = ["IrradiationEventUID", "AcquisitionDate", "AcquisitionTime", "ImageLaterality", "Laterality", "ViewPosition"]
# Private elements, each with the element and the name of its owner: how many slices a file tiles into one image, and what GE reconstructs.
TILES = ((0x0019100A, 0x00190010, "SIEMENS MR HEADER"), (0x00651050, 0x00650010, "Image Private Header"))
GE_COMPONENT, COMPONENTS = (0x0043102F, 0x00430010, "GEMS_PARM_01"), {1: "PHASE", 2: "REAL", 3: "IMAGINARY"}
PRIVATE = [tag for element, owner, _ in (*TILES, GE_COMPONENT) for tag in (element, owner)]
UNPACKED = (ExplicitVRBigEndian, ExplicitVRLittleEndian)


@dataclass(frozen=True)
class Header:
    """The attributes of a file that grouping and checking need; None if the file does not state them legibly.

    - `series`: 32 hex digits, the hash of StudyInstanceUID and SeriesInstanceUID; the UIDs themselves are not kept. `study`: of the first.
    - `number`: the SeriesNumber. `tiles`: the slices that are tiled into one image (a MOSAIC). `component`: PHASE, REAL, … or "".
    - `patient`: the PatientID, for the caller to hash; `description`: for the user's choice of series. Never log or store either.
    - `own`: the hash of the SOPInstanceUID, "" without one.
    - `contrast`, `acquisition`: the numbers by which images at one place differ (echo, time).
    - `frame`: the place of a frame in a multi-frame file, with its own `rescale` (slope, intercept) and `facts`; None for a file.
    - `position`: (x, y, z) LPS mm of the center of the first pixel; `orientation`: the directions of increasing column and row.
    - `pixel_spacing_mm`: (between rows, between columns). `rescale_type`: the unit of the rescaled values; "" if it is not stated.
    - `study`: a hash as `series`. `intent`: FOR PROCESSING, FOR PRESENTATION or "". `exposure`: the facts EXPOSURE_TAGS, "" if not stated.
    """

    path: Path
    series: str | None
    patient: str | None = field(repr=False)
    description: str = field(repr=False)
    modality: str
    rescale_type: str
    image_type: tuple[str, ...]
    sop_class: str
    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing_mm: tuple[float, ...] | None
    thickness_mm: float | None
    between_mm: float | None
    instance: int
    has_pixels: bool
    synthetic: bool
    study: str | None = None
    intent: str = ""
    exposure: tuple[str, ...] = ()
    number: int = 0
    tiles: int = 1
    component: str = ""
    contrast: tuple[float, ...] = ()
    acquisition: int = 0
    own: str = ""
    frame: int | None = None
    rescale: tuple | None = field(default=None, compare=False)
    facts: dict[str, str] | None = field(default=None, compare=False, repr=False)

    @property
    def claims_image(self) -> bool:
        """Return True if the file says that it is an image; a report, a directory or a presentation state does not."""
        return self.rows > 0 or "Image" in UID(self.sop_class, IGNORE).name


def read_header(path: Path) -> Header:
    """Return the header of a DICOM file, without reading pixels, in about 1 ms. Several threads may call it.

    Raise ScanError if it is no DICOM file or a corrupt one.
    """
    with path.open("rb") as file, faults("a DICOM with a corrupt header"):
        bounded = DicomFile(file, HEADER_BYTES, PIECE_BYTES)
        found = parse(bounded, [*HEADER_TAGS, "PresentationIntentType", *EXPOSURE_TAGS, *PRIVATE])
        has_pixels = bounded.read(4) in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
        study, series = text(found, "StudyInstanceUID"), text(found, "SeriesInstanceUID")
        return Header(
            path=path,
            series=hidden(f"{study} {series}") if series else None,
            patient=text(found, "PatientID") or None,
            description=text(found, "SeriesDescription"),
            modality=text(found, "Modality"),
            rescale_type=text(found, "RescaleType").upper(),
            image_type=tuple(part.strip().upper() for part in text(found, "ImageType").split("\\")),
            sop_class=text(found, "SOPClassUID") or text(found.file_meta, "MediaStorageSOPClassUID"),
            rows=whole(found, "Rows", 0),
            columns=whole(found, "Columns", 0),
            frames=whole(found, "NumberOfFrames", 1),
            samples=whole(found, "SamplesPerPixel", 1),
            photometric=text(found, "PhotometricInterpretation"),
            position=numbers(found, "ImagePositionPatient", 3),
            orientation=numbers(found, "ImageOrientationPatient", 6),
            pixel_spacing_mm=lengths(found, "PixelSpacing", 2),
            thickness_mm=(lengths(found, "SliceThickness", 1) or (None,))[0],
            between_mm=(lengths(found, "SpacingBetweenSlices", 1) or (None,))[0],
            instance=whole(found, "InstanceNumber", 0),
            has_pixels=has_pixels,
            synthetic=synthetic(found),
            study=hidden(study) if study else None,
            own=hidden(text(found, "SOPInstanceUID")) if text(found, "SOPInstanceUID") else "",
            number=whole(found, "SeriesNumber", 0),
            contrast=tuple((numbers(found, name, 1) or (0.0,))[0] for name in ("EchoNumbers", "EchoTime", "TemporalPositionIdentifier")),
            acquisition=whole(found, "AcquisitionNumber", 0),
            tiles=max(private(found, *names) for names in TILES),
            component=text(found, "ComplexImageComponent").upper() or COMPONENTS.get(private(found, *GE_COMPONENT), ""),
            intent=text(found, "PresentationIntentType").upper(),
            exposure=tuple(exposure_fact(found, name) for name in EXPOSURE_TAGS),
        )


def exposure_fact(found: pydicom.Dataset, name: str) -> str:
    """Return the hash of a fact about the exposure, "" if it is not stated; times count to the second."""
    fact = text(found, name).upper()
    return hidden(fact.partition(".")[0] if name == "AcquisitionTime" else fact) if fact else ""


def hidden(identifier: str) -> str:
    """Return the hash of an identifier, 32 hex digits."""
    return hashlib.blake2b(identifier.encode(), digest_size=16).hexdigest()


# One attribute --------------------------------------------------------------------------------------------------------------------


class DicomFile(Bounded):
    """A DICOM file that is read in bounds. Raise ScanError for a file deflated as a whole, whose size no bound could hold.

    `headless`: True for a file without preamble; its positions count from its first element.
    """

    def __init__(self, file: BinaryIO, total: int, piece: int) -> None:
        super().__init__(file, total, piece)
        start = headless_start(file.read(PREAMBLE))
        self.headless, self.start = start is not None, start or 0
        self.size -= self.start
        self.seek(0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        target = (0, self.tell(), self.size)[whence] + offset
        if target < 0:
            raise ValueError("a position before the start of the file")
        return self.file.seek(self.start + min(target, self.size)) - self.start

    def tell(self) -> int:
        return self.file.tell() - self.start

    def read(self, size: int = -1) -> bytes:
        if size < 0:  # pydicom does this only to inflate the whole file, without a bound
            raise ScanError("a DICOM must not be deflated as a whole (1.2.840.10008.1.2.1.99); store it uncompressed")
        return super().read(size)


def parse(file: DicomFile, tags: list, pixels: bool = False) -> pydicom.FileDataset:
    """Return the elements `tags`; leave the file's position before its pixel data or at its end, unless `pixels` are read too.

    A file without file meta information that states no transfer syntax is not compressed; its first element shows how it is written.
    """
    try:
        found = pydicom.dcmread(file, stop_before_pixels=not pixels, specific_tags=tags, force=file.headless)
        if file.headless and "TransferSyntaxUID" not in found.file_meta:
            implicit, little = found.original_encoding
            found.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else UNPACKED[little]
        return found
    except InvalidDicomError:
        raise ScanError("not a DICOM file, or corrupt in its first bytes") from None


def text(found: pydicom.Dataset, name: str) -> str:
    """Return an attribute as text, several values joined by a backslash; "" if it is missing or illegible."""
    try:
        value = found.get(name)
    except Exception:  # illegible counts as absent: the code that needs it raises
        return ""
    if isinstance(value, MultiValue):
        return "\\".join(map(str, value))
    return "" if value is None else str(value).strip()


def numbers(found: pydicom.Dataset, name: str, count: int) -> tuple[float, ...] | None:
    """Return `count` finite numbers, else None."""
    try:
        values = tuple(float(part) for part in text(found, name).split("\\"))
    except ValueError:
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def lengths(found: pydicom.Dataset, name: str, count: int) -> tuple[float, ...] | None:
    """Return `count` finite numbers above 0, else None."""
    values = numbers(found, name, count)
    return values if values and min(values) > 0 else None


def whole(found: pydicom.Dataset, name: str, absent: int) -> int:
    """Return a whole number, `absent` if it is missing or illegible."""
    values = numbers(found, name, 1)
    return int(values[0]) if values else absent


def private(found: pydicom.Dataset, element: int, owner: int, name: str) -> int:
    """Return the whole number in a private element of an owner, 0 if it is missing or another owner's."""
    try:
        value = found[element].value if str(found[owner].value).strip() == name else 0
        return int.from_bytes(value[:2], "little") if isinstance(value, bytes) else int(float(value))
    except Exception:  # illegible counts as absent, as in `text`
        return 0


def synthetic(found: pydicom.Dataset) -> bool:
    """Return True if ImageType or SeriesDescription marks it as generated, as our own export does."""
    return "SYNTHETIC" in text(found, "ImageType").upper().split("\\") or text(found, "SeriesDescription").upper().startswith("SYNTHETIC")
