"""Several data sets as domains of one, for games that translate between domains without pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from medgan_pl.core.batch import Batch
from medgan_pl.data.checks import check_source, check_space
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.domain_table import Caches, DomainEpochs, Streams, Tables
from medgan_pl.data.files.covariates import Covariates
from medgan_pl.data.files.records import Record, fingerprint
from medgan_pl.data.files.split import SPLITS
from medgan_pl.data.intensity import Inverse
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.data.settings import numbers
from medgan_pl.data.streamed import StreamedDataModule


class DomainsDataModule(StreamedDataModule):
    """The images of `domains` (name -> ImageDataModule), each read, scaled to [-1, 1] and augmented by its own rules.

    A batch has `image`, `label` (the domain, counted in the order of `domains`, whose names are the `classes`) and `record`. A training
    batch holds the same number of images of each domain, in turn (0, 1, …, 0, 1, …). Each domain has its own order, and a smaller one
    repeats more often. Pairs are unknown. On the embedded cohort all domains have the same patients, in different orders; two images of one
    patient meet only by chance, and no game uses it.

    Each domain is split by itself. Patients of files are identified by a hash of their images (files/records.py), so that a patient in two
    domains is not recognized, and may be held out of one and in training in the other. If that matters, divide the files and use
    split=folders in each domain. A head of the cohort is in the same split in all domains, and so is a chest.

    The table of images, `records` and `rows` are those of all domains; a record's name begins with its domain's. `inverses` maps a domain
    to its map to native units. Attributes that exist only once (`inverse`, `modality`, `pipeline`, `layout`, the folder of cached
    features) are those of the last domain: with two domains a and b, the translation is a -> b.

    - `size`, `channels`, `spatial_dims`: those of every domain. `batch_size`: images of all domains together, on one device.
    - `cache`: not read here; each domain has its own.

    Raise ValueError for fewer than two domains, for a `batch_size` that their number does not divide, and for a domain of another size,
    number of channels or dimensions, or with covariates, companions or a degradation.
    """

    covariate_names: tuple[str, ...] = ()
    covariates = Covariates()
    values = degrade = None
    marks_holes = False

    def __init__(
        self,
        *,
        domains: Mapping[str, ImageDataModule],
        spatial_dims: int = 2,
        size: int | Sequence[int] = 64,
        channels: int = 1,
        batch_size: int = 16,
        workers: int = 0,
        cache: Mapping[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, workers=workers, seed=seed)
        self.domains, self.classes = dict(domains), tuple(domains)
        self.spatial_dims, self.channels, self.parts = spatial_dims, channels, {"image": channels}
        self.companions: dict[str, Any] = {}
        self.size = numbers("size", size, spatial_dims, 4, whole=True)
        check(self.domains, (spatial_dims, self.size, channels), batch_size)
        each = list(self.domains.values())
        last = each[-1]
        self.modality, self.pipeline, self.layout, self.cache_dir = last.modality, last.pipeline, last.layout, last.cache_dir
        self.patches = max(domain.patches for domain in each)
        self.split = "none" if any(domain.split == "none" for domain in each) else last.split
        self.split_seed = last.split_seed
        self.phantom = all(domain.phantom for domain in each)
        self.source = Title("; ".join(f"{name}: {domain.source.title}" for name, domain in self.domains.items()))
        self.inverses: dict[str, Inverse] = {}
        self.records: list[Record] = []

    def check_model(self, config: Mapping[str, Any]) -> None:
        """Raise ValueError unless the model fits the dimensions of these images."""
        check_source(config["model"], self.parts, None)
        check_space(config, self.spatial_dims)

    def setup(self, stage: str | None = None) -> None:
        """Set up every domain. Raises as they do."""
        if self.records:
            return
        for domain in self.domains.values():
            domain.setup(stage)
        each = list(self.domains.values())
        self.images_from = np.cumsum([0, *(len(domain.image_records) for domain in each)])  # the first image of each domain, and the end
        self.records_from = np.cumsum([0, *(len(domain.records) for domain in each)])
        self.rows = {s: np.concatenate([d.rows[s] + first for d, first in zip(each, self.images_from, strict=False)]) for s in SPLITS}
        self.image_records = np.concatenate([d.image_records + first for d, first in zip(each, self.records_from, strict=False)])
        self.labels = np.repeat(np.arange(len(each)), np.diff(self.records_from))
        self.inverses = {name: domain.inverse for name, domain in self.domains.items()}
        self.cache = Caches(each)
        self.records = [
            replace(record, name=f"{name}/{record.name}", label=name) for name, domain in self.domains.items() for record in domain.records
        ]

    @property
    def pipelines(self) -> dict[str, Pipeline]:
        """Return the pipelines by domain."""
        return {name: domain.pipeline for name, domain in self.domains.items()}

    @property
    def inverse(self) -> Inverse | None:
        """Return the inverse of the last domain."""
        return self.inverses.get(self.classes[-1])

    @property
    def fingerprint(self) -> str:
        """Return a hash of the images, their order, domains and splits."""
        return fingerprint(self.classes, self.records)

    @property
    def images(self) -> Tables:
        """Return the tables of images of all domains as one."""
        return Tables([domain.images for domain in self.domains.values()], self.images_from, self.records_from)

    def use_covariates(self, covariates: Covariates) -> None:
        """Raise ValueError if the model has covariates, as domains have none."""
        covariates.check_levels(self.covariates)

    def stream(self, rank: int, world: int, start: int) -> Streams:
        return Streams(self.lengths(), self.batch_size, self.seed, rank, world, start)

    def epochs(self, rank: int, world: int) -> DomainEpochs:
        return DomainEpochs(self.lengths(), self.batch_size, self.seed, rank, world)

    def lengths(self) -> list[int]:
        """Return the number of training images of each domain."""
        return [len(domain.rows["train"]) for domain in self.domains.values()]

    def in_order(self, split: str) -> list[list[int]]:
        """Return each image of a held-out split once. The domains alternate while they last, so that a batch holds images of each."""
        mine = [place for part in super().in_order(split) for place in part]
        domains = np.searchsorted(self.images_from, self.rows[split][mine], side="right") - 1
        turns = np.concatenate([np.arange(n) for n in np.bincount(domains, minlength=len(self.domains))])
        order = [mine[i] for i in np.lexsort((domains, turns))]
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]

    def randomized(self, batch: Batch) -> Batch:
        """Return the training batch, each domain's images augmented by its own rules."""
        keys, count = [key for key in ("image", "inside") if key in batch], len(self.domains)
        each = [{key: batch[key][i::count] for key in keys} for i in range(count)]
        moved = [domain.randomize.together(own, self.parts) for domain, own in zip(self.domains.values(), each, strict=True)]
        return batch | {key: torch.stack([own[key] for own in moved], 1).flatten(0, 1) for key in keys}

    def describe(self) -> list[str]:
        """Return the lines of each domain, and warnings about planes that differ and patients who are not recognized across domains."""
        said = [f"{name}: {line}" for name, domain in self.domains.items() for line in domain.describe()]
        planes = {name: domain.layout.axis for name, domain in self.domains.items()}
        if len({*planes.values()}) > 1:
            shown = ", ".join(f"{name} {plane}" for name, plane in planes.items())
            said.append(f"WARNING: the domains show different planes, {shown}; data.domains.NAME.slices.axis chooses the plane of one")
        each = "each domain is split by itself: a patient in two of them may be held out of one and in training in the other"
        return said if self.split == "folders" or all(domain.phantom for domain in self.domains.values()) else [*said, each]


def check(domains: Mapping[str, ImageDataModule], shape: tuple[Any, ...], batch_size: int) -> None:
    """Raise ValueError unless the domains fit together; `shape` is (spatial_dims, size, channels)."""
    if len(domains) < 2:
        raise ValueError(f"`data.domains` must hold at least two domains, got {list(domains)}; for one domain use its data directly")
    if batch_size < 1 or batch_size % len(domains):
        raise ValueError(
            f"`data.batch_size` must be a multiple of the {len(domains)} domains, got {batch_size}; "
            f"use {max(1, batch_size // len(domains)) * len(domains)}"
        )
    for name, domain in domains.items():
        own = (domain.spatial_dims, domain.size, domain.channels)
        if own != shape:
            raise ValueError(f"all domains must have the (spatial_dims, size, channels) of data, {shape}, got {own} in {name}")
        if domain.covariate_names or domain.companions or domain.degrade:
            raise ValueError(f"a domain must have only images, got covariates, beside or degrade in data.domains.{name}; leave them out")


@dataclass(frozen=True)
class Title:
    """The title of several data sets together."""

    title: str
