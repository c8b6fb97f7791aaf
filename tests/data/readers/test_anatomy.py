"""Series that are no anatomy, or no slices of a volume, are passed over and counted; slices with a UID each are joined."""

import re

import numpy as np
import pytest
from dicom_files import AXIAL, CORONAL, SAGITTAL, write_series

from medgan_pl.data.files.records import Item
from medgan_pl.data.modalities import MRI
from medgan_pl.data.prepare.layouts import Patches, Whole
from medgan_pl.data.readers.anatomy import Choice
from medgan_pl.data.readers.gather import gather_volumes
from medgan_pl.data.readers.grouping import ANY
from medgan_pl.data.readers.scan import ScanError
from medgan_pl.data.readers.series import read_series
from medgan_pl.data.sources import FileSource

MR = {"modality": "MR", "slope": None, "intercept": None, "signed": False}
T1 = np.random.default_rng(0).integers(0, 900, (24, 5, 6)).astype(np.float32)
MAGNITUDE = ["ORIGINAL", "PRIMARY", "M", "ND"]


def gathered(root, modality="MR", choice=ANY):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return gather_volumes([Item(path.relative_to(root).as_posix(), (path,)) for path in files], modality, choice)


def series(folder, volume, number, **tags):
    return write_series(folder, volume, **MR, series_uid=f"1.{number}", study_uid=f"2.{number}", **{"ImageType": MAGNITUDE, **tags})


def tiled(i, ds):
    """A MOSAIC whose ImageType does not say so."""
    ds.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    ds.add_new(0x0019100A, "US", 9)


def gems(i, ds):
    ds.add_new(0x00430010, "LO", "GEMS_PARM_01")
    ds.add_new(0x0043102F, "SS", 1)


def at_one_place(i, ds):
    ds.ImagePositionPatient, ds.InstanceNumber = [0, 0, 100], i + 1


def planes(i, ds):
    ds.ImageOrientationPatient, ds.ImagePositionPatient = list([AXIAL, CORONAL, SAGITTAL][i % 3]), [0, 0, i]


@pytest.mark.parametrize(
    ("count", "tags", "reason"),
    [
        (24, {"ImageType": [*MAGNITUDE, "MOSAIC"]}, "MOSAIC .* dcm2niix"),
        (1, {"edit": tiled}, "MOSAIC .* dcm2niix"),
        (24, {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "phase, real or imaginary"),
        (24, {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]}, "phase, real or imaginary"),
        (24, {"ImageType": ["ORIGINAL", "PRIMARY", "R_FFE", "R", "FFE"]}, "phase, real or imaginary"),
        (24, {"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"], "edit": gems}, "phase, real or imaginary"),
        (24, {"ComplexImageComponent": "PHASE"}, "phase, real or imaginary"),
        (24, {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"]}, "maps computed"),
        (24, {"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "projections"),
        (24, {"ImageType": ["DERIVED", "PRIMARY", "PROJECTION IMAGE", "NONE"]}, "projections"),
        (20, {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "derived series beside original"),
        (9, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, r"localizers \(scouts"),
        (9, {"SeriesDescription": "3-plane loc"}, "by SeriesDescription"),
        (9, {"SeriesDescription": "PreMonitoring"}, "by SeriesDescription"),
        (9, {"edit": planes}, "planes that cross"),
        (8, {"edit": at_one_place}, "timing slices"),
        (2, {}, "at most 5 slices beside a longer one"),
    ],
)
def test_what_is_no_anatomy_is_passed_over_and_counted(tmp_path, count, tags, reason):
    paths = series(tmp_path / "a_t1", T1, 1)
    series(tmp_path / "other", T1[:count] * 2, 2, **tags)
    found = gathered(tmp_path)
    assert [item.paths for item in found.items] == [tuple(paths)]
    assert not found.unusable
    assert sum(found.skipped.values()) == 1
    assert re.search(reason, next(iter(found.skipped)))


def test_image_type_and_series_choose(tmp_path):
    series(tmp_path / "a_t1", T1, 1)
    phase = series(tmp_path / "b_phase", T1, 2, ImageType=["ORIGINAL", "PRIMARY", "P", "ND"])
    found = gathered(tmp_path, choice=Choice(image_type=r"\\P\\"))
    assert [item.paths for item in found.items] == [tuple(phase)]
    assert found.skipped == {"series of another image type (data.modality.image_type)": 1}
    scout = series(tmp_path / "c_scout", T1[:3], 3, SeriesDescription="scout")
    assert [item.paths for item in gathered(tmp_path, choice=Choice(series="scout")).items] == [tuple(scout)]
    for name in ("series", "image_type"):
        with pytest.raises(ValueError, match=rf"data\.modality\.{name} must be a regular expression, got '\['"):
            Choice(**{name: "["})


def test_magnitude_and_phase_in_one_series_are_told_apart(tmp_path):
    magnitude = series(tmp_path / "m", T1[:6], 1)
    series(tmp_path / "p", T1[:6], 1, ImageType=["ORIGINAL", "PRIMARY", "P", "ND"], prefix="p")
    assert [item.paths for item in gathered(tmp_path).items] == [tuple(magnitude)]


def test_what_is_all_there_is_is_read(tmp_path):
    """A set of derived series, of single slices, or of short ones is a set."""
    for kind, count, tags in (
        ("derived", 6, {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}),
        ("acquired", 6, {"ImageType": ["ORIGINAL", "PRIMARY", "PERFUSION", "NONE"]}),
        ("slice", 1, {}),
        ("short", 4, {}),
    ):
        for n in range(3):
            series(tmp_path / kind / str(n), T1[:count] + n, n, patient_id=f"P{n}", **tags)
        found = gathered(tmp_path / kind)
        assert (len(found.items), found.skipped) == (3, {}), kind


@pytest.mark.parametrize("own_study", [False, True])
def test_slices_with_a_series_uid_each_are_joined(tmp_path, own_study):
    def edit(i, ds):
        ds.SeriesInstanceUID = f"1.{ds.PatientID[1:]}.{i + 1}"
        if own_study:
            ds.StudyInstanceUID = f"2.{i + 1}"

    paths = write_series(tmp_path / "t1", T1[:6], **MR, patient_id="P1", edit=edit)
    write_series(tmp_path / "other", T1[:6], **MR, patient_id="P2", prefix="b", edit=edit)
    found = gathered(tmp_path)
    assert sorted(len(item.paths) for item in found.items) == [6, 6]
    item = next(item for item in found.items if item.name.startswith("t1"))
    assert item.paths == tuple(paths)
    assert np.array_equal(read_series(item.paths).pixels, T1[:6])


def test_single_slices_are_joined_beside_a_gap_and_to_two_volumes_and_the_title_says_so(tmp_path):
    """Eight slices without the fourth, and six of the same study 100 mm away."""

    def edit(i, ds):
        z = 3 * [0, 1, 2, 4, 5, 6, 7][i] if "near" in str(ds.PatientComments) else 100 + 3 * i
        ds.SeriesInstanceUID, ds.ImagePositionPatient = f"1.{z}", [0, 0, z]

    near = write_series(tmp_path / "x", T1[:7], **MR, edit=edit, PatientComments="near")
    far = write_series(tmp_path / "x", T1[2:8], **MR, edit=edit, PatientComments="far", prefix="b")
    known = {"folder": tmp_path / "cache", "patient_pattern": None, "classes": False, "splits": False}
    for _ in range(2):  # the second time from the stored table
        source = FileSource(tmp_path / "x", MRI(), **known)
        assert "13 single slices with a SeriesInstanceUID each joined to 2 volumes" in source.title
        records = source.table()
        assert sorted(record.paths for record in records) == sorted([tuple(near), tuple(far)])
    scan = read_series(near)
    assert np.array_equal(scan.pixels, T1[:7])
    assert "1 slice missing" in scan.loose


def test_single_slices_far_apart_or_unlike_are_not_joined(tmp_path):
    def edit(i, ds):
        ds.SeriesInstanceUID, ds.ImagePositionPatient = f"1.{i + 1}", [0, 0, [0, 3, 60, 61][i]]

    write_series(tmp_path, T1[:4], **MR, edit=edit)
    assert len(gathered(tmp_path).items) == 4


def test_a_single_slice_is_no_volume_in_3d(tmp_path):
    scan = read_series(write_series(tmp_path, T1[:1], **MR))
    for layout in (Whole(size=(4, 4, 4), spacing_mm=None, crop=False), Patches(patch=(4, 4, 4), spacing_mm=None)):
        with pytest.raises(ScanError, match="two slices or more along each axis, got one"):
            layout.cut(scan, 0.0)
