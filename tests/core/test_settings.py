"""The table of settings: every key of conf/ stands in it, and each query gives what may travel."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from medgan_pl.core.console import configuration_folder
from medgan_pl.core.settings import CHOOSING, difference, for_judgement, for_sidecars, for_weights, reading, setting

FOLDER = configuration_folder()
YAMLS = sorted(path for path in FOLDER.rglob("*.yaml") if path.relative_to(FOLDER).parts[0] != "hydra")  # that is Hydra's own

# Where the options of a group go, if not below the group's own name.
PLACES = {
    "degrade": ["data.degrade"],
    "beside": ["data.beside.source", "data.beside.mask"],
    "intensity": ["data.intensity", "data.beside.source.intensity"],
    "optimizer": ["optimizer_g", "optimizer_d"],
    "schedule": ["schedule_g", "schedule_d", "schedule_penalty", "beta2"],
    "experiment": [""],
    "optimizers": [""],
}


def packages(path: Path, text: str) -> list[str]:
    """Return the keys below which a file of the configuration is composed."""
    header = re.search(r"^# @package ([\w.]+)", text, re.MULTILINE)
    if header:
        return ["" if header[1] == "_global_" else header[1]]
    group = path.relative_to(FOLDER).parts[0]
    return [""] if group == path.name else PLACES.get(group, [group])


def leaves(node: Any, where: str = "") -> list[tuple[str, Any]]:
    """Return each key that has no keys below it, with its value."""
    if isinstance(node, list) and any(isinstance(each, dict) for each in node):
        return [leaf for each in node for leaf in leaves(each, where)]
    if not isinstance(node, dict) or not node:
        return [(where, node)]
    return [leaf for name, value in node.items() for leaf in leaves(value, f"{where}.{name}".lstrip("."))]


def keys_of(path: Path) -> list[tuple[str, Any]]:
    text = path.read_text(encoding="utf-8")
    content = {name: value for name, value in (yaml.safe_load(text) or {}).items() if name not in ("defaults", "hydra")}
    return [leaf for package in packages(path, text) for leaf in leaves(content, package) if leaf[0]]


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_key_of_the_configuration_stands_in_the_table(path) -> None:
    for key, value in keys_of(path):
        rules = setting(key)
        assert rules is not None, f"{key} of {path} is not in TABLE of medgan_pl/core/settings.py; say there what may happen to it"
        if re.search(r"(^|[._])(root|dir|folder|file|path|weights|linear|checkpoint)$", key) and isinstance(value, str | None):
            assert rules.place or not rules.sidecar, f"{key} of {path} looks like a place of this machine, and the table lets it travel"


@pytest.mark.parametrize("key", ["epochs", "data.new", "data.domains.ct.new", "data.slices", "guard.new", "image.size", "trainer"])
def test_a_key_that_is_not_in_the_table_is_not_found(key) -> None:
    assert setting(key) is None or key in ("data.slices", "trainer")  # those stand there with all that is below them


def test_a_domain_has_the_rules_of_a_data_set() -> None:
    assert setting("data.domains.ct.root") is setting("data.root")
    assert setting("data.domains.ct.beside.mask.root") is setting("data.beside.mask.root")
    assert CHOOSING == ("root", "files", "patient_pattern", "cohort", "beside", "domains")


@pytest.fixture
def run(settings) -> dict[str, Any]:
    """A run with a place of this machine under every key that may hold one."""
    config = settings("data=ct", "data.root=/home/mueller/ct", "data.files=mueller", "init_from=/home/mueller/a.ckpt", "extra=perceptual")
    config["extras"]["perceptual"]["extractor"] |= {"weights": "/home/mueller/a.pth", "linear": None}
    config["module"]["game"]["extras"] = config["extras"]
    return config | {"run_dir": "/home/mueller/run", "resume": {"path": "/home/mueller/run", "force": False}, "foo": "mueller"}


def test_a_sidecar_tells_nothing_of_this_machine(run) -> None:
    told = for_sidecars(run)
    assert "/home/mueller" not in json.dumps(told)
    assert not {"run_dir", "resume", "init_from", "logger", "callbacks", "module", "trainer", "foo"} & set(told)
    assert not {"root", "cache"} & set(told["data"])
    assert told["extras"]["perceptual"]["extractor"]["linear"] is None
    assert told["total_images"] == run["total_images"]


def test_exported_weights_have_what_builds_the_networks_and_no_more(run) -> None:
    told = for_weights(run)
    assert "mueller" not in json.dumps(told)
    assert set(told) == {"seed", "image", "model", "data", "module"}
    assert set(told["data"]) == {"spatial_dims", "size", "channels", "spacing_mm", "crop", "slices", "patches", "intensity"}
    assert told["module"]["metrics"] == {}


def test_a_judgement_names_files_without_their_folders(run) -> None:
    config = {"checkpoint": "/home/mueller/a.ckpt", "masks": {"fake": "/x/masks", "real": None}, "data": run["data"], "n": 10}
    told = for_judgement(config)
    assert (told["checkpoint"], told["masks"], told["n"]) == ("a.ckpt", {"fake": "masks", "real": None}, 10)
    assert not {"root", "cache", "files", "patient_pattern"} & set(told["data"])


def test_what_a_resumed_run_may_change(run) -> None:
    other = json.loads(json.dumps(run))
    other["data"] |= {"root": "/elsewhere", "workers": 2}
    other |= {"run_dir": "/elsewhere", "save_every": 100}
    assert difference(run, other) == []
    other["data"]["size"], other["guard"]["patience"] = 32, 5
    assert difference(run, other) == ["data.size: 64, 32", "guard.patience: 10, 5"]


def test_how_an_image_is_read(run) -> None:
    names = {"_target_", "modality", "intensity", "spatial_dims", "size", "channels", "spacing_mm", "crop", "slices", "patches"}
    assert set(reading(run["data"])) == names
