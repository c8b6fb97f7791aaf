"""The part of each image of a table that is image: without what is padded to fill its size, and without the padding of its file."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from medgan_pl.data.prepare.cache import Cache, window

Corners = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Insides:
    """The part of each row of a table that is image, as the cache keeps it.

    - `digests`, `numbers`: for each row its scan, and its place among the images of that scan.
    - `size`: of an image. `corners`: those of random patches (`image_table.Crops`), None for whole images.
    """

    def __init__(self, cache: Cache, digests: Sequence[str], numbers: np.ndarray, size: Sequence[int], corners: Corners | None) -> None:
        self.cache, self.digests, self.numbers, self.size, self.corners = cache, list(digests), numbers, tuple(size), corners

    @classmethod
    def of(
        cls, cache: Cache, digests: Sequence[str], numbers: np.ndarray, size: Sequence[int], corners: Corners | None
    ) -> "Insides | None":
        """Return the parts of the rows of a table, None if no image has padding."""
        padded = any("inside" in cache.entries[digest] for digest in set(digests))
        return cls(cache, digests, numbers, size, corners) if padded else None

    def __call__(self, rows: np.ndarray, turns: np.ndarray) -> Tensor:
        """Return (B, 1, *S) float32 of the images at these rows, shown at these turns: 1 where they are image, 0 in padding."""
        found = torch.ones(len(rows), 1, *self.size)
        corners = np.zeros((len(rows), len(self.size))) if self.corners is None else self.corners(rows, turns)
        for place, (row, corner) in enumerate(zip(rows.tolist(), corners, strict=True)):
            stored = self.cache.inside(self.digests[row])
            if stored is not None:
                shape = self.cache.entries[self.digests[row]]["shape"][2:]
                *outer, last = window(corner, shape, self.size)
                part = stored[(self.numbers[row], *outer)]
                found[place, 0] = torch.from_numpy(np.unpackbits(part, axis=-1)[..., last].astype(np.float32))
        return found
