"""The tables, caches and orders of several domains as one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler
from torch.utils.data.distributed import DistributedSampler

from medgan_pl.core.batch import Batch
from medgan_pl.data.image_table import Table
from medgan_pl.data.stream import Stream

if TYPE_CHECKING:
    from medgan_pl.data.datamodule import ImageDataModule


class Caches:
    """The caches of the domains as one: the `entries` of all, and a `folder` whose name identifies the caches."""

    def __init__(self, domains: Sequence["ImageDataModule"]) -> None:
        self.folder = Path("+".join(domain.cache.folder.name for domain in domains))
        # The same file has another entry under another domain's rules.
        pairs = chain.from_iterable(domain.cache.entries.items() for domain in domains)
        self.entries = {(number, digest): entry for number, (digest, entry) in enumerate(pairs)}


@dataclass(frozen=True)
class Tables:
    """The tables of several domains, one after the other; `images_from` holds each one's first row, `records_from` its first record."""

    tables: Sequence[Table]
    images_from: np.ndarray
    records_from: np.ndarray

    def without_inside(self) -> "Tables":
        """Return the tables whose batches have no `inside`."""
        return replace(self, tables=[table.without_inside() for table in self.tables])

    def images(self, rows: np.ndarray, turns: np.ndarray) -> Tensor:
        """Return only the images (B, C, *S)."""
        return self.batch(rows, turns, degraded=False)["image"]

    @property
    def inside(self) -> Callable[[np.ndarray, np.ndarray], Tensor] | None:
        """Return the function that gives the part of images that is image; None if no domain has padding."""
        if all(table.inside is None for table in self.tables):
            return None
        return lambda rows, turns: self.batch(rows, turns, degraded=False)["inside"]

    def batch(self, rows: np.ndarray, turns: np.ndarray, degraded: bool) -> Batch:
        """Return the batch of these images in this order: image, record and label, which is the domain."""
        domains = np.searchsorted(self.images_from, rows, side="right") - 1
        order = np.argsort(domains, kind="stable")
        parts = []
        for number in np.unique(domains):
            own = domains == number
            part = self.tables[number].batch(rows[own] - self.images_from[number], turns[own], degraded)
            parts.append(part | {"record": part["record"] + int(self.records_from[number])})
        back = torch.from_numpy(np.argsort(order))
        if self.inside is not None:
            parts = [{"inside": torch.ones_like(part["image"][:, :1])} | part for part in parts]
        keys = ("image", "record") if self.inside is None else ("image", "record", "inside")
        batch = {key: torch.cat([part[key] for part in parts])[back] for key in keys}
        return {**batch, "label": torch.from_numpy(domains)}


class Streams(Sampler):
    """The endless order of several domains: lists of `batch_size` turns, the same number of each domain, in turn; a Stream for each.

    `lengths`: the number of training images of each domain. They follow one another in the whole, M in all. The r-th showing of element e
    of the whole is turn r M + e, as in a Stream of length M. `start` counts images of all domains and ranks.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, rank: int = 0, world: int = 1, start: int = 0) -> None:
        count = len(lengths)
        self.lengths, self.whole, self.firsts = list(lengths), sum(lengths), np.cumsum([0, *lengths[:-1]]).tolist()
        # Different seeds: otherwise domains of equal length would have the same order, and the cohort's patients would form pairs.
        self.streams = [Stream(n, batch_size // count, seed + i, rank, world, start // count) for i, n in enumerate(lengths)]

    def __iter__(self) -> Iterator[list[int]]:
        for turns in zip(*self.streams, strict=True):
            own = zip(turns, self.lengths, self.firsts, strict=True)
            each = [[turn // n * self.whole + first + turn % n for turn in some] for some, n, first in own]
            yield [turn for together in zip(*each, strict=True) for turn in together]


class DomainEpochs(DistributedSampler):
    """Parts of a `Streams`, one an epoch: as many batches as show each image of the largest domain. `set_epoch` chooses the part.

    It is a DistributedSampler so that Lightning does not replace it, see stream.py.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        super().__init__(range(sum(lengths)), num_replicas=world, rank=rank, seed=seed)
        self.lengths, self.batch_size = list(lengths), batch_size

    def __len__(self) -> int:
        return -(-max(self.lengths) * len(self.lengths) // (self.batch_size * self.num_replicas))

    def __iter__(self) -> Iterator[list[int]]:
        start = self.epoch * len(self) * self.batch_size * self.num_replicas
        return islice(Streams(self.lengths, self.batch_size, self.seed, self.rank, self.num_replicas, start), len(self))
