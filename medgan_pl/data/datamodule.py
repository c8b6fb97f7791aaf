"""Images of a modality as Lightning wants them: prepared once, split by patient, streamed in whole batches."""

import hashlib
import json
import logging
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.data import DataLoader

from medgan_pl.core.batch import Batch
from medgan_pl.core.keys import Purpose, key_randomness, keyed_generator
from medgan_pl.data import summary
from medgan_pl.data.cohort import CohortSource
from medgan_pl.data.companion import joint_digest, read_together
from medgan_pl.data.files.covariates import Covariates, check_names, tabulated
from medgan_pl.data.files.listing import COMPANION_KEYS
from medgan_pl.data.files.records import Record
from medgan_pl.data.files.split import SPLITS, split_by_patient, with_fewer_in_train, without_duplicates
from medgan_pl.data.intensity import Intensity, Inverse
from medgan_pl.data.masks import as_image, as_mask
from medgan_pl.data.modalities import Modality
from medgan_pl.data.prepare.cache import Cache, Task, available_cores, prepare
from medgan_pl.data.prepare.formats import Format
from medgan_pl.data.prepare.layouts import laid_out
from medgan_pl.data.prepare.pipelines import Beside, Pipeline
from medgan_pl.data.randomize import Randomize
from medgan_pl.data.settings import check, numbers
from medgan_pl.data.sources import FileSource, Source
from medgan_pl.data.stream import Batches, Crops, Degrade, Rows, Stream, Table

log = logging.getLogger(__name__)


def deaf(worker: int) -> None:
    """What a signal to all processes means, the run decides; a worker that died of it would take along the step that is to be saved."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_IGN)


class ImageDataModule(pl.LightningDataModule):
    """Films, slices, volumes or patches from files or the embedded cohort: `conf/data/*.yaml` say what each argument means.

    `prepare_data` reads and normalises every scan into the cache, `setup` opens it and splits; both may be called again and need no
    trainer. After `setup`: `records` (a list of Record; a batch's `record` counts in it), `rows` (split -> its rows of the table of images:
    all slices or patches of all records, in order), `inverse` (from [-1, 1] back to native units and space), `covariates` (what the
    training split tells of them), `found`.
    From the start: `classes` (label names by number; empty without labels), `phantom` (whether the scans are simulated), `size`,
    `spatial_dims`, `channels`.
    """

    inverses: Mapping[str, Inverse] = MappingProxyType({})  # of several domains (domains.py), each by its name

    def __init__(
        self,
        *,
        modality: Modality,
        intensity: Intensity,
        root: str | None = None,
        files: str | None = None,
        spatial_dims: int = 2,
        size: int | Sequence[int] = 64,
        channels: int = 1,
        spacing_mm: float | Sequence[float] | None = None,
        crop: bool = True,
        slices: Mapping[str, Any] | None = None,
        patches: int = 0,
        classes: str = "folders",
        split: str = "patient",
        patient_pattern: str = r"^[^/]+(?=/)",
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        split_seed: int = 0,
        max_train: int | None = None,
        duplicates: str = "refuse",
        max_corrupt: float = 0.01,
        laterality: bool = True,
        batch_size: int = 16,
        workers: int = 0,
        cache: Mapping[str, str] | None = None,
        cohort: Mapping[str, Any] | None = None,
        augment: Mapping[str, Any] | None = None,
        covariates: Sequence[str] = (),
        beside: Mapping[str, Beside] | None = None,
        degrade: Degrade | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check(
            root=root, split=split, classes=classes, fractions=fractions, max_corrupt=max_corrupt, duplicates=duplicates,
            mirrored=laterality and (augment or {}).get("flip", False),
            counts={"batch_size": (batch_size, 1), "workers": (workers, 0), "seed": (seed, 0), "patches": (patches, 0)}
            | ({} if max_train is None else {"max_train": (max_train, 1)}),
        )  # fmt: skip
        if channels != intensity.channels:
            raise ValueError(
                f"data.channels must be the channels of the intensity, got {channels}; use data.channels={intensity.channels}, "
                "or as many data.intensity.windows_hu"
            )
        self.modality, self.spatial_dims, self.channels = modality, spatial_dims, channels
        self.companions = {key: each for key, each in (beside or {}).items() if each}
        if set(self.companions) - set(COMPANION_KEYS):
            raise ValueError(f"data.beside must hold some of {', '.join(COMPANION_KEYS)}, got {', '.join(self.companions)}")
        self.parts = {"image": channels} | {key: each.channels for key, each in self.companions.items()}  # channels of what is gathered
        self.degrade = degrade or None
        self.size = numbers("size", size, spatial_dims, 4, whole=True)
        self.patches = patches if spatial_dims == 3 else 0
        spacing = None if spacing_mm is None else numbers("spacing_mm", spacing_mm, spatial_dims, 0)
        self.layout = laid_out(modality.spatial_dims, spatial_dims, self.size, spacing, crop, slices or {}, self.patches)
        self.pipeline = Pipeline(self.layout, intensity, modality, self.companions, self.degrade and self.degrade.frame(spatial_dims))
        self.check_windows()
        self.split, self.fractions, self.split_seed, self.max_train = split, tuple(fractions), split_seed, max_train
        self.max_corrupt, self.duplicates = max_corrupt, duplicates
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        cache = {"dir": "~/.cache/medgan_pl", "dtype": "uint16", **(cache or {})}
        self.cache_dir, self.cache_dtype = Path(cache["dir"]).expanduser(), cache["dtype"]
        Format(self.cache_dtype)
        self.randomize = Randomize(**(augment or {}))
        self.phantom = root is None
        self.covariate_names, self.covariates = check_names(covariates), Covariates()
        named = {"patient_pattern": patient_pattern, "classes": classes == "folders", "files": files}
        self.source = self.opened(root, {"patients": 2000, "seed": 0, "shape": None, **(cohort or {})}, named)
        self.classes = self.source.classes
        if split == "folders" and not {"train", "val"} <= self.source.splits:
            given = f"splits {', '.join(sorted(self.source.splits)) or 'none'} in {self.source.title}"
            raise ValueError(f"data.split=folders needs images in train and in val, got {given}; data.split=patient splits anew")
        self.table: list[Record] = []
        self.records: list[Record] = []
        self.rows: dict[str, np.ndarray] = {}

    def opened(self, root: str | None, cohort: Mapping[str, Any], files: Mapping[str, Any]) -> Source:
        if root is not None:
            common = {"folder": self.cache_dir, "splits": self.split == "folders", "covariates": self.covariate_names}
            return FileSource(Path(root).expanduser(), self.modality, **common, **files)
        shape = cohort["shape"] or self.size
        return CohortSource(self.modality, cohort["patients"], cohort["seed"], tuple(shape), self.covariate_names)

    def prepare_data(self) -> None:
        """Fills the cache; raises as `setup` does, so a run that cannot go well stops here."""
        self.setup()

    def read(self) -> None:
        """Reads every scan into the cache and judges nothing; then `table` are the records found, `unusable` says why some are not."""
        if self.table:
            return
        table, tasks = self.together(self.source.table())
        workers = available_cores(8 if self.modality.spatial_dims == 2 else 4)  # each holds a scan in memory
        self.cache = prepare(tasks, self.pipeline, self.cache_dir, self.cache_dtype, workers)
        self.unusable = self.source.unusable | {r.name: self.cache.unusable[r.digest] for r in table if r.digest in self.cache.unusable}
        self.table = table

    def together(self, table: list[Record]) -> tuple[list[Record], list[Task]]:
        """The records, and what reads them, with what lies beside them."""
        tasks = self.source.tasks(table)
        if not self.companions:
            return table, tasks
        others = {key: self.source.companions(key, each, table) for key, each in self.companions.items()}
        settings = {key: dict(each.settings) for key, each in self.companions.items()}
        for row, (record, task) in enumerate(zip(table, tasks, strict=True)):
            digests, reads = ({key: each[row][part] for key, each in others.items()} for part in (0, 1))
            digest = joint_digest(record.digest, digests, settings)
            table[row] = replace(record, digest=digest, alone=record.digest)
            tasks[row] = replace(task, digest=digest, read=partial(read_together, task.read, reads))
        return table, tasks

    def setup(self, stage: str | None = None) -> None:
        """Opens the cache (making it if need be) and splits.

        Raises ValueError for more than `max_corrupt` unusable scans, for patients too few to split, for identical images on two sides, and
        for an empty train or val split.
        """
        if self.records:
            return
        self.read()
        self.judge(self.unusable, len(self.table) + len(self.source.unusable))
        cache = self.cache
        self.check_units(cache)
        usable = [replace(r, pixels=cache.entries[r.digest]["facts"]["pixels"]) for r in self.table if r.digest in cache.entries]
        records = without_duplicates(self.divided(usable), drop=self.duplicates == "drop")
        whole = len(records)
        if self.max_train is not None:
            records = with_fewer_in_train(records, self.max_train, self.split_seed)
        self.left_out = whole - len(records)
        counts = [self.patches or cache.entries[r.digest]["shape"][0] for r in records]
        self.found = summary.Found(records, counts, cache, self.unusable, self.source.skipped, len(usable) - whole, self.source.nameless)
        self.image_records = np.repeat(np.arange(len(records)), counts)  # for each image the row of its record
        splits = np.array([r.split for r in records])[self.image_records]
        self.rows = {s: np.flatnonzero(splits == s) for s in SPLITS}
        if self.split == "none":
            self.rows["val"] = self.rows["train"]
        if not (len(self.rows["train"]) and len(self.rows["val"])):
            raise ValueError(f"train and val must each hold a usable image, got {self.sizes()} from {self.source.title}")
        self.labels = np.array([self.classes.index(r.label) for r in records], np.int64) if self.classes else None
        self.inverse = self.inverted(cache, records)
        self.check_pixels()
        self.tell(records)
        self.gather = self.gatherer(cache, records, counts)
        self.records = records

    @property
    def pipelines(self) -> dict[str, Pipeline]:
        """The pipelines by domain; the only one has the empty name."""
        return {"": self.pipeline}

    @property
    def images(self) -> Table:
        """The table of images, of which `rows` are rows."""
        known = (self.labels, self.values)
        return Table(self.gather, self.parts, self.image_records, *known, degrade=self.degrade, seed=self.split_seed)

    def check_windows(self) -> None:
        """Raises ValueError for a degradation that counts on windows other than those of what it is given: its HU would be wrong."""
        key = "data.beside.source.intensity" if "source" in self.companions else "data.intensity"
        settings = self.companions["source"].settings if "source" in self.companions else self.pipeline.intensity.settings
        windows = settings.get("window")
        for where, _, part in self.degrade.parts() if self.degrade else ():
            claimed = part.windows_hu and [list(pair) for pair in part.windows_hu]
            if claimed and claimed != windows:
                remedy = f"data.degrade{where}.windows_hu={windows}".replace(" ", "") if windows else f"intensity@{key}=window"
                raise ValueError(
                    f"data.degrade{where}.windows_hu must be {key}.windows_hu, what -1 and 1 are, got {claimed} and {windows or 'none'}; "
                    f"use {remedy}"
                )

    def check_pixels(self) -> None:
        """Raises ValueError for a degradation that counts on pixels more than 10 % off those of what it is given."""
        spacing = self.inverse.spacing_mm
        for where, smaller, part in self.degrade.parts() if self.degrade and spacing else ():
            side = smaller * spacing[-1]
            if part.pixel_mm and not 0.9 <= part.pixel_mm / side <= 1.1:
                after = f" / {smaller}, as the steps before it leave it" if smaller > 1 else ""
                raise ValueError(
                    f"data.degrade{where}.pixel_mm must be the side of a pixel at data.size{after}, got {part.pixel_mm:g}, and the images "
                    f"have {side:.3g} mm there; use data.degrade{where}.pixel_mm={side:.3g}"
                )

    def tell(self, records: list[Record]) -> None:
        """Measures the covariates on the training records: `known` (R, K) natural, `values` standardised; None without any."""
        self.known = self.values = None
        if self.covariate_names:
            training = np.array([record.split == "train" for record in records])
            rows, owners = [record.told for record in records], [record.name for record in records]
            self.covariates, self.known = tabulated(self.covariate_names, rows, owners, training)
            self.values = self.covariates.standardised(self.known)

    def use_covariates(self, covariates: Covariates) -> None:
        """Standardises the covariates by the scale that a model has learnt, as these data have another mean; errors as `check_levels`."""
        covariates.check_levels(self.covariates)
        self.covariates, self.values = covariates, covariates.standardised(self.known)

    def check_units(self, cache: Cache) -> None:
        units = {entry["unit"] for entry in cache.entries.values()}
        if len(units) > 1:
            names = [next(r.name for r in self.table if cache.entries.get(r.digest, {}).get("unit") == unit) for unit in sorted(units)]
            pairs = ", ".join(f"{unit} ({name})" for unit, name in zip(sorted(units), names, strict=True))
            raise ValueError(f"all scans must be in one unit, got {pairs}; bring them to one, or choose some with data.files")

    def divided(self, records: list[Record]) -> list[Record]:
        """The records with the splits they came with, or new ones; for split=none all of them in train."""
        if self.split == "folders":
            return records
        if self.split == "none":
            return [replace(record, split="train") for record in records]
        # Of files the order hangs on their contents; heads of the cohort are to be on one side in every modality, as its chests are.
        known = [replace(record, alone=record.patient) for record in records] if self.phantom else records
        splits = split_by_patient(known, dict(zip(SPLITS, self.fractions, strict=True)), self.split_seed)
        return [replace(record, split=split) for record, split in zip(records, splits, strict=True)]

    def gatherer(self, cache: Cache, records: list[Record], counts: list[int]) -> Rows | Crops:
        if self.patches:
            return Crops(cache, [records[row].digest for row in self.image_records], self.size, self.seed)
        shape = (sum(self.parts.values()), *self.size)
        first = [cache.entries[r.digest]["offset"] // int(np.prod(shape)) for r in records]
        return Rows(cache, np.concatenate([np.arange(f, f + n) for f, n in zip(first, counts, strict=True)]), shape)

    def inverted(self, cache: Cache, records: list[Record]) -> Inverse:
        """From the training scans alone."""
        entries = [cache.entries[r.digest] for r in records if r.split == "train"]
        levels = tuple(
            (median(e["levels"][c][0] for e in entries), median(e["levels"][c][1] for e in entries)) for c in range(self.channels)
        )
        spacings = [entry["spacing_mm"] for entry in entries if entry["spacing_mm"]]
        spacing_mm = tuple(median(values) for values in zip(*spacings, strict=True)) if spacings else None
        return Inverse(levels, entries[0]["unit"], self.modality.name, spacing_mm, self.layout.directions)

    def judge(self, unusable: dict[str, str], total: int) -> None:
        """Lists the unusable scans, in a warning or, above `max_corrupt`, in a ValueError."""
        if not unusable:
            return
        shown = "; ".join(f"{name}: {why}" for name, why in list(unusable.items())[:20])
        more = f"; and {len(unusable) - 20} more" if len(unusable) > 20 else ""
        line = f"{len(unusable)} of {total} that cannot be used ({100 * len(unusable) / total:.1f} %): {shown}{more}"
        if len(unusable) > self.max_corrupt * total:
            raise ValueError(
                f"at most {100 * self.max_corrupt:g} % may be unusable (data.max_corrupt), got {line}; repair or remove them, or see them "
                "all with python -m medgan_pl.inspect"
            )
        rank_zero_only(log.warning)("going on without %s", line)

    def sizes(self) -> dict[str, int]:
        """Images per split."""
        return {split: len(rows) for split, rows in self.rows.items()}

    @property
    def fingerprint(self) -> str:
        """Of the images, their order, classes, covariates and splits: equal for the same data set wherever it lies."""
        parts = [[r.digest, r.split, r.label, *r.told] for r in self.records]
        parts += [list(self.covariate_names)] if self.covariate_names else []
        return hashlib.sha256(json.dumps([list(self.classes), parts]).encode()).hexdigest()[:16]

    def peek(self, split: str, n: int) -> Batch:
        """At most `n` images of a split, evenly spaced and the same each time, on the CPU."""
        self.setup()
        size = len(self.rows[split])
        return self.batch(self.rows[split], np.linspace(0, size - 1, min(n, size)).astype(int))

    def batch(self, rows: np.ndarray, places: np.ndarray) -> Batch:
        """The images at `places` of `rows` of the table of images, as a loader gives them, on the CPU."""
        return Batches(self.images, rows, degraded=True)[places]

    def describe(self) -> list[str]:
        """Plain lines for the log: the source, then `summary.lines`."""
        unused = self.split == "patient" and self.source.splits
        given = ["the splits that came with the data are not used; data.split=folders keeps them"] if unused else []
        held = ["WARNING: data.split=none holds nothing out: validation sees the training images"] if self.split == "none" else []
        fewer = [f"{self.left_out} scans are left out of train (data.max_train={self.max_train})"] if self.max_train else []
        told = summary.covariate_lines(self.found, self.covariates, self.known)
        told += [f"the headers of {n} scans say {name} as it cannot be; it counts as unknown" for name, n in self.source.illegible.items()]
        return [self.source.title, *summary.lines(self.found, self.classes, self.size), *told, *given, *fewer, *held]

    def place(self) -> tuple[int, int]:
        """(rank, world)."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def loader(self, split: str, batches: Any) -> DataLoader:
        return DataLoader(
            Batches(self.images, self.rows[split], degraded=split != "train"),  # of training images on the device, in batches
            batch_size=None,
            sampler=batches,
            num_workers=self.workers,
            worker_init_fn=deaf,
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
        """Each image of a held-out split once, in order; rank r takes every world-th from r on. The last batch may be smaller."""
        self.setup()
        rank, world = self.place()
        if not len(self.rows[split]):
            raise ValueError(f"no image is in the {split} split ({self.sizes()}); raise its part of data.fractions, or give it a folder")
        if len(self.rows[split]) < world:
            raise ValueError(
                f"the {split} split must hold an image for each of {world} devices, got {len(self.rows[split])}; raise data.fractions"
            )
        mine = list(range(rank, len(self.rows[split]), world))
        return [mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size)]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augments training batches on their device, and makes their sources, by numbers keyed to the step."""
        if not (self.trainer and self.trainer.training):
            return batch
        rank, images = self.trainer.global_rank, self.trainer.lightning_module.images
        key_randomness(self.seed, rank, images, Purpose.AUGMENT)
        return self.degraded(self.randomized(batch), keyed_generator(self.seed, rank, images, Purpose.DEGRADE, batch["image"].device))

    def randomized(self, batch: Batch) -> Batch:
        """The batch with its images, and what lies beside them, moved alike."""
        keys = sorted((key for key in self.parts if key in batch), key=lambda key: key == "mask")  # masks last
        if keys == ["image"]:
            return {**batch, "image": self.randomize(batch["image"])}
        together = torch.cat([as_image(batch[key]) if key == "mask" else batch[key] for key in keys], 1)
        moved = self.randomize(together, clean=self.parts.get("mask", 0) if "mask" in batch else 0)
        parts = dict(zip(keys, moved.split([self.parts[key] for key in keys], 1), strict=True))
        return batch | {key: as_mask(part) if key == "mask" else part for key, part in parts.items()}

    def degraded(self, batch: Batch, generator: torch.Generator) -> Batch:
        return batch if self.degrade is None else {**batch, "source": self.degrade(batch.get("source", batch["image"]), generator)}
