"""The deterministic part of a pipeline, run once per content: one memory-mapped array per (set of scans, pipeline, number format)."""

import fcntl
import hashlib
import json
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medgan_pl.core.console import watched
from medgan_pl.core.files import sync
from medgan_pl.data.intensity import Unit
from medgan_pl.data.prepare.formats import Format
from medgan_pl.data.prepare.journal import append, inside_of, journal, mend
from medgan_pl.data.prepare.prepared import Prepared
from medgan_pl.data.readers.scan import NoDecoder, Scan, ScanError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """The task that fills an entry. `digest` names it; `read()` returns a Scan or raises ScanError; `unit(scan)` returns its unit."""

    digest: str
    read: Callable[[], Scan]
    unit: Callable[[Scan], Unit]


class Cache:
    """The images that one pipeline made of one set of scans, opened at the first read, so that worker processes receive only its path.

    `entries`: digest -> {"shape": [n, C, *S], "offset": elements before it, and the facts of `Entries`}; `unusable`: digest -> reason.
    `faulty`: digest -> the place of the file at fault among those of the scan, where it is known.
    An entry with `inside`, the share that is image, has padding: `inside/<digest>.npy` says where.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.format = Format(json.loads((folder / "format.json").read_text())["dtype"])
        found = dict(journal(folder))
        self.entries: dict[str, dict[str, Any]] = {digest: entry for digest, entry in found.items() if "shape" in entry}
        self.unusable: dict[str, str] = {digest: entry["unusable"] for digest, entry in found.items() if "unusable" in entry}
        self.faulty: dict[str, int] = {digest: entry["file"] for digest, entry in found.items() if "file" in entry}
        self._values: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_values": None}

    @property
    def values(self) -> np.ndarray:
        """Return all values (elements,) in the stored type."""
        if self._values is None:
            self._values = np.asarray(np.memmap(self.folder / "values.bin", self.format.dtype, "r"))
        return self._values

    def images(self, rows: np.ndarray, shape: Sequence[int]) -> Tensor:
        """Return images (B, C, *S), float32 in [-1, 1], at rows (B,) of a cache whose images all have one `shape` (C, *S)."""
        return self.format.restore(self.values.reshape(-1, *shape)[rows])

    def whole(self, digest: str, number: int = 0) -> Tensor:
        """Return image `number` of a scan, (C, *S), at its own size."""
        return self.format.restore(self.stored(digest, number))

    def stored(self, digest: str, number: int) -> np.ndarray:
        """Return image `number` of a scan as it is stored, (C, *S)."""
        entry = self.entries[digest]
        shape = entry["shape"][1:]
        return self.values[entry["offset"] + number * int(np.prod(shape)) :][: int(np.prod(shape))].reshape(shape)

    def patches(self, digests: Sequence[str], corners: np.ndarray, patch: Sequence[int], numbers: Sequence[int] | None = None) -> Tensor:
        """Return from image `numbers` (B,) (None: the first) of each scan the patch at `corners` (B, N): (B, C, *patch).

        The corners are fractions of the possible range.
        """
        cut = []
        for digest, corner, number in zip(digests, corners, [0] * len(digests) if numbers is None else numbers, strict=True):
            image = self.stored(digest, number)
            cut.append(image[(slice(None), *window(corner, image.shape[1:], patch))])
        return self.format.restore(np.stack(cut))

    def inside(self, digest: str) -> np.ndarray | None:
        """Return which voxels of a scan's images are image (n, *S), the last axis as packed bits; None if all are."""
        if "inside" not in self.entries[digest]:
            return None
        return np.load(inside_of(self.folder, digest), mmap_mode="r")

    def picture(self, digest: str) -> Tensor:
        """Return a picture (H, W) in [-1, 1] of a scan: the first channel of its middle image, of a volume the middle slice."""
        entry = self.entries[digest]
        values = self.values[entry["offset"] :][: int(np.prod(entry["shape"]))].reshape(entry["shape"])
        image = values[len(values) // 2, 0]
        return self.format.restore(image if image.ndim == 2 else image[len(image) // 2])


class Undecoded(NoDecoder):
    """Some scans need a decoder that is not installed. `reasons`: digest -> why; `cache` holds the others, unfinished."""

    def __init__(self, reasons: dict[str, str], cache: Cache) -> None:
        why, more = next(iter(reasons.values())), f"; so do {len(reasons) - 1} others" if len(reasons) > 1 else ""
        super().__init__(why + more)
        self.reasons, self.cache = reasons, cache


def window(corner: Sequence[float], sides: Sequence[int], patch: Sequence[int]) -> tuple[slice, ...]:
    """Return the place of a patch in an image of these sides, at a corner (fractions of the possible range)."""
    starts = [int(c * (n - p + 1)) for c, n, p in zip(corner, sides, patch, strict=True)]
    return tuple(slice(s, s + p) for s, p in zip(starts, patch, strict=True))


class Pipeline(Protocol):
    """A map of a scan to Prepared, or ScanError; `settings` holds all that the result depends on besides the scan."""

    settings: Mapping[str, Any]

    def __call__(self, scan: Scan) -> Prepared: ...


def prepare(tasks: Iterable[Task], pipeline: Pipeline, folder: Path, dtype: str = "uint16", workers: int = 2) -> Cache:
    """Return the cache of these tasks under this pipeline; make it unless it exists.

    `workers` processes share the work (0: this one), each with one scan. The cache is built in a temporary folder, scan by scan, and then
    renamed: after a kill or Ctrl-C there is no incomplete cache, and the next call resumes after the last complete scan.
    Processes that need the same cache wait for the first. Raise OSError if the disk is full, ValueError for a lossy `dtype`,
    Undecoded at the end if scans need a decoder that is not installed.
    """
    tasks = sorted({task.digest: task for task in tasks}.values(), key=lambda task: task.digest)
    digests = [task.digest for task in tasks]
    key = hashlib.blake2b(json.dumps([pipeline.settings, dtype, digests], sort_keys=True).encode(), digest_size=10).hexdigest()
    whole = folder / key
    if whole.is_dir():
        return Cache(whole)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f"{key}.lock"):
        if not whole.is_dir():
            aside = folder / f"{key}.unfinished"
            build(tasks, pipeline, aside, Format(dtype), workers)
            aside.rename(whole)
    return Cache(whole)


def build(tasks: list[Task], pipeline: Pipeline, folder: Path, form: Format, workers: int) -> None:
    started = time.monotonic()
    folder.mkdir(exist_ok=True)
    (folder / "format.json").write_text(json.dumps({"dtype": form.dtype.name}))
    mend(folder)
    done = {digest for digest, _ in journal(folder)}
    left = [task for task in tasks if task.digest not in done]
    if done:
        log.info("resuming a stopped preparation: %d of %d are done", len(done), len(tasks))
    few = len(left) < 4  # too few to start processes
    loader = DataLoader(
        Entries(left, pipeline, folder, form),
        batch_size=None,
        num_workers=0 if few else min(workers, len(left)),
        generator=torch.Generator(),  # otherwise the loader draws from the global one
    )
    undecoded = {}
    for task, error in zip(left, watched(loader, len(left), "preparing images"), strict=True):
        if isinstance(error, NoDecoder):
            undecoded[task.digest] = str(error)
        elif error is not None:
            raise error
    if undecoded:
        raise Undecoded(undecoded, Cache(folder))
    sync(folder)  # before the rename marks it as complete
    log.info("prepared %d images or volumes in %.1f s: %s", len(left), time.monotonic() - started, folder.with_suffix(""))


class Entries(Dataset):
    """A dataset whose element i reads, prepares and appends task i. The element is None, or an error that must stop the preparation.

    An error raised in a worker process would show that process's traceback as its message.
    """

    def __init__(self, tasks: list[Task], pipeline: Pipeline, folder: Path, form: Format) -> None:
        self.tasks, self.pipeline, self.folder, self.format = tasks, pipeline, folder, form

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> Exception | None:
        try:
            self.fill(self.tasks[index])
        except (OSError, ValueError, RuntimeError) as error:
            if error.__cause__ is not None:  # MONAI wraps our own errors, whose traceback is needed
                raise
            return error
        return None

    def fill(self, task: Task) -> None:
        try:
            scan = task.read()
            prepared, unit = self.pipeline(scan), task.unit(scan)
        except ScanError as error:
            append(self.folder, task.digest, {"unusable": str(error)} | ({} if error.file is None else {"file": error.file}), None)
            return
        entry = {
            "shape": list(prepared.images.shape),
            "levels": prepared.levels,
            "spacing_mm": prepared.spacing_mm,
            "affine": None if prepared.affine is None else prepared.affine.tolist(),
            "facts": prepared.facts,
            "unit": unit.name,
            "loss": self.format.check(prepared.levels, unit),
            "loss_unit": unit.of_loss,
        }
        if prepared.inside is not None:  # before the journal: an entry that is listed is complete
            bits = np.ascontiguousarray(np.packbits(prepared.inside.numpy(), axis=-1))
            entry |= {"inside": float(prepared.inside.float().mean()), "inside_crc": zlib.crc32(bits)}
            inside_of(self.folder, task.digest).parent.mkdir(exist_ok=True)
            np.save(inside_of(self.folder, task.digest), bits)
        append(self.folder, task.digest, entry, self.format.quantize(prepared.images))


def available_cores(top: int = 8) -> int:
    """Return the number of cores that this process may use, at most `top`."""
    try:
        return min(top, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS
        return min(top, os.cpu_count() or 1)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on the file `path`; the system releases it when the process ends for any reason."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process is preparing the same images; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
