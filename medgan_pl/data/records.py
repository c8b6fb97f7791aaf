"""Films and whose they are: a folder, a CSV or the embedded cohort becomes a table of records, split with no patient on two sides."""

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}
PICTURES, DICOMS, OTHERS = (".png", ".jpg", ".jpeg", ".tif", ".tiff"), (".dcm", ".dicom"), (".txt", ".csv", ".json")


@dataclass(frozen=True)
class Film:
    """One film as found: `name` is what messages show, `identity` says whose it is (None: not known yet, or nobody says)."""

    name: str
    path: Path | None = None
    label: str | None = None
    split: str | None = None
    identity: str | None = None


@dataclass(frozen=True)
class Record:
    """One film ready for use: `patient` is 12 hex digits (see `patients`), `digest` the hash of its content."""

    name: str
    path: Path | None
    label: str | None
    patient: str
    split: str | None
    digest: str


def is_dicom(path: Path) -> bool:
    """Whether the file is a DICOM: by a known suffix, else (no suffix, or the end of a UID such as `1.2.840.5`) by its preamble."""
    suffix = path.suffix.lower()
    if suffix in (*PICTURES, *DICOMS, *OTHERS):
        return suffix in DICOMS
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def find_films(root: Path) -> tuple[list[Film], str]:
    """The films under `root` and a line about its layout: `{train,val,test}/{class}/`, `{class}/`, split folders of no class, or flat.

    Hidden files, `__MACOSX` and files of other kinds are left out; the line counts the last.
    Raises FileNotFoundError for a root that is missing or holds no film, ValueError for one that mixes layouts or lies a folder too high.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"data.root must be a folder of films or a .csv file, got {root}, which is neither; null is the phantom")
    files = sorted(p for p in root.rglob("*") if p.is_file() and not hidden(p.relative_to(root)))
    films = [p for p in files if p.suffix.lower() in PICTURES or is_dicom(p)]
    others = Counter(p.suffix or p.name for p in sorted({*files} - {*films}))
    if not films:
        held = ", ".join(f"{n} {kind}" for kind, n in others.most_common(5)) or "no file at all"
        raise FileNotFoundError(f"data.root must hold PNG, JPEG, TIFF or DICOM films, got {root}, which holds {held}")
    found, layout = by_layout(root, [p.relative_to(root) for p in films])
    if others:
        layout += "; left out: " + ", ".join(f"{n} {kind}" for kind, n in others.most_common(5))
    return found, layout


def hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def by_layout(root: Path, paths: list[Path]) -> tuple[list[Film], str]:
    tops = {p.parts[0] for p in paths if len(p.parts) > 1}
    splits = {top for top in tops if top.lower() in SPLIT_NAMES}
    if tops and any(len(p.parts) == 1 for p in paths):
        loose = sum(len(p.parts) == 1 for p in paths)
        raise ValueError(f"films must lie either in folders or flat; {root} holds {loose} loose films beside {', '.join(sorted(tops)[:5])}")
    if splits and splits != tops:
        raise ValueError(f"the folders of {root} must be either splits or classes, got both: {', '.join(sorted(tops)[:8])}")
    inner = {p.parts[1] for p in paths if len(p.parts) > 2 and p.parts[1].lower() in SPLIT_NAMES}
    if inner and not splits and len(tops) == 1 and all(len(p.parts) > 2 for p in paths):
        raise ValueError(
            f"data.root must hold the split folders itself, got {root}, whose one folder {min(tops)} holds {', '.join(sorted(inner))}; "
            f"use data.root={root / min(tops)}"
        )
    if not splits:
        label = "classes" if tops else "no label"
        return [Film(str(p), root / p, label=p.parts[0] if tops else None) for p in paths], f"one folder, {label}"
    deep = [p for p in paths if len(p.parts) > 2]
    if deep and len(deep) < len(paths):
        flat = next(p for p in paths if len(p.parts) == 2)
        raise ValueError(f"in {root} some films lie in class folders and some do not, such as {flat}; give every film a class, or none")
    films = [Film(str(p), root / p, p.parts[1] if deep else None, SPLIT_NAMES[p.parts[0].lower()]) for p in paths]
    return films, f"split folders, {'classes' if deep else 'no label'}"


def read_csv(table: Path) -> tuple[list[Film], str]:
    """The films of a CSV with the column `image` (path from the CSV's folder) and, if wanted, `label`, `patient`, `split`.

    A column is filled on every row or on none. Raises FileNotFoundError for a missing CSV or film, ValueError for the rest.
    """
    if not table.is_file():
        raise FileNotFoundError(f"data.root must be a folder of films or a .csv file, got {table}, which does not exist")
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [{k: (v or "").strip() for k, v in row.items() if k} for row in reader]
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} must be UTF-8 text, got the byte 0x{error.object[error.start]:02x}; save it as UTF-8") from None
    if "image" not in (reader.fieldnames or ()):
        raise ValueError(f"{table} must have a column `image`, got {', '.join(reader.fieldnames or ()) or 'no header'}")
    if not rows:
        raise FileNotFoundError(f"{table} must list at least one film, got a header and no rows")
    for column in ("image", "label", "patient", "split"):
        empty = [n for n, row in enumerate(rows, 2) if not row.get(column)]
        if empty and (len(empty) < len(rows) or column == "image"):
            rule = "on every row" if column == "image" else "on every row or on none"
            raise ValueError(f"{table}: column `{column}` must be filled {rule}; empty on {len(empty)}, first on line {empty[0]}")
    twice = [name for name, n in Counter(row["image"] for row in rows).items() if n > 1]
    if twice:
        raise ValueError(f"{table} must list each film once; {len(twice)} are listed again: {', '.join(twice[:20])}")
    wrong = sorted({row["split"] for row in rows if row.get("split") and row["split"].lower() not in SPLIT_NAMES})
    if wrong:
        raise ValueError(f"{table}: column `split` must hold train, val or test, got {', '.join(wrong[:5])}")
    absent = [row["image"] for row in rows if not (table.parent / row["image"]).is_file()]
    if absent:
        raise FileNotFoundError(f"{table} lists {len(absent)} films that are not there: {', '.join(absent[:20])}")
    films = [
        Film(
            row["image"],
            table.parent / row["image"],
            row.get("label") or None,
            SPLIT_NAMES.get(row.get("split", "").lower()),
            row.get("patient") or None,
        )
        for row in rows
    ]
    return films, f"CSV, columns {', '.join(c for c in ('label', 'patient', 'split') if rows[0].get(c)) or 'image only'}"


def identity_from(film: Film, pattern: re.Pattern[str], dicom_id: str | None) -> str | None:
    """Whose film it is: the CSV's word, else the DICOM PatientID, else the part of the file name that `pattern` finds, else None."""
    if film.identity or dicom_id:
        return film.identity or dicom_id
    match = pattern.search(Path(film.name).name)
    return match.group(0) if match else None


def tabulate(films: Sequence[Film], identities: Sequence[str | None], digests: Sequence[str]) -> list[Record]:
    """The records. `patient` = blake2b(identity, keyed by the smallest content digest among the patient's films): without the films
    the hash says nothing of the identity, and no identity is kept. A film of nobody is a patient by its content alone."""
    salt: dict[str, str] = {}
    for identity, digest in zip(identities, digests, strict=True):
        if identity:
            salt[identity] = min(digest, salt.get(identity, digest))
    table = []
    for film, identity, digest in zip(films, identities, digests, strict=True):
        key = salt[identity] if identity else digest
        patient = hashlib.blake2b((identity or "").encode(), key=key.encode(), digest_size=6).hexdigest()
        table.append(Record(film.name, film.path, film.label, patient, film.split, digest))
    return table


def split_by_patient(records: Sequence[Record], fractions: Mapping[str, float], seed: int) -> list[str]:
    """A split for each record: whole patients, in an order keyed by `seed`, class after class, each to the split that lags most.

    Lagging is counted in films behind the split's fraction, so sizes and classes come out as asked. Patients who share a byte-identical
    film count as one, so that no duplicate is on two sides.
    Raises ValueError where a split of a fraction above 0 gets no patient.
    """
    groups = [members for _, members in sorted(joined(records).items(), key=lambda item: order_key(records, item, seed))]
    held, split = dict.fromkeys(SPLITS, 0), [""] * len(records)
    done = 0
    for members in groups:
        done += len(members)
        chosen = max(SPLITS, key=lambda s: fractions[s] * done - held[s] if fractions[s] > 0 else -float("inf"))
        held[chosen] += len(members)
        for row in members:
            split[row] = chosen
    empty = [s for s in SPLITS if fractions[s] > 0 and not held[s]]
    if empty:
        raise ValueError(
            f"{len(groups)} patients are too few for a {' and a '.join(empty)} split at fractions {tuple(fractions[s] for s in SPLITS)}; "
            "add patients, raise the fraction, or check data.patient_pattern (it may join different patients)"
        )
    return split


def joined(records: Sequence[Record]) -> dict[str, list[int]]:
    """Rows by patient, patients joined where they share a byte-identical film (union-find); the key is the group's smallest digest."""
    parent: dict[str, str] = {}

    def find(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for record in records:
        parent[find("patient " + record.patient)] = find("film " + record.digest)
    rows: dict[str, list[int]] = defaultdict(list)
    for row, record in enumerate(records):
        rows[find("patient " + record.patient)].append(row)
    return {min(records[row].digest for row in members): members for members in rows.values()}


def order_key(records: Sequence[Record], item: tuple[str, list[int]], seed: int) -> tuple[str, bytes]:
    digest, members = item
    label = min(records[row].label or "" for row in members)
    return label, hashlib.blake2b(f"{seed} {digest}".encode(), digest_size=16).digest()


def straddling(keys: Iterable[str], sides: Iterable[str | None]) -> int:
    """How many of the keys (patients, digests) stand on more than one side (split, label)."""
    seen: dict[str, set[str | None]] = defaultdict(set)
    for key, side in zip(keys, sides, strict=True):
        seen[key].add(side)
    return sum(len(s) > 1 for s in seen.values())
