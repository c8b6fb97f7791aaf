"""Slices of a tilted gantry, at uneven steps, with a gap, or without thickness: used one by one in 2-D, straightened on request in 3-D."""

import numpy as np
import pytest
from dicom_files import CORONAL, write_series

from medgan_pl.data.files.records import Item
from medgan_pl.data.modalities import CT
from medgan_pl.data.prepare.layouts import Slices, Whole
from medgan_pl.data.readers.scan import ScanError
from medgan_pl.data.readers.series import read_series

PLACES = {"tilted": (0, 2, 4, 6, 8), "uneven": (0, 2, 4, 7, 8), "gap": (0, 2, 6, 8, 10)}
SLOPE = {"tilted": 0.3, "uneven": 0.0, "gap": 0.0}
SHAPE, SPACING = (5, 12, 9), (2.0, 0.8, 0.5)


def ramp(lps):
    """Return values that are linear in the place, which linear interpolation keeps exactly."""
    return lps @ [3.0, -2.0, 5.0] + 40


def positions(kind):
    return np.array([[-30, 12 + SLOPE[kind] * z, 55 + z] for z in PLACES[kind]], float)


def write(folder, kind, values=None, **tags):
    def place(i, ds):
        ds.ImagePositionPatient = positions(kind)[i].tolist()

    rows, columns = np.meshgrid(np.arange(SHAPE[1]) * SPACING[1], np.arange(SHAPE[2]) * SPACING[2], indexing="ij")
    lps = positions(kind)[:, None, None] + np.stack([columns, rows, 0 * rows], -1)
    hu = ramp(lps) if values is None else values
    return write_series(folder, hu, spacing_mm=SPACING, slope=0.125, edit=place, **tags)


@pytest.mark.parametrize("kind", PLACES)
def test_in_2d_each_slice_is_used_as_it_is(tmp_path, kind):
    hu = np.random.default_rng(0).integers(-900, 900, SHAPE).astype(np.float32)
    scan = read_series(write(tmp_path, kind, hu))
    assert np.array_equal(scan.pixels, hu)
    assert scan.spacing_mm[1:] == SPACING[1:]
    assert "each slice is used as it is" in scan.notes[0]
    images = Slices(size=SHAPE[1:], spacing_mm=SPACING[1:], crop=True).cut(scan, 0.0).pixels
    assert np.array_equal(images, hu)
    for layout in (
        Whole(size=(4, 4, 4), spacing_mm=None, crop=False),
        Slices(size=(8, 8), spacing_mm=None, crop=True, axis="sagittal"),
    ):
        with pytest.raises(ScanError, match=r"tilted gantry|evenly spaced|a gap of"):
            layout.cut(scan, 0.0)


@pytest.mark.parametrize("kind", PLACES)
def test_on_request_they_are_straightened_in_3d(tmp_path, kind):
    scan = CT(straighten=True).read(Item("x", tuple(write(tmp_path, kind))))
    assert scan.loose is None
    assert "resampled to a straight grid of 2 mm" in scan.notes[0]
    assert np.allclose(scan.spacing_mm, SPACING)
    index = np.argwhere(np.ones(scan.pixels.shape, bool) if scan.padding is None else ~scan.padding)
    ras = (scan.affine @ np.column_stack([index, np.ones(len(index))]).T).T[:, :3]
    assert np.abs(scan.pixels[tuple(index.T)] - ramp(ras * [-1, -1, 1])).max() < 0.15  # stored in steps of 1/8
    assert len(index) > 0.8 * np.prod(SHAPE)
    assert ras[:, 2].max() == pytest.approx(55 + PLACES[kind][-1])
    Whole(size=(4, 4, 4), spacing_mm=None, crop=False).cut(scan, 0.0)


def test_a_slice_without_thickness_is_an_image_in_2d(tmp_path):
    hu = np.random.default_rng(0).integers(-900, 900, (1, 12, 9)).astype(np.float32)
    scan = read_series(write_series(tmp_path, hu, spacing_mm=SPACING, SliceThickness=None))
    images = Slices(size=(12, 9), spacing_mm=SPACING[1:], crop=True).cut(scan, 0.0).pixels
    assert np.array_equal(images, hu)
    with pytest.raises(ScanError, match="must state its thickness"):
        Whole(size=(4, 4, 4), spacing_mm=None, crop=False).cut(scan, 0.0)
    with pytest.raises(ScanError, match="only the slices that were acquired"):
        Slices(size=(12, 9), spacing_mm=None, crop=True, axis="coronal").cut(scan, 0.0)
    coronal = read_series(write_series(tmp_path / "coronal", hu, spacing_mm=SPACING, orientation=CORONAL, SliceThickness=None))
    assert coronal.acquired == 1


@pytest.mark.parametrize("wide", [4, 6])
def test_a_wide_gap_is_not_filled(tmp_path, wide):
    places = np.array([0, 2, 4, 4 + 2 * wide, 6 + 2 * wide, 8 + 2 * wide])

    def place(i, ds):
        ds.ImagePositionPatient = [0, 0, int(places[i])]

    paths = write_series(tmp_path, np.arange(6)[:, None, None] * np.ones((6, 4, 4)), edit=place)
    if wide == 4:
        assert len(read_series(paths, straighten=True).pixels) == 9
        return
    with pytest.raises(ScanError, match="a gap of 6 usual steps between slices 3 and 4 cannot be filled"):
        read_series(paths, straighten=True)
    assert len(read_series(paths).pixels) == 6
