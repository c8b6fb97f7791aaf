"""The ladder: blur by scipy, noise by its spread, and flags raised where a metric does not follow, and only there."""

import pytest
import scipy.ndimage
import torch

from medgan_pl.data.sets import ImageSet
from medgan_pl.evaluate.ladder import LADDERS, badness, blurred, degraded, flagged, noise_like
from medgan_pl.metrics.estimate import Estimate
from medgan_pl.metrics.result import Result


def images_of(tensor):
    return ImageSet(lambda rows: tensor[rows], len(tensor), "key")


@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (2, 2, 48, 80), (1, 1, 20, 24, 28)])
def test_blur_is_scipys(shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sigmas = [0, 0] + [1.5 * side / 64 for side in shape[2:]]
    truncate = [max(1, round(4 * s)) for s in sigmas[2:]]
    expected = x.double().numpy()
    for axis, (sigma, reach) in enumerate(zip(sigmas[2:], truncate, strict=True), 2):
        expected = scipy.ndimage.gaussian_filter1d(expected, sigma, axis, mode="nearest", radius=reach)
    torch.testing.assert_close(blurred(x, 1.5), torch.from_numpy(expected).float(), atol=1e-5, rtol=1e-4)


def test_severity_levels_are_the_reals_made_worse_each_image_by_its_own_noise():
    reals = images_of(torch.zeros(3, 1, 32, 32))
    made = degraded(reals)
    assert list(made) == [*LADDERS["blur"], *LADDERS["noise"]]
    noisy = made["noise 0.1"][torch.arange(3)]
    assert noisy.std().item() == pytest.approx(0.1, rel=0.05)
    assert not torch.equal(noisy[0], noisy[1])
    assert torch.equal(made["noise 0.1"][torch.tensor([2])][0], noisy[2])
    assert len({rung.key for rung in made.values()} | {reals.key}) == 7


def test_noise_has_the_mean_and_spread_of_the_reals():
    reals = images_of(torch.randn(50, 1, 16, 16) * 0.2 - 0.3)
    noise = noise_like(reals)[torch.arange(50)]
    assert noise.mean().item() == pytest.approx(-0.3, abs=0.02)
    assert noise.std().item() == pytest.approx(0.2, rel=0.05)


def result(key, blur, noise, floor):
    ladder = dict(zip([*LADDERS["blur"], *LADDERS["noise"]], [*blur, *noise], strict=True))
    return flagged(Result(key, estimate=floor, floor=floor, ladder=ladder))


def test_flags():
    floor = Estimate(0.1, 0.05, 0.15)
    assert result("fd", (0.2, 0.4, 2), (0.06, 0.3, 1), floor).unordered == ""  # a step back within chance
    assert "blur" in result("fd", (0.4, 0.2, 2), (0.2, 0.3, 1), floor).unordered
    assert "noise" in result("fd", (0.2, 0.4, 2), (0.1, 0.1, 0.12), floor).unordered  # it never gets worse
    assert "noise" not in result("fd", (0.4, 0.2, 2), (0.2, 0.3, 1), floor).unordered
    high = Estimate(0.9, 0.87, 0.93)
    assert result("coverage", (0.8, 0.5, 0.2), (0.7, 0.2, 0.0), high).unordered == ""
    assert "blur" in result("coverage", (0.9, 0.92, 0.99), (0.7, 0.2, 0.0), high).unordered
    alike = Estimate(0.5, 0.48, 0.52)
    assert result("ms_ssim", (0.6, 0.7, 0.8), (0.4, 0.3, 0.2), alike).unordered == ""


def test_badness():
    assert badness([1, 2], 1, "lower") == [1, 2]
    assert badness([1, 2], 1, "higher") == [-1, -2]
    assert badness([0.5, 2], 1, "floor") == [0.5, 1]
