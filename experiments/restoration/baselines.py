"""Compare classical restoration with GANs: one table and one picture of the same held-out images.

  python -m experiments.restoration.baselines experiment=dehaze data.root=/data/chest_xray checkpoints=[outputs/gan/checkpoints/best.ckpt]

Takes the keys of a training run (the experiment sets the degradation, data.… the images) and those of baselines.yaml; without checkpoints
it measures the classical method alone. The sources are those of `medgan_pl.evaluate`.
"""

import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn import functional as F

from experiments.restoration.classical import Method, candidates
from medgan_pl.core.command import chosen_device, quiet_libraries
from medgan_pl.core.console import configuration_folder, describe_keys, one_message
from medgan_pl.data.build import open_data
from medgan_pl.data.pictures import to_grid
from medgan_pl.data.scale import scale_of
from medgan_pl.data.sets import ImageSet, held_out, real_set, stored
from medgan_pl.metrics.catalogue import clipped
from medgan_pl.metrics.distances import Frechet, frechet_distance
from medgan_pl.metrics.estimate import Resampling
from medgan_pl.metrics.extractors.build import build_extractors
from medgan_pl.metrics.feature_store import FeatureStore
from medgan_pl.metrics.paired import Paired, psnr
from medgan_pl.metrics.pairs import measure_pairs
from medgan_pl.metrics.result import Result
from medgan_pl.models.fits import check_fits, training_unknown_because
from medgan_pl.models.generated import translate
from medgan_pl.models.load import load

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.data.datamodule import ImageDataModule
    from medgan_pl.metrics.extractors.features import Extractor

FOLDER = Path(__file__).parent
SHOWN = ("psnr", "ssim", "mae")
Announce = Callable[[str], None]  # called with a line of text before each step


def main() -> None:
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(f"{__doc__}\n{describe_keys(FOLDER / 'baselines.yaml')}")
        return
    with one_message(None):
        compare(composed(sys.argv[1:]), lambda what: print(what, flush=True))


def composed(arguments: Sequence[str], keys: Path = FOLDER / "baselines.yaml") -> "DictConfig":
    """Return the configuration of a training run with the keys of a study's own YAML."""
    own = [f"hydra.searchpath=[file://{FOLDER.parent}]", f"+{keys.parent.name}={keys.stem}"]
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        return compose("config", overrides=[*own, *arguments], return_hydra_config=True)


def compare(config: "DictConfig", announce: Announce) -> dict[str, list[Result]]:
    """Restore, evaluate, write table.md, table.csv and pictures.png, and return the results of each method."""
    quiet_libraries()
    announce("the data")
    data = open_data(config.data)
    if data.spatial_dims != 2:
        raise ValueError(f"`image.spatial_dims` must be 2 for the classical methods, got {data.spatial_dims}; take slices of the volumes")
    rows, tuning, note = held_out(data)
    truth, notes = real_set(data, rows), [note]
    made = without_learning(data, rows, tuning, config, announce)
    for path in map(Path, config.checkpoints):
        name = path.resolve().parent.parent.name
        if name in made:
            raise ValueError(f"`checkpoints` must lie in run folders of different names, got {name} twice; each is a row of the table")
        made[name], caution = by_checkpoint(path, data, rows, config, announce)
        notes.append(caution and f"{name}: test images may have been trained on, {caution}.")
    extractors = build_extractors(config.extractor)
    evaluated = {name: judge(images, truth, data, extractors, config, announce) for name, images in made.items()}
    results = with_differences(evaluated, len(made) - len(config.checkpoints), truth.groups, config.draws)
    output = Path(config.output)
    write(output, config.hydra.runtime.choices.experiment, results, truth, [each for each in notes if each])
    pictures = torch.cat([images.first(config.pictures) for images in (*made.values(), truth)])
    to_grid(pictures, min(config.pictures, len(rows))).save(output / "pictures.png")
    announce(f"{(output / 'table.md').read_text()}\npictures.png, from above: {', '.join(made)}, truth; all in {output}")
    return results


def without_learning(
    data: "ImageDataModule", rows: np.ndarray, tuning: np.ndarray, config: "DictConfig", announce: Announce
) -> dict[str, ImageSet]:
    """Return the images made without learning: the sources themselves (each pixel repeated if the source is smaller), and the classical
    method under the settings that are best on images at `tuning`."""
    places = np.linspace(0, len(tuning) - 1, min(config.tune, len(tuning))).astype(int)
    batch = data.batch(tuning, places)
    method = best(candidates(data.degrade, data.size), batch["source"], batch["image"], announce)

    def restored(method: Method) -> ImageSet:
        return stored((method(source) for source in sources(data, rows, config.batch_size)), len(rows))

    return {"source": restored(lambda source: resized(source, data.channels, data.size)), str(method): restored(method)}


def resized(source: Tensor, channels: int, size: Sequence[int]) -> Tensor:
    """Return sources (B, C', *S') as (B, C, *S), without the channel that marks holes, each pixel repeated if the source is smaller."""
    return F.interpolate(source[:, :channels], tuple(size), mode="nearest")


def best(methods: Sequence[Method], source: Tensor, truth: Tensor, announce: Announce) -> Method:
    """Return the method with the highest mean PSNR."""
    if len(methods) == 1:
        return methods[0]
    announce(f"the best of {len(methods)} settings on {len(truth)} validation images")
    return max(methods, key=lambda method: float(psnr(method(source), truth).mean()))


def sources(data: "ImageDataModule", rows: np.ndarray, batch_size: int) -> Iterator[Tensor]:
    for places in np.split(np.arange(len(rows)), range(batch_size, len(rows), batch_size)):
        yield data.batch(rows, places)["source"]


def by_checkpoint(path: Path, data: "ImageDataModule", rows: np.ndarray, config: "DictConfig", announce: Announce) -> tuple[ImageSet, str]:
    """Return the images of the EMA generator from the sources, and why it may have been trained on them, "" if it was not.

    Raises ValueError for a generator that was trained on other sources.
    """
    module = load(path, chosen_device(config.device))
    check_fits(module, data)
    own, here = module.config["data"].get("degrade"), OmegaConf.to_container(config.data.degrade, resolve=True)
    if not module.game.paired or module.game.segments or own != here:
        raise ValueError(f"{path} must be of a generator trained on the sources of this experiment, {here}, got {own}")
    announce(f"generating {len(rows):,} images")
    made = translate(module, data, rows, seed=config.seed, batch_size=config.batch_size)
    return made, training_unknown_because(module.origin.fingerprint, data)


@dataclass(frozen=True)
class MethodResults:
    """The results of a method with the values behind them: `values` (N, keys) of each image, and for each extractor the features (N, F) of
    the method's images and of the truth."""

    results: list[Result]
    values: Tensor
    features: "list[tuple[Tensor, Tensor]]"

    def minus(self, other: "MethodResults", resampling: Resampling) -> list[Result]:
        """Return the differences to another method's numbers on the same images. Both are resampled together, so that what is hard for both
        is in neither interval."""
        of_each = (self.values - other.values).unbind(1)
        found = [
            replace(own, estimate=resampling.of_mean(v, resampling.real_groups)) for own, v in zip(self.results, of_each, strict=False)
        ]
        for own, (made, real), (others, _) in zip(self.results[len(found) :], self.features, other.features, strict=True):

            def difference(rows: Tensor, made: Tensor = made, others: Tensor = others, real: Tensor = real) -> Tensor:
                return frechet_distance(made[rows], real[rows]) - frechet_distance(others[rows], real[rows])

            found.append(replace(own, estimate=resampling.of_pairs(difference, len(real))))
        return found


def judge(
    images: ImageSet, truth: ImageSet, data: "ImageDataModule", extractors: "Sequence[Extractor]", config: "DictConfig", announce: Announce
) -> MethodResults:
    """Compare each image with its truth, and all images in each extractor's features, with intervals over patients."""
    scale = scale_of(data)
    metric = Paired(half_range=scale.half_range)
    how = {"draws": config.draws, "batch_size": config.batch_size, "inside": truth.inside}
    pairs = {each.key: each for each in measure_pairs(metric, images, truth, truth.groups, **how)}
    units = {"psnr": "dB", "mae": scale.unit}
    found = [replace(pairs[key], unit=units.get(key, "")) for key in SHOWN]
    values = metric.values.cpu()[:, [metric.keys.index(key) for key in SHOWN]]
    features = FeatureStore(data.cache_dir / "features", chosen_device(config.device), config.batch_size, announce)
    train = real_set(data, data.rows["train"])
    all_sides = []
    for extractor in extractors:
        extractor.fit(train, train.labels)
        sides = features(extractor, images, "restored images"), features(extractor, truth, "true images")
        estimate = Frechet().estimates(*sides, Resampling(config.draws, 0, truth.groups, truth.groups))["fd"]
        found.append(Result("fd", extractor.name, estimate=clipped("fd", estimate), n_fake=len(images), n_real=len(truth)))
        all_sides.append(sides)
    return MethodResults(found, values, all_sides)


def with_differences(evaluated: Mapping[str, MethodResults], first: int, groups: Tensor | None, draws: int) -> dict[str, list[Result]]:
    """Return the results of each method, and the differences between each two of the trained methods, those from place `first` on."""
    trained, resampling = list(evaluated)[first:], Resampling(draws, 0, groups, groups)
    found = {name: own.results for name, own in evaluated.items()}
    pairs = combinations(trained, 2)
    return found | {f"{one} - {other}": evaluated[one].minus(evaluated[other], resampling) for one, other in pairs}


def write(folder: Path, experiment: str, results: Mapping[str, list[Result]], truth: ImageSet, notes: Sequence[str]) -> None:
    """Write table.md for readers and table.csv for programs."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = [result.name for result in next(iter(results.values()))]
    with (folder / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            ["experiment", "method", "images", "patients", *(column for key in keys for column in (key, f"{key}_low", f"{key}_high"))]
        )
        for name, found in results.items():
            ends = [getattr(each.estimate, end, "") for each in found for end in ("value", "low", "high")]
            table.writerow([experiment, name, len(truth), truth.patients, *(f"{end:.6g}" if end != "" else "" for end in ends)])
    heads = [f"{result.name}, {result.unit}" if result.unit else result.name for result in next(iter(results.values()))]
    lines = [f"| {experiment} | {' | '.join(heads)} |", f"|---|{'---|' * len(keys)}"]
    for name, found in results.items():
        cells = [f"{e.value:.4g} ({e.low:.4g} to {e.high:.4g})" if (e := each.estimate) else each.undefined for each in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"{len(truth):,} test images of {truth.patients:,} patients, with 95 % intervals over patients.", *notes]
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
