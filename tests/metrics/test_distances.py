"""Distances against scipy, closed forms and plain loops."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from medgan_pl.metrics.distances import Frechet, Kernel, frechet_distance, kernel_distance
from medgan_pl.metrics.estimate import Resampling


def normal(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_scipy(a, b):
    a, b = a.numpy(), b.numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root.real)


@pytest.mark.parametrize(("n", "m"), [(200, 200), (300, 50), (40, 90)])
def test_frechet_is_scipys(n, m):
    mixing = normal(12, 12, seed=3)
    a, b = normal(n, 12) @ mixing, normal(m, 12, seed=1) * 1.5 + 0.3
    assert frechet_distance(a, b).item() == pytest.approx(by_scipy(a, b), rel=1e-8)


@pytest.mark.parametrize(("n", "m"), [(6, 9), (6, 300), (2, 2)])
def test_frechet_with_fewer_rows_than_features(n, m):
    """scipy fails on singular products; the root is taken from the eigenvalues of the same symmetric matrix instead."""
    a, b = normal(n, 20), normal(m, 20, seed=1) + 0.5
    cov_a, cov_b = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root_a = vectors * np.sqrt(values.clip(0)) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root_a @ cov_b @ root_a).clip(0)).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap
    assert frechet_distance(a, b).item() == pytest.approx(expected, rel=1e-6)


def test_frechet_of_gaussians_with_known_moments():
    """Whitened exactly, then given axis-parallel covariances: ‖μ‖² + Σ (s - t)²."""
    x = normal(400, 5)
    x = x - x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    s, t = torch.tensor([1.0, 2.0, 0.5, 3.0, 0.0]).double(), torch.tensor([2.0, 2.0, 1.5, 0.5, 1.0]).double()
    shift = torch.tensor([0.0, 1.0, 0.0, -2.0, 0.0]).double()
    assert frechet_distance(white * s, white * t + shift).item() == pytest.approx(5 + ((s - t) ** 2).sum().item(), rel=1e-9)


def test_frechet_properties():
    a, b = normal(50, 8), normal(60, 8, seed=1) + 1
    rotation = torch.linalg.qr(normal(8, 8, seed=2)).Q
    value = frechet_distance(a, b).item()
    assert frechet_distance(b, a).item() == pytest.approx(value, rel=1e-10)
    assert frechet_distance(a @ rotation, b @ rotation).item() == pytest.approx(value, rel=1e-10)
    assert frechet_distance(a, a[torch.randperm(50)]).item() == pytest.approx(0, abs=1e-10)
    assert frechet_distance(3 * a, 3 * b).item() == pytest.approx(9 * value, rel=1e-10)


def test_rounding_makes_no_distance_negative():
    assert all(frechet_distance(a, a.flip(0)) >= 0 for a in (normal(30, 5, seed) for seed in range(20)))


def test_frechet_bias_falls_with_the_count():
    small, large = (
        np.mean([frechet_distance(normal(n, 10, 2 * s), normal(n, 10, 2 * s + 1)).item() for s in range(20)]) for n in (50, 200)
    )
    assert 3 < small / large < 5  # four times the images, about a quarter of the bias


def kernel_loop(a, b):
    def k(x, y):
        return (float(x @ y) / len(x) + 1) ** 3

    n, m = len(a), len(b)
    within_a = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


@pytest.mark.parametrize(("n", "m"), [(12, 12), (9, 17), (2, 3)])
def test_kernel_distance_is_the_double_loop(n, m):
    a, b = normal(n, 6), normal(m, 6, seed=1) * 1.3 + 0.4
    assert kernel_distance(a, b).item() == pytest.approx(kernel_loop(a, b), rel=1e-10)


def test_kernel_distance_is_unbiased():
    same = torch.stack([kernel_distance(normal(20, 5, 2 * s), normal(20, 5, 2 * s + 1)) for s in range(100)])
    assert same.min() < 0 < same.max()
    assert abs(same.mean()) < 3 * same.std() / 10
    apart = [torch.stack([kernel_distance(normal(n, 5, 2 * s), normal(n, 5, 2 * s + 1) + 1) for s in range(40)]).mean() for n in (10, 60)]
    assert apart[0].item() == pytest.approx(apart[1].item(), rel=0.1)


def test_kernel_distance_of_large_sets_is_the_mean_over_keyed_draws():
    a, b = normal(400, 4), normal(300, 4, seed=1) + 0.5
    whole = kernel_distance(a, b).item()
    drawn = kernel_distance(a, b, subsets=30, subset_size=100).item()
    state = torch.get_rng_state()
    assert kernel_distance(a, b, subsets=30, subset_size=100).item() == drawn
    assert torch.equal(torch.get_rng_state(), state)
    assert drawn != whole
    assert drawn == pytest.approx(whole, rel=0.1)
    assert kernel_distance(a, b, subsets=30, subset_size=100, seed=1).item() != drawn
    assert kernel_distance(a, b, subset_size=400).item() == whole


def test_one_small_set_is_used_whole_and_the_large_one_is_drawn_from():
    a, b = normal(50, 4), normal(200, 4, seed=1) + 0.5
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randperm(len(x), generator=generator)[:100] for x in (a, b)]
    by_hand = kernel_loop(a[rows[0]], b[rows[1]])
    assert kernel_distance(a, b, subsets=1, subset_size=100, seed=3).item() == pytest.approx(by_hand, rel=1e-8)


def test_the_interval_of_subsets_by_hand():
    """± 1.96 √(100 / 300) of the spread of the subsets: the smaller set has 300 rows."""
    a, b = normal(400, 4), normal(300, 4, seed=1) + 0.5
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(5):
        parts = [x[torch.randperm(len(x), generator=generator)[:100]] for x in (a, b)]
        values.append(kernel_distance(*parts).item())
    found = Kernel(5, 100).estimates(a, b, Resampling(20))["kid"]
    assert found.value == pytest.approx(np.mean(values))
    assert found.high - found.value == pytest.approx(1.96 * np.std(values, ddof=1) / 3**0.5)
    assert found.value - found.low == pytest.approx(found.high - found.value)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_distances_refuse_what_they_cannot_judge(distance):
    with pytest.raises(ValueError, match="2 rows or more of each, got 1 and 5"):
        distance(torch.zeros(1, 3), torch.zeros(5, 3))
    with pytest.raises(ValueError, match="with one F"):
        distance(torch.zeros(5, 3), torch.zeros(5, 4))
    with pytest.raises(ValueError, match="NaN"):
        distance(torch.zeros(5, 3), torch.full((5, 3), float("nan")))


def test_measures_give_the_distances():
    a, b = normal(30, 4), normal(20, 4, seed=1) + 0.5
    assert Frechet()(a, b) == {"fd": frechet_distance(a, b)}
    assert Kernel(5, 10)(a, b) == {"kid": kernel_distance(a, b, subsets=5, subset_size=10)}
    for measure in (Frechet(), Kernel(), Kernel(5, 10), Kernel(1, 10)):
        (key, value), (same, estimate) = *measure(a, b).items(), *measure.estimates(a, b, Resampling(20)).items()
        assert key == same
        assert estimate.value == pytest.approx(value.item(), rel=1e-10)
        assert estimate.low < estimate.value < estimate.high


def test_frechet_interval_is_the_slow_bootstraps():
    a, b = normal(40, 3), normal(30, 3, seed=1) + 0.5
    slow = Resampling(25, seed=4).of_sets(frechet_distance, a, b)
    assert Frechet().estimates(a.float(), b.float(), Resampling(25, seed=4))["fd"].low == pytest.approx(slow.low, rel=1e-4)


def test_kernel_interval_is_the_slow_bootstraps():
    """Rows and columns of kernels computed once, against kernels of each resample; patients on one side."""
    a, b = normal(24, 3), normal(18, 3, seed=1) + 0.5
    for groups in (None, torch.arange(18) // 3):
        resampling = Resampling(30, seed=2, real_groups=groups)
        fast, slow = Kernel().estimates(a, b, resampling)["kid"], resampling.of_sets(kernel_distance, a, b)
        for end in ("value", "low", "high"):
            assert getattr(fast, end) == pytest.approx(getattr(slow, end), rel=1e-8), end


def test_kernel_interval_of_large_sets_holds_the_value_of_all():
    """Twenty subsets of a fifth: the interval of their mean, narrowed to all rows, is about what the bootstrap of all rows gives."""
    a, b = normal(500, 3), normal(500, 3, seed=1) + 0.5
    drawn, whole = (Kernel(20, size).estimates(a, b, Resampling(50))["kid"] for size in (100, 500))
    assert drawn.low < whole.value < drawn.high
    assert drawn.value == kernel_distance(a, b, subsets=20, subset_size=100).item()
    assert drawn.high - drawn.value == pytest.approx(drawn.value - drawn.low)
    assert drawn.high - drawn.low == pytest.approx(whole.high - whole.low, rel=0.5)


@pytest.mark.parametrize("arguments", [{"subsets": 0}, {"subset_size": 1}])
def test_kernel_refuses_subsets_that_are_none(arguments):
    with pytest.raises(ValueError, match=r"`subset(s|_size)` must be a whole number"):
        Kernel(**arguments)


class Given(nn.Module):
    """Hands torchmetrics features that are there already: an image (3, 1, F) holds its own in the first channel."""

    num_features = 12

    def forward(self, images):
        return images[:, 0, 0].double()


def test_both_distances_are_torchmetrics():
    from torchmetrics.image import fid, kid

    mixing = normal(12, 12, seed=3) / 4
    fake, real = normal(300, 12) @ mixing + 0.2, normal(240, 12, seed=1) @ mixing
    metric = fid.FrechetInceptionDistance(feature=Given(), input_img_size=(3, 1, 12)).set_dtype(torch.float64)
    for features, is_real in ((fake, False), (real, True)):
        metric.update(features[:, None, None].expand(-1, 3, 1, -1), real=is_real)
    assert frechet_distance(fake, real).item() == pytest.approx(metric.compute().item(), rel=1e-3)
    assert kernel_distance(fake[:240], real).item() == pytest.approx(kid.poly_mmd(real, fake[:240]).item(), rel=1e-3)
