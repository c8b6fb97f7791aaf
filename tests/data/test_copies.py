"""Copies are dropped and counted: slices by their SOPInstanceUID, images by their values; none straddles two splits."""

import shutil

from dicom_files import write_series
from test_datamodule_volumes import SHAPE, SPACING, hu, module, write_nifti


def test_copies_by_values_are_dropped_and_counted(tmp_path):
    for i in range(6):
        write_nifti(tmp_path / "ct" / f"p{i}" / "scan.nii.gz", hu(i))
    for i in range(3):
        write_nifti(tmp_path / "ct" / f"again{i}" / "scan.nii", hu(i), SPACING)  # other bytes
    data = module(tmp_path / "ct")
    assert len({record.pixels for record in data.records}) == len(data.records) == 6
    assert "3 copies are left out: the same image is in the set already" in data.describe()


def test_copies_of_two_classes_stay(tmp_path):
    for i in range(6):
        write_nifti(tmp_path / "ct" / f"{'ab'[i % 2]}" / f"p{i}.nii.gz", hu(i))
    write_nifti(tmp_path / "ct" / "b" / "p0.nii.gz", hu(0))
    data = module(tmp_path / "ct", classes="folders")
    assert len(data.records) == 7
    assert "1 groups of identical images have different labels" in data.describe()


def test_a_series_exported_twice_is_read_once(tmp_path):
    root = tmp_path / "ct"
    for p in range(5):
        write_series(root / str(p), hu(p).astype(float), series_uid=f"1.{p}", patient_id=f"P{p}")
    shutil.copytree(root / "0", root / "export")
    data = module(root)
    assert len(data.records) == 5
    assert data.source.skipped == {"copies of slices (the same SOPInstanceUID)": SHAPE[0]}
    same = {"SOPInstanceUID": "1.2.3"}  # an anonymizer that writes one UID into all
    write_series(root / "export", hu(9).astype(float), series_uid="1.9", patient_id="P9", **same)
    shutil.rmtree(root / "0")
    assert len(module(root).records) == 5
