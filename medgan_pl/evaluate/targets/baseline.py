"""Images that show what the metrics can see: what a generator must beat, and what it must not be."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from medgan_pl.evaluate.fidelity import Sets
from medgan_pl.evaluate.ladder import BLURS, blurred, noise_like
from medgan_pl.evaluate.sets import held_out, keyed, real_set
from medgan_pl.evaluate.targets.target import Subject, extractors_of, hold_pairs, opened, straddled, whole

if TYPE_CHECKING:
    from omegaconf import DictConfig


def of_baseline(config: "DictConfig", overrides: list[str], device: str, watch: Callable[[str], None]) -> Subject:
    """Images that show what the metrics can see: copies of training images, those blurred, or noise like them; with their labels."""
    kinds = {
        "copier": lambda images: images,
        "blurred": lambda images: images.changed(lambda x: blurred(x, BLURS[-1]), f"blur {BLURS[-1]:g}"),
        "noise": noise_like,
    }
    if config.baseline not in kinds:
        raise ValueError(f"`baseline` must be one of {', '.join(kinds)}, got {config.baseline}")
    hold_pairs(config, "a baseline has no truth")
    watch("the data")
    data = opened(config.data)
    reference, floor, note = held_out(data)
    train = real_set(data, data.rows["train"])
    chosen = train.take(torch.randint(len(train), (whole(config, "n", 1),), generator=keyed(config.seed)))
    fake = replace(kinds[config.baseline](chosen), groups=None)
    told = {"kind": "baseline", "name": config.baseline, "path": ""}
    sets = Sets(fake, real_set(data, reference), real_set(data, floor), train, list(data.classes))
    return Subject(told, data, sets, extractors_of(config), Path("report"), notes=[said for said in (note, straddled(data)) if said])
