"""What the data module refuses, and that its YAML says what its code does."""

import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from test_datamodule import SMALL, write_films

from medgan_pl.data.datamodule import FilmDataModule
from medgan_pl.data.randomize import Randomize


def test_a_missing_or_empty_root_never_falls_back(tmp_path):
    with pytest.raises(FileNotFoundError, match="which is neither"):
        FilmDataModule(root=str(tmp_path / "nowhere"), **SMALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no file at all"):
        FilmDataModule(root=str(tmp_path / "empty"), **SMALL)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 2}, "data.size must be"),
        ({"size": [16, 16, 16]}, "data.size must be"),
        ({"size": 64.5}, "data.size must be .* got 64.5"),
        ({"size": "big"}, "data.size must be .* got 'big'"),
        ({"size": None}, "data.size must be .* got None"),
        ({"size": [16, "x"]}, r"data.size must be .* got \[16, 'x'\]"),
        ({"channels": 3}, "data.channels must be 1"),
        ({"split": "random"}, "data.split must be patient or folders"),
        ({"split": "folders"}, "data.split=folders needs films in train and in val, got splits none"),
        ({"patient_pattern": "("}, "data.patient_pattern must be a regular expression"),
        ({"fractions": [0.8, 0.1]}, "data.fractions must be"),
        ({"fractions": [0.9, 0.0, 0.1]}, "data.fractions must be"),
        ({"fractions": 0.8}, "data.fractions must be .* got 0.8"),
        ({"fractions": ["a", 0.1, 0.1]}, "data.fractions must be .* got"),
        ({"fractions": [float("nan"), 0.5, 0.5]}, "data.fractions must be .* got"),
        ({"max_corrupt": 1.5}, "data.max_corrupt must be"),
        ({"max_corrupt": "x"}, "data.max_corrupt must be .* got 'x'"),
        ({"percentiles": [99, 1]}, "data.percentiles must be"),
        ({"percentiles": 5}, "data.percentiles must be .* got 5"),
        ({"percentiles": [1, 50, 99]}, "data.percentiles must be .* got"),
        ({"percentiles": ["a", "b"]}, "data.percentiles must be .* got"),
        ({"batch_size": 0}, "data.batch_size must be a whole number of 1 or more, got 0"),
        ({"batch_size": "x"}, "data.batch_size must be .* got 'x'"),
        ({"workers": 1.5}, "data.workers must be .* got 1.5"),
        ({"seed": -1}, "data.seed must be a whole number of 0 or more"),
        ({"root": ""}, "data.root must be a folder, .* got ''; name one, or leave data.root out"),
        ({"root": " "}, "data.root must be a folder, .* got ' '"),
        ({"augment": {"scale": 3}}, "data.augment.scale must lie in"),
    ],
)
def test_bad_settings_are_refused_at_construction(tmp_path, options, words):
    root = write_films(tmp_path / "films", 3)
    with pytest.raises(ValueError, match=words):
        FilmDataModule(**{"root": str(root), **SMALL, **options})


def test_the_yaml_says_what_the_code_does(monkeypatch):
    """Each argument stands in the YAML with the same default, so that Python and the command line mean the same."""
    monkeypatch.delenv("MEDGAN_CACHE")
    config = OmegaConf.load(Path(__file__).parents[2] / "conf/data/chest_xray.yaml")
    config = OmegaConf.to_container(OmegaConf.create({"seed": 0, "data": config}), resolve=True)["data"]
    assert config.pop("_target_") == "medgan_pl.data.datamodule.FilmDataModule"
    assert config.pop("cohort") == {"patients": 2000, "seed": 0}
    augment = inspect.signature(Randomize).parameters
    assert config.pop("augment") == {name: parameter.default for name, parameter in augment.items()}
    arguments = inspect.signature(FilmDataModule).parameters
    defaults = {name: p.default for name, p in arguments.items() if name not in ("cohort", "augment")}
    assert config == {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
