"""Measure the loader against usual loaders, and against the training step that waits for it.

`python -m benchmarks.data [volumes=16] [slices=64] [size=256] [patch=32] [rounds=7] [seconds=0.4]`

`volumes` chest CTs of the embedded cohort, `slices` × `size` × `size` voxels, are written as int16 .nii.gz to a temporary folder. Each
loader then makes batches of 16 float32 images in [-1, 1] of them: MONAI's transforms on the files, its PersistentDataset and CacheDataset
under its own DataLoader, a bare NumPy gather from memory as the limit, and ours under the real DataLoader. Turns of `seconds` alternate in
one process; the table shows medians over `rounds` turns, and of the ratios in each round.
Memory: anonymous pages (RssAnon), each loader alone in a process of its own. Wait: the share of a turn (next batch, training step) before
the batch is ready. Two to three minutes.
"""

import logging
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from monai import transforms as mt
from monai.data import CacheDataset, DataLoader, PersistentDataset
from omegaconf import OmegaConf
from torch.utils.data import Dataset, RandomSampler

from medgan_pl.core.batch import Batch
from medgan_pl.core.console import configuration_folder
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.modalities import CT
from medgan_pl.data.phantom import draw_patient
from medgan_pl.data.randomize import Randomize
from medgan_pl.models.build import build_module
from medgan_pl.models.networks.layers import frozen

# MONAI's warnings about optional readers that are not installed.
warnings.simplefilter("ignore")
logging.getLogger("monai").setLevel(logging.ERROR)

Files = list[dict[str, str]]  # as MONAI lists them: {"image": path}
BATCH = 16
PLAIN = mt.EnsureTyped("image", track_meta=False)  # each operation on a MetaTensor costs more than its work on a small tensor
SLICES_FIRST = mt.Transposed("image", (0, 3, 1, 2))
ONE, ALL = "MONAI, .nii.gz read for each slice", "MONAI, .nii.gz read once for all its slices"
USUAL = "MONAI, the same, oriented and spaced"
CACHED, KIND = "CacheDataset, slice axis last", "CacheDataset, no copy, no MetaTensor"
CROPPED, KIND_CROPPED = "CacheDataset + RandSpatialCropd", "CacheDataset + RandSpatialCropd, no copy"
BARE, OURS = "bare NumPy gather of float32 in memory", "medgan_pl, no workers"
TARGETS = {ONE: 200, USUAL: 200, ALL: 200, CACHED: 15, KIND: 15, BARE: 0.5, CROPPED: 3, KIND_CROPPED: 3}


def reading(*more: Any) -> mt.Compose:
    """Return MONAI's usual chain, and `more`."""
    scaled = mt.ScaleIntensityRanged("image", -1000, 400, -1, 1, clip=True)
    return mt.Compose([mt.LoadImaged("image"), mt.EnsureChannelFirstd("image"), scaled, *more])


def on_a_grid(size: int) -> tuple[Any, ...]:
    """Return the usual transforms: oriented, resampled in plane (the cohort's field is 400 mm wide) and cropped to `size`."""
    spaced = mt.Spacingd("image", (0.96 * 400 / size, 0.96 * 400 / size, -1))
    return mt.Orientationd("image", "LPS", labels=None), spaced, mt.ResizeWithPadOrCropd("image", (size, size, -1))


class RandomSlice(mt.RandomizableTransform):
    """Takes a random slice of {"image": (1, *S)} along `axis`, without the cost of RandSpatialCropd."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        volume = item["image"]
        return {"image": volume.select(self.axis, self.R.randint(volume.shape[self.axis]))}


class SliceOf(mt.Transform):
    """Maps {"image": file, "slice": k} to slice k; keeps the last volume, otherwise filling a PersistentDataset would take minutes."""

    def __init__(self) -> None:
        read = reading()
        self.volume = lru_cache(1)(lambda file: read({"image": file})["image"])

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        return {"image": self.volume(item["image"])[..., item["slice"]].contiguous()}


def write_volumes(folder: Path, count: int, shape: tuple[int, int, int]) -> Files:
    """Write `count` volumes to train/ and the minimum to val/, and return MONAI's list of train/."""
    for split, index in [("train", i) for i in range(count)] + [("val", count)]:
        scan = CT().simulate(draw_patient(0, index), shape)
        stored = nib.Nifti1Image(scan.pixels.T.round().astype(np.int16), scan.affine[:, [2, 1, 0, 3]])  # axes as NIfTI has them
        (folder / split).mkdir(exist_ok=True, parents=True)
        nib.save(stored, folder / split / f"{index:03}.nii.gz")
    return [{"image": str(file)} for file in sorted((folder / "train").iterdir())]


def configured(folder: Path, *overrides: str) -> tuple[ImageDataModule, dict[str, Any]]:
    """Return the data module of the project's own configuration, set up, and the configuration."""
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        chosen = compose("config", overrides=["run_dir=unused", f"data.cache.dir='{folder}/cache'", *overrides])
    config = OmegaConf.to_container(chosen, resolve=True)
    data = instantiate(config["data"], _convert_="all")
    data.setup()
    return data, config


def of_volumes(folder: Path, *overrides: str) -> tuple[ImageDataModule, dict[str, Any]]:
    return configured(folder, "data=ct", f"data.root='{folder}/volumes'", "data.split=folders", "data.slices.foreground=0", *overrides)


def ours(folder: Path, *overrides: str) -> Iterator[Batch]:
    return iter(of_volumes(folder, *overrides)[0].endless_loader())


def monai(dataset: Dataset) -> Iterator[Batch]:
    """Yield shuffled batches without end, so that the start of an epoch costs nothing."""
    return iter(DataLoader(dataset, batch_size=BATCH, sampler=RandomSampler(dataset, replacement=True, num_samples=10**9)))


def cached(files: Files, *transforms: Any, copy_cache: bool = True) -> Iterator[Batch]:
    return monai(CacheDataset(files, reading(*transforms), num_workers=1, progress=False, copy_cache=copy_cache))


def from_files(files: Files, whole: bool, *more: Any) -> Iterator[Batch]:
    """Yield one random slice of each volume read, or all of them; `more` of MONAI's chain."""
    read, rng = reading(*more), np.random.default_rng(0)
    for file in cycle(files):
        volume = read(file)["image"].permute(3, 0, 1, 2)
        yield {"image": (volume if whole else volume[[rng.integers(len(volume))]]).contiguous()}


def gathered(images: np.ndarray) -> Iterator[Batch]:
    rng = np.random.default_rng(0)
    while True:
        yield {"image": torch.from_numpy(images[rng.integers(len(images), size=BATCH)])}


def ways_2d(folder: Path, files: Files, slices: int, size: int) -> dict[str, Iterator[Batch]]:
    side, augment = f"data.size={size}", Randomize(scale=0.1, rotate_deg=5.0, shift=0.05, noise=0.02)
    data, _ = of_volumes(folder, side)
    images = data.gather(data.rows["train"], data.rows["train"]).numpy()
    each = [{**file, "slice": k} for file in files for k in range(slices)]
    persistent = PersistentDataset(each, SliceOf(), cache_dir=folder / "persistent")
    for index in range(len(persistent)):
        persistent[index]
    return {
        ONE: from_files(files, whole=False),
        ALL: from_files(files, whole=True),
        USUAL: from_files(files, True, *on_a_grid(size)),
        "PersistentDataset, a .pt for each slice": monai(persistent),
        CACHED: cached(files, RandomSlice(-1)),
        KIND: cached(files, PLAIN, RandomSlice(-1), copy_cache=False),
        "CacheDataset, no copy, slice axis first": cached(files, SLICES_FIRST, PLAIN, RandomSlice(1), copy_cache=False),
        BARE: gathered(images),
        OURS: ours(folder, side),
        "medgan_pl, 2 workers": ours(folder, side, "data.workers=2"),
        "medgan_pl, no workers, augmented": ({"image": augment(batch["image"])} for batch in ours(folder, side)),
    }


def ways_3d(folder: Path, files: Files, patch: int) -> dict[str, Iterator[Batch]]:
    crop = mt.RandSpatialCropd("image", (patch,) * 3, random_size=False)
    return {
        CROPPED: cached(files, crop),
        KIND_CROPPED: cached(files, PLAIN, crop, copy_cache=False),
        OURS: ours(folder, "image.spatial_dims=3", f"data.size={patch}", "data.patches=64"),
    }


def speed(batches: Iterator[Batch], shape: tuple[int, ...], seconds: float) -> float:
    """Return images per second over at least `seconds`; each must be a float32 (1, *shape)."""
    start, images = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds or not images:
        image = next(batches)["image"]
        if (image.dtype, *image.shape[1:]) != (torch.float32, 1, *shape):
            raise RuntimeError(f"every loader must make float32 images of {shape}, got {image.dtype} of {tuple(image.shape)}")
        images += len(image)
    return images / passed


def compare(title: str, ways: dict[str, Iterator[Batch]], shape: tuple[int, ...], rounds: int, seconds: float) -> None:
    """Print for each loader its speed, how many times as fast ours is, and the target for that ratio."""
    speeds = {name: np.empty(rounds + 1) for name in ways}
    for turn in range(rounds + 1):  # the first, of one batch, warms up
        for name, batches in ways.items():
            speeds[name][turn] = speed(batches, shape, seconds if turn else 0)
    print(f"\n{title:<50}{'images/s':>10}   ours is")
    for name, values in speeds.items():
        ratio = np.median(speeds[OURS][1:] / values[1:])
        target = f"   target {TARGETS[name]:g} x" if name in TARGETS else ""
        print(f"{name:<50}{np.median(values[1:]):>10,.0f}{ratio:>10,.1f} x{target}", flush=True)


def resident_mib() -> dict[str, float]:
    status = Path("/proc/self/status").read_text()
    return {name: int(kib) / 1024 for name, kib in re.findall(r"(RssAnon|RssFile):\s+(\d+)", status)}


def growth_mib(build: Callable[..., Iterator[Batch]], *arguments: Any, **options: Any) -> dict[str, float]:
    """Return the memory that building a loader and drawing 64 batches add to this process."""
    before, batches = resident_mib(), build(*arguments, **options)
    for _ in islice(batches, 64):
        pass
    return {name: mib - before[name] for name, mib in resident_mib().items()}


def memory(folder: Path, files: Files, size: int) -> None:
    print(f"\n{'memory of the loaders of slices':<50}{'anonymous':>14}   pages of files, which the system may drop")
    for name, work in {
        CACHED: partial(growth_mib, cached, files, RandomSlice(-1)),
        KIND: partial(growth_mib, cached, files, PLAIN, RandomSlice(-1), copy_cache=False),
        OURS: partial(growth_mib, ours, folder, f"data.size={size}"),
    }.items():
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            grown = pool.submit(work).result()
        target = "   target: a tenth of CacheDataset's" if name == OURS else ""
        print(f"{name:<50}{grown['RssAnon']:>10.0f} MiB{grown['RssFile']:>8.0f} MiB{target}")


def stepper(config: dict[str, Any]) -> Callable[[Batch], None]:
    """Return a bare step of the configured game: D, then G through the frozen D; without logging and EMA, so faster than a real step."""
    module = build_module(config)
    optimizer_g, optimizer_d = module.configure_optimizers()

    def step(batch: Batch) -> None:
        drawn = module.game.draw({"image": batch["image"]})
        fake = module.game.generate(module.networks["g"], drawn)
        module.game.discriminator_losses(module.networks["d"], drawn, fake.detach(), 1).total.backward()
        optimizer_d.step()
        optimizer_d.zero_grad()
        with frozen(module.networks["d"]):
            module.game.generator_losses(module.networks["d"], drawn, fake).total.backward()
        optimizer_g.step()
        optimizer_g.zero_grad()

    return step


def wait(title: str, data: ImageDataModule, config: dict[str, Any], turns: int) -> None:
    batches, step = iter(data.endless_loader()), stepper(config)
    times = np.empty((turns + 1, 2))  # s; waiting, stepping
    for turn in range(turns + 1):
        start = time.perf_counter()
        batch = next(batches)
        came = time.perf_counter()
        step(batch)
        times[turn] = came - start, time.perf_counter() - came
    waited, stepped = np.median(times[1:], axis=0)
    share = np.median(times[1:, 0] / times[1:].sum(axis=1))
    print(f"{title:<50}{1000 * waited:>8.2f} ms {1000 * stepped:>8,.0f} ms {100 * share:>8.2f} %")


def measure(folder: Path, volumes: int, slices: int, size: int, patch: int, rounds: int, seconds: float) -> None:
    files = write_volumes(folder / "volumes", volumes, (slices, size, size))
    compare(f"slices of {size}²", ways_2d(folder, files, slices, size), (size, size), rounds, seconds)
    compare(f"patches of {patch}³", ways_3d(folder, files, patch), (patch,) * 3, rounds, seconds)
    memory(folder, files, size)
    print(f"\n{'the default model, batches of 16':<50}{'wait':>11}{'step':>12}{'of both':>11}   target: at most 2 %")
    wait("films of 64²", *configured(folder, "data.cohort.patients=200"), rounds)
    wait("patches of 32³", *of_volumes(folder, "image.spatial_dims=3", "data.size=32", "data.patches=64"), rounds)


def main() -> None:
    options = {"volumes": 16, "slices": 64, "size": 256, "patch": 32, "rounds": 7, "seconds": 0.4}
    for argument in sys.argv[1:]:
        key, _, value = argument.partition("=")
        if key not in options:
            sys.exit(__doc__)
        options[key] = type(options[key])(value)
    torch.set_flush_denormal(True)
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), **options)


if __name__ == "__main__":
    main()
