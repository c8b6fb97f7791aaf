"""The frames of an enhanced multi-frame DICOM (PS3.3 A.36, A.38): the header and the values of each, as those of a file of its own."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import pixel_array
from pydicom.uid import RLELossless

from medgan_pl.data.readers.dicom import (
    FRAME_TAGS,
    RLE_BYTES,
    STORED,
    check_bits,
    padded,
    pixel_bytes,
    read_frame,
    require_decoder,
    rescaled,
)
from medgan_pl.data.readers.facts import facts_of
from medgan_pl.data.readers.header import HEADER_BYTES, LAYOUT, PIECE_BYTES, DicomFile, Header, lengths, numbers, parse, text, whole
from medgan_pl.data.readers.pictures import faults, single_channel
from medgan_pl.data.readers.scan import NoDecoder, ScanError, bound

GROUPS_BYTES = 2**26  # of the sequence that holds the facts of all frames: 2,000 frames have about 4 MiB
GROUPS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]
MEASURES, PLACE, DIRECTION = "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence"
TYPES = {"CT": "CTImageFrameTypeSequence", "MR": "MRImageFrameTypeSequence"}
# Classes of enhanced CT, MR and PET images, and of those converted from others: one frame also has its facts in functional groups.
ENHANCED = tuple(f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in ("2.1", "2.2", "4.1", "4.4", "128.1", "130"))


def slices_of(headers: Sequence[Header]) -> list[Header]:
    """Return one header for each slice: that of a file of one frame, and one for each frame of a multi-frame file.

    Raise ScanError for a multi-frame file that does not state the facts of each frame.
    """
    return [one for header in headers for one in (frames_of(header) if in_frames(header) else [header])]


def in_frames(header: Header) -> bool:
    """Return True for a file whose facts are those of its frames."""
    return header.frames > 1 or (header.position is None and header.sop_class in ENHANCED)


def frames_of(header: Header) -> list[Header]:
    """Return the headers of the frames of a file, in the file's order."""
    with header.path.open("rb") as file, faults("a DICOM with a corrupt header"):
        found = parse(DicomFile(file, HEADER_BYTES, GROUPS_BYTES), GROUPS)
        shared = (found.get(GROUPS[0]) or [pydicom.Dataset()])[0]
        frames = found.get(GROUPS[1]) or []
        if len(frames) != header.frames:
            raise ScanError(
                f"a multi-frame file must state the place of each of its {header.frames} frames (Per-Frame Functional Groups), got "
                f"{len(frames)}; split it into single frames"
            )
        return [frame_of(header, Groups(shared, frame), i) for i, frame in enumerate(frames)]


class Groups:
    """The functional groups of one frame: its own, else those that all frames share."""

    def __init__(self, shared: pydicom.Dataset, own: pydicom.Dataset) -> None:
        self.shared, self.own = shared, own

    def __call__(self, sequence: str) -> pydicom.Dataset:
        items = self.own.get(sequence) or self.shared.get(sequence)
        return items[0] if items else pydicom.Dataset()


def frame_of(header: Header, groups: Groups, i: int) -> Header:
    """Return the header of frame `i`."""
    kind, content = groups(TYPES.get(header.modality, TYPES["MR"])), groups("FrameContentSequence")
    image_type = text(kind, "FrameType").upper().split("\\") if text(kind, "FrameType") else header.image_type
    scale, measures = groups("PixelValueTransformationSequence"), groups(MEASURES)
    echo = numbers(groups("MREchoSequence"), "EffectiveEchoTime", 1)
    b_value = numbers(groups("MRDiffusionSequence"), "DiffusionBValue", 1)
    return replace(
        header,
        frames=1,
        frame=i,
        image_type=tuple(part.strip() for part in image_type),
        component=text(kind, "ComplexImageComponent").upper() or header.component,
        position=numbers(groups(PLACE), "ImagePositionPatient", 3),
        orientation=numbers(groups(DIRECTION), "ImageOrientationPatient", 6),
        pixel_spacing_mm=lengths(measures, "PixelSpacing", 2),
        thickness_mm=(lengths(measures, "SliceThickness", 1) or (None,))[0],
        between_mm=(lengths(measures, "SpacingBetweenSlices", 1) or (None,))[0],
        contrast=(echo or (0.0,))[0:1] + (b_value or (0.0,))[0:1] + (float(whole(content, "TemporalPositionIndex", 0)),),
        instance=i + 1,
        rescale_type=text(scale, "RescaleType").upper() or header.rescale_type,
        rescale=(scale.get("RescaleSlope"), scale.get("RescaleIntercept")) if scale else None,
        facts=facts_of(groups.own),
    )


class Frames:
    """The decoder of a multi-frame file, which is read once. Raise ScanError and NoDecoder as `dicom.read_frame`."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file, faults("a DICOM that is corrupt or truncated"):
            self.header = parse(DicomFile(file, HEADER_BYTES, PIECE_BYTES), FRAME_TAGS)
            self.syntax = self.header.file_meta.get("TransferSyntaxUID")
            if self.syntax is None:
                raise ScanError("a DICOM must state its transfer syntax, got none; it is unknown how its pixels are stored")
            count = whole(self.header, "NumberOfFrames", 1)
            self.header.NumberOfFrames = 1
            size = pixel_bytes(self.header)
            bound((count, whole(self.header, "Rows", 0), whole(self.header, "Columns", 0)), 4)
            expected = size * count
            file.seek(0)
            self.content = pydicom.dcmread(
                DicomFile(file, HEADER_BYTES + 3 * expected, max(GROUPS_BYTES, 2 * expected + PIECE_BYTES)),
                specific_tags=[*LAYOUT, *STORED, "PixelData"],
            )
            pixels = self.content.get("PixelData") or b""
            if not self.syntax.is_encapsulated and len(pixels) not in (expected, expected + expected % 2):
                raise ScanError(
                    f"pixel data must be {expected:,} bytes as in the header, got {len(pixels):,}; truncated, or a wrong header"
                )
            if self.syntax == RLELossless and len(pixels) > min(RLE_BYTES, expected + expected // 32 + PIECE_BYTES):
                raise ScanError(f"RLE must not be larger than the pixels, nor have more than {RLE_BYTES:,} bytes; store it uncompressed")
        require_decoder(self.syntax, int(self.header.BitsStored))

    def read(self, slice_header: Header) -> tuple[np.ndarray, np.ndarray, pydicom.Dataset]:
        """Return the values, the padding and the header of a frame, as `dicom.read_frame`."""
        header = copy(self.header)
        if slice_header.rescale is not None:
            header.RescaleSlope, header.RescaleIntercept = slice_header.rescale
        with faults("a DICOM whose pixels are corrupt or truncated"):
            stored = single_channel(pixel_array(self.content, index=slice_header.frame, correct_unused_bits=False))
            if stored.shape != (header.Rows, header.Columns):
                raise ScanError(f"pixels must be {header.Rows} × {header.Columns}, got {' × '.join(map(str, stored.shape))}")
            padding = padded(stored, header)
            check_bits(stored[~padding] if padding.any() else stored, header)
            return rescaled(stored, header), padding, header


def same_pixels(one: Header, other: Header) -> bool:
    """Return True if two files hold the same values, and multi-frame files the same pixel data; False for what cannot be read."""
    try:
        if in_frames(one) or in_frames(other):
            return Frames(one.path).content.PixelData == Frames(other.path).content.PixelData
        return np.array_equal(read_frame(one.path)[0], read_frame(other.path)[0])
    except (ScanError, NoDecoder):
        return False
