"""What makes one modality look like another without a network, by grey values alone: what a network that sees tissue must beat.

All are called with sources (B, C, *S) in [-1, 1] and give images of the same shape and range, channel by channel.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from skimage.exposure import match_histograms
from torch import Tensor

Pictures = Float[Tensor, "b c *space"]
SHARES = np.linspace(0, 1, 4097)  # quantiles of a pool, finer than the thousandths of a cached image
LEVELS = 256  # grey values told apart by `mean_of_each`


class HistogramMatch:
    """Each image by the ranks of its own grey values, given those of the images `target` (N, C, *S), pooled: of n pixels the k-th darkest
    becomes the (k - 1) / (n - 1) quantile. By scikit-image's match_histograms; Gonzalez & Woods 2018, section 3.3. What is noise in one
    modality has ranks too, and is spread over the tissues of the other."""

    def __init__(self, target: Pictures) -> None:
        # The pool as one image: of a million values each call would sort them anew.
        shares = np.linspace(0, 1, target[0, 0].numel())
        self.references = [np.quantile(channel, shares).reshape(target.shape[2:]) for channel in target.movedim(1, 0).numpy()]

    def __call__(self, images: Pictures) -> Pictures:
        made = [[match_histograms(*each) for each in zip(image, self.references, strict=True)] for image in images.numpy()]
        return torch.from_numpy(np.array(made, np.float32))


class GreyValues:
    """Each grey value made another, the same one in all images: `tables` has for each channel some values and what becomes of them, and
    between those lies a line."""

    def __init__(self, tables: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self.tables = tables

    def __call__(self, images: Pictures) -> Pictures:
        made = [np.interp(channel, *table) for channel, table in zip(images.movedim(1, 0).numpy(), self.tables, strict=True)]
        return torch.from_numpy(np.array(made, np.float32)).movedim(0, 1)


def pools_matched(source: Pictures, target: Pictures) -> GreyValues:
    """The histogram of many sources matched, once for all, to that of many images of the target, of whomever: no pair is known.

    The increasing map that does so, as Nyúl & Udupa 1999 (doi 10.1002/(SICI)1522-2594(199912)42:6<1072::AID-MRM11>3.0.CO;2-M) have it of
    landmarks; here all quantiles are.
    """
    pools = [[np.quantile(channel, SHARES) for channel in images.movedim(1, 0).numpy()] for images in (source, target)]
    return GreyValues(list(zip(*pools, strict=True)))


def mean_of_each(source: Pictures, target: Pictures) -> GreyValues:
    """What a source's grey value is in `target`, image i the truth of source i, on the mean over all their pixels: of all maps of grey
    values the one of the least squared error, dark made bright where that is so. It needs pairs."""
    tables = []
    for values, truth in zip(source.movedim(1, 0).numpy(), target.movedim(1, 0).numpy(), strict=True):
        levels = np.rint((values.ravel() + 1) / 2 * (LEVELS - 1)).astype(int)
        counts, sums = np.bincount(levels, minlength=LEVELS), np.bincount(levels, truth.ravel(), LEVELS)
        seen = counts > 0
        tables.append((np.linspace(-1, 1, LEVELS)[seen], sums[seen] / counts[seen]))
    return GreyValues(tables)
