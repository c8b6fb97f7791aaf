"""The embedded cohort: deterministic, anatomically true, physically right, and its covariates can be seen in its images."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from medgan_pl.data.phantom import (
    CLASSES,
    HEAD_HU,
    RELAXATION,
    TISSUES,
    Cohort,
    Film,
    attenuation_per_mm,
    draw_patient,
    film_grid,
    head_ct,
    head_mri,
    project,
    spin_echo,
    thorax_ct,
    xray,
)
from medgan_pl.data.phantom.anatomy import measure
from medgan_pl.data.phantom.film import WATER_PER_MM
from medgan_pl.data.phantom.lesions import nodule_sphere
from medgan_pl.data.phantom.raster import Grid, sweep

BASE = replace(draw_patient(0, 3), age_years=45.0, bmi=25.0, sex="M", height_m=1.75, inspiration=0.65, rotation_deg=0.0, disease="normal")
CT = {"size": (48, 64, 64), "noise_hu": 0.0}
HEAD = {"size": (80, 96, 80), "lesion": True}


@pytest.fixture(scope="module")
def ill() -> dict:
    """One CT of the same chest for each class."""
    return {name: thorax_ct(replace(BASE, disease=name, severity=0.6), size=(85, 100, 100), noise_hu=0.0) for name in CLASSES}


def heart_to_chest(film: Film) -> float:
    """Cardiothoracic ratio read off the lung mask at the level where the heart is widest."""
    height = film.lung_mask.shape[0]
    ratios = []
    for row in film.lung_mask[height // 2 : round(0.75 * height)]:
        columns = np.flatnonzero(row)
        if len(columns) > 2:
            ratios.append((np.diff(columns).max() - 1) / (columns[-1] - columns[0] + 1))
    return max(ratios)


def test_cohort_is_a_function_of_seed_and_index():
    few, many = Cohort(patients=4, seed=7, size_px=(32, 32)), Cohort(patients=40, seed=7, size_px=(32, 32))
    forward = [few.film(i) for i in range(4)]
    backward = [many.film(i) for i in (3, 2, 1, 0)][::-1]
    np.testing.assert_array_equal(forward, backward)
    assert [few.patient(i) for i in range(4)] == [many.patient(i) for i in range(4)]
    assert not np.array_equal(few.film(0), Cohort(patients=4, seed=8, size_px=(32, 32)).film(0))
    assert forward[0].shape == (1, 32, 32)
    assert forward[0].dtype == np.float32
    assert few.covariates.shape == (4, len(Cohort.covariate_names))
    assert few.patient(2).id == "P00002"


def test_film_keeps_its_range_and_its_mask_outside_the_healthy():
    for index in range(6):
        patient = draw_patient(1, index)
        film = xray(patient, size_px=(40, 48))
        assert film.image.shape == film.attenuation.shape == film.lung_mask.shape == film.lesion_mask.shape == (40, 48)
        assert np.isfinite(film.image).all()
        assert film.image.min() >= 0
        assert film.image.max() <= 4095
        assert 3 < film.attenuation.max() < 14
        assert film.lesion_mask.any() == (patient.disease != "normal")
        assert 0.1 < film.lung_mask.mean() < 0.6


def test_labels_have_the_stated_prevalence():
    cohort = Cohort(patients=3000, seed=0, size_px=(64, 64))
    share = np.bincount(cohort.labels, minlength=4) / 3000
    np.testing.assert_allclose(share, (0.4, 0.2, 0.2, 0.2), atol=0.03)  # 3 standard errors
    assert cohort.classes == ("normal", "consolidation", "nodule", "effusion")


def test_lesions_lie_in_the_pleural_space(ill):
    assert not ill["normal"].lesion_mask.any()
    for name in CLASSES[1:]:
        ct = ill[name]
        assert ct.lesion_mask.any()
        assert (ct.lesion_mask & ~ct.lung_mask).sum() <= 0.02 * ct.lesion_mask.sum()
        # what is ill differs from what the same chest is when healthy, and nothing else does
        changed = np.abs(ct.hu - ill["normal"].hu) > 60
        assert (changed & ct.lesion_mask).sum() > 0.7 * ct.lesion_mask.sum()
        far = ~ct.lesion_mask & ~ill["normal"].lung_mask
        assert changed[far].mean() < 0.002


@pytest.mark.parametrize("severity", [0.0, 0.5, 1.0])
def test_nodule_is_its_sphere(severity):
    patient = replace(BASE, disease="nodule", severity=severity)
    centre, radius_mm = nodule_sphere(patient, measure(patient))
    assert 2 * radius_mm == pytest.approx(8 + 22 * severity)
    ct = thorax_ct(patient, size=(120, 160, 160), field_mm=(240.0, 320.0, 320.0), noise_hu=0.0)
    volume_mm3 = ct.lesion_mask.sum() * np.prod(ct.spacing_mm)
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * radius_mm**3, rel=0.12)
    voxel = np.argwhere(ct.lesion_mask).mean(axis=0)
    grid = Grid(ct.hu.shape, (240.0, 320.0, 320.0))
    np.testing.assert_allclose(grid.origin_mm + voxel * ct.spacing_mm, centre, atol=1.0)


def test_effusion_is_fluid_at_the_base_and_higher_at_the_wall(ill):
    ct = ill["effusion"]
    z, _, x = np.nonzero(ct.lesion_mask)
    lung = np.nonzero(ct.lung_mask)[0]
    assert z.min() <= lung.min() + 1
    assert z.mean() < np.median(lung)
    outward = np.abs(x - ct.hu.shape[2] / 2)
    assert z[outward > np.quantile(outward, 0.9)].max() > z[outward < np.quantile(outward, 0.3)].max()
    assert np.median(ct.hu[ct.lesion_mask]) == pytest.approx(12, abs=5)


def test_tissues_have_their_hounsfield_units(ill):
    ct = ill["normal"]
    assert -950 < np.median(ct.hu[ct.lung_mask]) < -750
    assert ct.hu[0, 0, 0] == -1000
    assert ct.hu.min() >= -1024
    assert 300 < ct.hu.max() < 1600
    middle = ct.hu[:, :, ct.hu.shape[2] // 2]
    assert (np.abs(middle - 42) < 20).sum() > 100  # heart and muscle
    assert ct.lung_mask.sum() * np.prod(ct.spacing_mm) == pytest.approx(5.0e6, rel=0.45)  # 5 l at full inspiration


def test_orientation_heart_left_liver_right_spine_behind(ill):
    hu, lung = ill["normal"].hu, ill["normal"].lung_mask
    half = lung.shape[2] // 2
    right, left = lung[..., :half], lung[..., half:]
    assert right.sum() > left.sum()  # the heart takes its room from the left lung
    assert np.nonzero(lung)[0].max() > lung.shape[0] * 0.75  # apices at the head end
    bone = np.argwhere(hu > 150)
    spine = bone[np.abs(bone[:, 2] - half) < 6]
    assert np.median(spine[:, 1]) > hu.shape[1] / 2
    film = xray(BASE, size_px=64)
    lowest = [np.flatnonzero(film.lung_mask[:, column]).max() for column in (18, 45)]
    assert lowest[0] < lowest[1]  # the right dome stands higher, head up


def test_covariates_move_the_image():
    heavy, light = (thorax_ct(replace(BASE, bmi=bmi), **CT) for bmi in (36.0, 20.0))
    width = [np.flatnonzero((ct.hu[20] > -500).any(axis=0)).size for ct in (heavy, light)]
    assert width[0] > width[1] + 2
    fat = [(np.abs(ct.hu + 100) < 30).sum() for ct in (heavy, light)]
    assert fat[0] > 1.8 * fat[1]
    old, young = (xray(replace(BASE, age_years=age), size_px=96) for age in (85.0, 22.0))
    assert heart_to_chest(old) > heart_to_chest(young) + 0.03
    spine = [measure(replace(BASE, age_years=age)).spine_hu for age in (85.0, 22.0)]
    assert spine[0] < spine[1] - 80
    man, woman = thorax_ct(BASE, **CT), thorax_ct(replace(BASE, sex="F"), **CT)
    assert man.lung_mask.sum() > 1.08 * woman.lung_mask.sum()
    skin = [np.nonzero(ct.hu[:32] > -500)[1].min() for ct in (man, woman)]
    assert skin[1] < skin[0]  # breasts reach further forward than the larger chest
    deep, shallow = (xray(replace(BASE, inspiration=value), size_px=64) for value in (0.95, 0.2))
    assert deep.lung_mask.sum() > 1.1 * shallow.lung_mask.sum()


def test_heavier_patients_weaken_the_beam():
    heavy, light = (xray(replace(BASE, bmi=bmi), size_px=48).attenuation for bmi in (36.0, 20.0))
    assert heavy[24, 24] > light[24, 24] + 0.5


def test_a_slab_of_water_transmits_what_beer_and_lambert_say():
    grid = film_grid((64, 64))
    hu = np.full(grid.size, -1000, dtype=np.float32)
    slices = slice(5, 25)
    hu[:, slices] = 0
    thickness_mm = 20 * grid.spacing_mm[1]
    transmission = np.exp(-project(attenuation_per_mm(hu), grid, (64, 64)))
    # the four middle pixels see the slab straight on
    np.testing.assert_allclose(transmission[31:33, 31:33], np.exp(-WATER_PER_MM * thickness_mm), rtol=1e-3)
    # turned, the same slab is crossed as long; only its edges move
    turned = np.exp(-project(attenuation_per_mm(hu), grid, (64, 64), rotation_deg=5.0))
    np.testing.assert_allclose(turned[31:33, 31:33], transmission[31:33, 31:33], rtol=1e-4)


def test_attenuation_of_air_water_and_cortical_bone():
    mu = attenuation_per_mm(np.array([-1000, -1024, 0, 1590], dtype=np.float32))
    np.testing.assert_allclose(mu, [0, 0, 0.02059, 0.06044], rtol=1e-3, atol=1e-7)


def test_the_cone_magnifies_what_lies_far_from_the_detector():
    grid = film_grid((64, 64))
    widths = []
    for depth in (4, grid.size[1] - 5):
        volume = np.zeros(grid.size, dtype=np.float32)
        volume[30:66, depth, 24:72] = 1
        widths.append(project(volume, grid, (64, 64)).sum() / grid.spacing_mm[1])
    back, front = grid.axes[1].ravel()[[-5, 4]] + 170
    assert widths[1] / widths[0] == pytest.approx(((1800 - front) / (1800 - back)) ** 2, rel=0.01)


def test_less_dose_is_more_noise():
    routine, low = xray(BASE, size_px=48), xray(BASE, size_px=48, dose=0.001)
    np.testing.assert_array_equal(routine.attenuation, low.attenuation)
    assert np.abs(low.image - routine.image)[20:40].mean() > 5


def test_spin_echo_by_hand():
    # PD 0.77, T1 = TR, TE = T2: 0.77 (1 - 1/e) / e
    assert spin_echo(500, 70, 0.77, tr_ms=500, te_ms=70) == pytest.approx(0.77 * 0.6321206 * 0.3678794, rel=1e-6)


def test_t1_and_t2_weighting_share_an_anatomy():
    t1 = head_mri(BASE, size=(40, 48, 40), lesion=True)
    t2 = head_mri(BASE, size=(40, 48, 40), tr_ms=4000, te_ms=100, lesion=True)
    np.testing.assert_array_equal(t1.tissue, t2.tissue)
    mean = {name: [image.signal[t1.tissue == TISSUES.index(name)].mean() for image in (t1, t2)] for name in RELAXATION}
    assert mean["white"][0] > mean["grey"][0] > mean["csf"][0]
    assert mean["csf"][1] > mean["grey"][1] > mean["white"][1]
    assert mean["lesion"][1] > mean["white"][1]
    assert np.median(t1.signal[t1.tissue == TISSUES.index("air")]) < 20
    assert t1.lesion_mask.any()
    silent = head_mri(BASE, size=(40, 48, 40), noise=0.0, bias=0.0)
    white = silent.signal[silent.tissue == TISSUES.index("white")]
    assert np.median(white) == pytest.approx(1000 * spin_echo(*RELAXATION["white"], 500, 15), rel=0.01)


def test_an_inversion_by_hand():
    # PD 0.77, T1 = TI, TR = 3 TI, TE = T2: 0.77 (1 - 2/e + 1/e³) / e
    assert spin_echo(500, 70, 0.77, 1500, 70, 500) == pytest.approx(0.77 * (1 - 0.7357589 + 0.0497871) * 0.3678794, rel=1e-6)
    assert spin_echo(500, 70, 1.0, 1e6, 1e-6, 500 * np.log(2)) == pytest.approx(0, abs=1e-6)
    assert spin_echo(500, 70, 1.0, 1e6, 1e-6, 1e-6) == pytest.approx(-1)


def thick(tissue: np.ndarray, name: str) -> np.ndarray:
    """Where a tissue has nothing else within two voxels."""
    return binary_erosion(tissue == TISSUES.index(name), iterations=2)


def test_flair_shows_the_lesion_and_no_water():
    flair = head_mri(BASE, tr_ms=9000, te_ms=120, ti_ms=1700, bias=0.0, **HEAD)
    mean = {name: flair.signal[thick(flair.tissue, name)].mean() for name in ("csf", "white", "deep_grey", "lesion")}
    assert mean["csf"] < 0.1 * mean["white"]
    assert mean["lesion"] > 1.3 * max(mean["white"], mean["deep_grey"])
    assert mean["lesion"] == pytest.approx(1000 * spin_echo(*RELAXATION["lesion"], 9000, 120, 1700), rel=0.01)


def test_noise_of_an_inversion_is_its_own_and_without_one_stays():
    size = (16, 16, 16)
    plain, inverted = (head_mri(BASE, size=size, tr_ms=9000, te_ms=120, ti_ms=ti) for ti in (None, 1700))
    air = thick(plain.tissue, "air")
    assert abs(np.corrcoef(plain.signal[air], inverted.signal[air])[0, 1]) < 0.2
    # as it was before there were inversions
    drawn = head_mri(BASE, size=(24, 28, 24)).signal[12, 14, ::4]
    np.testing.assert_allclose(drawn, (3.35029, 380.2952, 350.6675, 323.9850, 360.1297, 305.5550), rtol=1e-4)


def test_tissues_of_the_head_have_their_hounsfield_units():
    ct = head_ct(BASE, noise_hu=0.0, **HEAD)
    for name in ("air", "fat", "muscle", "csf", "white", "deep_grey", "lesion"):
        assert np.median(ct.hu[thick(ct.tissue, name)]) == pytest.approx(HEAD_HU[name], abs=1), name
    assert ct.hu.max() == pytest.approx(HEAD_HU["skull"])  # thinner than five voxels
    grey = ct.hu[ct.tissue == TISSUES.index("grey")]
    assert np.median(ct.hu[thick(ct.tissue, "white")]) + 3 < np.median(grey) <= HEAD_HU["grey"]
    noisy = head_ct(BASE, noise_hu=4.0, **HEAD)
    assert (noisy.hu - ct.hu)[ct.hu > -900].std() == pytest.approx(4.0, rel=0.02)
    assert noisy.hu.min() >= -1024


def test_mr_and_ct_of_a_head_share_every_voxel():
    patient = draw_patient(0, 2)
    mr, ct = head_mri(patient, size=(24, 32, 28), lesion=True), head_ct(patient, size=(24, 32, 28), lesion=True)
    np.testing.assert_array_equal(mr.tissue, ct.tissue)
    np.testing.assert_array_equal(mr.lesion_mask, ct.lesion_mask)
    assert mr.spacing_mm == ct.spacing_mm
    assert ct.lesion_mask.any()
    assert not head_ct(patient, size=(24, 32, 28)).lesion_mask.any()


def test_old_brains_hold_more_water():
    water = [(head_mri(replace(BASE, age_years=age), size=(40, 48, 40)).tissue == TISSUES.index("csf")).sum() for age in (85.0, 25.0)]
    assert water[0] > 1.3 * water[1]


def test_a_swept_curve_passes_its_knots():
    knots = np.array([(0, 0, 0), (10, 0, 5), (20, 5, 5)], dtype=float)
    path = sweep(knots, 0.01)
    for knot in knots:
        assert np.linalg.norm(path - knot, axis=1).min() < 0.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Cohort(patients=0, seed=0, size_px=(64, 64)), "`patients`"),
        (lambda: Cohort(patients=1, seed=0, size_px=(8, 64)), "`size_px`"),
        (lambda: xray(BASE, size_px=8), "`size_px`"),
        (lambda: xray(BASE, dose=0.0), "`dose`"),
        (lambda: thorax_ct(BASE, size=(4, 64, 64)), "`size`"),
        (lambda: head_mri(BASE, tr_ms=0.0), "`tr_ms`"),
        (lambda: head_mri(BASE, ti_ms=1700.0), "`ti_ms`"),
        (lambda: head_mri(BASE, noise=-0.1), "`noise`"),
        (lambda: head_ct(BASE, size=(4, 64, 64)), "`size`"),
        (lambda: head_ct(BASE, noise_hu=-1.0), "`noise_hu`"),
        (lambda: replace(BASE, disease="gout"), "`disease`"),
        (lambda: replace(BASE, bmi=3.0), "`bmi`"),
        (lambda: draw_patient(-1, 0), "`seed`"),
    ],
)
def test_wrong_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_patient_beyond_the_last_is_an_index_error():
    with pytest.raises(IndexError, match="must be below 3"):
        Cohort(patients=3, seed=0, size_px=(32, 32)).film(3)
