"""Hashes of the contents of files, each computed once as long as the file stays the same."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medgan_pl.core.console import watched
from medgan_pl.core.sealed import recall, remember
from medgan_pl.data.files.records import Item


def content_digests(items: Sequence[Item], folder: Path) -> list[str]:
    """Return for each item the blake2b hash of its file's bytes, 32 hex digits; of several files, or one volume of a
    file that holds several, the hash of their hashes.

    The hashes are remembered in `folder` by (path, size, times of change), itself hashed.
    """
    paths = [path for item in items for path in item.paths]
    memory = folder / "digests.json"
    known: dict[str, str] = recall(memory) or {}
    keys = {path: state(path) for path in paths}
    new = [path for path in paths if keys[path] not in known]
    if new:
        with ThreadPoolExecutor(4) as pool:
            hashes = watched(pool.map(digest, new), len(new), "hashing files")
            known |= dict(zip([keys[path] for path in new], hashes, strict=True))
        remember(memory, known)
    found = []
    for item in items:
        parts = [known[keys[path]] for path in item.paths] + ([] if item.part is None else [f"volume {item.part}"])
        found.append(parts[0] if len(parts) == 1 else hashlib.blake2b(" ".join(sorted(parts)).encode(), digest_size=16).hexdigest())
    return found


def state(path: Path) -> str:
    """Return a hash of the path, size and times of change of a file.

    A tool may set the time of its content (mtime) back, and so may a clock. The time of the file's entry (ctime) moves on with every write.
    """
    stat = path.stat()
    facts = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
    return hashlib.blake2b(facts.encode(), digest_size=12).hexdigest()


def digest(path: Path) -> str:
    """Return the blake2b hash of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
