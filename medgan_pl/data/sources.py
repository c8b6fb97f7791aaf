"""Where films come from: files on disk, or the embedded cohort. A source names its films, tells whose they are and reads them."""

import hashlib
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

from medgan_pl.data import phantom
from medgan_pl.data.cache import Task, content_digests
from medgan_pl.data.pipelines import dicom_patient, read_film
from medgan_pl.data.records import Film, Record, find_films, identity_from, is_dicom, read_csv, tabulate


class Source(Protocol):
    """`classes` are the label names in the order of their numbers, empty without labels; `title` is one line for the log;
    `splits` are those given with the films; `nameless` counts the films that name no patient (known after `table`)."""

    classes: tuple[str, ...]
    title: str
    splits: frozenset[str]
    nameless: int

    def table(self, cache_dir: Path) -> list[Record]:
        """All films, hashed; may take minutes the first time."""

    def tasks(self, records: list[Record]) -> list[Task]:
        """What the cache needs to read them."""


class FileSource:
    """The films of a folder or a CSV (`records.find_films`, `records.read_csv`); `patient_pattern` finds the patient in a file name."""

    def __init__(self, root: Path, patient_pattern: str) -> None:
        try:
            self.pattern = re.compile(patient_pattern)
        except re.error as error:
            raise ValueError(f"data.patient_pattern must be a regular expression, got {patient_pattern!r}: {error}") from None
        self.films, layout = read_csv(root) if root.suffix.lower() == ".csv" else find_films(root)
        self.classes = tuple(sorted({film.label for film in self.films if film.label is not None}))
        self.splits = frozenset(film.split for film in self.films if film.split is not None)
        self.title = f"{len(self.films)} films from {root} ({layout})"
        self.nameless = 0

    def table(self, cache_dir: Path) -> list[Record]:
        digests = content_digests([film.path for film in self.films], cache_dir)
        with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
            warnings.simplefilter("ignore")  # pydicom's warnings quote values, which may identify
            identities = list(pool.map(self.identity, self.films))
        self.nameless = sum(identity is None for identity in identities)
        return tabulate(self.films, identities, digests)

    def identity(self, film: Film) -> str | None:
        asked = not film.identity and is_dicom(film.path)
        return identity_from(film, self.pattern, dicom_patient(film.path) if asked else None)

    def tasks(self, records: list[Record]) -> list[Task]:
        return [Task(record.digest, partial(read_film, record.path)) for record in records]


class CohortSource:
    """The embedded cohort: one film of `size_px` (H, W) for each of `patients` simulated patients, drawn from `seed`."""

    splits = frozenset()
    nameless = 0

    def __init__(self, patients: int, seed: int, size_px: tuple[int, int]) -> None:
        self.cohort = phantom.Cohort(patients=patients, seed=seed, size_px=size_px)
        self.patients, self.seed, self.size_px = patients, seed, size_px
        self.classes = tuple(self.cohort.classes)
        self.title = f"the embedded cohort: {patients} simulated patients, seed {seed} (data.root is null; no real patient is in it)"

    def table(self, cache_dir: Path) -> list[Record]:
        drawn = hashlib.blake2b(digest_size=16)  # a changed phantom draws other films
        for file in sorted(Path(phantom.__file__).parent.glob("*.py")):
            drawn.update(file.read_bytes())
        films, digests = [], []
        for index in range(self.patients):
            patient = self.cohort.patient(index)
            films.append(Film(patient.id, label=self.classes[int(self.cohort.label(index))]))
            content = f"{drawn.hexdigest()} {self.seed} {index} {self.size_px}"
            digests.append(hashlib.blake2b(content.encode(), digest_size=16).hexdigest())
        return tabulate(films, [film.name for film in films], digests)

    def tasks(self, records: list[Record]) -> list[Task]:
        return [Task(record.digest, partial(self.cohort.film, int(record.name[1:]))) for record in records]
