"""Classical restoration, which a network must beat: bicubic interpolation, Telea's inpainting, the dark channel prior, non-local means.

Each method maps sources (B, C', H', W') in [-1, 1] to images (B, C, H, W) in [-1, 1]. `candidates` are one method under several settings;
the best on validation images is used, so that the comparison is fair.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from skimage.restoration import denoise_nl_means, estimate_sigma, inpaint_biharmonic
from torch import Tensor
from torch.nn import functional as F

from medgan_pl.data.degrade import Degradation, DoseNoise, Fog, Gaussian, Holes, LowDose, Quanta, Shrink

try:
    import cv2
except ModuleNotFoundError:
    cv2 = None

Pictures = Float[Tensor, "b c h w"]
Method = Callable[[Pictures], Pictures]


def candidates(degrade: Degradation | None, size: Sequence[int]) -> list[Method]:
    """Return the classical method for this degradation of pictures of `size` (H, W), under each of its settings, which its `str` names.

    Raises ValueError for a degradation without a classical method here.
    """
    match degrade:
        case Shrink(axes=None):
            return [Bicubic(size)]
        case Holes():
            return [Telea(radius) for radius in (3, 5, 9, 15, 25)] if cv2 else [Biharmonic()]
        case Fog():
            return [DarkChannel(patch, keep) for patch in (7, 15, 31) for keep in (0.5, 0.75, 0.95)]
        case LowDose() | DoseNoise() | Quanta() | Gaussian():
            return [NonLocalMeans(h) for h in (0.5, 0.8, 1.2, 1.8, 2.7, 4.0)]
    raise ValueError(
        "`data.degrade` must have a classical method (super_resolution_x4, inpainting, dehaze, low_dose, "
        f"low_dose_fast, low_dose_film, noise), got {type(degrade).__name__}"
    )


class Bicubic:
    """Enlarges the source to `size` (H, W) by Keys' cubic convolution (doi 10.1109/TASSP.1981.1163711)."""

    def __init__(self, size: Sequence[int]) -> None:
        self.size = list(size)

    def __call__(self, source: Pictures) -> Pictures:
        # Keys' a is -1/2, which preserves slopes; torch has -3/4 without antialias.
        return F.interpolate(source, self.size, mode="bicubic", antialias=True).clamp(-1, 1)

    def __str__(self) -> str:
        return "bicubic"


class Telea:
    """Fills holes from their border inward by OpenCV, each pixel from the known ones within `radius` (Telea 2004, doi
    10.1080/10867651.2004.10487596). The source's last channel marks holes: above 0."""

    def __init__(self, radius: int) -> None:
        self.radius = radius

    def __call__(self, source: Pictures) -> Pictures:
        return filled(source, self.fill)

    def fill(self, channel: np.ndarray, missing: np.ndarray) -> np.ndarray:
        # In 16 bits: OpenCV adds up to 1.4 gray levels to each pixel, more than the whole range of floats in [0, 1].
        levels = np.rint(channel * 65535).astype(np.uint16)
        return cv2.inpaint(levels, missing.astype(np.uint8), self.radius, cv2.INPAINT_TELEA) / 65535

    def __str__(self) -> str:
        return f"Telea, radius {self.radius}"


class Biharmonic:
    """Fills holes by the smoothest surface that meets their border (Damelin & Hoang 2018, doi 10.1155/2018/3950312, scikit-image), instead
    of Telea without OpenCV: slower, and it overshoots in wide holes."""

    def __call__(self, source: Pictures) -> Pictures:
        return filled(source, lambda channel, missing: inpaint_biharmonic(channel, missing, split_into_regions=True))

    def __str__(self) -> str:
        return "biharmonic (no OpenCV for Telea: pip install opencv-python-headless)"


def filled(source: Pictures, fill: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Pictures:
    """Apply `fill(channel in [0, 1], missing)` to each channel; known pixels stay bit-equal."""
    images, missing = source[:, :-1], source[:, -1:] > 0
    made = [
        [torch.from_numpy(fill(channel, hole[0])) for channel in image] for image, hole in zip(unit(images), missing.numpy(), strict=True)
    ]
    return torch.where(missing, back(torch.stack([torch.stack(image) for image in made])), images)


class DarkChannel:
    """Removes haze by the dark channel prior: each `patch` contains something black, so its least brightness is haze.

    On the [0, 1] scale, with dark(I) the least value over channels and patch: A is the color of the brightest pixel among the 0.1 % with
    the highest dark channel; t = 1 - `keep` · dark(I / A), refined by the guided filter with I as its guide; J = (I - A) / max(t, 0.1) + A.
    `keep` is ω, the share of the haze that is removed.

    Source: He et al. 2011 (doi 10.1109/TPAMI.2010.168), eq. 5, 12 and 22, section 4.4; instead of its soft matting the guided filter of He
    et al. 2013 (doi 10.1109/TPAMI.2012.213), eq. 5 to 8. Films have one channel, so the prior uses the patch alone.
    """

    def __init__(self, patch: int = 15, keep: float = 0.95) -> None:
        self.patch, self.keep = patch, keep

    def __call__(self, source: Pictures) -> Pictures:
        image = (source + 1) / 2
        light = self.light(image)
        t = 1 - self.keep * self.dark(image / light)
        t = guided(t, image.mean(1, keepdim=True), 2 * self.patch).clamp(0.1, 1)
        return (((image - light) / t + light) * 2 - 1).clamp(-1, 1)

    def dark(self, image: Pictures) -> Pictures:
        """Return the dark channel (B, 1, H, W)."""
        least, half = -image.amin(1, keepdim=True), self.patch // 2
        rows = F.max_pool2d(least, (self.patch, 1), 1, (half, 0))  # one axis after the other: 2 n pixels instead of n²
        return -F.max_pool2d(rows, (1, self.patch), 1, (0, half))

    def light(self, image: Pictures) -> Pictures:
        """Return A (B, C, 1, 1), above 0."""
        haziest = self.dark(image).flatten(1).topk(max(1, image[0, 0].numel() // 1000)).indices
        pixels = image.flatten(2).gather(2, haziest[:, None].expand(-1, image.shape[1], -1))  # (B, C, n)
        brightest = pixels.sum(1).argmax(1)
        return pixels[torch.arange(len(image)), :, brightest][:, :, None, None].clamp(min=1e-3)

    def __str__(self) -> str:
        return f"dark channel, patch {self.patch}, ω {self.keep}"


def guided(image: Pictures, guide: Pictures, radius: int, floor: float = 1e-3) -> Pictures:
    """Return (B, 1, H, W) smoothed by the guided filter: in each window of `radius` linear in the guide; the mean where the guide's
    variance (on the [0, 1] scale) is below `floor`."""

    def mean(x: Tensor) -> Tensor:
        rows = F.avg_pool2d(x, (2 * radius + 1, 1), 1, (radius, 0), count_include_pad=False)
        return F.avg_pool2d(rows, (1, 2 * radius + 1), 1, (0, radius), count_include_pad=False)

    middle, level = mean(guide), mean(image)
    slope = (mean(guide * image) - middle * level) / (mean(guide.square()) - middle.square() + floor)
    return mean(slope) * guide + mean(level - slope * middle)


class NonLocalMeans:
    """Replaces each pixel by the mean of pixels with similar neighborhoods (Buades et al. 2005, doi 10.1109/CVPR.2005.38), by scikit-image:
    patches of 5 × 5 within 13 × 13. The noise σ is estimated for each image (Donoho & Johnstone 1994, wavelets); the filter's width is `h`
    · σ.
    """

    def __init__(self, h: float) -> None:
        self.h = h

    def __call__(self, source: Pictures) -> Pictures:
        return back(torch.stack([torch.from_numpy(self.smoothed(image)) for image in unit(source)]))

    def smoothed(self, image: np.ndarray) -> np.ndarray:
        last = np.moveaxis(image, 0, -1)
        sigma = estimate_sigma(last, average_sigmas=True, channel_axis=-1)
        distances = {"patch_size": 5, "patch_distance": 6, "fast_mode": True}
        made = denoise_nl_means(last, h=self.h * max(sigma, 1e-4), sigma=sigma, channel_axis=-1, **distances)
        return np.moveaxis(made.reshape(last.shape), -1, 0)  # scikit-image drops a single channel

    def __str__(self) -> str:
        return f"non-local means, h {self.h} σ"


def unit(images: Pictures) -> np.ndarray:
    """Map [-1, 1] to [0, 1] in float64."""
    return ((images.double() + 1) / 2).numpy()


def back(images: Pictures) -> Pictures:
    return (images * 2 - 1).clamp(-1, 1).float()
