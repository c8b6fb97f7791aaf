"""Good, mislabeled and useless fakes distinguished on planted classes; the numbers from given probabilities by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import noise, sided, squares

from medgan_pl.metrics.catalogue import CATALOGUE
from medgan_pl.metrics.estimate import Resampling
from medgan_pl.metrics.utility.scores import SeedBootstrap
from medgan_pl.metrics.utility.teaching import Labeled, Masked, Training
from medgan_pl.metrics.utility.utility import (
    TRAINING_SETS,
    classifier_utility,
    classifier_utility_of,
    segmenter_utility,
    segmenter_utility_of,
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Networks this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


QUICK = Training(seeds=2, steps=25, batch_size=16)
FEW = Resampling(draws=50)


@pytest.fixture(scope="module")
def train():
    return sided(80, seed=0)


@pytest.fixture(scope="module")
def test():
    return replace(sided(100, seed=1), groups=torch.arange(100) // 2)


@pytest.fixture(scope="module")
def good(train, test):
    return classifier_utility(train, test, sided(90, seed=2), 2, QUICK, FEW)


def test_fakes_with_the_right_labels_are_useful(good):
    values = {key: estimate.value for key, estimate in good.estimates.items()}
    assert min(values[key] for key in ("auc_real", "auc_synthetic", "auc_both", "auc_reverse")) > 0.97
    assert values["agreement"] > 0.9
    assert good.floors["agreement"].value > 0.9
    assert abs(values["auc_gain"]) < 0.03


def test_every_key_is_in_the_catalogue_and_in_its_interval(good):
    assert set(good.estimates) == {key for key, entry in CATALOGUE.items() if entry.group == "use" and not key.startswith("dice")}
    assert set(good.floors) == {"auc_synthetic", "auc_both", "auc_reverse", "agreement"}
    for estimate in [*good.estimates.values(), *good.floors.values()]:
        assert estimate.low <= estimate.value <= estimate.high


def test_fakes_with_shuffled_labels_teach_nothing(train, test):
    shuffled = replace(sided(90, seed=2), labels=(torch.arange(90) // 2) % 2)
    found = classifier_utility(train, test, shuffled, 2, QUICK, FEW)
    assert found.estimates["auc_real"].value > 0.97
    assert found.floors["auc_synthetic"] == found.estimates["auc_real"]
    for key in ("auc_synthetic", "auc_reverse", "agreement"):
        assert found.estimates[key].value == pytest.approx(0.5, abs=0.2), key
    # The mean of 90 fakes whose true classes are half in each label lies well inside bootstrap.
    assert found.estimates["agreement"].low < 0.5 < found.estimates["agreement"].high


def test_same_again_and_the_global_generator_is_untouched(train, test):
    quick, state = Training(seeds=2, steps=2, batch_size=4), torch.get_rng_state()
    one, again = (classifier_utility(train, test, sided(40, seed=2), 2, quick, FEW) for _ in range(2))
    assert one == again
    assert torch.equal(state, torch.get_rng_state())


def test_it_plays_in_three_dimensions_with_three_classes():
    train, test, fake = (sided(60, seed=seed, spatial_dims=3, classes=3) for seed in range(3))
    found = classifier_utility(train, test, fake, 3, Training(seeds=2, steps=2, batch_size=4), FEW)
    assert all(math.isfinite(estimate.value) for estimate in found.estimates.values())


def probabilities(seeds, count, seed):
    one = torch.rand(seeds, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.stack([1 - one, one], 2)


def loop_auc(seen, labels, weights):
    """Every pair of a case of class 1 and one of class 0, as often as both were drawn."""
    cases = list(zip(seen[:, 1].tolist(), labels.tolist(), weights.tolist(), strict=True))
    pairs = [(a, b, m * n) for a, label, m in cases if label for b, other, n in cases if not other]
    return sum(times * ((a > b) + (a == b) / 2) for a, b, times in pairs) / sum(times for _, _, times in pairs)


def test_the_gain_is_paired_over_seeds_and_patients():
    labels, groups = torch.arange(24) % 2, torch.arange(24) // 3
    on_test = {trained_on: probabilities(3, 24, place) for place, trained_on in enumerate(TRAINING_SETS)}
    cases = Labeled(torch.zeros(24, 1, 16, 16), labels, groups)
    resampling = Resampling(draws=40, seed=9)
    found = classifier_utility_of(
        on_test, cases, probabilities(3, 30, 5), Labeled(torch.zeros(30, 1, 16, 16), torch.arange(30) % 2), resampling
    )
    bootstrap = SeedBootstrap(3, 24, groups, resampling)
    gains = np.array(
        [
            [loop_auc(both, labels, row) - loop_auc(real, labels, row) for row in bootstrap.weights]
            for both, real in zip(on_test["both"], on_test["real"], strict=True)
        ]
    )
    draws = [gains[seeds.numpy(), 1 + place].mean() for place, seeds in enumerate(bootstrap.drawn)]
    gain = found.estimates["auc_gain"]
    assert gain.value == pytest.approx(gains[:, 0].mean(), abs=1e-12)
    assert (gain.low, gain.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=1e-12)
    same = classifier_utility_of({**on_test, "both": on_test["real"]}, cases, on_test["real"], cases, resampling).estimates["auc_gain"]
    assert (same.low, same.value, same.high) == (0, 0, 0)


def test_agreement_by_hand():
    """Of class 0 three in four are seen as asked for, of class 1 one in two."""
    seen = torch.tensor([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 2 + [[0.6, 0.4]]).double().expand(2, -1, -1)
    cases = Labeled(torch.zeros(6, 1, 16, 16), torch.tensor([0, 0, 0, 0, 1, 1]))
    found = classifier_utility_of(dict.fromkeys(TRAINING_SETS, seen), cases, seen, cases, Resampling())
    assert found.estimates["agreement"].value == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found.floors["agreement"].value == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_errors_come_before_any_training(train, test):
    endless = Training(steps=10**9)
    one = replace(test, labels=torch.ones(100, dtype=torch.int64))
    with pytest.raises(ValueError, match="2 classes or more, got 100 of class \\[1\\] alone"):
        classifier_utility(train, one, train, 2, endless, FEW)
    with pytest.raises(ValueError, match="generated set must have 20 or more of each class"):
        classifier_utility(train, test, sided(30), 2, endless, FEW)
    with pytest.raises(ValueError, match="generated set must have labels, got none"):
        classifier_utility(train, test, replace(train, labels=None), 2, endless, FEW)
    with pytest.raises(ValueError, match="same channels and size, got real training \\(1, 16, 16\\)"):
        classifier_utility(train, test, sided(80, side=20), 2, endless, FEW)
    with pytest.raises(ValueError, match="NaN"):
        classifier_utility(train, replace(test, images=test.images * math.nan), train, 2, endless, FEW)
    with pytest.raises(ValueError, match="2 classes or more, got 1"):
        classifier_utility(train, test, train, 1, endless, FEW)


def test_masks_that_do_not_fit_their_images_teach_no_segmenter():
    train, test, other = (squares(40, seed=seed, side=16, empty=False) for seed in range(3))
    strange = Masked(noise(40, (1, 16, 16), 7), other.masks)
    found = segmenter_utility(train, test, strange, Training(seeds=2, steps=35, batch_size=8), FEW)
    assert found.estimates["dice_real"].value > 0.5
    assert found.estimates["dice_synthetic"].value < 0.35
    assert set(found.estimates) == {key for key, entry in CATALOGUE.items() if entry.group == "use" and key.startswith("dice")}
    assert found.floors == {"dice_synthetic": found.estimates["dice_real"], "dice_both": found.estimates["dice_real"]}


def test_dice_interval_by_hand():
    dice = {trained_on: probabilities(4, 12, place)[:, :, 1] for place, trained_on in enumerate(TRAINING_SETS)}
    groups, resampling = torch.arange(12) // 3, Resampling(draws=30)
    found = segmenter_utility_of(dice, groups, resampling).estimates["dice_both"]
    bootstrap = SeedBootstrap(4, 12, groups, resampling)
    draws = [
        np.mean([np.average(dice["both"][s], weights=row) for s in seeds.tolist()])
        for row, seeds in zip(bootstrap.weights[1:].numpy(), bootstrap.drawn, strict=True)
    ]
    assert found.value == pytest.approx(dice["both"].mean().item(), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=1e-12)
