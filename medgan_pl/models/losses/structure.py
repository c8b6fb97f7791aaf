"""Structural similarity by scales, for the loss (image.py) and the metrics; differentiable."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

# Wang et al. 2003, section 3.2 (weights) and Wang et al. 2004 (doi 10.1109/TIP.2003.819861), section III.B (window, K1, K2).
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5  # pixels
BELL = [math.exp(-((place - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for place in range(WINDOW)]
WINDOW_WEIGHTS = [height / sum(BELL) for height in BELL]  # no tensor: the first import may be under torch's device "meta"
C1, C2 = 0.01**2, 0.03**2  # for a range of 1

Images = Float[Tensor, "b c *space"]
Inside = Float[Tensor, "b 1 *space"]


def scales_within(sides: Sequence[int]) -> int:
    """Return how many scales, at most 5 and each half the one before, the window fits in: 0 under 11 pixels, 5 from 176 on."""
    return sum(min(sides) >> scale >= WINDOW for scale in range(len(WEIGHTS)))


def scale_weights(scales: int) -> list[float]:
    """Return the exponents of the first `scales` scales, normalized to a sum of 1."""
    return [weight / sum(WEIGHTS[:scales]) for weight in WEIGHTS[:scales]]


def scale_means(x: Images, y: Images, scales: int, inside: Inside | None = None) -> Float[Tensor, "b scales"]:
    """Return the mean of cs at each scale, of l · cs at the last (see `similarity`).

    Images are in [0, 1], and the window must fit at every scale. Each scale halves by averaging. With `inside` (B, 1, *S) of {0, 1} only
    windows count that lie where it is 1; an image without such a window has 1.
    """
    pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
    means = []
    for scale in range(1, scales + 1):
        luminance, structure = similarity(x, y)
        part = structure if scale < scales else luminance * structure
        means.append(part.flatten(1).mean(1) if inside is None else mean_inside(part, whole_windows(inside), empty=1.0))
        if scale < scales:
            x, y = pool(x, 2), pool(y, 2)
            inside = None if inside is None else (pool(inside, 2) == 1).to(inside.dtype)
    return torch.stack(means, 1)


def mean_inside(values: Images, inside: Inside, empty: float) -> Float[Tensor, " b"]:
    """Return the mean of values (B, C, *S) of each image where `inside` (B, 1, *S) is 1; `empty` where it is nowhere."""
    count = inside.flatten(1).sum(1) * values.shape[1]
    total = torch.where(inside > 0, values, 0).flatten(1).sum(1)
    return torch.where(count > 0, total / count.clamp(min=1), empty)


def whole_windows(inside: Inside) -> Float[Tensor, "b 1 ..."]:
    """Return 1 for each window (B, 1, *(S - 10)) in which `inside` is 1 everywhere, else 0."""
    for axis in range(2, inside.ndim):
        inside = inside.unfold(axis, WINDOW, 1).amin(-1)
    return inside


def similarity(x: Images, y: Images) -> tuple[Float[Tensor, "b c ..."], Float[Tensor, "b c ..."]]:
    """Return brightness l and structure cs in the window about each pixel, (B, C, *(S - 10)) each, of images in [0, 1].

    l = (2 μx μy + C1) / (μx² + μy² + C1), cs = (2 σxy + C2) / (σx² + σy² + C2). With the images' difference d and half their sum m:
    l = 1 - μd² / (2 μm² + μd²/2 + C1), cs = 1 - σd² / (2 σm² + σd²/2 + C2). The rounding error of σ² = mean of squares - squared mean, in
    float32 in flat bright parts, is then relative to 1 - cs, and equal images give exactly 1.
    """
    difference = x - y
    middle = (x + y - 1) / 2  # near 0, where squares are small; the shift does not change the variance
    mean_d, mean_m, square_d, square_m = _blur(torch.stack([difference, middle, difference**2, middle**2]))
    spread_d, spread_m = (square_d - mean_d**2).clamp(min=0), (square_m - mean_m**2).clamp(min=0)
    luminance = 1 - mean_d**2 / (2 * (mean_m + 0.5) ** 2 + mean_d**2 / 2 + C1)
    return luminance, 1 - spread_d / (2 * spread_m + spread_d / 2 + C2)


def _blur(maps: Tensor) -> Tensor:
    """Filter the maps (K, B, C, *S) by the Gaussian window, axis by axis; only where the window lies inside."""
    for axis in range(3, maps.ndim):
        inside = maps.shape[axis] - WINDOW + 1
        # Eleven shifted sums: on the CPU 4 to 20 times as fast as a convolution of one channel, back and forth, and never in TF32.
        blurred = maps.narrow(axis, 0, inside) * WINDOW_WEIGHTS[0]
        for shift, weight in enumerate(WINDOW_WEIGHTS[1:], 1):
            blurred.add_(maps.narrow(axis, shift, inside), alpha=weight)
        maps = blurred
    return maps
