"""Generators trained between domains without pairs, applied to given images of one of their domains."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from omegaconf import OmegaConf

from experiments.restoration import baselines
from medgan_pl.core.command import chosen_device
from medgan_pl.core.keys import Purpose
from medgan_pl.data.build import open_data
from medgan_pl.data.of_run import data_of_run
from medgan_pl.data.sets import ImageSet, stored
from medgan_pl.models.load import load

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.data.domains import DomainsDataModule
    from medgan_pl.models.module import AdversarialModule

FOLDER = Path(__file__).parent


def composed(keys: str, arguments: Sequence[str]) -> "DictConfig":
    """Return the configuration of a training run with the keys of <keys>.yaml."""
    return baselines.composed(arguments, FOLDER / f"{keys}.yaml")


def between_domains(path: Path, config: "DictConfig") -> "tuple[AdversarialModule, DomainsDataModule]":
    """Return a generator trained between domains and the data it was trained on, as in the config.yaml of its run folder.

    Raises ValueError for a generator of another kind, and as `data_of_run`.
    """
    module = load(path, chosen_device(config.device))
    if not module.game.sourced or module.game.paired:
        raise ValueError(f"{path} must be of a generator trained between domains, got one of {type(module.game).__name__}")
    own = OmegaConf.to_container(config.data, resolve=True)
    return module, open_data(data_of_run(own, module.config["data"], [], path.resolve().parent.parent))


def reaches(module: "AdversarialModule", origin: int, target: int) -> bool:
    """Return True if it translates domain `origin` to domain `target`: CycleGAN both ways, CUT from the first to the second, StarGAN
    any."""
    batch = {"label": torch.tensor([origin]), "target": torch.tensor([target])}
    return origin != target and int(module.game.target(batch)) == target


def translated(module: "AdversarialModule", images: ImageSet, origin: int, target: int, config: "DictConfig") -> ImageSet:
    """Return the translations of images of domain `origin` to domain `target` by the EMA generator; random numbers of image i are keyed by
    (config.seed, i)."""

    def parts():
        for rows in torch.arange(len(images)).split(config.batch_size):
            batch = {"image": images[rows].to(module.device), "label": torch.full((len(rows),), origin, device=module.device)}
            batch = module.game.draw_each(batch, config.seed, rows.tolist(), Purpose.SAMPLES)
            yield module.generate(batch | {"target": torch.full_like(batch["label"], target)})

    return stored(parts(), len(images))
