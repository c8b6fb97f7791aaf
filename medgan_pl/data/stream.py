"""The order in which images are shown: an endless stream for training, and whole batches gathered by it from the cache."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from medgan_pl.batch import Batch
from medgan_pl.data.cache import Cache


class Stream(Sampler):
    """Lists of `batch_size` indices below `length`, without end and without a length.

    Place p of the stream is element p mod n of a permutation keyed by (seed, p div n), n = `length`. A global batch is
    `batch_size` × `world` places in a row, of which rank r takes the r-th part, so all ranks together show every place once; batches run
    across the end of an epoch. `start` counts the places already shown by all ranks: a stream begun there goes on where another stopped.
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
            indices = []
            for p in range(place, place + self.batch_size):
                if p // self.length != epoch:
                    epoch = p // self.length
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                indices.append(int(order[p % self.length]))
            yield indices
            place += self.batch_size * self.world


class Batches(Dataset):
    """Element `indices` is the whole batch of these films of one split: image, record, and label where there are labels.

    rows (n,): the split's rows in the table of records. cache_rows, labels (N,): for each row of that table, where it lies in the cache
    and its class.
    """

    def __init__(self, cache: Cache, rows: np.ndarray, cache_rows: np.ndarray, labels: np.ndarray | None) -> None:
        self.cache, self.rows, self.cache_rows, self.labels = cache, rows, cache_rows, labels

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        rows = self.rows[indices]  # (B,)
        batch = {"image": self.cache.images(self.cache_rows[rows]), "record": torch.from_numpy(rows)}
        return batch if self.labels is None else {**batch, "label": torch.from_numpy(self.labels[rows])}
