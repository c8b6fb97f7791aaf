"""Scores against plain loops over pairs and cases; intervals against draws written out."""

import math

import numpy as np
import pytest
import torch

from medgan_pl.metrics.estimate import Resampling
from medgan_pl.metrics.utility.scores import SeedBootstrap, auc, aucs, balanced_accuracies


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probabilities(count, classes, seed=0, digits=1):
    """Rounded, so that there are ties."""
    return (random(count, classes, seed=seed) * 10**digits).round() / 10**digits


def pairwise(score, positive):
    wins = [(a > b) + (a == b) / 2 for a in score[positive].tolist() for b in score[~positive].tolist()]
    return sum(wins) / len(wins)


def repeated(values, weights):
    return torch.cat([values[i : i + 1] for i, times in enumerate(weights.int().tolist()) for _ in range(times)])


def test_auc_by_hand():
    labels = torch.tensor([0, 0, 1, 1])
    for score, expected in (([0.1, 0.4, 0.35, 0.8], 0.75), ([0.1, 0.2, 0.3, 0.4], 1), ([0.5] * 4, 0.5), ([0.9, 0.8, 0.8, 0.1], 0.125)):
        score = torch.tensor(score, dtype=torch.float64)
        assert auc(torch.stack([1 - score, score], 1), labels).item() == pytest.approx(expected, abs=1e-12)


def test_auc_with_ties_is_the_loop_over_pairs():
    seen, labels = probabilities(80, 2), (random(80, seed=1) < 0.3).long()
    assert auc(seen, labels).item() == pytest.approx(pairwise(seen[:, 1], labels == 1), abs=1e-12)


def test_auc_of_several_classes_is_the_mean_over_those_there_are():
    seen, labels = probabilities(90, 4), torch.arange(90) % 3  # class 3 does not occur
    expected = np.mean([pairwise(seen[:, c], labels == c) for c in range(3)])
    assert auc(seen, labels).item() == pytest.approx(expected, abs=1e-12)


def test_weights_count_cases_several_times():
    seen, labels = probabilities(40, 2), torch.arange(40) % 2
    weights = torch.randint(0, 4, (5, 40), generator=torch.Generator().manual_seed(2)).double()
    drawn = [(repeated(seen, row), repeated(labels, row)) for row in weights]
    expected = [pairwise(case[:, 1], label == 1) for case, label in drawn]
    assert aucs(seen, labels, weights).tolist() == pytest.approx(expected, abs=1e-12)
    recalls = [[(case[label == c].argmax(1) == c).double().mean().item() for c in (0, 1)] for case, label in drawn]
    assert balanced_accuracies(seen, labels, weights).tolist() == pytest.approx(np.mean(recalls, 1).tolist(), abs=1e-12)


def test_balanced_accuracy_weighs_classes_alike():
    """Always class 0: 90 % right, balanced one half."""
    seen = torch.tensor([[0.9, 0.1]]).repeat(100, 1).double()
    labels = (torch.arange(100) >= 90).long()
    assert balanced_accuracies(seen, labels, torch.ones(1, 100).double()).tolist() == [0.5]


def test_a_draw_of_one_class_is_nan():
    seen, labels = probabilities(4, 2), torch.tensor([0, 0, 1, 1])
    assert aucs(seen, labels, torch.tensor([[1.0, 2, 0, 0], [1, 1, 1, 1]]).double()).isnan().tolist() == [True, False]


def test_chance_draws_patients_whole():
    groups = torch.tensor([7, 7, 7, 3, 3, 9])
    bootstrap = SeedBootstrap(5, 6, groups, Resampling(draws=300))
    assert bootstrap.weights.shape == (301, 6)
    assert bootstrap.weights[0].tolist() == [1] * 6
    for group in (7, 3, 9):
        of_group = bootstrap.weights[:, groups == group]
        assert (of_group == of_group[:, :1]).all()
    patients = bootstrap.weights[1:, [0, 3, 5]]
    assert (patients.sum(1) == 3).all()
    assert patients.mean(0).tolist() == pytest.approx([1, 1, 1], abs=0.15)  # standard error 0.047
    alone = SeedBootstrap(5, 6, None, Resampling(draws=300)).weights[1:]
    assert (alone.sum(1) == 6).all()
    assert (alone[:, 0] != alone[:, 1]).any()


def test_chance_draws_seeds():
    """Three seeds of equal scores on any draw of cases: the spread is that of the mean of three numbers drawn with replacement."""
    bootstrap = SeedBootstrap(3, 10, None, Resampling(draws=4000))
    estimate = bootstrap.estimate(torch.tensor([0.0, 0.0, 3.0]).double()[:, None].expand(3, 4001))
    assert estimate.value == pytest.approx(1)
    # Of 27 equally likely draws 8 hold no 3 and 1 holds nothing else: more than 2.5 % each.
    assert (estimate.low, estimate.high) == (0, 3)
    assert SeedBootstrap(3, 10, None, Resampling(draws=100)).estimate(torch.ones(3, 101).double()).high == 1


def test_interval_is_the_draws_written_out():
    seen, labels, resampling = random(3, 50, 2), torch.arange(50) % 2, Resampling(draws=60, seed=4)
    bootstrap = SeedBootstrap(3, 50, torch.arange(50) // 2, resampling)
    estimate = bootstrap.estimate(torch.stack([aucs(each, labels, bootstrap.weights) for each in seen]))
    draws = []
    for weights, seeds in zip(bootstrap.weights[1:], bootstrap.drawn, strict=True):
        label = repeated(labels, weights)
        draws.append(np.mean([pairwise(repeated(seen[s], weights)[:, 1], label == 1) for s in seeds.tolist()]))
    assert estimate.value == pytest.approx(np.mean([pairwise(each[:, 1], labels == 1) for each in seen]), abs=1e-12)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=1e-12)


def test_intervals_cover_the_truth():
    """Scores of normal distributions one apart: the AUC is Φ(1/√2) = 0.760. Of 95 % intervals, 100 times: standard deviation 2.2 %."""
    truth, labels, inside = 0.5 * (1 + math.erf(0.5)), torch.arange(200) % 2, 0
    for trial in range(100):
        score = torch.randn(200, generator=torch.Generator().manual_seed(trial), dtype=torch.float64) + labels
        bootstrap = SeedBootstrap(2, 200, None, Resampling(draws=100, seed=trial))
        estimate = bootstrap.estimate(aucs(torch.stack([-score, score], 1), labels, bootstrap.weights).expand(2, -1))
        inside += estimate.low <= truth <= estimate.high
    assert 87 <= inside <= 99


def test_errors():
    with pytest.raises(ValueError, match="2 classes or more, got 6 of class \\[1\\] alone"):
        auc(probabilities(6, 2), torch.ones(6, dtype=torch.int64))
    with pytest.raises(ValueError, match="training diverged"):
        auc(torch.full((6, 2), math.nan), torch.arange(6) % 2)
    with pytest.raises(ValueError, match="one label for each case, got 5"):
        auc(probabilities(6, 2), torch.arange(5) % 2)
    with pytest.raises(ValueError, match="more than half of the draws"):
        SeedBootstrap(2, 10, None, Resampling()).estimate(torch.full((2, 201), math.nan, dtype=torch.float64))
