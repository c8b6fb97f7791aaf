"""The slices of a scan that a generator of slices takes: those of training, or the scan's own if training had several planes."""

import nibabel
import numpy as np
import pytest
from apply.shifting import a_volume, oblique, shifted


@pytest.mark.parametrize(
    ("axis", "spacing", "trained_mm"),  # of x, y, z; of rows and columns
    [
        ("acquired", (0.5, 4.0, 0.8), [0.8, 0.5]),  # coronal
        ("acquired", (4.0, 0.5, 0.8), [0.8, 0.5]),  # sagittal
        ("acquired", (0.5, 0.8, 3.0), [0.8, 0.5]),  # axial
        ("sagittal", (0.9, 0.5, 0.8), [0.8, 0.5]),
    ],
)
def test_a_scan_is_cut_as_in_training(trained, applied, tmp_path, axis, spacing, trained_mm) -> None:
    volume = a_volume(6, 7, 8)
    affine = oblique(tmp_path / "ct.nii.gz", volume, spacing)
    checkpoint = trained(f"data.slices.axis={axis}", spacing_mm=trained_mm)
    code, said = applied(f"checkpoint={checkpoint}", "input=ct.nii.gz", "output=out", "device=cpu")
    assert code == 0, said
    made = nibabel.load("out/ct.nii.gz")
    assert np.allclose(made.affine, affine, atol=1e-4)
    assert np.abs(made.get_fdata() - shifted(volume)).max() < 0.1


def test_a_scan_of_another_plane_has_another_spacing_and_is_refused(trained, applied, tmp_path) -> None:
    oblique(tmp_path / "ct.nii.gz", a_volume(6, 7, 8), (0.5, 0.8, 4.0))
    checkpoint = trained("data.slices.axis=sagittal", spacing_mm=[0.8, 0.8])
    code, said = applied(f"checkpoint={checkpoint}", "input=ct.nii.gz", "output=out", "device=cpu")
    assert code == 1
    assert "of training, 0.8 × 0.8 mm, got 4 × 0.8 mm" in said
