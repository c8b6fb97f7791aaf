"""Intervals against normal theory, against plain loops, and by how often they hold the truth."""

import pytest
import torch

from medgan_pl.metrics.distances import Frechet, Kernel
from medgan_pl.metrics.estimate import Estimate, Resampling, cases, resampled
from medgan_pl.metrics.membership import membership_advantage
from medgan_pl.metrics.memorization import copies
from medgan_pl.metrics.neighbours import DensityCoverage, PrecisionRecall


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def width(estimate):
    return estimate.high - estimate.low


def test_interval_of_a_mean_is_that_of_normal_theory():
    values = 3 + 2 * normal(400)
    estimate = Resampling(1000).of_mean(values)
    reach = 1.96 * values.std().item() / 20
    assert estimate.value == pytest.approx(values.mean().item(), rel=1e-12)
    assert estimate.low == pytest.approx(estimate.value - reach, abs=0.15 * reach)
    assert estimate.high == pytest.approx(estimate.value + reach, abs=0.15 * reach)


def test_interval_of_a_mean_holds_the_truth_as_often_as_it_says():
    held = [estimate.low < 1 < estimate.high for estimate in (Resampling(80).of_mean(1 + normal(60, seed=s)) for s in range(100))]
    assert 0.86 < sum(held) / 100 < 1  # 95 %, less what the percentile interval lacks at 60 images and 80 draws, ± 3 standard errors


def test_patients_widen_the_interval_where_their_images_are_alike():
    """Of 40 patients 10 images each, equal within a patient: as 40 images, √10 times as wide as 400; unlike ones are as 400."""
    patients = torch.arange(40).repeat_interleave(10)
    alike, unlike = normal(40).repeat_interleave(10), normal(400)
    resampling = Resampling(300)
    naive, clustered = resampling.of_mean(alike), resampling.of_mean(alike, patients)
    assert naive.value == clustered.value
    assert width(clustered) / width(naive) == pytest.approx(10**0.5, rel=0.25)
    assert width(resampling.of_mean(unlike, patients)) == pytest.approx(width(resampling.of_mean(unlike)), rel=0.4)


@pytest.mark.parametrize("groups", [[5, 5, 9, 9, 9, 2, 5], [0, 1, 2, 3, 4, 5, 6], [3, 3, 3, 3, 3, 3, 8]])
def test_a_resample_takes_whole_patients(groups):
    numbers = torch.tensor(groups)
    generator = torch.Generator().manual_seed(0)
    sizes = {group: groups.count(group) for group in groups}
    seen = set()
    for _ in range(50):
        rows = resampled(7, numbers, generator).tolist()
        drawn = [groups[row] for row in rows]
        assert sum(drawn.count(group) / size for group, size in sizes.items()) == len(sizes)  # as many patients as there are
        for group in set(drawn):
            times = drawn.count(group) // sizes[group]
            assert sorted(row for row in rows if groups[row] == group) == sorted([i for i, g in enumerate(groups) if g == group] * times)
        seen.update(rows)
    assert seen == set(range(7))


def test_images_without_patients_stand_for_themselves():
    rows = resampled(1000, None, torch.Generator().manual_seed(0))
    assert len(rows) == 1000
    assert 580 < len(rows.unique()) < 680  # 1 - 1/e of them


@pytest.mark.parametrize("fake_patients", [None, torch.arange(12) // 3])
def test_interval_of_two_sets_is_the_loops(fake_patients):
    fake, real, patients = normal(12, 2), normal(9, 2, seed=1), torch.arange(9) // 2
    estimate = Resampling(40, seed=3, fake_groups=fake_patients, real_groups=patients).of_sets(
        lambda a, b: (a.mean(0) - b.mean(0)).norm(), fake, real
    )
    generator, draws = torch.Generator().manual_seed(3), []
    for _ in range(40):
        i, j = resampled(12, fake_patients, generator), resampled(9, patients, generator)
        draws.append((fake[i].mean(0) - real[j].mean(0)).norm().item())
    draws = torch.tensor(draws).double()
    value = (fake.mean(0) - real.mean(0)).norm().item()
    assert estimate.value == pytest.approx(value)
    assert estimate.low == pytest.approx(value + torch.quantile(draws, 0.025).item() - draws.mean().item(), rel=1e-6)
    assert estimate.high == pytest.approx(value + torch.quantile(draws, 0.975).item() - draws.mean().item(), rel=1e-6)


def test_a_difference_of_pairs_is_free_of_what_both_share():
    shared, patients = 10 * normal(200).repeat_interleave(2), torch.arange(200).repeat_interleave(2)
    one, other = shared + 1 + 0.1 * normal(400, seed=1), shared + 0.1 * normal(400, seed=2)
    apart = Resampling(100, seed=5, real_groups=patients).of_pairs(lambda rows: one[rows].mean() - other[rows].mean(), 400)
    assert apart.value == pytest.approx(float((one - other).mean()))
    assert apart.low < apart.value < apart.high
    assert apart.high - apart.low < 0.05  # the mean of either alone varies by 1.4
    generator = torch.Generator().manual_seed(5)
    rows = [resampled(400, patients, generator) for _ in range(100)]
    draws = torch.tensor([float((one[i] - other[i]).mean()) for i in rows]).double()
    assert apart.low - apart.value == pytest.approx(float(draws.quantile(0.025) - draws.mean()), abs=1e-6)


def test_the_value_lies_within_though_resampling_moves_distances_up():
    for seed in range(5):
        fake, real = normal(40, 10, seed=2 * seed), normal(40, 10, seed=2 * seed + 1)
        for measure in (Frechet(), Kernel()):
            (estimate,) = measure.estimates(fake, real, Resampling(30)).values()
            assert estimate.low < estimate.value < estimate.high


@pytest.mark.parametrize("measure", [Frechet(), Kernel()], ids=["fd", "kid"])
def test_interval_of_a_distance_holds_the_truth_about_as_often_as_it_says(measure):
    """Gaussians with known moments, 100 rows of each: the distance is 1 + 2 · 0.25. KID is held to its mean over all."""
    scale, shift = torch.tensor([1.5, 1.5]).double(), torch.tensor([1.0, 0.0]).double()
    found = [
        next(iter(measure.estimates(normal(100, 2, seed=2 * s), normal(100, 2, seed=2 * s + 1) * scale + shift, Resampling(30)).values()))
        for s in range(40)
    ]
    truth = 1.5 if isinstance(measure, Frechet) else sum(estimate.value for estimate in found) / 40
    held = sum(estimate.low < truth < estimate.high for estimate in found) / 40
    assert 0.78 <= held <= 1, held  # 95 %, less what 30 draws lack, ± 3 standard errors
    spread = torch.tensor([estimate.value for estimate in found]).std().item()
    assert sum(map(width, found)) / 40 == pytest.approx(3.92 * spread, rel=0.3)  # neither far too wide


def test_the_seed_alone_decides_and_the_global_generator_is_left_alone():
    values, state = normal(50), torch.get_rng_state()
    first = Resampling(20, seed=1).of_mean(values)
    assert torch.equal(torch.get_rng_state(), state)
    assert Resampling(20, seed=1).of_mean(values) == first
    assert Resampling(20, seed=2).of_mean(values) != first


@pytest.mark.parametrize("draws", [0, 19])
def test_fewer_than_twenty_draws_are_refused(draws):
    with pytest.raises(ValueError, match=f"20 or more for a 95 % interval, got {draws}"):
        Resampling(draws)
    Resampling(20)


def test_what_has_no_interval_is_refused():
    with pytest.raises(ValueError, match="two images or more, got 1"):
        Resampling(20).of_mean(normal(1))
    with pytest.raises(ValueError, match="two patients or more, got 1"):
        Resampling(20).of_mean(normal(5), torch.zeros(5).long())
    with pytest.raises(ValueError, match="of each image, got 4 for 5 images"):
        Resampling(20, real_groups=torch.arange(4)).of_sets(lambda a, b: b.mean(), normal(5), normal(5))
    with pytest.raises(ValueError, match="finite"):
        Resampling(20).of_mean(normal(5) * torch.tensor([1, 1, torch.nan, 1, 1]))


def test_a_share_at_its_end_has_the_exact_interval() -> None:
    """Clopper & Pearson's tables: none of 60 is 0 to 5.96 %, all of 10 is 69.2 % to 100 %."""
    none, every = Estimate(0.0, 0.0, 0.0).as_share(60), Estimate(1.0, 1.0, 1.0).as_share(10)
    assert (none.low, round(none.high, 4)) == (0, 0.0596)
    assert (round(every.low, 4), every.high) == (0.6915, 1)
    between = Estimate(0.5, 0.4, 0.6)
    assert between.as_share(10) == between
    assert Estimate(0.0, 0.0, 0.5).as_share(60).high == 0.5, "a wider interval stays"
    assert cases(6, torch.tensor([4, 4, 9, 9, 9, 1])) == 3


def test_shares_of_images_and_patients_have_it() -> None:
    real, groups = normal(60, 2), torch.arange(60) // 3
    far = normal(60, 2, seed=1) + 100
    draws = Resampling(20, real_groups=groups)
    apart = PrecisionRecall().estimates(far, real, draws) | DensityCoverage().estimates(far, real, draws)
    assert [round(apart[key].high, 3) for key in ("precision", "recall", "coverage")] == [0.06, 0.168, 0.168], "60 fakes, 20 patients"
    assert round(apart["density"].high, 3) == 0.06, "as many fakes may lie in a ball, each counted as a real: as 1"
    assert DensityCoverage().estimates(real, real, draws)["coverage"].low == pytest.approx(1 - 0.168, abs=1e-3)
    held_out = 1 + torch.rand(200, generator=torch.Generator().manual_seed(0))
    assert copies(torch.full((40,), 3.0), held_out, Resampling(20)).high == pytest.approx(0.0881, abs=1e-4)
    assert copies(torch.zeros(40), held_out, Resampling(20)).low == pytest.approx(1 - 0.0881, abs=1e-4)


def test_an_attack_that_always_succeeds_has_it_over_the_smaller_side() -> None:
    low, high = normal(30), normal(20, seed=1) + 100
    for train, test in ((low, high), (high, low)):
        found = membership_advantage(train, test, test, Resampling(20))
        auc = found["mia_auc"]
        assert auc.value in (0.0, 1.0)
        assert abs(auc.high - auc.low) == pytest.approx(1 - 0.025 ** (1 / 20))
    gain = membership_advantage(high, low, low - 200, Resampling(20))["mia_advantage"]
    assert gain.low < gain.value == 1 == gain.high
