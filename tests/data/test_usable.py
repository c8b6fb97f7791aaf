"""Masks by their values are no images to train on, until the user says so; what is odd is said in the log."""

import numpy as np
import pytest
from test_datamodule_volumes import SHAPE, hu, module, write_nifti

from medgan_pl.data.intensity import Percentiles
from medgan_pl.data.modalities import MRI


def write(root, masks: int, images: int = 5) -> None:
    for i in range(masks):
        write_nifti(root / f"p{i}" / "organs.nii.gz", (hu(i) > 100 * i).astype(np.uint8) + (hu(i) > 250))
    for i in range(images):
        write_nifti(root / f"p{i}" / "ct.nii.gz", hu(i))


def test_masks_of_any_name_are_left_out_and_counted(tmp_path):
    write(tmp_path / "ct", masks=5)
    data = module(tmp_path / "ct")
    assert {record.name for record in data.records} == {f"p{i}/ct.nii.gz" for i in range(5)}
    assert (
        "5 of 10 look like masks, such as p0/organs.nii.gz: it has only the values 0, 1, 2; they are left out; if they are images, choose "
        "the files with data.files"
    ) in data.describe()


def test_masks_alone_are_refused_until_they_are_chosen(tmp_path):
    write(tmp_path / "ct", masks=5, images=0)
    with pytest.raises(ValueError, match=r"data\.root must hold images, got masks: 5 volumes.*0, 1, 2; set data\.root to the images, or"):
        module(tmp_path / "ct")
    chosen = module(tmp_path / "ct", files=".")
    (tmp_path / "t.csv").write_text("\n".join(["image", *(f"ct/p{i}/organs.nii.gz" for i in range(5))]))
    for data in (chosen, module(tmp_path / "t.csv")):
        assert len(data.records) == 5
        assert any(line.startswith("WARNING: 5 of 5 look like masks") for line in data.describe())


def test_what_only_the_set_tells_of_masks(tmp_path):
    """Most masks of a kind are known by their values, others are empty or soft; maps of shares lie beside images."""
    disk = ((np.mgrid[:5, :20, :24] - np.array([2, 10, 12]).reshape(3, 1, 1, 1)) ** 2).sum(0)
    for i in range(8):
        folder = tmp_path / "ct" / f"p{i}"
        write_nifti(folder / "ct.nii.gz", hu(i))
        soft = np.where(disk < 30, 1000 * (i < 2) * hu(i) % 90 + 3, 0)  # many values, in noise
        write_nifti(folder / f"liver_{i}.nii.gz", (soft if i < 2 else disk < 40 + i).astype(np.int16))
        write_nifti(folder / "tumor.nii.gz", np.zeros(SHAPE, np.uint8))
        write_nifti(folder / "grayness.nii.gz", np.clip((60 - disk + i) / 50, 0, 1).astype(np.float32))
    data = module(tmp_path / "ct")
    assert {record.name for record in data.records} == {f"p{i}/ct.nii.gz" for i in range(8)}
    assert data.unusable == {}
    assert any(line.startswith("24 of 32 look like masks, such as p0/grayness.nii.gz: its values are shares") for line in data.describe())
    assert data.masks["p0/liver_0.nii.gz"] == "most of its kind are masks, such as p2/liver_2.nii.gz"
    assert data.masks["p3/tumor.nii.gz"] == "one value, as in a mask without a structure"


def test_images_from_0_to_1_alone_are_images(tmp_path):
    for i in range(8):
        write_nifti(tmp_path / "ct" / f"p{i}" / "t1.nii.gz", (hu(i) / 300).clip(0, 1).astype(np.float32))
    options = {"modality": MRI(), "intensity": Percentiles(), "slices": {"foreground": 0}}
    assert len(module(tmp_path / "ct", **options).records) == 8
    write_nifti(tmp_path / "ct" / "p0" / "blank.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(ValueError, match=r"blank\.nii\.gz: it must have different values"):  # no mask says that it is one
        module(tmp_path / "ct", **options)


def test_what_is_odd_is_said_in_the_log_once_for_each_kind(tmp_path):
    write(tmp_path / "ct", masks=0)
    for i in range(2):
        write_nifti(tmp_path / "ct" / f"q{i}" / "ct.nii.gz", hu(9 + i, SHAPE), (9.0 + i, 1.0, 1.0))
    odd = [line for line in module(tmp_path / "ct").describe() if line.startswith("WARNING")]
    assert odd == [
        "WARNING: 2 of 7 scans are odd, such as q0/ct.nii.gz: spacing 9 × 1 × 1 mm: one axis is much coarser than another; see them with "
        "python -m medgan_pl.inspect"
    ]
