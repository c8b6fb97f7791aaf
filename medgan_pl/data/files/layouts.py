"""The layouts that data.root may have. A new layout is one function: give it a place in LAYOUTS."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from medgan_pl.data.files.csv_table import read_csv
from medgan_pl.data.files.decathlon import read_decathlon
from medgan_pl.data.files.folders import read_folder
from medgan_pl.data.files.listing import Listing, Wanted
from medgan_pl.data.files.names import stem
from medgan_pl.data.files.pairs import beside, check_apart
from medgan_pl.data.files.records import Item, Record, first_of

if TYPE_CHECKING:
    from medgan_pl.data.prepare.prepared import CompanionReader

# Each function returns a Listing of its root, or None for a root of another layout. The first that returns one is taken.
LAYOUTS: tuple[Callable[[Path, Wanted], Listing | None], ...] = (read_csv, read_decathlon, read_folder)


def list_files(root: Path, wanted: Wanted) -> Listing:
    """Return the images of `root`, whichever layout it has. Errors as those of the layout's function, and ValueError for two images whose
    names are one when they are shown (`core.visible`): what belongs to one would be given to the other."""
    listing = next(listing for layout in LAYOUTS if (listing := layout(root, wanted)) is not None)
    twice = [name for name, count in Counter(item.name for item in listing.items).items() if count > 1]
    if twice:
        raise ValueError(f"images must have names that differ when they are shown, got several called {twice[0]}; rename all but one")
    return listing


def companion_name(name: str) -> str:
    """Return the name that a scan and its companion share: the path without the ending of its kind, or the folder of a series."""
    first = first_of(name)
    return str(PurePath(first).parent) if first != name else stem(PurePath(first))


def companion_files(
    key: str, companion: "CompanionReader", root: Path, listing: Listing, records: Sequence[Record]
) -> list[tuple[Path, ...]]:
    """Return for each record the files of its companion.

    With `companion.root` they are those of the same name (`companion_name`) or nnU-Net case in that folder; else those in the listing of
    `root`. Raise FileNotFoundError if some records have none, ValueError if names are not unique, no folder is known, or some records
    would lie beside themselves.
    """
    if companion.root is not None:
        where, named = f"data.beside.{key}.root={companion.root}", by_name(key, companion)
        found = beside(records, named, companion_name)
    elif key in listing.companions:
        where, named = f"{root} ({listing.title})", listing.companions[key]
        found = [scan_files(named[name], companion) if (name := first_of(record.name)) in named else () for record in records]
    else:
        raise ValueError(
            f"data.beside.{key}.root must be a folder whose files are named as those of data.root, got null, and {root} lists no {key} "
            f"({listing.title}); set it, or list both in a CSV with the columns image and {key}"
        )
    missing = [record.name for record, paths in zip(records, found, strict=True) if not paths or not all(p.is_file() for p in paths)]
    if missing:
        raise FileNotFoundError(
            f"{where} must hold a {key} for each image; {len(missing)} of {len(records)} have none, such as {missing[0]}; add them, or "
            "choose the images that have one with data.files"
        )
    check_apart(key, records, found)
    return found


def by_name(key: str, companion: "CompanionReader") -> dict[str, tuple[Path, ...]]:
    """Return the files of each scan in the companion's folder, by `companion_name`."""
    folder, modality = Path(companion.root).expanduser(), companion.modality
    items = modality.gather(read_folder(folder, Wanted(modality.takes, modality.kinds, classes=False)).items).items
    named = {companion_name(item.name): item.paths for item in items}
    if len(named) < len(items):
        raise ValueError(f"data.beside.{key}.root={folder} must hold one {key} for each name, got {len(items)} of {len(named)} names")
    return named


def scan_files(path: Path, companion: "CompanionReader") -> tuple[Path, ...]:
    """Return the files of one scan: the file itself, or those of the one DICOM series in a folder."""
    if not path.is_dir():
        return (path,)
    items = [Item(str(inner), (inner,)) for inner in sorted(path.rglob("*")) if inner.is_file() and companion.modality.takes(inner)]
    found = companion.modality.gather(items).items
    if len(found) > 1:
        raise ValueError(f"{path} must hold one scan, got {len(found)}; name one file, or choose among series by their description")
    return found[0].paths if found else ()
