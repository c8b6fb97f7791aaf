"""The masks in a folder, resampled to the images they belong to."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from medgan_pl.data.files.names import stem
from medgan_pl.data.files.records import Item
from medgan_pl.data.mask_values import inside, spelled, values_in
from medgan_pl.data.modalities import reader_of_masks
from medgan_pl.data.sets import ImageSet

if TYPE_CHECKING:
    from medgan_pl.data.datamodule import ImageDataModule


def with_masks(images: ImageSet, folder: str | None, data: "ImageDataModule", side: str) -> tuple[ImageSet, str]:
    """Return the images with the masks of the same names in `folder`, on the grid of the images, and a note on the values of the masks.

    A mask is 1 where its file is inside (`mask_values.inside`). Raises FileNotFoundError for an image without a mask, ValueError for a mask
    of another shape, for masks that are all empty, and for images that are parts of files.
    """
    if folder is None:
        return images, ""
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
    laid_out = [laid(files[stem(Path(name))], shapes[name], data) for name in images.names]
    values = spelled(held for _, held in laid_out)
    masks = torch.stack([mask for mask, _ in laid_out])
    if not masks.any():
        raise ValueError(f"masks.{side}={folder} must mark something, but none of {len(masks)} masks does; their values are {values}")
    return replace(images, masks=masks), f"The masks of {side} have the values {values}."


def laid(path: Path, shape: list[int], data: "ImageDataModule") -> tuple[torch.Tensor, list[float]]:
    """Return the mask (1, *S) float32 in {0, 1} and the values of its file. A pixel that is half covered is covered.

    Raises ValueError for another `shape`.
    """
    scan = reader_of_masks(data.modality).read_mask(Item(path.name, (path,)))
    if list(scan.pixels.shape) != list(shape):
        raise ValueError(f"the mask {path} must have the shape of its image, {shape}, got {list(scan.pixels.shape)}")
    return data.layout.cut_mask(scan, inside(scan.pixels, None)[0]).float(), values_in(scan.pixels)
