"""The deterministic part of a pipeline, run once per content: one memory-mapped array per (set of films, pipeline)."""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medgan_pl.data.pipelines import FilmError

log = logging.getLogger(__name__)

# uint16 over [-1, 1]: a step is 2 / 65535, so a stored pixel is at most 1.53e-5 off.
LEVELS = 65535


def quantise(image: Tensor) -> np.ndarray:
    """[-1, 1] float -> uint16."""
    return ((image.numpy().clip(-1, 1) + 1) * (LEVELS / 2)).round().astype(np.uint16)


def restore(stored: np.ndarray) -> Tensor:
    """uint16 -> [-1, 1] float32, a fresh contiguous tensor of the same shape."""
    image = stored.astype(np.float32)  # by NumPy: a batch is too small to be worth waking torch's threads, which training keeps busy
    image *= 2 / LEVELS
    image -= 1
    return torch.from_numpy(image)


@dataclass(frozen=True)
class Task:
    """What fills one row: `digest` names the content, `read()` gives (C, H, W) in native units or raises FilmError."""

    digest: str
    read: Callable[[], np.ndarray]


class Cache:
    """An array (N, C, *S) of uint16 on disk, one row per digest, opened when first read (so it travels to worker processes as a path)."""

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        self.folder, self.shape = folder, tuple(index["shape"])
        self.rows: dict[str, int] = {digest: row for row, digest in enumerate(index["digests"])}
        self.corrupt: dict[str, str] = index["corrupt"]
        self.enlarged: int = index["enlarged"]
        self._pixels: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}

    def images(self, rows: np.ndarray) -> Tensor:
        """Rows (B,) -> images (B, C, *S) float32 in [-1, 1]."""
        if self._pixels is None:
            self._pixels = np.memmap(self.folder / "pixels.u16", np.uint16, "r", shape=self.shape)
        return restore(self._pixels[rows])


class Pipeline(Protocol):
    """(C, H, W) in native units -> (1, *size) in [-1, 1]; `settings` is all that the result depends on besides the input."""

    size: tuple[int, ...]
    settings: Mapping[str, Any]

    def __call__(self, film: np.ndarray) -> Tensor: ...


def prepare(tasks: Iterable[Task], pipeline: Pipeline, cache_dir: Path, workers: int = 2) -> Cache:
    """The cache of these tasks under this pipeline, made now unless it is there.

    `workers` processes share the work (0: this one). It is built aside and moved into place whole: a kill or Ctrl-C leaves nothing
    that looks like a cache. Processes that want the same one wait for the first. Raises OSError when the disk has too little room.
    """
    tasks = sorted({task.digest: task for task in tasks}.values(), key=lambda task: task.digest)
    digests = [task.digest for task in tasks]
    key = hashlib.blake2b(json.dumps([pipeline.settings, digests], sort_keys=True).encode(), digest_size=10).hexdigest()
    folder = cache_dir / key
    if folder.is_dir():
        return Cache(folder)
    cache_dir.mkdir(parents=True, exist_ok=True)
    with locked(cache_dir / f"{key}.lock"):
        if not folder.is_dir():
            aside = cache_dir / f"{key}.unfinished"
            shutil.rmtree(aside, ignore_errors=True)  # a killed run's; the lock is ours, so nobody is writing it
            try:
                build(tasks, pipeline, aside, workers)
                aside.rename(folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return Cache(folder)


def build(tasks: list[Task], pipeline: Pipeline, folder: Path, workers: int) -> None:
    shape, started = (len(tasks), 1, *pipeline.size), time.monotonic()
    needed, free = 2 * int(np.prod(shape)), shutil.disk_usage(folder.parent).free
    if needed > 0.95 * free:
        raise OSError(f"the cache needs {needed / 2**30:.1f} GiB, {folder.parent} has {free / 2**30:.1f}; free some or set data.cache_dir")
    folder.mkdir()
    np.memmap(folder / "pixels.u16", np.uint16, "w+", shape=shape).flush()
    rows = Rows(tasks, pipeline, folder / "pixels.u16", shape)
    few = len(tasks) < 64  # not worth starting processes for
    workers = 0 if few else workers
    loader = DataLoader(
        rows,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        generator=torch.Generator(),  # else the loader draws from the global one
    )
    corrupt, enlarged = {}, 0
    for row, reason, small in watched(loader, len(tasks), "preparing films"):
        enlarged += small
        if reason:
            corrupt[tasks[row].digest] = reason
    index = {"shape": shape, "digests": [t.digest for t in tasks], "corrupt": corrupt, "enlarged": enlarged}
    (folder / "index.json").write_text(json.dumps(index))
    log.info("prepared %d films in %.1f s: %s", len(tasks), time.monotonic() - started, folder.with_suffix(""))


class Rows(Dataset):
    """Element i fills row i of the array on disk and tells (i, reason it is unusable or "", whether it was enlarged)."""

    def __init__(self, tasks: list[Task], pipeline: Pipeline, path: Path, shape: tuple[int, ...]) -> None:
        self.tasks, self.pipeline, self.path, self.shape = tasks, pipeline, path, shape

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, row: int) -> tuple[int, str, bool]:
        try:
            film = self.tasks[row].read()
            image = quantise(self.pipeline(film))
        except FilmError as error:
            return row, str(error), False
        offset = 2 * row * int(np.prod(self.shape[1:]))
        np.memmap(self.path, np.uint16, "r+", offset, self.shape[1:])[:] = image
        return row, "", min(film.shape[1:]) < min(self.shape[2:])


def watched(items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    """The items, under a progress bar on a terminal, after one log line elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console

        yield from track(items, what, total=total, console=Console(stderr=True), transient=True)
    else:
        log.info("%s: %d", what, total)
        yield from items


def available_cores(top: int = 8) -> int:
    """Cores this process may use, `top` at most."""
    try:
        return min(top, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS
        return min(top, os.cpu_count() or 1)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the file `path` locked; the system lets go when the process ends, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process is preparing the same films; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def content_digests(paths: list[Path], cache_dir: Path) -> list[str]:
    """blake2b of each file's bytes, 32 hex digits; remembered in `cache_dir` by (path, size, time of change), itself hashed."""
    memory = cache_dir / "digests.json"
    known: dict[str, str] = json.loads(memory.read_text()) if memory.is_file() else {}
    keys = [state(path) for path in paths]
    new = [(key, path) for key, path in zip(keys, paths, strict=True) if key not in known]
    if new:
        with ThreadPoolExecutor(4) as pool:
            hashes = pool.map(digest, [path for _, path in new])
            known |= dict(zip([key for key, _ in new], watched(hashes, len(new), "hashing films"), strict=True))
        cache_dir.mkdir(parents=True, exist_ok=True)
        aside = memory.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps(known))
        aside.replace(memory)
    return [known[key] for key in keys]


def state(path: Path) -> str:
    stat = path.stat()
    return hashlib.blake2b(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode(), digest_size=12).hexdigest()


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
