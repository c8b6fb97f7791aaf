"""Masks by their values are no images to train on, until the user says so; what is odd is said in the log."""

import numpy as np
import pytest
from test_datamodule_volumes import SHAPE, hu, module, write_nifti


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


def test_what_is_odd_is_said_in_the_log_once_for_each_kind(tmp_path):
    write(tmp_path / "ct", masks=0)
    for i in range(2):
        write_nifti(tmp_path / "ct" / f"q{i}" / "ct.nii.gz", hu(9 + i, SHAPE), (9.0 + i, 1.0, 1.0))
    odd = [line for line in module(tmp_path / "ct").describe() if line.startswith("WARNING")]
    assert odd == [
        "WARNING: 2 of 7 scans are odd, such as q0/ct.nii.gz: spacing 9 × 1 × 1 mm: one axis is much coarser than another; see them with "
        "python -m medgan_pl.inspect"
    ]
