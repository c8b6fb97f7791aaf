"""The `dataset.json` of the Medical Segmentation Decathlon."""

import json
from pathlib import Path, PurePath
from typing import Any

from medgan_pl.core.visible import visible
from medgan_pl.data.files.listing import COMPANION_KEYS, Listing, Wanted
from medgan_pl.data.files.records import Item


def is_decathlon(table: Path) -> bool:
    """Return True for a Decathlon table. Other programs (nnU-Net) write a dataset.json of another form."""
    try:
        return isinstance(json.loads(table.read_text(encoding="utf-8-sig"))["training"], list)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_decathlon(root: Path, wanted: Wanted) -> Listing | None:
    """Return the images of a Decathlon table, a .json file or the dataset.json of a folder; None for any other root.

    `training` and `test` list the images, one patient each. The label files of `training` are the companions.
    Raise ValueError for a file of another form, FileNotFoundError for images that do not exist.
    """
    if root.suffix.lower() != ".json" and not is_decathlon(root / "dataset.json"):
        return None
    table = root if root.suffix.lower() == ".json" else root / "dataset.json"
    try:
        listed = json.loads(table.read_text(encoding="utf-8-sig"))
        pairs = [(Path(entry["image"]), "train") for entry in listed["training"]]
        pairs += [(Path(entry["image"] if isinstance(entry, dict) else entry), "test") for entry in listed.get("test", [])]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{table} must be a Decathlon table, {{"training": [{{"image": …}}], "test": […]}}; {error}') from None
    outside = [name for name, _ in pairs if name.is_absolute() or ".." in name.parts]
    if outside:
        raise ValueError(f"{table} must name files below its own folder, got {outside[0]}")
    absent = [str(name) for name, _ in pairs if not (table.parent / name).is_file()]
    if absent:
        raise FileNotFoundError(f"{table} lists {len(absent)} images that do not exist: {', '.join(absent[:20])}")
    items = [Item(name.as_posix(), (table.parent / name,), split=split, inner=name.name) for name, split in pairs]
    if not items:
        raise FileNotFoundError(f"{table} must list at least one image, got none")
    return Listing(items, "Decathlon dataset.json, masks left out", dict.fromkeys(COMPANION_KEYS, labels_of(table.parent, listed)))


def labels_of(folder: Path, listed: dict[str, Any]) -> dict[str, Path]:
    """Return the label file of each training image, by the image's name. Label files outside `folder` are left out."""
    labels = {visible(PurePath(entry["image"]).as_posix()): folder / entry["label"] for entry in listed["training"] if "label" in entry}
    return {name: path for name, path in labels.items() if path.resolve().is_relative_to(folder.resolve())}
