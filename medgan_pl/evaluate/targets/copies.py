"""Real images among those that are judged: the same values, or the same picture in another depth, offset or format."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from medgan_pl.data.sets import ImageSet

if TYPE_CHECKING:
    from medgan_pl.data.datamodule import ImageDataModule

# What rounding to 8 bits changes on the scale [-1, 1], if the percentiles are 170 gray levels apart: half a level of a voxel, and half of
# the percentiles themselves.
SAME = 2 / 170
# An image that varies less than this is empty, as the empty slices of two patients.
EMPTY = 0.02
SKETCH = {2: 8, 3: 4}  # sides of the mean values by which equal images are looked for, by the number of axes
AT_ONCE = 256


def refuse_reals(fake: "ImageDataModule", real: "ImageDataModule") -> None:
    """Raise ValueError if a fake has the values of a real, whatever the names, formats and headers of their files.

    Folders were mixed up then. A generator that copies its training images is found by privacy, which also knows near-copies.
    """
    reals = {record.pixels: record.name for record in real.records}
    refuse([(record.name, reals[record.pixels]) for record in fake.records if record.pixels in reals], len(fake.records), "same values")


def refuse_same_pictures(fake: ImageSet, real: ImageSet) -> None:
    """Raise ValueError if a fake is a real once both are prepared: a real in another depth, range or format."""
    pairs = same_pictures(fake, real)
    refuse([(fake.names[i], real.names[j]) for i, j in pairs], len(fake), "same picture, perhaps in another depth or range")


def refuse(same: list[tuple[str, str]], count: int, what: str) -> None:
    """Raise ValueError for fakes that are reals, both by their names, if there are any."""
    if same:
        shown = "; ".join(f"{one} is {other}" for one, other in same[:3]) + (f"; and {len(same) - 3} more" if len(same) > 3 else "")
        raise ValueError(
            f"no image of fake= may be one of real=, got {len(same)} of {count} with the {what} ({shown}); name the "
            "folder of generated images in fake=, or take these images out of one of both. Copies of training images: real=OTHERS train=DIR"
        )


def same_pictures(fake: ImageSet, real: ImageSet) -> list[tuple[int, int]]:
    """Return (i, j) for each fake i that differs from a real j by at most SAME in every voxel; empty images are left out.

    Means over parts of the image differ by no more than its voxels, so only images with like means are compared.
    """
    (sketches, own_filled), (others, filled) = sketched(fake), sketched(real)
    found = []
    for start in range(0, len(fake), AT_ONCE):
        near = torch.cdist(sketches[start : start + AT_ONCE], others, p=torch.inf) <= SAME
        near &= own_filled[start : start + AT_ONCE, None] & filled
        for i in near.any(1).nonzero()[:, 0].tolist():
            image = fake[torch.tensor([start + i])]
            match = next((j for j in near[i].nonzero()[:, 0] if (real[j[None]] - image).abs().max() <= SAME), None)
            found += [] if match is None else [(start + i, int(match))]
    return found


def sketched(images: ImageSet) -> tuple[Tensor, Tensor]:
    """Return the means over the parts of each image, (N, values), and whether it is more than an empty one, (N,) bool."""
    sketches, filled = [], []
    for rows in torch.arange(len(images)).split(AT_ONCE):
        batch = images[rows]
        axes = batch.ndim - 2
        pool = F.adaptive_avg_pool2d if axes == 2 else F.adaptive_avg_pool3d
        sketches.append(pool(batch, SKETCH[axes]).flatten(1))
        filled.append(batch.flatten(1).std(1) > EMPTY)
    return torch.cat(sketches), torch.cat(filled)
