"""The attack's AUC against scipy, its control where groups differ, and its gain on a copier and on an honest generator."""

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from medgan_pl.metrics.estimate import Resampling
from medgan_pl.metrics.membership import closeness, membership_advantage, membership_auc
from medgan_pl.metrics.memorization import leaks

DRAWS = Resampling(draws=60)


def normal(rows, seed, columns=8):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("round_to", [0.001, 0.5, 3], ids=["few ties", "many ties", "mostly ties"])
@pytest.mark.parametrize(("n", "m"), [(40, 40), (7, 90), (1, 3)])
def test_auc_is_mann_and_whitneys(round_to, n, m):
    members, strangers = ((normal(count, seed, 1)[:, 0] / round_to).round() for seed, count in enumerate((n, m)))
    expected = mannwhitneyu(members.numpy(), strangers.numpy()).statistic / (n * m)
    assert membership_auc(members, strangers).item() == pytest.approx(expected, abs=1e-12)


def test_auc_extremes():
    low, high = torch.arange(5.0), torch.arange(5.0) + 10
    assert membership_auc(high, low) == 1
    assert membership_auc(low, high) == 0
    assert membership_auc(low, low) == 0.5
    for odd in (torch.tensor([torch.nan]), torch.tensor([torch.inf]), torch.zeros(0)):
        with pytest.raises(ValueError, match="finite"):
            membership_auc(low, odd)


def test_closeness_is_minus_the_nearest_distance_in_any_view():
    images, mirrored, fakes = normal(20, 0), normal(20, 1), normal(30, 2)
    expected = -torch.minimum(torch.cdist(images, fakes).amin(1), torch.cdist(mirrored, fakes).amin(1))
    assert closeness([images, mirrored], fakes).float().allclose(expected, atol=1e-5)


def attacked(train, test, control, fakes, **arguments):
    return membership_advantage(*(closeness([x], fakes) for x in (train, test, control)), DRAWS, **arguments)


@pytest.mark.parametrize("seed", range(5))
def test_an_honest_generator_gives_nothing_away_and_a_copier_does(seed):
    train, test, control, fresh = (normal(count, 10 * seed + i) for i, count in enumerate((300, 150, 150, 600)))
    honest = attacked(train, test, control, fresh)
    assert list(honest) == ["mia_auc", "mia_control", "mia_advantage"]
    assert abs(honest["mia_auc"].value - 0.5) < 0.1
    assert leaks(None, honest["mia_advantage"]) == ""
    copier = attacked(train, test, control, train[torch.arange(600) % 300] + 0.2 * normal(600, seed))
    assert copier["mia_auc"].low > 0.9
    assert "An attacker can infer" in leaks(None, copier["mia_advantage"])


def test_the_control_takes_out_what_is_odd_in_the_test_patients():
    """A test split from another hospital: the attack tells it from the training patients, and from any others as well."""
    train, test, control = normal(300, 0), normal(200, 1) * 1.3, normal(200, 2)
    estimates = attacked(train, test, control, normal(500, 3))
    assert estimates["mia_auc"].low > 0.6
    assert estimates["mia_control"].low > 0.6
    assert estimates["mia_advantage"].low < 0 < estimates["mia_advantage"].high
    difference = estimates["mia_auc"].value - estimates["mia_control"].value
    assert estimates["mia_advantage"].value == pytest.approx(difference)


def test_both_aucs_meet_the_same_test_patients():
    """Few test images make each AUC uncertain, and hardly their difference."""
    scores = [normal(count, seed, 1)[:, 0] for seed, count in enumerate((2000, 20, 2000))]
    widths = {key: value.high - value.low for key, value in membership_advantage(*scores, DRAWS).items()}
    assert widths["mia_advantage"] < 0.5 * min(widths["mia_auc"], widths["mia_control"])


def test_images_of_one_patient_count_as_one():
    patients = [normal(30, seed, 1)[:, 0].repeat_interleave(20) for seed in range(3)]
    groups = tuple(torch.arange(600) // 20 for _ in range(3))
    alone, grouped = (membership_advantage(*patients, DRAWS, given)["mia_auc"] for given in ((None, None, None), groups))
    assert alone.value == grouped.value
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(20**0.5, rel=0.4)


def test_scores_may_come_from_a_discriminator():
    logits = [torch.from_numpy(np.random.default_rng(i).normal(shift, 1, 200)).float() for i, shift in enumerate((1.5, 0, 0))]
    advantage = membership_advantage(*logits, DRAWS)["mia_advantage"]
    assert advantage.value == pytest.approx(0.856 - 0.5, abs=0.08)  # Φ(1.5 / √2) = 0.856
    with pytest.raises(ValueError, match="10 scores or more of each set, got 200, 200, 9"):
        membership_advantage(*logits[:2], logits[2][:9], DRAWS)
    assert membership_advantage(*(scores[:10] for scores in logits), DRAWS).keys() == {"mia_auc", "mia_control", "mia_advantage"}
