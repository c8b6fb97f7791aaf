"""A trained generator on whole volumes: their geometry, native values, and what is written with them."""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from apply.shifting import (
    SHIFT,
    a_volume,
    oblique,
    shifted,
)
from data.dicom_files import write_series
from data.export import dicom_check as check
from pydicom import dcmread
from torchvision.models import get_model

import medgan_pl
from medgan_pl.apply.inference import labels_of
from medgan_pl.data.export import write_nifti
from medgan_pl.data.readers.nifti import read_nifti
from medgan_pl.data.readers.series import read_series
from medgan_pl.models.load import load


def test_a_nifti_comes_back_in_its_own_grid(trained, applied, tmp_path) -> None:
    volume = a_volume(41, 9, 23)
    (tmp_path / "in" / "p1").mkdir(parents=True)
    affine = oblique(tmp_path / "in" / "p1" / "ct.nii.gz", volume)
    code, said = applied(f"checkpoint={trained()}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    made = nibabel.load("out/p1/ct.nii.gz")
    assert np.abs(made.affine - affine).max() < 1e-4
    assert np.abs(made.get_fdata() - shifted(volume)).max() < 0.01
    told = json.loads(Path("out/p1/ct.nii.gz.json").read_text())
    assert (told["derived"], told["unit"], told["model"]) == (True, "HU", "UNetGenerator")
    assert len(told["checkpoint_sha256"]) == len(told["input_sha256"]) == 64
    assert str(tmp_path) not in Path("out/p1/ct.nii.gz.json").read_text()


def test_what_trained_a_generator_is_not_needed_to_use_it_and_does_not_travel(trained, here, applied, tmp_path) -> None:
    """Weights of one's own, in whose features G paid, are read for training alone."""
    weights = tmp_path / "secret" / "mine.pth"
    weights.parent.mkdir()
    torch.save(get_model("shufflenet_v2_x0_5", weights=None).state_dict(), weights)
    perceptual = ("extractor@extras.perceptual.extractor=file", f"extras.perceptual.extractor.weights={weights}")
    checkpoint = trained("extra=[l1,perceptual]", *perceptual, "extras.perceptual.extractor.arch=shufflenet_v2_x0_5")
    assert not any("extras" in name for name in torch.load(checkpoint, weights_only=True)["state_dict"])
    weights.unlink()
    (tmp_path / "in").mkdir()
    oblique(tmp_path / "in" / "ct.nii.gz", a_volume(21, 3, 23))
    for whole in ("true", "false"):
        code, said = here("export", f"checkpoint={checkpoint}", f"output={whole}.safetensors", f"whole={whole}")
        assert code == 0, said
        assert medgan_pl.load(f"{whole}.safetensors").images == 64
    code, said = applied(f"checkpoint={checkpoint}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    told = json.loads(Path("out/ct.nii.gz.json").read_text())["config"]
    assert told["extras"]["perceptual"]["weight"] == told["game"]["extras"]["perceptual"]["weight"] == 0.1
    for path in ("out/ct.nii.gz.json", "true.safetensors", "false.safetensors"):
        assert b"mine.pth" not in Path(path).read_bytes()


def test_a_residual_generator_of_before_is_not_taken_for_one_of_now(trained) -> None:
    """Its weights fit, and meant tanh(atanh(source) + h)."""
    checkpoint = trained()
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"] = {name.replace("end.change.", "end.conv."): weight for name, weight in state["state_dict"].items()}
    torch.save(state, checkpoint)
    with pytest.raises(ValueError, match=r"do not fit the settings stored with them: .*end\.c"):
        load(checkpoint, "cpu")


def test_a_dicom_series_comes_back_as_one_of_the_same_study(trained, applied, tmp_path) -> None:
    volume = a_volume(5, 30, 26)
    write_series(tmp_path / "in", volume, StudyDate="20200102", KVP="120", PatientSex="F", SliceThickness=4)
    code, said = applied(f"checkpoint={trained()}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    paths = sorted(Path("out/in").glob("*.dcm"))
    before, after = read_series(sorted((tmp_path / "in").iterdir())), read_series(paths)
    assert np.abs(after.affine - before.affine).max() < 1e-4
    assert np.abs(after.pixels - shifted(before.pixels)).max() <= 0.51
    one = dcmread(paths[0])
    source = dcmread(min((tmp_path / "in").iterdir()))
    assert one.SpacingBetweenSlices == 2.5
    for name in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "KVP", "PatientSex", "SliceThickness"):
        assert one[name].value == source[name].value
    assert one.SeriesInstanceUID != source.SeriesInstanceUID
    assert len({dcmread(path).SOPInstanceUID for path in paths}) == 5
    assert one.ImageType[:3] == ["DERIVED", "SECONDARY", "AXIAL"]
    assert one.ContentQualification == "RESEARCH"
    assert "UNetGenerator" in one.DerivationDescription
    assert not [*check.presence(one), *check.values(one), *check.sound(one)]


def test_nifti_and_dicom_of_one_volume_agree(trained, applied, tmp_path) -> None:
    paths = write_series(tmp_path / "in" / "series", a_volume(4, 21, 18))
    scan = read_series(paths)
    write_nifti(tmp_path / "in" / "ct.nii.gz", scan.pixels, scan.affine)
    assert applied(f"checkpoint={trained()}", "input=in", "output=out", "device=cpu")[0] == 0
    a, b = read_nifti(Path("out/ct.nii.gz")), read_series(sorted(Path("out/series").glob("*.dcm")))
    assert np.abs(a.pixels - b.pixels).max() <= 0.51
    assert np.abs(a.affine - b.affine).max() < 1e-4


REAL = Path(os.environ.get("MEDGAN_REAL_DATA", "nowhere"))


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="MEDGAN_REAL_DATA names no folder")
@pytest.mark.parametrize(
    ("name", "read", "window"),
    [
        ("ct_nifti_from_cmbcrc/ct_cmbcrc_256x256x100_hu.nii.gz", lambda path: read_nifti(path), 256),
        ("ct_nifti_from_cmbcrc/ct_cmbcrc_256x256x100_hu.nii.gz", lambda path: read_nifti(path), 96),
        ("ct_dicom_cmbcrc", lambda path: read_series(sorted(path.glob("*.dcm"))), 160),
    ],
    ids=["NIfTI whole", "NIfTI by windows", "DICOM by windows"],
)
def test_a_real_ct_comes_back_where_it_lay_without_seams(trained, applied, name, read, window) -> None:
    """A constant shift of a whole image is the same shift in windows."""
    before = read(REAL / name)
    checkpoint = trained(spacing_mm=list(before.spacing_mm[1:]))
    code, said = applied(f"checkpoint={checkpoint}", f"input={REAL / name}", "output=out", "device=cpu", f"window={window}")
    assert code == 0, said
    after = read(next(path for path in Path("out").iterdir() if not path.name.endswith(".json")))
    assert np.abs(after.affine - before.affine).max() < 1e-4
    assert np.allclose(after.spacing_mm, before.spacing_mm, atol=1e-4)
    whole = 0.51 if "dicom" in name else 0.01  # a series holds whole HU
    assert np.abs(after.pixels - shifted(before.pixels)).max() < whole


def test_super_resolution_is_the_same_field(trained, applied, tmp_path) -> None:
    checkpoint = trained("degrade@data.degrade=super_resolution_x2", "model.factor=2", spacing_mm=[0.4, 0.25])
    affine = oblique(tmp_path / "ct.nii.gz", a_volume(21, 4, 18))
    write_series(tmp_path / "series", a_volume(3, 12, 14))
    assert applied(f"checkpoint={checkpoint}", "input=ct.nii.gz", "output=out", "device=cpu")[0] == 0
    made = nibabel.load("out/ct.nii.gz")
    assert made.shape == (42, 4, 36)
    corners = np.array([[-0.5, -0.5, -0.5, 1], [20.5, 3.5, 17.5, 1]]).T
    finer = np.array([[-0.5, -0.5, -0.5, 1], [41.5, 3.5, 35.5, 1]]).T
    assert np.abs(made.affine @ finer - affine @ corners).max() < 1e-4
    assert applied(f"checkpoint={checkpoint}", "input=series", "output=out", "device=cpu")[0] == 0
    before, after = (read_series(sorted(Path(folder).iterdir())) for folder in ("series", "out/series"))
    assert after.pixels.shape == (3, 24, 28)
    assert np.allclose(after.spacing_mm, [before.spacing_mm[0], 0.4, 0.25])
    assert np.allclose(after.affine @ [0, -0.5, -0.5, 1], before.affine @ [0, -0.5, -0.5, 1], atol=1e-4)


def test_a_segmentation_is_labels(trained, applied, tmp_path) -> None:
    oblique(tmp_path / "ct.nii.gz", a_volume(20, 4, 20))
    masks = ("game=segmentation", "beside@data.beside.mask=masks", "data.beside.mask.structures=[lung,lesion]")
    checkpoint = trained(
        "degrade@data.degrade=none", *masks, "data.beside.mask.labels=[1,2]", "model.generator.residual=false", "model.channels=2"
    )
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"]["ema.network.end.conv.bias"] = torch.tensor([0.1, 0.4])
    torch.save(state, checkpoint)
    code, said = applied(f"checkpoint={checkpoint}", "input=ct.nii.gz", "output=out", "device=cpu")
    assert code == 0, said
    made = nibabel.load("out/ct.nii.gz")
    assert (made.get_data_dtype(), np.unique(made.get_fdata()).tolist()) == (np.uint8, [2.0])
    assert json.loads(Path("out/ct.nii.gz.json").read_text())["structures"] == ["lung", "lesion"]


def test_another_modality_is_in_the_levels_of_training(trained, applied, tmp_path) -> None:
    write_series(tmp_path / "in", a_volume(3, 20, 20) + 1200, modality="MR", series_uid="1.2.9")
    node = ("data.beside.source.modality._target_=medgan_pl.data.modalities.MRI",)
    checkpoint = trained("degrade@data.degrade=none", "beside@data.beside.source=mri", *node, "model.generator.residual=false")
    code, said = applied(f"checkpoint={checkpoint}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    made = read_series(sorted(Path("out/in").glob("*.dcm")))
    assert np.abs(made.pixels - round((np.tanh(SHIFT) + 1) / 2 * 1400 - 1000)).max() < 1
    one = dcmread("out/in/0001.dcm")
    assert (one.Modality, one.PatientID) == ("CT", "SECRET-ID-77")
    assert not [*check.presence(one), *check.values(one), *check.sound(one)]


def test_a_segmenter_that_has_diverged_finds_no_background() -> None:
    with pytest.raises(ValueError, match="has diverged"):
        labels_of(np.array([[[0.2, np.nan]], [[0.1, 0.9]]]))
