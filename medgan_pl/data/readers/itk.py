"""Read NRRD and MetaImage as a Scan, by their published formats.

SimpleITK is not used: version 2.5.7 returns uninitialized memory for a compressed MetaImage with a wrong checksum, hangs on NDims = -1,
crashes on a pattern as ElementDataFile, and treats an NRRD without a known space as LPS.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from medgan_pl.data.files.names import PAIRS
from medgan_pl.data.readers.inflated import PIECE, Inflated, regular
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
from medgan_pl.data.readers.nan import REFUSE
from medgan_pl.data.readers.nifti import array_of, data_of, scan_of
from medgan_pl.data.readers.scan import Scan, ScanError, bound

NRRD_SPACES |= {"ras": (1.0, 1.0, 1.0), "las": (-1.0, 1.0, 1.0), "lps": LPS}


def read_itk(path: Path, nan: str = REFUSE) -> Scan:
    """Return the volume at `path`: NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd), one channel, raw or compressed by gzip or zlib.

    A second file with the data must be in the same folder. `nan`: see `nan.outside_of`.
    Raise ScanError for a file that is not exactly such a volume or has no known orientation, OSError for a disk that fails.
    """
    with regular(path).open("rb") as file:
        nrrd = file.peek(4)[:4] == b"NRRD"
        layout = nrrd_layout(nrrd_fields(file)) if nrrd else meta_layout(meta_fields(file))
        bound(layout.shape, layout.dtype.itemsize)
        with data_stream(file, path, layout) as stream:
            stored = array_of(stream, layout.dtype, layout.shape, tail=0)
    return scan_of(stored, layout.affine, slope=1.0, inter=0.0, synthetic=layout.synthetic, nan=nan)


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the file and, if its header has one, its data file; if the header cannot be read, only the file.

    Raise ScanError if the data file does not exist: many images may have the same header.
    """
    if path.name.lower().endswith(PAIRS):
        return (path, data_of(path))
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
    """Yield the data as a stream: the rest of `file`, or its data file, inflated if needed."""
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
