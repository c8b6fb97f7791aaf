"""Where scans come from: files on disk, or the embedded cohort. A source names its scans, tells whose they are and reads them."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from medgan_pl.core.console import watched
from medgan_pl.core.files import read_json, write_json
from medgan_pl.data import phantom
from medgan_pl.data.beside import files_beside
from medgan_pl.data.files.records import Item, Record, find, identity_from, is_dicom, is_msd, read_csv, read_msd, several, tabulate
from medgan_pl.data.modalities import Modality
from medgan_pl.data.prepare.cache import Task
from medgan_pl.data.prepare.pipelines import Beside
from medgan_pl.data.readers.header import ILLEGIBLE, PATIENT, read_patient
from medgan_pl.data.readers.scan import Scan, ScanError

# Part of a remembered table's key: raise it whenever the same files would be put together otherwise.
TABLE_VERSION = 3


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
        """As in `readers.gather.Gathered`; read anew."""

    def tasks(self, records: list[Record]) -> list[Task]:
        """What the cache needs to read them."""

    def beside(self, key: str, what: Beside, records: list[Record]) -> list[tuple[str, Callable[[], Scan]]]:
        """For each record what lies beside it: a digest of its content, and what reads it. Errors as `beside.files_beside`."""


class FileSource:
    """The scans of a folder, a CSV or a Decathlon table (see `records`); `patient_pattern` finds the patient in a path.

    `classes`: whether folders are classes; `splits`: whether the splits that came with them are kept; `files`: a regular expression that
    finds those to take by their paths; `covariates`: what each record is to tell, columns of a CSV or facts of DICOM headers
    (`readers.header.PATIENT`). What the headers and contents of the files say is remembered in `folder` as the finished table, without
    what identifies, until a file's size or time of change differs: a folder of 100,000 slices is read through once.
    """

    def __init__(
        self, root: Path, modality: Modality, *, folder: Path, patient_pattern: str, classes: bool, splits: bool,
        files: str | None = None, covariates: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.pattern = compiled("patient_pattern", patient_pattern)
        self.root, self.modality, self.folder, self.covariates = root, modality, folder, tuple(covariates)
        self.of_headers = bool(covariates) and root.suffix.lower() != ".csv"
        if self.of_headers and (strange := [name for name in covariates if name not in PATIENT]):
            raise ValueError(
                f"`model.covariates` must be columns of a CSV (data.root=films.csv), or of DICOM files some of {', '.join(PATIENT)}, which "
                f"their headers say; got {', '.join(strange)}"
            )
        items, layout = self.listed(root, classes)
        items = self.wanted(items, files)
        self.splits = frozenset(item.split for item in items if item.split is not None)
        items = items if splits else [replace(item, split=None) for item in items]
        closed = {item.name for item in items if not os.access(item.paths[0], os.R_OK)}
        self.files = [item for item in items if item.name not in closed]
        if self.of_headers and self.files and not any(is_dicom(item.paths[0]) for item in self.files):
            raise ValueError(
                f"`model.covariates` must be told by a CSV or the headers of DICOM files, and {root} holds no DICOM file; put the images "
                f"in a CSV with the columns image, {', '.join(covariates)}, and set data.root to it"
            )
        self.memory = folder / "tables" / f"{self.key()}.json"
        self.records: list[Record] = []
        self.nameless, self.illegible = 0, Counter()
        if not self.recalled():
            gathered = modality.gather(self.files)
            self.items, self.unusable, self.skipped = gathered.items, gathered.unusable, gathered.skipped
        found = self.records or self.items
        self.unusable = self.unusable | dict.fromkeys(sorted(closed), "it may not be opened: permission denied")
        if not found and not self.unusable:
            passed = ", ".join(f"{n} {reason}" for reason, n in self.skipped.most_common())
            raise FileNotFoundError(f"data.root must hold {modality.kinds} of {modality.name}, got {root}, which holds {passed}")
        self.classes = tuple(sorted({one.label for one in found if one.label is not None}))
        self.title = f"{len(found)} {'films' if modality.spatial_dims == 2 else 'volumes'} from {root} ({layout})"

    def listed(self, root: Path, classes: bool) -> tuple[list[Item], str]:
        if root.suffix.lower() == ".csv":
            return read_csv(root, self.modality.takes, self.covariates)
        if root.suffix.lower() == ".json" or is_msd(root / "dataset.json"):
            return read_msd(root if root.suffix.lower() == ".json" else root / "dataset.json")
        return find(root, self.modality.takes, self.modality.kinds, classes)

    def wanted(self, items: list[Item], files: str | None) -> list[Item]:
        """Those whose path `files` finds."""
        if files is None:
            return items
        pattern = compiled("files", files)
        kept = [item for item in items if pattern.search(item.name)]
        if not kept:
            raise FileNotFoundError(f"data.files must find something in the paths, got {files!r}, which finds none of {len(items)}")
        return kept

    def key(self) -> str:
        """What the table depends on: the files as they are now, and how they are put together."""
        files = [[i.name, i.label, i.split, i.identity or "", i.inner, *i.told, *map(state, i.paths)] for i in self.files]
        rules = [TABLE_VERSION, self.modality.settings, str(self.modality.series), self.pattern.pattern]
        return hashlib.blake2b(json.dumps([rules, files]).encode(), digest_size=12).hexdigest()

    def recalled(self) -> bool:
        """Whether the table is remembered. It says which files by their places in `files`, which its name is a hash of: no name is kept."""
        stored = read_json(self.memory)
        if stored is None:
            return False
        for places, patient, digest in stored["records"]:
            first, paths = self.files[places[0]], tuple(self.files[place].paths[0] for place in places)
            self.records.append(Record(several(first.name, len(places)), paths, first.label, patient, first.split, digest, told=first.told))
        self.unusable, self.skipped, self.nameless = {}, Counter(stored["skipped"]), stored["nameless"]
        return True

    def table(self) -> list[Record]:
        if not self.records:
            digests = content_digests(self.items, self.folder)
            identities = [identity_from(item, self.pattern) for item in self.items]
            self.nameless = sum(identity is None for identity in identities)
            self.records = tabulate(self.items, identities, digests)
            self.remember()
        return self.asked_of_headers(self.records) if self.of_headers else self.records

    def asked_of_headers(self, records: list[Record]) -> list[Record]:
        """The records with what their headers say of the patients, read each time: it is kept in no file."""

        def look(record: Record) -> Record:
            try:
                said = read_patient(record.paths[0]) if is_dicom(record.paths[0]) else {}
            except ScanError:  # whether it can be used at all is judged elsewhere
                said = {}
            return replace(record, told=tuple(said.get(name, "") for name in self.covariates))

        with ThreadPoolExecutor(4) as pool:
            told = list(pool.map(look, records))
        self.illegible = Counter(
            name for record in told for name, said in zip(self.covariates, record.told, strict=True) if said == ILLEGIBLE
        )
        return told

    def remember(self) -> None:
        """Unless something is wrong, or the data of a header lie in a file of their own: `files` knows nothing of either."""
        place = {item.paths[0]: i for i, item in enumerate(self.files)}
        if not self.unusable and all(path in place for record in self.records for path in record.paths):
            records = [([place[path] for path in record.paths], record.patient, record.digest) for record in self.records]
            write_json(self.memory, {"records": records, "skipped": self.skipped, "nameless": self.nameless})

    def descriptions(self) -> Counter[str]:
        return self.modality.gather(self.files).descriptions

    def tasks(self, records: list[Record]) -> list[Task]:
        return [Task(r.digest, partial(self.scan, Item(r.name, r.paths)), self.modality.unit) for r in records]

    def beside(self, key: str, what: Beside, records: list[Record]) -> list[tuple[str, Callable[[], Scan]]]:
        found = files_beside(key, what, self.root, records)
        items = [Item(f"{record.name} ({key})", paths) for record, paths in zip(records, found, strict=True)]
        return list(zip(content_digests(items, self.folder), [partial(what.modality.read, item) for item in items], strict=True))

    def scan(self, item: Item) -> Scan:
        try:
            return self.modality.read(item)
        except RuntimeError as error:  # a fault of the installation, not of the file
            raise RuntimeError(f"{item.name}: {error}") from None


class CohortSource:
    """The embedded cohort in this modality: one scan of `shape` voxels for each of `patients` simulated patients, drawn from `seed`.

    `covariates`: of what is simulated, the facts that each record is to tell: age (years), sex (F, M), bmi (kg/m²), height (m), inspiration
    (0 to 1), rotation (degrees), severity (0 to 1, of the healthy too), and each class but the first as a finding, 0 or 1.
    """

    splits: frozenset[str] = frozenset()
    nameless = 0

    def __init__(self, modality: Modality, patients: int, seed: int, shape: tuple[int, ...], covariates: Sequence[str] = ()) -> None:
        if patients < 1:
            raise ValueError(f"data.cohort.patients must be 1 or more, got {patients}")
        if len(shape) != modality.spatial_dims or min(shape) < 8:
            raise ValueError(f"data.cohort.shape must be {modality.spatial_dims} counts of 8 or more voxels, got {list(shape)}")
        self.modality, self.patients, self.seed, self.shape = modality, patients, seed, tuple(shape)
        self.classes, self.covariates = tuple(modality.classes), tuple(covariates)
        known = self.facts(phantom.draw_patient(seed, 0))
        if strange := [name for name in covariates if name not in known]:
            raise ValueError(f"`model.covariates` must be of what the cohort simulates, {', '.join(known)}; got {', '.join(strange)}")
        self.title = f"the embedded cohort: {patients} simulated patients, seed {seed} (data.root is null; no real patient is in it)"
        self.unusable: dict[str, str] = {}
        self.skipped: Counter[str] = Counter()
        self.illegible: Counter[str] = Counter()

    def table(self) -> list[Record]:
        drawn = hashlib.blake2b(digest_size=16)  # a changed phantom draws other scans
        for file in sorted(Path(phantom.__file__).parent.glob("*.py")):
            drawn.update(file.read_bytes())
        items, digests = [], []
        for index in range(self.patients):
            patient = phantom.draw_patient(self.seed, index)
            facts = self.facts(patient)
            told = tuple(str(facts[name]) for name in self.covariates)
            items.append(Item(patient.id, label=self.classes[self.modality.label(patient)], identity=patient.id, told=told))
            content = f"{drawn.hexdigest()} {self.modality.settings} {self.seed} {index} {self.shape}"
            digests.append(hashlib.blake2b(content.encode(), digest_size=16).hexdigest())
        # Whose it is hangs on no image here, so that a patient is the same one in every modality.
        people = [hashlib.blake2b(f"{self.seed} {index}".encode(), digest_size=16).hexdigest() for index in range(self.patients)]
        records = tabulate(items, [item.identity for item in items], people)
        return [replace(record, digest=digest) for record, digest in zip(records, digests, strict=True)]

    def facts(self, patient: phantom.Patient) -> dict[str, Any]:
        shown = {"age": patient.age_years, "sex": patient.sex, "bmi": patient.bmi, "height": patient.height_m}
        shown |= {"inspiration": patient.inspiration, "rotation": patient.rotation_deg, "severity": patient.severity}
        label = self.modality.label(patient)
        return shown | {name: int(number == label) for number, name in enumerate(self.classes) if number}

    def descriptions(self) -> Counter[str]:
        return Counter()

    def scan(self, index: int) -> Scan:
        return self.modality.simulate(phantom.draw_patient(self.seed, index), self.shape)

    def beside(self, key: str, what: Beside, records: list[Record]) -> list[tuple[str, Callable[[], Scan]]]:
        patients = [phantom.draw_patient(self.seed, int(record.name[1:])) for record in records]
        reads = [partial(what.simulate, self.modality, patient, self.shape) for patient in patients]
        return [(record.digest, read) for record, read in zip(records, reads, strict=True)]

    def tasks(self, records: list[Record]) -> list[Task]:
        return [Task(r.digest, partial(self.scan, int(r.name[1:])), self.modality.unit) for r in records]


def content_digests(items: list[Item], folder: Path) -> list[str]:
    """For each item blake2b of its file's bytes (of several: of their digests), 32 hex digits; remembered in `folder` by (path, size, time
    of change), itself hashed."""
    paths = [path for item in items for path in item.paths]
    memory = folder / "digests.json"
    known: dict[str, str] = read_json(memory) or {}
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


def compiled(name: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"data.{name} must be a regular expression, got {pattern!r}: {error}") from None


def state(path: Path) -> str:
    stat = path.stat()
    return hashlib.blake2b(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode(), digest_size=12).hexdigest()


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
