"""Series on no straight, even grid: slices go through a generator of slices one by one, and come back at their own places."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from apply.shifting import a_volume, shifted
from data.dicom_files import write_series
from pydicom import dcmread

from medgan_pl.data.export.alike import alike
from medgan_pl.data.export.origin import Facts, Provenance
from medgan_pl.data.files.records import Item
from medgan_pl.data.modalities import CT
from medgan_pl.data.prepare.layouts import Slices, Whole
from medgan_pl.data.readers.scan import Scan, ScanError
from medgan_pl.data.readers.series import read_series

PLACES = {
    "tilted": [[-100, -120 + 0.9 * k, 40 + 2.5 * k] for k in range(6)],
    "gap": [[-100, -120, 40 + 2.5 * (k + (k > 3))] for k in range(6)],
    "uneven": [[-100, -120, 40 + z] for z in (0, 2, 5, 6, 8, 11)],
    "single": [[-100, -120, 40]],
}


def placed(places):
    """Write slices at these places, LPS mm; a single one without its thickness."""
    return lambda k, one: (setattr(one, "ImagePositionPatient", places[k]), one.pop("SliceThickness") if len(places) == 1 else None)


def by_place(folder: Path) -> dict:
    return {tuple(map(float, one.ImagePositionPatient)): one for one in map(dcmread, folder.rglob("*.dcm"))}


def hu_of(one):
    return one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)


def test_each_slice_comes_back_at_its_own_place(trained, applied, tmp_path) -> None:
    for n, (name, places) in enumerate(PLACES.items()):
        volume = a_volume(len(places), 20, 26)
        write_series(tmp_path / "in" / name, volume, series_uid=f"1.2.{n}", study_uid=f"1.3.{n}", patient_id=name, edit=placed(places))
    code, said = applied(f"checkpoint={trained()}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    for name, places in PLACES.items():
        sources, made = by_place(tmp_path / "in" / name), by_place(tmp_path / "out" / name)
        assert set(made) == set(sources) == {tuple(map(float, place)) for place in places}
        for place, one in made.items():
            assert one.PixelSpacing == sources[place].PixelSpacing
            assert one.ImageOrientationPatient == sources[place].ImageOrientationPatient
            assert np.abs(hu_of(one) - shifted(hu_of(sources[place]))).max() <= 0.51
            assert "SpacingBetweenSlices" not in one  # nobody knows it
            assert one.get("SliceThickness") == (None if name == "single" else 2.5)


def test_volumes_and_slices_across_the_acquired_ones_are_refused() -> None:
    scan = Scan(np.zeros((4, 6, 5)), spacing_mm=(2, 1, 1), loose="a gap of 5 mm", acquired=0)
    same = {"spacing_mm": None, "crop": False}
    Slices(size=(8, 8), **same).check_stacked(scan)
    for layout in (Slices(size=(8, 8), axis="coronal", **same), Whole(size=(8, 8, 8), **same)):
        with pytest.raises(ScanError, match=r"only the slices that were acquired can be used one by one .*: a gap of 5 mm"):
            layout.check_stacked(scan)


def test_a_straightened_series_comes_back_as_nifti_on_its_straight_grid(tmp_path) -> None:
    paths = write_series(tmp_path / "in", a_volume(6, 20, 26), edit=placed(PLACES["tilted"]))
    item, scan = Item("in", tuple(paths)), CT(straighten=True).read(Item("in", tuple(paths)))
    facts, provenance = Facts(0, "HU", -1000, 400), Provenance("X", "0" * 64, 0, 1, "", {})
    path = alike(item, scan, (1, 1, 1), {}).image(tmp_path / "out", scan.pixels, facts, provenance, "CT")
    made = nibabel.load(path)
    assert path.name == "out.nii.gz"
    assert np.array_equal(made.get_fdata().transpose(2, 1, 0), scan.pixels)
    assert np.allclose(made.affine[:, [2, 1, 0, 3]], scan.affine)
    loose = read_series(paths)
    with pytest.raises(ScanError, match=r"NIfTI, which needs an even, straight grid: .*tilted gantry"):
        alike(item, loose, (1, 1, 1), {}).labels(tmp_path / "labels", loose.pixels > 0)
