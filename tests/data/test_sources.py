"""Where scans come from: hashes that are remembered without names, files that may not be opened, the cohort, and what a modality takes."""

import os
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_files import write_film, write_series
from PIL import Image

from medgan_pl.data.cohort import CohortSource
from medgan_pl.data.files.records import Item
from medgan_pl.data.modalities import CT, MRI, XRay
from medgan_pl.data.sources import FileSource

FOLDER = r"^[^/]+(?=/)"


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16), np.uint8)).save(path)


def hu(seed, shape=(4, 8, 8)):
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.float32)


def source(root, modality, **options):
    return FileSource(root, modality, **{"folder": Path("cache"), "patient_pattern": FOLDER, "classes": False, "splits": True, **options})


def test_files_that_may_not_be_opened_are_told_and_do_not_stop_the_rest(tmp_path, monkeypatch):
    for i in range(3):
        picture(tmp_path / f"films/p{i}/{i}.png", i)
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "1.png" and real(path, mode))
    found = source(tmp_path / "films", XRay())
    assert [item.name for item in found.items] == ["p0/0.png", "p2/2.png"]
    assert found.unusable == {"p1/1.png": "it cannot be opened: permission denied"}
    assert len(found.table()) == 2
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert len(source(tmp_path / "films", XRay()).unusable) == 3  # the data module judges them


def test_ct_gathers_series_and_files_and_passes_over_the_rest(tmp_path):
    root = tmp_path / "ct"
    write_series(root / "jane/a", hu(1), series_uid="1.1", patient_id="JANE")
    write_series(root / "jane/b", hu(2), series_uid="1.2", patient_id="JANE")
    write_series(root / "john", hu(3), series_uid="1.3", patient_id="JOHN")
    write_series(root / "john/mr", hu(4), series_uid="1.4", patient_id="JOHN", modality="MR")
    write_series(root / "john/scout", hu(5, (1, 8, 8)), series_uid="1.5", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    nib.Nifti1Image(hu(6), np.eye(4)).to_filename(root / "ann_0.nii.gz")
    (root / "broken.dcm").write_bytes(b"no dicom")
    picture(root / "preview.png")
    found = source(root, CT())
    assert [(item.name, len(item.paths)) for item in found.items] == [
        ("ann_0.nii.gz", 1),
        (found.items[1].name, 4),
        (found.items[2].name, 4),
        (found.items[3].name, 4),
    ]
    assert all(re.fullmatch(r"(jane/[ab]|john)/\d+\.dcm \(\+3\)", item.name) for item in found.items[1:])
    assert list(found.unusable) == ["broken.dcm"]
    assert found.skipped == {"series of modality MR": 1, "localizers (scouts, by ImageType)": 1}
    assert "1 .png" in found.title
    records = found.table()
    assert len({record.patient for record in records}) == 3  # both series of Jane are hers
    assert found.nameless == 1
    assert "JANE" not in repr(records)
    scans = [task.read() for task in found.tasks(records)]
    assert [scan.pixels.shape for scan in scans] == [(8, 8, 4), (4, 8, 8), (4, 8, 8), (4, 8, 8)]
    assert np.array_equal(scans[3].pixels, hu(3))


def test_files_chooses_by_the_path_and_complains(tmp_path):
    for name in ("sub-1/anat/T1w.nii", "sub-1/anat/T2w.nii", "sub-2/anat/T1w.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(hu(len(name)), np.eye(4)).to_filename(tmp_path / name)
    assert [item.name for item in source(tmp_path, MRI(), files="T1w").items] == ["sub-1/anat/T1w.nii", "sub-2/anat/T1w.nii"]
    assert [item.name for item in source(tmp_path, MRI(), files="^sub-1/.*T2").items] == ["sub-1/anat/T2w.nii"]
    with pytest.raises(FileNotFoundError, match=r"data.files must match a path, got 'FLAIR', which matches none of 3"):
        source(tmp_path, MRI(), files="FLAIR")
    with pytest.raises(ValueError, match=r"data.files must be a regular expression, got '\('"):
        source(tmp_path, MRI(), files="(")


def test_a_dataset_json_of_another_program_is_no_decathlon_table(tmp_path):
    for name in ("imagesTr/case_1.nii", "imagesTr/case_2.nii", "labelsTr/case_1.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(hu(1), np.eye(4)).to_filename(tmp_path / name)
    for other in ('{"channel_names": {"0": "CT"}, "numTraining": 2, "file_ending": ".nii"}', '{"training": 2}', "[1]", "{", "\0\0"):
        (tmp_path / "dataset.json").write_text(other)
        found = source(tmp_path, CT())
        assert [item.name for item in found.items] == ["imagesTr/case_1.nii", "imagesTr/case_2.nii"]
        assert "left out: 1 .json, 1 masks" in found.title


def test_only_the_series_of_that_description(tmp_path):
    write_series(tmp_path / "a", hu(1), series_uid="1.1", modality="MR", SeriesDescription="T1 MPRAGE")
    write_series(tmp_path / "b", hu(2), series_uid="1.2", modality="MR", SeriesDescription="T2 FLAIR")
    found = source(tmp_path, MRI(series="(?i)flair"))
    assert [item.paths[0].parent.name for item in found.items] == ["b"]
    assert found.skipped == {"series of another description": 1}
    with pytest.raises(FileNotFoundError, match=r"must hold .* of CT, got .*, which holds 2 series of modality MR"):
        source(tmp_path, CT())
    with pytest.raises(ValueError, match="series must be a regular expression"):
        MRI(series="(")
    nib.Nifti1Image(hu(6), np.eye(4)).to_filename(tmp_path / "a" / "t1.nii")
    with pytest.raises(ValueError, match=r"series chooses among DICOM series, got none; choose .* with data.files"):
        source(tmp_path / "a", MRI(series="T1"), files="nii")


def test_secondary_captures_are_passed_over_and_counted(tmp_path):
    write_series(tmp_path / "a", hu(1), series_uid="1.1")
    for n, sop_class in enumerate(("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.2")):
        write_series(tmp_path / f"report{n}", hu(2, (1, 8, 8)), series_uid=f"1.{n + 2}", SOPClassUID=sop_class)
    found = source(tmp_path, CT())
    assert [item.paths[0].parent.name for item in found.items] == ["a"]
    assert found.skipped == {"secondary captures (reports, screenshots)": 2}


@pytest.mark.parametrize(
    "rows",
    [
        ["image,label", "{0},ill", "{1},well", "{2},ill", "{3},ill"],
        ["image,split", "{0},train", "{1},val", "{2},train", "{3},train"],
        ["image,patient", "{0},Jane", "{1},John", "{2},Jane", "{3},Jane"],
    ],
)
def test_a_series_on_two_sides_is_refused(tmp_path, rows):
    """Slices listed one by one, which disagree about their class, their split or whose they are."""
    paths = write_series(tmp_path / "s", hu(1))
    table = tmp_path / "t.csv"
    table.write_text("\n".join(row.format(*(f"s/{path.name}" for path in paths)) for row in rows))
    found = source(table, CT())
    assert found.items == []
    assert list(found.unusable.values()) == ["its slices have different classes, splits or patients"]


def test_a_series_over_two_split_folders_matters_only_where_they_are_kept(tmp_path):
    for i, path in enumerate(write_series(tmp_path / "s", hu(1))):
        place = tmp_path / "ct" / ("train", "val")[i % 2] / "jane" / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    assert list(source(tmp_path / "ct", CT()).unusable.values()) == ["its slices have different classes, splits or patients"]
    found = source(tmp_path / "ct", CT(), splits=False)
    assert (found.unusable, found.splits) == ({}, {"train", "val"})
    (record,) = found.table()
    assert (len(record.paths), record.split) == (4, None)
    assert np.array_equal(found.tasks([record])[0].read().pixels, hu(1))


@pytest.mark.parametrize(
    ("modality", "name", "taken"),
    [
        (XRay(), "a.png", True),
        (XRay(), "a.JPEG", True),
        (XRay(), "a.dcm", True),
        (XRay(), "a.nii.gz", False),
        (CT(), "a.nii", True),
        (CT(), "a.NII.GZ", True),
        (CT(), "a.nrrd", True),
        (CT(), "a.mha", True),
        (CT(), "a.dcm", True),
        (CT(), "a.png", False),
        (CT(), "a.raw", False),
        (CT(), "dataset.json", False),
    ],
)
def test_a_modality_takes_its_files(tmp_path, modality, name, taken):
    (tmp_path / name).write_bytes(b"x")
    assert modality.takes(tmp_path / name) == taken


def test_voi_and_bias_field_change_what_is_read(tmp_path):
    film = write_film(tmp_path / "f.dcm", np.arange(144, dtype=np.uint16).reshape(12, 12), WindowCenter=50, WindowWidth=20)
    plain, shown = (XRay(voi).read(Item("f", (film,))) for voi in (False, True))
    assert not np.array_equal(plain.pixels, shown.pixels)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (12, 20, 20)), indexing="ij")
    head = (z**2 + y**2 + x**2 < 0.8) * 100.0
    shaded = head * (1 + 0.5 * x)
    nib.Nifti1Image(np.ascontiguousarray((shaded).transpose(2, 1, 0), np.float32), np.diag([3.0, 3, 3, 1])).to_filename(tmp_path / "h.nii")
    item = Item("h", (tmp_path / "h.nii",))
    spread = [np.std((scan := MRI(bias_field=even).read(item)).pixels[scan.pixels > 30]) for even in (False, True)]
    assert spread[1] < 0.6 * spread[0]


def test_the_cohort_is_drawn_anew_only_when_something_changes():
    def digests(modality, *arguments):
        return [record.digest for record in CohortSource(modality, *arguments).table()]

    assert digests(XRay(), 3, 0, (16, 16)) == digests(XRay(), 3, 0, (16, 16)) == digests(XRay(), 5, 0, (16, 16))[:3]
    drawn = [digests(XRay(), 3, 1, (16, 16)), digests(XRay(), 3, 0, (16, 18)), digests(MRI(), 3, 0, (8, 16, 16))]
    drawn += [digests(CT(), 3, 0, (8, 16, 16)), digests(MRI(tr_ms=4000), 3, 0, (8, 16, 16)), digests(XRay(), 3, 0, (16, 16))]
    assert len({digest for some in drawn for digest in some}) == 18
    for arguments, words in (
        ((XRay(), 0, 0, (16, 16)), "patients` must be a whole number"),
        ((CT(), 3, 0, (16, 16)), "3 counts of 8 or more voxels"),
    ):
        with pytest.raises(ValueError, match=words):
            CohortSource(*arguments)


def test_a_folder_of_many_patients_is_no_patient(tmp_path):
    for i in range(10):
        picture(tmp_path / f"films/batch {i % 2}/{i}.png", i)
    records = source(tmp_path / "films", XRay(), patient_pattern=None).table()
    assert len({record.patient for record in records}) == 10
