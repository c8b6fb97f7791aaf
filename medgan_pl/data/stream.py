"""The order in which images are shown: an endless stream for training, and whole batches gathered by it from the cache."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from medgan_pl.batch import Batch
from medgan_pl.data.cache import Cache


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


class Batches(Dataset):
    """Element `turns` is the whole batch shown then, of one split: image, record, and label and covariates where there are any.

    rows (n,): the split's rows in the table of images. records (N,): for each row of that table its scan's row in the table of records.
    labels (R,): the class of each record. covariates (R, K) float32, standardised, NaN where not known.
    """

    def __init__(
        self, gather: Gather, rows: np.ndarray, records: np.ndarray, labels: np.ndarray | None, covariates: np.ndarray | None = None
    ) -> None:
        self.gather, self.rows, self.records, self.labels, self.covariates = gather, rows, records, labels, covariates

    def __getitem__(self, turns: Sequence[int]) -> Batch:
        turns = np.asarray(turns)
        rows = self.rows[turns % len(self.rows)]  # (B,)
        records = self.records[rows]
        batch = {"image": self.gather(rows, turns), "record": torch.from_numpy(records)}
        for key, known in (("label", self.labels), ("covariates", self.covariates)):
            if known is not None:
                batch[key] = torch.from_numpy(known[records])
        return batch
