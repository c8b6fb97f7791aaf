"""A CSV that lists the images: one row an image, or a folder that holds a DICOM series."""

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medgan_pl.core.visible import restored, uncelled
from medgan_pl.data.files.folders import walk
from medgan_pl.data.files.listing import COMPANION_KEYS, SPLIT_NAMES, Listing, Wanted, below_images
from medgan_pl.data.files.records import Item

COLUMNS = ("image", "label", "patient", "split")

Row = dict[str, str]


def read_csv(root: Path, wanted: Wanted) -> Listing | None:
    """Return the images of a CSV; None for any other root.

    The column `image` is the path from the CSV's folder; `label`, `patient`, `split`, the companions `source` and `mask` are optional.
    Rows whose column `use` is no are left out. `wanted.covariates` are further columns. A path to a folder stands for its wanted
    files: a DICOM series. A column is filled on every row or on none; covariates and companions may be empty on some.
    Raise FileNotFoundError if the CSV or an image is missing, ValueError for the rest.
    """
    if root.suffix.lower() != ".csv":
        return None
    if not root.is_file():
        raise FileNotFoundError(f"data.root must be a folder or a .csv file, got {root}, which does not exist")
    columns, rows = parse(root)
    check_columns(root, columns, wanted.covariates)
    rows, left = used(root, rows)
    check_rows(root, rows)
    items, companions = [], {key: {} for key in COMPANION_KEYS if key in columns}
    absent = []
    for row in rows:
        listed = items_of(row, root.parent, wanted)
        absent += [] if listed else [row["image"]]
        items += listed
        for key, named in companions.items():
            named.update({item.name: place(root.parent, row[key]) for item in listed if row.get(key)})
    if absent:
        raise FileNotFoundError(f"{root} lists {len(absent)} images that do not exist: {', '.join(absent[:20])}")
    places = Counter(os.path.relpath(item.paths[0], root.parent) for item in items)  # ./a is a, and a folder may hold a listed file
    twice = [place for place, n in places.items() if n > 1]
    if twice:
        raise ValueError(f"{root} must list each image once; {len(twice)} are listed again: {', '.join(twice[:20])}")
    shared = os.path.commonpath([item.paths[0].parent.absolute() for item in items])  # the folders above all images belong to no patient
    items = [replace(item, inner=below_images(item.paths[0].absolute().relative_to(shared).parts)) for item in items]
    filled = [column for column in COLUMNS[1:] if rows[0].get(column)]
    more = f"; left out: {left} rows of use=no" if left else ""
    return Listing(items, f"CSV, columns {', '.join([*filled, *wanted.covariates]) or 'image only'}{more}", companions)


def used(table: Path, rows: list[Row]) -> tuple[list[Row], int]:
    """Return the rows without those whose column `use` is no, and the number of those. Raise ValueError unless it is yes or no."""
    wrong = [n for n, row in enumerate(rows, 2) if row.get("use", "").lower() not in ("", "yes", "no")]
    if wrong:
        raise ValueError(f"{table}: column `use` must be yes or no, got something else on {len(wrong)} lines, first {wrong[0]}")
    kept = [row for row in rows if row.get("use", "").lower() != "no"]
    if rows and not kept:
        raise FileNotFoundError(f"{table} must have a row whose column `use` is not no, got none of {len(rows)}")
    return kept, len(rows) - len(kept)


def parse(table: Path) -> tuple[list[str], list[Row]]:
    """Return the names of the columns and the rows, without spaces around the values. Raise ValueError for a file that is no CSV."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            rows = [{k: (v or "").strip() for k, v in row.items() if k} for row in reader]
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} must be UTF-8 text, got the byte 0x{error.object[error.start]:02x}; save it as UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{table} must be a CSV with a line for each image; {error}") from None
    return columns, rows


def check_columns(table: Path, columns: list[str], covariates: Sequence[str]) -> None:
    """Raise ValueError unless there is a column `image`, one for each covariate, and none of them twice."""
    if "image" not in columns:
        known = [name for name in columns if name in COLUMNS]
        got = f"{len(columns)} others" + (f" ({', '.join(known)} among them)" if known else "")
        for mark, its_name in {";": "semicolons", "\t": "tabs"}.items():
            if "image" in (name.strip(' "') for name in ",".join(columns).split(mark)):
                got += f"; they are separated by {its_name}: save it with commas"
        raise ValueError(f"{table} must have a first line with a column `image`, got {got}")  # without a header the line holds names
    doubled = [name for name in (*COLUMNS, *covariates) if columns.count(name) > 1]
    if doubled:
        raise ValueError(
            f"{table} must have one column of each name, got several called {', '.join(doubled)}; rename or leave out the others"
        )
    absent = [name for name in covariates if name not in columns]
    if absent:
        raise ValueError(
            f"{table} must have a column for each of model.covariates, got none for {', '.join(absent)}; it has {', '.join(columns)}"
        )


def check_rows(table: Path, rows: list[Row]) -> None:
    """Raise FileNotFoundError without any row, ValueError for a column that is filled on some rows only and for an unknown split."""
    if not rows:
        raise FileNotFoundError(f"{table} must list at least one image, got a header and no rows")
    for column in COLUMNS:
        empty = [n for n, row in enumerate(rows, 2) if not row.get(column)]
        if empty and (len(empty) < len(rows) or column == "image"):
            rule = "on every row" if column == "image" else "on every row or on none"
            raise ValueError(f"{table}: column `{column}` must be filled {rule}; empty on {len(empty)}, first on line {empty[0]}")
    wrong = [n for n, row in enumerate(rows, 2) if row.get("split") and row["split"].lower() not in SPLIT_NAMES]
    if wrong:
        raise ValueError(
            f"{table}: column `split` must hold train, val or test, got something else on {len(wrong)} lines, first {wrong[0]}"
        )


def place(folder: Path, cell: str) -> Path:
    """Return the path that a cell names, from `folder`; where there is none, the one whose name `inspect` wrote with escapes."""
    path = folder / cell
    return path if os.path.lexists(path) else folder / restored(cell)


def items_of(row: Row, folder: Path, wanted: Wanted) -> list[Item]:
    """Return the images of a row: its file, or those of its folder; empty where there are none."""
    path = place(folder, row["image"])
    files = [path] if path.is_file() else [p for p in walk(path)[0] if wanted.takes(p)] if path.is_dir() else []
    split = SPLIT_NAMES.get(row.get("split", "").lower())
    covariates = tuple(row.get(column, "") for column in wanted.covariates)
    names = [row["image"] if file == path else f"{row['image']}/{file.relative_to(path)}" for file in files]
    label, patient = uncelled(row.get("label", "")) or None, row.get("patient") or None
    return [Item(name, (file,), label, split, patient, covariates=covariates) for name, file in zip(names, files, strict=True)]
