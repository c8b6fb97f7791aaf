"""The origin of a generated image, the meaning of its numbers, and the JSON sidecar that states both and shows that it is done."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgan_pl.core.files import sha256, write_whole
from medgan_pl.core.version import __version__
from medgan_pl.core.visible import as_json
from medgan_pl.data.readers.scan import Scan


@dataclass(frozen=True)
class Provenance:
    """The model, the checkpoint and the settings that made a set of images.

    - `model`: its name in the configuration; `config`: the whole configuration, in plain containers.
    - `checkpoint_sha256`: 64 hexadecimal digits; `images_seen`: real images shown to it in training; `created`: ISO 8601.
    """

    model: str
    checkpoint_sha256: str
    seed: int
    images_seen: int
    created: str
    config: dict[str, Any]
    version: str = __version__


@dataclass(frozen=True)
class Facts:
    """The facts of one generated image.

    - `index`: its number for the seed. `unit`: of its values (HU, signal, levels). `low`, `high`: the values of the generator's -1 and 1.
    - `spacing_mm`: along each axis of the array, None if unknown. `label`: the requested class.
    - `covariates`: the requested or drawn patient features, by name, in natural units.

    Raise ValueError unless low lies below high and both are finite.
    """

    index: int
    unit: str
    low: float
    high: float
    spacing_mm: tuple[float, ...] | None = None
    label: str | None = None
    covariates: dict[str, float | str] | None = None

    def __post_init__(self) -> None:
        ordered(self.low, self.high)


def ordered(low: float, high: float) -> None:
    """Raise ValueError unless low and high are finite, low below high."""
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"`low` must lie below `high`, both finite, got {low:g} and {high:g}")


def finite(values: np.ndarray) -> np.ndarray:
    """Return an image (H, W) or (D, H, W) as float64. Raise ValueError for another number of axes, no voxels, NaN or infinity."""
    image = np.asarray(values, np.float64)
    if image.ndim not in (2, 3) or not image.size:
        raise ValueError(f"an image must be (H, W) or (D, H, W) and not empty, got {image.shape}; remove the batch and channel axes first")
    bad = int((~np.isfinite(image)).sum())
    if bad:
        raise ValueError(f"every value must be finite, got {bad} NaN or infinite of {image.size}; the generator has diverged")
    return image


def whole_int16(volume: np.ndarray) -> np.ndarray:
    """Return the volume rounded to whole units, at most 0.5 off. Raise ValueError for values beyond -32768 … 32767."""
    rounded = np.rint(volume)
    if rounded.min() < -32768 or rounded.max() > 32767:
        raise ValueError(
            f"int16 holds -32768 to 32767, got {rounded.min():g} to {rounded.max():g}; are these HU? If not, write float32 NIfTI"
        )
    return rounded.astype(np.int16)


def write_sidecar(path: Path, provenance: Provenance, facts: Facts) -> Path:
    """Write `<name>.json` next to the image at `path`, an existing file or folder of slices, and return its path.

    The whole name is kept (`000001.nii.gz.json`), so that an image in two formats has two sidecars. The SHA-256 is that of the file, for a
    folder those of all its files: it shows which image a sidecar belongs to. Raise TypeError if JSON cannot hold `config`.
    """
    return write_beside(path, {"synthetic": True, "generator": "medgan_pl", **sums_of(path), **asdict(facts), **asdict(provenance)})


def write_beside(path: Path, content: dict[str, Any]) -> Path:
    """Write `<name>.json`, completely or not at all. Raise TypeError if JSON cannot hold `content`."""
    sidecar = path.with_name(path.name + ".json")
    write_whole(sidecar, (as_json(content) + "\n").encode())
    return sidecar


def sums_of(path: Path) -> dict[str, Any]:
    """Return the checksums that a sidecar states for its file or its folder of slices."""
    return {"file": path.name, "file_sha256": sha256(path)} if path.is_file() else {"folder": path.name, "files_sha256": sums_in(path)}


def digest(groups: Sequence[Sequence[Path]]) -> str:
    """Return the SHA-256 of the content of groups of files, in order: the files of a scan, and those of its mask."""
    return hashlib.sha256(json.dumps([[sha256(path) for path in paths] for paths in groups]).encode()).hexdigest()


def digest_of_values(scans: Sequence[Scan]) -> str:
    """Return the SHA-256 of the values and places of scans. Unlike `digest` it depends on nothing else that stands in their files."""
    sums = hashlib.sha256()
    for scan in scans:
        sums.update(json.dumps([scan.pixels.shape, scan.spacing_mm, None if scan.affine is None else scan.affine.tolist()]).encode())
        sums.update(np.ascontiguousarray(scan.pixels).tobytes())
        sums.update(b"" if scan.padding is None else scan.padding.tobytes())
    return sums.hexdigest()


def sums_in(folder: Path) -> dict[str, str]:
    return {file.name: sha256(file) for file in sorted(folder.iterdir())}


def is_done(target: Path, origin: dict[str, Any]) -> bool:
    """Return True if a sidecar of this name, with any ending, has this origin, and its file is unchanged."""
    for ending in ("", ".nii.gz", ".dcm", ".png", ".tif"):
        path = target.with_name(target.name + ending)
        sidecar = path.with_name(path.name + ".json")
        try:
            known = json.loads(sidecar.read_text(encoding="utf-8")) | {}
            if all(known.get(key) == value for key, value in (origin | sums_of(path)).items()):
                return True
        except (OSError, ValueError, TypeError):  # no sidecar, or one of another kind
            continue
    return False
