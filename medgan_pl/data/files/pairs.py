"""Pairs of files: files beside an image, found by their names and the channels of nnU-Net, and never the image itself."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath

from medgan_pl.core.visible import visible
from medgan_pl.data.files.listing import below_images
from medgan_pl.data.files.mask_names import is_mask_name
from medgan_pl.data.files.names import stem
from medgan_pl.data.files.records import Record

CHANNEL = re.compile(r"_000\d$")  # of nnU-Net: case_007_0000 is T1, case_007_0001 is T2


def case(name: str) -> str:
    """Return the nnU-Net case of a path: imagesTr/case_007_0001.nii.gz and labelsTr/case_007.nii.gz -> case_007"""
    parts = PurePath(stem(PurePath(name))).parts
    parts = parts[1:] if len(parts) > 1 and is_mask_name(parts[0]) else parts
    return CHANNEL.sub("", below_images(parts))


def beside(records: Sequence[Record], named: Mapping[str, tuple[Path, ...]], name_of: Callable[[str], str]) -> list[tuple[Path, ...]]:
    """Return for each record the files of the same name among `named` (name -> files), () for none; `name_of` names a record.

    If these are its own files, or if there are none, it is the only other channel, or the mask, of the same nnU-Net case.
    """
    cases: dict[str, list[tuple[Path, ...]]] = defaultdict(list)
    for name, paths in named.items():
        cases[case(name)].append(paths)

    def find(record: Record) -> tuple[Path, ...]:
        same = named.get(name_of(record.name), ())
        if same and not equal(same, record.paths):
            return same
        others = [paths for paths in cases[case(record.name)] if not equal(paths, record.paths)]
        return others[0] if len(others) == 1 else same

    return [find(record) for record in records]


def equal(some: Sequence[Path], others: Sequence[Path]) -> bool:
    """Return True for the same files, also by other paths and links."""
    return {path.resolve() for path in some} == {path.resolve() for path in others}


def masks_of(images: Sequence[Path], masks: Sequence[Path], root: Path) -> dict[str, Path]:
    """Return by the name of each image, its path below `root` made visible, its mask: of the same nnU-Net case, if there is one of it."""
    cases: dict[str, list[Path]] = defaultdict(list)
    for mask in masks:
        cases[case(mask.as_posix())].append(root / mask)
    return {visible(image.as_posix()): cases[name][0] for image in images if len(cases[name := case(image.as_posix())]) == 1}


def check_apart(key: str, records: Sequence[Record], found: Sequence[Sequence[Path]]) -> None:
    """Raise ValueError if the files beside some records are the records' own files."""
    own = [record.name for record, paths in zip(records, found, strict=True) if equal(record.paths, paths)]
    if own:
        raise own_source(key, own, len(records), "is the image's own file")


def own_source(key: str, names: Sequence[str], total: int, what: str) -> ValueError:
    """Return the error for images that lie beside themselves."""
    return ValueError(
        f"data.beside.{key} must be another image than the image itself, but for {len(names)} of {total} it {what}, such as {names[0]}; "
        f"set data.beside.{key}.root to a folder of its own, or list both in a CSV with the columns image and {key}"
    )
