"""Read a film from a PNG, JPEG or TIFF, exactly as stored; and tools for all readers of untrusted files."""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from medgan_pl.data.readers.nan import REFUSE, filled, outside_of
from medgan_pl.data.readers.scan import Scan, ScanError, bound
from medgan_pl.data.readers.shades import CHUNK, Shades, as_hu, said_in

# Twice the largest mammogram; with the copies of decoding and rescaling it stays below 2 GiB.
BYTES_PER_PIXEL = 16
MAX_FILE_BYTES, MAX_SCANS = 2**28, 64
GRAY, COLOR = ("L", "I;16", "I;16B", "I;16L", "I", "F"), ("RGB", "RGBA", "LA")


class Silence:
    """Silence all warnings and pydicom's log: they quote values of the header, which may identify a patient.

    Both are settings of the whole process: the first thread to enter sets them, the last one to leave restores them.
    """

    def __init__(self) -> None:
        self.lock, self.inside, self.log = threading.Lock(), 0, logging.getLogger("pydicom")

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.before, self.filters = self.log.disabled, warnings.catch_warnings(action="ignore")
                self.filters.__enter__()
                self.log.disabled = True

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.filters.__exit__(*error)
                self.log.disabled = self.before


SILENCE = Silence()


@contextmanager
def faults(kind: str) -> Iterator[None]:
    """Turn any error of a library into ScanError, with `kind` and the error's class; its text may identify a patient.

    Errors of the disk (OSError with an errno) and of memory pass.
    """
    with SILENCE:
        try:
            yield
        except (ScanError, MemoryError):
            raise
        except Exception as error:  # libraries raise any error for corrupt bytes
            if isinstance(error, OSError) and error.errno:
                raise
            raise ScanError(f"{kind} ({type(error).__name__})") from None


class Bounded:
    """A file that returns at most `total` bytes (each read counts as 1 KiB more) and `piece` bytes at once.

    Headers may hold wrong lengths and millions of empty elements: no read passes the end, and their number is limited.
    Raise ScanError beyond the bounds.
    """

    def __init__(self, file: BinaryIO, total: int, piece: int) -> None:
        self.file, self.size, self.left, self.piece = file, os.fstat(file.fileno()).st_size, total, piece

    def read(self, size: int = -1) -> bytes:
        rest = self.size - self.tell()
        size = rest if size < 0 else min(size, rest)
        self.left -= size + 1024
        if size > self.piece or self.left < 0:
            raise ScanError(f"a header must not have elements above {self.piece:,} bytes, nor an endless number of them; repair the file")
        return self.file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        target = (0, self.file.tell(), self.size)[whence] + offset
        if target < 0:
            raise ValueError("a position before the start of the file")
        return self.file.seek(min(target, self.size))

    def tell(self) -> int:
        return self.file.tell()


def read_picture(path: Path, *, numbers: bool = False, meaning: str | Shades | None = None, nan: str = REFUSE) -> Scan:
    """Return the film of a PNG, JPEG or TIFF of one page: stored values as float32 (H, W), `bits` 8 to 16, None for 32-bit floating point.

    Gray in three equal channels or with an opaque alpha is accepted. A PNG is synthetic if it has a text chunk `Synthetic`. An orientation
    tag (EXIF, TIFF) is applied, as in every viewer. `numbers`: read it as a mask, of 1 bit or with a palette too, see `stored_numbers`.
    `meaning`: of a CT slice, see `shades.as_hu`; a PNG of ours states its own HU at black and at white, which count before those.
    `nan`: of a TIFF of floats, see `nan.outside_of`.
    Raise ScanError for anything else: color, several pages, 16-bit color (Pillow reads it as 8-bit), corrupt, truncated, too large.
    """
    with path.open("rb") as file, faults("corrupt or truncated"):
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            raise ScanError(f"a film's file may have at most {MAX_FILE_BYTES:,} bytes, got {size:,}")
        try:  # no other format: Pillow would start Ghostscript for an EPS
            image = Image.open(Bounded(file, 2 * size + 2**26, size), formats=("PNG", "JPEG", "TIFF"))
        except UnidentifiedImageError:
            raise ScanError("not a PNG, JPEG or TIFF, or truncated in its header") from None
        except Image.DecompressionBombError:
            raise ScanError("an image may have at most 67 million pixels, its header claims more; split it, or repair the header") from None
        bound((image.height, image.width), BYTES_PER_PIXEL)
        one_page(image)
        few_scans(image, file)
        bits = bit_depth(image, file)
        pixels = decode(image, bits, numbers)
        text = image.text if image.format == "PNG" else {}
    pixels = pixels.astype(np.float32)
    outside = outside_of(pixels, nan)
    scan = Scan(filled(pixels, outside), padding=outside, bits=None if image.mode == "F" else bits, synthetic="Synthetic" in text)
    return scan if meaning is None else as_hu(scan, said_in(text.get(CHUNK, "")) or meaning)


def one_page(image: Image.Image) -> None:
    try:
        image.seek(1)  # not n_frames, which reads a hostile TIFF's million pages
    except EOFError:
        return
    raise ScanError("a film must be one image, got 2 pages or more; save each as a separate file")


def few_scans(image: Image.Image, file: BinaryIO) -> None:
    """Raise ScanError for a progressive JPEG of too many scans, as each costs a pass over all pixels; encoders write 10."""
    here = file.tell()
    file.seek(0)
    if image.format == "JPEG" and file.read().count(b"\xff\xda") > MAX_SCANS:
        raise ScanError(f"a JPEG may have at most {MAX_SCANS} scans, got more; save it again")
    file.seek(here)


def bit_depth(image: Image.Image, file: BinaryIO) -> int:
    """Return the bits of a decoded value: Pillow scales 1 to 7 bits up to 8."""
    if image.format == "PNG":
        here = file.tell()
        file.seek(24)  # IHDR: bit depth
        depth = file.read(1)[0]
        file.seek(here)
        return max(8, depth)
    if image.format == "TIFF":
        return max(8, *image.tag_v2.get(258, (1,)))
    return 8


def decode(image: Image.Image, bits: int, numbers: bool = False) -> np.ndarray:
    """Return the pixels (H, W) in the file's units, white = high."""
    if image.mode in (*COLOR, "P", "PA") and bits > 8:
        raise ScanError(f"{bits}-bit color ({image.mode}) would be read as 8-bit; store the film as {bits}-bit gray")
    ImageOps.exif_transpose(image, in_place=True)
    if numbers and (stored := stored_numbers(image)) is not None:
        return stored
    shown = image.convert("RGBA") if image.mode in ("P", "PA") else image
    if shown.mode not in (*GRAY, *COLOR):
        raise ScanError(f"a film must be gray, got {'1 bit: black and white, as a mask' if shown.mode == '1' else shown.mode}")
    pixels = single_channel(np.asarray(shown), alpha=shown.mode in ("RGBA", "LA"))
    if image.mode == "I" and np.abs(pixels.astype(np.int64)).max() > 2**24:
        raise ScanError("whole numbers must be at most 2^24, beyond which float32 rounds them; store the film as 16-bit gray")
    if image.format == "TIFF" and image.tag_v2.get(262) == 0 and bits > 8:  # white is zero: Pillow inverts only 8-bit files
        if bits > 16:
            raise ScanError(f"a TIFF whose white is zero must have at most 16 bits, got {bits}; store it as black is zero")
        pixels = (2**bits - 1) - pixels.astype(np.float32)
    return pixels


def stored_numbers(image: Image.Image) -> np.ndarray | None:
    """Return 0 and 1 of a picture of 1 bit, and the places in a palette of colors; None for others: gray palettes mean their gray."""
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode != "P":
        return None
    colors = np.array(image.getpalette("RGB")).reshape(-1, 3)
    return np.asarray(image) if (colors != colors[:, :1]).any() else None


def single_channel(pixels: np.ndarray, alpha: bool = False) -> np.ndarray:
    """Return one channel (H, W) of (H, W) or (H, W, K). Raise ScanError for channels that differ and an alpha that hides pixels."""
    if pixels.ndim == 2:
        return pixels
    colors = pixels[..., :-1] if alpha else pixels
    if alpha and (pixels[..., -1] != 255).any():
        raise ScanError("a film must be opaque, got an alpha channel that hides pixels")
    if (colors != colors[..., :1]).any():
        raise ScanError(f"a film must have 1 channel, got {colors.shape[-1]} that differ; convert color to gray yourself")
    return colors[..., 0]
