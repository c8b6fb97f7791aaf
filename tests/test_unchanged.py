"""Compare trainings, samples, evaluations and applications with hashes that were recorded before the package was rebuilt, bit by bit.

The test runs the package by its command line only, so that a new structure of the Python code does not matter. As a script it works on
the code in any folder:

    python tests/test_unchanged.py check FOLDER [ITEM …]    prints what differs and exits with 1 if anything does
    python tests/test_unchanged.py record FOLDER            writes unchanged.json

The numbers depend on torch and on the instructions of the processor. With others than those recorded the test is skipped. To move to a new
torch, check the last commit under the old one, then record under the new one.
"""

import csv
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from data.dicom_files import write_series
from PIL import Image
from pydicom import dcmread

RECORD = Path(__file__).with_name("unchanged.json")

# Names that were changed on purpose since the recording: a regular expression, and what replaces it in each recorded key.
RENAMED: dict[str, str] = {}

LOOKS = ("seed=3", "log_every=16", "callbacks.samples.n=8", "trainer=cpu", "logger=csv", "model.width=4")
RANDOM = "metrics.random.extractor.width=4"
STEPS = (*LOOKS, "data.size=16", "data.batch_size=4", "total_images=80", "validate_every=40")
FILMS = (*STEPS, RANDOM, "model.latent=8", "data.cohort.patients=40")
CHESTS = (*STEPS, RANDOM, "data=ct", "data.cohort.patients=20")


def heads(batch_size: int, *domains: str) -> tuple[str, ...]:
    """Return the settings of 20 steps with small heads in each of the domains."""
    cohorts = [f"data.domains.{name}.{key}" for name in domains for key in ("cohort.patients=30", "cohort.shape=[16,24,24]")]
    images = (f"data.batch_size={batch_size}", f"total_images={20 * batch_size}", f"validate_every={10 * batch_size}")
    return (*LOOKS, RANDOM, "data.size=24", *images, *cohorts)


TRAININGS = {
    "resnet_gan": ("model=resnet_gan", *FILMS),
    "resnet_hybrid": ("model=resnet_hybrid", "model.classes=4", "model.covariates=[age,sex]", *FILMS),
    "stylegan2": ("model=stylegan2", "model.generator.mapping_layers=2", *FILMS),
    "r3gan": ("model=r3gan", "model.group_width=4", *FILMS),
    "hagan": ("model=hagan", "image.spatial_dims=3", "model.slabs=4", "model.latent=8", "data.cohort.shape=[16,16,16]", *CHESTS),
    "unet_gan": (
        *("experiment=dehaze", "intensity@data.intensity=window", "data.cohort.shape=[12,24,24]", *CHESTS),
        *("model.generator.levels=2", "model.discriminator.layers=1"),
    ),
    "cycle_gan": (
        *("experiment=unpaired_ct_mr", *heads(4, "mr", "ct")),
        *("model.patches.layers=1", "model.translator.blocks=1", "game.pool=8"),
    ),
    "star_gan": ("experiment=star_mr", "model.generator.residual=false", "model.latent=8", "model.style=8", *heads(6, "t1", "t2", "flair")),
}
DRAWN = {"resnet_gan": "png16", "resnet_hybrid": "png16", "stylegan2": "png16", "r3gan": "png16", "hagan": "nifti"}
EVALUATED = {
    "resnet_hybrid": ("groups=[fidelity,use,privacy]", "use.seeds=2", "use.steps=10", "use.width=4", "extractor=[random,radiomics]"),
    "unet_gan": ("groups=[fidelity,paired]", "extractor=radiomics"),
}
APPLIED = {"windows": ("window=16", "overlap=0.25", "force=true"), "resampled": ("resample=true", "coarser=true")}
ITEMS = (*TRAININGS, "evaluate", "apply")

Found = dict[str, Any]


@dataclass
class House:
    """The code below `code`, run in the empty folder `place`; each run is trained once."""

    code: Path
    place: Path
    runs: dict[str, Path] = field(default_factory=dict)

    def call(self, verb: str, *arguments: str) -> None:
        """Run `python -m medgan_pl.<verb>` in one thread. Raise RuntimeError with what it printed if it fails."""
        own = {"PYTHONPATH": str(self.code), "MEDGAN_CACHE": str(self.place / "cache"), "WANDB_MODE": "disabled"}
        own |= {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
        own |= {"MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(self.place / "mpl")), "CUDA_VISIBLE_DEVICES": ""}
        words = [sys.executable, "-m", f"medgan_pl.{verb}", *arguments]
        done = subprocess.run(words, cwd=self.place, env=os.environ | own, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words[1:])} exits with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")

    def trained(self, name: str) -> Path:
        """Return the folder of the run `name`, which is trained if it is not yet there."""
        if name not in self.runs:
            self.call("train", *TRAININGS[name], f"hydra.run.dir={self.place / name}")
            self.runs[name] = self.place / name
        return self.runs[name]

    def checkpoint(self, name: str) -> Path:
        return self.trained(name) / "checkpoints" / "last.ckpt"

    def find(self, item: str) -> Found:
        """Return the hashes and numbers of one of ITEMS."""
        return {"evaluate": evaluation, "apply": application}[item](self) if item in ("evaluate", "apply") else training(self, item)


def training(house: House, name: str) -> Found:
    """Return the hashes of a run: weights and optimizer states, metrics.csv, its samples, and 8 images drawn from it if it draws."""
    run = house.trained(name)
    found = state(house.checkpoint(name)) | columns(run / "metrics.csv")
    for path in sorted((run / "samples").glob("*.png")):
        found[f"samples {path.name}"] = digest(pixels(path))
    if name in DRAWN:
        output = house.place / f"{name}_drawn"
        wanted = ("n=8", "seed=3", f"format={DRAWN[name]}", "device=cpu")
        house.call("sample", f"checkpoint={house.checkpoint(name)}", *wanted, f"output={output}")
        images = {path.name: pixels(path) for path in sorted(output.iterdir()) if re.fullmatch(r"\d+\.(png|nii\.gz)", path.name)}
        found |= {f"drawn {key}": digest(values) for key, values in images.items()}
    return found


def state(path: Path) -> Found:
    """Return one hash for each shape: that of the set of all weights and optimizer states of this shape.

    Names and places in the file do not count, nor how often a tensor is there: a second reference to the same weights changes nothing.
    Tensors without a dimension are left out, as they are counters.
    """
    hashes: dict[str, set[str]] = defaultdict(set)
    for tensor in tensors(torch.load(path, weights_only=True, map_location="cpu")):
        if tensor.ndim:
            hashes[f"state {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"].add(digest(tensor.contiguous().numpy()))
    return {shape: hashlib.sha256(" ".join(sorted(each)).encode()).hexdigest()[:16] for shape, each in sorted(hashes.items())}


def tensors(node: Any) -> Iterator[torch.Tensor]:
    """Yield every tensor below `node`."""
    if isinstance(node, torch.Tensor):
        yield node
    elif isinstance(node, dict | list | tuple):
        for each in node.values() if isinstance(node, dict) else node:
            yield from tensors(each)


def columns(path: Path) -> Found:
    """Return one hash for each column of a metrics.csv; an empty field counts as not a number."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {f"metrics.csv {name}": digest(np.array([float(row[name] or "nan") for row in rows])) for name in rows[0]}


def pixels(path: Path) -> np.ndarray:
    """Return the decoded pixels of a PNG, or the voxels of a NIfTI file."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            return np.array(image)
    return np.asanyarray(nibabel.load(path).dataobj)


def digest(values: np.ndarray) -> str:
    """Return a hash of type, shape and values."""
    values = np.ascontiguousarray(values)
    return hashlib.sha256(f"{values.dtype.str} {values.shape} ".encode() + values.tobytes()).hexdigest()[:16]


# Evaluation ---------------------------------------------------------------------------------------------------------------------------


def evaluation(house: House) -> Found:
    """Return all numbers of the metrics.json of each judged run."""
    found: Found = {}
    for name, settings in EVALUATED.items():
        output = house.place / f"{name}_report"
        common = ("n=24", "draws=20", "pairs=2", "seed=3", "batch_size=16", "device=cpu", "wandb=disabled", f"output={output}")
        house.call("evaluate", f"checkpoint={house.checkpoint(name)}", *common, *settings)
        found |= dict(numbers(json.loads((output / "metrics.json").read_text()), name))
    return found


LEFT_OUT = {"created", "format", "version", "subject", "settings", "run"}  # no results: times, paths, versions, configurations


def numbers(node: Any, place: str) -> Iterator[tuple[str, float | int]]:
    """Yield the dotted place of each number and the number; rows are counted by their name."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key not in LEFT_OUT:
                yield from numbers(value, f"{place}.{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            name = value.get("name", number) if isinstance(value, dict) else number
            yield from numbers(value, f"{place}.{name}")
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield place, node


# Application --------------------------------------------------------------------------------------------------------------------------

HEADERS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope", "RescaleIntercept")


def application(house: House) -> Found:
    """Return the hashes of what `apply` makes of a DICOM series and of an oblique NIfTI file: values and geometry."""
    source = house.place / "scans"
    if not source.exists():
        volume = np.random.default_rng(3).integers(-1000, 400, (3, 36, 40)).astype(np.int16)
        write_series(source / "series", volume, spacing_mm=(2.5, 0.8, 0.5))
        turn = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]]) @ [[1.0, 0.0, 0.0], [0.0, 0.8, -0.6], [0.0, 0.6, 0.8]]
        affine = np.diag([0.0, 0.0, 0.0, 1.0])
        affine[:3, :3], affine[:3, 3] = turn * [-0.5, 0.8, 3.0], (31.5, -20.25, 70.125)
        nibabel.Nifti1Image(volume.transpose(2, 1, 0), affine).to_filename(source / "ct.nii.gz")
    found: Found = {}
    for name, settings in APPLIED.items():
        output = house.place / f"applied_{name}"
        where = (f"checkpoint={house.checkpoint('unet_gan')}", f"input={source}", f"output={output}")
        house.call("apply", *where, "device=cpu", "seed=3", *settings)
        nifti = nibabel.load(output / "ct.nii.gz")
        found |= {f"{name} nifti voxels": digest(pixels(output / "ct.nii.gz")), f"{name} nifti affine": digest(nifti.affine)}
        slices = sorted((dcmread(path) for path in output.rglob("*.dcm")), key=lambda each: float(each.ImagePositionPatient[2]))
        found[f"{name} dicom pixels"] = digest(np.stack([each.pixel_array for each in slices]))
        for key in HEADERS:
            found[f"{name} dicom {key}"] = digest(np.array([each[key].value for each in slices], float))
    return found


# Comparison ---------------------------------------------------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Return what the numbers depend on beside the code."""
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {"torch": torch.__version__, "cpu": cpu, "numpy": np.__version__}


def differences(recorded: Found, found: Found) -> list[str]:
    """Return a line for each recorded key that is missing, for each that has another value, and for each key that is new."""
    for old, new in RENAMED.items():
        recorded = {re.sub(old, new, key): value for key, value in recorded.items()}
    changed = [key for key in recorded if key in found and not same(recorded[key], found[key])]
    lines = [f"{key}: {recorded[key]} recorded, {found[key]} found" for key in changed]
    new = {key: value for key, value in found.items() if key not in recorded}
    for key, value in recorded.items():
        if key not in found:
            alike = [other for other, found_value in new.items() if same(found_value, value)]
            lines.append(f"{key}: missing" + (f"; the same value is found as {', '.join(alike[:3])}" if alike else ""))
    return [*lines, *(f"{key}: new, not recorded" for key in new)]


def same(a: Any, b: Any) -> bool:
    return repr(a) == repr(b)  # a number that is not finite equals itself, and no last digit is lost


def other_machine(recorded: dict[str, str]) -> str:
    """Return why the recorded numbers cannot be expected here, or an empty string."""
    here = versions()
    return "; ".join(f"recorded with {key} {recorded[key]}, here {here[key]}" for key in ("torch", "cpu") if recorded[key] != here[key])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(RECORD.parents[1], tmp_path_factory.mktemp("unchanged"))


@pytest.mark.slow
@pytest.mark.parametrize("item", ITEMS)
def test_no_number_has_changed(item: str, house: House) -> None:
    record = json.loads(RECORD.read_text())
    if why := other_machine(record["versions"]):
        pytest.skip(why)
    assert not differences(record["items"][item], house.find(item))


# Script -------------------------------------------------------------------------------------------------------------------------------


def record(house: House, items: tuple[str, ...]) -> int:
    found = {item: house.find(item) for item in items}
    RECORD.write_text(json.dumps({"versions": versions(), "items": found}, indent=1) + "\n")
    return 0


def check(house: House, items: tuple[str, ...]) -> int:
    recorded = json.loads(RECORD.read_text())
    if why := other_machine(recorded["versions"]):
        print(f"note: {why}")
    differ = 0
    for item in items:
        lines = differences(recorded["items"][item], house.find(item))
        differ += bool(lines)
        print(f"{item}: {f'{len(lines)} differ' if lines else 'the same'}", *lines, sep="\n  ", flush=True)
    return int(bool(differ))


def main(arguments: list[str]) -> int:
    works: dict[str, Callable[[House, tuple[str, ...]], int]] = {"record": record, "check": check}
    if len(arguments) < 2 or arguments[0] not in works or set(arguments[2:]) - set(ITEMS) or (arguments[0] == "record" and arguments[2:]):
        print(f"{__doc__}\nItems: {', '.join(ITEMS)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as place:
        house = House(Path(arguments[1]).resolve(), Path(place).resolve())
        return works[arguments[0]](house, tuple(arguments[2:]) or ITEMS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
