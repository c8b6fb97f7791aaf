"""The filling of a cache: each scan is read and prepared once, by several processes, and what was stopped or damaged is completed."""

import fcntl
import hashlib
import json
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from medgan_pl.core.console import watched
from medgan_pl.core.files import remove, remove_leftovers, sync, temporary_path
from medgan_pl.data.intensity import Unit
from medgan_pl.data.prepare.cache import REMEDY, Cache, Damaged, mark
from medgan_pl.data.prepare.formats import Format
from medgan_pl.data.prepare.journal import append, inside_of, journal, mend, salvage, writing
from medgan_pl.data.prepare.prepared import Prepared
from medgan_pl.data.readers.scan import NoDecoder, Scan, ScanError

log = logging.getLogger(__name__)

# Part of the key of every cache. Raise it whenever the files of a cache change, but not its images.
JOURNAL_VERSION = 1


@dataclass(frozen=True)
class Task:
    """The task that fills an entry. `digest` names it; `read()` returns a Scan or raises ScanError; `unit(scan)` returns its unit."""

    digest: str
    read: Callable[[], Scan]
    unit: Callable[[Scan], Unit]


class Undecoded(NoDecoder):
    """Some scans need a decoder that is not installed. `reasons`: digest -> why; `cache` holds the others, unfinished."""

    def __init__(self, reasons: dict[str, str], cache: Cache) -> None:
        why, more = next(iter(reasons.values())), f"; so do {len(reasons) - 1} others" if len(reasons) > 1 else ""
        super().__init__(why + more)
        self.reasons, self.cache = reasons, cache


class Pipeline(Protocol):
    """A map of a scan to Prepared, or ScanError; `settings` holds all that the result depends on besides the scan."""

    settings: Mapping[str, Any]

    def __call__(self, scan: Scan) -> Prepared: ...


def prepare(tasks: Iterable[Task], pipeline: Pipeline, folder: Path, dtype: str = "uint16", workers: int = 2) -> Cache:
    """Return the cache of these tasks under this pipeline; make it unless it exists, and mend it if it is damaged.

    `workers` processes share the work (0: this one), each with one scan. The cache is built in a temporary folder, scan by scan, and then
    renamed: after a kill or Ctrl-C there is no incomplete cache, and the next call resumes after the last complete scan.
    Processes that need the same cache wait for the first. Raise OSError, naming data.cache.dir, if the folder cannot be written or the disk
    is full, ValueError for a lossy `dtype`, Undecoded at the end if scans need a decoder that is not installed.
    """
    tasks = sorted({task.digest: task for task in tasks}.values(), key=lambda task: task.digest)
    digests, form = [task.digest for task in tasks], Format(dtype)
    content = [JOURNAL_VERSION, pipeline.settings, dtype, digests]
    key = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=10).hexdigest()
    whole, aside = folder / key, folder / f"{key}.unfinished"
    if cache := opened(whole, digests, form, warn=True):
        return cache
    can_hold(folder)
    with locked(folder / f"{key}.lock"):
        if cache := opened(whole, digests, form):  # another process made it meanwhile
            return cache
        remove_leftovers(whole)
        with writing(folder):
            aside.mkdir(exist_ok=True)
            mark(aside, form)
            mend(aside, form.dtype)
            if whole.is_dir():
                salvage(whole, aside, form.dtype)
        build(tasks, pipeline, aside, form, workers)
        with writing(folder):
            sync(aside)  # before the rename marks it as complete
            put_in_place(aside, whole)
        cache = Cache(whole)
        cache.check_all(digests, form.dtype)
    return cache


def opened(whole: Path, digests: list[str], form: Format, warn: bool = False) -> Cache | None:
    """Return the cache in the folder `whole`; None if there is none, or if it is damaged as far as a sample shows."""
    if not whole.is_dir():
        return None
    try:
        cache = Cache(whole)
        cache.check_all(digests, form.dtype)
    except (Damaged, FileNotFoundError) as error:
        if warn and whole.is_dir():  # it was not removed meanwhile
            log.warning("%s; its sound scans are kept, and the others are prepared again", str(error).removesuffix(REMEDY))
        return None
    return cache


def can_hold(folder: Path) -> None:
    """Make the folder of caches. Raise OSError, naming data.cache.dir, if it cannot be made."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def put_in_place(aside: Path, whole: Path) -> None:
    """Rename a cache to its final name. A damaged one there is removed; who reads it has its values open."""
    if whole.is_dir():
        old = temporary_path(whole)
        whole.rename(old)
        aside.rename(whole)
        remove(old)
    else:
        aside.rename(whole)


def build(tasks: list[Task], pipeline: Pipeline, folder: Path, form: Format, workers: int) -> None:
    """Fill the unfinished cache in `folder` with the tasks that it does not have."""
    started = time.monotonic()
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
            reason = {"unusable": str(error)} | ({} if error.file is None else {"file": error.file})
            with writing(self.folder.parent):
                append(self.folder, task.digest, reason, None)
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
        with writing(self.folder.parent):
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
    with writing(path.parent):
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process is preparing the same images; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
