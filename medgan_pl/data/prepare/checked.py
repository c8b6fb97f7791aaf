"""The entries of a cache that were compared with their checksums: each once, by all processes of a loader together."""

import mmap
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

SAMPLED = 16  # entries


class Checked:
    """The entries in the order of their values. `numbers`: digest -> place in that order, `digests` the other way.

    `done` (n,) is 1 for entries that were compared. Forked processes share it; one that gets the object by pickle begins anew.
    """

    def __init__(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self.digests = sorted(entries, key=lambda digest: entries[digest]["offset"])
        self.numbers = {digest: number for number, digest in enumerate(self.digests)}
        self.starts = np.array([entries[digest]["offset"] for digest in self.digests], np.int64)
        self.sizes = np.array([np.prod(entries[digest]["shape"]) for digest in self.digests], np.int64)
        self.crcs = [entries[digest]["crc"] for digest in self.digests]
        self.done = shared_flags(len(self.digests))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "done": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, done=shared_flags(len(state["digests"])))

    def part(self, number: int, values: np.ndarray) -> np.ndarray:
        """Return the values of an entry, (elements,)."""
        return values[self.starts[number] : self.starts[number] + self.sizes[number]]

    def compare(self, number: int, values: np.ndarray) -> bool:
        """Return True, and note it, if the values of an entry have its checksum."""
        if zlib.crc32(self.part(number, values)) != self.crcs[number]:
            return False
        self.done[number] = 1
        return True

    def unread_at(self, places: np.ndarray) -> list[int]:
        """Return the entries at these places (B,) among all values that were not compared yet."""
        found = np.searchsorted(self.starts, places, side="right") - 1
        return np.unique(found[self.done[found] == 0]).tolist()

    def sample(self, elements: int) -> list[int]:
        """Return at most SAMPLED entries, evenly spaced, with at most so many elements; two at least, the last and the first."""
        spaced = np.unique(np.linspace(0, len(self.starts) - 1, SAMPLED).astype(int))[: len(self.starts)]
        order = [*spaced[-1:], *spaced[:-1]]
        room = np.cumsum(self.sizes[order]) <= elements if order else np.array([], bool)
        return [int(number) for number, fits in zip(order, room | (np.arange(len(order)) < 2), strict=True) if fits]

    def forget(self) -> None:
        """Compare all entries again when they are next read."""
        self.done[:] = 0


def shared_flags(count: int) -> np.ndarray:
    """Return `count` zeros in memory that forked processes share."""
    return np.frombuffer(mmap.mmap(-1, max(1, count)), np.uint8)[:count]
