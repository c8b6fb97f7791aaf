"""The masks in a folder, resampled to the images they belong to."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from medgan_pl.data.files.names import stem
from medgan_pl.data.files.records import Item
from medgan_pl.data.sets import ImageSet

if TYPE_CHECKING:
    from medgan_pl.data.datamodule import ImageDataModule


def with_masks(images: ImageSet, folder: str | None, data: "ImageDataModule", side: str) -> ImageSet:
    """Return the images with the masks of the same names in `folder`, on the grid of the images: 1 where a mask is above 0.

    Raises FileNotFoundError for an image without a mask, ValueError for a mask of another shape and for images that are parts of files.
    """
    if folder is None:
        return images
    if data.layout.size is None or len(set(images.names)) < len(images):
        raise ValueError("masks are read for films and whole volumes; slices and patches have no files of their own")
    root, own = Path(folder).expanduser(), {path.resolve() for record in data.records for path in record.paths}
    found = [path for path in sorted(root.rglob("*")) if path.is_file() and data.modality.takes(path) and path.resolve() not in own]
    files = {stem(path.relative_to(root)): path for path in found}
    if len(files) < len(found):
        raise ValueError(f"masks.{side}={folder} must have one mask for each name, got {len(found)} files of {len(files)} names")
    missing = [name for name in images.names if stem(Path(name)) not in files]
    if missing:
        raise FileNotFoundError(
            f"masks.{side}={folder} must have a mask for each image, with its name; {len(missing)} of {len(images)} have none, such as "
            f"{missing[0]}"
        )
    shapes = {record.name: data.cache.entries[record.digest]["facts"]["shape"] for record in data.records}
    return replace(images, masks=torch.stack([laid(files[stem(Path(name))], shapes[name], data) for name in images.names]))


def laid(path: Path, shape: list[int], data: "ImageDataModule") -> torch.Tensor:
    """Return the mask (1, *S) float32 in {0, 1}: a pixel that is half covered is covered. Raises ValueError for another `shape`."""
    scan = data.modality.read(Item(path.name, (path,)))
    if list(scan.pixels.shape) != list(shape):
        raise ValueError(f"the mask {path} must have the shape of its image, {shape}, got {list(scan.pixels.shape)}")
    return data.layout.cut_mask(scan, scan.pixels > 0).float()
