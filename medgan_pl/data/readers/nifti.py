"""Read a NIfTI file as a Scan: check the header before allocating, and read a gzip to its end, so that its CRC is checked."""

import io
import math
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np

from medgan_pl.data.readers.geometry_notes import doubts_about
from medgan_pl.data.readers.inflated import PIECE, Inflated, regular
from medgan_pl.data.readers.nan import REFUSE, filled, outside_of
from medgan_pl.data.readers.scan import Scan, ScanError, bound, canonical, spacing_of
from medgan_pl.data.readers.stacks import SEVERAL

HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}  # by sizeof_hdr, the first field of the file
MILLIMETERS = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # xyzt_units & 7: unknown (mm by custom), m, mm, µm
VECTORS = (1004, 1005, 1006, 1007, 1008, 1009, 1010)  # intent codes of matrices, displacements, vectors, points
MAX_OFFSET = 2**24  # bytes of header and extensions (of other programs) before the data
MAX_TAIL = 4096  # writers pad to a disk block; with more, the header claims too few voxels
MAX_VALUE, MIN_VALUE = 1e9, 1e-30  # no scanner's values lie beyond these: the scaling is broken
MAX_MM = 1e6  # a kilometer from the scanner's center


def read_nifti(path: Path, part: int | None = None, nan: str = REFUSE) -> Scan:
    """Return the volume at `path`: NIfTI-1 or -2 in one file, or the header of a .hdr/.img pair; gzip or not, either byte order.

    scl_slope and scl_inter are applied.

    `part` is the place of the volume in a file that holds several; None refuses such a file. `nan`: see `nan.outside_of`.
    The affine is the sform if it is set, else the qform, in mm. The content, not the name, decides whether it is gzip.
    Raise ScanError for a file that is not exactly such a volume, OSError for a disk that fails.
    """
    with regular(path).open("rb") as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        stream = io.BufferedReader(Inflated(file), PIECE) if packed else file
        header, begun = header_of(stream)
        dtype, (shape, count) = kind_of(header), shape_of(header)
        if count > 1 and part is None:
            raise ScanError(f"{int(header['dim'][0])}-D, {SEVERAL.format(count)}")
        bound(shape, dtype.itemsize)
        slope, inter = scaling_of(header)
        affine = affine_of(header)
        notes = doubts_about(header, affine, MILLIMETERS[int(header["xyzt_units"]) & 7])
        size, before = math.prod(shape) * dtype.itemsize, part or 0
        with ExitStack() as stack:
            gap = offset_of(header) - begun
            if is_pair(header):
                stream, gap = unpacked(stack.enter_context(regular(data_of(path)).open("rb"))), offset_of(header)
            skip(stream, gap)
            skip(stream, before * size)
            stored = array_of(stream, dtype, shape, MAX_TAIL, (count - before - 1) * size)
    return replace(scan_of(stored, affine, slope, inter, bytes(header["descrip"]).startswith(b"SYNTHETIC"), nan), notes=notes)


def volumes_at(path: Path) -> int:
    """Return the number of volumes in the file, by its header. Raise ScanError as `read_nifti`."""
    with regular(path).open("rb") as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        return shape_of(header_of(io.BufferedReader(Inflated(file), PIECE) if packed else file)[0])[1]


def header_of(stream: BinaryIO) -> tuple[nib.Nifti1Header, int]:
    """Return the header, with every field as in the file (nibabel's image reader resets scl_slope), and its size in bytes."""
    start = stream.read(4)
    size, order = next(((n, o) for n in HEADERS for o in "<>" if start == np.array(n, f"{o}i4").tobytes()), (0, ""))
    if not size:
        raise ScanError("not a NIfTI file: it must begin with the size of its header, 348 or 540")
    block = start + stream.read(size - 4)
    if len(block) < size:
        raise ScanError(f"truncated: a header has {size} bytes, got {len(block)}; copy the file again")
    header = HEADERS[size](block, order, check=False)
    magic = bytes(header["magic"])[:3]
    if magic not in (b"n+1", b"n+2", b"ni1", b"ni2"):
        raise ScanError(
            "not a NIfTI file: its magic must be n+1, n+2, ni1 or ni2 (ANALYZE does not define left and right; convert it from the source)"
        )
    return header, size


def unpacked(file: BinaryIO) -> BinaryIO:
    """Return the content of a file, inflated if it is gzip."""
    return io.BufferedReader(Inflated(file), PIECE) if file.peek(2)[:2] == b"\x1f\x8b" else file


def is_pair(header: nib.Nifti1Header) -> bool:
    return bytes(header["magic"])[:3] in (b"ni1", b"ni2")


def heads_pair(path: Path) -> bool:
    """Return True for the header of a NIfTI pair; other programs, such as ENVI and ANALYZE, also name their headers .hdr."""
    try:
        with regular(path).open("rb") as file:
            return is_pair(header_of(unpacked(file))[0])
    except (ScanError, PermissionError):
        return False


def data_of(path: Path) -> Path:
    """Return the data file of a pair's header: .img for .hdr, in either case. Raise ScanError if there is none."""
    if not path.name.lower().endswith((".hdr", ".hdr.gz")):
        raise ScanError("the header of a .hdr/.img pair; name them so, or save it as one .nii file")
    start = path.name[: path.name.lower().rindex(".hdr")]
    for ending in (".img", ".IMG", ".img.gz", ".IMG.GZ", ".img.GZ"):
        if (found := path.with_name(start + ending)).is_file():
            return found
    raise ScanError("the .img file of this .hdr is not in its folder; copy both")


def kind_of(header: nib.Nifti1Header) -> np.dtype:
    """Return the type of the stored voxels, in the file's byte order; only real numbers are accepted."""
    try:
        dtype = header.get_data_dtype()
    except (KeyError, nib.spatialimages.HeaderDataError):
        raise ScanError(f"the datatype must be one of NIfTI, got code {int(header['datatype'])}; the header is damaged") from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        kind = "color" if dtype.names else dtype.name
        raise ScanError(f"voxels must be integers or floats of up to 64 bits, got {kind}; save its magnitude, or gray")
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        raise ScanError(f"{dtype.name} has {8 * dtype.itemsize} bits, the header states {int(header['bitpix'])}; it is damaged")
    return dtype


def shape_of(header: nib.Nifti1Header) -> tuple[tuple[int, ...], int]:
    """Return (x, y, z) and the number of volumes as the header states them; sides of 1 beyond the third are dropped."""
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise ScanError(f"dim[0] must be 1 to 7, got {count}; the header is damaged")
    shape = [int(n) for n in header["dim"][1 : 1 + count]]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) < 3:
        raise ScanError(f"a volume must have 3 dimensions, got {len(shape)}; a single slice is (x, y, 1)")
    if len(shape) > 3:
        bound(tuple(shape[3:]), 1)
        if int(header["intent_code"]) in VECTORS:
            raise ScanError("a volume must hold numbers, got vectors or matrices (intent_code); a deformation field is no image")
    return tuple(shape[:3]), math.prod(shape[3:])


def scaling_of(header: nib.Nifti1Header) -> tuple[float, float]:
    """Return scl_slope and scl_inter, or (1, 0), no scaling, if the slope is 0, as in the standard.

    Raise ScanError for a value that is not finite or is denormal. In training the processor reads a denormal number as 0
    (`torch.set_flush_denormal`), so such a slope would mean no scaling there, and a scaling elsewhere. The stored bits are tested.
    """
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not (np.isfinite(slope) and np.isfinite(inter)):
        raise ScanError(f"scl_slope and scl_inter must be finite, got {slope:g} and {inter:g}; the values' scale is unknown")
    for name in ("scl_slope", "scl_inter"):
        if is_denormal(header[name]):
            raise ScanError(f"{name} must be 0 or of magnitude {MIN_VALUE:g} or more, got a denormal number; repair it")
    return (slope, inter) if slope != 0 else (1.0, 0.0)


def offset_of(header: nib.Nifti1Header) -> int:
    """Return the byte at which the data begin."""
    offset, minimum = float(header["vox_offset"]), 0 if is_pair(header) else int(header["sizeof_hdr"]) + 4
    if not (minimum <= offset <= MAX_OFFSET and offset == int(offset)):
        raise ScanError(f"vox_offset must be a whole number from {minimum} to {MAX_OFFSET}, got {offset:g}; the header is damaged")
    return int(offset)


def affine_of(header: nib.Nifti1Header) -> np.ndarray:
    """Return the affine (4, 4), indices (x, y, z) -> RAS+ mm: the sform, else the qform."""
    unit = int(header["xyzt_units"]) & 7
    if unit not in MILLIMETERS:
        raise ScanError(f"xyzt_units must give lengths in m, mm or µm, got code {unit}; the header is damaged")
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1  # "if qfac is 0, 1 is meant" (nifti1.h); nibabel refuses it
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        raise ScanError("orientation unknown (qform_code and sform_code are 0): left could be right; convert it from the source again")
    try:
        with np.errstate(all="ignore"):  # NaN and infinity are refused later
            affine = np.array(header.get_sform() if header["sform_code"] > 0 else header.get_qform(), np.float64)
            affine[:3] *= MILLIMETERS[unit]
    except (ValueError, nib.spatialimages.HeaderDataError):
        raise ScanError("the qform must be a rotation with positive pixdim, got none; the position of the voxels is unknown") from None
    return affine


def skip(stream: BinaryIO, count: int) -> None:
    while count > 0:
        piece = len(stream.read(min(count, PIECE)))
        if not piece:
            raise ScanError("truncated: the file ends before its data; copy it again")
        count -= piece


def array_of(stream: BinaryIO, dtype: np.dtype, shape: tuple[int, ...], tail: int, after: int = 0) -> np.ndarray:
    """Return the next voxels of `stream`, x fastest, as an array of `shape` (x, y, z).

    Read to the end: `after` bytes of other volumes, and at most `tail` bytes more.
    """
    stored = np.empty(shape[::-1], dtype)
    got = stream.readinto(stored.reshape(-1).view(np.uint8))
    if got < stored.nbytes:
        raise ScanError(f"truncated: the header claims {stored.nbytes:,} bytes of data, got {got:,}; copy the file again")
    skip(stream, after)
    if len(stream.read(tail + 1)) > tail:
        raise ScanError(f"more than {tail} bytes follow the {stored.nbytes:,} bytes of data that the header claims; one of them is wrong")
    return stored.T


def is_denormal(value: np.ndarray) -> bool:
    """Return True for a floating-point number whose exponent is 0 and whose mantissa is not."""
    bits = 8 * value.dtype.itemsize
    stored = int.from_bytes(value.tobytes(), "big" if value.dtype.str.startswith(">") else "little")
    mantissa = np.finfo(value.dtype).nmant
    return not stored >> mantissa & ((1 << bits - 1 - mantissa) - 1) and bool(stored & ((1 << mantissa) - 1))


def scan_of(stored: np.ndarray, affine: np.ndarray, slope: float, inter: float, synthetic: bool, nan: str = REFUSE) -> Scan:
    """Return the canonical Scan of stored * slope + inter, computed in float64, stored in float32; stored (x, y, z), affine in RAS+.

    NaN becomes padding, or is refused. Raise ScanError as `nan.outside_of`, for values beyond any scanner's, for integers that float32
    would round, and as `canonical`.
    """
    if np.abs(affine).max() > MAX_MM:
        raise ScanError(
            f"the affine must be finite and within ±{MAX_MM:g} mm, got {np.abs(affine).max():g}; the position of the voxels is unknown"
        )
    outside = outside_of(stored, nan)
    check_values(stored, slope, inter, outside)
    padding = None if outside is None else np.ascontiguousarray(canonical(outside, affine)[0])
    turned, affine = canonical(stored, affine)
    if (slope, inter) == (1, 0):
        pixels = np.ascontiguousarray(turned, np.float32)
    else:
        pixels = np.empty(turned.shape, np.float32)
        step = max(1, 2**20 // (turned.shape[1] * turned.shape[2]))  # slices at once; float64 of all would need most of the memory
        for i in range(0, len(turned), step):
            pixels[i : i + step] = turned[i : i + step].astype(np.float64) * slope + inter
    bits = 8 * stored.dtype.itemsize if stored.dtype.kind in "iu" else None
    return Scan(filled(pixels, padding), spacing_of(affine), affine, padding, bits, synthetic)


def check_values(stored: np.ndarray, slope: float, inter: float, outside: np.ndarray | None) -> None:
    """Raise ScanError if float32 cannot hold stored * slope + inter; values at `outside` do not count."""
    kept = stored if outside is None else stored[~outside]
    low, high = float(kept.min()), float(kept.max())
    largest = max(abs(low * slope + inter), abs(high * slope + inter))
    if largest > MAX_VALUE or 0 < largest < MIN_VALUE:
        raise ScanError(
            f"the largest magnitude must be {MIN_VALUE:g} to {MAX_VALUE:g}, got {largest:g}; repair its scl_slope and scl_inter"
        )
    if (
        stored.dtype.kind in "iu" and largest > 0 and 2.0 ** (math.ceil(math.log2(largest)) - 24) > abs(slope)
    ):  # 24: bits of float32's mantissa
        raise ScanError(f"steps of {abs(slope):g} at {largest:.10g} would be rounded in float32; save it as float32 if that is acceptable")
