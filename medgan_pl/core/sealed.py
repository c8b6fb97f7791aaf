"""Files that can be made again, and are believed only if nobody changed them: their first line is a checksum of their name and content."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from medgan_pl.core.files import write_whole

log = logging.getLogger(__name__)


def seal(path: Path, content: bytes) -> bytes:
    """Return the checksum of a file: blake2b of its name and its content, 32 hex digits."""
    return hashlib.blake2b(path.name.encode() + b"\n" + content, digest_size=16).hexdigest().encode()


def write_sealed(path: Path, content: bytes) -> None:
    """Write the content below its checksum, `atomically`. Make the folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, seal(path, content) + b"\n" + content)


def read_sealed(path: Path) -> bytes | None:
    """Return the content that `write_sealed` wrote; None if the file is missing, torn, edited, or was another file."""
    try:
        written, _, content = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return content if written == seal(path, content) else None


def remember(path: Path, content: Any) -> None:
    """Write JSON `sealed`. Warn if the file cannot be written: it saves time, and nothing needs it."""
    try:
        write_sealed(path, json.dumps(content).encode())
    except OSError as error:
        log.warning("%s cannot be written (%s): the same is found anew at each start", path, error.strerror)


def recall(path: Path) -> Any:
    """Return the content that `remember` wrote, None as in `read_sealed`."""
    content = read_sealed(path)
    return None if content is None else json.loads(content)
