"""The embedded cohort as a source of scans: simulated patients, no files."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from medgan_pl.core.counts import whole_number
from medgan_pl.data import phantom
from medgan_pl.data.files.records import Item, Record, tabulate
from medgan_pl.data.modality import Modality
from medgan_pl.data.prepare.fill import Task
from medgan_pl.data.prepare.prepared import CompanionReader
from medgan_pl.data.readers.scan import Scan


class CohortSource:
    """The embedded cohort in one modality: one scan of `shape` voxels for each of `patients` simulated patients, drawn from `seed`.

    `covariates` are simulated facts that each record must have: age (years), sex (F, M), bmi (kg/m²), height (m), inspiration (0 to 1),
    rotation (degrees), severity (0 to 1, also for healthy patients), and each class but the first as a finding, 0 or 1.
    """

    splits: frozenset[str] = frozenset()
    nameless = 0
    doubts: list[str] = []  # noqa: RUF012

    def __init__(self, modality: Modality, patients: int, seed: int, shape: tuple[int, ...], covariates: Sequence[str] = ()) -> None:
        whole_number("data.cohort.patients", patients, 1)
        if modality.settings.get("pictures") is not None:
            raise ValueError(
                "data.modality.pictures reads files, and data.root=null is the embedded cohort; set data.root, or leave it out"
            )
        if len(shape) != modality.spatial_dims or min(shape) < 8:
            raise ValueError(f"data.cohort.shape must be {modality.spatial_dims} counts of 8 or more voxels, got {list(shape)}")
        self.modality, self.patients, self.seed, self.shape = modality, patients, seed, tuple(shape)
        self.classes, self.covariates = tuple(modality.classes), tuple(covariates)
        known = self.facts(phantom.draw_patient(seed, 0))
        if strange := [name for name in covariates if name not in known]:
            raise ValueError(f"`model.covariates` must be among the cohort's, {', '.join(known)}; got {', '.join(strange)}")
        self.title = f"the embedded cohort: {patients} simulated patients, seed {seed} (data.root is null; no real patient is in it)"
        self.unusable: dict[str, str] = {}
        self.skipped: Counter[str] = Counter()
        self.illegible: Counter[str] = Counter()
        self.chosen = True

    def table(self) -> list[Record]:
        drawn = hashlib.blake2b(digest_size=16)  # a changed phantom draws other scans
        for file in sorted(Path(phantom.__file__).parent.glob("*.py")):
            drawn.update(file.read_bytes())
        items, digests = [], []
        for index in range(self.patients):
            patient = phantom.draw_patient(self.seed, index)
            facts = self.facts(patient)
            covariates = tuple(str(facts[name]) for name in self.covariates)
            items.append(Item(patient.id, label=self.classes[self.modality.label(patient)], identity=patient.id, covariates=covariates))
            content = f"{drawn.hexdigest()} {self.modality.settings} {self.seed} {index} {self.shape}"
            digests.append(hashlib.blake2b(content.encode(), digest_size=16).hexdigest())
        records = tabulate(items, [item.identity for item in items], digests)
        return [replace(record, patient=self.number(index, record.name)) for index, record in enumerate(records)]

    def number(self, index: int, name: str) -> str:
        """Return the number of a patient, 12 hex digits. It depends on no image, so that a patient is the same in every modality."""
        key = hashlib.blake2b(f"{self.seed} {index}".encode(), digest_size=16).hexdigest()
        return hashlib.blake2b(name.encode(), key=key.encode(), digest_size=6).hexdigest()

    def facts(self, patient: phantom.Patient) -> dict[str, Any]:
        """Return the simulated facts about a patient, by the names of covariates."""
        shown = {"age": patient.age_years, "sex": patient.sex, "bmi": patient.bmi, "height": patient.height_m}
        shown |= {"inspiration": patient.inspiration, "rotation": patient.rotation_deg, "severity": patient.severity}
        label = self.modality.label(patient)
        return shown | {name: int(number == label) for number, name in enumerate(self.classes) if number}

    def descriptions(self) -> Counter[str]:
        return Counter()

    def scan(self, index: int) -> Scan:
        """Return the scan of the patient of that index."""
        return self.modality.simulate(phantom.draw_patient(self.seed, index), self.shape)

    def companions(self, key: str, companion: CompanionReader, records: list[Record]) -> list[tuple[str, Callable[[], Scan]]]:
        patients = [phantom.draw_patient(self.seed, int(record.name[1:])) for record in records]
        reads = [partial(companion.simulate, self.modality, patient, self.shape) for patient in patients]
        return [(record.digest, read) for record, read in zip(records, reads, strict=True)]

    def tasks(self, records: list[Record]) -> list[Task]:
        return [Task(r.digest, partial(self.scan, int(r.name[1:])), self.modality.unit) for r in records]
