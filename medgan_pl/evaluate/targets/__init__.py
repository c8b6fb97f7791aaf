"""Evaluation targets: a checkpoint, a baseline, or a folder of images that any tool made."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from medgan_pl.evaluate.targets.baseline import target_from_baseline
from medgan_pl.evaluate.targets.checkpoint import target_from_checkpoint
from medgan_pl.evaluate.targets.folder import target_from_folder
from medgan_pl.evaluate.targets.target import Target

if TYPE_CHECKING:
    from omegaconf import DictConfig


def open_target(config: "DictConfig", overrides: list[str], device: str, announce: Callable[[str], None]) -> Target:
    """Return the target that the configuration names; `overrides` are the arguments that were typed.

    Raises ValueError unless exactly one target is named, and for options that do not belong to it.
    """
    named = [key for key in ("checkpoint", "fake", "baseline") if config[key] is not None]
    if len(named) != 1:
        raise ValueError(
            "one of `checkpoint`, `fake` and `baseline` must name what is judged, got "
            f"{' and '.join(named) or 'none'}: python -m medgan_pl.evaluate checkpoint=outputs/<date>/<time>/checkpoints/best.ckpt"
        )
    if named[0] != "fake":
        idle = [key for key in ("real", "train", "paired") if config[key]]
        idle += [f"masks.{key}" for key, value in config.masks.items() if value]
        if idle:
            raise ValueError(f"{', '.join(f'`{key}`' for key in idle)} must come with `fake`, got {named[0]}=…; other reals: data.root=DIR")
    make = {"checkpoint": target_from_checkpoint, "fake": target_from_folder, "baseline": target_from_baseline}[named[0]]
    return make(config, overrides, device, announce)
