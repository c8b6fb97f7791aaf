"""Images and whose they are: a folder, a CSV or a Decathlon table becomes a table of records."""

import csv
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medgan_pl.data.files.names import DICOMS, MASK_NAME, OTHERS, PICTURES

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}
# More folders than this, with fewer images in each than that, are patients and no classes.
MANY, FEW_EACH = 10, 20


@dataclass(frozen=True)
class Item:
    """One image as found, in one file or several: `name` is what messages show, `inner` its path below the folders of splits and classes,
    `identity` says whose it is (None: not known yet, or nobody says), `told` the text of each covariate asked for, "" where unknown."""

    name: str
    paths: tuple[Path, ...] = ()
    label: str | None = None
    split: str | None = None
    identity: str | None = field(default=None, repr=False)  # never into a log
    inner: str = ""
    told: tuple[str, ...] = field(default=(), repr=False)  # nor these

    def of(self, identity: str | None) -> "Item":
        """The same, of that patient unless it has one."""
        return self if self.identity else replace(self, identity=identity)

    def merged(self, name: str, paths: tuple[Path, ...]) -> "Item":
        return replace(self, name=name, paths=paths)


@dataclass(frozen=True)
class Record:
    """One image ready for use: `patient` is 12 hex digits (see `tabulate`), `digest` the hash of its content, `pixels` that of its values,
    empty before they were read, `told` as that of its Item, `alone` the digest without what lies beside it, where something does."""

    name: str
    paths: tuple[Path, ...]
    label: str | None
    patient: str
    split: str | None
    digest: str
    pixels: str = ""
    told: tuple[str, ...] = field(default=(), repr=False)
    alone: str = ""

    @property
    def key(self) -> str:
        """By what the order of patients hangs on it: the same whatever lies beside the image."""
        return self.alone or self.digest


def several(name: str, files: int) -> str:
    """The name of a scan in several files, by that of the first."""
    return f"{name} (+{files - 1})" if files > 1 else name


def is_dicom(path: Path) -> bool:
    """Whether the file is a DICOM: by a known suffix, else (no suffix, or the end of a UID such as `1.2.840.5`) by its preamble."""
    suffix = path.suffix.lower()
    if suffix in (*PICTURES, *DICOMS, *OTHERS):
        return suffix in DICOMS
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except PermissionError:
        return False


def walk(root: Path) -> tuple[list[Path], Counter[str]]:
    """Every file below `root`, linked folders included, each folder once however links lead to it; and what was passed over."""
    files, passed, seen = [], Counter(), set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=lambda error: passed.update(["unreadable folders"])):
        place = os.stat(folder)
        if (place.st_dev, place.st_ino) in seen:
            passed["links back to a folder"] += 1
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        folders[:] = sorted(name for name in folders if not hidden(Path(name)))  # of several links to a folder the first name counts
        for path in (Path(folder, name) for name in names if not hidden(Path(name))):
            if path.is_file():
                files.append(path)
            else:
                passed["broken links or special files"] += 1
    return sorted(files), passed


def find(root: Path, takes: Callable[[Path], bool], kinds: str, classes: bool) -> tuple[list[Item], str]:
    """The images under `root` and a line about its layout: `{train,val,test}/{class}/`, `{class}/`, split folders of no class, or flat.

    `takes` picks files, `kinds` says in words which. Without `classes`, folders below those of the splits tell nothing. Hidden files,
    `__MACOSX`, masks (folders `labels*`, `masks*` beside `images*`) and files of other kinds are left out; the line counts them.
    Raises FileNotFoundError for a root that is missing or holds no image, ValueError for one that mixes layouts or lies a folder too high.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"data.root must be a folder or a .csv file, got {root}, which is neither; null is the phantom")
    files, passed = walk(root)
    taken = [path for path in files if takes(path)]
    others = passed + Counter(p.suffix or p.name for p in sorted({*files} - {*taken}))
    masks = {p for p in taken if is_mask(p.relative_to(root), root)}
    if masks and len(masks) < len(taken):
        others["masks"] = len(masks)
        taken = [path for path in taken if path not in masks]
    if not taken:
        held = ", ".join(f"{n} {kind}" for kind, n in others.most_common(5)) or "no file at all"
        raise FileNotFoundError(f"data.root must hold {kinds}, got {root}, which holds {held}")
    found, layout = by_layout(root, [p.relative_to(root) for p in taken], classes)
    if others:
        layout += "; left out: " + ", ".join(f"{n} {kind}" for kind, n in others.most_common(5))
    return found, layout


def hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def is_mask(path: Path, root: Path) -> bool:
    """Whether its name ends as in MASK_NAME, or it lies in a folder `labels…`, `masks…`, `segmentations…` that has a sister `images…`."""
    if MASK_NAME.search(path.name.split(".")[0]):
        return True
    for depth, part in enumerate(path.parts[:-1]):
        if part.lower().startswith(("labels", "masks", "segmentations")):
            return any(p.is_dir() and p.name.lower().startswith("images") for p in root.joinpath(*path.parts[:depth]).iterdir())
    return False


def by_layout(root: Path, paths: list[Path], classes: bool) -> tuple[list[Item], str]:
    tops = {p.parts[0] for p in paths if len(p.parts) > 1}
    splits = {top for top in tops if top.lower() in SPLIT_NAMES}
    loose = sum(len(p.parts) == 1 for p in paths)
    if tops and loose and (classes or splits):
        raise ValueError(f"images must lie either in folders or flat; {root} holds {loose} loose ones beside {', '.join(sorted(tops)[:5])}")
    if splits and splits != tops:
        if classes:
            raise ValueError(f"the folders of {root} must be either splits or classes, got both: {', '.join(sorted(tops)[:8])}")
        splits = set()  # a patient's folder may be called test
    inner = {p.parts[1] for p in paths if len(p.parts) > 2 and p.parts[1].lower() in SPLIT_NAMES}
    if inner and not splits and len(tops) == 1 and all(len(p.parts) > 2 for p in paths):
        raise ValueError(
            f"data.root must hold the split folders itself, got {root}, whose one folder {min(tops)} holds {', '.join(sorted(inner))}; "
            f"use data.root={root / min(tops)}"
        )
    depth = bool(splits)  # folders that are taken off before a class, or the patient, is looked for
    deep = [p for p in paths if len(p.parts) > depth + 1]
    if classes and deep and len(deep) < len(paths):
        flat = next(p for p in paths if len(p.parts) == depth + 1)
        raise ValueError(f"in {root} some images lie in class folders and some do not, such as {flat}; give every one a class, or none")
    labelled = classes and bool(deep)
    if labelled and (names := {p.parts[depth] for p in paths}) and len(names) > MANY and len(paths) < FEW_EACH * len(names):
        raise ValueError(
            f"folders must be classes, got {len(names)} that hold {len(paths) / len(names):.1f} images each, as patients' folders do; use "
            "data.classes=none \"data.patient_pattern='^[^/]+(?=/)'\", or a CSV with the columns image and label"
        )
    items = [
        Item(
            str(p),
            (root / p,),
            p.parts[depth] if labelled else None,
            SPLIT_NAMES[p.parts[0].lower()] if splits else None,
            inner=below_images(p.parts[depth + labelled :]),
        )
        for p in paths
    ]
    return items, f"{'split folders' if splits else 'one folder'}, {'classes' if labelled else 'no label'}"


def below_images(parts: Sequence[str]) -> str:
    """The path below a folder `images…`, which is nobody's."""
    return Path(*parts[1:] if len(parts) > 1 and parts[0].lower().startswith("images") else parts).as_posix()


def is_msd(table: Path) -> bool:
    """Whether it is a Decathlon table; other programs (nnU-Net) write a dataset.json of another form."""
    try:
        return isinstance(json.loads(table.read_text(encoding="utf-8-sig"))["training"], list)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_msd(table: Path) -> tuple[list[Item], str]:
    """The images of a Medical Segmentation Decathlon `dataset.json`: `training` and `test`, a patient each; their masks are left out.

    Raises ValueError for a file of another form, FileNotFoundError for images that are not there.
    """
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
        raise FileNotFoundError(f"{table} lists {len(absent)} images that are not there: {', '.join(absent[:20])}")
    items = [Item(name.as_posix(), (table.parent / name,), split=split, identity=name.name) for name, split in pairs]
    if not items:
        raise FileNotFoundError(f"{table} must list at least one image, got none")
    return items, "Decathlon dataset.json, masks left out"


def read_csv(table: Path, takes: Callable[[Path], bool], covariates: Sequence[str] = ()) -> tuple[list[Item], str]:
    """The images of a CSV with the column `image` (path from the CSV's folder), if wanted `label`, `patient`, `split`, and `covariates`.

    A path to a folder stands for the files in it that `takes` picks: a DICOM series. A column is filled on every row or on none, but for
    the covariates'.
    Raises FileNotFoundError for a missing CSV or image, ValueError for the rest.
    """
    if not table.is_file():
        raise FileNotFoundError(f"data.root must be a folder or a .csv file, got {table}, which does not exist")
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            rows = [{k: (v or "").strip() for k, v in row.items() if k} for row in reader]
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} must be UTF-8 text, got the byte 0x{error.object[error.start]:02x}; save it as UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{table} must be a CSV, a line for each image; {error}") from None
    if "image" not in columns:
        known = [name for name in columns if name in ("label", "patient", "split")]
        got = f"{len(columns)} others" + (f" ({', '.join(known)} among them)" if known else "")
        for mark, its_name in {";": "semicolons", "\t": "tabs"}.items():
            if "image" in (name.strip(' "') for name in ",".join(columns).split(mark)):
                got += f"; they are divided by {its_name}: save it with commas"
        raise ValueError(f"{table} must have a first line with a column `image`, got {got}")  # without one it holds names: not shown
    doubled = [name for name in ("image", "label", "patient", "split", *covariates) if columns.count(name) > 1]
    if doubled:
        raise ValueError(
            f"{table} must have one column of each name, got several called {', '.join(doubled)}; rename or leave out the others"
        )
    absent = [name for name in covariates if name not in columns]
    if absent:
        raise ValueError(
            f"{table} must have a column for each of model.covariates, got none for {', '.join(absent)}; it has {', '.join(columns)}"
        )
    if not rows:
        raise FileNotFoundError(f"{table} must list at least one image, got a header and no rows")
    for column in ("image", "label", "patient", "split"):
        empty = [n for n, row in enumerate(rows, 2) if not row.get(column)]
        if empty and (len(empty) < len(rows) or column == "image"):
            rule = "on every row" if column == "image" else "on every row or on none"
            raise ValueError(f"{table}: column `{column}` must be filled {rule}; empty on {len(empty)}, first on line {empty[0]}")
    wrong = [n for n, row in enumerate(rows, 2) if row.get("split") and row["split"].lower() not in SPLIT_NAMES]
    if wrong:
        raise ValueError(
            f"{table}: column `split` must hold train, val or test, got something else on {len(wrong)} lines, first {wrong[0]}"
        )
    items, absent = [], []
    for row in rows:
        path = table.parent / row["image"]
        files = [path] if path.is_file() else [p for p in walk(path)[0] if takes(p)] if path.is_dir() else []
        absent += [] if files else [row["image"]]
        for file in files:
            name = row["image"] if file == path else f"{row['image']}/{file.relative_to(path)}"
            split = SPLIT_NAMES.get(row.get("split", "").lower())
            told = tuple(row.get(column, "") for column in covariates)
            items.append(Item(name, (file,), row.get("label") or None, split, row.get("patient") or None, told=told))
    if absent:
        raise FileNotFoundError(f"{table} lists {len(absent)} images that are not there: {', '.join(absent[:20])}")
    places = Counter(os.path.relpath(item.paths[0], table.parent) for item in items)  # ./a is a, and a folder may hold what is listed too
    twice = [place for place, n in places.items() if n > 1]
    if twice:
        raise ValueError(f"{table} must list each image once; {len(twice)} are listed again: {', '.join(twice[:20])}")
    shared = os.path.commonpath([item.paths[0].parent.absolute() for item in items])  # folders that all lie in are nobody's
    items = [replace(item, inner=below_images(item.paths[0].absolute().relative_to(shared).parts)) for item in items]
    filled = [c for c in ("label", "patient", "split") if rows[0].get(c)]
    return items, f"CSV, columns {', '.join([*filled, *covariates]) or 'image only'}"


def identity_from(item: Item, pattern: re.Pattern[str]) -> str | None:
    """Whose image it is: what the item says (CSV, DICOM PatientID), else what `pattern` finds in its file name, else in its inner path."""
    if item.identity:
        return item.identity
    match = pattern.search(Path(item.inner).name) or pattern.search(item.inner)
    return match.group(0) if match else None


def tabulate(items: Sequence[Item], identities: Sequence[str | None], digests: Sequence[str]) -> list[Record]:
    """The records. `patient` = blake2b(identity, keyed by the smallest content digest among the patient's images): without the images
    the hash says nothing of the identity, and no identity is kept. An image of nobody is a patient by its content alone."""
    salt: dict[str, str] = {}
    for identity, digest in zip(identities, digests, strict=True):
        if identity:
            salt[identity] = min(digest, salt.get(identity, digest))
    table = []
    for item, identity, digest in zip(items, identities, digests, strict=True):
        key = salt[identity] if identity else digest
        patient = hashlib.blake2b((identity or "").encode(), key=key.encode(), digest_size=6).hexdigest()
        table.append(Record(item.name, item.paths, item.label, patient, item.split, digest, told=item.told))
    return table
