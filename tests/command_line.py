"""What the tests of the command line share: a tiny run, real processes, and what a run wrote."""

import csv
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

TINY = (
    "data.size=16",
    "data.cohort.patients=60",
    "data.batch_size=8",
    "model.width=4",
    "model.latent=8",
    "metrics.random.extractor.width=4",
    "total_images=64",
    "log_every=16",
    "validate_every=32",
    "callbacks.samples.n=9",
    "trainer=cpu",
)


def command(module: str, *arguments: str, code: int = 0, seconds: float = 240) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", f"medgan_pl.{module}", *arguments], capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def picture(path: Path) -> Image.Image:
    """An image read whole, its file closed."""
    with Image.open(path) as file:
        return file.copy()


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of an offline run file: a LevelDB log (blocks of 32 KiB; checksum, length, type before each piece) behind 7 bytes."""
    assert data[:4] == b":W&B"
    place, record = 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))
