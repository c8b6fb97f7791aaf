"""What the tests of apply share: a generator whose result is known, scans for it, and its application without a command line."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from omegaconf import OmegaConf
from shared import composed

from medgan_pl.apply.run import apply
from medgan_pl.core.command import instantiate
from medgan_pl.core.console import configuration_folder, one_message
from medgan_pl.models.build import build_module
from medgan_pl.models.state import FORMAT

SHIFT = 0.2  # what a residual generator adds
SMALL = (
    "model.width=4", "model.generator.levels=2", "model.discriminator.layers=1", "model.discriminator.spectral_norm=false",
    "data.size=16", "logger=csv",
)  # fmt: skip
INVERSE = {"levels": [[-1000.0, 400.0]], "unit": "HU", "modality": "CT", "spacing_mm": [0.8, 0.5], "directions": np.eye(3).tolist()}
FILMS = ("data=chest_xray", "intensity@data.intensity=full_range")
OF_FILMS = {"levels": [[0.0, 255.0]], "unit": "gray levels", "modality": "CR", "spacing_mm": None, "directions": None}


def settings_of_apply(**values: Any) -> dict[str, Any]:
    """The keys of conf/apply.yaml with these values."""
    keys = OmegaConf.to_container(OmegaConf.load(configuration_folder() / "apply.yaml"))
    return {name: value for name, value in keys.items() if name not in ("defaults", "hydra")} | values


def apply_with(*words: str) -> int:
    """Apply with the words of a command line, and return its exit code."""
    try:
        with one_message(None):
            settings, given = OmegaConf.create(settings_of_apply()), OmegaConf.from_dotlist(list(words))
            assert given.keys() <= settings.keys()
            return int(not apply(OmegaConf.merge(settings, given)))
    except SystemExit as end:
        return end.code


def pipelines_of(config: dict[str, Any]) -> dict[str, Any]:
    """What a run of this configuration stores of how its scans become images."""
    return {name: pipeline.plain() for name, pipeline in instantiate(config["data"]).pipelines.items()}


@cache
def parts(*overrides: str) -> dict[str, Any]:
    """The configuration, weights and pipelines of a run whose generator shifts."""
    config = composed("data=ct", "degrade@data.degrade=noise", "model=unet_gan", *SMALL, *overrides)
    config = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    module = build_module(config)
    module.ema.network.end.last.bias.fill_(SHIFT)
    if not config["model"]["generator"].get("residual"):
        torch.nn.init.zeros_(module.ema.network.end.last.weight)
    return {"config": config, "weights": module.state_dict(), "pipelines": pipelines_of(config)}


def write_checkpoint(path: Path, *overrides: str, **inverse: Any) -> Path:
    run = parts(*overrides)
    state = {"format": FORMAT, "config": run["config"], "classes": [], "images": 64, "inverse": {**INVERSE, **inverse}, "covariates": []}
    state |= {"pipelines": run["pipelines"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": run["weights"], "medgan_pl": state}, path)
    return path


def shifted(hu: np.ndarray, low: float = -1000.0, high: float = 400.0) -> np.ndarray:
    return np.clip(np.clip(hu, low, high) + SHIFT / 2 * (high - low), low, high)


def a_volume(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 400, shape).astype(np.int16)


def oblique(path: Path, volume: np.ndarray, spacing=(0.5, 0.8, 3.0)) -> np.ndarray:
    """Writes (x, y, z) turned about two axes, one of them counted backwards, y and z exchanged; its affine comes back."""
    a, b = math.radians(12), math.radians(-7)
    turn = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = (turn * [-spacing[0], spacing[1], spacing[2]])[:, [0, 2, 1]]
    affine[:3, 3] = 31.5, -20.25, 70.125
    nibabel.Nifti1Image(volume, affine).to_filename(path)
    return affine
