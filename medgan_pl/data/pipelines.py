"""From a film's file to a normalised tensor: one reader that takes every grey film exactly as stored, and one chain of MONAI transforms."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from monai.data import ImageReader
from monai.transforms import CenterSpatialCrop, Compose, EnsureType, Resize, ScaleIntensityRangePercentiles, SpatialPad, Transform
from PIL import Image, UnidentifiedImageError
from pydicom.pixels import apply_modality_lut
from torch import Tensor

from medgan_pl.data.records import is_dicom

# Part of every cache's key: raise it whenever the same file would come out otherwise.
VERSION = 2


class FilmError(ValueError):
    """A film that cannot be used, and why; the message never names the file or its patient (it is kept in the cache)."""


class FilmReader(ImageReader):
    """Reads one grey film, exactly: PNG, JPEG, TIFF of 8, 16 or 32 bit by Pillow, a single DICOM frame by pydicom.

    MONAI's own readers leave MONOCHROME1 uninverted, and Pillow reads 16-bit colour as 8-bit without a word.
    """

    def verify_suffix(self, filename: Any) -> bool:
        return True

    def read(self, data: Any, **kwargs: Any) -> np.ndarray:
        path = Path(data[0] if isinstance(data, (tuple, list)) else data)
        return read_dicom(path) if is_dicom(path) else read_picture(path)

    def get_data(self, img: np.ndarray) -> tuple[np.ndarray, dict]:
        return img, {}


def read_film(path: Path) -> np.ndarray:
    """The film at `path` as (1, H, W) float32, in its stored units (DICOM: rescaled), brighter = denser. Raises FilmError."""
    reader = FilmReader()  # not through LoadImage, which sets up every other reader for each file and hides our errors behind its own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters is an error here, and pydicom's warnings quote values, which may identify
        return reader.get_data(reader.read(path))[0].astype(np.float32)[None]


def read_picture(path: Path) -> np.ndarray:
    """A PNG, JPEG or TIFF as (H, W). Three equal channels or an opaque alpha are grey stored wastefully, and taken; the rest is refused."""
    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise FilmError(f"a film must be one picture, got {image.n_frames} pages")
            bits = bit_depth(image, path)
            if image.mode in ("RGB", "RGBA", "LA", "P", "PA") and bits > 8:
                raise FilmError(f"{bits}-bit colour ({image.mode}) would be read as 8-bit; store the film as {bits}-bit grey")
            if image.mode in ("P", "PA"):
                image = image.convert("RGBA")
            pixels = np.asarray(image)
            white_is_zero = image.format == "TIFF" and image.tag_v2.get(262) == 0 and bits > 8
            mode = image.mode
    except UnidentifiedImageError:
        raise FilmError("not a PNG, JPEG or TIFF, or cut off in its header") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, FilmError) or getattr(error, "errno", None):  # a disk that fails is not a film that does
            raise
        raise FilmError(f"corrupt or truncated: {str(error).replace(str(path), 'it')}") from None
    if mode not in ("L", "I;16", "I;16B", "I;16L", "I", "F", "RGB", "RGBA", "LA"):
        raise FilmError(f"a film must be grey, got {mode}")
    if white_is_zero:  # Pillow inverts these at 8 bit only
        pixels = (2**bits - 1) - pixels.astype(np.float32)
    return single_channel(pixels, alpha=mode in ("RGBA", "LA"))


def bit_depth(image: Image.Image, path: Path) -> int:
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]  # IHDR: bit depth
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))
    return 8


def single_channel(pixels: np.ndarray, alpha: bool = False) -> np.ndarray:
    """(H, W) or (H, W, K) -> (H, W); refuses channels that differ and an alpha that hides something."""
    if pixels.ndim == 2:
        return pixels
    colour = pixels[..., :-1] if alpha else pixels
    if alpha and (pixels[..., -1] != 255).any():
        raise FilmError("a film must be opaque, got an alpha channel that hides pixels")
    if (colour != colour[..., :1]).any():
        raise FilmError(f"a film must have 1 channel, got {colour.shape[-1]} that differ; convert colour to grey on purpose, outside")
    return colour[..., 0]


def read_dicom(path: Path) -> np.ndarray:
    """A single-frame DICOM as (H, W): modality LUT or rescale applied, padding set to the darkest value, MONOCHROME1 inverted.

    The VOI window is not applied: normalisation is by percentiles.
    """
    try:
        header = pydicom.dcmread(path)
        if int(header.get("NumberOfFrames") or 1) > 1:
            raise FilmError(f"a film must be one frame, got {header.NumberOfFrames}")
        stored = single_channel(header.pixel_array)
        film = apply_modality_lut(stored, header).astype(np.float32)
    except Exception as error:  # pydicom raises whatever the bytes provoke
        if isinstance(error, FilmError) or getattr(error, "errno", None):
            raise
        if "Unable to decompress" in str(error):  # a fault of the installation: stop, and do not put it into the cache
            need = "needs a decoder for its compression; `pip install pylibjpeg[all]`, or store it uncompressed"
            raise RuntimeError(f"{path} {need}") from None
        raise FilmError(f"a DICOM that is corrupt, truncated or without pixels ({type(error).__name__})") from None
    padding = padded(stored, header)
    inside = film[~padding] if not padding.all() else film
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        film = inside.max() + inside.min() - film
    return np.where(padding, inside.min(), film)


def padded(stored: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """Where the stored values lie in PixelPaddingValue … PixelPaddingRangeLimit (DICOM C.7.5.1.1.2); nowhere without them."""
    if header.get("PixelPaddingValue") is None:
        return np.zeros(stored.shape, bool)
    ends = [int(header.PixelPaddingValue), int(header.get("PixelPaddingRangeLimit", header.PixelPaddingValue))]
    if header.PixelRepresentation == 1:  # written unsigned by some makers: 63536 is -2000
        ends = [end - 65536 if end > 32767 else end for end in ends]
    return (stored >= min(ends)) & (stored <= max(ends))


def dicom_patient(path: Path) -> str | None:
    """The PatientID in the header, None if absent, empty or unreadable. Never log or store what comes back."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
        return str(header.get("PatientID") or "").strip() or None
    except Exception:  # an unreadable file is reported when its pixels are read
        return None


class Usable(Transform):
    """Passes a (1, H, W) film on; raises FilmError for NaN, infinity or one value only."""

    def __call__(self, film: Tensor) -> Tensor:
        bad = int((~torch.isfinite(film)).sum())
        if bad:
            raise FilmError(f"every pixel must be a finite number, got {bad} NaN or infinite of {film.numel()}")
        if film.min() == film.max():
            raise FilmError(f"a film must show something, got {film.min():g} in every pixel")
        return film


class Aspect(Transform):
    """Brings (1, H, W) to the aspect of `size` about the centre: by cropping the long side (`crop`), or else by padding the short one
    with the film's darkest value. Pixels keep their spacing and the film its proportions."""

    def __init__(self, size: tuple[int, int], crop: bool) -> None:
        self.size, self.crop = size, crop

    def __call__(self, film: Tensor) -> Tensor:
        ratios = [n / t for n, t in zip(film.shape[1:], self.size, strict=True)]
        ratio = min(ratios) if self.crop else max(ratios)
        shape = [max(1, round(t * ratio)) for t in self.size]
        if shape == list(film.shape[1:]):
            return film
        change = CenterSpatialCrop(shape) if self.crop else SpatialPad(shape, value=float(film.min()))
        return change(film)


class AreaResize(Transform):
    """(1, H, W) to (1, *size): the mean of the area under each new pixel when shrinking (no aliasing), bilinear when enlarging."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.shrink = Resize(size, mode="area")
        self.enlarge = Resize(size, mode="bilinear", align_corners=False)
        self.size = size

    def __call__(self, film: Tensor) -> Tensor:
        return (self.shrink if film.shape[1] >= self.size[0] else self.enlarge)(film)


class Contrast(Transform):
    """Maps the percentiles `low`, `high` (0-100) of this film to -1 and 1, and clips. Raises FilmError where the two coincide."""

    def __init__(self, percentiles: tuple[float, float]) -> None:
        self.percentiles = percentiles
        self.scale = ScaleIntensityRangePercentiles(*percentiles, b_min=-1.0, b_max=1.0, clip=True)

    def __call__(self, film: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Divide by zero")
            try:
                return self.scale(film)
            except Warning:
                low, high = self.percentiles
                raise FilmError(f"almost constant: the {low:g}th and {high:g}th percentiles are equal") from None


class FilmPipeline:
    """(1, H, W) in any units -> (1, *size) in [-1, 1]: usable? -> aspect and contrast -> area resize; nothing random.

    size: (H, W) in pixels. crop: keep the aspect by cropping (True) or padding. percentiles: 0-100, low below high.
    """

    def __init__(self, *, size: tuple[int, int], crop: bool, percentiles: tuple[float, float]) -> None:
        self.size, self.crop, self.percentiles = size, crop, percentiles
        aspect, contrast = Aspect(size, crop), Contrast(percentiles)
        middle = (aspect, contrast) if crop else (contrast, aspect)  # what is cropped off or padded on has no say in the contrast
        self.chain = Compose(
            [EnsureType(track_meta=False), Usable(), *middle, AreaResize(size), EnsureType(track_meta=False)], log_stats=False
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What its output depends on besides the film, for the cache's key."""
        return {"version": VERSION, "size": list(self.size), "crop": self.crop, "percentiles": list(self.percentiles)}

    def __call__(self, film: np.ndarray) -> Tensor:
        if film.ndim != 3 or film.shape[0] != 1:
            raise FilmError(f"a film must be (1, H, W), got {tuple(film.shape)}")
        try:
            return self.chain(film)  # (1, *size)
        except RuntimeError as error:  # MONAI wraps what a transform raises
            if isinstance(error.__cause__, FilmError):
                raise error.__cause__ from None
            raise
