"""The marks follow the thresholds that the docs state."""

import pytest

from medgan_pl.evaluate.verdicts import verdicts
from medgan_pl.metrics.estimate import Estimate
from medgan_pl.metrics.result import Result

LADDER = {"blur 0.5": 0.3, "blur 1": 0.8, "blur 2": 2.0, "noise 0.05": 0.4, "noise 0.1": 1.0, "noise 0.2": 3.0}


def near(value, reach=0.01):
    return Estimate(value, value - reach, value + reach)


def distance(value, space="random", floor=0.2):
    return Result("fd", space, estimate=near(value), floor=near(floor), ladder=LADDER)


@pytest.mark.parametrize(("value", "mark"), [(0.2, "good"), (0.29, "good"), (0.5, "doubtful"), (1.9, "doubtful"), (2.1, "bad")])
def test_fidelity(value, mark):
    assert verdicts([distance(value)], "")["fidelity"]["mark"] == mark


def test_the_worst_space_counts_and_classes_do_not():
    rows = [distance(0.2), distance(2.5, "radiomics"), Result("fd", "random", "ill", near(9.0), floor=near(0.2))]
    verdict = verdicts(rows, "")["fidelity"]
    assert verdict["mark"] == "bad"
    assert "radiomics" in verdict["text"]


@pytest.mark.parametrize(("coverage", "recall", "mark"), [(0.9, 0.9, "good"), (0.9, 0.7, "doubtful"), (0.3, 0.9, "bad")])
def test_diversity(coverage, recall, mark):
    rows = [Result(key, "random", estimate=near(value), floor=near(0.95)) for key, value in (("coverage", coverage), ("recall", recall))]
    assert verdicts(rows, "")["diversity"]["mark"] == mark


@pytest.mark.parametrize(("synthetic", "mark"), [(0.9, "good"), (0.85, "doubtful"), (0.7, "bad")])
def test_use(synthetic, mark):
    rows = [Result("auc_real", estimate=near(0.91)), Result("auc_synthetic", estimate=near(synthetic))]
    assert verdicts(rows, "")["use"]["mark"] == mark


def test_privacy():
    rows = [Result("copies", "pixels", estimate=near(0.01))]
    assert verdicts(rows, "")["privacy"]["mark"] == "good"
    caught = verdicts(rows, "Half are copies.")["privacy"]
    assert caught["mark"] == "bad"
    assert caught["text"].startswith("Half are copies.")


def test_nothing_measured_is_unknown_with_the_reason():
    found = verdicts([Result("copies", undefined="it needs train=DIR")], "")
    assert {verdict["mark"] for verdict in found.values()} == {"unknown"}
    assert "train=DIR" in found["privacy"]["text"]
    assert "paired" not in found
    assert "paired" in verdicts([Result("mae", estimate=near(3.0))], "")


@pytest.mark.parametrize(
    ("value", "mark"),
    [(0.24, "good"), (0.25, "good"), (0.26, "doubtful"), (0.79, "doubtful"), (0.81, "bad")],
)
def test_the_upper_end_of_the_floor_and_the_nearer_ladder_decide(value, mark):
    """The floor reaches to 0.25, beyond the first levels; the last level of the nearer ladder is 0.8."""
    ladder = {"blur 0.5": 0.1, "blur 1": 0.4, "blur 2": 0.8, "noise 0.05": 0.3, "noise 0.1": 1.0, "noise 0.2": 3.0}
    row = Result("fd", "random", estimate=near(value), floor=near(0.2, 0.05), ladder=ladder)
    assert verdicts([row], "")["fidelity"]["mark"] == mark


@pytest.mark.parametrize(("value", "mark"), [(0.2, "good"), (0.35, "doubtful"), (50.0, "doubtful")])
def test_without_a_ladder_nothing_is_bad(value, mark):
    assert verdicts([Result("fd", "random", estimate=near(value), floor=near(0.2, 0.05))], "")["fidelity"]["mark"] == mark


def test_a_distance_without_a_floor_is_not_judged():
    assert verdicts([Result("fd", "random", estimate=near(0.1), ladder=LADDER)], "")["fidelity"]["mark"] == "unknown"


@pytest.mark.parametrize(("share", "mark"), [(0.901, "good"), (0.899, "doubtful"), (0.601, "doubtful"), (0.599, "bad")])
@pytest.mark.parametrize("key", ["coverage", "recall"])
def test_the_thresholds_of_diversity_are_shares_of_the_floor(key, share, mark):
    better = {"coverage": "recall", "recall": "coverage"}[key]
    rows = [Result(key, "random", estimate=near(0.8 * share), floor=near(0.8)), Result(better, "b", estimate=near(0.9), floor=near(0.8))]
    found = verdicts([*rows, Result(key, "zero", estimate=near(0.0), floor=near(0.0))], "")["diversity"]
    assert found["mark"] == mark
    assert f"{key.capitalize()} in random features" in found["text"], "the worst of all, and none without a floor above 0"


@pytest.mark.parametrize(("gap", "mark"), [(0.019, "good"), (-0.3, "good"), (0.021, "doubtful"), (0.099, "doubtful"), (0.101, "bad")])
@pytest.mark.parametrize("kind", ["auc", "dice"])
def test_the_thresholds_of_use(kind, gap, mark):
    rows = [Result(f"{kind}_real", estimate=near(0.6)), Result(f"{kind}_synthetic", estimate=near(0.6 - gap))]
    assert verdicts(rows, "")["use"]["mark"] == mark


def test_a_gain_is_shown_of_the_spaces_in_which_copies_were_sought():
    rows = [
        Result("copies", "pixels", estimate=near(0.01)),
        Result("mia_advantage", "pixels", estimate=near(0.005)),
        Result("mia_advantage", "discriminator", estimate=near(0.4)),
    ]
    text = verdicts(rows, "")["privacy"]["text"]
    assert "near-copies in pixels 0.01 (" in text
    assert "gain of an attacker in pixels 0.005 (" in text
    assert "discriminator" not in text
