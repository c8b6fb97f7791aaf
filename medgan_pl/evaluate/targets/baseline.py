"""Baselines: images with known defects, which show what the metrics detect."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from medgan_pl.data.build import open_data
from medgan_pl.data.sets import held_out, keyed, real_set
from medgan_pl.evaluate.fidelity import Sets
from medgan_pl.evaluate.ladder import BLURS, blurred, noise_like
from medgan_pl.evaluate.targets.target import Target, refuse_pairs_alone, split_note
from medgan_pl.metrics.extractors.build import build_extractors

if TYPE_CHECKING:
    from omegaconf import DictConfig


def target_from_baseline(config: "DictConfig", overrides: list[str], device: str, announce: Callable[[str], None]) -> Target:
    """Return copies of training images, the same blurred, or noise like them; with the labels of the training images."""
    kinds = {
        "copier": lambda images: images,
        "blurred": lambda images: images.changed(lambda x: blurred(x, BLURS[-1]), f"blur {BLURS[-1]:g}"),
        "noise": noise_like,
    }
    if config.baseline not in kinds:
        raise ValueError(f"`baseline` must be one of {', '.join(kinds)}, got {config.baseline}")
    refuse_pairs_alone(config, "a baseline has no truth")
    announce("reading the data")
    data = open_data(config.data)
    reference, floor, note = held_out(data)
    train = real_set(data, data.rows["train"])
    chosen = train.take(torch.randint(len(train), (config.n,), generator=keyed(config.seed)))
    fake = replace(kinds[config.baseline](chosen), groups=None)
    facts = {"kind": "baseline", "name": config.baseline, "path": ""}
    sets = Sets(fake, real_set(data, reference), real_set(data, floor), train, list(data.classes))
    notes = [each for each in (note, split_note(data)) if each]
    return Target(facts, data, sets, build_extractors(config.extractor), Path("report"), notes=notes)
