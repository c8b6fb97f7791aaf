"""Draws images from a checkpoint: `python -m medgan_pl.sample checkpoint=outputs/…/checkpoints/best.ckpt n=64`."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medgan_pl.checks import read_checkpoint
from medgan_pl.console import configuration_folder, describe_keys, one_message
from medgan_pl.train import build_module, launch, quiet_libraries

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

    from medgan_pl.module import AdversarialModule

MANUAL = """\
medgan_pl.sample: draw images from a trained generator

  python -m medgan_pl.sample checkpoint=PATH [key=value …]

Examples
  python -m medgan_pl.sample checkpoint=outputs/<date>/<time>/checkpoints/best.ckpt n=64
      64 PNGs and grid.png in outputs/<date>/<time>/generated/
  python -m medgan_pl.sample checkpoint=… n=500 label=pneumonia seed=7 output=/data/synthetic

Keys and their defaults
{keys}
"""


def load(path: str | Path, device: str = "cpu") -> "AdversarialModule":
    """The module of a checkpoint, in evaluation mode: `module.generate(batch)` is its averaged generator.

    Nothing is built but the project's own classes and torch's optimisers. Errors as `read_checkpoint`, and ValueError if the weights do not
    fit the settings stored with them.
    """
    checkpoint = read_checkpoint(path)
    module = build_module(checkpoint["medgan_pl"]["config"])
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit the settings stored with them: {error}") from error
    module.on_load_checkpoint(checkpoint)
    return module.to(device).eval()


def main() -> None:
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(MANUAL.format(keys=describe_keys(configuration_folder() / "sample.yaml")))
        return
    with one_message(None):
        launch(run, "sample")


def run(config: "DictConfig") -> None:
    with one_message(None):
        sample(config)


def sample(config: "DictConfig") -> None:
    """Writes `n` 8-bit PNGs and a grid of the first 64; image i of a seed is the same whatever `n` and `batch_size` are."""
    quiet_libraries()
    import torch
    from rich.progress import track

    from medgan_pl.callbacks import fixed_batch, to_grid

    for name in ("n", "batch_size"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise ValueError(f"`{name}` must be a whole number of at least 1, got {config[name]}")
    if config.checkpoint is None:
        raise ValueError("`checkpoint` must be given: python -m medgan_pl.sample checkpoint=outputs/<date>/<time>/checkpoints/best.ckpt")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda needs a CUDA GPU that torch can see, and there is none; use device=cpu")
    module = load(config.checkpoint, device)
    labels = wanted_labels(module, config.label, config.n)
    run = Path(config.checkpoint).resolve().parent.parent
    # Beside the run it comes from; a checkpoint that was copied elsewhere has no run folder around it.
    output = Path(str(config.output)) if config.output is not None else (run if (run / "config.yaml").is_file() else Path()) / "generated"
    output.mkdir(parents=True, exist_ok=True)
    first = []
    for start in track(range(0, config.n, config.batch_size), description="drawing", transient=True):
        batch = fixed_batch(module, labels[start : start + config.batch_size], config.seed, start)
        images = module.generate(batch).cpu()
        for i, image in enumerate(images, start):
            to_grid(image[None], columns=1).save(output / f"{i:06d}.png")
        first += list(images[: max(0, 64 - len(first))])
    to_grid(torch.stack(first), columns=math.ceil(math.sqrt(len(first)))).save(output / "grid.png")
    print(f"{config.n} images and grid.png are in {output}")


def wanted_labels(module: "AdversarialModule", label: str | None, n: int) -> "Tensor":
    """The class of each of `n` images: the one asked for by name or number, or all in turn."""
    import torch

    classes, names = module.config["model"]["classes"], module.classes
    if label is None:
        return torch.arange(n) % max(1, classes)
    if not classes:
        raise ValueError(f"`label` needs a conditional model, got label={label}; this one was trained with model.classes=0")
    known = {name: i for i, name in enumerate(names)} | {str(i): i for i in range(classes)}
    if str(label) not in known:
        raise ValueError(f"`label` must be one of {', '.join(names)} or 0 to {classes - 1}, got {label}")
    return torch.full((n,), known[str(label)])


if __name__ == "__main__":
    main()
