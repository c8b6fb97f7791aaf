"""Finds the style whose image is nearest to a given one: `python -m medgan_pl.project checkpoint=outputs/…/best.ckpt image=film.png`."""

import csv
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from medgan_pl.build import quiet_libraries
from medgan_pl.console import configuration_folder, describe_keys, one_message
from medgan_pl.sample import chosen_device, load, style_based
from medgan_pl.train import launch
from medgan_pl.trust import DATA_PACKAGES, check_targets

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

    from medgan_pl.metrics.features import Extractor
    from medgan_pl.module import AdversarialModule
    from medgan_pl.networks.stylegan2 import StyleGAN2Generator

MANUAL = """\
medgan_pl.project: find given images among what a style-based generator (model=stylegan2) can draw

  python -m medgan_pl.project checkpoint=PATH image=FILE|FOLDER [key=value …]

Examples
  python -m medgan_pl.project checkpoint=outputs/<date>/<time>/checkpoints/best.ckpt image=film.png
      projected/000000.png: the film, its projection, the difference (grey: none); 000000.safetensors: its w; distances.json
  python -m medgan_pl.project checkpoint=… image=/data/films n=64 each_layer=true
      64 of the films, with a w for each layer; each is brought to the size and the intensity of the training images
  python -m medgan_pl.project checkpoint=… image=film.png extractor=lpips extractor.lpips.grid=7
      near by what eyes see, with weights of your own: medgan_pl.evaluate --help says where they are published

A film that is found as well as the generator's own images shows nothing it cannot draw; that it was trained on it, this does not show.

Keys and their defaults (of an extractor: extractor.random.seed=1)
{keys}
"""

# What of a run's data says how an image is read, but not which.
READING = ("_target_", "modality", "intensity", "spatial_dims", "size", "channels", "spacing_mm", "crop", "slices", "patches")


def main() -> None:
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(MANUAL.format(keys=describe_keys(configuration_folder() / "project.yaml")))
        return
    with one_message(None):
        launch(run, "project")


def run(config: "DictConfig") -> None:
    with one_message(None):
        project(config)


def project(config: "DictConfig") -> None:
    """Writes for each image a picture (target | projection | difference) and its w, and distances.json for all."""
    quiet_libraries()
    import torch
    from rich.progress import track
    from safetensors.torch import save_file

    from medgan_pl.callbacks import to_grid
    from medgan_pl.networks.projection import Search

    check(config)
    module = load(str(config.checkpoint), chosen_device(config.device))
    network = style_based(module, "a projection")
    targets, names = read(module, Path(str(config.image)).expanduser(), config.n)
    extractors = [each.to(module.device) for each in extractors_for(targets, config)]
    output = Path(str(config.output))
    output.mkdir(parents=True, exist_ok=True)
    centre, spread = styles(module, network, config.seed)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(targets), config.batch_size):
        part = targets[start : start + config.batch_size].to(module.device)
        search = Search(network, part, extractors, centre, spread, each_layer=config.each_layer, features=config.features)
        torch.manual_seed(config.seed)  # of the noise of the search: no image's depends on those beside it
        for step in track(range(config.steps), description="searching", transient=True):
            search.step(step / config.steps, config.rate)
        for target, found, w, near in zip(part, search.images(), search.w.detach(), search.left(), strict=True):
            name = f"{len(rows):06d}"
            to_grid(torch.stack([target, found, (found - target) / 2]), columns=3).save(output / f"{name}.png")
            save_file({"w": w.squeeze(0).cpu().contiguous()}, output / f"{name}.safetensors")
            rmse = float((found - target).square().mean().sqrt())
            left = dict(zip(("pixels", *(each.name for each in extractors)), near.tolist(), strict=True))
            rows.append({"image": name, "rmse": rmse, "left": left})
            print(f"{name}  {names[len(rows) - 1]}  root mean square error {rmse:.4f} of a range of 2")
    told = {"about": "left: distances as shares of those of the average image", "steps": config.steps, "each_layer": config.each_layer}
    (output / "distances.json").write_text(json.dumps(told | {"images": rows}, indent=2) + "\n", encoding="utf-8")
    print(f"{len(rows)} projections, their w and distances.json are in {output}")


def check(config: "DictConfig") -> None:
    for name in ("checkpoint", "image"):
        if config[name] is None:
            raise ValueError(f"`{name}` must be given: python -m medgan_pl.project checkpoint=…/checkpoints/best.ckpt image=film.png")
    for name in ("n", "steps", "batch_size"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise ValueError(f"`{name}` must be a whole number of at least 1, got {config[name]}")
    if not all(isinstance(config[name], int | float) for name in ("rate", "features")) or not (config.rate > 0 and config.features >= 0):
        raise ValueError(f"`rate` must be above 0 and `features` at least 0, got {config.rate} and {config.features}")
    if not isinstance(config.each_layer, bool):
        raise ValueError(f"`each_layer` must be true or false, got {config.each_layer}")


def read(module: "AdversarialModule", path: Path, n: int) -> tuple["Tensor", list[str]]:
    """At most n images (N, C, *S) in [-1, 1] of a file, a folder or a .csv, brought to the generator as its training data were, and what
    they are called. FileNotFoundError for no such file; ValueError for weights that do not say how images are read."""
    from hydra.utils import instantiate

    stored = module.config["data"]
    if "modality" not in stored:
        raise ValueError("`checkpoint` must be a checkpoint of a run: shared weights do not say how its images were read")
    if not path.exists():
        raise FileNotFoundError(f"`image` must be a file or a folder of images, got {path}")
    node = {key: stored[key] for key in READING if key in stored}
    check_targets(node, DATA_PACKAGES)
    whole = path.is_dir() or path.suffix.lower() == ".csv"
    with TemporaryDirectory() as folder:
        root = path if whole else Path(folder, "image.csv")  # a list of one: no folder is walked, and no rule for folders holds
        if not whole:
            with root.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([["image"], [path.absolute()]])
        where = {"root": str(root), "files": None, "split": "none", "classes": "none"}
        data = instantiate({**node, **where, "cache": {"dir": folder, "dtype": "float32"}}, _convert_="all")
        batch = data.peek("train", n)
        names = [data.records[row].name if whole else path.name for row in batch["record"].tolist()]
        return batch["image"].clone(), names


def extractors_for(images: "Tensor", config: "DictConfig") -> "list[Extractor]":
    """The extractors of the configuration, for images of these axes and channels."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    facts = {"image": {"spatial_dims": images.ndim - 2}, "data": {"channels": images.shape[1]}}  # `image` is a path in this configuration
    node = OmegaConf.create(facts | {"extractor": OmegaConf.to_container(config.extractor, resolve=False)})
    return list(instantiate(node.extractor, _convert_="all").values())


def styles(module: "AdversarialModule", network: "StyleGAN2Generator", seed: int) -> tuple["Tensor", float]:
    """The mean w̄ (latent,) of 10,000 styles, over all conditions, and their spread √E‖w - w̄‖²."""
    import torch

    from medgan_pl.keys import Purpose, key_randomness

    key_randomness(seed, 0, 0, Purpose.SAMPLES)
    game, count, device = module.game, 10_000, module.device
    told = {"label": torch.arange(count, device=device) % max(1, game.classes)}
    told["covariates"] = torch.randn(count, len(game.covariates), device=device)
    with torch.no_grad():
        w = network.mapping(game.noise(count, game.latent, device), game.condition(told))
        return w.mean(0), float((w - w.mean(0)).square().sum(1).mean().sqrt())


if __name__ == "__main__":
    main()
