"""What the data module refuses, and that its YAML says what its code does."""

import inspect
import math
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from dicom_files import write_film
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from test_datamodule import films, write_films

from medgan_pl.core.console import configuration_folder
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.intensity import FullRange, Percentiles, Window, ZScore
from medgan_pl.data.modalities import CT, MRI, XRay
from medgan_pl.data.prepare.layouts import Slices
from medgan_pl.data.randomize import Randomize


@pytest.fixture(scope="module")
def three_films(tmp_path_factory):
    return write_films(tmp_path_factory.mktemp("films"), 3)


def test_a_missing_or_empty_root_never_falls_back(tmp_path):
    with pytest.raises(FileNotFoundError, match="which does not exist"):
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
        ({"batch_size": 0}, "`data.batch_size` must be a whole number of at least 1, got 0"),
        ({"batch_size": "x"}, "`data.batch_size` must be .* got 'x'"),
        ({"patches": -1}, "`data.patches` must be .* got -1"),
        ({"workers": 1.5}, "`data.workers` must be .* got 1.5"),
        ({"seed": -1}, "`data.seed` must be a whole number of at least 0"),
        ({"root": ""}, "data.root must be a folder, .* got ''; set one, or leave data.root out"),
        ({"root": " "}, "data.root must be a folder, .* got ' '"),
        ({"augment": {"scale": 3}}, "data.augment.scale must lie in"),
        ({"augment": {"flip": True}}, "data.augment.flip=true mirrors left and right, but data.laterality=true"),
        ({"max_train": 0}, "`data.max_train` must be a whole number of at least 1, got 0"),
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
        ({"root": None, "cohort": {"patients": 0}}, "`data.cohort.patients` must be a whole number of at least 1"),
    ],
)
def test_bad_settings_are_refused_at_construction(three_films, options, words):
    with pytest.raises(ValueError, match=words):
        films(**{"root": str(three_films), **options})


def built(settings, *overrides):
    """The data module of the command line, ready."""
    data = instantiate(settings("data.size=16", *overrides)["data"], _convert_="all")
    data.setup()
    return data


def test_folders_of_patients_are_refused_as_classes_and_taken_as_patients(tmp_path, settings):
    for i in range(60):
        path = tmp_path / "films" / f"Doe {i // 3}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (20, 20), np.uint8)).save(path)
    root = f"data.root={tmp_path / 'films'}"
    with pytest.raises(InstantiationException, match=r"folders must be classes, got 20 that hold 3\.0 images.* use data\.classes=none"):
        built(settings, "data=xray", root)
    data = built(settings, "data=xray", root, "data.classes=none")
    sides = [{data.records[record].patient for record in data.image_records[rows]} for rows in data.rows.values()]
    assert [len(side) for side in sides] == [16, 2, 2]
    assert len(set.union(*sides)) == 20
    assert data.classes == ()
    assert data.sizes() == {"train": 48, "val": 6, "test": 6}


def test_nnu_net_channels_of_a_case_stay_on_one_side(tmp_path, settings):
    for case in range(12):
        for channel in range(2):
            volume = np.random.default_rng([case, channel]).integers(0, 500, (16, 16, 4)).astype(np.int16)
            nib.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / f"case_{case:03d}_000{channel}.nii.gz")
    data = built(settings, "data=mri", f"data.root={tmp_path}")
    assert len({record.patient for record in data.records}) == 12
    by_case = {}
    for record in data.records:
        by_case.setdefault(record.name[:8], set()).add((record.patient, record.split))
    assert [len(sides) for sides in by_case.values()] == [1] * 12
    assert data.found.nameless == 0
    some = built(settings, "data=mri", f"data.root={tmp_path}", "data.files=_0001")
    assert [record.name[8:] for record in some.records] == ["_0001.nii.gz"] * 12
    with pytest.raises(InstantiationException, match=r"data\.files must match a path, got 'T1w', which matches none of 24"):
        built(settings, "data=mri", f"data.root={tmp_path}", "data.files=T1w")


def test_films_of_different_units_are_refused(tmp_path):
    write_films(tmp_path / "films", 9, classes=())
    Image.fromarray(np.random.default_rng(0).random((20, 20), np.float32)).save(tmp_path / "films" / "person9_9.tif")
    data = films(root=str(tmp_path / "films"), fractions=[0.5, 0.5, 0])
    with pytest.raises(ValueError, match=r"one unit, got gray levels \(person0_0.png\), signal \(person9_9.tif\); .* with data.files"):
        data.setup()
    films(root=str(tmp_path / "films"), fractions=[0.5, 0.5, 0], files="png$").setup()


@pytest.mark.parametrize(
    ("tags", "voi", "unit"),
    [
        ({}, False, "gray levels"),
        ({"RescaleSlope": "1", "RescaleIntercept": "-10"}, False, "gray levels"),
        ({"RescaleSlope": "0.01", "RescaleIntercept": "0.5"}, False, "signal"),
        ({"RescaleSlope": "0.01", "RescaleIntercept": "0.5", "WindowCenter": 1.5, "WindowWidth": 2}, True, "gray levels"),
    ],
)
def test_rescaled_films_are_a_signal_and_whole_ones_grey_levels(tmp_path, tags, voi, unit):
    """2.55 units of a rescaled film in 256 steps are within 1 unit of anything: it is its range that must not suffer."""
    for i in range(6):
        write_film(tmp_path / f"{i}.dcm", np.random.default_rng(i).integers(0, 256, (20, 20), np.uint8), patient_id=f"P{i}", **tags)
    options = {"root": str(tmp_path), "modality": XRay(voi=voi), "fractions": [0.5, 0.5, 0]}
    data = films(**options)
    data.setup()
    assert data.inverse.unit == unit
    coarse = films(**options, cache={"dir": "cache", "dtype": "uint8"})
    if unit == "signal":
        assert "thousandths of the range off" in data.describe()[-1]
        with pytest.raises(ValueError, match=r"within 1 thousandths of the range, got uint8, which loses up to 1.96 between"):
            coarse.setup()
    else:
        coarse.setup()
        assert "at most 0.5 gray levels off" in coarse.describe()[-1]


def test_training_on_fewer_scans_says_so_and_holds_out_the_same(tmp_path):
    root = str(write_films(tmp_path / "films"))
    whole, few = films(root=root), films(root=root, max_train=5)
    for data in (whole, few):
        data.setup()
    assert few.sizes() == {**whole.sizes(), "train": 5}
    assert f"{whole.sizes()['train'] - 5} scans are left out of train (data.max_train=5)" in few.describe()
    assert not any("max_train" in line for line in whole.describe())
    assert few.fingerprint != whole.fingerprint
    names = [{data.records[row].name for row in data.image_records[data.rows["val"]]} for data in (whole, few)]
    assert names[0] == names[1]


def test_a_held_out_split_has_an_image_for_each_device(tmp_path):
    data = films(root=str(write_films(tmp_path / "films")))
    data.setup()
    assert data.sizes()["val"] == 3
    data.trainer = SimpleNamespace(global_rank=3, world_size=4)
    with pytest.raises(ValueError, match=r"the val split must hold an image for each of 4 devices, got 3; raise data\.fractions"):
        data.val_dataloader()
    data.trainer.world_size = 3
    data.trainer.global_rank = 2
    assert len(next(iter(data.val_dataloader()))["image"]) == 1


PARTS = ("beside", "degrade")


def test_the_yaml_says_what_the_code_does(settings):
    """Each argument stands in the YAML with the same default, so that Python and the command line mean the same."""
    arguments = inspect.signature(ImageDataModule).parameters
    parts = ("modality", "intensity", "cohort", "augment", "cache", *PARTS)
    defaults = {name: p.default for name, p in arguments.items() if name not in parts}
    defaults = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
    slices = {name: p.default for name, p in inspect.signature(Slices).parameters.items() if name not in ("size", "spacing_mm", "crop")}
    augment = {name: p.default for name, p in inspect.signature(Randomize).parameters.items()}
    volumes = {"classes": "none", "crop": False}
    for name, differs in (("xray", {}), ("ct", volumes), ("mri", {**volumes, "laterality": False})):
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
        assert [config.pop(name) for name in PARTS] == [{"source": {}, "mask": {}}, {}]  # which is none
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
def test_every_intensity_can_be_chosen(override, kind):
    node = OmegaConf.load(configuration_folder() / "intensity" / f"{override}.yaml")
    assert type(instantiate(node)) is kind


@pytest.mark.parametrize(("name", "kind"), [("chest_xray", XRay), ("xray", XRay), ("ct", CT), ("mri", MRI)])
def test_every_data_set_builds(settings, name, kind):
    node = settings(f"data={name}", "data.cohort.patients=3", "data.size=16")["data"]
    data = instantiate(node)
    assert type(data.modality) is kind
    assert data.phantom
