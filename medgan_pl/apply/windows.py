"""Sliding-window inference: a generator over whole images, at the spacing of training, with the result on the image's own grid."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.inferers import sliding_window_inference
from torch import Tensor
from torch.nn import functional as F

from medgan_pl.apply.detail import Loss, check_loss, ways_out
from medgan_pl.data.prepare.geometry import resample
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.data.readers.scan import MAX_VOXELS, Scan, ScanError
from medgan_pl.data.settings import are_numbers

Generate = Callable[[Tensor], Tensor]

# A scan whose spacing differs from that of training by more than this share is refused: the network learned other sizes and sharpness.
SPACING_TOLERANCE = 0.1
# Side of a window in output pixels. Most slices are then one window, without a seam. In larger films a quarter of it overlaps, 128 pixels:
# a pixel of a deep generator (RRDB) depends on more than that, so near the border of a window it differs from that of the whole image.
WINDOW_PX = 512
# The largest number of output voxels of a window of a volume; smaller volumes are one window. A U-Net of 4 levels sees 93 voxels to each
# side, so in windows of a training volume's size nearly all voxels would be near a border. At width 32 it needs 1 KiB of memory for each
# voxel, together 4 GiB; an RRDB needs 7.
WINDOW_VOXELS = 2**22
# A side longer than that of any image; `Windows` cuts it to the image's.
WHOLE_SIDE = 2**30


@dataclass(frozen=True)
class Windows:
    """Sliding windows: run a generator, (b, C, *size) -> (b, K, *size · factors), over images (n, C, *S) of any size.

    The result is (n, K, *S · factors) on the CPU. Windows of `size` overlap by a share of at least `overlap` and are blended by Gaussians.
    They begin at multiples of `multiple` output pixels, the grid of the generator's downsampling. The image is padded at its end by its
    last values up to such a multiple, as the generators themselves pad. So the output of a window equals the output of the whole image,
    except near the window's border.

    `max_voxels`: the largest number of output voxels at once; 0 sets no limit. Windows grow up to it, or to the whole image if that is
    smaller, and fewer than `batch_size` windows go through at once.
    """

    size: tuple[int, ...]
    factors: tuple[int, ...]
    multiple: int
    overlap: float
    batch_size: int
    device: torch.device | str = "cpu"
    max_voxels: int = 0

    def __call__(self, generate: Generate, images: Tensor) -> Tensor:
        sides = images.shape[2:]
        steps = [self.multiple // math.gcd(self.multiple, factor) for factor in self.factors]
        missing = [-side % step for side, step in zip(sides, steps, strict=True)]
        images = F.pad(images, [n for lacking in reversed(missing) for n in (0, lacking)], mode="replicate")
        size, overlaps = [], []
        for side, step, wanted in zip(images.shape[2:], steps, self.grown(images.shape[2:]), strict=True):
            wanted += -wanted % step
            size.append(side if side < wanted * (1 if self.max_voxels else 1.25) else min(wanted, side))  # a second one would show a seam
            interval = self.interval(side, size[-1], step)
            overlaps.append(max(0.0, 1 - (interval + 0.5) / size[-1]))  # MONAI rounds size · (1 - overlap) down: to `interval`
        at_once = min(self.batch_size, max(1, self.max_voxels // self.voxels(size))) if self.max_voxels else self.batch_size
        made = sliding_window_inference(
            images, size, at_once, generate, overlap=overlaps, roi_weight_map=bell(size), sw_device=self.device, device="cpu"
        )
        return made[(..., *(slice(side * factor) for side, factor in zip(sides, self.factors, strict=True)))]

    def interval(self, side: int, size: int, step: int) -> int:
        """Return the distance of windows of `size` along a side, a multiple of `step`.

        The last window ends with the image. If it began soon after the one before, all are spread evenly instead: the border of that one
        would lie where the last counts as little, and the seam would show.
        """
        longest = max(step, int((1 - self.overlap) * size) // step * step)
        further, gap = divmod(side - size, longest)
        return longest if not 0 < gap < size / 4 or not further else -(-(side - size) // (further + 1) // step) * step

    def grown(self, sides: Sequence[int]) -> tuple[int, ...]:
        """Return the sides of a window in an image of `sides`: longer sides are cut to one length, the longest that keeps to the limit."""
        for longest in range(max(sides), min(self.size), -1):
            size = tuple(max(least, min(side, longest)) for least, side in zip(self.size, sides, strict=True))
            if self.voxels(size) <= self.max_voxels:
                return size
        return self.size

    def voxels(self, size: Sequence[int]) -> int:
        """Return the number of output voxels of a window."""
        return math.prod(size) * math.prod(self.factors)


def window_sides(window: Any, size: tuple[int, ...], enlarges: Sequence[int], *, whole: bool) -> tuple[int, ...]:
    """Return the sides of a window in source pixels; raise ValueError for an impossible `window`.

    With `window` null: for volumes `size`, that of a training source, which then grows to WINDOW_VOXELS; for films and slices WINDOW_PX of
    output if that is larger; and the whole image if instance norms look at all of it (`whole`).
    """
    if window is not None:
        sides = [window] * len(size) if isinstance(window, int) else window
        if not are_numbers(sides, len(size), int) or min(sides) < 4:
            axes = "[H, W]" if len(size) == 2 else "[D, H, W]"
            raise ValueError(f"`window` must be a number or {axes} of at least 4 whole pixels or voxels, got {window}; null suits most")
        return tuple(sides)
    if whole:
        return (WHOLE_SIDE,) * len(size)
    return size if len(size) == 3 else tuple(max(side, WINDOW_PX // by) for side, by in zip(size, enlarges, strict=True))


def bell(size: Sequence[int]) -> Tensor:
    """Return (1, 1, *size): a Gaussian about the center, with a standard deviation of an eighth of each side.

    MONAI's own weights end at a thousandth, which the corners of all windows reach. Where only corners meet, the border would then count as
    much as the center.
    """
    along = [(-0.5 * ((torch.arange(side) - (side - 1) / 2) / (side / 8)).square()).exp() for side in size]
    return torch.einsum("a,b->ab" if len(size) == 2 else "a,b,c->abc", *along)[None, None]


def at_spacing(apply: Generate, images: Tensor, scales: Sequence[float], factors: Sequence[int]) -> Tensor:
    """Resample images (n, C, *S) to a grid `scales` times as wide, call `apply`, and resample its result back: (n, K, *S · factors).

    `apply` enlarges by `factors`. Both ways keep the center; the border is repeated, so that the wide grid covers the image. Raises
    ScanError for more than MAX_VOXELS, as a header may claim any spacing.
    """
    sides, axes = images.shape[2:], len(scales)
    margins = [math.ceil(scale) for scale in scales]
    bordered = [side + 2 * margin for side, margin in zip(sides, margins, strict=True)]
    made = [round(side / scale) * factor for side, scale, factor in zip(bordered, scales, factors, strict=True)]
    for shape in (bordered, made):
        if len(images) * math.prod(shape) > MAX_VOXELS:
            raise ScanError(
                f"at the spacing of training it may have {MAX_VOXELS:,} voxels, got {' × '.join(map(str, (len(images), *shape)))}; "
                "check the spacing in its header, or cut it up"
            )
    wide = F.pad(images, [n for margin in reversed(margins) for n in (margin, margin)], mode="replicate")
    made = apply(resample(wide, scales, [2**30] * axes))
    own = [side * factor for side, factor in zip(sides, factors, strict=True)]
    made = resample(made, [1 / scale for scale in scales], own)
    # An axis that is not resampled keeps its margin.
    spare = [(n - m) // 2 for n, m in zip(made.shape[2:], own, strict=True)]
    return made[(..., *(slice(s, s + m) for s, m in zip(spare, own, strict=True)))]


def scales_to_training(
    scan: Scan, pipeline: Pipeline, spacing_mm: Sequence[float] | None, factors: Sequence[int], *,
    resample: bool, force: bool, coarser: bool = False, enlarges: bool = False, keeps: bool = False,
) -> tuple[float, ...] | None:  # fmt: skip
    """Return the side of a training source's pixel in pixels of the scan, along each axis of an image; None: use the scan as it is.

    `spacing_mm` is that of the training images, and `factors` the enlargement of a source to them. Films without a spacing are measured in
    pixels: with their proportions kept, they must fill a training source as training films did. `enlarges`: the generator makes more
    pixels of its source. `keeps`: the known pixels of the scan stay as they are, so no detail is lost. Raises ValueError for a scan whose
    spacing is out of tolerance, unless `resample` or `force` is set; if both are, it is resampled. Raises it as `check_loss` for detail
    that would be lost and that `coarser` does not allow.
    """
    layout = pipeline.layout.of(scan)
    shape = layout.within(scan.pixels.shape)
    if spacing_mm is not None and scan.spacing_mm is not None:
        own = layout.within(scan.spacing_mm)
        wanted = tuple(mm * factor for mm, factor in zip(spacing_mm, factors, strict=True))
        scales = tuple(b / a for a, b in zip(own, wanted, strict=True))
        what, unit, numbers = "spacing", "mm", ([f"{mm:.3g}" for mm in wanted], [f"{mm:.3g}" for mm in own])
    elif (scales := layout.pixel_size(shape)) is not None:
        what, unit, numbers = "size", "pixels", (list(map(str, layout.image_size)), list(map(str, shape)))
    else:
        return None
    close = all(1 / (1 + SPACING_TOLERANCE) <= scale <= 1 + SPACING_TOLERANCE for scale in scales)
    if close or (force and not resample):
        return None
    loss = None if keeps else Loss.of(scan, layout, scales)
    if not resample:
        wanted_text, own_text = (" × ".join(text) for text in numbers)
        raise ValueError(
            f"its {what} must be within {SPACING_TOLERANCE:.0%} of that of training, {wanted_text} {unit}, got {own_text} {unit}; "
            + ways_out(loss, enlarged=enlarges)
        )
    check_loss(loss, enlarged=enlarges, coarser=coarser)
    return scales
