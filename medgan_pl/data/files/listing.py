"""The layouts of files: a CSV, a Decathlon table or a folder. A new layout is one function, added to LAYOUTS."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medgan_pl.data.files.records import Item

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}
IMAGE_FOLDERS = ("image", "img", "imgs", "scans", "volumes")  # and images…: they hold the images of all patients
COMPANION_KEYS = ("source", "mask")  # the companions that a layout may name; keys of a batch, in the order of their channels


@dataclass(frozen=True)
class Wanted:
    """The files that a layout must list: `takes` selects them, `kinds` names their kinds in messages.

    With `classes`, folders are classes. `covariates` are the columns that each image must have. `chosen` is true for the paths below the
    root that the user selects (data.files); None: no choice.
    """

    takes: Callable[[Path], bool]
    kinds: str
    classes: bool = True
    covariates: Sequence[str] = ()
    chosen: Callable[[str], bool] | None = None


@dataclass(frozen=True)
class Listing:
    """The images that a layout lists.

    - `title`: a line about the layout, for the log.
    - `companions`: companion key -> name of an item -> its companion: a file, or a folder that holds a DICOM series. Empty for a layout
      that names none.
    - `masks`: files that are left out as masks by their names.
    """

    items: list[Item]
    title: str
    companions: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    masks: Sequence[Path] = ()


def below_images(parts: Sequence[str]) -> str:
    """Return the path below a folder `images…` or `img`, which belongs to no patient."""
    of_all = len(parts) > 1 and (parts[0].lower().startswith("images") or parts[0].lower() in IMAGE_FOLDERS)
    return Path(*parts[1:] if of_all else parts).as_posix()
