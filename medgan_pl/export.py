"""Writes weights for sharing: `python -m medgan_pl.export checkpoint=outputs/…/checkpoints/best.ckpt`."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.build import quiet_libraries
from medgan_pl.console import configuration_folder, describe_keys, one_message
from medgan_pl.sample import load, without_files
from medgan_pl.train import launch
from medgan_pl.trust import FORMAT, fingerprint

if TYPE_CHECKING:
    from omegaconf import DictConfig

MANUAL = """\
medgan_pl.export: write a generator's weights for sharing, as .safetensors

  python -m medgan_pl.export checkpoint=PATH [key=value …]

Examples
  python -m medgan_pl.export checkpoint=outputs/<date>/<time>/checkpoints/best.ckpt
      outputs/<date>/<time>/checkpoints/best.safetensors: the averaged generator, what it takes to build it and to go back to native units
  python -m medgan_pl.export checkpoint=… whole=true output=/data/shared/chest.safetensors
      the generator and the discriminator too
  python -m medgan_pl.sample checkpoint=best.safetensors n=64
      draws from it what it would draw from the checkpoint; in Python: medgan_pl.load("best.safetensors")

The file holds no code, no path and nothing else of this machine, and of the data its size, spacing, intensity, the names of its
classes, and of covariates mean, spread and range.

Keys and their defaults
{keys}
"""


def main() -> None:
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(MANUAL.format(keys=describe_keys(configuration_folder() / "export.yaml")))
        return
    with one_message(None):
        launch(run, "export")


def run(config: "DictConfig") -> None:
    with one_message(None):
        quiet_libraries()
        if config.checkpoint is None:
            raise ValueError(
                "`checkpoint` must be given: python -m medgan_pl.export checkpoint=outputs/<date>/<time>/checkpoints/best.ckpt"
            )
        checkpoint = Path(str(config.checkpoint))
        output = checkpoint.with_suffix(".safetensors") if config.output is None else Path(str(config.output))
        export(checkpoint, output, whole=bool(config.whole))
        print(f"{'all' if config.whole else 'the averaged generator'} of {checkpoint}, {output.stat().st_size:,} bytes, is in {output}")


def export(checkpoint: Path, output: Path, *, whole: bool = False) -> None:
    """Writes the averaged generator of a checkpoint, with `whole` both players too, to a .safetensors file, whole or not at all.

    Its metadata holds `medgan_pl`, JSON of: format, config (see `shared`), classes, covariates, inverse, images shown, the SHA-256 of
    the checkpoint; and `sha256`, see `fingerprint`. ValueError for another suffix, and as `load`.
    """
    from safetensors.torch import save_file

    from medgan_pl.data.export import sha256

    if output.suffix != ".safetensors" or checkpoint.suffix == ".safetensors":
        raise ValueError(f"`checkpoint` must be a checkpoint and `output` a .safetensors file, got {checkpoint} and {output}")
    module = load(checkpoint)
    weights = {
        # Each in memory of its own, in the order of its axes: safetensors takes nothing else. `load` brings back channels_last.
        name: weight.contiguous().clone()
        for name, weight in module.state_dict().items()
        if whole or name.startswith("average.network.")
    }
    state = {"format": FORMAT, "config": shared(module.config), "classes": module.classes, "inverse": module.inverse.plain()}
    state |= {"covariates": module.covariates.plain(), "inverses": {name: each.plain() for name, each in module.inverses.items()}}
    told = json.dumps(state | {"images": module.images, "checkpoint_sha256": sha256(checkpoint)}, sort_keys=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f"{output.name}.part")
    save_file(weights, beside, {"format": "pt", "medgan_pl": told, "sha256": fingerprint(told, weights)})
    os.replace(beside, output)


# What of the data says which images come out. The rest may tell of machine and people: folders, and expressions made from file names.
DATA = ("spatial_dims", "size", "channels", "spacing_mm", "crop", "slices", "patches", "intensity")


def shared(config: dict[str, Any]) -> dict[str, Any]:
    """What of a run's configuration it takes to build its networks and to know what their images are; a list of what may go out, so that a
    setting that comes later stays in."""
    kept = {key: config[key] for key in ("seed", "image", "model", "phantom") if key in config}
    data = {key: config["data"][key] for key in DATA if key in config["data"]}
    return kept | {"data": data, "module": without_files(config["module"] | {"metrics": {}})}


if __name__ == "__main__":
    main()
