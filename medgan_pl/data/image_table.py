"""The table of images: its rows are all slices, patches or films of all records. Whole batches are gathered from the cache."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from medgan_pl.core.batch import Batch
from medgan_pl.core.keys import Purpose, keyed_generator
from medgan_pl.data.intensity import Inverse
from medgan_pl.data.masks import as_mask
from medgan_pl.data.prepare.cache import Cache, window


class Gather(Protocol):
    """A function that gets images from the cache."""

    def __call__(self, rows: np.ndarray, turns: np.ndarray) -> Tensor:
        """Return the images (B, C, *S) at these rows (B,) of the table of images, shown at these turns (B,)."""


class Rows:
    """Images of one `shape` (C, *S). `places` (N,) holds for each row of the table of images its place in the cache."""

    def __init__(self, cache: Cache, places: np.ndarray, shape: Sequence[int]) -> None:
        self.cache, self.places, self.shape = cache, places, tuple(shape)

    @classmethod
    def of(cls, cache: Cache, digests: Sequence[str], counts: Sequence[int], shape: Sequence[int]) -> "Rows":
        """Return the rows of scans that have `counts` images each, in the order of their digests."""
        first = [cache.entries[digest]["offset"] // int(np.prod(shape)) for digest in digests]
        return cls(cache, np.concatenate([np.arange(f, f + n) for f, n in zip(first, counts, strict=True)]), shape)

    def __call__(self, rows: np.ndarray, turns: np.ndarray) -> Tensor:
        return self.cache.images(self.places[rows], self.shape)


class Crops:
    """Random patches. Row i of the table of images is a patch of the scan `digests[i]`, at a place keyed by (seed, row, turn).

    `numbers`: for each row the number of the slice in its scan; None for films and volumes, which are one image.
    """

    def __init__(self, cache: Cache, digests: Sequence[str], patch: Sequence[int], seed: int, numbers: np.ndarray | None = None) -> None:
        self.cache, self.digests, self.patch, self.seed, self.numbers = cache, list(digests), tuple(patch), seed, numbers

    def __call__(self, rows: np.ndarray, turns: np.ndarray) -> Tensor:
        further = () if self.numbers is None else (self.numbers[rows],)
        return self.cache.patches([self.digests[row] for row in rows], self.corners(rows, turns), self.patch, *further)

    def corners(self, rows: np.ndarray, turns: np.ndarray) -> np.ndarray:
        return fractions(self.seed, rows, turns)[:, : len(self.patch)]

    def after(self, change: Callable[[Tensor], Tensor], row: int, turn: int) -> Tensor:
        """Return the patch (1, K, *patch) of the whole image (1, C, *S) after a change that keeps its size."""
        made = change(self.cache.whole(self.digests[row], 0 if self.numbers is None else int(self.numbers[row]))[None])
        (corner,) = self.corners(np.array([row]), np.array([turn]))
        return made[(..., *window(corner, made.shape[2:], self.patch))]


def fractions(seed: int, rows: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Return numbers (B, 3) in [0, 1), each a hash of (seed, row, turn, axis) by splitmix64 (Steele, Lea & Flood 2014, OOPSLA)."""
    state = np.full((len(rows), 3), seed, np.uint64)
    for key in (rows.astype(np.uint64)[:, None], turns.astype(np.uint64)[:, None], np.arange(3, dtype=np.uint64)):
        state = (state ^ key) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)) * 2.0**-53


class Degrade(Protocol):
    """A degradation, see data/degrade."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the source made of images (B, C, *S) in [-1, 1]. All random numbers come from the generator."""


@dataclass(frozen=True)
class Table:
    """The images of a datamodule in all splits, and facts about each.

    - `gather`: gets images with the channels of their companions, as `channels` (key -> number of channels) divides them.
    - `records` (N,): for each image the row of its record. `labels` (R,): the class of each record.
    - `covariates` (R, K) float32: standardized, NaN where unknown.
    - `degrade`: makes the source of a held-out image, keyed by (`seed`, row of the image).
    - `whole`: it needs whole images, so the sources of patches are cut after it, in training too, keyed by (`train_seed`, turn).
    - `inside`: returns the part of images that is image, see `insides.Insides`; None if no image has padding.
    """

    gather: Gather
    channels: Mapping[str, int]
    records: np.ndarray
    labels: np.ndarray | None = None
    covariates: np.ndarray | None = None
    degrade: Degrade | None = None
    seed: int = 0
    whole: bool = False
    train_seed: int = 0
    inside: Callable[[np.ndarray, np.ndarray], Tensor] | None = None

    def without_inside(self) -> "Table":
        """Return the table whose batches have no `inside`."""
        return replace(self, inside=None)

    def images(self, rows: np.ndarray, turns: np.ndarray) -> Tensor:
        """Return only the images (B, C, *S)."""
        return self.gather(rows, turns)[:, : self.channels["image"]]

    def batch(self, rows: np.ndarray, turns: np.ndarray, degraded: bool) -> Batch:
        """Return the batch (core/batch.py) of these images; with `degraded`, the degradation makes their sources."""
        batch = dict(zip(self.channels, self.gather(rows, turns).split(list(self.channels.values()), 1), strict=True))
        records = self.records[rows]
        if "mask" in batch:
            batch["mask"] = as_mask(batch["mask"])
        if self.degrade is not None and (degraded or self.whole):
            batch["source"] = self.sources(batch, rows, turns, degraded)
        batch["record"] = torch.from_numpy(records)
        if self.inside is not None:
            batch["inside"] = self.inside(rows, turns)
        for key, known in (("label", self.labels), ("covariates", self.covariates)):
            if known is not None:
                batch[key] = torch.from_numpy(known[records])
        return batch

    def sources(self, batch: Batch, rows: np.ndarray, turns: np.ndarray, held_out: bool) -> Tensor:
        """Return the degraded sources of a batch, each by random numbers of its own."""
        if held_out:
            keys = [keyed_generator(self.seed, 0, int(row), Purpose.HELD_OUT) for row in rows]
        else:
            keys = [keyed_generator(self.train_seed, 0, int(turn), Purpose.DEGRADE) for turn in turns]
        if not self.whole:
            images = batch.get("source", batch["image"])
            return torch.cat([self.degrade(images[i : i + 1], key) for i, key in enumerate(keys)])
        ends = dict(zip(self.channels, np.cumsum(list(self.channels.values())).tolist(), strict=True))
        key = "source" if "source" in ends else "image"
        part = slice(ends[key] - self.channels[key], ends[key])
        changes = [lambda image, key=key: self.degrade(image[:, part], key) for key in keys]
        return torch.cat([self.gather.after(*each) for each in zip(changes, rows.tolist(), turns.tolist(), strict=True)])


def inverse_of(entries: Sequence[Mapping[str, Any]], modality: str, directions: Any) -> Inverse:
    """Return the map from [-1, 1] to native units and space: the medians over these entries of the cache."""
    channels = range(len(entries[0]["levels"]))
    levels = tuple((median(e["levels"][c][0] for e in entries), median(e["levels"][c][1] for e in entries)) for c in channels)
    spacings = [entry["spacing_mm"] for entry in entries if entry["spacing_mm"]]
    spacing_mm = tuple(median(values) for values in zip(*spacings, strict=True)) if spacings else None
    return Inverse(levels, entries[0]["unit"], modality, spacing_mm, directions)


class BatchTable(Protocol):
    """A table whose rows can be gathered into batches: a Table, or those of several domains."""

    def batch(self, rows: np.ndarray, turns: np.ndarray, degraded: bool) -> Batch:
        """Return the batch of these rows, shown at these turns; `degraded` as in `Table.batch`."""

    def without_inside(self) -> "BatchTable":
        """Return the table whose batches have no `inside`."""


class Batches(Dataset):
    """The whole batches of one split: element `turns` is the batch shown at these turns. `rows` (n,) are the split's rows of the table."""

    def __init__(self, table: BatchTable, rows: np.ndarray, degraded: bool) -> None:
        self.table, self.rows, self.degraded = table, rows, degraded

    def __getitem__(self, turns: Sequence[int]) -> Batch:
        turns = np.asarray(turns)
        return self.table.batch(self.rows[turns % len(self.rows)], turns, self.degraded)
