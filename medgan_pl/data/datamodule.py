"""Chest films as Lightning wants them: prepared once, split by patient, streamed in whole batches."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.data import DataLoader

from medgan_pl.batch import Batch
from medgan_pl.data.cache import available_cores, prepare
from medgan_pl.data.pipelines import FilmPipeline
from medgan_pl.data.randomize import Randomize
from medgan_pl.data.records import SPLITS, Record, split_by_patient, straddling
from medgan_pl.data.sources import CohortSource, FileSource, Source
from medgan_pl.data.stream import Batches, Stream
from medgan_pl.keys import Purpose, key_randomness

log = logging.getLogger(__name__)


def check(root: Any, size: Any, channels: Any, split: Any, fractions: Any, max_corrupt: Any, percentiles: Any) -> None:
    """Raises ValueError for a setting that cannot be, of whatever type the command line made of it."""
    if root is not None and not str(root).strip():
        raise ValueError(
            f"data.root must be a folder, a .csv file or null (the embedded cohort), got {root!r}; name one, or leave data.root out"
        )
    sides = [size, size] if isinstance(size, int) else size
    if not are_numbers(sides, 2, int) or min(sides) < 4:
        raise ValueError(f"data.size must be a number or [H, W] of at least 4 whole pixels, got {size!r}")
    if channels != 1:
        raise ValueError(f"data.channels must be 1 (a film is grey), got {channels!r}")
    if split not in ("patient", "folders"):
        raise ValueError(f"data.split must be patient or folders, got {split!r}")
    if not are_numbers(fractions, 3) or min(fractions) < 0 or min(fractions[:2]) == 0 or not abs(sum(fractions) - 1) <= 1e-6:
        raise ValueError(f"data.fractions must be [train, val, test], sum to 1, train and val above 0, got {fractions!r}")
    if not are_numbers(percentiles, 2) or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ValueError(f"data.percentiles must be [low, high] with 0 <= low < high <= 100, got {percentiles!r}")
    if not are_numbers([max_corrupt], 1) or not 0 <= max_corrupt <= 1:
        raise ValueError(f"data.max_corrupt must be a share in 0 to 1, got {max_corrupt!r}")


def are_numbers(values: Any, count: int, kind: type | tuple[type, ...] = (int, float)) -> bool:
    return isinstance(values, Sequence) and len(values) == count and all(isinstance(n, kind) for n in values)


class FilmDataModule(pl.LightningDataModule):
    """Chest films from a folder, a CSV or the embedded cohort: `conf/data/chest_xray.yaml` says what each argument means.

    `prepare_data` reads and normalises every film into the cache, `setup` opens it and splits; both may be called again and need no
    trainer. After `setup`: `records` (a list of Record; a batch's `record` counts in it), `rows` (split -> its rows of `records`).
    From the start: `classes` (label names by number; empty without labels), `phantom` (whether the films are simulated), `size` (H, W),
    `spatial_dims`, `channels`.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        size: int | Sequence[int] = 64,
        channels: int = 1,
        split: str = "patient",
        patient_pattern: str = r"person\d+|(?:NORMAL2-)?IM-\d+|^\d{8}(?=_\d{3}\.)",
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        split_seed: int = 0,
        max_corrupt: float = 0.01,
        crop: bool = True,
        percentiles: Sequence[float] = (0.5, 99.5),
        batch_size: int = 16,
        workers: int = 0,
        cache_dir: str = "~/.cache/medgan_pl",
        cohort: Mapping[str, int] | None = None,
        augment: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check(root, size, channels, split, fractions, max_corrupt, percentiles)
        for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0), ("seed", seed, 0)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"data.{name} must be a whole number of {least} or more, got {value!r}")
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.split, self.fractions, self.split_seed, self.max_corrupt = split, tuple(fractions), split_seed, max_corrupt
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.cache_dir = Path(cache_dir).expanduser()
        self.pipeline = FilmPipeline(size=self.size, crop=crop, percentiles=(float(percentiles[0]), float(percentiles[1])))
        self.randomize = Randomize(**(augment or {}))
        self.phantom = root is None
        self.source: Source = (
            CohortSource(**{"patients": 2000, "seed": 0, **(cohort or {})}, size_px=self.size)
            if root is None
            else FileSource(Path(root).expanduser(), patient_pattern)
        )
        self.classes = self.source.classes
        if split == "folders" and not {"train", "val"} <= self.source.splits:
            given = f"splits {', '.join(sorted(self.source.splits)) or 'none'} in {self.source.title}"
            raise ValueError(f"data.split=folders needs films in train and in val, got {given}; data.split=patient splits anew")
        self.spatial_dims, self.channels = 2, channels
        self.records: list[Record] = []
        self.rows: dict[str, np.ndarray] = {}

    def prepare_data(self) -> None:
        """Fills the cache; raises as `setup` does, so a run that cannot go well stops here."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Splits, and opens the cache (making it if need be).

        Raises ValueError for patients too few to split, for more than `max_corrupt` unusable films, and for an empty train or val split.
        """
        if self.records:
            return
        table = self.source.table(self.cache_dir)
        if self.split == "patient":
            splits = split_by_patient(table, dict(zip(SPLITS, self.fractions, strict=True)), self.split_seed)
            table = [replace(record, split=split) for record, split in zip(table, splits, strict=True)]
        cache = prepare(self.source.tasks(table), self.pipeline, self.cache_dir, available_cores())
        corrupt = {record.name: cache.corrupt[record.digest] for record in table if record.digest in cache.corrupt}
        self.judge(corrupt, len(table))
        self.unusable = len(corrupt)
        records = [record for record in table if record.digest not in cache.corrupt]
        self.rows = {s: np.array([row for row, r in enumerate(records) if r.split == s], np.int64) for s in SPLITS}
        if not (len(self.rows["train"]) and len(self.rows["val"])):
            raise ValueError(f"train and val must each hold a usable film, got {self.sizes()} from {self.source.title}")
        self.cache, self.cache_rows = cache, np.array([cache.rows[r.digest] for r in records], np.int64)
        self.labels = np.array([self.classes.index(r.label) for r in records], np.int64) if self.classes else None
        self.records = records

    def judge(self, corrupt: dict[str, str], total: int) -> None:
        """Lists the unusable films, in a warning or, above `max_corrupt`, in a ValueError."""
        if not corrupt:
            return
        shown = "; ".join(f"{name}: {why}" for name, why in list(corrupt.items())[:20])
        more = f"; and {len(corrupt) - 20} more" if len(corrupt) > 20 else ""
        line = f"{len(corrupt)} of {total} films ({100 * len(corrupt) / total:.2g} %) that cannot be used: {shown}{more}"
        if len(corrupt) > self.max_corrupt * total:
            raise ValueError(
                f"at most {100 * self.max_corrupt:g} % of the films may be unusable (data.max_corrupt), got {line}; repair or remove them"
            )
        rank_zero_only(log.warning)("going on without %s", line)

    def sizes(self) -> dict[str, int]:
        """Films per split."""
        return {split: len(rows) for split, rows in self.rows.items()}

    def describe(self) -> list[str]:
        """Plain lines for the log: the source, then what is in each split, patients, overlap, duplicates, corrupt films."""
        lines = [self.source.title]
        for split in SPLITS:
            members = [self.records[row] for row in self.rows[split]]
            classes = Counter(r.label for r in members)
            by_class = f" ({', '.join(f'{name} {classes[name]}' for name in self.classes)})" if self.classes else ""
            lines.append(f"{split}: {len(members)} films of {len({r.patient for r in members})} patients{by_class}")
        splits = [r.split for r in self.records]
        patients, digests = [r.patient for r in self.records], [r.digest for r in self.records]
        both = straddling(patients, splits)
        lines.append(
            f"{both} of {len(set(patients))} patient groups stand in more than one split"
            + ("; results on val and test will look too good; data.split=patient splits anew" if both else "")
        )
        same = [n for n in Counter(digests).values() if n > 1]
        if same:
            lines.append(
                f"{len(same)} groups of identical films ({sum(same)} in all), {straddling(digests, splits)} in more than one split"
            )
        if torn := straddling(digests, [r.label for r in self.records]):
            lines.append(f"{torn} groups of identical films carry different labels")
        if self.source.nameless:
            lines.append(f"{self.source.nameless} films name no patient (CSV, PatientID, data.patient_pattern): each counts as its own")
        if self.unusable:
            lines.append(f"{self.unusable} films cannot be used and are left out")
        if self.cache.enlarged:
            lines.append(f"{self.cache.enlarged} films are smaller than {self.size[0]}×{self.size[1]} and were enlarged")
        return lines

    def place(self) -> tuple[int, int]:
        """(rank, world)."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def loader(self, split: str, batches: Any) -> DataLoader:
        return DataLoader(
            Batches(self.cache, self.rows[split], self.cache_rows, self.labels),
            batch_size=None,
            sampler=batches,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else a new loader draws from the global one
        )

    def train_dataloader(self) -> DataLoader:
        """Endless; goes on after the images the attached module has seen."""
        self.setup()
        rank, world = self.place()
        start = self.trainer.lightning_module.images if self.trainer else 0
        return self.loader("train", Stream(len(self.rows["train"]), self.batch_size, self.seed, rank, world, start))

    def val_dataloader(self) -> DataLoader:
        return self.loader("val", self.in_order("val"))

    def test_dataloader(self) -> DataLoader:
        return self.loader("test", self.in_order("test"))

    def in_order(self, split: str) -> list[list[int]]:
        """Each film of a held-out split once, in order; rank r takes every world-th from r on. The last batch may be smaller."""
        self.setup()
        rank, world = self.place()
        if not len(self.rows[split]):
            raise ValueError(f"no film is in the {split} split ({self.sizes()}); raise its part of data.fractions, or give it a folder")
        mine = list(range(rank, len(self.rows[split]), world))
        return [mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size)]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augments training batches on their device, by numbers keyed to the step."""
        if self.trainer and self.trainer.training:
            key_randomness(self.seed, self.trainer.global_rank, self.trainer.lightning_module.images, Purpose.AUGMENT)
            return {**batch, "image": self.randomize(batch["image"])}
        return batch
