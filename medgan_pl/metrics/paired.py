"""Paired tasks, in which fake i should equal real i: errors of gray values, structural similarity, overlap and outlines of masks."""

import warnings
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Shaped
from monai.metrics import compute_hausdorff_distance
from torch import Tensor

from medgan_pl.data.masks import as_mask
from medgan_pl.metrics.diversity import PIXELS_AT_ONCE, ms_ssim
from medgan_pl.metrics.of_pairs import OfPairs
from medgan_pl.models.losses.structure import WINDOW, mean_inside, similarity, whole_windows

RANGE = 2.0  # of images in [-1, 1]
MAX_DB = 100.0  # for equal images, and errors under 1/100,000 of the range


Inside = Float[Tensor, "real_count ..."] | None  # (N, 1, *S) of {0, 1}: 0 in padding, which is no image; None: nothing is padded


def mae(
    fake: Float[Tensor, "fake_count ..."], real: Float[Tensor, "real_count ..."], half_range: float = 1.0, inside: Inside = None
) -> Float[Tensor, " fake_count"]:
    """Return the mean absolute error of each image, both (N, C, *S) in [-1, 1], times `half_range`: native units (HU) for a step of 1, half
    the difference between the native values of -1 and 1. Raises ValueError for unequal shapes, NaN and infinity."""
    _validate(fake, real)
    return half_range * _mean((fake.double() - real.double()).abs(), inside).float()


def psnr(
    fake: Float[Tensor, "fake_count ..."], real: Float[Tensor, "real_count ..."], inside: Inside = None
) -> Float[Tensor, " fake_count"]:
    """Return the peak signal-to-noise ratio of each image in dB, both (N, C, *S) in [-1, 1]: 10 log10(2² / mean squared error), at most
    100.

    The range is that of [-1, 1], 2, not that of one image, so that images can be compared. Channels and pixels have equal weight. Equal
    images would be infinite and have no mean: they count 100 dB. Raises ValueError for unequal shapes, NaN and infinity.
    """
    _validate(fake, real)
    error = _mean((fake.double() - real.double()).square(), inside)
    return (10 * torch.log10(RANGE**2 / error.clamp(min=RANGE**2 / 10 ** (MAX_DB / 10)))).float()


def ssim(
    fake: Float[Tensor, "fake_count ..."], real: Float[Tensor, "real_count ..."], inside: Inside = None
) -> Float[Tensor, " fake_count"]:
    """Return the structural similarity of each image, both (N, C, *S) in [-1, 1], 2-D or 3-D: 1 equal, about 0 unlike, below 0 inverted.

    It is the mean over channels and pixels of l · cs (see `diversity.ms_ssim`) in a Gaussian window of 11 pixels inside the image, after
    mapping images to [0, 1]. In float64: in float32 a bright flat area would be off by 1e-4.
    Raises ValueError for unequal shapes, NaN, infinity, other than 2 or 3 axes, and a side under 11.

    Source: Wang et al. 2004 (doi 10.1109/TIP.2003.819861), section III.B. It equals scikit-image with gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1.
    """
    _validate(fake, real)
    if real.ndim not in (4, 5) or min(real.shape[2:]) < WINDOW:
        raise ValueError(f"structural similarity needs images (N, C, *S) with 2 or 3 sides of {WINDOW} or more, got {tuple(real.shape)}")
    return _in_parts(_ssim, fake, real, inside)


def _ssim(fake: Tensor, real: Tensor, inside: Inside = None) -> Tensor:
    luminance, structure = similarity((fake.double() + 1) / 2, (real.double() + 1) / 2)
    return _mean(luminance * structure, None if inside is None else whole_windows(inside)).float()


def dice(fake: Shaped[Tensor, "fake_count ..."], real: Shaped[Tensor, "real_count ..."]) -> Float[Tensor, " fake_count"]:
    """Return the Dice overlap of each pair of masks (N, 1, *S) of 0 and 1: 2 |A ∩ B| / (|A| + |B|), from 0 to 1.

    It is 1 if both are empty, since the structure is rightly absent, and 0 if one is. Raises ValueError for unequal shapes and values other
    than 0 and 1.
    """
    a, b = (mask.flatten(1).double() for mask in _masks(fake, real))
    total = a.sum(1) + b.sum(1)
    return torch.where(total == 0, 1.0, 2 * (a * b).sum(1) / total.clamp(min=1)).float()


def hausdorff_95(
    fake: Shaped[Tensor, "fake_count ..."], real: Shaped[Tensor, "real_count ..."], spacing_mm: Sequence[float] | None = None
) -> Float[Tensor, " fake_count"]:
    """Return the Hausdorff distance, 95th percentile, of each pair of masks (N, 1, *S) of 0 and 1, by MONAI; NaN (not defined) if a mask is
    empty.

    It is the 95th percentile of the distances from each voxel of one outline to the nearest of the other, the larger of both directions; in
    mm if `spacing_mm`, the size of a voxel along each axis, is given, else in voxels.
    Raises ValueError for unequal shapes, values other than 0 and 1, and a spacing that is not one positive number an axis.
    """
    a, b = _masks(fake, real)
    _validate_spacing(spacing_mm, a.ndim - 2)
    found = torch.full((len(a),), torch.nan, device=a.device)
    both = a.flatten(1).any(1) & b.flatten(1).any(1)
    if both.any():
        spacing = None if spacing_mm is None else [float(mm) for mm in spacing_mm]  # MONAI wants them of one type
        with warnings.catch_warnings():
            # MONAI 1.6 warns of an argument that it gives itself.
            warnings.filterwarnings("ignore", ".*get_mask_edges:always_return_as_numpy", FutureWarning)
            distances = compute_hausdorff_distance(a[both], b[both], include_background=True, percentile=95, spacing=spacing)
        found[both] = distances[:, 0].to(found)
    return found


class Paired(OfPairs):
    """Errors of each fake against its own real, both (B, C, *S) in [-1, 1]: {"mae", "psnr", "ssim", "ms_ssim_paired"}, means over images.

    Padding takes no part: an image with padding is compared as if it were cut out of it, so that the size of the canvas changes nothing.
    Where it is no box, means are over its voxels, and over windows without padding. An image that no window fits in has no similarity.

    `half_range`: as in `mae`, 700 for a window of [-1000, 400] HU; 1, the default, leaves the error in the units of [-1, 1].
    Raises ValueError for unequal shapes, NaN, infinity, and a side under 11, which has no structural similarity.
    """

    keys = ("mae", "psnr", "ssim", "ms_ssim_paired")

    def __init__(self, *, half_range: float = 1.0) -> None:
        super().__init__()
        if not 0 < half_range < float("inf"):
            raise ValueError(f"`half_range` must be a positive number, native units for a step of 1, got {half_range}")
        self.half_range = half_range

    def measured(self, fake: Tensor, real: Tensor, inside: Tensor | None = None) -> Tensor:
        if inside is not None:
            return torch.cat([self.without_padding(*each) for each in zip(fake.split(1), real.split(1), inside.split(1), strict=True)])
        columns = [mae(fake, real, self.half_range), psnr(fake, real), ssim(fake, real), _in_parts(ms_ssim, fake, real)]
        return torch.stack(columns, 1)

    def without_padding(self, fake: Tensor, real: Tensor, inside: Tensor) -> Tensor:
        """Return the row of one pair (1, C, *S), (1, keys), of the part where `inside` is 1."""
        if not inside.any():
            return torch.full((1, len(self.keys)), torch.nan, device=fake.device)
        places = [axis.unique() for axis in inside[0, 0].nonzero().unbind(1)]
        box = (..., *(slice(int(axis.min()), int(axis.max()) + 1) for axis in places))
        fake, real, inside = fake[box], real[box], inside[box]
        errors = [mae(fake, real, self.half_range, inside), psnr(fake, real, inside)]
        if min(inside.shape[2:]) < WINDOW or not whole_windows(inside).any():
            likeness = [torch.full_like(errors[0], torch.nan)] * 2
        else:
            part = None if inside.all() else inside
            likeness = [ssim(fake, real, part), ms_ssim(fake, real, part)]
        return torch.stack([*errors, *likeness], 1)


class PairedMasks(OfPairs):
    """Overlap of each mask with its own real one, both (B, 1, *S) of 0 and 1: {"dice", "hd95"}, means over images.

    `spacing_mm`: as in `hausdorff_95`, one for all images. `hd95` is not defined for an empty mask: such pairs are left out of its mean and
    counted by `undefined`, so read it together with Dice, which counts them. Raises ValueError as `dice` and `hausdorff_95`.
    """

    keys = ("dice", "hd95")

    def __init__(self, *, spacing_mm: Sequence[float] | None = None) -> None:
        super().__init__()
        self.spacing_mm = spacing_mm

    def measured(self, fake: Tensor, real: Tensor, inside: Tensor | None = None) -> Tensor:
        if inside is not None:  # in padding both are empty
            fake, real = fake * inside, real * inside
        return torch.stack([dice(fake, real), hausdorff_95(fake, real, self.spacing_mm)], 1)


class Segments(OfPairs):
    """Overlap of segmentations with their truth, both (B, K, *S) in [-1, 1], a channel for each of `structures`, inside above 0: {"dice",
    "dice_<structure>"}, means over images, `dice` also over structures; with `outlines` also "hd95_<structure>", which is slow.

    `spacing_mm`: as in `hausdorff_95`, one for all images; `hd95` is not defined for an empty mask, as in `PairedMasks`. Raises ValueError
    for another number of channels.
    """

    def __init__(self, *, structures: Sequence[str], outlines: bool = False, spacing_mm: Sequence[float] | None = None) -> None:
        super().__init__()
        self.structures, self.outlines, self.spacing_mm = tuple(structures), outlines, spacing_mm
        distances = [f"hd95_{name}" for name in structures] if outlines else []
        self.keys = ("dice", *(f"dice_{name}" for name in structures), *distances)

    def measured(self, fake: Tensor, real: Tensor, inside: Tensor | None = None) -> Tensor:
        if inside is not None:  # in padding both are empty
            fake, real = (torch.where(inside > 0, images, -1.0) for images in (fake, real))
        if real.shape[1] != len(self.structures):
            raise ValueError(f"a segmentation must have a channel for each of {len(self.structures)} structures, got {tuple(real.shape)}")
        pairs = [(as_mask(a), as_mask(b)) for a, b in zip(fake.split(1, 1), real.split(1, 1), strict=True)]
        overlaps = [dice(*pair) for pair in pairs]
        distances = [hausdorff_95(*pair, self.spacing_mm) for pair in pairs] if self.outlines else []
        return torch.stack([torch.stack(overlaps).mean(0), *overlaps, *distances], 1)


def _mean(values: Tensor, inside: Tensor | None) -> Tensor:
    """Return the mean of each image, (N,), of values (N, C, *S), where `inside` is 1."""
    return values.flatten(1).mean(1) if inside is None else mean_inside(values, inside.to(values.dtype), empty=torch.nan)


def _in_parts(values: Callable[..., Tensor], fake: Tensor, real: Tensor, inside: Tensor | None = None) -> Tensor:
    pairs = max(1, PIXELS_AT_ONCE // real[0].numel())
    sets = [images.split(pairs) for images in (fake, real, inside) if images is not None]
    return torch.cat([values(*parts) for parts in zip(*sets, strict=True)])


def _validate(fake: Tensor, real: Tensor) -> None:
    if fake.shape != real.shape or not len(fake) or fake.ndim < 3:
        shapes = f"fake {tuple(fake.shape)} and real {tuple(real.shape)}"
        raise ValueError(f"fake and real must be pairs, equal in number and shape (N, C, *S), got {shapes}")
    for kind, images in (("fake", fake), ("real", real)):
        if not torch.isfinite(images).all():
            raise ValueError(f"the {kind} images given to the metric contain NaN or infinity; has the training diverged?")


def _masks(fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as float, 0 and 1."""
    _validate(fake, real)
    for kind, mask in (("fake", fake), ("real", real)):
        if mask.shape[1] != 1 or not torch.isin(mask.float(), torch.tensor([0.0, 1.0], device=mask.device)).all():
            raise ValueError(f"the {kind} masks must be (N, 1, *S) of 0 and 1, got {tuple(mask.shape)}; threshold probabilities first")
    return fake.float(), real.float()


def _validate_spacing(spacing_mm: Sequence[float] | None, axes: int) -> None:
    if spacing_mm is not None and (len(spacing_mm) != axes or not all(0 < step < float("inf") for step in spacing_mm)):
        raise ValueError(f"`spacing_mm` must be {axes} positive numbers, one an axis, got {list(spacing_mm)}")
