"""The values of a mask file and their meaning: labels as they are, or a few values with JPEG rings or soft edges between them."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

# Whole numbers below it are labels. A file of gray levels has a larger one.
SMALL = 32
# The share of pixels, apart from those of the two commonest values, that lie in even regions in a file of labels. In files with rings and
# soft edges it is below 0.35: JPEG of quality 10 to 95, bicubic and Gaussian edges.
EVEN = 0.6
# A value nearer than this share of the largest to 0, or to the largest, is that value, off by a ring.
RING = 1 / 16
# A value fills a region if this share of its pixels lies within one, and the region has this share of the pixels above 0.
WITHIN, REGION = 0.4, 0.01
SHOWN = 8


def inside(values: np.ndarray, labels: Sequence[int] | None) -> list[np.ndarray]:
    """Return where a mask of these values (*S) is inside (bool): a mask for each label, or one for all values above 0.

    If rings or soft edges lie between the values that fill regions, a pixel has the nearest of those: with two, 0 and another, a pixel is
    inside from half of the larger on.
    """
    rounded = np.rint(values)
    whole = is_whole(values)
    meant = meant_values(values, whole)
    if meant is None:
        return [(rounded if whole else values) > 0] if labels is None else [rounded == label for label in labels]
    nearest = np.searchsorted((meant[1:] + meant[:-1]) / 2, values, side="right")
    if labels is None:
        return [nearest > 0]
    close = [np.flatnonzero((np.abs(meant - label) <= RING * meant[-1]) & ((meant > 0) == (label > 0))) for label in labels]
    return [np.isin(nearest, places) for places in close]


def meant_values(values: np.ndarray, whole: bool) -> np.ndarray | None:
    """Return the values that are meant, 0 and the largest among them, if others lie between them; None if each value means itself.

    `whole`: the values are whole numbers.
    """
    top = values.max()
    if top <= 0 or (whole and top < SMALL):
        return None
    kinds, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(kinds) <= 2:
        return None
    place = place.reshape(values.shape)
    even, within = (np.bincount(place[part], minlength=len(kinds)) for part in even_regions(place))
    rest = counts.argsort()[:-2]
    if whole and even[rest].sum() >= EVEN * counts[rest].sum():
        return None
    large = (within >= WITHIN * counts) & (counts >= REGION * counts[kinds > 0].sum())
    between = (kinds > RING * top) & (kinds < (1 - RING) * top)
    return np.array([0, *kinds[large & between], top])


def even_regions(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where a pixel has the value of a neighbor along each axis, as in a region of one value, and of both neighbors, as within."""
    even, within = np.ones(values.shape, bool), np.ones(values.shape, bool)
    for axis in range(values.ndim):
        if values.shape[axis] > 1:
            same = np.diff(values, axis=axis) == 0
            edge = [(0, 0)] * values.ndim
            before, after = (np.pad(same, [*edge[:axis], width, *edge[axis + 1 :]]) for width in ((1, 0), (0, 1)))
            even &= before | after
            within &= before & after
    return even, within


def is_whole(values: np.ndarray) -> bool:
    return bool(np.abs(values - np.rint(values)).max() < 1e-3)


def values_in(values: np.ndarray, at_most: int = 9) -> list[float]:
    """Return the different values of a mask, `at_most` of them: the smallest ones and the largest."""
    if is_whole(values) and values.min() >= 0 and values.max() < 2**16:
        kinds = np.bincount(np.rint(values).astype(np.int64).ravel()).nonzero()[0].astype(float).tolist()  # np.unique sorts a volume
    else:
        kinds = np.unique(values).tolist()
    return kinds if len(kinds) <= at_most else [*kinds[: at_most - 1], kinds[-1]]


def spelled(scans: Iterable[Sequence[float]]) -> str:
    """Return the values of masks, each with the number of masks that hold it, the smallest first: "0 (12 masks), 255 (11)"."""
    counts = Counter(value for values in scans for value in values)
    shown = sorted(counts) if len(counts) <= SHOWN else [*sorted(counts)[: SHOWN - 1], max(counts)]
    said = [f"{value:g} ({counts[value]}{'' if place else ' masks'})" for place, value in enumerate(shown)]
    return ", ".join(said) + (f" and {len(counts) - SHOWN} others" if len(counts) > SHOWN else "")
