"""Translation between modalities by gray values alone, without a network: the methods that a network must beat.

All map sources (B, C, *S) in [-1, 1] to images of the same shape and range, channel by channel.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from skimage.exposure import match_histograms
from torch import Tensor

Pictures = Float[Tensor, "b c *space"]
SHARES = np.linspace(0, 1, 4097)  # quantiles of a pool, finer than the thousandths of a cached image
LEVELS = 256  # gray values that `mean_of_each` distinguishes


class HistogramMatch:
    """Matches the histogram of each image to that of the images `target` (N, C, *S), pooled: the k-th darkest of n pixels becomes the (k -
    1) / (n - 1) quantile. By scikit-image's match_histograms; Gonzalez & Woods 2018, section 3.3. Noise of one modality has ranks too, and
    is spread over the tissues of the other.
    """

    def __init__(self, target: Pictures) -> None:
        # The quantiles of the pool as one image: each call would sort the million values of the pool again.
        shares = np.linspace(0, 1, target[0, 0].numel())
        self.references = [np.quantile(channel, shares).reshape(target.shape[2:]) for channel in target.movedim(1, 0).numpy()]

    def __call__(self, images: Pictures) -> Pictures:
        made = [[match_histograms(*each) for each in zip(image, self.references, strict=True)] for image in images.numpy()]
        return torch.from_numpy(np.array(made, np.float32))


class GrayValues:
    """Maps each gray value to another, the same in all images: `tables` has for each channel some values and their images, with linear
    interpolation in between."""

    def __init__(self, tables: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self.tables = tables

    def __call__(self, images: Pictures) -> Pictures:
        made = [np.interp(channel, *table) for channel, table in zip(images.movedim(1, 0).numpy(), self.tables, strict=True)]
        return torch.from_numpy(np.array(made, np.float32)).movedim(0, 1)


def pools_matched(source: Pictures, target: Pictures) -> GrayValues:
    """Return the map that matches the histogram of many sources, once for all, to that of many images of the target; the images need not be
    pairs.

    It is the increasing map of Nyúl & Udupa 1999 (doi 10.1002/(SICI)1522-2594(199912)42:6<1072::AID-MRM11>3.0.CO;2-M), with all quantiles
    instead of landmarks.
    """
    pools = [[np.quantile(channel, SHARES) for channel in images.movedim(1, 0).numpy()] for images in (source, target)]
    return GrayValues(list(zip(*pools, strict=True)))


def mean_of_each(source: Pictures, target: Pictures) -> GrayValues:
    """Return the map of each gray value of a source to its mean in `target`, image i the truth of source i, over all pixels: the map of
    gray values with the least squared error, which may turn dark into bright. It needs pairs."""
    tables = []
    for values, truth in zip(source.movedim(1, 0).numpy(), target.movedim(1, 0).numpy(), strict=True):
        levels = np.rint((values.ravel() + 1) / 2 * (LEVELS - 1)).astype(int)
        counts, sums = np.bincount(levels, minlength=LEVELS), np.bincount(levels, truth.ravel(), LEVELS)
        seen = counts > 0
        tables.append((np.linspace(-1, 1, LEVELS)[seen], sums[seen] / counts[seen]))
    return GrayValues(tables)
