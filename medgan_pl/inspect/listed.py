"""The table of what `medgan_pl.inspect` found, which `data.root` reads back: the user corrects a set by editing it."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medgan_pl.core.files import atomically
from medgan_pl.core.visible import cell, path_cell
from medgan_pl.data.files.layouts import companion_files
from medgan_pl.data.files.records import Record, is_dicom

if TYPE_CHECKING:
    from medgan_pl.data.datamodule import ImageDataModule

USED, UNUSED = "yes", "no"


def write_table(data: "ImageDataModule", path: Path) -> bool:
    """Write a row for each scan that was found: image, label, patient (a hash), split, use (yes or no), why not. Covariates are left out.

    `image` is an absolute path: a file, or a folder that holds one DICOM series and nothing else. A series beside others has a row for each
    of its files. Return False without a file for the embedded cohort, and where `path` is the table that was read: it may be edited.
    """
    if data.phantom or path.resolve() == data.source.root.resolve():
        return False
    companions = {key: companions_of(data, key) for key in data.companions}
    kept = {record.name: record for record in data.records}
    rows = []
    masks = {} if data.source.chosen else data.masks
    for record in data.table:
        left_out = "" if record.name in kept or not kept else "a duplicate, or left out by data.max_train"
        why = data.unusable.get(record.name) or masks.get(record.name) or left_out
        row = {"label": cell(record.label or ""), "patient": record.patient, "use": UNUSED if why else USED, "why": cell(why)}
        row |= {"split": kept[record.name].split if record.name in kept else ""}
        row |= {key: path_cell(str(found[record.name])) for key, found in companions.items()}
        rows += [{"image": path_cell(str(image))} | row for image in images_of(record, data)]
    taken = {file for record in data.table for file in record.paths}
    elsewhere = "passed over: see report.txt"
    whys = {name: f"passed over: {why}" for name, why in data.source.passed.items()} | data.unusable
    left = [item for item in data.source.files if item.paths[0] not in taken]
    rows += [
        {"image": path_cell(str(item.paths[0].absolute())), "use": UNUSED, "why": cell(whys.get(item.name, elsewhere))} for item in left
    ]
    rows += [{"image": path_cell(str(mask.absolute())), "use": UNUSED, "why": "a mask by its name"} for mask in data.source.listing.masks]
    with atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["image", "label", "patient", "split", "use", *companions, "why"], restval="")
        writer.writeheader()
        writer.writerows(once(rows))
    return True


def once(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the rows with one for each image: a file may hold several volumes, and its row is that of a volume in use, if there is one."""
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        if found.get(row["image"], {"use": UNUSED})["use"] == UNUSED:
            found[row["image"]] = row
    return list(found.values())


def pair_lines(data: "ImageDataModule") -> list[str]:
    """Return a line for each companion read from files: which file belongs to which image, for the first image."""
    if data.phantom or not data.table:
        return []
    first, root = data.table[0], data.source.root.absolute()
    found = [(key, companions_of(data, key)[first.name]) for key in data.companions]
    return [f"{key} of {first.name}: {path.relative_to(root) if path.is_relative_to(root) else path}" for key, path in found]


def images_of(record: Record, data: "ImageDataModule") -> Sequence[Path]:
    """Return the paths that list a scan: its file, the folder of its series, or each file of a series that shares its folder."""
    paths = [path.absolute() for path in record.paths]
    if not is_dicom(paths[0]):
        return paths[:1]  # of a header with detached data it is the header
    folder = os.path.commonpath([path.parent for path in paths])
    inside = {item.paths[0].absolute() for item in data.source.files if item.paths[0].absolute().is_relative_to(folder)}
    return [Path(folder)] if len(paths) > 1 and inside == {*paths} else paths


def companions_of(data: "ImageDataModule", key: str) -> dict[str, Path]:
    """Return for each record the file of its companion, or the folder of its series."""
    found = companion_files(key, data.companions[key], data.source.root, data.source.listing, data.table)
    named = zip(data.table, found, strict=True)
    return {record.name: (paths[0] if len(paths) == 1 else paths[0].parent).absolute() for record, paths in named}
