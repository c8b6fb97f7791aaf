"""The cohort's masks lie on what the images show, in each modality."""

import numpy as np
import pytest

from medgan_pl.data.modalities import CT, MRI, HeadCT, XRay
from medgan_pl.data.phantom import HEAD_HU, TISSUES, draw_patient

COHORT = [draw_patient(0, index) for index in range(8)]
HEALTHY = next(patient for patient in COHORT if patient.disease == "normal")
ILL = next(patient for patient in COHORT if patient.disease == "consolidation")
FILM, CHEST, HEAD = (40, 48), (24, 32, 36), (40, 48, 44)


@pytest.mark.parametrize(("modality", "shape"), [(XRay(), FILM), (CT(), CHEST), (HeadCT(), HEAD), (MRI(), HEAD)])
def test_each_structure_is_a_mask_on_the_voxels_of_the_image(modality, shape):
    masks = modality.masks(ILL, shape, modality.structures)
    assert masks.shape == (len(modality.structures), *modality.simulate(ILL, shape).pixels.shape)
    assert masks.dtype == np.float32
    assert set(np.unique(masks)) == {0.0, 1.0}
    assert masks.reshape(len(masks), -1).any(axis=1).all()
    backwards = modality.structures[::-1]
    np.testing.assert_array_equal(modality.masks(ILL, shape, backwards), masks[::-1])
    assert not modality.masks(HEALTHY, shape, ("lesion",)).any()
    with pytest.raises(ValueError, match=f"{', '.join(modality.structures)}, got spleen"):
        modality.masks(ILL, shape, ("lesion", "spleen"))
    with pytest.raises(ValueError, match="one or more"):
        modality.masks(ILL, shape, ())


def test_a_lung_is_full_of_air_and_a_lesion_in_it_is_not():
    (lung, lesion), hu = CT().masks(ILL, CHEST, ("lung", "lesion")) > 0, CT().simulate(ILL, CHEST).pixels
    assert (hu[lung & ~lesion] < -300).mean() > 0.9
    assert np.median(hu[lesion]) > np.median(hu[lung & ~lesion]) + 500
    assert (lesion & lung).sum() > 0.98 * lesion.sum()
    (lung,), film = XRay().masks(HEALTHY, FILM, ("lung",)) > 0, XRay().simulate(HEALTHY, FILM).pixels
    middle = np.zeros(FILM, bool)
    middle[8:32, 8:40] = True
    assert np.median(film[lung]) < 0.7 * np.median(film[~lung & middle])


def test_tissues_of_a_head_are_where_ct_and_mr_show_them():
    masks = dict(zip(TISSUES, MRI().masks(ILL, HEAD, TISSUES) > 0, strict=True))
    np.testing.assert_array_equal(sum(mask.astype(int) for mask in masks.values()), 1)
    hu, t2 = HeadCT().simulate(ILL, HEAD), MRI(tr_ms=4000, te_ms=100).simulate(ILL, HEAD)
    np.testing.assert_array_equal(hu.affine, t2.affine)
    assert np.median(hu.pixels[masks["lesion"]]) == pytest.approx(HEAD_HU["lesion"], abs=2)
    assert (hu.pixels[masks["skull"]] > 300).mean() > 0.9
    assert np.median(t2.pixels[masks["lesion"]]) > 1.3 * np.median(t2.pixels[masks["white"]])


def test_a_head_is_told_from_a_chest_and_an_inversion_from_none():
    assert HeadCT().settings != CT().settings
    assert HeadCT().classes == MRI().classes == ("normal", "lesion")
    assert [HeadCT().label(patient) for patient in COHORT] == [MRI().label(patient) for patient in COHORT]
    # what caches of before are known by
    assert MRI().settings == {"modality": "MR", "bias_field": False, "echo": [500.0, 15.0]}
    assert CT().settings == {"modality": "CT"}
    assert MRI(tr_ms=9000, te_ms=120, ti_ms=1700).settings["echo"] == [9000, 120, 1700]
    with pytest.raises(ValueError, match="`ti_ms`"):
        MRI(ti_ms=1700)
