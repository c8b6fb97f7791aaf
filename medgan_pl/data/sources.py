"""Sources of scans. A source lists its scans with their patients and reads them. Here: files on disk."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from medgan_pl.core.sealed import recall, remember
from medgan_pl.core.visible import visible
from medgan_pl.data.files.containers import located, people_in
from medgan_pl.data.files.decathlon import is_decathlon
from medgan_pl.data.files.digests import content_digests, state
from medgan_pl.data.files.layouts import companion_files, list_files
from medgan_pl.data.files.listing import Wanted
from medgan_pl.data.files.pairs import own_source
from medgan_pl.data.files.people import doubts
from medgan_pl.data.files.records import Item, Record, identity_from, is_dicom, several, tabulate
from medgan_pl.data.modality import Modality, noun
from medgan_pl.data.named_masks import doubts_about
from medgan_pl.data.prepare.fill import Task
from medgan_pl.data.prepare.prepared import CompanionReader
from medgan_pl.data.readers.films import PROJECTIONS
from medgan_pl.data.readers.patient import ILLEGIBLE, PATIENT, read_patient
from medgan_pl.data.readers.scan import NoDecoder, Scan, ScanError

# Part of a stored table's key: raise it whenever the same files would give another table.
TABLE_VERSION = 13
OF_ONE_PERSON = (
    "{} single slices name no patient, and each counts as its own; slices of one person may be on both sides of the split: use "
    "data.patient_pattern, or a CSV with the column patient"
)


class Source(Protocol):
    """A source of scans of one modality.

    - `classes`: the label names in the order of their numbers, empty without labels. `title`: one line for the log.
    - `splits`: the splits of the scans' layout. `nameless`: the number of scans that name no patient, known after `table`; so are
      `doubts`, sentences on patients who may be fewer people.
    - `unusable`: name -> reason, for files that cannot even be hashed. `skipped`: reason -> number of scans that do not belong to the set.
    - `illegible`: covariate -> number of scans whose header holds an impossible value.
    - `chosen`: true if the user chose each file, so that none is left out as a mask.
    """

    classes: tuple[str, ...]
    title: str
    splits: frozenset[str]
    nameless: int
    doubts: list[str]
    unusable: dict[str, str]
    skipped: Counter[str]
    illegible: Counter[str]
    chosen: bool

    def table(self) -> list[Record]:
        """Return all scans, hashed. The first call may take minutes."""

    def descriptions(self) -> Counter[str]:
        """Return the descriptions of the DICOM series, counted, as in `readers.gather.Gathered`; read anew each time."""

    def tasks(self, records: list[Record]) -> list[Task]:
        """Return the tasks by which the cache reads the records."""

    def companions(self, key: str, companion: CompanionReader, records: list[Record]) -> list[tuple[str, Callable[[], Scan]]]:
        """Return for each record the digest of its companion's content, and a function that reads the companion.

        Errors as `files.layouts.companion_files`.
        """


class FileSource:
    """The scans of a folder, a CSV or a Decathlon table, see `files.layouts`.

    - `patient_pattern`: finds the patient in a path; None: `people.person` does.
    - `files`: a regular expression that selects files by their paths.
    - `classes`: True if folders are classes. `splits`: True to keep the splits of the files' layout.
    - `covariates`: columns of a CSV, or facts of DICOM headers (`readers.patient.PATIENT`), that each record must have.

    The table of records is stored in `folder` until the size or the time of change of a file differs, so that the headers of 100,000
    slices are read once. Identities of patients are not stored.
    """

    def __init__(
        self, root: Path, modality: Modality, *, folder: Path, patient_pattern: str | None, classes: bool, splits: bool,
        files: str | None = None, covariates: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.pattern = None if patient_pattern is None else compiled("patient_pattern", patient_pattern)
        self.root, self.modality, self.folder, self.covariates = root, modality, folder, tuple(covariates)
        self.from_headers = bool(covariates) and root.suffix.lower() != ".csv"
        if self.from_headers and (strange := [name for name in covariates if name not in PATIENT]):
            raise ValueError(
                f"`model.covariates` must be columns of a CSV (data.root=films.csv), or facts of DICOM headers ({', '.join(PATIENT)}); "
                f"got {', '.join(strange)}"
            )
        chosen = None if files is None else lambda name: compiled("files", files).search(visible(name)) is not None
        self.chosen = files is not None or not root.is_dir() or is_decathlon(root / "dataset.json")
        self.listing = list_files(root, Wanted(modality.takes, modality.kinds, classes, self.covariates, chosen))
        items = picked(self.listing.items, files)
        self.splits = frozenset(item.split for item in items if item.split is not None)
        items = items if splits else [replace(item, split=None) for item in items]
        closed = {item.name for item in items if not os.access(item.paths[0], os.R_OK)}
        self.files = [item for item in items if item.name not in closed]
        self.memory = folder / "tables" / f"{self.key()}.json"
        self.records: list[Record] = []
        self.nameless, self.doubts, self.illegible, self.joined = 0, [], Counter(), ""
        self.collect(closed)

    def collect(self, closed: set[str]) -> None:
        """Load the stored table, or gather the scans from the files; `closed` are the names of files that may not be read.

        Raise FileNotFoundError without any scan, ValueError if covariates are needed and there is no DICOM file.
        """
        if self.from_headers and self.files and not any(is_dicom(item.paths[0]) for item in self.files):
            raise ValueError(
                f"`model.covariates` needs a CSV or the headers of DICOM files, but {self.root} holds no DICOM file; list the "
                f"images in a CSV with the columns image, {', '.join(self.covariates)}, and set data.root to it"
            )
        if not self.recalled():
            gathered = self.modality.gather(self.files)
            self.items, self.unusable, self.skipped = gathered.items, gathered.unusable, gathered.skipped
            self.passed, self.joined = gathered.passed, gathered.joined
        found = self.records or self.items
        self.unusable = self.unusable | dict.fromkeys(sorted(closed), "it cannot be opened: permission denied")
        if not found and not self.unusable:
            passed = ", ".join(f"{n} {reason}" for reason, n in self.skipped.most_common())
            modality = self.modality
            raise FileNotFoundError(
                f"data.root must hold {modality.kinds} of {modality.name}, got {self.root}, which holds {passed}{way_out(self.skipped)}"
            )
        self.classes = tuple(sorted({one.label for one in found if one.label is not None}))
        self.title = f"{len(found)} {noun(self.modality)} from {self.root} ({self.listing.title})" + (
            f"; {self.joined}" if self.joined else ""
        )

    def key(self) -> str:
        """Return a hash of all that the table depends on: the files as they are now, and the rules that make the table."""
        files = [[i.name, i.label, i.split, i.identity or "", i.inner, *i.covariates, *map(state, i.paths)] for i in self.files]
        rules = [TABLE_VERSION, self.modality.settings, list(astuple(self.modality.choice)), self.pattern and self.pattern.pattern]
        return hashlib.blake2b(json.dumps([rules, files]).encode(), digest_size=12).hexdigest()

    def recalled(self) -> bool:
        """Return True if the table is stored, and load it. It refers to files by their index in `files`: no name is stored."""
        stored = recall(self.memory)
        if stored is None:
            return False
        for places, patient, digest, part in stored["records"]:
            first, paths = self.files[places[0]], tuple(self.files[place].paths[0] for place in places)
            name, known = several(first.name, len(places), part), {"covariates": first.covariates, "part": part}
            self.records.append(Record(name, paths, first.label, patient, first.split, digest, **known))
        self.unusable, self.skipped, self.nameless = {}, Counter(stored["skipped"]), stored["nameless"]
        self.doubts, self.joined = stored["doubts"], stored["joined"]
        self.passed = {self.files[place].name: why for place, why in stored["passed"]}
        return True

    def table(self) -> list[Record]:
        if not self.records:
            digests = content_digests(self.items, self.folder)
            inners = [item.inner for item in self.items]
            named = people_in(inners) if self.pattern is None else [identity_from(item, self.pattern) for item in self.items]
            identities = [item.identity or who for item, who in zip(self.items, named, strict=True)]
            self.nameless = sum(identity is None for identity in identities)
            self.doubts = [] if self.pattern else doubts(located([item.inner for item in self.items if item.identity is None]))
            if self.nameless and not self.pattern and noun(self.modality) == "slices":
                self.doubts = [*self.doubts, OF_ONE_PERSON.format(self.nameless)]
            self.doubts += doubts_about(self.listing.masks, self.modality)
            identities = [identity or item.parent for identity, item in zip(identities, self.items, strict=True)]
            self.records = tabulate(self.items, identities, digests)
            self.remember()
        return self.with_headers(self.records) if self.from_headers else self.records

    def with_headers(self, records: list[Record]) -> list[Record]:
        """Return the records with the patients' facts from their headers, which are read each time and never stored."""

        def look(record: Record) -> Record:
            try:
                said = read_patient(record.paths[0]) if is_dicom(record.paths[0]) else {}
            except ScanError:  # the cache later reports the unusable file
                said = {}
            return replace(record, covariates=tuple(said.get(name, "") for name in self.covariates))

        with ThreadPoolExecutor(4) as pool:
            complete = list(pool.map(look, records))
        self.illegible = Counter(
            name for record in complete for name, said in zip(self.covariates, record.covariates, strict=True) if said == ILLEGIBLE
        )
        return complete

    def remember(self) -> None:
        """Store the table, unless a file is unusable or a header has its data in a second file: `files` does not list those."""
        place = {item.paths[0]: i for i, item in enumerate(self.files)}
        if not self.unusable and all(path in place for record in self.records for path in record.paths):
            records = [([place[path] for path in record.paths], record.patient, record.digest, record.part) for record in self.records]
            passed = [(i, self.passed[item.name]) for i, item in enumerate(self.files) if item.name in self.passed]
            known = {"skipped": self.skipped, "nameless": self.nameless, "doubts": self.doubts, "joined": self.joined}
            remember(self.memory, {"records": records, "passed": passed, **known})

    def descriptions(self) -> Counter[str]:
        return self.modality.gather(self.files).descriptions

    def tasks(self, records: list[Record]) -> list[Task]:
        return [Task(r.digest, partial(self.scan, Item(r.name, r.paths, part=r.part)), self.modality.unit) for r in records]

    def companions(self, key: str, companion: CompanionReader, records: list[Record]) -> list[tuple[str, Callable[[], Scan]]]:
        found = companion_files(key, companion, self.root, self.listing, records)
        items = [Item(f"{record.name} ({key})", paths) for record, paths in zip(records, found, strict=True)]
        digests = content_digests(items, self.folder)
        copies = [record.name for record, digest in zip(records, digests, strict=True) if digest == record.digest]
        if len(copies) == len(records):
            raise own_source(key, copies, len(records), "is a copy of the image")
        return list(zip(digests, [partial(companion.read, item) for item in items], strict=True))

    def scan(self, item: Item) -> Scan:
        """Return the scan of an item. Raise ScanError for a fault of the file, RuntimeError for a fault of the installation."""
        try:
            return self.modality.read(item)
        except NoDecoder as error:
            raise NoDecoder(f"{item.name}: {error}") from None
        except RuntimeError as error:
            raise RuntimeError(f"{item.name}: {error}") from None


def way_out(skipped: Counter[str]) -> str:
    """Return which data set reads the modalities that were passed over, "" for others."""
    found = {word for reason in skipped for word in re.findall(r"\bof modality ([A-Z]+)", reason)}
    readers = {"data=ct reads CT": {"CT"}, "data=mri reads MR": {"MR"}, "data=xray reads X-ray films": {*PROJECTIONS}}
    return "".join(f"; {said}" for said, modalities in readers.items() if found & modalities)


def picked(items: list[Item], files: str | None) -> list[Item]:
    """Return the items whose path matches `files`, all of them for None. Raise FileNotFoundError if none does."""
    if files is None:
        return items
    pattern = compiled("files", files)
    kept = [item for item in items if pattern.search(item.name)]
    if not kept:
        raise FileNotFoundError(f"data.files must match a path, got {files!r}, which matches none of {len(items)}")
    return kept


def compiled(name: str, pattern: str) -> re.Pattern[str]:
    """Return the regular expression. Raise ValueError, naming `data.{name}`, for text that is none."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"data.{name} must be a regular expression, got {pattern!r}: {error}") from None
