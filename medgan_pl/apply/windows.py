"""A generator over whole images: window by window, blended, at the spacing it was trained on, and back on the grid the image came on."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor
from torch.nn import functional as F

from medgan_pl.data.prepare.geometry import resample
from medgan_pl.data.readers.scan import MAX_VOXELS, ScanError

Generate = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Windows:
    """Images (n, C, *S) of any size through a generator, (b, C, *size) -> (b, K, *size · factors), to (n, K, *S · factors) on the CPU.

    Windows of `size` overlap by a share of at least `overlap` and are blended by Gaussians. They begin at multiples of `multiple` pixels of
    what is made, the grid of the generator's halvings, and the image is padded at its end by its last values up to such a multiple, as the
    generators themselves pad: so what is made of a window is what is made of the whole, away from the window's border.

    `most` voxels of what is made at once, if that is not 0: windows then grow up to it, to the whole image where that is no more, and fewer
    than `batch_size` are made at once.
    """

    size: tuple[int, ...]
    factors: tuple[int, ...]
    multiple: int
    overlap: float
    batch_size: int
    device: torch.device | str = "cpu"
    most: int = 0

    def __call__(self, generate: Generate, images: Tensor) -> Tensor:
        sides = images.shape[2:]
        steps = [self.multiple // math.gcd(self.multiple, factor) for factor in self.factors]
        missing = [-side % step for side, step in zip(sides, steps, strict=True)]
        images = F.pad(images, [n for lacking in reversed(missing) for n in (0, lacking)], mode="replicate")
        size, overlaps = [], []
        for side, step, wanted in zip(images.shape[2:], steps, self.grown(images.shape[2:]), strict=True):
            size.append(min(wanted + -wanted % step, side))
            interval = max(step, int((1 - self.overlap) * size[-1]) // step * step)
            overlaps.append(max(0.0, 1 - (interval + 0.5) / size[-1]))  # MONAI rounds size · (1 - overlap) down: to `interval`
        at_once = min(self.batch_size, max(1, self.most // self.voxels(size))) if self.most else self.batch_size
        made = sliding_window_inference(
            images, size, at_once, generate, overlap=overlaps, roi_weight_map=bell(size), sw_device=self.device, device="cpu"
        )
        return made[(..., *(slice(side * factor) for side, factor in zip(sides, self.factors, strict=True)))]

    def grown(self, sides: Sequence[int]) -> tuple[int, ...]:
        """A window's sides in an image of `sides`: all longer ones cut to one length, the longest at which it has at most `most` voxels."""
        for longest in range(max(sides), min(self.size), -1):
            size = tuple(max(least, min(side, longest)) for least, side in zip(self.size, sides, strict=True))
            if self.voxels(size) <= self.most:
                return size
        return self.size

    def voxels(self, size: Sequence[int]) -> int:
        """Of what is made of a window."""
        return math.prod(size) * math.prod(self.factors)


def bell(size: Sequence[int]) -> Tensor:
    """(1, 1, *size): a Gaussian about the middle, of an eighth of each side.

    MONAI's own ends at a thousandth, which the corners of all windows reach: where only corners meet, border would count as much as middle.
    """
    along = [(-0.5 * ((torch.arange(side) - (side - 1) / 2) / (side / 8)).square()).exp() for side in size]
    return torch.einsum("a,b->ab" if len(size) == 2 else "a,b,c->abc", *along)[None, None]


def through_spacing(apply: Generate, images: Tensor, scales: Sequence[float], factors: Sequence[int]) -> Tensor:
    """What `apply` makes of images (n, C, *S) on a grid `scales` times as wide, brought back: (n, K, *S · factors).

    `apply` enlarges by `factors`. Both ways are about the same centre; the border is repeated, so that the wide grid covers the image.
    Raises ScanError where that takes more than MAX_VOXELS, as a header may claim any spacing.
    """
    sides, axes = images.shape[2:], len(scales)
    margins = [math.ceil(scale) for scale in scales]
    bordered = [side + 2 * margin for side, margin in zip(sides, margins, strict=True)]
    made = [round(side / scale) * factor for side, scale, factor in zip(bordered, scales, factors, strict=True)]
    for shape in (bordered, made):
        if len(images) * math.prod(shape) > MAX_VOXELS:
            raise ScanError(
                f"brought to the spacing of training it may hold {MAX_VOXELS:,} voxels, got {' × '.join(map(str, (len(images), *shape)))}; "
                "check the spacing in its header, or cut it up"
            )
    wide = F.pad(images, [n for margin in reversed(margins) for n in (margin, margin)], mode="replicate")
    made = apply(resample(wide, scales, [2**30] * axes))
    own = [side * factor for side, factor in zip(sides, factors, strict=True)]
    made = resample(made, [1 / scale for scale in scales], own)
    # An axis that is left as it is keeps its margin.
    spare = [(n - m) // 2 for n, m in zip(made.shape[2:], own, strict=True)]
    return made[(..., *(slice(s, s + m) for s, m in zip(spare, own, strict=True)))]


@dataclass(frozen=True)
class Planes:
    """A canonical array as the images that a generator takes: itself, or the slices along `axis`, as `layouts.Slices` cuts them."""

    axis: int | None

    def of(self, pixels: np.ndarray) -> Tensor:
        """(*S) -> (1, *S), or (D, H, W) -> (n, rows, columns)."""
        if self.axis is None:
            return torch.from_numpy(np.ascontiguousarray(pixels))[None]
        slices = np.moveaxis(pixels, self.axis, 0)
        return torch.from_numpy(np.ascontiguousarray(slices if self.axis == 0 else slices[:, ::-1]))  # rows from the head down

    def back(self, images: Tensor) -> np.ndarray:
        """The inverse of `of`, of any size."""
        if self.axis is None:
            return images[0].numpy()
        slices = images.numpy()
        return np.moveaxis(slices if self.axis == 0 else slices[:, ::-1], 0, self.axis)

    def each_axis(self, factors: Sequence[int]) -> tuple[int, ...]:
        """Of the array, those of the images."""
        return tuple(factors) if self.axis is None else (*factors[: self.axis], 1, *factors[self.axis :])

    def within(self, lengths: Sequence[float]) -> tuple[float, ...]:
        """Of the images, those of the array."""
        return tuple(length for axis, length in enumerate(lengths) if axis != self.axis)
