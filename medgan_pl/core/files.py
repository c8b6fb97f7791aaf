"""Read files, and write them atomically."""

import csv
import hashlib
import json
import os
from pathlib import Path
from typing import Any


def read_table(path: str | Path) -> dict[str, tuple[list[float], list[float]]]:
    """Return each column of a metrics.csv as (images, values), without empty rows."""
    columns: dict[str, tuple[list[float], list[float]]] = {}
    with Path(path).open(newline="") as file:
        for row in csv.DictReader(file):
            for key, value in row.items():
                if value:
                    images, values = columns.setdefault(key, ([], []))
                    images.append(float(row["images"]))
                    values.append(float(value))
    return columns


def write_whole(path: Path, content: bytes) -> None:
    """Write to a temporary file, then rename it: after a kill there is the old file or the new one, never a part of it."""
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(content)
    os.replace(beside, path)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Return the content that `write_json` wrote; None if the file is missing or incomplete: it can be made again."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def write_json(path: Path, content: Any) -> None:
    """Write to a temporary file, then rename it, since other ranks may do the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(content))
    aside.replace(path)
