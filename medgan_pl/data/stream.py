"""The order in which images are shown: an endless stream for training, and whole batches gathered by it from the cache."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from medgan_pl.core.batch import Batch
from medgan_pl.core.keys import Purpose, keyed_generator
from medgan_pl.data.masks import as_mask
from medgan_pl.data.prepare.cache import Cache


class Stream(Sampler):
    """Lists of `batch_size` turns, without end and without a length; turn t shows element t mod n, n = `length`, for the (t div n)-th time.

    Place p of the stream is turn (p div n) n + element p mod n of a permutation keyed by (seed, p div n): no turn comes twice, so whatever
    is random about a showing can be keyed by it. A global batch is `batch_size` × `world` places in a row, of which rank r takes the r-th
    part, so all ranks together show every place once; batches run across the end of an epoch. `start` counts the places already shown by
    all ranks: a stream begun there goes on where another stopped.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, world: int = 1, start: int = 0) -> None:
        if length < 1 or batch_size < 1 or not 0 <= rank < world or seed < 0 or start < 0:
            raise ValueError(
                "a stream needs length >= 1, batch_size >= 1, 0 <= rank < world, seed >= 0 and start >= 0, got "
                f"{length}, {batch_size}, {rank} of {world}, {seed} and {start}"
            )
        self.length, self.batch_size, self.seed, self.rank, self.world, self.start = length, batch_size, seed, rank, world, start

    def __iter__(self) -> Iterator[list[int]]:
        epoch, order = -1, np.empty(0, int)
        place = self.start + self.rank * self.batch_size
        while True:
            turns = []
            for p in range(place, place + self.batch_size):
                if p // self.length != epoch:
                    epoch = p // self.length
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                turns.append(epoch * self.length + int(order[p % self.length]))
            yield turns
            place += self.batch_size * self.world


class Gather(Protocol):
    def __call__(self, rows: np.ndarray, turns: np.ndarray) -> Tensor:
        """The images (B, C, *S) of these rows (B,) of the table of images, shown at these turns (B,)."""


class Rows:
    """Images that all have one `shape` (C, *S): `places` (N,) says where in the cache each row of the table of images lies."""

    def __init__(self, cache: Cache, places: np.ndarray, shape: Sequence[int]) -> None:
        self.cache, self.places, self.shape = cache, places, tuple(shape)

    def __call__(self, rows: np.ndarray, turns: np.ndarray) -> Tensor:
        return self.cache.images(self.places[rows], self.shape)


class Crops:
    """Random patches (D, H, W): row i of the table of images is a patch of the scan `digests[i]`, its place keyed by (seed, row, turn)."""

    def __init__(self, cache: Cache, digests: Sequence[str], patch: Sequence[int], seed: int) -> None:
        self.cache, self.digests, self.patch, self.seed = cache, list(digests), tuple(patch), seed

    def __call__(self, rows: np.ndarray, turns: np.ndarray) -> Tensor:
        return self.cache.patches([self.digests[row] for row in rows], fractions(self.seed, rows, turns), self.patch)


def fractions(seed: int, rows: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """(B, 3) in [0, 1), each a function of (seed, row, turn, axis) alone: splitmix64 (Steele, Lea & Flood 2014, OOPSLA) as a hash."""
    state = np.full((len(rows), 3), seed, np.uint64)
    for key in (rows.astype(np.uint64)[:, None], turns.astype(np.uint64)[:, None], np.arange(3, dtype=np.uint64)):
        state = (state ^ key) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)) * 2.0**-53


class Degrade(Protocol):
    """See data/degrade: images (B, C, *S) in [-1, 1] -> the source made of them; every random number is the generator's."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor: ...


@dataclass(frozen=True)
class Table:
    """The images of a data module, whichever split they are in, and what is known of each.

    gather: images with all that lies beside them, as `channels` (key -> count) divides them. records (N,): for each image its scan's row in
    the table of records. labels (R,): the class of each record. covariates (R, K) float32, standardised, NaN where not known. degrade: what
    makes the source of a held-out image, keyed by (`seed`, its row).
    """

    gather: Gather
    channels: Mapping[str, int]
    records: np.ndarray
    labels: np.ndarray | None = None
    covariates: np.ndarray | None = None
    degrade: Degrade | None = None
    seed: int = 0

    def images(self, rows: np.ndarray, turns: np.ndarray) -> Tensor:
        """The images alone (B, C, *S)."""
        return self.gather(rows, turns)[:, : self.channels["image"]]

    def batch(self, rows: np.ndarray, turns: np.ndarray, degraded: bool) -> Batch:
        """The batch (batch.py) of these images; `degraded`: its source is made here."""
        batch = dict(zip(self.channels, self.gather(rows, turns).split(list(self.channels.values()), 1), strict=True))
        records = self.records[rows]
        if "mask" in batch:
            batch["mask"] = as_mask(batch["mask"])
        if degraded and self.degrade is not None:
            whole = batch.get("source", batch["image"])
            keys = [keyed_generator(self.seed, 0, int(row), Purpose.HELD_OUT) for row in rows]
            batch["source"] = torch.cat([self.degrade(whole[i : i + 1], key) for i, key in enumerate(keys)])
        batch["record"] = torch.from_numpy(records)
        for key, known in (("label", self.labels), ("covariates", self.covariates)):
            if known is not None:
                batch[key] = torch.from_numpy(known[records])
        return batch


class Batches(Dataset):
    """Element `turns` is the whole batch shown then, of one split: `rows` (n,) of the table."""

    def __init__(self, table: Table, rows: np.ndarray, degraded: bool) -> None:
        self.table, self.rows, self.degraded = table, rows, degraded

    def __getitem__(self, turns: Sequence[int]) -> Batch:
        turns = np.asarray(turns)
        return self.table.batch(self.rows[turns % len(self.rows)], turns, self.degraded)
