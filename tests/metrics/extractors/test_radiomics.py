"""Radiomic features against IBSI's digital phantom, SciPy, plain loops, scikit-image and the wavelet's filters by hand."""

import math

import numpy as np
import pytest
import pywt
from scipy import stats
from skimage.feature import graycomatrix, graycoprops
from smooth_noise import image

from medgan_pl.metrics.extractors.radiomics import (
    GRAY_LEVELS,
    first_order,
    gray_levels,
    radiomic_features,
    texture,
    wavelet_energies,
)

DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))


def test_grey_levels_are_equal_steps_and_hold_both_ends():
    values = np.array([-1.5, -1, -1 + 1.99 / 32, -1 + 2 / 32, 0, 0.999, 1, 2])
    assert gray_levels(values, -1.0, 1.0).tolist() == [0, 0, 0, 1, 16, 31, 31, 31]


def test_first_order_of_the_digital_phantom_of_ibsi():
    """Zwanenburg et al. 2020: the 74 voxels of the phantom's region and the values agreed on, to three digits as published."""
    voxels = np.repeat([1.0, 3, 4, 6], [50, 1, 16, 7])
    found = first_order(voxels, voxels.astype(np.uint8))
    expected = {
        "mean": 2.15, "variance": 3.05, "skewness": 1.08, "kurtosis": -0.355, "median": 1, "minimum": 1, "percentile_10": 1,
        "percentile_90": 4, "maximum": 6, "interquartile_range": 3, "range": 5, "mean_deviation": 1.55, "robust_mean_deviation": 1.11,
        "median_deviation": 1.15, "entropy": 1.27, "uniformity": 0.512,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=4e-3)
    # 2.77 about 0; ours is about -1
    assert found["root_mean_square"] == pytest.approx(math.sqrt(((voxels + 1) ** 2).mean()), rel=1e-12)
    assert first_order(voxels - 1, voxels.astype(np.uint8))["root_mean_square"] == pytest.approx(2.77, rel=4e-3)


@pytest.mark.parametrize("shape", [(40, 33), (12, 17, 20)])
def test_first_order_is_scipys(shape):
    x = image(*shape)
    found = first_order(x, gray_levels(x, -1.0, 1.0))
    counts = np.histogram(x, bins=GRAY_LEVELS, range=(-1, 1))[0]
    x = x.ravel()
    inner = [v for v in x if np.percentile(x, 10) <= v <= np.percentile(x, 90)]
    expected = {
        "mean": np.mean(x), "variance": stats.tvar(x) * (x.size - 1) / x.size, "median": stats.scoreatpercentile(x, 50),
        "minimum": min(x), "maximum": max(x), "range": np.ptp(x), "skewness": stats.skew(x), "kurtosis": stats.kurtosis(x),
        "percentile_10": stats.scoreatpercentile(x, 10), "percentile_90": stats.scoreatpercentile(x, 90),
        "interquartile_range": stats.iqr(x), "mean_deviation": np.mean(np.abs(x - np.mean(x))),
        "robust_mean_deviation": np.mean(np.abs(inner - np.mean(inner))), "median_deviation": np.mean(np.abs(x - np.median(x))),
        "root_mean_square": np.sqrt(np.mean((x + 1) ** 2)), "entropy": stats.entropy(counts, base=2),
        "uniformity": np.sum((counts / x.size) ** 2),
    }  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-12)


def pairs(levels, step):
    """The two grey levels of all neighbours at `step`, each way."""
    height, width = levels.shape
    found = []
    for y in range(height):
        for x in range(width):
            other = (y + step[0], x + step[1])
            if 0 <= other[0] < height and 0 <= other[1] < width:
                a, b = int(levels[y, x]), int(levels[other])
                found += [(a, b), (b, a)]
    return np.array(found)


def test_texture_by_a_plain_loop():
    levels = gray_levels(image(14, 11), -1.0, 1.0)
    expected = dict.fromkeys(("contrast", "dissimilarity", "homogeneity", "asm", "energy", "correlation", "joint_entropy"), 0.0)
    for step in DIRECTIONS:
        both = pairs(levels, step)
        gap = np.abs(both[:, 0] - both[:, 1])
        share = np.unique(both, axis=0, return_counts=True)[1] / len(both)
        expected["contrast"] += (gap**2).mean() / 4
        expected["dissimilarity"] += gap.mean() / 4
        expected["homogeneity"] += (1 / (1 + gap**2)).mean() / 4
        expected["asm"] += (share**2).sum() / 4
        expected["energy"] += math.sqrt((share**2).sum()) / 4
        expected["correlation"] += np.corrcoef(both.T)[0, 1] / 4
        expected["joint_entropy"] += stats.entropy(share, base=2) / 4
    assert texture(levels) == pytest.approx(expected, rel=1e-10)


def test_texture_is_scikit_images():
    levels = gray_levels(image(64, 48, seed=3), -1.0, 1.0)
    matrices = graycomatrix(levels, [1], [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4], levels=GRAY_LEVELS, symmetric=True, normed=True)
    found = texture(levels)
    for ours, theirs in (("asm", "ASM"), *((key, key) for key in ("contrast", "dissimilarity", "homogeneity", "energy", "correlation"))):
        assert found[ours] == pytest.approx(graycoprops(matrices, theirs).mean(), rel=1e-10), ours


def test_texture_of_a_volume_is_the_mean_over_its_planes():
    volume = gray_levels(image(40, 12, 14), -1.0, 1.0)
    planes = [volume[k] for k in (2, 7, 12, 17, 20, 22, 27, 32, 37)] + [volume[:, 6], volume[:, :, 7]]
    for key, value in texture(volume).items():
        assert value == pytest.approx(np.mean([texture(plane)[key] for plane in planes]), rel=1e-12)
    shallow = volume[:8]  # every slice, the middle one not twice
    planes = [*shallow, shallow[:, 6], shallow[:, :, 7]]
    assert texture(shallow)["contrast"] == pytest.approx(np.mean([texture(plane)["contrast"] for plane in planes]))


def test_wavelets_by_their_filters():
    """Along each axis: mirror the border, weigh with the filter backwards, keep each second value."""
    x = image(20, 26)
    wavelet = pywt.Wavelet("coif1")
    filters = {"a": wavelet.dec_lo, "d": wavelet.dec_hi}

    def along(values, taps):
        padded = np.pad(values, [(0, 0), (5, 5)], mode="symmetric")
        weighed = np.stack([np.convolve(row, taps, mode="valid") for row in padded])
        return weighed[:, 1::2]

    found = wavelet_energies(x)
    assert len(found) == 12
    for first in "ad":
        for second in "ad":
            band = along(along(x, filters[second]).T, filters[first])
            shares = np.histogram(band, bins=32)[0] / band.size
            name = f"wavelet_{first}{second}"
            assert found[f"{name}_mean_absolute"] == pytest.approx(np.abs(band).mean(), rel=1e-10)
            assert found[f"{name}_root_mean_square"] == pytest.approx(np.sqrt((band**2).mean()), rel=1e-10)
            assert found[f"{name}_entropy"] == pytest.approx(
                stats.entropy(shares, base=2), abs=0.02
            )  # a value on an edge may fall either way


def test_wavelet_names_say_which_axis():
    stripes = np.tile(np.array([0.5, -0.5]), (16, 8))  # fast along the second axis, still along the first
    found = wavelet_energies(stripes)
    assert found["wavelet_ad_root_mean_square"] > 0.9
    assert found["wavelet_da_root_mean_square"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("value", [-1, -0.3, 0, 1])
@pytest.mark.parametrize("shape", [(16, 16), (9, 8, 10)])
def test_flat_image_has_the_agreed_values(value, shape):
    found = radiomic_features(np.full(shape, np.float64(np.float32(value))))
    assert all(math.isfinite(v) for v in found.values())
    still = (
        "variance",
        "range",
        "skewness",
        "kurtosis",
        "entropy",
        "contrast",
        "joint_entropy",
        "wavelet_" + "d" * len(shape) + "_entropy",
    )
    assert [found[key] for key in still] == pytest.approx([0] * len(still), abs=1e-9)
    assert [found[key] for key in ("correlation", "asm", "uniformity", "homogeneity")] == [1, 1, 1, 1]
    assert found["mean"] == pytest.approx(value)


def test_features_do_not_change_unnoticed():
    """Published distances hang on these numbers: if this fails, raise VERSION; every earlier fd_radiomics is void."""
    y, x = np.mgrid[0:24, 0:24] / 23
    found = radiomic_features(np.sin(5 * x + 3 * y * y) * 0.8)
    expected = {
        "kurtosis": -1.53375, "robust_mean_deviation": 0.4546, "entropy": 4.44578, "contrast": 4.2792, "joint_entropy": 6.27972,
        "wavelet_ad_root_mean_square": 0.0420443, "wavelet_da_entropy": 2.85432,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-4)
