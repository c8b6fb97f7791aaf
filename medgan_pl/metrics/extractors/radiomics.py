"""Radiomic features, which radiology defines for images, as a space for distances: gray values, texture, wavelets."""

import hashlib

import numpy as np
import pywt
import torch
from jaxtyping import Float
from skimage.feature import graycomatrix
from torch import Tensor

from medgan_pl.metrics.extractors.features import Extractor, Images

VERSION = 1  # of the definitions in this file; increase it with any change of a value
GRAY_LEVELS = 32  # equal steps from -1 to 1
WAVELET = "coif1"
ANGLES = (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
AXIAL = 8  # slices of a volume used for texture, besides its three middle planes
FIT_IMAGES, FIT_BATCH = 2000, 64
MIN_SIDE = 8  # pixels a side: the wavelet has 6 taps
FLAT = 1e-6  # a spread of gray values up to this is rounding error
ENDS = ("minimum", "maximum", "range")


class RadiomicsFeatures(Extractor):
    """Radiomic features of the whole image, as z-scores over the real training images; `fit` must come first.

    Images (B, `channels`, *S) in [-1, 1], 2-D or 3-D, each side 8 or more and never resized -> (B, F) float32. F is 36 a channel in 2-D, 48
    in 3-D: those of `first_order`, `texture` and `wavelet_energies`, in this order, for each channel; `names` has their names.
    A feature that is constant over the training images is only centered. Minimum, maximum and range are divided by at least a gray level
    (1/16): percentile windows clip them to the same ends in nearly every radiograph, which a generator that ends in tanh never quite
    reaches.
    Computed on the CPU in float64, one image after the other.
    Raises ValueError for other channels, another number of axes, sides below 8, NaN and infinity, RuntimeError before `fit`.

    The Fréchet distance in this space is a Fréchet radiomics distance, proposed by Osuala et al. 2024 (arXiv 2403.13890); the version of
    Konz, Osuala et al. 2026 (arXiv 2412.01496) has wavelets and z-scores by the reference set. Where we differ: 36 features instead of
    about 94 and 464, without shape, run lengths, zones or Laplacian of Gaussian, so that some hundred images are enough; gray levels fixed
    on [-1, 1], not a bin width in native units; z-scores by training images, not by the set compared with; no logarithm of the distance. So
    values must not be compared with theirs.
    """

    name = "radiomics"
    teaches = False

    def __init__(self, *, spatial_dims: int = 2, channels: int = 1) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"`spatial_dims` must be 2 or 3, got {spatial_dims}")
        self.channels, self.spatial_dims = channels, spatial_dims
        one = radiomic_features(np.zeros((MIN_SIDE,) * spatial_dims))
        self.names = tuple(key if channels == 1 else f"{key}_{c}" for c in range(channels) for key in one)
        self.center: Tensor | None = None  # (F,) float64
        self.scale: Tensor | None = None
        self.rules = {
            "features": f"radiomics, definition {VERSION}: first order, GLCM, {WAVELET} wavelet; {spatial_dims}-D",
            "levels": f"{GRAY_LEVELS} on [-1, 1]", "resize": "none", "grey": f"{channels} channel(s), each alone",
            "normalisation": "z-scores, not fitted yet",
        }  # fmt: skip

    def fit(self, images: Images, labels: Tensor | None) -> None:
        """Compute mean and standard deviation of each feature over the images, or over 2,000 of them evenly spaced. Raises ValueError for
        fewer than 2."""
        if len(images) < 2:
            raise ValueError(
                f"the radiomics extractor needs 2 real images or more for its z-scores, of train= or of the floor, got {len(images)}; add "
                "real images, or leave it out: extractor=random"
            )
        rows = torch.linspace(0, len(images) - 1, min(len(images), FIT_IMAGES), dtype=torch.float64).round().long()
        features = torch.cat([self._raw(images[batch]) for batch in rows.split(FIT_BATCH)])
        spread, self.center = torch.std_mean(features, dim=0, correction=0)
        scale = torch.where(spread > FLAT * self.center.abs().clamp(min=1), spread, 1.0)
        ends = torch.tensor([name.startswith(ENDS) for name in self.names])
        self.scale = torch.where(ends, spread.clamp(min=2 / GRAY_LEVELS), scale)
        # Six digits, so that the mark of a fit is the same on every machine.
        statistics = " ".join(f"{value:.6g}" for value in torch.cat([self.center, self.scale]).tolist())
        mark = hashlib.sha256(statistics.encode()).hexdigest()[:16]
        self.rules = {**self.rules, "normalisation": f"z-scores over {len(rows)} real training images, fit {mark}"}

    def forward(self, images: Float[Tensor, "b ..."]) -> Float[Tensor, "b features"]:
        if self.center is None or self.scale is None:
            raise RuntimeError("RadiomicsFeatures must be fitted first: call fit(images, labels) with real training images")
        return ((self._raw(images) - self.center) / self.scale).float().to(images.device)

    def _raw(self, images: Tensor) -> Tensor:
        """Return the features before the z-score: (B, C, *S) -> (B, F) float64 on the CPU."""
        if images.ndim != self.spatial_dims + 2 or images.shape[1] != self.channels:
            wanted = f"(B, {self.channels}, {', '.join('S' * self.spatial_dims)})"
            raise ValueError(
                f"RadiomicsFeatures was built for images {wanted}, got {tuple(images.shape)}; set `channels` and `spatial_dims`"
            )
        if min(images.shape[2:]) < MIN_SIDE:
            raise ValueError(f"each side must be {MIN_SIDE} pixels or more for radiomic features, got {tuple(images.shape[2:])}")
        if not torch.isfinite(images).all():
            raise ValueError("images must be finite for radiomic features; they contain NaN or infinity")
        pixels = images.detach().cpu().double().numpy()
        rows = [[value for channel in image for value in radiomic_features(channel).values()] for image in pixels]
        return torch.tensor(rows, dtype=torch.float64)


def radiomic_features(image: np.ndarray) -> dict[str, float]:
    """Return the features of one image (*S) in [-1, 1], float64, by name."""
    levels = gray_levels(image, -1.0, 1.0)
    return {**first_order(image, levels), **texture(levels), **wavelet_energies(image)}


def gray_levels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return numbers 0 to 31 of equal steps from `low` to `high`, uint8; `high` belongs to the last step, values outside to the nearest."""
    return ((values - low) * (GRAY_LEVELS / (high - low))).clip(0, GRAY_LEVELS - 1).astype(np.uint8)


def first_order(image: np.ndarray, levels: np.ndarray) -> dict[str, float]:
    """Return the features of the distribution of gray values, independent of their places.

    Source: IBSI reference manual (Zwanenburg et al. 2020, doi 10.1148/radiol.2020191145; arXiv 1612.07003), sections 3.3 and 3.4. Variance
    by N, kurtosis in excess of 3, both kurtosis and skewness 0 for a flat image; the robust deviation over values from the 10th to the 90th
    percentile; entropy in bits. Where we differ: the root mean square is that of the gray value above -1, because about 0, the middle of
    our range, dark and bright would be equal. Energy is left out (it is the same, times the size), and so are the coefficients of
    dispersion, which divide by a mean that may be 0.
    """
    x = image.ravel()
    p10, p25, median, p75, p90 = np.quantile(x, (0.1, 0.25, 0.5, 0.75, 0.9))
    mean, least, most = x.mean(), x.min(), x.max()
    deviation = x - mean
    square = deviation * deviation
    variance = square.mean()
    flat = variance <= FLAT**2
    inner = x[(x >= p10) & (x <= p90)]
    shares = np.bincount(levels.ravel(), minlength=GRAY_LEVELS) / x.size
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
    """Return the properties of the gray-level co-occurrence matrix (GLCM), how often gray levels lie side by side, by scikit-image.

    At 1 pixel in 4 directions, each way; the mean over directions, and for volumes also over planes with equal weights: 8 slices across the
    first axis, evenly spaced, and the middle plane of each axis. Correlation is 1 in a flat image, as in scikit-image and pyradiomics.

    Source: Haralick et al. 1973 (doi 10.1109/TSMC.1973.4309314); IBSI section 3.6, features averaged over directions. Entropy in bits;
    homogeneity is IBSI's inverse difference moment, dissimilarity its difference average, `asm` its angular second moment and `energy` the
    root of that. Distance 1 only: scikit-image reads 2 pixels along a diagonal as 1, and the wavelets measure coarser texture.
    """
    planes = [_matrix_properties(plane) for plane in _planes(levels)]
    return {key: float(np.mean([properties[key] for properties in planes])) for key in planes[0]}


def _planes(levels: np.ndarray) -> list[np.ndarray]:
    if levels.ndim == 2:
        return [levels]
    depth, height, width = levels.shape
    axial = {depth // 2} | {(2 * i + 1) * depth // (2 * AXIAL) for i in range(AXIAL)}
    return [*(levels[k] for k in sorted(axial)), levels[:, height // 2], levels[:, :, width // 2]]


def _matrix_properties(plane: np.ndarray) -> dict[str, float]:
    matrices = graycomatrix(plane, [1], ANGLES, levels=GRAY_LEVELS, symmetric=True, normed=True)[:, :, 0]  # (levels, levels, angles)
    gray = np.arange(GRAY_LEVELS)
    gap = np.abs(gray[:, None] - gray)
    contrast, dissimilarity, homogeneity = (np.tensordot(weight, matrices) for weight in (gap**2, gap, 1 / (1 + gap**2)))  # (angles,)
    marginal = matrices.sum(1)  # of rows and columns alike, because the matrices are symmetric
    variance = gray**2 @ marginal - (gray @ marginal) ** 2
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
    """Return for each sub-band its mean absolute value, its root mean square and its entropy (in bits over 32 levels from its smallest to
    its largest value; 0 if flat), by PyWavelets.

    One level of the coiflet of 6 taps with mirrored borders; one letter an axis, `a` low and `d` high: ad, da, dd, and aa.
    Source: pyradiomics (van Griethuysen et al. 2017, doi 10.1158/0008-5472.CAN-17-0339) for the wavelet; IBSI section 2.7, fixed bin
    number, for the levels. Where we differ: pyradiomics keeps the full size and wraps borders round, so that the left border meets the
    right; ours halves, with the same energy on average except at the borders.
    """
    found = {}
    for band, values in pywt.dwtn(image, WAVELET).items():
        low, high = values.min(), values.max()
        shares = np.bincount(gray_levels(values, low, high).ravel()) / values.size if high - low > FLAT else np.ones(1)
        found[f"wavelet_{band}_mean_absolute"] = np.abs(values).mean()
        found[f"wavelet_{band}_root_mean_square"] = (values * values).mean() ** 0.5
        found[f"wavelet_{band}_entropy"] = _bits(shares)
    return found


def _bits(shares: np.ndarray) -> float:
    """Return the entropy in bits of shares that sum to 1."""
    some = shares[shares > 0]
    return float(-(some * np.log2(some)).sum())
