"""DICOM series: values, place and order as stored, or a refusal; headers that keep nothing that identifies."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import AXIAL, CORONAL, SAGITTAL, deflated, write_series
from pydicom.pixels import apply_modality_lut

from medgan_pl.data.prepare.layouts import Whole
from medgan_pl.data.readers.grouping import group_series
from medgan_pl.data.readers.header import read_header
from medgan_pl.data.readers.scan import ScanError
from medgan_pl.data.readers.series import read_series

HU = np.random.default_rng(0).integers(-1000, 2000, (6, 7, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("signed", "slope", "intercept", "modality"),
    [(True, 1, -1024, "CT"), (False, 1, -1024, "CT"), (True, 1, 0, "CT"), (False, 0.5, -1000, "CT"), (True, None, None, "MR")],
)
def test_series_values_and_spacing_are_exact(tmp_path, signed, slope, intercept, modality):
    paths = write_series(tmp_path, HU, signed=signed, slope=slope, intercept=intercept, modality=modality)
    scan = read_series(paths)
    assert np.array_equal(scan.pixels, HU)
    assert scan.pixels.dtype == np.float32
    assert scan.spacing_mm == (2.5, 0.8, 0.5)
    assert (scan.bits, scan.padding, scan.synthetic) == (16, None, False)


def marked(depth, rows, columns, at):
    volume = np.full((depth, rows, columns), -1000, np.float32)
    volume[at] = 777
    return volume


@pytest.mark.parametrize("reversed_slices", [False, True])
@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, (0, -1, 0, 1, 0, 0), (0.8, 0.6, 0, -0.6, 0.8, 0)])
def test_the_world_position_of_a_voxel_is_kept(tmp_path, orientation, reversed_slices):
    at, origin, spacing = (1, 4, 2), np.array([-30.0, 12.0, 55.0]), (3.0, 0.7, 0.4)
    across, down = np.array(orientation, float).reshape(2, 3)
    lps = origin + at[0] * spacing[0] * np.cross(across, down) + at[1] * spacing[1] * down + at[2] * spacing[2] * across
    paths = write_series(tmp_path, marked(5, 6, 7, at), orientation=orientation, origin=origin, spacing_mm=spacing)
    scan = read_series(paths[::-1] if reversed_slices else paths)
    found = np.argwhere(scan.pixels == 777)
    assert len(found) == 1
    assert np.allclose((scan.affine @ [*found[0], 1])[:3], lps * [-1, -1, 1], atol=1e-9)
    likely = scan.affine[:3, :3] / np.linalg.norm(scan.affine[:3, :3], axis=0)
    assert (np.diag(likely[[2, 1, 0]]) * [1, -1, -1] > 0.7).all()  # feet to head, front to back, right to left


def test_padding_written_as_unsigned_is_masked_before_the_rescale(tmp_path):
    """63536 for -2000, as in the GE files of CMB-CRC: without a mask it becomes -3024 HU."""
    hu = HU.copy()
    hu[:, 0] = -2000 - 1024
    hu[2] = -2000 - 1024  # a slice that is nothing but padding
    paths = write_series(tmp_path, hu, edit=lambda i, ds: ds.add_new("PixelPaddingValue", "US", 63536))
    scan = read_series(paths)
    assert np.array_equal(scan.padding, hu == -3024)
    assert np.array_equal(scan.pixels[~scan.padding], hu[~scan.padding])
    assert (scan.pixels[scan.padding] == hu[~scan.padding].min()).all()
    with pytest.raises(ScanError, match="padding in every voxel"):
        read_series(
            write_series(tmp_path / "all", np.full((3, 4, 5), -3024.0), edit=lambda i, ds: ds.add_new("PixelPaddingValue", "SS", -2000))
        )


def test_slopes_may_differ_between_slices(tmp_path):
    hu = np.rint(np.arange(4 * 5 * 6).reshape(4, 5, 6)) * np.array([0.5, 1, 2, 0.25])[:, None, None]
    paths = write_series(tmp_path, hu, modality="MR", slope=[0.5, 1, 2, 0.25], intercept=0)
    scan = read_series(paths)
    expected = np.stack([apply_modality_lut((d := pydicom.dcmread(p)).pixel_array, d).astype(np.float32) for p in paths])
    assert np.array_equal(scan.pixels, hu)
    assert np.array_equal(scan.pixels, expected)


def test_a_single_slice_takes_its_thickness(tmp_path):
    assert read_series(write_series(tmp_path, HU[:1])).spacing_mm == (2.5, 0.8, 0.5)
    paths = write_series(tmp_path / "b", HU[:1], SliceThickness=None, SpacingBetweenSlices=4)
    assert read_series(paths).spacing_mm == (4, 0.8, 0.5)


def test_positions_rounded_by_the_maker_are_taken(tmp_path):
    def rounded(i, ds):
        ds.ImagePositionPatient = [-100, -120, round(40 + i * 0.6250, 2)]

    scan = read_series(write_series(tmp_path, HU, spacing_mm=(0.625, 0.8, 0.5), edit=rounded))
    assert scan.spacing_mm[0] == pytest.approx(0.625, abs=0.002)
    assert np.array_equal(scan.pixels, HU)


def at(*slices, **tags):
    """Sets tags in some slices only."""

    def edit(i, ds):
        if i in slices:
            for name, value in tags.items():
                setattr(ds, name, value) if value is not None else delattr(ds, name)

    return edit


def shifted(i, ds):
    """A gantry tilted by 10°: slices stay straight, the table moves along z."""
    ds.ImagePositionPatient = [-100, -120 + i * 2.5 * float(np.tan(np.radians(10))), 40 + i * 2.5]


def move(*steps):
    places = np.cumsum([0, *steps])

    def edit(i, ds):
        ds.ImagePositionPatient = [-100, -120, 40 + float(places[i])]

    return edit


MR = {"modality": "MR", "intercept": None, "slope": None}
BAD_SERIES = [
    ("position missing", {"edit": at(1, 4, 5, ImagePositionPatient=None)}, r"\(ImagePositionPatient\) missing in 3 of 6 files"),
    ("orientation missing", {"edit": at(2, ImageOrientationPatient=None)}, r"\(ImageOrientationPatient\) missing in 1 of 6 files"),
    ("spacing missing", {"edit": at(2, PixelSpacing=None)}, r"\(PixelSpacing\) missing in 1 of 6 files"),
    ("spacing zero", {"PixelSpacing": [0, 1]}, r"\(PixelSpacing\) missing in 6 of 6 files"),
    ("position short", {"edit": at(2, ImagePositionPatient=[1, 2])}, "missing in 1 of 6"),
    ("orientation 0", {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "two unit vectors"),
    ("orientation skew", {"ImageOrientationPatient": [1, 0, 0, 0.6, 0.8, 0]}, "perpendicular|normal|place"),
    ("other orientation", {"edit": at(3, ImageOrientationPatient=[1, 0, 0, 0, 0.6, 0.8])}, "same orientation, got another in 1 of 6"),
    ("mixed spacing", {"edit": at(0, 1, PixelSpacing=[0.9, 0.5])}, "same PixelSpacing, got another in 2 of 6"),
    ("mixed size", {"edit": at(0, Rows=8, Columns=7)}, "same size in pixels, got 2"),
    ("mixed modality", {"edit": at(0, Modality="PT")}, "same modality, got 2"),
    ("two patients", {"edit": at(0, PatientID="SECRET-2")}, "one patient, got several"),
    ("copy", {"edit": move(2.5, 2.5, 0, 2.5, 2.5)}, r"got 1 of 6 .* \(slices 3 and 4 have other pixels"),
    ("missing slice", {"edit": move(2.5, 2.5, 5, 2.5, 2.5)}, "gap of 5 mm between slices 3 and 4 where 2.5 mm is usual: 1 slice missing"),
    ("missing slices", {"edit": move(2.5, 7.5, 2.5, 5, 2.5)}, "gap of 7.5 mm between slices 2 and 3 .* 2 slices missing; 1 more gaps"),
    ("uneven", {"edit": move(2.5, 2.5, 2.7, 2.5, 2.5)}, "evenly spaced within 1% .* from 2.5 to 2.7 mm"),
    ("changing", {"edit": move(2.5, 2.5, 2.5, 1.25, 1.25)}, "evenly spaced"),
    ("tilt", {"edit": shifted}, r"along their normal within 0.5°, got 10.0° \(a tilted gantry\)"),
    ("one aside", {"edit": at(2, ImagePositionPatient=[-98, -120, 45])}, "evenly spaced .* 2 mm off"),
    ("frames", {"edit": at(2, NumberOfFrames=6)}, "multi-frame file must state the place of each of its 6 frames"),
    ("no pixels", {"edit": at(2, PixelData=None)}, "pixel data, got none in 1 of 6"),
    ("colour", {"edit": at(2, SamplesPerPixel=3)}, "color in 1 of 6"),
    ("inverted", {"PhotometricInterpretation": "MONOCHROME1"}, "must be MONOCHROME2"),
    ("no rescale", {"slope": None, "intercept": 0}, "slice 1 of 6: CT must have RescaleSlope"),
    ("intercept alone", {"edit": at(3, RescaleSlope=None)}, "slice 4 of 6: RescaleSlope and RescaleIntercept must come together"),
    ("short", {"edit": at(5, PixelData=b"12")}, "slice 6 of 6: pixel data must be 112 bytes"),
    ("claims", {"Rows": 65535, "Columns": 65535}, "its header claims 6 × 65535 × 65535"),
    ("thickness", {"hu": HU[:1], "SliceThickness": None}, "its thickness"),
    ("thickness 0", {"hu": HU[:1], "SliceThickness": 0}, "its thickness"),
]


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in BAD_SERIES], ids=[row[0] for row in BAD_SERIES])
def test_what_is_no_volume_is_refused(tmp_path, change, words):
    change = dict(change)
    paths = write_series(tmp_path, change.pop("hu", HU), **change)
    with pytest.raises(ScanError, match=words) as error:
        Whole(size=(4, 4, 4), spacing_mm=None, crop=False).cut(read_series(paths), 0.0)
    assert not any(secret in str(error.value) for secret in ("SECRET", "Doe", ".dcm"))


def test_copies_and_nothing_are_refused(tmp_path):
    paths = write_series(tmp_path, HU)
    with pytest.raises(ScanError, match=r"got 1 of 7 .* the same pixels"):
        read_series([*paths, paths[2]])
    with pytest.raises(ScanError, match="at least one file"):
        read_series([])


def test_series_in_one_folder_are_told_apart(tmp_path):
    one = write_series(tmp_path, HU, series_uid="1.1", seed=1)
    two = write_series(tmp_path, HU[:4] + 1, series_uid="1.2", prefix="b", seed=2, **MR)
    scout = write_series(tmp_path, HU[:1], series_uid="1.1", prefix="c", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    report = write_series(tmp_path, HU[:1], series_uid="1.3", prefix="d", PixelData=None)
    nobody = write_series(tmp_path, HU[:1], series_uid=None, prefix="e")
    with ThreadPoolExecutor(4) as pool:
        headers = list(pool.map(read_header, tmp_path.iterdir()))
    groups = group_series(headers)
    assert groups == group_series(headers[::-1])
    firsts = [min(group.paths) for group in groups]
    assert firsts == sorted(firsts)
    found = {group.paths: group.skipped for group in groups}
    assert found[tuple(one)] is None
    assert found[tuple(two)] is None
    assert "localizer" in found[tuple(scout)]
    assert "no image" in found[tuple(report)]
    assert "SeriesInstanceUID missing" in found[tuple(nobody)]
    assert np.array_equal(read_series(two).pixels, HU[:4] + 1)


def test_headers_keep_no_uid_and_show_no_patient(tmp_path):
    path = write_series(tmp_path, HU[:1], series_uid="1.2.77777", study_uid="1.2.88888", SeriesDescription="SYNTHETIC Doe")[0]
    header = read_header(path)
    assert header.patient == "SECRET-ID-77"
    assert header.has_pixels
    assert header.synthetic
    assert not any(secret in repr(header) for secret in ("SECRET", "Doe", "77777", "88888"))
    assert len(header.series) == 32
    other = write_series(tmp_path / "b", HU[:1], series_uid="1.2.77777", study_uid="1.2.99999", patient_id="")[0]
    assert read_header(other).series != header.series
    assert read_header(other).patient is None
    assert not read_header(other).synthetic


@pytest.mark.parametrize("content", [b"", b"this is not a film", b"\0" * 4096, deflated(2**20)], ids=["empty", "text", "zeros", "deflated"])
def test_headers_of_what_is_no_dicom(tmp_path, content):
    (tmp_path / "x.dcm").write_bytes(content)
    with pytest.raises(ScanError, match=r"not a DICOM|deflated"):
        read_header(tmp_path / "x.dcm")


@pytest.mark.real
@pytest.mark.skipif("MEDGAN_REAL_DATA" not in os.environ, reason="MEDGAN_REAL_DATA names no folder")
def test_the_cmb_crc_series():
    nibabel = pytest.importorskip("nibabel")
    root = Path(os.environ["MEDGAN_REAL_DATA"])
    (series,) = group_series(map(read_header, (root / "ct_dicom_cmbcrc").glob("*.dcm")))
    scan = read_series(series.paths)
    stored = np.stack([pydicom.dcmread(path).pixel_array for path in series.paths])
    assert scan.pixels.shape == (100, 512, 512)
    assert scan.spacing_mm == (2.5, 0.898438, 0.898438)
    assert np.array_equal(scan.padding, stored == -2000)
    assert np.array_equal(scan.pixels[~scan.padding], stored[~scan.padding].astype(np.float32) - 1024)
    assert (scan.pixels[scan.padding] == scan.pixels[~scan.padding].min()).all()

    nifti = nibabel.load(root / "ct_nifti_from_cmbcrc/ct_cmbcrc_256x256x100_hu.nii.gz")
    half = scan.pixels.clip(-1024, 3071).reshape(100, 256, 2, 256, 2).mean((2, 4))
    theirs = np.asarray(nifti.dataobj).transpose(2, 1, 0)  # (L, P, S) -> head, back, left
    assert np.abs(half - theirs).max() <= 0.5 + 1e-3  # rounded to whole HU
    centre = scan.affine @ [0, 0.5, 0.5, 1]  # of the first 2 × 2
    assert np.allclose(centre[:3], nifti.affine[:3, 3], atol=1e-4)
    assert np.allclose(scan.affine[:3, :3] * [1, 2, 2], nifti.affine[:3, [2, 1, 0]], atol=1e-6)
