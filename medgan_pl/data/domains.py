"""Several data sets as domains of one, for games that make images of one into images of another without knowing any pair."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from medgan_pl.core.batch import Batch
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.files.covariates import Covariates
from medgan_pl.data.files.split import SPLITS
from medgan_pl.data.intensity import Inverse
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.data.settings import numbers
from medgan_pl.data.stream import Stream, Table


class DomainsDataModule(ImageDataModule):
    """The images of `domains` (name -> its ImageDataModule), each read, scaled to [-1, 1] and augmented by rules of its own.

    A batch is `image`, `label`, the domain counted in the order of `domains`, whose names are the `classes`, and `record`. A training batch
    holds as many images of each domain, in turn (0, 1, …, 0, 1, …), and each domain is shown by an order of its own: the smaller one
    comes round more often. Nothing is known of pairs. On the embedded cohort the same patients are in all domains, shown in different
    orders: that a patient's two images meet is chance, and no game is told. In validation too the domains take turns.

    Each domain is split by itself. Patients of files are known by a hash of their images (data/records.py), so that one who is in two
    domains cannot be told, and may be held out of one and train in another; where that matters, divide the files and use split=folders in
    each. Heads of the cohort are on the same side in all domains, as are its chests.

    The table of images, `records`, `rows` and what is told of them are those of all domains; a record's name is led by its domain's.
    `inverses` has, by domain, what takes an image back to native units. What can be said of one data set alone (`inverse`, `modality`,
    `pipeline`, `layout`, where features are cached) is the last one's: with two domains a and b, that of a -> b.

    - `size`, `channels`, `spatial_dims`: those of every domain. `batch_size`: images of all domains together, per device.
    - `cache`: where the domains have theirs; it is theirs to say, and is not read here.

    Raises ValueError for fewer than two domains, a `batch_size` that does not divide by their number, and a domain of another size,
    number of channels or dimensions, or with covariates, images beside its images or a degradation.
    """

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
        pl.LightningDataModule.__init__(self)  # all else of the parent is the domains' own
        self.domains, self.classes = dict(domains), tuple(domains)
        self.spatial_dims, self.channels = spatial_dims, channels
        self.size = numbers("size", size, spatial_dims, 4, whole=True)
        check(self.domains, (spatial_dims, self.size, channels), batch_size)
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        last = list(self.domains.values())[-1]
        self.modality, self.pipeline, self.layout, self.cache_dir = last.modality, last.pipeline, last.layout, last.cache_dir
        self.patches = max(domain.patches for domain in self.domains.values())
        self.split = "none" if any(domain.split == "none" for domain in self.domains.values()) else last.split
        self.split_seed = last.split_seed
        self.phantom = all(domain.phantom for domain in self.domains.values())
        self.covariate_names, self.covariates, self.values = (), Covariates(), None
        self.parts, self.companions, self.degrade = {"image": channels}, {}, None
        self.source = Title("; ".join(f"{name}: {domain.source.title}" for name, domain in self.domains.items()))
        self.records, self.rows = [], {}

    def setup(self, stage: str | None = None) -> None:
        """Sets up every domain; raises as they do."""
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
        """The pipelines by domain."""
        return {name: domain.pipeline for name, domain in self.domains.items()}

    @property
    def inverse(self) -> Inverse:
        """That of the last domain."""
        return self.inverses[self.classes[-1]]

    @property
    def images(self) -> "Tables":
        return Tables([domain.images for domain in self.domains.values()], self.images_from, self.records_from)

    def train_dataloader(self) -> DataLoader:
        """Endless; goes on after the images the attached module has seen."""
        self.setup()
        rank, world = self.place()
        start = self.trainer.lightning_module.images if self.trainer else 0
        lengths = [len(domain.rows["train"]) for domain in self.domains.values()]
        return self.loader("train", Streams(lengths, self.batch_size, self.seed, rank, world, start))

    def in_order(self, split: str) -> list[list[int]]:
        """Each image of a held-out split once, the domains in turn as long as they last, so that a batch holds images of each."""
        mine = [place for part in super().in_order(split) for place in part]
        domains = np.searchsorted(self.images_from, self.rows[split][mine], side="right") - 1
        turns = np.concatenate([np.arange(n) for n in np.bincount(domains, minlength=len(self.domains))])
        order = [mine[i] for i in np.lexsort((domains, turns))]
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]

    def randomized(self, batch: Batch) -> Batch:
        """The training batch, each domain's images by its own augmentation."""
        images = [domain.randomize(batch["image"][i :: len(self.domains)]) for i, domain in enumerate(self.domains.values())]
        return {**batch, "image": torch.stack(images, 1).flatten(0, 1)}

    def describe(self) -> list[str]:
        """What each domain says of itself, and what none can say."""
        said = [f"{name}: {line}" for name, domain in self.domains.items() for line in domain.describe()]
        each = "each domain is split by itself: who is in two of them may be held out of one and train in the other"
        return said if self.split == "folders" or all(domain.phantom for domain in self.domains.values()) else [*said, each]


def check(domains: Mapping[str, ImageDataModule], shape: tuple[Any, ...], batch_size: int) -> None:
    """ValueError unless the domains go together; `shape` is (spatial_dims, size, channels)."""
    if len(domains) < 2:
        raise ValueError(f"`data.domains` must hold at least two domains, got {list(domains)}; for one use its data alone")
    if batch_size < 1 or batch_size % len(domains):
        raise ValueError(
            f"`data.batch_size` must be a multiple of the {len(domains)} domains, got {batch_size}; "
            f"use {max(1, batch_size // len(domains)) * len(domains)}"
        )
    for name, domain in domains.items():
        own = (domain.spatial_dims, domain.size, domain.channels)
        if own != shape:
            raise ValueError(f"all domains must be of one (spatial_dims, size, channels), {shape} as data says, got {own} in {name}")
        if domain.covariate_names or domain.companions or domain.degrade:
            raise ValueError(f"a domain must be of images alone, got covariates, beside or degrade in data.domains.{name}; leave them out")


@dataclass(frozen=True)
class Title:
    """What a data set is called."""

    title: str


class Caches:
    """The caches of the domains as a judgement looks at one: `entries` of all, and a `folder` whose name tells which caches they are."""

    def __init__(self, domains: Sequence[ImageDataModule]) -> None:
        self.folder = Path("+".join(domain.cache.folder.name for domain in domains))
        # The same file has, under another domain's rules, another entry.
        pairs = chain.from_iterable(domain.cache.entries.items() for domain in domains)
        self.entries = {(number, digest): entry for number, (digest, entry) in enumerate(pairs)}


@dataclass(frozen=True)
class Tables:
    """The tables of several domains as one: a table's rows follow those of the one before, `images_from` its first, as do its records."""

    tables: Sequence[Table]
    images_from: np.ndarray
    records_from: np.ndarray

    def images(self, rows: np.ndarray, turns: np.ndarray) -> Tensor:
        """The images alone (B, C, *S)."""
        return self.batch(rows, turns, degraded=False)["image"]

    def batch(self, rows: np.ndarray, turns: np.ndarray, degraded: bool) -> Batch:
        """The batch of these images, in this order: image, record and label, which is the domain."""
        domains = np.searchsorted(self.images_from, rows, side="right") - 1
        order = np.argsort(domains, kind="stable")
        parts = []
        for number in np.unique(domains):
            own = domains == number
            part = self.tables[number].batch(rows[own] - self.images_from[number], turns[own], degraded)
            parts.append({"image": part["image"], "record": part["record"] + int(self.records_from[number])})
        back = torch.from_numpy(np.argsort(order))
        batch = {key: torch.cat([part[key] for part in parts])[back] for key in ("image", "record")}
        return {**batch, "label": torch.from_numpy(domains)}


class Streams(Sampler):
    """Lists of `batch_size` turns of the training split of all domains, as many of each, in turn; a `Stream` for each domain.

    lengths: images of each domain's training split, which follow one another in the whole, M in all. The r-th showing of element e of the
    whole is turn r M + e, as of a Stream of length M. `start` counts images of all domains and ranks.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, rank: int = 0, world: int = 1, start: int = 0) -> None:
        count = len(lengths)
        self.lengths, self.whole, self.firsts = list(lengths), sum(lengths), np.cumsum([0, *lengths[:-1]]).tolist()
        # Seeds apart, or domains of one length would be shown in one order: the cohort's patients in pairs.
        self.streams = [Stream(n, batch_size // count, seed + i, rank, world, start // count) for i, n in enumerate(lengths)]

    def __iter__(self) -> Iterator[list[int]]:
        for turns in zip(*self.streams, strict=True):
            own = zip(turns, self.lengths, self.firsts, strict=True)
            each = [[turn // n * self.whole + first + turn % n for turn in some] for some, n, first in own]
            yield [turn for together in zip(*each, strict=True) for turn in together]
