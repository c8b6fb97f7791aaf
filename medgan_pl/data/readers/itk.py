"""NRRD and MetaImage as a Scan, by their published formats.

Not by SimpleITK, which as of 2.5.7 gives back uninitialised memory for a compressed MetaImage with a wrong checksum, hangs on NDims = -1,
crashes on a pattern as ElementDataFile, and takes an NRRD without a known space for LPS.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from medgan_pl.data.readers.itk_headers import (
    LPS,
    NO_DATA_FILE,
    NRRD_SPACES,
    Layout,
    beside,
    meta_fields,
    meta_layout,
    nrrd_fields,
    nrrd_layout,
)
from medgan_pl.data.readers.nifti import PIECE, Inflated, array_of, regular, scan_of
from medgan_pl.data.readers.scan import Scan, ScanError, bound

NRRD_SPACES |= {"ras": (1.0, 1.0, 1.0), "las": (-1.0, 1.0, 1.0), "lps": LPS}


def read_itk(path: Path) -> Scan:
    """The volume at `path`: NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd), one channel, raw or packed by gzip or zlib.

    Data in a second file are taken from the same folder only. Raises ScanError for a file that is not exactly such a volume or does not
    say where left is, OSError for a disk that fails.
    """
    with regular(path).open("rb") as file:
        nrrd = file.peek(4)[:4] == b"NRRD"
        layout = nrrd_layout(nrrd_fields(file)) if nrrd else meta_layout(meta_fields(file))
        bound(layout.shape, layout.dtype.itemsize)
        with data_stream(file, path, layout) as stream:
            stored = array_of(stream, layout.dtype, layout.shape, tail=0)
    return scan_of(stored, layout.affine, slope=1.0, inter=0.0, synthetic=layout.synthetic)


def files_of(path: Path) -> tuple[Path, ...]:
    """The file and, where its header names one beside it, the file of its data; for a header that cannot be read, itself alone.

    Raises ScanError where the file of its data is not there: many images may have the same header.
    """
    try:
        with regular(path).open("rb") as file:
            nrrd = file.peek(4)[:4] == b"NRRD"
            name = (nrrd_layout(nrrd_fields(file)) if nrrd else meta_layout(meta_fields(file))).data_file
    except ScanError:
        return (path,)
    if name is None:
        return (path,)
    data = beside(path, name)
    if not data.is_file():
        raise ScanError(NO_DATA_FILE)
    return (path, data)


@contextmanager
def data_stream(file: BinaryIO, path: Path, layout: Layout) -> Iterator[BinaryIO]:
    """The data as a stream: the rest of `file`, or a second file beside it, inflated if need be."""
    if layout.data_file is None:
        yield inflated(file, layout.packed)
        return
    try:
        second = regular(beside(path, layout.data_file)).open("rb")
    except FileNotFoundError:
        raise ScanError(NO_DATA_FILE) from None
    with second:
        yield inflated(second, layout.packed)


def inflated(file: BinaryIO, packed: bool) -> BinaryIO:
    return io.BufferedReader(Inflated(file), PIECE) if packed else file
