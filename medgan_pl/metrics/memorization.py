"""Privacy: copies of training images among generated ones, by distances between embeddings (N, F) in any space; a small distance is a copy.

Held-out patients calibrate the distances: they are as near to the training images as an unseen patient is by chance. A held-out image that
equals a training image under another name does not count as unseen; see `twins`.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from medgan_pl.metrics.estimate import Estimate, Resampling, cases
from medgan_pl.metrics.extractors.features import Extractor
from medgan_pl.metrics.neighbours import nearest, nearest_other

Distances = Float[Tensor, " n"]

QUANTILE = 0.01  # of held-out images, which are this near by chance
MIN_IMAGES = 10  # images of each set; with fewer an interval of a median or a rank means nothing
ROUNDING = 1e-9  # 0.01 × 2,900 is 28.999…
BLANK = 1e-6  # root mean square about the mean, in units of [-1, 1]: what float32 leaves of a constant image
TWIN = 1e-3  # of the median distance: an equal image, embedded in another batch, is off by rounding, some 1e-4 of it
CAUGHT_COPIES, CAUGHT_ADVANTAGE = 5 * QUANTILE, 0.02  # see `leaks`


class PixelFeatures(Extractor):
    """Small pixels as features: the image averaged by area to at most 32 a side (16 in 3-D), minus its mean, scaled to length 1.

    Images (B, C, *S) in [-1, 1] -> (B, C · sides), so that distance² = 2 (1 - correlation). Brightness and contrast do not count; fine
    grain and shifts by a part of the small pixel hardly do. Sides of 32 (16) or less stay; other sides that are not a multiple are averaged
    over windows that overlap by a pixel. An image without contrast gives zeros: distance 0 to another such image, 1 to any other.
    Raises ValueError for another number of axes.
    """

    name = "pixels"

    def __init__(self, *, spatial_dims: int = 2) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"`spatial_dims` must be 2 or 3, got {spatial_dims}")
        self.spatial_dims, self.side = spatial_dims, 32 if spatial_dims == 2 else 16
        self.rules = {
            "weights": "none", "resize": f"area, to at most {self.side} a side", "grey": "channels as they are",
            "normalisation": "mean taken off, length 1", "features": f"pixels, {spatial_dims}-D",
        }  # fmt: skip

    def forward(self, images: Float[Tensor, "b ..."]) -> Float[Tensor, "b features"]:
        if images.ndim != self.spatial_dims + 2:
            raise ValueError(
                f"PixelFeatures was built for images (B, C, {', '.join('S' * self.spatial_dims)}), got {tuple(images.shape)}; "
                "set `spatial_dims`"
            )
        pool = F.adaptive_avg_pool2d if self.spatial_dims == 2 else F.adaptive_avg_pool3d
        small = pool(images.float(), [min(side, self.side) for side in images.shape[2:]]).flatten(1)
        small = small - small.mean(1, keepdim=True)
        blank = small.square().mean(1, keepdim=True).sqrt() < BLANK
        return F.normalize(small, dim=1).masked_fill(blank, 0)


def nearest_of_views(views: Sequence[Float[Tensor, "n f"]], train: Float[Tensor, "m f"]) -> tuple[Distances, Int[Tensor, " n"]]:
    """Return the distance (float64) and place of the training image nearest to each image in any of its `views`, such as the image and its
    mirror image.

    Raises ValueError for no view, views of unequal shape, and as `neighbours.nearest`.
    """
    if not views or len({view.shape for view in views}) > 1:
        raise ValueError(f"`views` must be one or more embeddings of equal shape, got {[tuple(view.shape) for view in views]}")
    found = [nearest(view, train) for view in views]
    distance, view = torch.stack([distance for distance, _ in found]).min(0)
    return distance, torch.stack([place for _, place in found]).gather(0, view[None])[0]


def closest_pairs(distance: Distances, place: Int[Tensor, " n"], n: int) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Return the `n` images nearest to training, the nearest first, and the places of their training images; all if there are fewer."""
    rows = distance.argsort(stable=True)[:n]
    return rows, place[rows]


def twins(distance: Distances) -> Bool[Tensor, " n"]:
    """Return which held-out images equal a training image but for rounding: the same image under another name.

    They are left out when held-out distances calibrate: with more than 1 % of them, nothing could be nearer than 0. They also mean that the
    split leaks, which a report must state.
    """
    return distance <= TWIN * distance.mean()


def nearest_ratio(fake_distance: Distances, held_out_distance: Float[Tensor, " m"], resampling: Resampling) -> Estimate:
    """Return `nn_ratio`: the median distance of the fakes to training, divided by that of held-out reals without `twins`; 0 up, 1 is like a
    held-out real.

    Fakes and held-out reals (`resampling.real_groups`) are both resampled. Raises ValueError for fewer than 10 of either, NaN or infinity.
    """
    fake, held_out, resampling = _without_twins(fake_distance, held_out_distance, resampling)
    if min(len(fake), len(held_out)) < MIN_IMAGES:
        raise ValueError(
            f"a ratio of medians needs {MIN_IMAGES} fakes and {MIN_IMAGES} held-out images that are not in the training set, "
            f"got {len(fake)} and {len(held_out)}"
        )

    def ratio(fake: Tensor, held_out: Tensor) -> Tensor:
        return (fake.quantile(0.5) / held_out.quantile(0.5))[None]

    return resampling.of_samples(ratio, (fake, held_out), (resampling.fake_groups, resampling.real_groups))[0]


def copies(
    fake_distance: Distances, held_out_distance: Float[Tensor, " m"], resampling: Resampling, quantile: float = QUANTILE
) -> Estimate:
    """Return `copies`: the share of the fakes that are nearer to training than all but `quantile` of the held-out reals without `twins`; 0
    to 1.

    The threshold is the k-th smallest of m held-out distances, k = ⌊`quantile` m⌋: of fakes like unseen patients, k / (m + 1) are below it
    on average, for any distribution. "Nearer" is <, and the threshold is above 0: a fake that equals a training image always counts, one
    exactly as near as the k-th held-out image does not.
    Interval: fakes and held-out reals (`resampling.real_groups`) are both resampled, and with them the threshold. The threshold cannot be
    below the smallest distance seen: with 100 held-out reals the interval contains the true share in some 80 to 90 of 100 cases, with 200
    in about 95.
    Raises ValueError for fewer held-out reals than 1 / `quantile`, 100 for 1 % (k would be 0), fewer than 10 fakes, NaN or infinity.
    """
    return _share_below(fake_distance, held_out_distance, resampling, quantile)


def duplicates(fake: Float[Tensor, "n f"], held_out: Float[Tensor, "m f"], resampling: Resampling, quantile: float = QUANTILE) -> Estimate:
    """Return `duplicates`: the share of fakes (embeddings) nearer to another fake than all but `quantile` of held-out reals are to another;
    0 to 1.

    More images have nearer neighbors, so both sets are cut to the smaller count. Images of one patient are alike, so one image of each
    patient is kept (of `fake_groups` too, for reals in place of fakes). Both cuts use permutations keyed by `resampling.seed`. Threshold,
    twins and interval are as in `copies`, but the two images of a pair share their distance and are resampled as independent: if all
    duplicates are pairs, the interval is up to √2 too narrow.
    Raises ValueError for fewer than 1 / `quantile` fakes or held-out patients, 100 for 1 %, unequal F, NaN or infinity.
    """
    generator = torch.Generator().manual_seed(resampling.seed)
    fake_rows = _one_each(len(fake), resampling.fake_groups, generator)
    held_out_rows = _one_each(len(held_out), resampling.real_groups, generator)
    count, minimum = min(len(fake_rows), len(held_out_rows)), _min_patients(quantile)
    if count < minimum:
        raise ValueError(
            f"a {100 * quantile:g} % quantile needs {minimum} fakes and held-out images of {minimum} patients or more, "
            f"got {len(fake_rows)} and {len(held_out_rows)}"
        )
    distances = [nearest_other(x[rows[:count]])[0] for x, rows in ((fake, fake_rows), (held_out, held_out_rows))]
    return _share_below(*distances, replace(resampling, fake_groups=None, real_groups=None), quantile)


def leaks(copies: Estimate | None, advantage: Estimate | None) -> str:
    """Return a sentence for each leak found, by `copies` at 1 % and by `mia_advantage` (None if not defined); "" if there is none.

    - Copies: the lower end is above 0.05, five times chance. Of 300 simulated honest generators in each of 20 settings (100 to 1,000
      held-out reals, 100 to 2,000 fakes) at most 0.3 % were flagged; at three times chance 2.3 %. With 10 % of copies among 200 fakes or
      more, all but 0.3 % were found. Five times leaves room for blur, which brings images nearer without copying: honest chest films
      (Kermany et al. 2018) under a blur of 1/32 of their side reached 0.06.
    - Advantage: the lower end is above 0.02. By chance this happens in less than 1 of 100 honest cases with a few hundred patients, and a
      smaller gain is of little use to an attacker.
    A generator that repeats training images in less than about 5 % of its own is not detected: look at the closest pairs.
    """
    found = []
    if copies is not None and copies.low > CAUGHT_COPIES:
        value, low, high = (f"{100 * share:.0f} %" for share in (copies.value, copies.low, copies.high))
        found.append(
            f"{value} ({low} to {high}) of the generated images are nearer to a training image than all but {100 * QUANTILE:g} % of "
            "unseen patients are: training images are repeated."
        )
    if advantage is not None and advantage.low > CAUGHT_ADVANTAGE:
        found.append(
            f"An attacker can infer who was in the training set: the AUC is {advantage.value:.2f} ({advantage.low:.2f} to "
            f"{advantage.high:.2f}) above that of the control."
        )
    return " ".join(found)


def _without_twins(fake: Tensor, held_out: Tensor, resampling: Resampling) -> tuple[Tensor, Tensor, Resampling]:
    """Return the distances in float64 and the resampling, without the held-out images that are `twins`."""
    if not (torch.isfinite(fake).all() and torch.isfinite(held_out).all()):
        raise ValueError("distances must be finite; they contain NaN or infinity")
    kept, groups = ~twins(held_out), resampling.real_groups
    resampling = replace(resampling, real_groups=None if groups is None else groups[kept])
    return fake.double(), held_out.double()[kept], resampling


def _share_below(fake: Tensor, held_out: Tensor, resampling: Resampling, quantile: float) -> Estimate:
    fake, held_out, resampling = _without_twins(fake, held_out, resampling)
    if len(fake) < MIN_IMAGES or len(held_out) < _min_patients(quantile):
        raise ValueError(
            f"a {100 * quantile:g} % quantile needs {MIN_IMAGES} fakes and {_min_patients(quantile)} held-out images or more that are "
            f"not in the set they are compared with; got {len(fake)} and {len(held_out)}"
        )

    def share(fake: Tensor, held_out: Tensor) -> Tensor:
        rank = max(1, math.floor(quantile * len(held_out) + ROUNDING))  # resampled patients can have fewer images
        return (fake < held_out.kthvalue(rank).values).double().mean()[None]

    groups = resampling.fake_groups, resampling.real_groups
    return resampling.of_samples(share, (fake, held_out), groups)[0].as_share(cases(len(fake), groups[0]))


def _min_patients(quantile: float) -> int:
    if not 0 < quantile < 1:
        raise ValueError(f"`quantile` must lie between 0 and 1, got {quantile}")
    return math.ceil(1 / quantile - ROUNDING)


def _one_each(n: int, groups: Tensor | None, generator: torch.Generator) -> Tensor:
    """Return the places of `n` images in random order, of each group only the first."""
    order = torch.randperm(n, generator=generator)
    if groups is None:
        return order
    _, place = groups.cpu()[order].unique(return_inverse=True)
    first = torch.full((n,), n).scatter_reduce(0, place, torch.arange(n), "amin").sort().values
    return order[first[first < n]]
