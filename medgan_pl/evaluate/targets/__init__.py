"""Who is judged: a checkpoint, a baseline, or a folder of images made elsewhere."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from medgan_pl.evaluate.targets.baseline import of_baseline
from medgan_pl.evaluate.targets.checkpoint import of_checkpoint
from medgan_pl.evaluate.targets.folder import of_folder
from medgan_pl.evaluate.targets.target import Subject

if TYPE_CHECKING:
    from omegaconf import DictConfig


def subject_of(config: "DictConfig", overrides: list[str], device: str, watch: Callable[[str], None]) -> Subject:
    """The one that the configuration names; `overrides`: what was typed. Raises ValueError unless it names exactly one."""
    named = [key for key in ("checkpoint", "fake", "baseline") if config[key] is not None]
    if len(named) != 1:
        raise ValueError(
            "one of `checkpoint`, `fake` and `baseline` must say who is judged, got "
            f"{' and '.join(named) or 'none'}: python -m medgan_pl.evaluate checkpoint=outputs/<date>/<time>/checkpoints/best.ckpt"
        )
    if named[0] != "fake":
        idle = [key for key in ("real", "train", "paired") if config[key]]
        idle += [f"masks.{key}" for key, value in config.masks.items() if value]
        if idle:
            raise ValueError(f"{', '.join(f'`{key}`' for key in idle)} must come with `fake`, got {named[0]}=…; other reals: data.root=DIR")
    make = {"checkpoint": of_checkpoint, "fake": of_folder, "baseline": of_baseline}[named[0]]
    return make(config, overrides, device, watch)
