"""The state of a run as a type: there and back as plain containers, and every damaged field refused by its name."""

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from written_checkpoint import INVERSE, put

from medgan_pl.models.state import KEYS, Progress, RunState, read_stored, shared_from_plain

COLUMN = {"name": "age", "mean": 60.0, "sd": 9.0, "low": 30.0, "high": 90.0, "levels": None, "missing": 0.1, "quantiles": [], "few": False}
GUARD = {"full_scale": 65536.0, "clean": 3, "skipped": 0, "in_a_row": 0}


@pytest.fixture
def running() -> dict[str, Any]:
    """What a run stores in the middle of a logging interval, in the order of its keys."""
    turn = {"player": "d", "names": ["loss", "real"], "rows": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}
    config = {"seed": 0, "image": {"spatial_dims": 2}, "data": {"size": 16}, "module": {}}
    config["model"] = {"generator": {"_target_": "X"}, "classes": 2, "covariates": ["age"]}
    return {
        "wandb": "abc",
        "best": -math.inf,
        "worse": 1,
        "format": 2,
        "images": 48,
        "turns": {"d": 6, "g": 3},
        "turns_since": 1,
        "rollbacks": 0,
        "rate": 0.5,
        "stage": "both",
        "guards": {"d": dict(GUARD), "g": dict(GUARD)},
        "running": {"start": 40, "turns": [turn]},
        "world": 1,
        "device": "cpu",
        "fingerprint": "f00d",
        "classes": ["a", "b"],
        "inverse": dict(INVERSE),
        "config": config,
        "covariates": [dict(COLUMN)],
        "inverses": {"a": dict(INVERSE)},
        "pipelines": {"a": {"modality": {}}},
        "row": {"train/d/loss": math.nan, "train/skipped": 0},
    }


def text(content: Any) -> str:
    """Return plain containers as text in the order of their keys."""
    return json.dumps(content, default=torch.Tensor.tolist)


def test_a_state_comes_back_as_it_was_stored(running) -> None:
    state = RunState.from_plain(running)
    assert text(state.plain()) == text(running)
    assert (state.images, state.classes, state.covariates.names, list(state.inverses)) == (48, ["a", "b"], ["age"], ["a"])
    assert state.inverse.levels == ((0.0, 4095.0),)
    assert (state.progress.turns, state.progress.world, state.progress.wandb) == ({"d": 6, "g": 3}, 1, "abc")
    assert {*KEYS} == {"format", "checkpoint_sha256", *running}


def test_a_checkpoint_of_a_run_comes_back_as_it_was_stored(finished: Path) -> None:
    for name in ("best", "last"):
        stored = torch.load(finished / f"checkpoints/{name}.ckpt", weights_only=True)["medgan_pl"]
        assert list(stored) == [key for key in KEYS if key != "checkpoint_sha256"]
        assert text(RunState.from_plain(stored).plain()) == text(stored)


def test_shared_weights_hold_no_progress(running) -> None:
    kept = {key: value for key, value in running.items() if key not in {each.name for each in fields(Progress)} | {"pipelines"}}
    state = shared_from_plain(kept | {"checkpoint_sha256": "0" * 64})
    assert (state.progress, state.pipelines, state.checkpoint_sha256) == (None, None, "0" * 64)
    assert shared_from_plain(json.loads(json.dumps(state.plain()))) == state
    with pytest.raises(ValueError, match="shared weights must not hold the progress of a run"):
        shared_from_plain(running)


def test_an_older_checkpoint_has_no_domains_and_no_covariates(running) -> None:
    for key in ("covariates", "inverses", "pipelines", "wandb", "best", "worse"):
        del running[key]
    del running["config"]["model"]["covariates"]
    state = RunState.from_plain(running)
    assert (state.covariates.names, state.inverses, state.pipelines, state.progress.worse, state.progress.wandb) == ([], {}, None, 0, None)
    assert math.isnan(state.progress.best)


@pytest.mark.parametrize(
    ("where", "value", "match"),
    [
        ("turns", [], "`turns` must hold"),
        ("turns.d", -1, "`turns` must be a whole number of at least 0, got -1"),
        ("turns.d", True, "`turns` must be a whole number"),
        ("turns_since", 0.5, "`turns_since` must be a whole number"),
        ("rollbacks", 2**60, "`rollbacks` must be a whole number"),
        ("worse", "1", "`worse` must be a whole number"),
        ("world", 0, "`world` must be a whole number of at least 1, got 0"),
        ("rate", 0.0, "`rate` must be a number above 0, got 0"),
        ("rate", math.inf, "`rate` must be a number above 0"),
        ("best", None, "`best` must be a number, got None"),
        ("wandb", 7, "`wandb` must be the id of a run, got 7"),
        ("stage", None, "`stage` must be a text, got None"),
        ("device", ["cpu"], "`device` must be a text, got a list"),
        ("fingerprint", "x" * 5000, "`fingerprint` must be a text"),
        ("guards", {}, "`guards` must be of the players"),
        ("guards.g", None, "`guards` must hold four finite numbers"),
        ("guards.g.clean", "x", "`guards` must hold four finite numbers"),
        ("guards.g.full_scale", math.nan, "`guards` must hold four finite numbers"),
        ("running", 5, "`running` must hold names and values, got 5"),
        ("running.start", -8, "`running.start` must be a whole number"),
        ("running.turns", {}, "`running.turns` must hold"),
        ("running.turns", [5], "`running.turns` must hold"),
        ("running.turns", [{"player": "d", "names": ["a"], "rows": torch.zeros(2, 2)}], "`running.turns` must hold"),
        ("running.turns", [{"player": "d", "names": ["a"], "rows": [[1.0]]}], "`running.turns` must hold"),
        ("row", [], "`row` must hold numbers by name"),
        ("row.x", "high", "`row` must hold numbers by name"),
        ("pipelines", [], "`pipelines` must be of the domains"),
        ("pipelines.c", {}, "`pipelines` must be of the domains"),
        ("inverses", 3, "`inverses` must be of the domains"),
        ("inverses.c", {}, "`inverses` must be of the domains"),
        ("inverses.a.levels", [], r"`inverses\.a\.levels` must be finite"),
        ("covariates", {}, "`covariates` must be a list"),
        ("checkpoint_sha256", 5, "`checkpoint_sha256` must be a SHA-256"),
        ("config.image", 5, "`image` must hold settings, got 5"),
        ("config.data", None, "`data` must hold settings, got None"),
        ("config.model", "x", "`model` must hold settings, got 'x'"),
        ("config.model.generator", "x", "`model.generator._target_` must name a class"),
        ("format", 3, "written by another version of medgan_pl"),
    ],
)
def test_each_damaged_field_is_refused_by_its_name(running, where, value, match) -> None:
    put(running, where, value)
    with pytest.raises(ValueError, match=match):
        RunState.from_plain(running)


REQUIRED = ("config", "classes", "images", "inverse", "turns", "turns_since", "rollbacks", "rate", "stage", "guards", "running", "world")


@pytest.mark.parametrize("key", [*REQUIRED, "device", "fingerprint", "row"])
def test_a_missing_field_is_named(running, key) -> None:
    del running[key]
    with pytest.raises(KeyError, match=f"'{key}'"):
        RunState.from_plain(running)


def test_what_is_no_state_is_refused() -> None:
    with pytest.raises(ValueError, match="its state must hold names and values, got a list"):
        RunState.from_plain([])


def test_a_file_is_read_into_its_state(written, tmp_path: Path) -> None:
    path = tmp_path / "whole.ckpt"
    path.write_bytes(written)
    stored = read_stored(path)
    assert (stored.path, stored.state.images, stored.state.progress) == (path, 64, None)
    assert stored.weights is stored.content["state_dict"]


@pytest.mark.parametrize(
    ("where", "value", "match"),
    [
        ("images", -1, "`images` must be how many"),
        ("images", True, "`images` must be how many"),
        ("images", "5", "`images` must be how many"),
        ("images", 10**40, "`images` must be how many"),
        ("classes", "normal", "`classes` must be names"),
        ("classes", [1], "`classes` must be names"),
        ("config.model.classes", 2, "`model.classes` must be 0 or 1"),
        ("config", None, "`config` must hold the settings of the run, got None"),
        ("config.module", [], "`module` must hold"),
        ("config.seed", "0", "`seed` must be"),
        ("config.data.size", 10**12, "`data.size` must be 2 sides"),
        ("config.data.size", [16], "`data.size` must be 2 sides"),
        ("config.data.size", "16", "`data.size` must be 2 sides"),
        ("config.image.spatial_dims", 10**9, "`image.spatial_dims` must be 2 or 3"),
        ("inverse", {}, "it lacks"),
        ("inverse", None, "`inverse` must hold names and values, got None"),
        ("inverse.levels", [], "`inverse.levels` must be finite"),
        ("inverse.levels", None, "`inverse.levels` must be finite"),
        ("inverse.levels", [[1, 1]], "pairs of a lower and a higher"),
        ("inverse.levels", [["a", 2]], "`inverse.levels` must be finite"),
        ("inverse.levels", [[0, float("inf")]], "`inverse.levels` must be finite"),
        ("inverse.levels", [[float("nan"), 1]], "`inverse.levels` must be finite"),
        ("inverse.spacing_mm", [1.0, 0.0], "above 0"),
        ("inverse.spacing_mm", [1.0], "`inverse.spacing_mm` must be finite"),
        ("inverse.directions", "axial", "`inverse.directions` must be finite"),
        ("inverse.unit", 3, "must name its unit"),
        ("inverse.modality", "x" * 65, "must name its unit"),
    ],
)
def test_nonsense_beside_the_weights_is_refused(whole, refused, where, value, match) -> None:
    put(whole["medgan_pl"], where, value)
    refused(match)
