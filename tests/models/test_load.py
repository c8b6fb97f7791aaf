"""A checkpoint is opened once, and its weights are loaded only if they fit settings that are safe to build."""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn
from written_checkpoint import INVERSE, SMALL, nested, put, saved

import medgan_pl
from medgan_pl.core.console import configuration_folder
from medgan_pl.models.build import build_module
from medgan_pl.models.load import at_most, load
from medgan_pl.models.state import FORMAT


def test_a_checkpoint_is_opened_once(finished: Path) -> None:
    path, opened = finished / "checkpoints/best.ckpt", []
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
    module = load(path)
    own = [name for name in list(opened) if os.path.basename(name) == path.name]
    assert len(own) == 1
    assert module.origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert isinstance(module.origin.fingerprint, str)


FIRST = "ema.network.start.0.weight"


@pytest.mark.parametrize(
    ("harm", "match"),
    [
        (lambda weights: weights.pop(FIRST), "1 weights are in one and not in the other, such as '" + FIRST),
        (lambda weights: weights.update(more=torch.zeros(1)), "such as 'more'"),
        (lambda weights: weights.update({FIRST: torch.zeros(3)}), r"'ema.network.start.0.weight' must be \(.*\), got \(3,\)"),
        (lambda weights: weights.update({FIRST: weights[FIRST].long()}), "of torch.int64"),
        (lambda weights: weights.clear(), "are in one and not in the other"),
    ],
)
def test_weights_of_other_settings_are_refused(whole, refused, harm, match) -> None:
    harm(whole["state_dict"])
    refused(f"do not fit the settings stored with them: .*{match}")


LARGE: list[tuple[str, Any, str]] = [
    ("players.g.network.width", 10**9, "'width' must be at most"),
    ("players.g.network.width", 2**20, "do not fit the settings"),
    ("players.g.network.width", 10**600, "'width' must be at most"),
    ("players.g.network.width", -4, "do not fit the settings"),
    ("players.g.network.width", "wide", "do not fit the settings"),
    ("players.g.network.width", 4.5, "do not fit the settings"),
    ("players.g.network.size", 2**20, "`size` must make at most"),
    ("players.g.network.size", [2**14, 2**15], "`size` must make at most"),
    ("players.g.network.size", [8] * 1000, "do not fit the settings"),
    ("players.g.network.size", 2**14, "do not fit the settings"),
    ("players.g.network.spatial_dims", 2**20, "do not fit the settings"),
    ("players.d.network.width", 2**20, "do not fit the settings"),
    ("game.latent", 10**12, "'latent' must be at most"),
    ("ema.ramp", [0] * 10_000, "at most 5000 values"),
    ("ema.ramp", nested(40), "at most 32 levels deep"),
    ("ema.ramp", nested(14), "at most 5000 values"),
    ("ema.ramp", "x" * 5000, "at most 4096 letters"),
    ("ema.ramp", "${oc.env:HOME}", "must be resolved"),
    ("ema.ramp", {"_args_": [1]}, "`_target_` and `_partial_` alone, got '_args_'"),
    ("stages", {}, "do not fit the settings"),
    ("total_images", 2**60, "'total_images' must be at most"),
]


@pytest.mark.parametrize(("where", "value", "match"), LARGE, ids=[f"{where}-{i}" for i, (where, *_) in enumerate(LARGE)])
def test_settings_too_large_to_build_are_refused(whole, refused, where, value, match) -> None:
    put(whole["medgan_pl"]["config"]["module"], where, value)
    refused(match)


def test_a_thousand_networks_that_the_file_has_no_weights_for_are_refused(whole, refused) -> None:
    module = whole["medgan_pl"]["config"]["module"]
    module["stages"] = {f"stage{i}": module["players"]["g"]["network"] for i in range(500)}
    refused("the settings ask for more than [0-9]+ weights")


def test_a_loop_ends_where_the_weights_do() -> None:
    layers = []
    with pytest.raises(ValueError, match="more than 10 weights"), at_most(10):
        layers.extend(nn.Linear(1, 1) for _ in iter(int, 1))
    assert len(layers) == 5
    nn.Linear(1, 1)  # outside it no one counts


@pytest.mark.parametrize(
    "setting", ["model.discriminator.spectral_norm=true", "model=mlp", "model=dcgan", "image.spatial_dims=3", "seed=1"]
)
def test_what_a_run_writes_is_loaded(setting: str) -> None:
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        config = OmegaConf.to_container(compose("config", overrides=[*SMALL, setting]), resolve=True)
    module = build_module(config)
    inverse = INVERSE | {"spacing_mm": [1.0] * config["image"]["spatial_dims"]}
    state = {"format": FORMAT, "config": config, "classes": [], "images": 0, "inverse": inverse}
    Path("whole.ckpt").write_bytes(saved({"state_dict": module.state_dict(), "medgan_pl": state}))
    loaded = medgan_pl.load("whole.ckpt")
    found = loaded.state_dict()
    assert {name for name in module.state_dict() if not name.startswith("metrics.")} == found.keys()
    assert all(torch.equal(weight, found[name]) for name, weight in module.state_dict().items() if name in found)
    assert (loaded.training, loaded.config) == (False, config)
