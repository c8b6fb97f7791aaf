"""PNG and TIFF: for viewing, and for programs that train on films."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medgan_pl.core.files import write_whole
from medgan_pl.data.export.origin import finite, ordered
from medgan_pl.data.intensity import HU
from medgan_pl.data.readers.shades import CHUNK, as_text


def write_png(path: Path, values: np.ndarray, *, bits: int = 8, low: float, high: float, mark: str = "Synthetic", unit: str = "") -> None:
    """Write one gray PNG of `bits` 8 or 16: `low` becomes 0, `high` the largest level, linear and rounded between, clipped outside.

    (H, W) is written unchanged. For a volume (D, H, W), axes as in `Scan`, only the middle slices are written, side by side and pixel by
    pixel (without correction of the spacing): transverse, coronal and sagittal, head up. write_nifti and write_dicom keep the volume.
    The text chunk `mark: medgan_pl` marks the file, and with the `unit` HU another states low and high (readers/shades.py).
    Raise ValueError for other bits, low not below high, NaN or infinity.
    """
    if bits not in (8, 16):
        raise ValueError(f"`bits` must be 8 or 16, got {bits}")
    ordered(low, high)
    image = finite(values)
    if image.ndim == 3:
        image = three_planes(image, low)
    levels = np.rint((image.clip(low, high) - low) / (high - low) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    chunks = PngInfo()
    chunks.add_text(mark, "medgan_pl")
    if unit == HU.name:
        chunks.add_text(CHUNK, as_text(low, high))
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG", pnginfo=chunks)
    write_whole(path, buffer.getvalue())


def write_tiff(path: Path, values: np.ndarray, outside: np.ndarray | None = None) -> None:
    """Write (H, W) as a TIFF of 32-bit floats, in native units, with NaN at `outside` (H, W) bool. Raise ValueError for NaN or infinity."""
    buffer, image = io.BytesIO(), finite(values)
    image = image if outside is None else np.where(outside, np.nan, image)
    Image.fromarray(image.astype(np.float32)).save(buffer, "TIFF", software="medgan_pl")
    write_whole(path, buffer.getvalue())


def three_planes(volume: np.ndarray, background: float) -> np.ndarray:
    """Return the middle slices of (D, H, W) as (max(D, H), W + W + H), each at the top, `background` below the shorter."""
    d, h, w = (n // 2 for n in volume.shape)
    planes = [volume[d], volume[::-1, h], volume[::-1, :, w]]
    height = max(plane.shape[0] for plane in planes)
    return np.hstack([np.pad(plane, ((0, height - len(plane)), (0, 0)), constant_values=background) for plane in planes])
