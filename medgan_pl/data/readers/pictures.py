"""A film from a PNG, JPEG or TIFF, exactly as stored; and what every reader of untrusted files here stands on."""

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

from medgan_pl.data.readers.scan import Scan, ScanError, bound

# Twice the largest mammogram; with the copies that decoding and rescaling make it stays below 2 GiB.
BYTES_PER_PIXEL = 16
MAX_FILE_BYTES, MAX_SCANS = 2**28, 64
GREY, COLOUR = ("L", "I;16", "I;16B", "I;16L", "I", "F"), ("RGB", "RGBA", "LA")


class Silence:
    """Silences the warnings of all and the log of pydicom, which quote values of the header, and those may identify.

    Both are settings of the whole process: of several threads the first one in sets them and the last one out restores them.
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
    """Turns whatever a file's content makes a library raise into ScanError, `kind` and the error's class; its text may identify.

    Faults of the disk (OSError with an errno) and of memory pass.
    """
    with SILENCE:
        try:
            yield
        except (ScanError, MemoryError):
            raise
        except Exception as error:  # libraries raise whatever the bytes provoke
            if isinstance(error, OSError) and error.errno:
                raise
            raise ScanError(f"{kind} ({type(error).__name__})") from None


class Bounded:
    """A file to be read that gives at most `total` bytes (each read counts as 1 KiB more) and `piece` bytes at a time.

    Headers may hold lengths that are lies and millions of empty parts: no read goes beyond the end, and all of them come to an end.
    Raises ScanError beyond the bounds.
    """

    def __init__(self, file: BinaryIO, total: int, piece: int) -> None:
        self.file, self.size, self.left, self.piece = file, os.fstat(file.fileno()).st_size, total, piece

    def read(self, size: int = -1) -> bytes:
        rest = self.size - self.file.tell()
        size = rest if size < 0 else min(size, rest)
        self.left -= size + 1024
        if size > self.piece or self.left < 0:
            raise ScanError(f"a header must not have pieces above {self.piece:,} bytes, nor an endless number of them; repair the file")
        return self.file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        target = (0, self.file.tell(), self.size)[whence] + offset
        if target < 0:
            raise ValueError("a position before the start of the file")
        return self.file.seek(min(target, self.size))

    def tell(self) -> int:
        return self.file.tell()


def read_picture(path: Path) -> Scan:
    """The film in a PNG, JPEG or TIFF of one page: stored values as float32 (H, W), `bits` 8 to 16, or None for 32-bit floating point.

    Three equal channels or an opaque alpha are gray stored wastefully, and taken. A PNG is synthetic if it has a text chunk `Synthetic`.
    An orientation tag (EXIF, TIFF) is obeyed, as every viewer does.
    Raises ScanError for anything else: color, several pages, 16-bit color (Pillow reads it as 8-bit), corrupt, truncated, too large.
    """
    with path.open("rb") as file, faults("corrupt or truncated"):
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            raise ScanError(f"a film's file may have {MAX_FILE_BYTES:,} bytes at most, got {size:,}")
        try:  # no other format: Pillow would start Ghostscript for what claims to be an EPS
            image = Image.open(Bounded(file, 2 * size + 2**26, size), formats=("PNG", "JPEG", "TIFF"))
        except UnidentifiedImageError:
            raise ScanError("not a PNG, JPEG or TIFF, or cut off in its header") from None
        except Image.DecompressionBombError:
            raise ScanError(
                "an image may hold 67 million pixels at most, its header claims more; cut it up, or repair the header"
            ) from None
        bound((image.height, image.width), BYTES_PER_PIXEL)
        one_page(image)
        few_scans(image, file)
        bits = bit_depth(image, file)
        pixels = decode(image, bits)
        synthetic = image.format == "PNG" and "Synthetic" in image.text
    return Scan(pixels.astype(np.float32), bits=None if image.mode == "F" else bits, synthetic=synthetic)


def one_page(image: Image.Image) -> None:
    try:
        image.seek(1)  # not n_frames, which walks through a hostile TIFF's million pages
    except EOFError:
        return
    raise ScanError("a film must be one picture, got 2 pages or more; save each as a file of its own")


def few_scans(image: Image.Image, file: BinaryIO) -> None:
    """Refuses a progressive JPEG of endless scans, each of which costs a pass over all pixels; encoders write 10."""
    here = file.tell()
    file.seek(0)
    if image.format == "JPEG" and file.read().count(b"\xff\xda") > MAX_SCANS:
        raise ScanError(f"a JPEG may have {MAX_SCANS} scans at most, got more; save it anew")
    file.seek(here)


def bit_depth(image: Image.Image, file: BinaryIO) -> int:
    """Bits of a value as it will be decoded: Pillow scales 1 to 7 bits up to 8."""
    if image.format == "PNG":
        here = file.tell()
        file.seek(24)  # IHDR: bit depth
        depth = file.read(1)[0]
        file.seek(here)
        return max(8, depth)
    if image.format == "TIFF":
        return max(8, *image.tag_v2.get(258, (1,)))
    return 8


def decode(image: Image.Image, bits: int) -> np.ndarray:
    """(H, W) in the file's own units, white = high."""
    if image.mode in (*COLOUR, "P", "PA") and bits > 8:
        raise ScanError(f"{bits}-bit colour ({image.mode}) would be read as 8-bit; store the film as {bits}-bit grey")
    ImageOps.exif_transpose(image, in_place=True)
    shown = image.convert("RGBA") if image.mode in ("P", "PA") else image
    if shown.mode not in (*GREY, *COLOUR):
        raise ScanError(f"a film must be grey, got {shown.mode}")
    pixels = single_channel(np.asarray(shown), alpha=shown.mode in ("RGBA", "LA"))
    if image.mode == "I" and np.abs(pixels.astype(np.int64)).max() > 2**24:
        raise ScanError("whole numbers must be at most 2^24, beyond which float32 rounds them; store the film as 16-bit grey")
    if image.format == "TIFF" and image.tag_v2.get(262) == 0 and bits > 8:  # white is zero: Pillow inverts these at 8 bit only
        if bits > 16:
            raise ScanError(f"a TIFF whose white is zero must have 16 bits at most, got {bits}; store it as black is zero")
        pixels = (2**bits - 1) - pixels.astype(np.float32)
    return pixels


def single_channel(pixels: np.ndarray, alpha: bool = False) -> np.ndarray:
    """(H, W) or (H, W, K) -> (H, W); refuses channels that differ and an alpha that hides something."""
    if pixels.ndim == 2:
        return pixels
    colour = pixels[..., :-1] if alpha else pixels
    if alpha and (pixels[..., -1] != 255).any():
        raise ScanError("a film must be opaque, got an alpha channel that hides pixels")
    if (colour != colour[..., :1]).any():
        raise ScanError(f"a film must have 1 channel, got {colour.shape[-1]} that differ; convert colour to grey on purpose, outside")
    return colour[..., 0]
