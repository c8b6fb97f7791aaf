"""Facts by which images at one place differ: echo, b-value, time, kernel; of a file, or of a frame of a multi-frame file."""

from collections.abc import Iterator
from pathlib import Path

import pydicom

from medgan_pl.data.readers.header import HEADER_BYTES, PIECE_BYTES, DicomFile, parse, text
from medgan_pl.data.readers.pictures import faults

# In the order in which they divide a series; the first comes outermost.
CONTRASTS = [
    *("EchoNumbers", "EchoTime", "EffectiveEchoTime", "DiffusionBValue", "DiffusionGradientOrientation", "TemporalPositionIdentifier"),
    *("TemporalPositionIndex", "StackID", "ImageType", "ComplexImageComponent", "InversionTime", "FlipAngle", "RepetitionTime"),
    *("SequenceName", "PulseSequenceName", "ConvolutionKernel", "KVP", "ReconstructionDiameter", "ContrastBolusAgent", "SeriesNumber"),
    *("NominalPercentageOfCardiacPhase", "AcquisitionNumber"),
]
# Times, which may differ from slice to slice: the k-th at each place belongs to volume k.
TIMES = [
    *("TriggerTime", "NominalCardiacTriggerDelayTime", "FrameReferenceTime", "FrameAcquisitionDateTime", "FrameReferenceDateTime"),
    *("AcquisitionDateTime", "AcquisitionTime"),
]
# b-values and directions as Siemens, GE and Philips write them, and Philips' number of a phase.
PRIVATE = [0x0019100C, 0x0019100E, 0x00431039, 0x20011003, 0x20011008]
PLACES = ("PlanePositionSequence", "PlaneOrientationSequence", "PlanePositionVolumeSequence", "DerivationImageSequence")
MAX_TEXT, MAX_DEPTH = 200, 6


def facts_in(path: Path) -> dict[str, str]:
    """Return the facts of a file of one image: name -> text. Raise ScanError for a corrupt header."""
    with path.open("rb") as file, faults("a DICOM with a corrupt header"):
        found = parse(DicomFile(file, HEADER_BYTES, PIECE_BYTES), [*CONTRASTS, *TIMES, *PRIVATE])
    facts = {name: text(found, name) for name in (*CONTRASTS, *TIMES)}
    return facts | {f"{tag:08x}": str(found[tag].value) for tag in PRIVATE if tag in found}


def facts_of(groups: pydicom.Dataset) -> dict[str, str]:
    """Return all facts in the functional groups of one frame but its place: name -> text.

    DimensionIndexValues (DICOM C.7.6.17) are one fact each.
    """
    facts: dict[str, str] = {}
    for element, value in leaves(groups):
        name = element.keyword or f"{int(element.tag):08x}"
        parts = value.split("\\") if name == "DimensionIndexValues" else [value]
        facts |= {f"{name}{i or ''}": part for i, part in enumerate(parts)}
    return facts


def leaves(groups: pydicom.Dataset, depth: int = 0) -> Iterator[tuple[pydicom.DataElement, str]]:
    """Yield the short elements of a data set and of its sequences, each with its value as text."""
    for element in groups:
        if element.VR == "SQ":
            if element.keyword not in PLACES and depth < MAX_DEPTH:
                for item in element.value:
                    yield from leaves(item, depth + 1)
        elif not isinstance(element.value, bytes):
            several = element.VM > 1
            value = "\\".join(map(str, element.value)) if several else str(element.value)
            if len(value) <= MAX_TEXT:
                yield element, value


def sortable(value: str) -> tuple:
    """Return the key by which values of a fact are ordered: no value first, then numbers, then words and several numbers (directions)."""
    try:
        return (1, float(value)) if value else (0,)
    except ValueError:
        return (2, value)
