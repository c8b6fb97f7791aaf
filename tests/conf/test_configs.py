"""Every option of the configuration composes and is built; every study composes; names that are nowhere get a hint."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from placed import FOLDER, composed, content, options, resolved, with_option

from medgan_pl.core.console import describe_groups, suggest
from medgan_pl.models.build import build_module

HOUSE = FOLDER.parent
TINY = ("data.size=16", "model.width=4", "metrics.random.extractor.width=4")


def test_mirroring_is_refused_where_left_and_right_differ() -> None:
    def mirrored(data: str, **changes: Any) -> Any:
        raw = with_option(composed("config", "run_dir=run"), "data", "data", data)
        raw = with_option(raw | {"data": raw["data"] | changes}, "augment", "augment", "fixed")
        return instantiate(resolved(raw["augment"], raw) | {"flip": True})

    for data in ("chest_xray", "xray", "ct"):
        with pytest.raises(InstantiationException, match=r"augment\.flip=true mirrors left and right"):
            mirrored(data)
    mirrored("mri")
    mirrored("xray", laterality=False)


def test_the_defaults_are_adam_for_g_and_sgd_for_d(settings) -> None:
    optimizer_g, optimizer_d = build_module(settings(*TINY)).configure_optimizers()
    assert isinstance(optimizer_g, torch.optim.Adam)
    assert isinstance(optimizer_d, torch.optim.SGD)


@pytest.mark.parametrize("schedule", options("schedule"))
def test_every_schedule_is_a_factor(schedule) -> None:
    factor = instantiate(content("schedule", schedule))
    assert all(0 <= factor(images, 100) <= 1 for images in range(0, 101, 10))


@pytest.mark.parametrize("trainer", ["auto", "cpu"])
def test_a_trainer_of_this_machine_is_built(trainer) -> None:
    instantiate(content("trainer", trainer), logger=False, enable_checkpointing=False, enable_progress_bar=False)


GROUPS = ("beside@data.beside.source", "extra", "stages", "noise", "optimizers", "logger", "data", "intensity@data.intensity")
GROUPS += ("game", "metrics", "experiment")
OTHERS = [(group, option) for group in GROUPS for option in options(group.split("@")[0])]


@pytest.mark.parametrize(("group", "option"), OTHERS)
@pytest.mark.slow
def test_every_option_composes(settings, group, option) -> None:
    needs = {("metrics", "segmentation"): ["beside@data.beside.mask=masks"], ("game", "star"): ["model=star_gan"]}
    chosen = f"{group}={option}"
    config = settings(*needs.get((group, option), []), chosen)
    assert suggest([chosen, *(f"{key}=" for key in keys_of(config))], FOLDER) == []


def keys_of(node: Any) -> list[str]:
    """All of it, dotted, as they are typed."""
    below = {key: keys_of(value) for key, value in node.items()} if isinstance(node, dict) else {}
    return [*below, *(f"{key}.{rest}" for key, keys in below.items() for rest in keys)]


@pytest.mark.parametrize("typed", ["extras.perceptul.weight=2", "extractor@extras.perceptul.extractor=file", "extras.perceptul=null"])
def test_only_a_name_that_is_nowhere_gets_a_hint(typed) -> None:
    right = ["extractor@extras.perceptual.extractor=file", "data.beside.source.root=/data", "data.domains.t1.root=/data", "resume.path=x"]
    hints = suggest([*right, typed, "data.size=16", typed, "+schedule@extras.mine.weight=linear", "extras.mine.weight=2"], FOLDER)
    assert [hint.partition(" or ")[0] for hint in hints] == ["there is no `perceptul` in the configuration; did you mean `perceptual`"]


@pytest.mark.parametrize("experiment", [each for each in options("experiment") if "ct" in each or each == "dehaze"])
def test_errors_of_ct_are_shown_in_hu(settings, experiment) -> None:
    config = settings(f"experiment={experiment}")
    windows, paired = config["data"].get("intensity", {}).get("windows_hu"), config["metrics"].get("paired")
    if windows and paired:
        assert paired["half_range"] == max(high - low for low, high in windows) / 2


def test_slices_of_ct_are_dehazed_as_the_experiment_says(settings) -> None:
    words = re.search("CT: (.*?),", (FOLDER / "experiment" / "dehaze.yaml").read_text())[1].split()
    intensity = settings("experiment=dehaze", *words)["data"]["intensity"]
    assert intensity["_target_"] == "medgan_pl.data.intensity.Window"


@pytest.mark.parametrize("degrade", options("degrade"))
def test_every_degradation_of_ct_is_built(degrade) -> None:
    raw = with_option(composed("config", "run_dir=run", "data=ct"), "degrade", "data.degrade", degrade)
    built = instantiate(resolved(raw["data"]["degrade"], raw), _convert_="all")
    assert bool(built) == (degrade != "none")


@pytest.mark.parametrize("study", sorted((HOUSE / "experiments").glob("*/study.yaml")), ids=lambda path: path.parent.name)
def test_every_study_composes(study: Path, tmp_path: Path) -> None:
    with initialize_config_dir(str(FOLDER), version_base="1.3"):
        overrides = [f"hydra.searchpath=[file://{study.parent.parent}]", f"+{study.parent.name}=study", f"run_dir={tmp_path}"]
        config = compose("config", overrides=overrides, return_hydra_config=True)
        sweep = config.hydra.sweeper.params
        assert sweep, "a study sweeps over something"
        firsts = {key: re.split(r"interval\(|,", str(values))["interval(" in str(values)] for key, values in sweep.items()}
        compose("config", overrides=[*overrides, *(f"{key}={first}" for key, first in firsts.items())])
    assert OmegaConf.is_config(config.module)
    for name in ("README.md", "results.csv"):
        assert (study.parent / name).is_file(), name


def test_every_option_says_what_it_is() -> None:
    for line in describe_groups(FOLDER).splitlines():
        if line.startswith("    "):
            option, _, sentence = line.strip().partition(" ")
            assert len(sentence.strip()) > 5, option
