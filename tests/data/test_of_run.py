"""The data of a run are opened as they were, changed by what was typed; a checkpoint chooses neither code nor files."""

import copy
from functools import cache
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from medgan_pl.core.console import configuration_folder
from medgan_pl.core.settings import select
from medgan_pl.data.of_run import data_of_run
from medgan_pl.evaluate.__main__ import of_the_run


def composed(*values: str) -> dict[str, Any]:
    """Return the data settings of `evaluate`, with these values."""
    config = copy.deepcopy(of_evaluate())
    ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(list(values)), config)
    return OmegaConf.to_container(config.data, resolve=True)


@cache
def of_evaluate() -> DictConfig:
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        return compose("evaluate")


@pytest.mark.parametrize(
    "trained",
    [("data=ct",), ("data=mri", "image.spatial_dims=3"), ("intensity@data.intensity=z_score",), ("data=xray", "data.modality.voi=true")],
)
def test_the_data_of_any_run_are_opened_as_they_were(settings, trained, tmp_path) -> None:
    stored = settings(*trained, "data.size=32", "data.root=/theirs")["data"]
    OmegaConf.save({"data": stored}, tmp_path / "config.yaml")
    merged = data_of_run(composed("data.cache.dir=mine"), stored, [], tmp_path)
    assert merged.pop("cache")["dir"] == "mine"
    assert merged == {key: value for key, value in stored.items() if key != "cache"}
    typed = data_of_run(composed("data.root=/typed", "data.split_seed=1"), stored, ["data.root=/typed", "data.split_seed=1"], tmp_path)
    assert (typed["root"], typed["split_seed"], typed["size"]) == ("/typed", 1, 32)


@pytest.mark.parametrize(
    ("experiment", "place"),
    [("mr_t1_to_t2", "beside.source"), ("lung_segmentation", "beside.mask"), ("star_mr", "domains.t2")],
)
def test_where_other_files_lie_is_typed_as_in_training(settings, experiment, place, tmp_path) -> None:
    stored = settings(f"experiment={experiment}")["data"]
    OmegaConf.save({"data": stored}, tmp_path / "config.yaml")
    typed = of_the_run(["checkpoint=x", f"data.{place}.root=/typed"])
    merged = data_of_run(composed(*typed), stored, typed, tmp_path)
    assert select(merged, place)["root"] == "/typed"
    assert select(merged, place)["modality"] == select(stored, place)["modality"]
    for wrong in (f"data.{place}.rot", f"data.{place[:-1]}.root", "data.domains.pet.root"):
        typed = of_the_run(["checkpoint=x", f"{wrong}=/typed"])
        with pytest.raises(ValueError, match=rf"there is no `{wrong}` in the data of the run"):
            data_of_run(composed(*typed), stored, typed, tmp_path)


def test_a_checkpoint_chooses_neither_code_nor_files(settings, tmp_path) -> None:
    stored = settings("data.size=32", "data.root=/etc")["data"]
    with pytest.raises(ValueError, match=r"add data\.root"):
        data_of_run(composed(), stored, [], tmp_path)  # no run folder about it says so too
    merged = data_of_run(composed("data.root=/mine"), stored | {"patient_pattern": "(a+)+$"}, ["data.root=/mine"], tmp_path)
    assert merged["root"] == "/mine"
    assert merged["patient_pattern"] == composed()["patient_pattern"]
    assert merged["size"] == 32
    with pytest.raises(ValueError, match="_target_"):
        data_of_run(composed(), stored | {"modality": {"_target_": "os.system"}}, [], tmp_path)
    with pytest.raises(ValueError, match="was trained on CT, got data of XRay"):
        data_of_run(composed(), settings("data=ct")["data"], ["data=chest_xray"], tmp_path)
