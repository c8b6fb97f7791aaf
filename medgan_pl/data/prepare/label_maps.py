"""Label maps by their values: a mask is piecewise constant, which no measured image is."""

from collections.abc import Sequence

import numpy as np

# Measured images have noise. Masks of one to a few structures have at most FEW whole values. Atlases have more (whole-body CT 117,
# FreeSurfer about 110, up to 14175), and most of their neighbors are equal. SAMPLED pixels decide whether all are looked at.
FEW, MANY, EQUAL, SAMPLED = 8, 512, 0.75, 2**13
# Soft edges, and the rings of JPEG: few pixels lie between the two values of a mask, fewer than BETWEEN of those at the rarer one. Each of
# the two has more than RARE of all pixels (an image may have a few bright ones), and one value alone has COMMON of them.
# In a small JPEG most pixels are rings NEAR the two values (in as many of 64 bins), fewer than FAR of the rarer ones lie between them,
# and EXACT of those have one value, which noise never has.
BETWEEN, RARE, COMMON = 0.5, 5e-4, 0.4
NEAR, FAR, EXACT = 7, 0.2, 0.4


def label_map(pixels: np.ndarray, histogram: Sequence[int]) -> str:
    """Return the reason why an image of different finite values looks like a mask, "" if it does not.

    pixels (H, W) or (D, H, W); `histogram`: counts of equal bins from its minimum to its maximum.
    """
    if few := few_values(pixels):
        return few
    low, *between, high = (int(count) for count in histogram)
    rarer, (first, second) = min(sum(histogram[:NEAR]), sum(histogram[-NEAR:])), commonest(pixels)
    rings = sum(histogram[NEAR:-NEAR]) < FAR * rarer and second > EXACT * rarer / pixels.size
    soft = sum(between) < BETWEEN * min(low, high)
    if (soft or rings) and min(low, high) > RARE * pixels.size and first > COMMON:
        return "nearly all of its values are one of two, as in a mask with soft edges"
    return ""


def few_values(pixels: np.ndarray) -> str:
    """Return a reason if the image has few whole values, or more of them in patches of one value; "" if not."""
    lines, seen = pixels.reshape(-1, pixels.shape[-1]), sample(pixels)
    if np.any(seen[:1] % 1) or len(sampled := np.unique(seen)) > MANY or np.any(sampled % 1):
        return ""
    if len(sampled) > FEW and equal_neighbors(seen) < EQUAL:
        return ""
    low, high = int(pixels.min()), int(pixels.max())
    if high - low > 2**20:
        return ""
    found = np.zeros(high - low + 1, bool)
    for part in lines.reshape(len(pixels), -1) if pixels.ndim == 3 else [lines]:
        if np.any(part % 1):
            return ""
        found[(part - low).astype(np.int64)] = True
    values = (np.flatnonzero(found) + low).tolist()
    if len(values) <= FEW:
        return f"it has only the values {', '.join(map(str, values))}"
    flat = len(values) <= MANY and equal_neighbors(seen) >= EQUAL
    return f"it has {len(values)} whole values, {low} to {high}, in patches of one value" if flat else ""


def sample(pixels: np.ndarray) -> np.ndarray:
    """Return some lines (N, W) of an image, evenly spaced, of about SAMPLED pixels."""
    lines = pixels.reshape(-1, pixels.shape[-1])
    return lines[:: max(1, lines.size // SAMPLED)]


def commonest(pixels: np.ndarray) -> tuple[float, float]:
    """Return the shares of the two most common values in a sample."""
    counts = np.sort(np.unique(sample(pixels), return_counts=True)[1])
    return float(counts[-1] / counts.sum()), float(counts[:-1].max(initial=0) / counts.sum())


def equal_neighbors(lines: np.ndarray) -> float:
    """Return the share of equal neighbors along lines (N, W), 0 to 1.

    Pairs that both have the smallest, the largest or the most common value do not count: background, padding, saturation. Without any
    other pair the share is 0.
    """
    values, counts = np.unique(lines, return_counts=True)
    left, right = lines[:, :-1], lines[:, 1:]
    plain = np.isin(left, (values[0], values[-1], values[counts.argmax()])) & (left == right)
    return float((left == right)[~plain].mean()) if not plain.all() else 0.0
