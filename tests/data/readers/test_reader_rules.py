"""Rules of the readers, each with an input for which a wrong rule would give another answer."""

import nibabel as nib
import numpy as np
import pytest
from dicom_files import write_film, write_series

from medgan_pl.data.readers.dicom import read_film
from medgan_pl.data.readers.grouping import group_series
from medgan_pl.data.readers.header import read_header
from medgan_pl.data.readers.nifti import read_nifti
from medgan_pl.data.readers.series import read_series

HU = np.random.default_rng(0).integers(-1000, 2000, (6, 7, 8)).astype(np.float32)
NUMBERINGS = {"backward": [6, 5, 4, 3, 2, 1], "mixed": [4, 1, 6, 2, 5, 3], "all alike": [1] * 6, "none": [None] * 6}


@pytest.mark.parametrize("numbers", NUMBERINGS.values(), ids=NUMBERINGS)
def test_slices_lie_by_their_position_and_not_by_their_number(tmp_path, numbers):
    paths = write_series(tmp_path, HU, edit=lambda i, ds: setattr(ds, "InstanceNumber", numbers[i]))
    scan = read_series(paths)
    assert np.array_equal(scan.pixels, HU)
    assert np.allclose(scan.affine @ [0, 0, 0, 1], [100, 120, 40, 1])
    (series,) = group_series(map(read_header, paths))
    assert list(series.paths) == paths


def test_the_step_is_that_of_the_positions_and_not_the_thickness(tmp_path):
    paths = write_series(tmp_path, HU, SliceThickness=5, SpacingBetweenSlices=4)  # they overlap
    assert read_series(paths).spacing_mm == (2.5, 0.8, 0.5)
    single = write_series(tmp_path / "single", HU[:1], SliceThickness=5, SpacingBetweenSlices=4)
    assert read_series(single).spacing_mm == (5, 0.8, 0.5)


@pytest.mark.parametrize(
    ("dtype", "written", "value"),
    [
        (np.int16, ("US", 2**15, None), -(2**15)),
        (np.int16, ("SS", -(2**15), None), -(2**15)),
        (np.int16, ("US", 2**15 - 1, None), 2**15 - 1),
        (np.uint16, ("SS", -1, None), 2**16 - 1),
        (np.uint16, ("SS", -(2**15), None), 2**15),
        (np.int16, ("US", 63536, 63540), -1998),  # in the range from -2000 to -1996
        (np.int16, ("US", 63540, 63536), -1998),
        (np.uint16, ("US", 10, 20), 15),
    ],
)
def test_padding_is_found_at_the_ends_of_the_stored_type(tmp_path, dtype, written, value):
    kind, padding, limit = written
    stored = np.arange(100, 220, dtype=dtype).reshape(12, 10)
    stored[3, :4] = value

    def edit(i, ds):
        ds.PixelData = stored.tobytes()
        ds.Rows, ds.Columns, ds.PixelRepresentation = 12, 10, int(dtype == np.int16)
        ds.add_new("PixelPaddingValue", kind, padding)
        if limit is not None:
            ds.add_new("PixelPaddingRangeLimit", kind, limit)

    scan = read_series(write_series(tmp_path, HU[:1], edit=edit))
    assert np.array_equal(scan.padding[0], stored == value)
    assert scan.pixels[0, 3, 0] == scan.pixels.min() == 100 - 1024


def test_padding_gets_the_least_value_of_the_volume_and_not_of_its_slice(tmp_path):
    hu = HU + np.arange(6, dtype=np.float32)[:, None, None] * 4000
    hu[5, 0] = -1000  # stored as 24
    hu[0, 3, 3] = -1024 + 30
    paths = write_series(tmp_path, hu, edit=lambda i, ds: ds.add_new("PixelPaddingValue", "SS", 24))
    scan = read_series(paths)
    assert np.array_equal(np.flatnonzero(scan.padding.any((1, 2))), np.flatnonzero((hu == -1000).any((1, 2))))
    assert (scan.pixels[scan.padding] == hu[hu != -1000].min()).all()


def test_any_slice_may_use_more_bits_or_be_marked_as_synthetic(tmp_path):
    def edit(i, ds):
        if i != 2:
            ds.BitsStored, ds.HighBit = 13, 12
        if i == 4:
            ds.ImageType = ["DERIVED", "SECONDARY", "SYNTHETIC"]

    scan = read_series(write_series(tmp_path, HU, edit=edit))
    assert (scan.bits, scan.synthetic) == (16, True)


def test_series_of_two_studies_with_one_uid_are_two(tmp_path):
    one = write_series(tmp_path, HU, series_uid="1.1", study_uid="2.1")
    two = write_series(tmp_path, HU + 1, series_uid="1.1", study_uid="2.2", prefix="b")
    assert [list(group.paths) for group in group_series(map(read_header, [*two, *one]))] in ([one, two], [two, one])


def test_the_spacing_of_a_film_is_that_of_the_patient_before_that_of_the_detector(tmp_path):
    both = {"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [0.3, 0.4]}
    stored = np.arange(120, dtype=np.uint16).reshape(12, 10)
    assert read_film(write_film(tmp_path / "a.dcm", stored, **both)).spacing_mm == (0.2, 0.1)


def test_sform_before_qform_and_both_before_pixdim(tmp_path):
    pixels = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    sform = nib.affines.from_matvec(np.diag([-0.5, 0.75, 2.0]), [20.0, 7.0, 31.0])
    qform = nib.affines.from_matvec(np.diag([0.5, -0.75, 2.0]), [-9.0, 5.0, 3.0])
    for forms, expected in (((1, 1), sform), ((1, 4), sform), ((2, 0), sform), ((0, 1), qform)):
        image = nib.Nifti1Image(pixels, None)
        image.set_sform(sform, forms[0])
        image.set_qform(qform, forms[1])
        nib.save(image, tmp_path / "x.nii")
        scan = read_nifti(tmp_path / "x.nii")
        at = np.argwhere(scan.pixels == pixels[1, 3, 4])[0]
        assert np.allclose(scan.affine @ [*at, 1], expected @ [1, 3, 4, 1])
    image.set_sform(np.diag([3.0, 4.0, 5.0, 1.0]), 1)
    image.header["pixdim"][1:4] = 1
    nib.save(image, tmp_path / "y.nii")
    assert read_nifti(tmp_path / "y.nii").spacing_mm == (5, 4, 3)
