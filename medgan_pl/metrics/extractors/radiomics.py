"""Radiomic features, the numbers that radiology itself defines for images, as a space for distances: gray values, texture, wavelets."""

import hashlib

import numpy as np
import pywt
import torch
from jaxtyping import Float
from skimage.feature import graycomatrix
from torch import Tensor

from medgan_pl.metrics.extractors.features import Extractor, Images

VERSION = 1  # of the definitions in this file: raise it with any change of a value
GREY_LEVELS = 32  # equal steps from -1 to 1
WAVELET = "coif1"
ANGLES = (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
AXIAL = 8  # slices of a volume whose texture counts, besides its three middle planes
FIT_IMAGES, FIT_BATCH = 2000, 64
SMALLEST = 8  # pixels a side: the wavelet has 6 taps
FLAT = 1e-6  # a spread of gray values up to this is rounding
ENDS = ("minimum", "maximum", "range")


class RadiomicsFeatures(Extractor):
    """Radiomic features of the whole image, as z-scores of the real training images; `fit` must come first.

    Images (B, `channels`, *S) in [-1, 1], 2-D or 3-D, each side 8 or more and never resized -> (B, F) float32; F = 36 a channel in 2-D, 48
    in 3-D: those of `first_order`, `texture` and `wavelet_energies`, in this order, each channel alone; called as in `names`.
    A feature that is the same in all training images is only centered. Minimum, maximum and range are divided by a gray level (1/16) at the
    least: percentile windows clip them to the same ends in nearly every film, which a generator that ends in tanh never quite reaches.
    Computed on the CPU in float64, one image after the other.
    Raises ValueError for other channels, another number of axes, sides below 8, NaN and infinity, RuntimeError before `fit`.

    The Fréchet distance in this space is a Fréchet radiomics distance: Osuala et al. 2024 (arXiv 2403.13890), who proposed it, and Konz,
    Osuala et al. 2026 (arXiv 2412.01496), whose version has wavelets and z-scores by the reference set. Where we differ: 36 features in
    place of about 94 and 464, with no shape, no run lengths, zones or Laplacian of Gaussian, so that some hundred images are enough; gray
    levels fixed on [-1, 1], not a bin width in native units; z-scores by training images, not by the set compared with; no logarithm
    of the distance. So values must not be compared with theirs.
    """

    name = "radiomics"
    teaches = False

    def __init__(self, *, spatial_dims: int = 2, channels: int = 1) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"`spatial_dims` must be 2 or 3, got {spatial_dims}")
        self.channels, self.spatial_dims = channels, spatial_dims
        one = radiomic_features(np.zeros((SMALLEST,) * spatial_dims))
        self.names = tuple(key if channels == 1 else f"{key}_{c}" for c in range(channels) for key in one)
        self.centre: Tensor | None = None  # (F,) float64
        self.scale: Tensor | None = None
        self.rules = {
            "features": f"radiomics, definition {VERSION}: first order, GLCM, {WAVELET} wavelet; {spatial_dims}-D",
            "levels": f"{GREY_LEVELS} on [-1, 1]", "resize": "none", "grey": f"{channels} channel(s), each alone",
            "normalisation": "z-scores, not fitted yet",
        }  # fmt: skip

    def fit(self, images: Images, labels: Tensor | None) -> None:
        """Takes mean and standard deviation of each feature over the images, or 2,000 of them evenly spaced. Raises ValueError for fewer
        than 2."""
        if len(images) < 2:
            raise ValueError(f"z-scores need 2 real training images or more, got {len(images)}")
        rows = torch.linspace(0, len(images) - 1, min(len(images), FIT_IMAGES), dtype=torch.float64).round().long()
        features = torch.cat([self._raw(images[batch]) for batch in rows.split(FIT_BATCH)])
        spread, self.centre = torch.std_mean(features, dim=0, correction=0)
        scale = torch.where(spread > FLAT * self.centre.abs().clamp(min=1), spread, 1.0)
        ends = torch.tensor([name.startswith(ENDS) for name in self.names])
        self.scale = torch.where(ends, spread.clamp(min=2 / GREY_LEVELS), scale)
        # Six digits: what they say of a fit is the same on every machine.
        told = " ".join(f"{value:.6g}" for value in torch.cat([self.centre, self.scale]).tolist())
        mark = hashlib.sha256(told.encode()).hexdigest()[:16]
        self.rules = {**self.rules, "normalisation": f"z-scores over {len(rows)} real training images, fit {mark}"}

    def forward(self, images: Float[Tensor, "b ..."]) -> Float[Tensor, "b features"]:
        if self.centre is None or self.scale is None:
            raise RuntimeError("RadiomicsFeatures must see real training images first: call fit(images, labels)")
        return ((self._raw(images) - self.centre) / self.scale).float().to(images.device)

    def _raw(self, images: Tensor) -> Tensor:
        """(B, C, *S) -> (B, F) float64 on the CPU, as defined."""
        if images.ndim != self.spatial_dims + 2 or images.shape[1] != self.channels:
            wanted = f"(B, {self.channels}, {', '.join('S' * self.spatial_dims)})"
            raise ValueError(
                f"RadiomicsFeatures was built for images {wanted}, got {tuple(images.shape)}; set `channels` and `spatial_dims`"
            )
        if min(images.shape[2:]) < SMALLEST:
            raise ValueError(f"each side must be {SMALLEST} pixels or more for radiomic features, got {tuple(images.shape[2:])}")
        if not torch.isfinite(images).all():
            raise ValueError("images must be finite for radiomic features; they hold NaN or infinity")
        pixels = images.detach().cpu().double().numpy()
        rows = [[value for channel in image for value in radiomic_features(channel).values()] for image in pixels]
        return torch.tensor(rows, dtype=torch.float64)


def radiomic_features(image: np.ndarray) -> dict[str, float]:
    """One image (*S) in [-1, 1], float64 -> name -> value."""
    levels = grey_levels(image, -1.0, 1.0)
    return {**first_order(image, levels), **texture(levels), **wavelet_energies(image)}


def grey_levels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers 0 to 31 of equal steps from `low` to `high`, uint8; the end belongs to the last, what lies outside to the nearest."""
    return ((values - low) * (GREY_LEVELS / (high - low))).clip(0, GREY_LEVELS - 1).astype(np.uint8)


def first_order(image: np.ndarray, levels: np.ndarray) -> dict[str, float]:
    """The distribution of gray values, wherever they lie.

    Source: IBSI reference manual (Zwanenburg et al. 2020, doi 10.1148/radiol.2020191145; arXiv 1612.07003), sections 3.3 and 3.4. Variance
    by N, kurtosis in excess of 3, it and skewness 0 for a flat image; the robust deviation over values from the 10th to the 90th
    percentile; entropy in bits. Where we differ: the root mean square is that of the gray value above -1, since about 0, the middle of our
    range, dark and bright would look the same; energy is left out (it is the same, times the size), and the coefficients of dispersion,
    which divide by a mean that may be 0.
    """
    x = image.ravel()
    p10, p25, median, p75, p90 = np.quantile(x, (0.1, 0.25, 0.5, 0.75, 0.9))
    mean, least, most = x.mean(), x.min(), x.max()
    deviation = x - mean
    square = deviation * deviation
    variance = square.mean()
    flat = variance <= FLAT**2
    inner = x[(x >= p10) & (x <= p90)]
    shares = np.bincount(levels.ravel(), minlength=GREY_LEVELS) / x.size
    return {
        "mean": mean, "variance": variance, "median": median, "minimum": least, "maximum": most, "range": most - least,
        "skewness": 0.0 if flat else (square * deviation).mean() / variance**1.5,
        "kurtosis": 0.0 if flat else (square * square).mean() / variance**2 - 3,
        "percentile_10": p10, "percentile_90": p90, "interquartile_range": p75 - p25,
        "mean_deviation": np.abs(deviation).mean(), "robust_mean_deviation": np.abs(inner - inner.mean()).mean(),
        "median_deviation": np.abs(x - median).mean(), "root_mean_square": (variance + (mean + 1) ** 2) ** 0.5,
        "entropy": _bits(shares), "uniformity": (shares * shares).sum(),
    }  # fmt: skip


def texture(levels: np.ndarray) -> dict[str, float]:
    """Return how often gray levels lie side by side: properties of the gray-level co-occurrence matrix (GLCM), by scikit-image.

    At 1 pixel in 4 directions, each way; the mean over directions, of volumes also over planes, all weighing alike: 8 slices across the
    first axis, evenly spaced, and the middle plane of each axis. Correlation is 1 in a flat image, as in scikit-image and pyradiomics.

    Source: Haralick et al. 1973 (doi 10.1109/TSMC.1973.4309314); IBSI section 3.6, features averaged over directions. Entropy in bits;
    homogeneity is IBSI's inverse difference moment, dissimilarity its difference average, `asm` its angular second moment and `energy` the
    root of that. Only 1 pixel: scikit-image takes 2 pixels along a diagonal for 1, and coarser texture is the wavelets' part.
    """
    found = [_matrix_properties(plane) for plane in _planes(levels)]
    return {key: float(np.mean([properties[key] for properties in found])) for key in found[0]}


def _planes(levels: np.ndarray) -> list[np.ndarray]:
    if levels.ndim == 2:
        return [levels]
    depth, height, width = levels.shape
    axial = {depth // 2} | {(2 * i + 1) * depth // (2 * AXIAL) for i in range(AXIAL)}
    return [*(levels[k] for k in sorted(axial)), levels[:, height // 2], levels[:, :, width // 2]]


def _matrix_properties(plane: np.ndarray) -> dict[str, float]:
    matrices = graycomatrix(plane, [1], ANGLES, levels=GREY_LEVELS, symmetric=True, normed=True)[:, :, 0]  # (levels, levels, angles)
    grey = np.arange(GREY_LEVELS)
    gap = np.abs(grey[:, None] - grey)
    contrast, dissimilarity, homogeneity = (np.tensordot(weight, matrices) for weight in (gap**2, gap, 1 / (1 + gap**2)))  # (angles,)
    marginal = matrices.sum(1)  # of rows and of columns alike: the matrices are symmetric
    variance = grey**2 @ marginal - (grey @ marginal) ** 2
    flat = variance <= FLAT
    asm = (matrices * matrices).sum((0, 1))
    return {
        "contrast": contrast.mean(), "dissimilarity": dissimilarity.mean(), "homogeneity": homogeneity.mean(), "asm": asm.mean(),
        "energy": np.sqrt(asm).mean(),
        # E(i - j)² = 2 (variance - covariance)
        "correlation": np.where(flat, 1.0, 1 - contrast / np.where(flat, 1.0, 2 * variance)).mean(),
        "joint_entropy": np.mean([_bits(matrix) for matrix in np.moveaxis(matrices, 2, 0)]),
    }  # fmt: skip


def wavelet_energies(image: np.ndarray) -> dict[str, float]:
    """Return how strong each sub-band is (mean absolute value, root mean square) and how spread (entropy in bits over 32 levels from the
    band's own least to its greatest value; 0 for a flat one), by PyWavelets.

    One level of the coiflet of 6 taps, borders mirrored; a letter an axis, `a` low and `d` high: ad, da, dd, and aa.
    Source: pyradiomics (van Griethuysen et al. 2017, doi 10.1158/0008-5472.CAN-17-0339) for the wavelet; IBSI section 2.7, fixed bin
    number, for the levels. Where we differ: pyradiomics keeps the full size and wraps borders round, so that the left border meets the
    right; ours halves, as strong on average but for the borders.
    """
    found = {}
    for band, values in pywt.dwtn(image, WAVELET).items():
        low, high = values.min(), values.max()
        shares = np.bincount(grey_levels(values, low, high).ravel()) / values.size if high - low > FLAT else np.ones(1)
        found[f"wavelet_{band}_mean_absolute"] = np.abs(values).mean()
        found[f"wavelet_{band}_root_mean_square"] = (values * values).mean() ** 0.5
        found[f"wavelet_{band}_entropy"] = _bits(shares)
    return found


def _bits(shares: np.ndarray) -> float:
    """Entropy of shares that sum to 1."""
    some = shares[shares > 0]
    return float(-(some * np.log2(some)).sum())
