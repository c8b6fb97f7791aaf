"""Read FreeSurfer's MGH and MGZ (gzip) as a Scan."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader, header_dtype

from medgan_pl.data.readers.inflated import regular
from medgan_pl.data.readers.nan import REFUSE
from medgan_pl.data.readers.nifti import array_of, scan_of, skip, unpacked
from medgan_pl.data.readers.scan import Scan, ScanError, bound
from medgan_pl.data.readers.stacks import SEVERAL

HEADER_BYTES = 284
GOOD_RAS = slice(28, 30)  # the place of goodRASFlag
TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2"}
MAX_TAIL = 2**22  # bytes of scan parameters, commands and color tables behind the voxels


def read_mgh(path: Path, part: int | None = None, nan: str = REFUSE) -> Scan:
    """Return the volume at `path`; its content, not its name, decides whether it is gzip. `nan`: see `nan.outside_of`.

    `part` is the place of the volume in a file that holds several; None refuses such a file.
    Raise ScanError for a file that is not exactly such a volume or has no known orientation, OSError for a disk that fails.
    """
    with opened(path) as (header, stream):
        dims = [int(n) for n in header["dims"]]
        kind = int(header["type"])
        if kind not in TYPES:
            raise ScanError(f"voxels must be of type 0, 1, 3 or 4 (integers and floats), got {kind}; the header is damaged")
        if dims[3] > 1 and part is None:
            raise ScanError(f"4-D, {SEVERAL.format(dims[3])}")
        bound((dims[3],), 1)
        dtype = np.dtype(TYPES[kind])
        bound(tuple(dims[:3]), dtype.itemsize)
        affine = affine_of(header)
        size, before = math.prod(dims[:3]) * dtype.itemsize, part or 0
        skip(stream, before * size)
        stored = array_of(stream, dtype, tuple(dims[:3]), MAX_TAIL, (dims[3] - before - 1) * size)
    return scan_of(stored, affine, 1.0, 0.0, synthetic=False, nan=nan)


def mgh_volumes(path: Path) -> int:
    """Return the number of volumes in the file, by its header. Raise ScanError as `read_mgh`."""
    with opened(path) as (header, _):
        return int(header["dims"][3])


def mgh_affine(path: Path) -> np.ndarray:
    """Return the affine (4, 4), indices (x, y, z) -> RAS+ mm, from the header."""
    with opened(path) as (header, _):
        return affine_of(header)


def affine_of(header: MGHHeader) -> np.ndarray:
    with np.errstate(all="ignore"):  # NaN and infinity are refused later
        return np.array(header.get_affine(), np.float64)


@contextmanager
def opened(path: Path) -> Iterator[tuple[MGHHeader, BinaryIO]]:
    """Yield the header and the stream of the voxels behind it."""
    with regular(path).open("rb") as file:
        stream = unpacked(file)
        block = stream.read(HEADER_BYTES)
        if len(block) < HEADER_BYTES or int.from_bytes(block[:4], "big") != 1:
            raise ScanError("not an MGH file of version 1, or truncated in its header")
        if int.from_bytes(block[GOOD_RAS], "big") != 1:  # nibabel would put a guess in its place
            raise ScanError("orientation unknown (goodRASFlag is not 1): left could be right; convert it from the source again")
        fields = block[: header_dtype.itemsize].ljust(MGHHeader.template_dtype.itemsize, b"\0")  # without the parameters behind the voxels
        yield MGHHeader(fields, check=False), stream
