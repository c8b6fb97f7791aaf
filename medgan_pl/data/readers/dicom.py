"""Single DICOM files: the one frame in native units, and a frame as a film.

Every value of a hostile file is checked before use: lengths are bounded by the file's, sizes by scan.bound, and only one frame is decoded.
"""

import io
import math
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, UnidentifiedImageError
from pydicom.encaps import get_frame, parse_basic_offsets
from pydicom.pixels import apply_rescale, apply_windowing, get_decoder, pixel_array
from pydicom.uid import JPEGExtended12Bit, RLELossless

from medgan_pl.data.readers.header import (
    HEADER_BYTES,
    LAYOUT,
    ORIGIN,
    PIECE_BYTES,
    DicomFile,
    lengths,
    parse,
    synthetic,
    text,
    whole,
)
from medgan_pl.data.readers.pictures import BYTES_PER_PIXEL, MAX_FILE_BYTES, faults, single_channel
from medgan_pl.data.readers.scan import NoDecoder, Scan, ScanError, bound

MAX_VALUE = 1e9  # no scanner's values lie beyond it: the rescaling is broken
RLE_BYTES = 2**24  # 16 MiB of RLE can expand by 64, to 1 GiB in 6 s, before pydicom checks
MONOCHROME, COLOUR = ("MONOCHROME1", "MONOCHROME2"), ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
STORED = ["BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"]
MEANING = ["PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"]
DISPLAY = ["VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"]
FRAME_TAGS = [*LAYOUT, *STORED, *MEANING, *DISPLAY, *ORIGIN, "PixelSpacing", "ImagerPixelSpacing"]


def read_frame(path: Path) -> tuple[np.ndarray, np.ndarray, pydicom.Dataset]:
    """Return the one frame of a file: values (H, W) float32 after the modality LUT or rescale, padding (H, W) bool, and the header.

    Raise ScanError for a fault of the file, NoDecoder if the decoder for its compression is not installed.
    """
    with path.open("rb") as file, faults("a DICOM that is corrupt or truncated"):
        header = parse(DicomFile(file, HEADER_BYTES, PIECE_BYTES), FRAME_TAGS)
        syntax = header.file_meta.get("TransferSyntaxUID")
        if syntax is None:
            raise ScanError("a DICOM must state its transfer syntax, got none; it is unknown how its pixels are stored")
        expected = pixel_bytes(header)
        file.seek(0)
        # the elements above are small, so that the pixels are the only large element
        whole_file = DicomFile(file, HEADER_BYTES + 3 * expected, 2 * expected + PIECE_BYTES)
        content = parse(whole_file, [*LAYOUT, *STORED, "PixelData"], pixels=True)
        if not content.get("PixelData"):
            raise ScanError("a DICOM image must have pixel data, got none")
        check_pixel_data(content.PixelData, header, syntax, expected)
    require_decoder(syntax, int(header.BitsStored))
    packed = f", compressed as {syntax.name}," if syntax.is_encapsulated else ""
    with faults(f"a DICOM whose pixels{packed} are corrupt or truncated"):
        # only frame 0: the data may hold any number of frames; keep unused bits, which pydicom would mask silently
        stored = single_channel(pixel_array(content, index=0, correct_unused_bits=False))
        if stored.shape != (header.Rows, header.Columns):
            raise ScanError(f"pixels must be {header.Rows} × {header.Columns}, got {' × '.join(map(str, stored.shape))}")
        padding = padded(stored, header)
        check_bits(stored[~padding] if padding.any() else stored, header)
        return rescaled(stored, header), padding, header


def pixel_bytes(header: pydicom.Dataset) -> int:
    """Return the number of bytes of the uncompressed frame. Raise ScanError for an invalid header."""
    if whole(header, "NumberOfFrames", 1) > 1:
        raise ScanError(
            f"an image must be one frame, got {header.NumberOfFrames} (an enhanced multi-frame file?); split it into single "
            "frames, or convert it with dcm2niix"
        )
    rows, columns, samples = (whole(header, name, 0) for name in ("Rows", "Columns", "SamplesPerPixel"))
    bound((rows, columns), BYTES_PER_PIXEL)
    photometric = text(header, "PhotometricInterpretation")
    if samples != (3 if photometric in COLOUR else 1) or photometric not in (*MONOCHROME, *COLOUR):
        raise ScanError("an image must be MONOCHROME1 or MONOCHROME2, or gray stored as RGB; its header states otherwise")
    allocated, stored, high = (whole(header, name, 0) for name in ("BitsAllocated", "BitsStored", "HighBit"))
    if allocated not in (8, 16, 32) or not 1 <= stored <= min(allocated, 24) or high != stored - 1:
        raise ScanError(
            "a pixel must have 8, 16 or 32 bits, of which at most the low 24 are used, "
            f"got {allocated} allocated, {stored} stored, high bit {high}; repair the header"
        )
    if whole(header, "PixelRepresentation", -1) not in (0, 1):
        raise ScanError("PixelRepresentation must be 0 (unsigned) or 1 (signed), got another or none; whether values are signed is unknown")
    if samples > 1 and whole(header, "PlanarConfiguration", -1) not in (0, 1):
        raise ScanError("PlanarConfiguration must be 0 or 1 for pixels of 3 samples, got another or none; repair the header")
    size = rows * columns * samples * allocated // 8
    if size > MAX_FILE_BYTES:
        raise ScanError(f"a frame may have at most {MAX_FILE_BYTES:,} bytes, its header claims {size:,}")
    return size


def check_pixel_data(content: bytes, header: pydicom.Dataset, syntax: pydicom.uid.UID, expected: int) -> None:
    """Raise ScanError for pixels of another length than in the header, of several frames, or of another compressed size."""
    if not syntax.is_encapsulated:
        if len(content) not in (expected, expected + expected % 2):
            raise ScanError(f"pixel data must be {expected:,} bytes as in the header, got {len(content):,}; truncated, or a wrong header")
        return
    if len(parse_basic_offsets(content)) > 1:
        raise ScanError("an image must be one frame, got several in its pixel data")
    if syntax == RLELossless and len(content) > min(RLE_BYTES, expected + expected // 32 + PIECE_BYTES):
        raise ScanError(
            f"RLE must not be larger than the pixels, nor have more than {RLE_BYTES:,} bytes, got {len(content):,}; store it uncompressed"
        )
    try:
        size = Image.open(io.BytesIO(get_frame(content, 0, number_of_frames=1)), formats=("JPEG", "JPEG2000")).size
    except (UnidentifiedImageError, SyntaxError):
        return  # other compressions: the decoder checks
    if size != (header.Columns, header.Rows):
        raise ScanError(f"compressed pixels must be {header.Rows} × {header.Columns} as in the header, got {size[1]} × {size[0]}")


def require_decoder(syntax: pydicom.uid.UID, bits: int) -> None:
    """Raise NoDecoder if no decoder for this compression is installed; it is no fault of the file."""
    if not syntax.is_encapsulated:
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ScanError("pixels are compressed in an unknown way; store them uncompressed") from None
    if syntax == JPEGExtended12Bit and bits > 8:
        # Pillow and GDCM claim to read JPEG Extended, but refuse more than 8 bits
        if set(decoder.available_plugins) <= {"pillow", "gdcm"}:
            raise NoDecoder(
                f"a DICOM compressed as {syntax.name} with {bits} bits needs a decoder that is not installed (Pillow and GDCM read 8 bits "
                "only); `pip install pylibjpeg pylibjpeg-libjpeg`, or store it uncompressed, as by dcmdjpeg of DCMTK"
            )
    elif not decoder.is_available:
        raise NoDecoder(
            f"a DICOM compressed as {syntax.name} needs a decoder that is not installed; "
            "`pip install python-gdcm` (our extra is medgan_pl[compressed]), or store it uncompressed"
        )


def check_bits(stored: np.ndarray, header: pydicom.Dataset) -> None:
    """Raise ScanError for values beyond BitsStored: an overlay in the unused bits, or a wrong header."""
    bits, signed = int(header.BitsStored), header.PixelRepresentation == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if stored.size and not low <= stored.min() <= stored.max() <= high:
        raise ScanError(
            f"stored values must lie in {low} … {high} ({bits} bits, {'' if signed else 'un'}signed), got {stored.min()} … {stored.max()}; "
            "an overlay in the unused bits, or a wrong BitsStored or PixelRepresentation: repair the header"
        )


def padded(stored: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """Return a mask of the stored values in PixelPaddingValue … PixelPaddingRangeLimit (DICOM C.7.5.1.1.2); all False without them."""
    if header.get("PixelPaddingValue") is None:
        return np.zeros(stored.shape, bool)
    limit = header.get("PixelPaddingRangeLimit")
    ends = [int(header.PixelPaddingValue), int(header.PixelPaddingValue if limit is None else limit)]
    span = 2 ** int(header.BitsAllocated)
    if header.PixelRepresentation == 1:  # some vendors write it unsigned: 63536 is -2000
        ends = [end - span if end >= span // 2 else end for end in ends]
    else:
        ends = [end + span if end < 0 else end for end in ends]
    return (stored >= min(ends)) & (stored <= max(ends))


def rescaled(stored: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """Convert stored values to native units, in float64, returned as float32; without a LUT or a slope they are unchanged."""
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    if header.get("ModalityLUTSequence"):
        return looked_up(stored, header.ModalityLUTSequence[0], header)[0].astype(np.float32)
    if slope is None and intercept is None:
        return stored.astype(np.float32)
    if slope is None or intercept is None:
        raise ScanError("RescaleSlope and RescaleIntercept must come together, got one of them; repair the header")
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise ScanError("RescaleSlope and RescaleIntercept must be finite and the slope not 0; repair the header")
    values = apply_rescale(stored, header).astype(np.float32)
    if np.abs(values).max() > MAX_VALUE:
        raise ScanError(f"values must be within ±{MAX_VALUE:g}, got up to {np.abs(values).max():g} after RescaleSlope; repair the header")
    return values


def looked_up(values: np.ndarray, item: pydicom.Dataset, header: pydicom.Dataset) -> tuple[np.ndarray, int]:
    """Apply the table of a modality or VOI LUT item (DICOM C.11.1.1.1) to values; return the result and its bits.

    pydicom is not used: its indices wrap around, at 256 entries for 8-bit tables, at 65536 for rescaled values.
    """
    entries, first, bits = (int(n) for n in item.LUTDescriptor)
    entries, content = entries % 2**16 or 2**16, item.LUTData
    if isinstance(content, bytes):
        wide = ("<u2", ">u2")[not header.original_encoding[1]]
        content = np.frombuffer(content, np.uint8 if len(content) in (entries, entries + entries % 2) and bits <= 8 else wide)
    table = np.asarray(content, np.int64).reshape(-1)[:entries]
    if not 8 <= bits <= 16 or len(table) != entries or table.min() < 0 or table.max() >= 2**bits:
        raise ScanError("a LUT must have the entries and bits of its descriptor, got others; repair the header")
    return table[np.clip(np.rint(values).astype(np.int64) - first, 0, entries - 1)], bits


def read_film(path: Path, voi: bool = False) -> Scan:
    """Return one frame as a film, brighter = denser: rescaled, MONOCHROME1 inverted, padding set to the minimum outside it.

    With `voi`, values are as displayed, by the first VOI LUT or window of the file, in [0, 2^bits - 1] instead of native units.
    Raise ScanError for a fault of the file, NoDecoder if the decoder for its compression is not installed.
    """
    values, padding, header = read_frame(path)
    if padding.all():
        raise ScanError("a film must have pixels besides padding, got padding in every pixel")
    with faults("a DICOM whose VOI is corrupt"):
        bits = int(header.BitsStored)
        if voi:
            values = displayed(values, header, bits)
        inside = values[~padding]
        if header.PhotometricInterpretation == "MONOCHROME1":
            values = (2**bits - 1 if voi else inside.max() + inside.min()) - values
        values[padding] = values[~padding].min()
    return Scan(
        values,
        spacing_mm=lengths(header, "PixelSpacing", 2) or lengths(header, "ImagerPixelSpacing", 2),
        padding=padding if padding.any() else None,
        bits=bits,
        synthetic=synthetic(header),
    )


def displayed(values: np.ndarray, header: pydicom.Dataset, bits: int) -> np.ndarray:
    """Map native values (H, W) by the file's first VOI LUT, else its first window, to float32 in [0, 2^bits - 1]."""
    if header.PhotometricInterpretation not in MONOCHROME:
        raise ScanError("VOI needs MONOCHROME1 or MONOCHROME2, got color; choose percentiles instead")
    if header.get("VOILUTSequence"):
        shown, depth = looked_up(values, header.VOILUTSequence[0], header)
        low, high = 0, 2**depth - 1
    elif header.get("WindowCenter") is not None and header.get("WindowWidth") is not None:
        low, high = apply_windowing(np.array([-np.inf, np.inf]), header)  # the values below and above the window
        shown = apply_windowing(values, header)
    else:
        raise ScanError("the file must have a VOI LUT or a window for its display, got neither; choose percentiles instead of VOI")
    shown = ((shown - low) / (high - low) * (2**bits - 1)).astype(np.float32)
    if not np.isfinite(shown).all():
        raise ScanError("the window must be finite and not empty; choose percentiles instead of VOI")
    return shown
