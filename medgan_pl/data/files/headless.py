"""DICOM files without their head: the data set begins at once, without preamble and often without file meta information."""

from pathlib import Path

PREAMBLE = 132  # bytes, the last four are DICM
STRAY = 8  # bytes in front of the first element, left over where the head was cut off
# Value representations of the elements that a data set begins with.
FIRST_VRS = (b"CS", b"UI", b"UL", b"OB", b"DA", b"TM", b"DT", b"SH", b"LO", b"AE", b"PN")
# Elements of the groups 0002 and 0008 that a data set begins with.
FIRST_ELEMENTS = (*range(4), 0x05, 0x06, 0x08, *range(0x12, 0x17), 0x18)
MAX_FIRST = 256  # bytes of the first element of a file that does not name its value representation


def headless_start(first: bytes) -> int | None:
    """Return the place of the first element in a file's first bytes, if it is a DICOM file without preamble; else None."""
    if first[PREAMBLE - 4 : PREAMBLE] == b"DICM":
        return None
    for start in range(STRAY + 1):
        tag, kind = first[start : start + 4], first[start + 4 : start + 8]
        for order in ("little", "big"):
            group, element = (int.from_bytes(tag[i : i + 2], order) for i in (0, 2))
            if len(kind) < 4 or group not in (2, 8) or element not in FIRST_ELEMENTS:
                continue
            implicit = order == "little" and start == 0 and int.from_bytes(kind, order) <= MAX_FIRST
            if kind[:2] in FIRST_VRS or implicit:
                return start
    return None


def begins_as_dicom(path: Path) -> bool:
    """Return True for a file with the preamble of DICOM, or with a first element."""
    with path.open("rb") as file:
        first = file.read(PREAMBLE)
    return first[PREAMBLE - 4 :] == b"DICM" or headless_start(first) is not None
