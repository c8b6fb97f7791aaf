"""Images that any tool made, against a folder of real ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from medgan_pl.data.files.names import bare
from medgan_pl.evaluate.fidelity import Sets
from medgan_pl.evaluate.sets import halves, real_set
from medgan_pl.evaluate.targets.masks import with_masks
from medgan_pl.evaluate.targets.target import Subject, extractors_of, hold_pairs, opened

if TYPE_CHECKING:
    import numpy as np
    from omegaconf import DictConfig

    from medgan_pl.data.datamodule import ImageDataModule

from medgan_pl.evaluate.sets import ImageSet


def of_folder(config: "DictConfig", overrides: list[str], device: str, watch: Callable[[str], None]) -> Subject:
    """Images made by any tool against real ones, both read by the same pipeline. Of the reals one half of the patients is the reference,
    the other the floor."""
    if config.real is None:
        raise ValueError("`real` must be given with `fake`: a folder of real images to hold them against")
    if not config.paired:
        hold_pairs(config, "add paired=true, and the truth of each image is the real one of its name")
    modules = {}
    for side in ("fake", "real", "train"):
        if config[side] is not None:
            watch(f"the images of {side}={config[side]}")
            modules[side] = opened(config.data, root=str(config[side]), split="none")
    data = modules["real"]
    for side, other in modules.items():
        if other.classes and data.classes and other.classes != data.classes:
            raise ValueError(f"the classes of {side} must be those of real, got {list(other.classes)} and {list(data.classes)}")
    images = {side: with_masks(real_set(each, each.rows["train"]), config.masks[side], each, side) for side, each in modules.items()}
    fake, real, train = replace(images["fake"], groups=None), images["real"], images.get("train")
    notes = [note for side, each in modules.items() if (note := resized(side, each))]
    if list(config.groups) == ["paired"]:  # which needs no halves
        reference = floor = real
    else:
        reference, floor = (real.take(places_of(rows, data)) for rows in halves(data, data.rows["train"]))
    if "train" in modules and (same := len({r.pixels for r in data.records} & {r.pixels for r in modules["train"].records})):
        notes.append(f"{same} images stand both in real= and in train=: they were not held out, so that all looks too good.")
    if config.paired and "window" not in data.pipeline.settings and "full_range" not in data.pipeline.settings:
        notes.append(
            "Each image was brought to its own contrast before it was held against its truth; intensity@data.intensity=full_range (films) "
            "or window (CT) holds the values as they are stored."
        )
    return Subject(
        {"kind": "folder", "name": Path(str(config.fake)).name, "path": ""},
        data,
        Sets(fake, reference, floor, train, list(data.classes), matched(fake, real) if config.paired else None),
        extractors_of(config),
        Path("report"),
        "" if train else "nobody says which images the tool was trained on; add train=DIR",
        notes=notes,
    )


def places_of(rows: "np.ndarray", data: "ImageDataModule") -> "torch.Tensor":
    """Where these rows of the table of images stand in the set of all of them."""
    return torch.from_numpy(np.searchsorted(data.rows["train"], rows))


def matched(fake: "ImageSet", real: "ImageSet") -> "ImageSet":
    """For each fake the real of its name, file endings aside. Raises ValueError for a fake without one."""
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
    """A sentence where files are of other sizes than they are judged at."""
    found = sorted({tuple(entry["facts"]["shape"]) for entry in data.cache.entries.values()})
    if data.spatial_dims != len(found[0]) or found == [tuple(data.size)]:
        return ""
    shown = ", ".join("×".join(map(str, shape)) for shape in found[:3]) + (f" and {len(found) - 3} other sizes" if len(found) > 3 else "")
    return f"The images of {side}= are {shown}; they are judged at {'×'.join(map(str, data.size))} (data.size)."
