"""The orders of elements: an endless stream or finite epochs in training, and each element once when held out.

An order gives lists of *turns*. Turn t shows element t mod n of a split with n elements, for the (t div n)-th time. No turn occurs twice,
so that the random numbers of one showing can be keyed by its turn.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler
from torch.utils.data.distributed import DistributedSampler


def permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    """Return the order of the elements in an epoch, keyed by (seed, epoch)."""
    return np.random.default_rng([seed, epoch]).permutation(length)


class Stream(Sampler):
    """An endless order: lists of `batch_size` turns of `length` elements, for one rank of `world`.

    Place p of the stream is turn (p div n) n + element p mod n of the permutation of epoch p div n, n = `length`. A global batch is
    `batch_size` × `world` places in a row. Rank r takes the r-th part, so that all ranks together show every place once. A batch may run
    across the end of an epoch. `start` counts the places that all ranks have already shown: a stream resumes where another stopped.
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
                    order = permutation(self.seed, epoch, self.length)
                turns.append(epoch * self.length + int(order[p % self.length]))
            yield turns
            place += self.batch_size * self.world


class Epochs(DistributedSampler):
    """A finite order: each of `length` elements once an epoch, in the same order as in a Stream; `set_epoch` chooses the epoch.

    The last batch may be smaller. All ranks get batches of the same sizes, or DDP would wait forever: where the last global batch does not
    divide by `world`, the first elements of the epoch fill it. It is a DistributedSampler so that Lightning does not replace it by one.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        if length < world or batch_size < 1:
            raise ValueError(
                f"an epoch needs an element for each of {world} devices and batch_size >= 1, got {length} elements and {batch_size}"
            )
        super().__init__(range(length), num_replicas=world, rank=rank, seed=seed)
        self.length, self.batch_size = length, batch_size

    def __len__(self) -> int:
        return -(-self.length // (self.batch_size * self.num_replicas))

    def __iter__(self) -> Iterator[list[int]]:
        order, step = permutation(self.seed, self.epoch, self.length), self.batch_size * self.num_replicas
        for first in range(0, self.length, step):
            elements = order[first : first + step]
            share = -(-len(elements) // self.num_replicas)
            elements = np.concatenate([elements, order[: share * self.num_replicas - len(elements)]])
            yield (self.epoch * self.length + elements[self.rank * share : (self.rank + 1) * share]).tolist()


class InOrder(DistributedSampler):
    """The listed batches of a held-out split: the share of one rank. It is a DistributedSampler for the same reason."""

    def __init__(self, batches: Sequence[list[int]], rank: int = 0, world: int = 1) -> None:
        super().__init__(batches, num_replicas=world, rank=rank, shuffle=False)
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def shares(count: int, batch_size: int, rank: int, world: int) -> list[list[int]]:
    """Return the batches of one rank: of `count` elements in order every `world`-th from `rank` on. The last batch may be smaller."""
    mine = list(range(rank, count, world))
    return [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
