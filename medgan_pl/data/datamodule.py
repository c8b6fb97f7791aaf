"""A Lightning datamodule of images of one modality: prepared once, split by patient, streamed in whole batches."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_only

from medgan_pl.core.batch import Batch
from medgan_pl.data import checks, summary
from medgan_pl.data.cohort import CohortSource
from medgan_pl.data.companion import with_companions
from medgan_pl.data.division import Division, rows_by_split
from medgan_pl.data.files.columns import check_names, of_records
from medgan_pl.data.files.covariates import Covariates
from medgan_pl.data.files.records import Record, fingerprint
from medgan_pl.data.image_table import Degrade, Table, inverse_of
from medgan_pl.data.insides import gathering
from medgan_pl.data.intensity import Intensity, Inverse
from medgan_pl.data.mask_kinds import masks_among_scans
from medgan_pl.data.modality import Modality
from medgan_pl.data.oddities import warnings
from medgan_pl.data.prepare.cache import Cache
from medgan_pl.data.prepare.fill import Undecoded, available_cores, can_hold, prepare
from medgan_pl.data.prepare.formats import Format
from medgan_pl.data.prepare.patches import laid_out
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.data.prepare.planes import settled
from medgan_pl.data.prepare.prepared import CompanionReader
from medgan_pl.data.randomize import Randomize
from medgan_pl.data.settings import check, numbers
from medgan_pl.data.sources import FileSource, Source
from medgan_pl.data.stream import Epochs, Stream
from medgan_pl.data.streamed import StreamedDataModule


class ImageDataModule(StreamedDataModule):
    """Films, slices, volumes or patches from files or the embedded cohort. `conf/data/*.yaml` explain each argument.

    `prepare_data` reads and normalizes every scan into the cache. `setup` opens the cache and splits. Both may be called again and need no
    trainer. It has the `Data` protocol (protocol.py).

    - From the start: `classes`, `phantom`, `size`, `spatial_dims`, `channels`, `companions` (key -> companion) and `parts` (key -> channels
      of the image and of its companions).
    - After `setup`: `records` (a batch's `record` is a row of it), `rows` (split -> its rows of the table of images: all slices or patches
      of all records, in order), `image_records` (for each image the row of its record), `labels` (the class of each record), `inverse`,
      `covariates`, `found` (a summary.Found), `cache`.
    """

    inverse: Inverse | None = None
    inverses: Mapping[str, Inverse] = MappingProxyType({})  # one domain has none by name, see domains.py

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
        patient_pattern: str | None = None,
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
        beside: Mapping[str, CompanionReader] | None = None,
        degrade: Degrade | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, workers=workers, seed=seed)
        self.modality, self.spatial_dims, self.channels, self.degrade = modality, spatial_dims, channels, degrade or None
        self.split, self.fractions, self.split_seed, self.max_train = split, fractions, split_seed, max_train
        self.max_corrupt, self.duplicates, self.patches = max_corrupt, duplicates, patches
        self.randomize = Randomize(**(augment or {}))
        self.check_settings(root, classes, mirrored=laterality and self.randomize.flip)
        self.covariate_names, self.covariates = check_names(covariates), Covariates()
        self.add_companions(intensity, beside or {})
        self.add_pipeline(intensity, size, spacing_mm, crop, slices or {})
        settings = {"dir": "~/.cache/medgan_pl", "dtype": "uint16", **(cache or {})}
        self.cache_dir, self.cache_dtype = Path(settings["dir"]).expanduser(), Format(settings["dtype"]).dtype.name
        named = {"patient_pattern": patient_pattern, "classes": classes == "folders", "files": files}
        self.add_source(root, {"patients": 2000, "seed": 0, "shape": None, **(cohort or {})}, named)
        self.table: list[Record] = []
        self.records: list[Record] = []

    def check_settings(self, root: Any, classes: Any, mirrored: bool) -> None:
        """Raise ValueError for a setting that is not allowed, see `settings.check`."""
        counts = {"batch_size": (self.batch_size, 1), "workers": (self.workers, 0), "seed": (self.seed, 0), "patches": (self.patches, 0)}
        counts |= {} if self.max_train is None else {"max_train": (self.max_train, 1)}
        check(
            root=root, split=self.split, classes=classes, fractions=self.fractions, max_corrupt=self.max_corrupt,
            duplicates=self.duplicates, mirrored=mirrored, counts=counts,
        )  # fmt: skip

    def add_companions(self, intensity: Intensity, companions: Mapping[str, CompanionReader | None]) -> None:
        """Take the companions. Raise ValueError as `checks.check_channels`."""
        self.companions = {key: each for key, each in companions.items() if each}
        checks.check_channels(self.channels, intensity, self.companions)
        checks.check_kinds(self.modality, self.companions)
        self.parts = {"image": self.channels} | {key: each.channels for key, each in self.companions.items()}

    def add_pipeline(self, intensity: Intensity, size: Any, spacing_mm: Any, crop: bool, slices: Mapping[str, Any]) -> None:
        """Build the pipeline that prepares a scan. Raise ValueError for a layout that the images cannot have."""
        dims = self.spatial_dims
        self.size = numbers("size", size, dims, 4, whole=True)
        spacing = None if spacing_mm is None else numbers("spacing_mm", spacing_mm, dims, 0)
        self.layout = laid_out(self.modality.spatial_dims, dims, self.size, spacing, crop, slices, self.patches)
        frame = self.degrade and self.degrade.frame(dims)
        self.pipeline = Pipeline(self.layout, intensity, self.modality, self.companions, frame)
        checks.check_windows(self.degrade, self.companions, intensity)
        self.degrades_whole = self.patches > 0 and dims == 2 and self.degrade is not None and self.degrade.needs_whole
        if self.degrades_whole:
            checks.check_whole(self.degrade, spacing, self.randomize)

    def add_source(self, root: str | None, cohort: Mapping[str, Any], files: Mapping[str, Any]) -> None:
        """Open the source of scans. Raise ValueError for split=folders without split folders."""
        self.phantom = root is None
        self.source: Source
        if root is None:
            shape = tuple(cohort["shape"] or self.size)
            self.source = CohortSource(self.modality, cohort["patients"], cohort["seed"], shape, self.covariate_names)
        else:
            common = {"folder": self.cache_dir, "splits": self.split == "folders", "covariates": self.covariate_names}
            self.source = FileSource(Path(root).expanduser(), self.modality, **common, **files)
        self.classes = self.source.classes
        if self.split == "folders":
            checks.check_folders(self.source.splits, self.source.title)

    def check_model(self, config: Mapping[str, Any]) -> None:
        """Raise ValueError unless the model fits the dimensions of these images, and their source."""
        checks.check_source(config["model"], self.parts, self.degrade)
        checks.check_space(config, self.spatial_dims)

    def read(self) -> None:
        """Read every scan into the cache without checks. Then `table` holds the records, `unusable` the reasons against the others.

        Raise Undecoded if a decoder is not installed; `table` and `unusable` are filled then too, for `inspect`.
        """
        if self.table:
            return
        can_hold(self.cache_dir)  # before the files are hashed, which may take minutes
        table, tasks = with_companions(self.source, self.companions, self.source.table())
        workers = available_cores(8 if self.modality.spatial_dims == 2 else 4)  # each holds a scan in memory
        try:
            cache = prepare(tasks, self.pipeline, self.cache_dir, self.cache_dtype, workers)
        except Undecoded as error:
            self.hold(table, error.cache)
            raise
        self.hold(table, cache)

    def hold(self, table: list[Record], cache: Cache) -> None:
        self.table, self.cache, self.masks = table, cache, {} if self.phantom else masks_among_scans(table, cache)
        left_out = () if self.source.chosen else self.masks
        self.unusable = self.source.unusable | checks.reasons_against(table, cache, left_out)

    def setup(self, stage: str | None = None) -> None:
        """Open the cache, fill it if needed, and split.

        Raise ValueError for more than `max_corrupt` unusable scans, for too few patients to split, for identical images in two splits, and
        for an empty train or val split.
        """
        if self.records:
            return
        self.read()
        if line := checks.unusable_line(self.unusable, len(self.table) + len(self.source.unusable), self.max_corrupt):
            rank_zero_only(logging.getLogger(__name__).warning)("continuing without %s", line)
        checks.check_scans(self.table, {} if self.phantom else self.companions, self.cache)
        divide = Division(self.split, self.fractions, self.split_seed, self.duplicates, self.max_train, self.patches)
        facts = (self.table, self.cache, self.source, self.unusable, self.masks)
        records, self.found, self.left_out = divide(*facts, phantom=self.phantom)
        self.image_records = np.repeat(np.arange(len(records)), self.found.images)
        self.rows = rows_by_split(np.array([r.split for r in records])[self.image_records], self.split, self.source.title)
        self.labels = np.array([self.classes.index(r.label) for r in records], np.int64) if self.classes else None
        entries = [self.cache.entries[r.digest] for r in records if r.split == "train"]
        self.layout, directions = settled(self.layout, entries)
        self.pipeline = self.pipeline.along(self.layout)
        self.inverse = inverse_of(entries, self.modality.name, directions)
        checks.check_pixels(self.degrade, self.inverse.spacing_mm)
        self.covariates, self.known, self.values = of_records(self.covariate_names, records)
        shape = (sum(self.parts.values()), *self.size)
        self.gather, self.inside = gathering(self.cache, [r.digest for r in records], self.found.images, shape, self.patches, self.seed)
        self.records = records

    @property
    def pipelines(self) -> dict[str, Pipeline]:  # by domain; the only one has the empty name
        return {"": self.pipeline}

    @property
    def images(self) -> Table:
        """Return the table of images; `rows` refers to its rows."""
        known = (self.labels, self.values)
        degrade = {"degrade": self.degrade, "seed": self.split_seed, "whole": self.degrades_whole, "train_seed": self.seed}
        return Table(self.gather, self.parts, self.image_records, *known, **degrade, inside=self.inside)

    def use_covariates(self, covariates: Covariates) -> None:
        """Standardize the covariates by a model's scale. Errors as `Covariates.check_levels`."""
        covariates.check_levels(self.covariates)
        self.covariates, self.values = covariates, covariates.standardize(self.known)

    @property
    def marks_holes(self) -> bool:
        """True if the source of each image is that image but where its last channel marks a hole."""
        return self.degrade is not None and self.degrade.keeps_the_rest and "source" not in self.companions

    @property
    def fingerprint(self) -> str:
        """Return a hash of the images, their order, classes, covariates and splits: equal for the same data set in any folder."""
        return fingerprint(self.classes, self.records, self.covariate_names)

    def describe(self) -> list[str]:
        """Return plain lines for the log: those of `summarize`, and warnings about odd scans."""
        return [*self.summarize(), *warnings(self.found.records, self.cache)]

    def summarize(self) -> list[str]:
        """Return lines about the source and those of `summary`."""
        facts = summary.covariate_lines(self.found, self.covariates, self.known, self.source.illegible)
        choice = summary.choice_lines(self.split, self.left_out, self.max_train, given=bool(self.source.splits))
        return [self.source.title, *summary.lines(self.found, self.classes, self.size), *facts, *choice]

    def stream(self, rank: int, world: int, start: int) -> Stream:
        return Stream(len(self.rows["train"]), self.batch_size, self.seed, rank, world, start)

    def epochs(self, rank: int, world: int) -> Epochs:
        return Epochs(len(self.rows["train"]), self.batch_size, self.seed, rank, world)

    def randomized(self, batch: Batch) -> Batch:
        """Return the batch with its images and their companions augmented alike."""
        return self.randomize.together(batch, self.parts)

    def degraded(self, batch: Batch, generator: torch.Generator) -> Batch:
        done = self.degrade is None or self.degrades_whole  # the table made the sources of whole images
        return batch if done else {**batch, "source": self.degrade(batch.get("source", batch["image"]), generator)}
