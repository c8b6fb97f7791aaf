"""Images that any tool made, compared with a folder of real ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from medgan_pl.data.build import open_data
from medgan_pl.data.files.names import bare
from medgan_pl.data.files.records import names_below
from medgan_pl.data.sets import ImageSet, halves, real_set
from medgan_pl.evaluate.fidelity import Sets
from medgan_pl.evaluate.targets.copies import refuse_reals, refuse_same_pictures
from medgan_pl.evaluate.targets.masks import with_masks
from medgan_pl.evaluate.targets.target import Target, extractors_of, refuse_pairs_alone

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.data.datamodule import ImageDataModule


def target_from_folder(config: "DictConfig", overrides: list[str], device: str, announce: Callable[[str], None]) -> Target:
    """Return the images in `config.fake` with the reals in `config.real`, all read by the same pipeline.

    Half of the patients of the reals are the reference, the other half the floor. Raises ValueError without `real`, for classes that
    differ between the folders, for fakes that are reals (`targets.copies`), and with `paired` as `matched`.
    """
    if config.real is None:
        raise ValueError("`real` must be given with `fake`: a folder of real images to compare them with")
    if not config.paired:
        refuse_pairs_alone(config, "add paired=true, and the truth of each image is the real one of its name")
    modules = {}
    for side in ("fake", "real", "train"):
        if config[side] is not None:
            announce(f"reading the images of {side}={config[side]}")
            with blamed(side):
                modules[side] = open_data(config.data, root=str(config[side]), split="none")
    data = modules["real"]
    for side, other in modules.items():
        if other.classes and data.classes and other.classes != data.classes:
            raise ValueError(f"the classes of {side} must be those of real, got {list(other.classes)} and {list(data.classes)}")
    refuse_reals(modules["fake"], data)
    masked = {side: with_masks(real_set(each, each.rows["train"]), config.masks[side], each, side) for side, each in modules.items()}
    images, values = ({side: pair[part] for side, pair in masked.items()} for part in (0, 1))
    fake, real, train = replace(images["fake"], groups=None), images["real"], images.get("train")
    if not config.paired:  # a result may equal its truth
        refuse_same_pictures(fake, real)
    if list(config.groups) == ["paired"]:  # pairs need no halves
        reference = floor = real
    else:
        reference, floor = (real.take(places_of(rows, data)) for rows in halves(data, data.rows["train"]))
    pairs = matched(named(fake, modules["fake"]), named(real, data)) if config.paired else None
    return Target(
        {"kind": "folder", "name": Path(str(config.fake)).name, "path": ""},
        data,
        Sets(fake, reference, floor, train, list(data.classes), pairs),
        extractors_of(config),
        Path("report"),
        "" if train else "it is not known which images the tool was trained on; add train=DIR",
        notes=[*notes_on(modules, paired=config.paired), *filter(None, values.values())],
    )


@contextmanager
def blamed(side: str) -> Iterator[None]:
    """Name the setting `side` of the command line in place of data.root, which the user has not set, in an error about its files."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        if "data.root" not in str(error):
            raise
        raise type(error)(str(error).replace("data.root", side)) from error


def notes_on(modules: "dict[str, ImageDataModule]", *, paired: bool) -> list[str]:
    """Return notes on the folders for the report: sizes, images in both real= and train=, contrasts of pairs."""
    notes = [note for side, each in modules.items() if (note := resized(side, each))]
    data = modules["real"]
    if "train" in modules and (same := len({r.pixels for r in data.records} & {r.pixels for r in modules["train"].records})):
        notes.append(f"{same} images are in both real= and train=: they were not held out, so all numbers look too good.")
    if paired and "window" not in data.pipeline.settings and "full_range" not in data.pipeline.settings:
        notes.append(
            "Each image was normalized by its own contrast before it was compared with its truth; intensity@data.intensity=full_range "
            "(films) or window (CT) keeps the stored values."
        )
    return notes


def places_of(rows: np.ndarray, data: "ImageDataModule") -> torch.Tensor:
    """Return the places of these rows of the table of images in the set of all of them."""
    return torch.from_numpy(np.searchsorted(data.rows["train"], rows))


def named(images: ImageSet, data: "ImageDataModule") -> ImageSet:
    """Return all images of `data` with the names that `apply` gives its outputs: a series that is alone in its folder has the folder's."""
    root = data.source.root
    scans = [record.paths for record in data.records]
    if not root.is_dir() or not all(paths[0].is_relative_to(root) for paths in scans):  # a table, which may name files anywhere
        return images
    names = names_below(root, scans)
    return replace(images, names=[names[record] for record in data.image_records])


def matched(fake: ImageSet, real: ImageSet) -> ImageSet:
    """Return for each fake the real of the same name, file endings aside. Raises ValueError for a fake without one and for equal names."""
    places = {bare(name): place for place, name in enumerate(real.names)}
    wanted = [bare(name) for name in fake.names]
    if len(places) < len(real) or len(set(wanted)) < len(wanted):
        raise ValueError(
            "paired=true needs images of different names in each of fake= and real=, got some twice; slices and patches of volumes have no "
            "names of their own"
        )
    missing = [name for name in wanted if name not in places]
    if missing:
        raise ValueError(
            f"paired=true needs for each image of fake= one of the same name in real=, got {len(missing)} without: {missing[:3]}"
        )
    return real.take(torch.tensor([places[name] for name in wanted]))


def resized(side: str, data: "ImageDataModule") -> str:
    """Return a note if files have other sizes than they are judged at, else ""."""
    found = sorted({tuple(entry["facts"]["shape"]) for entry in data.cache.entries.values()})
    if data.spatial_dims != len(found[0]) or found == [tuple(data.size)]:
        return ""
    sizes = ", ".join("×".join(map(str, shape)) for shape in found[:3]) + (f" and {len(found) - 3} other sizes" if len(found) > 3 else "")
    return f"The images of {side}= are {sizes}; they are judged at {'×'.join(map(str, data.size))} (data.size)."
