"""Where scans come from: files on disk, or the embedded cohort. A source names its scans, tells whose they are and reads them."""

import hashlib
import json
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from medgan_pl.data import phantom
from medgan_pl.data.cache import Task, watched
from medgan_pl.data.modalities import Modality
from medgan_pl.data.records import Item, Record, find, identity_from, read_csv, read_msd, tabulate
from medgan_pl.data.scan import Scan

# Part of a remembered table's key: raise it whenever the same files would be put together otherwise.
TABLE_VERSION = 2


class Source(Protocol):
    """`classes` are the label names in the order of their numbers, empty without labels; `title` is one line for the log;
    `splits` are those given with the scans; `nameless` counts the scans that name no patient (known after `table`);
    `unusable`: name -> why, of files that cannot even be hashed; `skipped` counts by reason what is not for this set."""

    classes: tuple[str, ...]
    title: str
    splits: frozenset[str]
    nameless: int
    unusable: dict[str, str]
    skipped: Counter[str]

    def table(self) -> list[Record]:
        """All scans, hashed; may take minutes the first time."""

    def descriptions(self) -> Counter[str]:
        """As in `modalities.Gathered`; read anew."""

    def tasks(self, records: list[Record]) -> list[Task]:
        """What the cache needs to read them."""


class FileSource:
    """The scans of a folder, a CSV or a Decathlon table (see `records`); `patient_pattern` finds the patient in a path.

    `classes`: whether folders are classes. What the headers and contents of the files say is remembered in `folder` as the finished table,
    without what identifies, until a file's size or time of change differs: a folder of 100,000 slices is read through once.
    """

    def __init__(self, root: Path, modality: Modality, patient_pattern: str, classes: bool, folder: Path) -> None:
        try:
            self.pattern = re.compile(patient_pattern)
        except re.error as error:
            raise ValueError(f"data.patient_pattern must be a regular expression, got {patient_pattern!r}: {error}") from None
        self.modality, self.folder = modality, folder
        items, layout = self.listed(root, classes)
        closed = {item.name for item in items if not os.access(item.paths[0], os.R_OK)}
        self.files = [item for item in items if item.name not in closed]
        self.memory = folder / "tables" / f"{self.key()}.json"
        self.records: list[Record] = []
        self.nameless = 0
        if not self.recalled():
            gathered = modality.gather(self.files)
            self.items, self.unusable, self.skipped = gathered.items, gathered.unusable, gathered.skipped
        found = self.records or self.items
        self.unusable = self.unusable | dict.fromkeys(sorted(closed), "it may not be opened: permission denied")
        if not found and not self.unusable:
            passed = ", ".join(f"{n} {reason}" for reason, n in self.skipped.most_common())
            raise FileNotFoundError(f"data.root must hold {modality.kinds} of {modality.name}, got {root}, which holds {passed}")
        self.classes = tuple(sorted({one.label for one in found if one.label is not None}))
        self.splits = frozenset(one.split for one in found if one.split is not None)
        self.title = f"{len(found)} {'films' if modality.spatial_dims == 2 else 'volumes'} from {root} ({layout})"

    def listed(self, root: Path, classes: bool) -> tuple[list[Item], str]:
        if root.suffix.lower() == ".csv":
            return read_csv(root, self.modality.takes)
        if root.suffix.lower() == ".json" or (root / "dataset.json").is_file():
            return read_msd(root if root.suffix.lower() == ".json" else root / "dataset.json")
        return find(root, self.modality.takes, self.modality.kinds, classes)

    def key(self) -> str:
        """What the table depends on: the files as they are now, and how they are put together."""
        files = [[item.name, item.label, item.split, item.identity or "", *map(state, item.paths)] for item in self.files]
        rules = [TABLE_VERSION, self.modality.settings, str(self.modality.chosen), self.pattern.pattern]
        return hashlib.blake2b(json.dumps([rules, files]).encode(), digest_size=12).hexdigest()

    def recalled(self) -> bool:
        """Whether the table is remembered and still holds: files that only headers name (a .raw) are not in the key."""
        if not self.memory.is_file():
            return False
        stored = json.loads(self.memory.read_text())
        records = [Record(**{**record, "paths": tuple(map(Path, record["paths"]))}) for record in stored["records"]]
        try:
            if not records or stored["states"] != states(records):
                return False
        except FileNotFoundError:
            return False
        self.records = records
        self.unusable, self.skipped, self.nameless = stored["unusable"], Counter(stored["skipped"]), stored["nameless"]
        return True

    def table(self) -> list[Record]:
        if not self.records:
            digests = content_digests(self.items, self.folder)
            identities = [identity_from(item, self.pattern) for item in self.items]
            self.nameless = sum(identity is None for identity in identities)
            self.records = tabulate(self.items, identities, digests)
            records = [{**vars(record), "paths": [str(path) for path in record.paths]} for record in self.records]
            kept = {"records": records, "states": states(self.records)}
            kept |= {"unusable": self.unusable, "skipped": self.skipped, "nameless": self.nameless}
            write_json(self.memory, kept)
        return self.records

    def descriptions(self) -> Counter[str]:
        return self.modality.gather(self.files).descriptions

    def tasks(self, records: list[Record]) -> list[Task]:
        return [Task(r.digest, partial(self.scan, Item(r.name, r.paths)), self.modality.unit) for r in records]

    def scan(self, item: Item) -> Scan:
        try:
            return self.modality.read(item)
        except RuntimeError as error:  # a fault of the installation, not of the file
            raise RuntimeError(f"{item.name}: {error}") from None


class CohortSource:
    """The embedded cohort in this modality: one scan of `shape` voxels for each of `patients` simulated patients, drawn from `seed`."""

    splits: frozenset[str] = frozenset()
    nameless = 0

    def __init__(self, modality: Modality, patients: int, seed: int, shape: tuple[int, ...]) -> None:
        if patients < 1:
            raise ValueError(f"data.cohort.patients must be 1 or more, got {patients}")
        if len(shape) != modality.spatial_dims or min(shape) < 8:
            raise ValueError(f"data.cohort.shape must be {modality.spatial_dims} counts of 8 or more voxels, got {list(shape)}")
        self.modality, self.patients, self.seed, self.shape = modality, patients, seed, tuple(shape)
        self.classes = tuple(modality.classes)
        self.title = f"the embedded cohort: {patients} simulated patients, seed {seed} (data.root is null; no real patient is in it)"
        self.unusable: dict[str, str] = {}
        self.skipped: Counter[str] = Counter()

    def table(self) -> list[Record]:
        drawn = hashlib.blake2b(digest_size=16)  # a changed phantom draws other scans
        for file in sorted(Path(phantom.__file__).parent.glob("*.py")):
            drawn.update(file.read_bytes())
        items, digests = [], []
        for index in range(self.patients):
            patient = phantom.draw_patient(self.seed, index)
            items.append(Item(patient.id, label=self.classes[self.modality.label(patient)], identity=patient.id))
            content = f"{drawn.hexdigest()} {self.modality.settings} {self.seed} {index} {self.shape}"
            digests.append(hashlib.blake2b(content.encode(), digest_size=16).hexdigest())
        return tabulate(items, [item.identity for item in items], digests)

    def descriptions(self) -> Counter[str]:
        return Counter()

    def scan(self, index: int) -> Scan:
        return self.modality.simulate(phantom.draw_patient(self.seed, index), self.shape)

    def tasks(self, records: list[Record]) -> list[Task]:
        return [Task(r.digest, partial(self.scan, int(r.name[1:])), self.modality.unit) for r in records]


def content_digests(items: list[Item], folder: Path) -> list[str]:
    """For each item blake2b of its file's bytes (of several: of their digests), 32 hex digits; remembered in `folder` by (path, size, time
    of change), itself hashed."""
    paths = [path for item in items for path in item.paths]
    memory = folder / "digests.json"
    known: dict[str, str] = json.loads(memory.read_text()) if memory.is_file() else {}
    keys = {path: state(path) for path in paths}
    new = [path for path in paths if keys[path] not in known]
    if new:
        with ThreadPoolExecutor(4) as pool:
            hashes = watched(pool.map(digest, new), len(new), "hashing files")
            known |= dict(zip([keys[path] for path in new], hashes, strict=True))
        write_json(memory, known)
    found = []
    for item in items:
        parts = [known[keys[path]] for path in item.paths]
        found.append(parts[0] if len(parts) == 1 else hashlib.blake2b(" ".join(sorted(parts)).encode(), digest_size=16).hexdigest())
    return found


def write_json(path: Path, content: Any) -> None:
    """Beside, then in place, since other ranks may be doing the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(content))
    aside.replace(path)


def state(path: Path) -> str:
    stat = path.stat()
    return hashlib.blake2b(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode(), digest_size=12).hexdigest()


def states(records: list[Record]) -> str:
    """Of all their files, in one hash."""
    every = " ".join(state(path) for record in records for path in record.paths)
    return hashlib.blake2b(every.encode(), digest_size=12).hexdigest()


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
