"""Neighbours, precision, recall, density and coverage against plain loops over pairs and over known extremes."""

from functools import cache

import numpy as np
import pytest
import torch

from medgan_pl.metrics import neighbours
from medgan_pl.metrics.estimate import Resampling
from medgan_pl.metrics.neighbours import DensityCoverage, PrecisionRecall, kth_distances, nearest, nearest_other


def normal(rows, columns=6, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[1, 4000, 2**26], ids=["a row at a time", "uneven pieces", "one piece"])
def pieces(request, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", request.param)


def distance(a, b):
    return np.sqrt(((a.astype(float) - b.astype(float)) ** 2).sum())


@cache  # by identity, of the sets below
def table(a, b):
    return np.array([[distance(x, y) for y in b.numpy()] for x in a.numpy()])


@cache
def radii_loop(x, k):
    return [sorted(distance(row, other) for j, other in enumerate(x.numpy()) if j != i)[k - 1] for i, row in enumerate(x.numpy())]


def loop(fake, real, k):
    """The four values, word by word from the papers, and what each image adds."""
    n, m, d = len(fake), len(real), table(fake, real).tolist()
    fake_radii, real_radii = radii_loop(fake, k), radii_loop(real, k)
    return {
        "precision": [float(any(d[i][j] <= real_radii[j] for j in range(m))) for i in range(n)],
        "recall": [float(any(d[i][j] <= fake_radii[i] for i in range(n))) for j in range(m)],
        "density": [sum(d[i][j] <= real_radii[j] for j in range(m)) / k for i in range(n)],
        "coverage": [float(any(d[i][j] <= real_radii[j] for i in range(n))) for j in range(m)],
    }


SETS = {
    "equal counts": (normal(40), normal(40, seed=1)),
    "few fakes": (normal(9) * 0.7, normal(50, seed=1)),
    "few reals": (normal(50) + 0.5, normal(7, seed=1)),
    "far from the origin": (normal(30).double() + 1e5, normal(30, seed=1).double() + 1e5),
    "many features": (normal(12, 300), normal(14, 300, seed=1)),
    "ties on a lattice": tuple(torch.randint(0, 3, (40, 3), generator=torch.Generator().manual_seed(s)).float() for s in (0, 1)),
    "lattice off the origin": tuple(torch.randint(0, 3, (40, 3), generator=torch.Generator().manual_seed(s)) * 0.1 + 0.7 for s in (0, 1)),
    "more twins than k": (normal(4).repeat(8, 1), torch.cat([normal(4).repeat(6, 1), normal(20, seed=1)])),
}


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", SETS)
@pytest.mark.usefixtures("pieces")
def test_measures_are_the_loop(name, k):
    fake, real = SETS[name]
    expected = {key: np.mean(values) for key, values in loop(fake, real, k).items()}
    values = PrecisionRecall(k)(fake, real) | DensityCoverage(k)(fake, real)
    assert list(values) == list(expected)
    for key, value in values.items():
        assert value.item() == pytest.approx(expected[key], abs=1e-9), key


@pytest.mark.parametrize("name", SETS)
@pytest.mark.usefixtures("pieces")
def test_distances_are_the_loop(name):
    query, base = SETS[name]
    found, place = nearest(query, base)
    assert torch.tensor(table(query, base).min(1)).allclose(found, rtol=1e-9, atol=1e-9)
    assert torch.tensor([distance(query[i].numpy(), base[j].numpy()) for i, j in enumerate(place.tolist())]).allclose(found, rtol=1e-9)
    for k in (1, 2, 5):
        assert kth_distances(base, k).allclose(torch.tensor(radii_loop(base, k)), rtol=1e-9, atol=1e-9)
    assert nearest_other(base)[0].allclose(kth_distances(base, 1), rtol=1e-12)


def test_equal_rows_are_at_zero_exactly():
    x = normal(30) * 100 + 7
    found, place = nearest(x, x)
    assert found.equal(torch.zeros(30, dtype=torch.float64))
    assert place.equal(torch.arange(30))
    assert kth_distances(x.repeat(3, 1), 2).equal(torch.zeros(90, dtype=torch.float64))


def test_neighbours_of_another_group():
    x, groups = normal(30), torch.arange(30) % 5
    d = torch.tensor(table(x, x))
    d[groups[:, None] == groups] = torch.inf
    found, place = nearest_other(x, groups)
    assert found.allclose(d.min(1).values, rtol=1e-9)
    assert place.equal(d.argmin(1))
    base, base_groups = normal(11, seed=1), torch.arange(11) % 3
    d = torch.tensor(table(x, base))
    d[groups[:, None] == base_groups] = torch.inf
    assert nearest(x, base, groups, base_groups)[1].equal(d.argmin(1))


def test_extremes():
    x, y = normal(60), normal(60, seed=1)
    same = PrecisionRecall()(x, x) | DensityCoverage()(x, x)
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    assert same["density"] == pytest.approx(6 / 5)  # each image lies in its own ball, and in those of which it is one of 5 neighbours
    apart = PrecisionRecall()(x, y + 1000) | DensityCoverage()(x, y + 1000)
    assert sum(apart.values()) == 0


def test_coverage_of_equal_distributions_is_what_the_paper_expects():
    values = [DensityCoverage()(normal(300, 4, 2 * s), normal(300, 4, 2 * s + 1)) for s in range(6)]
    assert np.mean([v["coverage"] for v in values]) == pytest.approx(1 - 2**-5, abs=0.01)
    assert np.mean([v["density"] for v in values]) == pytest.approx(1, abs=0.1)


def test_a_dropped_mode_shows_in_recall_and_coverage_alone():
    def modes(seed, count):
        return normal(200, 2, seed) + 20 * (torch.arange(200) % count)[:, None]

    real = modes(0, 4)
    whole, dropped = ({**PrecisionRecall()(fake, real), **DensityCoverage()(fake, real)} for fake in (modes(1, 4), modes(2, 2)))
    assert dropped["precision"] > 0.9 * whole["precision"]
    assert dropped["density"] > 0.9 * whole["density"]
    assert dropped["recall"] < 0.55 < 0.9 < whole["recall"]
    assert dropped["coverage"] < 0.55 < 0.9 < whole["coverage"]


def test_an_odd_real_image_raises_precision_and_hardly_density():
    real, fake = normal(100), normal(100, seed=1) * 4
    odd = torch.cat([real[:-1], torch.full((1, 6), 30.0)])
    assert PrecisionRecall()(fake, odd)["precision"] - PrecisionRecall()(fake, real)["precision"] > 0.2
    assert DensityCoverage()(fake, odd)["density"] - DensityCoverage()(fake, real)["density"] < 0.06


def test_intervals_are_of_the_numbers_of_the_images():
    fake, real = normal(60) * 0.9, normal(50, seed=1)
    groups = torch.arange(60) // 3, torch.arange(50) // 5
    resampling = Resampling(draws=50, seed=4, fake_groups=groups[0], real_groups=groups[1])
    per_image = loop(fake, real, 3)
    estimates = PrecisionRecall(3).estimates(fake, real, resampling) | DensityCoverage(3).estimates(fake, real, resampling)
    for key, estimate in estimates.items():
        side = groups[key in ("recall", "coverage")]
        expected = resampling.of_mean(torch.tensor(per_image[key]), side)
        assert estimate.low < estimate.value < estimate.high
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_what_cannot_be_judged():
    with pytest.raises(ValueError, match="k = 3 need 4 fake images or more, got 3"):
        PrecisionRecall()(normal(3), normal(9))
    with pytest.raises(ValueError, match="k = 3 need 4 real images or more, got 3"):
        PrecisionRecall()(normal(9), normal(3))
    with pytest.raises(ValueError, match="k = 5 need 6 real images or more, got 5"):
        DensityCoverage()(normal(9), normal(5))
    assert DensityCoverage()(normal(1), normal(6))["coverage"] <= 1  # one fake is enough there
    for measure in (PrecisionRecall(), DensityCoverage()):
        with pytest.raises(ValueError, match="with one F"):
            measure(normal(9), normal(9, 4))
        for odd in (torch.nan, torch.inf):
            with pytest.raises(ValueError, match="NaN or infinity"):
                measure(normal(9), normal(9).index_fill(0, torch.tensor([2]), odd))
        with pytest.raises(ValueError, match="one row or more"):
            measure(normal(0), normal(9))
    with pytest.raises(ValueError, match="`k` must be a whole number of at least 1"):
        PrecisionRecall(0)
    with pytest.raises(ValueError, match="needs 3 rows or more, got 2"):
        kth_distances(normal(2), 2)
    with pytest.raises(ValueError, match="another group"):
        nearest_other(normal(4), torch.ones(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="both be given"):
        nearest(normal(4), normal(4), torch.ones(4, dtype=torch.int64))
