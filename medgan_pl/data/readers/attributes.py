"""Read the attributes of a DICOM file: bounded, and None if the file does not state them legibly."""

import math

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue

from medgan_pl.data.readers.pictures import Bounded
from medgan_pl.data.readers.scan import ScanError

HEADER_BYTES, PIECE_BYTES = 2**28, 2**20  # in total, each of at most 2^18 reads counts as 1 KiB; at once: the largest LUT has 128 KiB

MAX_VALUE = 1e9


class DicomFile(Bounded):
    def read(self, size: int = -1) -> bytes:
        if size < 0:  # pydicom does this only to inflate the whole file, without a bound
            raise ScanError("a DICOM must not be deflated as a whole (1.2.840.10008.1.2.1.99); store it uncompressed")
        return super().read(size)


def parse(file: Bounded, tags: list[str]) -> pydicom.FileDataset:
    """Return the elements `tags`; leave the file's position before its pixel data or at its end."""
    try:
        return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
    except InvalidDicomError:
        raise ScanError("not a DICOM file, or corrupt in its first bytes") from None


def text(found: pydicom.Dataset, name: str) -> str:
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
    values = numbers(found, name, count)
    return values if values and min(values) > 0 else None


def whole(found: pydicom.Dataset, name: str, absent: int) -> int:
    values = numbers(found, name, 1)
    return int(values[0]) if values else absent
