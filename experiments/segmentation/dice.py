"""Measure the gain of an adversary in segmentation: Dice of the same test patients with and without it, and the difference.

  python -m experiments.segmentation.dice data.root=… data.beside.mask.root=… adversarial=[run_a/checkpoints/best.ckpt] alone=[…]

Takes the keys of a training run of study.yaml (data.… sets the patients) and those of dice.yaml. Several checkpoints a side are seeds: each
is a row, then their mean over checkpoints for each image, and the difference between the sides.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from experiments.restoration.baselines import Announce, MethodResults, composed, with_differences, write
from medgan_pl.core.command import chosen_device, quiet_libraries
from medgan_pl.core.console import describe_keys, one_message
from medgan_pl.data.build import open_data
from medgan_pl.data.sets import held_out, real_set
from medgan_pl.metrics.estimate import Resampling
from medgan_pl.metrics.paired import Segments
from medgan_pl.metrics.pairs import measure_pairs
from medgan_pl.metrics.result import Result
from medgan_pl.models.fits import check_fits, training_unknown_because
from medgan_pl.models.generated import translate, true_targets
from medgan_pl.models.load import load

if TYPE_CHECKING:
    import numpy as np
    from omegaconf import DictConfig
    from torch import Tensor

    from medgan_pl.data.datamodule import ImageDataModule

KEYS = Path(__file__).parent / "dice.yaml"
SIDES = ("adversarial", "alone")


def main() -> None:
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(f"{__doc__}\n{describe_keys(KEYS)}")
        return
    with one_message(None):
        compare(composed(sys.argv[1:], KEYS), lambda what: print(what, flush=True))


def compare(config: "DictConfig", announce: Announce) -> dict[str, list[Result]]:
    """Segment, evaluate, write table.md and table.csv, and return the results of each checkpoint, each side's mean and the difference."""
    quiet_libraries()
    announce("the data")
    data = open_data(config.data)
    if "mask" not in data.companions:
        raise ValueError("`data.beside.mask` must give the folder of the masks, got none; use beside@data.beside.mask=masks")
    rows, _, note = held_out(data)
    truth, notes, found, means = real_set(data, rows), [note], {}, {}
    for side in SIDES:
        values = []
        for path in map(Path, config[side]):
            name = path.resolve().parent.parent.name
            if name in found:
                raise ValueError(f"checkpoints must lie in run folders of different names, got {name} twice; each is a row of the table")
            found[name], caution = of_checkpoint(path, data, rows, config, announce)
            values.append(found[name].values)
            notes.append(caution and f"{name}: test images may have been trained on, {caution}.")
        if values:
            means[f"{side}, mean of {len(values)}"] = mean_of(values, data.companions["mask"].structures, truth.groups, config.draws)
    if not found:
        raise ValueError("checkpoints must be given: adversarial=[run/checkpoints/best.ckpt,…] alone=[…]")
    results = {name: own.results for name, own in found.items()} | with_differences(means, 0, truth.groups, config.draws)
    write(Path(config.output), "segmentation", results, truth, [each for each in notes if each])
    announce(f"{(Path(config.output) / 'table.md').read_text()}\nin {config.output}")
    return results


def of_checkpoint(
    path: Path, data: "ImageDataModule", rows: "np.ndarray", config: "DictConfig", announce: Announce
) -> tuple[MethodResults, str]:
    """Return the results of the EMA generator's masks, and why it may have been trained on their images, "" if it was not.

    Raises ValueError for a generator of no masks, or of other structures.
    """
    module = load(path, chosen_device(config.device))
    if not module.game.segments:
        raise ValueError(f"{path} must be of a generator of masks (game=segmentation), got one of {type(module.game).__name__}")
    check_fits(module, data)
    structures, own = data.companions["mask"].structures, tuple(module.config["data"]["beside"]["mask"]["structures"])
    if own != structures:
        raise ValueError(f"{path} must be of a generator of the masks {list(structures)}, got {list(own)}")
    announce(f"generating {len(rows):,} images")
    made = translate(module, data, rows, seed=config.seed, batch_size=config.batch_size)
    real, metric = real_set(data, rows), Segments(structures=structures)
    truth = true_targets(module, data, rows, real)
    how = {"draws": config.draws, "batch_size": config.batch_size, "inside": truth.inside}
    results = measure_pairs(metric, made, truth, real.groups, **how)
    return MethodResults(results, metric.values.cpu(), []), training_unknown_because(module.origin.fingerprint, data)


def mean_of(values: "list[Tensor]", structures: tuple[str, ...], groups: "Tensor | None", draws: int) -> MethodResults:
    """Return the mean over checkpoints, for each image, of values (N, keys)."""
    mean = torch.stack(values).mean(0)
    resampling = Resampling(draws)
    estimates = [resampling.of_mean(column, groups) for column in mean.unbind(1)]
    return MethodResults(
        [Result(key, estimate=each) for key, each in zip(Segments(structures=structures).keys, estimates, strict=True)], mean, []
    )


if __name__ == "__main__":
    main()
