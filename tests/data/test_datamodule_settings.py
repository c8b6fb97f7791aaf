"""What the data module refuses, and that its YAML says what its code does."""

import inspect
import math

import pytest
from hydra.utils import instantiate
from test_datamodule import films, write_films

from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.intensity import FullRange, Percentiles, Window, ZScore
from medgan_pl.data.layouts import Slices
from medgan_pl.data.modalities import CT, MRI, XRay
from medgan_pl.data.randomize import Randomize


def test_a_missing_or_empty_root_never_falls_back(tmp_path):
    with pytest.raises(FileNotFoundError, match="which is neither"):
        films(root=str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no file at all"):
        films(root=str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 2}, "data.size must be"),
        ({"size": [16, 16, 16]}, "data.size must be"),
        ({"size": 64.5}, "data.size must be .* got 64.5"),
        ({"size": "big"}, "data.size must be .* got 'big'"),
        ({"size": None}, "data.size must be .* got None"),
        ({"size": True}, "data.size must be .* got True"),
        ({"size": [16, "x"]}, r"data.size must be .* got \[16, 'x'\]"),
        ({"channels": 3}, "data.channels must be the channels of the intensity, got 3; use data.channels=1"),
        ({"intensity": Window([[0, 1], [1, 2]])}, "use data.channels=2"),
        ({"split": "random"}, "data.split must be patient or folders or none"),
        ({"split": "folders"}, "data.split=folders needs images in train and in val, got splits none"),
        ({"classes": "names"}, "data.classes must be folders or none"),
        ({"duplicates": "keep"}, "data.duplicates must be refuse or drop"),
        ({"patient_pattern": "("}, "data.patient_pattern must be a regular expression"),
        ({"fractions": [0.8, 0.1]}, "data.fractions must be"),
        ({"fractions": [0.9, 0.0, 0.1]}, "data.fractions must be"),
        ({"fractions": 0.8}, "data.fractions must be .* got 0.8"),
        ({"fractions": ["a", 0.1, 0.1]}, "data.fractions must be .* got"),
        ({"fractions": [float("nan"), 0.5, 0.5]}, "data.fractions must be .* got"),
        ({"max_corrupt": 1.5}, "data.max_corrupt must be"),
        ({"max_corrupt": "x"}, "data.max_corrupt must be .* got 'x'"),
        ({"batch_size": 0}, "data.batch_size must be a whole number of 1 or more, got 0"),
        ({"batch_size": "x"}, "data.batch_size must be .* got 'x'"),
        ({"patches": -1}, "data.patches must be .* got -1"),
        ({"workers": 1.5}, "data.workers must be .* got 1.5"),
        ({"seed": -1}, "data.seed must be a whole number of 0 or more"),
        ({"root": ""}, "data.root must be a folder, .* got ''; name one, or leave data.root out"),
        ({"root": " "}, "data.root must be a folder, .* got ' '"),
        ({"augment": {"scale": 3}}, "data.augment.scale must lie in"),
        ({"cache": {"dtype": "int8"}}, "data.cache.dtype must be one of"),
        ({"spacing_mm": 1.0}, "data.spacing_mm must be null for films"),
        ({"spatial_dims": 3, "size": 16}, "`image.spatial_dims` must be 2 for films"),
        ({"modality": CT(), "spacing_mm": 0}, "data.spacing_mm must be .* above 0, got 0"),
        ({"modality": CT(), "spacing_mm": [1.0, -1.0]}, "data.spacing_mm must be"),
        ({"modality": CT(), "spacing_mm": math.nan}, "data.spacing_mm must be .* got nan"),
        ({"modality": CT(), "spacing_mm": math.inf}, "data.spacing_mm must be .* got inf"),
        ({"modality": CT(), "spacing_mm": [1.0, 1.0, 1.0]}, r"a number or \[H, W\]"),
        ({"modality": CT(), "spatial_dims": 3, "spacing_mm": [1.0, 1.0]}, r"a number or \[D, H, W\]"),
        ({"modality": CT(), "slices": {"axis": "oblique"}}, "data.slices.axis must be"),
        ({"modality": CT(), "root": None, "cohort": {"shape": [8, 8]}}, "data.cohort.shape must be 3 counts"),
        ({"root": None, "cohort": {"patients": 0}}, "data.cohort.patients must be 1"),
    ],
)
def test_bad_settings_are_refused_at_construction(tmp_path, options, words):
    root = write_films(tmp_path / "films", 3)
    with pytest.raises(ValueError, match=words):
        films(**{"root": str(root), **options})


def test_the_yaml_says_what_the_code_does(settings):
    """Each argument stands in the YAML with the same default, so that Python and the command line mean the same."""
    arguments = inspect.signature(ImageDataModule).parameters
    defaults = {name: p.default for name, p in arguments.items() if name not in ("modality", "intensity", "cohort", "augment", "cache")}
    defaults = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
    slices = {name: p.default for name, p in inspect.signature(Slices).parameters.items() if name not in ("size", "spacing_mm", "crop")}
    augment = {name: p.default for name, p in inspect.signature(Randomize).parameters.items()}
    volumes = {"classes": "none", "patient_pattern": settings("data=ct")["data"]["patient_pattern"]}
    for name, differs in (("xray", {}), ("ct", volumes), ("mri", volumes)):
        config = settings(f"data={name}")["data"]
        for key in ("modality", "intensity"):
            node = config.pop(key)
            written = {k: v for k, v in node.items() if k != "_target_"}
            own = inspect.signature(type(instantiate(node))).parameters
            if key == "modality" or "window" not in node["_target_"].lower():
                assert written == {k: p.default for k, p in own.items()}, name
        assert config.pop("_target_") == "medgan_pl.data.datamodule.ImageDataModule"
        assert config.pop("cohort") == (
            {"patients": 2000, "seed": 0, "shape": None} if name == "xray" else {"patients": 200, "seed": 0, "shape": [48, 96, 96]}
        )
        assert config.pop("augment") == augment
        assert sorted(config.pop("cache")) == ["dir", "dtype"]
        if name != "xray":
            told = config.pop("slices")
            assert told == {k: list(v) if isinstance(v, tuple) else v for k, v in slices.items()}
        assert config == {k: v for k, v in {**defaults, **differs}.items() if k in config}, name
        missing = set(defaults) - set(config) - {"slices"}
        assert missing <= {"spacing_mm", "patches"}, name
        assert not (missing and name != "xray"), name


@pytest.mark.parametrize(
    ("override", "kind"),
    [("percentiles", Percentiles), ("window", Window), ("z_score", ZScore), ("full_range", FullRange)],
)
def test_every_intensity_can_be_chosen(settings, override, kind):
    node = settings("data=mri", f"intensity@data.intensity={override}")["data"]["intensity"]
    assert type(instantiate(node)) is kind


@pytest.mark.parametrize(("name", "kind"), [("chest_xray", XRay), ("xray", XRay), ("ct", CT), ("mri", MRI)])
def test_every_data_set_builds(settings, name, kind):
    node = settings(f"data={name}", "data.cohort.patients=3", "data.size=16")["data"]
    data = instantiate(node)
    assert type(data.modality) is kind
    assert data.phantom
