"""The part of each image of a table that is image: without what is padded to fill its size, and without the padding of its file."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from medgan_pl.data.image_table import Crops, Gather, Rows
from medgan_pl.data.prepare.cache import Cache, window

OPENED = 4096  # files at once: below what a system allows

Corners = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Insides:
    """The part of each row of a table that is image, as the cache keeps it.

    - `digests`, `numbers`: for each row its scan, and its place among the images of that scan.
    - `size`: of an image. `corners`: those of random patches (`image_table.Crops`), None for whole images.
    """

    def __init__(self, cache: Cache, digests: Sequence[str], numbers: np.ndarray, size: Sequence[int], corners: Corners | None) -> None:
        self.cache, self.digests, self.numbers, self.size, self.corners = cache, list(digests), numbers, tuple(size), corners
        self.opened: dict[str, np.ndarray | None] = {}

    @classmethod
    def of(
        cls, cache: Cache, digests: Sequence[str], numbers: np.ndarray, size: Sequence[int], corners: Corners | None
    ) -> "Insides | None":
        """Return the parts of the rows of a table, None if no image has padding."""
        padded = any("inside" in cache.entries[digest] for digest in set(digests))
        return cls(cache, digests, numbers, size, corners) if padded else None

    def __call__(self, rows: np.ndarray, turns: np.ndarray) -> Tensor:
        """Return (B, 1, *S) float32 of the images at these rows, shown at these turns: 1 where they are image, 0 in padding."""
        found = np.ones((len(rows), *self.size), np.uint8)
        corners = np.zeros((len(rows), len(self.size))) if self.corners is None else self.corners(rows, turns)
        for place, (row, corner) in enumerate(zip(rows.tolist(), corners, strict=True)):
            stored = self.stored(self.digests[row])
            if stored is not None:
                shape = self.cache.entries[self.digests[row]]["shape"][2:]
                *outer, last = window(corner, shape, self.size)
                found[place] = np.unpackbits(stored[(self.numbers[row], *outer)], axis=-1)[..., last]
        return torch.from_numpy(found)[:, None].float()

    def stored(self, digest: str) -> np.ndarray | None:
        """Return the bits of a scan. Its file stays open, as to open it takes longer than to read it."""
        if digest not in self.opened:
            if len(self.opened) >= OPENED:
                self.opened.clear()
            self.opened[digest] = self.cache.inside(digest)
        return self.opened[digest]


def gathering(
    cache: Cache, digests: Sequence[str], counts: Sequence[int], shape: Sequence[int], patches: int, seed: int
) -> tuple[Gather, Insides | None]:
    """Return the functions that get the images of a table (C, *S) = `shape`, and the part of them that is image.

    `counts`: the number of images of each scan, in the order of their `digests`. `patches`: of each slice or volume, 0 for whole images.
    """
    numbers = np.concatenate([np.arange(count) // (patches or 1) for count in counts])  # of the slice in its scan
    owners = np.repeat(np.array(digests, object), counts).tolist()
    if not patches:
        return Rows.of(cache, digests, counts, shape), Insides.of(cache, owners, numbers, shape[1:], None)
    crops = Crops(cache, owners, shape[1:], seed, numbers if numbers.any() else None)
    return crops, Insides.of(cache, owners, numbers, shape[1:], crops.corners)
