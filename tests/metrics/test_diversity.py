"""Structural similarity against a plain loop and against MONAI's; which pairs, whatever the batches and the ranks."""

import math

import pytest
import torch
from monai.metrics.regression import compute_ms_ssim
from torch import distributed
from torch.nn import functional as F

from medgan_pl.metrics.diversity import Diversity, ms_ssim, scrambled
from medgan_pl.models.losses.structure import WEIGHTS


def pictures(shape, seed=0, smooth=8):
    """Blobs in [-1, 1]: noise drawn `smooth` times smaller and blown up."""
    coarse = torch.rand(*shape[:2], *(max(2, s // smooth) for s in shape[2:]), generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=shape[2:], mode="bilinear" if len(shape) == 4 else "trilinear") * 2 - 1


def noisy(images, seed=1, by=0.3):
    return (images + by * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))).clamp(-1, 1)


def test_one_window_by_the_formula():
    """At 11² the window fits once: one weighted mean, variance and covariance."""
    a = pictures((1, 1, 11, 11), smooth=3)
    b = noisy(a)
    x, y = ((image[0, 0].double() + 1) / 2 for image in (a, b))
    weight = torch.tensor([[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)]).double()
    weight /= weight.sum()
    mx, my = (weight * x).sum(), (weight * y).sum()
    vx, vy, cov = (weight * (x - mx) ** 2).sum(), (weight * (y - my) ** 2).sum(), (weight * (x - mx) * (y - my)).sum()
    expected = (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2) * (2 * cov + 0.03**2) / (vx + vy + 0.03**2)
    assert expected > 0
    assert ms_ssim(a, b).item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("shape", "scales"),
    [
        ((2, 1, 16, 16), 1),
        ((2, 1, 44, 60), 3),
        ((2, 3, 64, 64), 3),
        ((1, 1, 176, 180), 5),
        ((2, 1, 22, 24, 26), 2),
        ((1, 2, 44, 45, 46), 3),
    ],
)
def test_value_is_monais(shape, scales):
    a = pictures(shape)
    b = noisy(a)
    weights = [weight / sum(WEIGHTS[:scales]) for weight in WEIGHTS[:scales]]
    expected = compute_ms_ssim((a + 1) / 2, (b + 1) / 2, spatial_dims=len(shape) - 2, weights=weights).flatten()
    torch.testing.assert_close(ms_ssim(a, b), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 1, 16, 16), (3, 2, 64, 48), (2, 1, 16, 16, 16)])
def test_equal_is_one_unlike_is_less_inverted_is_none(shape):
    a = pictures(shape)
    torch.testing.assert_close(ms_ssim(a, a), torch.ones(shape[0]))
    slightly, much = ms_ssim(a, noisy(a, by=0.05)), ms_ssim(a, noisy(a, by=0.5))
    assert (much < slightly).all()
    assert (slightly < 1).all()
    assert (ms_ssim(a, -a) == 0).all()  # structure of the other sign, whose power is not real
    torch.testing.assert_close(ms_ssim(a, noisy(a)), ms_ssim(noisy(a), a))


def test_empty_images_are_equal():
    air = torch.full((2, 1, 32, 32), -1.0)
    assert ms_ssim(air, air).tolist() == [1, 1]


def fed(metric, fake, real, *sizes):
    for a, b in zip(fake.split(list(sizes)), real.split(list(sizes)), strict=True):
        metric.update(a, b)
    return {key: value.item() for key, value in metric.compute().items()}


FAKE, REAL = pictures((30, 1, 16, 16)), pictures((30, 1, 16, 16), seed=1)


def test_metric_is_the_mean_over_the_ring_of_pairs():
    order = scrambled(torch.arange(30)).argsort()[:10]
    pairs = [(order[i], order[(i + 1) % 10]) for i in range(10)]
    values = fed(Diversity(n=10), FAKE, REAL, 30)
    assert list(values) == ["ms_ssim_fake", "ms_ssim_real"]
    for kind, images in (("fake", FAKE), ("real", REAL)):
        by_hand = [ms_ssim(images[i][None], images[j][None]).item() for i, j in pairs]
        assert values[f"ms_ssim_{kind}"] == pytest.approx(sum(by_hand) / 10, rel=1e-5)


def test_collapse_is_one():
    values = fed(Diversity(n=8), FAKE[:1].expand(30, -1, -1, -1), REAL, 30)
    assert values["ms_ssim_fake"] == pytest.approx(1)
    assert values["ms_ssim_real"] < 0.9


@pytest.mark.parametrize("n", [7, 64])
@pytest.mark.parametrize("sizes", [(1,) * 30, (8, 8, 8, 6), (29, 1)])
def test_batches_do_not_matter(n, sizes):
    metric = Diversity(n=n)
    assert fed(metric, FAKE, REAL, *sizes) == pytest.approx(fed(Diversity(n=n), FAKE, REAL, 30), rel=1e-6)
    assert len(metric.fake[0]) == min(n, 30)  # bounded
    metric.reset()
    assert fed(metric, FAKE, REAL, 30) == pytest.approx(fed(Diversity(n=n), FAKE, REAL, 30), rel=1e-6)


@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_do_not_matter(monkeypatch, world):
    whole = fed(Diversity(n=7), FAKE, REAL, 30)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: world)
    ranks = [Diversity(n=7) for _ in range(world)]
    for rank, metric in enumerate(ranks):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        for start in range(rank, 30, 4 * world):  # batches of 4; the last ones are smaller, and not equally many
            mine = list(range(start, min(start + 4 * world, 30), world))
            metric.update(FAKE[mine], REAL[mine])
    monkeypatch.undo()
    for metric in ranks[1:]:
        ranks[0].merge_state(metric)  # as a gather over ranks does
    assert {key: value.item() for key, value in ranks[0].compute().items()} == pytest.approx(whole, rel=1e-6)


def test_scramble_is_one_to_one_and_without_pattern():
    numbers = scrambled(torch.arange(10_000))
    assert len(numbers.unique()) == 10_000
    assert 0 <= int(numbers.min()) < int(numbers.max()) < 2**32
    first = numbers.argsort()[:100]
    assert 4000 < first.double().mean() < 6000  # evenly from the whole
    assert (first.diff().abs() > 3).all()  # neighbours in the data are no pair
    assert int(scrambled(torch.tensor([1]))) == 0x514E28B7  # the published value of fmix32(1)


def test_what_the_metric_refuses():
    with pytest.raises(ValueError, match="`n` must be a whole number of at least 2, got 1"):
        Diversity(n=1)
    with pytest.raises(ValueError, match=r"fake \(2, 1, 16, 16\) and real \(3, 1, 16, 16\)"):
        Diversity().update(FAKE[:2], REAL[:3])
    with pytest.raises(ValueError, match="the fake images given to the metric contain NaN"):
        Diversity().update(FAKE[:2] * torch.nan, REAL[:2])
    with pytest.raises(ValueError, match="call update"):
        Diversity().compute()
    assert all(value != value for value in fed(Diversity(), FAKE[:1], REAL[:1], 1).values())  # too few: the other metrics go on
    with pytest.raises(ValueError, match="sides of 11 or more"):
        ms_ssim(FAKE[..., :10], FAKE[..., :10])
    with pytest.raises(ValueError, match="two equal"):
        ms_ssim(FAKE[:2], FAKE[:3])


def on_canvas(images, value):
    return F.pad(images, (4, 9, 6, 0), value=value)


def test_the_canvas_round_images_changes_nothing():
    shape = (30, 1, 20, 16)
    fake, real = pictures(shape), pictures(shape, seed=1)
    bare, ones = Diversity(n=10), torch.ones(1, 1, 20, 16)
    bare.update(fake, real)
    canvas = Diversity(n=10)
    for part in (slice(12), slice(12, 30)):
        canvas.update(on_canvas(fake[part], -1), on_canvas(real[part], -1), common=on_canvas(ones, 0))
    whole = fed(Diversity(n=10), on_canvas(fake, -1), on_canvas(real, -1), 30)
    for key, value in bare.compute().items():
        assert canvas.compute()[key].item() == pytest.approx(value.item(), rel=1e-5)
        assert whole[key] > value.item() + 0.05


def test_without_a_common_part_the_whole_images_count():
    narrow = torch.zeros(1, 1, 16, 16)
    narrow[..., 3:9] = 1
    for common in (narrow, torch.zeros(1, 1, 16, 16)):
        metric = Diversity(n=10)
        metric.update(FAKE, REAL, common=common)
        assert metric.compute()["ms_ssim_fake"].item() == pytest.approx(fed(Diversity(n=10), FAKE, REAL, 30)["ms_ssim_fake"])
