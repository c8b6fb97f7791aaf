"""Copies, duplicates and nearest distances by hand, and over planted copiers and honest generators of simulated films."""

from functools import cache

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medgan_pl.metrics.estimate import Estimate, Resampling
from medgan_pl.metrics.memorization import PixelFeatures, closest_pairs, copies, duplicates, leaks, nearest_of_views, nearest_ratio, twins

PIXELS = PixelFeatures()
DRAWS = Resampling(draws=40)


@cache
def films(count, seed, size=64):
    """A common chest, and of each patient a smooth random field (amplitude ~ 1 / frequency²), with grain; (N, 1, size, size) in [-1, 1]."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)) * size
    fields = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((count, size, size))) / (1 + frequency) ** 2, s=(size, size))
    fields /= fields.std(axis=(1, 2), keepdims=True)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    chest = np.exp(-((np.abs(x) - 0.45) ** 2) / 0.08 - y**2 / 0.4)
    images = -0.5 + 0.6 * chest + 0.2 * fields + 0.02 * rng.standard_normal(fields.shape)
    return torch.tensor(images[:, None].clip(-1, 1), dtype=torch.float32)


def both(images):
    return [PIXELS(images), PIXELS(images.flip(-1))]


def judged(fake, train, held_out):
    near, far = (nearest_of_views(both(images), PIXELS(train))[0] for images in (fake, held_out))
    return copies(near, far, DRAWS), nearest_ratio(near, far, DRAWS)


# -- the embedding


@pytest.mark.parametrize(("shape", "side"), [((1, 64, 64), 32), ((2, 96, 64), 32), ((1, 20, 28), 99), ((1, 32, 16, 48), 16)])
def test_pixels_are_correlations_of_averaged_images(shape, side):
    images = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    small = images.double().numpy()
    for axis in range(2, small.ndim):
        kept = min(small.shape[axis], side)
        small = small.reshape(*small.shape[:axis], kept, -1, *small.shape[axis + 1 :]).mean(axis + 1)
    expected = 2 * (1 - np.corrcoef(small.reshape(5, -1)))
    features = PixelFeatures(spatial_dims=len(shape) - 1)(images)
    assert features.shape == (5, small[0].size)
    assert torch.cdist(features, features).square().numpy() == pytest.approx(expected, abs=1e-5)


def test_pixels_do_not_see_brightness_and_contrast():
    images = films(4, 0)
    assert PIXELS(images * 0.5 + 0.2).allclose(PIXELS(images), atol=1e-5)


def test_images_without_contrast_are_zeros():
    values = torch.tensor([-1, 0.3, 0.7, 1.0]).view(4, 1, 1, 1)
    assert PIXELS(values.expand(4, 1, 224, 224)).equal(torch.zeros(4, 32 * 32))
    faint = torch.zeros(1, 1, 64, 64)
    faint[..., 10, 10] = 2 / 255  # one grey level in one pixel
    assert PIXELS(faint).norm() == pytest.approx(1)


def test_pixels_say_what_they_are():
    assert PIXELS.name == "pixels"
    assert PIXELS.rules != PixelFeatures(spatial_dims=3).rules
    assert "32" in PIXELS.rules["resize"]
    with pytest.raises(ValueError, match=r"\(B, C, S, S\), got \(2, 1, 8, 8, 8\)"):
        PIXELS(torch.zeros(2, 1, 8, 8, 8))
    with pytest.raises(ValueError, match="must be 2 or 3"):
        PixelFeatures(spatial_dims=4)


# -- distances


def test_the_nearest_in_any_view():
    train = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    views = torch.tensor([[1.0, 0.0], [5.0, 5.0]]), torch.tensor([[0.0, 10.5], [6.0, 0.0]])
    distance, place = nearest_of_views(views, train)
    assert distance.tolist() == [0.5, 4]
    assert place.tolist() == [2, 1]
    with pytest.raises(ValueError, match="one or more"):
        nearest_of_views([], train)
    with pytest.raises(ValueError, match="equal shape"):
        nearest_of_views([views[0], views[1][:1]], train)


def test_closest_pairs_in_order():
    rows, places = closest_pairs(torch.tensor([3.0, 1.0, 2.0, 1.0]), torch.tensor([7, 8, 9, 7]), 3)
    assert (rows.tolist(), places.tolist()) == ([1, 3, 2], [8, 7, 9])
    assert len(closest_pairs(torch.ones(2), torch.tensor([0, 0]), 9)[0]) == 2


def test_ratio_by_hand():
    fake, held_out = torch.arange(1.0, 13), torch.arange(2.0, 23, 2)
    estimate = nearest_ratio(fake, held_out, DRAWS)
    assert estimate.value == pytest.approx(6.5 / 12)
    assert estimate.low < estimate.value < estimate.high
    twin = torch.cat([torch.zeros(50), held_out])  # those in the training set do not say what a stranger's distance is
    assert nearest_ratio(fake, twin, DRAWS).value == estimate.value
    with pytest.raises(ValueError, match=r"10 fakes and 10 held-out images .* got 12 and 9"):
        nearest_ratio(fake, torch.cat([torch.zeros(50), held_out[:9]]), DRAWS)


def test_the_ratio_is_of_medians():
    fake, held_out = torch.tensor([1.0] * 6 + [100.0] * 5), torch.tensor([2.0] * 6 + [1000.0] * 5)
    assert nearest_ratio(fake, held_out, DRAWS).value == 0.5


def test_twins_leave_with_their_patients():
    """The interval is the one that there is without them, wherever they stand and whoever's they are."""
    held_out, patients = torch.linspace(1, 3, 40), torch.arange(40) // 8
    places = torch.arange(0, 40, 5)
    mixed = torch.cat([held_out, torch.zeros(8)])[order := torch.cat([torch.arange(40), places + 0.5]).argsort()]
    groups = torch.cat([patients, patients[places]])[order]
    fake = torch.linspace(1, 2, 12)
    alone, found = (nearest_ratio(fake, *each) for each in (
        (held_out, Resampling(draws=20, real_groups=patients)), (mixed, Resampling(draws=20, real_groups=groups))
    ))  # fmt: skip
    assert alone == found


def test_a_share_of_none_has_the_interval_of_the_patients_of_either_side():
    """None of 60 images of 12 patients, in place of the fakes, is a copy: the interval is that of 12."""
    far, held_out = torch.full((60,), 9.0), torch.linspace(1, 2, 100)
    for groups, patients in ((None, 60), (torch.arange(60) // 5, 12)):
        found = copies(far, held_out, Resampling(draws=20, fake_groups=groups))
        assert (found.value, found.low, found.high) == (0, 0, pytest.approx(1 - 0.025 ** (1 / patients)))


def test_the_threshold_by_hand():
    held_out = torch.arange(1.0, 251)[torch.randperm(250, generator=torch.Generator().manual_seed(0))]
    fake = torch.tensor([0.0, 1, 1.5, 2, 3, 3, 3, 3, 3, 3])
    assert copies(fake, held_out, DRAWS).value == 0.3  # below 2, the second smallest of 250; 2 itself is as near as a stranger
    assert copies(fake, held_out[held_out > 150], DRAWS).value == 1
    assert copies(fake, held_out, DRAWS, quantile=0.02).value == 1  # below 5
    with pytest.raises(ValueError, match=r"10 fakes and 100 held-out images .* got 10 and 99"):
        copies(fake, held_out[:99], DRAWS)
    with pytest.raises(ValueError, match=r"10 fakes and 100 held-out images .* got 9 and 250"):
        copies(fake[:9], held_out, DRAWS)
    with pytest.raises(ValueError, match="NaN"):
        copies(fake / 0, held_out, DRAWS)
    with pytest.raises(ValueError, match="between 0 and 1"):
        copies(fake, held_out, DRAWS, quantile=1)


def test_twins_in_the_held_out_set_hide_no_copy():
    """A tenth of the held-outs are training images under other names: the 1 % quantile of all would be 0, below which nothing lies."""
    held_out = torch.cat([torch.linspace(1, 2, 180), torch.zeros(10), torch.full((10,), 1e-6)])
    assert twins(held_out).nonzero()[:, 0].tolist() == list(range(180, 200))
    exact, near, honest = torch.zeros(50), torch.full((50,), 0.2), torch.linspace(1.1, 2, 50)
    assert [copies(fake, held_out, DRAWS).value for fake in (exact, near, honest)] == [1, 1, 0]
    with pytest.raises(ValueError, match="not in the set they are compared with"):
        copies(exact, torch.zeros(300), DRAWS)
    groups = torch.arange(200) // 2
    assert copies(near, held_out, Resampling(draws=40, real_groups=groups)).value == 1


@pytest.mark.parametrize("m", [100, 250])
def test_strangers_fall_below_the_threshold_by_chance_alone(m):
    """k / (m + 1) on average, whatever the distribution."""
    generator = torch.Generator().manual_seed(m)
    shares = []
    for _ in range(60):
        fake, held_out = (torch.randn(n, generator=generator).exp() for n in (1000, m))
        shares.append(copies(fake, held_out, Resampling(draws=20)).value)
    assert np.mean(shares) == pytest.approx((m // 100) / (m + 1), abs=3.5 * np.std(shares) / 60**0.5)


def test_the_interval_of_copies_knows_that_the_threshold_varies():
    held_out, fake = torch.linspace(0.1, 1, 200), torch.linspace(0.1, 0.2, 1000)
    estimate, of_fakes_alone = copies(fake, held_out, DRAWS), DRAWS.of_mean((fake < held_out[1]).double())
    assert estimate.value == of_fakes_alone.value
    assert estimate.high - estimate.low > 2 * (of_fakes_alone.high - of_fakes_alone.low)
    patients = copies(fake, held_out, Resampling(draws=40, real_groups=torch.arange(200) // 20))
    assert patients.high - patients.low > estimate.high - estimate.low


# -- duplicates


def test_duplicates_by_hand():
    fake, held_out = (
        torch.randn(150, 4, generator=torch.Generator().manual_seed(0)),
        torch.randn(150, 4, generator=torch.Generator().manual_seed(1)),
    )
    fake[:30] = fake[30:60] + 1e-3
    nearest = [(x - row).norm(dim=1).sort().values[1].item() for x in (fake, held_out) for row in x]  # the first is the row itself
    expected = np.mean(np.array(nearest[:150]) < min(nearest[150:]))
    assert duplicates(fake, held_out, DRAWS).value == pytest.approx(expected)
    assert expected >= 0.4


def test_duplicates_of_a_collapse_and_of_an_honest_generator():
    held_out = PIXELS(films(200, 0))
    assert duplicates(PIXELS(films(5, 1)).repeat(60, 1), held_out, DRAWS).value == 1
    shares = [duplicates(PIXELS(films(count, count)), held_out, DRAWS).value for count in (150, 200, 600)]
    assert max(shares) < 0.05  # three times the fakes do not make them look like repeats


def test_duplicates_count_patients_once():
    """Ten films a patient, alike: neither do they make the threshold 0, nor do 100 films of 10 patients stand for 100."""
    patients = PIXELS(films(120, 0))
    series, groups = patients.repeat_interleave(10, 0), torch.arange(1200) // 10
    series = series + 1e-4 * torch.randn(series.shape, generator=torch.Generator().manual_seed(0))
    grouped = Resampling(draws=40, real_groups=groups)
    fake = PIXELS(films(120, 1)).repeat(2, 1)
    fake = fake + 3e-4 * torch.randn(fake.shape, generator=torch.Generator().manual_seed(1))
    assert duplicates(fake, series, grouped).value > 0.3
    assert duplicates(fake, series, DRAWS).value < 0.05  # not told who is whom, it takes repeats for usual
    both_grouped = Resampling(draws=40, real_groups=groups, fake_groups=groups)
    assert duplicates(series, series, both_grouped).value < 0.05
    with pytest.raises(ValueError, match="100 fakes and held-out images of 100 patients or more, got 240 and 99"):
        duplicates(fake, series[:990], Resampling(draws=40, real_groups=groups[:990]))
    with pytest.raises(ValueError, match="got 99 and 120"):
        duplicates(fake[:99], series, grouped)


# -- the verdict


def shifted(images):
    return F.pad(images, (1, 0, 0, 0), mode="replicate")[..., :-1]


CHANGES = {
    "none": lambda images: images,
    "noise": lambda images: images + 0.05 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)),
    "mirrored": lambda images: images.flip(-1),
    "brighter": lambda images: images * 0.9 + 0.08,
    "shifted by a pixel": shifted,
    "shifted up and mirrored": lambda images: shifted(images.transpose(-1, -2)).transpose(-1, -2).flip(-1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_copier_is_caught(name):
    train = films(400, 0)
    share, ratio = judged(CHANGES[name](train[::2]), train, films(200, 1))
    assert share.low > 0.5
    assert ratio.high < 0.8
    assert "training images are repeated" in leaks(share, None)


@pytest.mark.parametrize("seed", range(2))
def test_an_honest_generator_is_not_and_one_with_a_tenth_of_copies_is(seed):
    train, held_out, fake = films(400, 10 * seed), films(200, 10 * seed + 1), films(300, 10 * seed + 2)
    share, ratio = judged(fake, train, held_out)
    assert leaks(share, None) == ""
    assert share.low <= 0.02
    assert ratio.low < 1.02
    assert ratio.high > 0.98
    fake = torch.cat([CHANGES["noise"](train[:30]).flip(-1), fake[30:]])
    share, ratio = judged(fake, train, held_out)
    assert 0.1 <= share.value < 0.15
    assert ratio.value > 0.9  # a median does not see a tenth
    assert leaks(share, None).startswith(f"{100 * share.value:.0f} %")


def test_leaks_in_words():
    nothing, copied, gained = Estimate(0.06, 0.05, 0.09), Estimate(0.12, 0.08, 0.2), Estimate(0.1, 0.03, 0.2)
    assert leaks(None, None) == leaks(nothing, Estimate(0.2, 0.02, 0.4)) == ""
    assert leaks(copied, None).startswith("12 % (8 % to 20 %) of the generated images are nearer to a training image")
    assert leaks(nothing, gained).startswith("An attacker can infer who was in the training set: the AUC is 0.10 (0.03 to 0.20) above")
    assert leaks(copied, gained) == f"{leaks(copied, None)} {leaks(None, gained)}"
