"""Reading and writing files whole."""

import csv
import hashlib
import json
import os
from pathlib import Path
from typing import Any


def read_table(path: str | Path) -> dict[str, tuple[list[float], list[float]]]:
    """Each column of a metrics.csv as (images, values), without the rows that leave it empty."""
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
    """Beside, then in place: a kill leaves the old file or the new one, never half of one."""
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(content)
    os.replace(beside, path)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Return what `write_json` wrote there; None if there is nothing, or nothing whole: it can be made anew."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def write_json(path: Path, content: Any) -> None:
    """Beside, then in place, since other ranks may be doing the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(content))
    aside.replace(path)
