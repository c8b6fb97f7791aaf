"""The layouts of files: a CSV, a Decathlon table or a folder. A new layout is one function, added to LAYOUTS."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medgan_pl.data.files.records import Item

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}
COMPANION_KEYS = ("source", "mask")  # the companions that a layout may name; keys of a batch, in the order of their channels


@dataclass(frozen=True)
class Wanted:
    """The files that a layout must list: `takes` selects them, `kinds` names their kinds in messages.

    With `classes`, folders are classes. `covariates` are the columns that each image must have.
    """

    takes: Callable[[Path], bool]
    kinds: str
    classes: bool = True
    covariates: Sequence[str] = ()


@dataclass(frozen=True)
class Listing:
    """The images that a layout lists.

    - `title`: a line about the layout, for the log.
    - `companions`: companion key -> name of an item -> its companion: a file, or a folder that holds a DICOM series. Empty for a layout
      that names none.
    """

    items: list[Item]
    title: str
    companions: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)


def below_images(parts: Sequence[str]) -> str:
    """Return the path below a folder `images…`, which belongs to no patient."""
    return Path(*parts[1:] if len(parts) > 1 and parts[0].lower().startswith("images") else parts).as_posix()
