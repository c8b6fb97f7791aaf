"""Judged runs ranked: which are comparable, who is first, tied, unranked; and their places in the plane."""

import pytest
from judged_runs import RULES, about, fd, judged, order, report, with_plane

from medgan_pl.compare.plane import points
from medgan_pl.compare.ranking import differences, rank
from medgan_pl.metrics.estimate import Estimate
from medgan_pl.metrics.result import Result


def test_lower_is_better_and_only_what_overlaps_the_first_is_tied() -> None:
    """b reaches a; c reaches b, and not a."""
    runs = judged(c=report(fd(1.35)), a=report(fd(1.0)), d=report(fd(9.0)), b=report(fd(1.18)))
    assert order(rank(runs, "fd_random")) == [("a", True), ("b", True), ("c", False), ("d", False)]
    apart = judged(a=report(fd(1.0)), b=report(fd(1.21)))
    assert order(rank(apart, "fd_random")) == [("a", False), ("b", False)]
    assert order(rank(apart[:1], "fd_random")) == [("a", False)]


def test_a_wide_interval_of_the_first_ties_a_narrow_one_behind_it() -> None:
    assert order(rank(judged(a=report(fd(1.0, 2.0)), b=report(fd(2.5, 0.01))), "fd_random")) == [("a", True), ("b", True)]


def test_higher_is_better_where_the_catalogue_says_so() -> None:
    runs = judged(**{name: report(Result("coverage", "random", estimate=about(value))) for name, value in (("a", 0.3), ("b", 0.9))})
    runs += judged(c=report(Result("coverage", "random", estimate=Estimate(0.85, 0.2, 0.95))))
    assert order(rank(runs, "coverage_random")) == [("b", True), ("c", True), ("a", False)]


def test_where_right_is_the_floor_the_nearest_to_it_is_first_from_either_side() -> None:
    values = {"over": (0.50, 0.02), "under": (0.25, 0.02), "near": (0.32, 0.01), "wide": (0.6, 0.4)}
    alike = {name: report(Result("ms_ssim", estimate=about(*value), floor=about(0.3))) for name, value in values.items()}
    runs = judged(**alike)
    assert order(rank(runs, "ms_ssim")) == [("near", True), ("under", True), ("over", False), ("wide", True)]
    with pytest.raises(ValueError, match="lacks their value"):
        rank(judged(a=report(Result("ms_ssim", estimate=about(0.5)))), "ms_ssim")


def test_a_class_has_a_score_of_its_own() -> None:
    runs = judged(a=report(fd(1.0), fd(5.0, label="sick")), b=report(fd(2.0), fd(3.0, label="sick")))
    assert order(rank(runs, "fd_random"))[0][0] == "a"
    assert order(rank(runs, "fd_random/sick"))[0][0] == "b"


DATA = {"split_hash": "ab12", "size": [64, 64], "channels": 1, "spatial_dims": 2}


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (report(fd(0.1), data={**DATA, "split_hash": "ff00"}), "split_hash: ab12, ff00"),
        (report(fd(0.1), data={**DATA, "size": [128, 128]}), "size: [64, 64], [128, 128]"),
        (report(fd(0.1, n_fake=100)), "generated images: 500, 100"),
        (report(fd(0.1, n_real=100)), "real images: 500, 100"),
        (
            report(fd(0.1), spaces={"random": {"weights": "random, seed 1", "resize": "none"}}),
            "extractor.weights: random, seed 0, width 16, ",
        ),
    ],
)
def test_what_was_measured_otherwise_is_named_and_not_ranked(odd, why) -> None:
    ranking = rank(judged(odd=odd, a=report(fd(1.0)), b=report(fd(2.0))), "fd_random")
    assert [run.evaluated.name for run in ranking.runs] == ["a", "b"]
    assert why in ranking.unranked["odd"]
    with pytest.raises(ValueError, match="no two of these were"):
        rank(judged(a=report(fd(1.0)), odd=odd), "fd_random")


def test_other_teaching_counts_where_classifiers_are_taught_alone() -> None:
    results = fd(1.0), Result("auc_synthetic", estimate=about(0.8))
    runs = judged(a=report(*results), b=report(*results, settings={"use": {"seeds": 1}}))
    assert len(rank(runs, "fd_random").runs) == 2
    with pytest.raises(ValueError, match=r"teaching\.seeds: 5, 1"):
        rank(runs, "auc_synthetic")


def test_what_has_no_score_is_unranked_with_the_reason() -> None:
    runs = judged(a=report(fd(1.0)), b=report(), c=report(Result("fd", "random", undefined="needs 20 fakes, got 3")))
    assert rank(runs, "fd_random").unranked == {
        "b": "its report has no fd_random",
        "c": "fd_random is not defined: needs 20 fakes, got 3",
    }
    with pytest.raises(ValueError, match="got fd_radnom; the nearest are fd_random"):
        rank(runs, "fd_radnom")
    with pytest.raises(ValueError, match="not defined: needs 20 fakes"):
        rank(runs[2:], "fd_random")


def test_settings_that_differ_are_told_but_for_those_that_change_no_number() -> None:
    configs = [{"optimizer_d": {"lr": lr}, "seed": 1, "run_dir": f"r{lr}", "logger": {"csv": lr}, "module": {"x": lr}} for lr in (0.1, 0.2)]
    runs = judged(a=report(fd(1.0), run=configs[0]), b=report(fd(2.0), run=configs[1]), c=report(fd(2.0)))
    assert differences(runs) == {"a": {"optimizer_d.lr": "0.1"}, "b": {"optimizer_d.lr": "0.2"}, "c": {}}


def test_plane_takes_the_space_of_the_score_then_any_and_leaves_out_what_was_measured_otherwise() -> None:
    spaces = RULES | {"domain": {"steps": 400}}
    runs = judged(a=with_plane(1.0), b=with_plane(2.0), c=report(fd(3.0)))
    found = points(rank(runs, "fd_random").runs, ["density", "coverage"])
    assert [(point.place, point.x.name, point.y.name) for point in found] == [(i, "density_random", "coverage_random") for i in (1, 2)]
    other = judged(a=with_plane(1.0, "domain", spaces=spaces), b=with_plane(2.0, "domain", spaces=RULES | {"domain": {"steps": 9}}))
    ranked = rank(other, "fd_random").runs
    assert [(point.place, point.x.name) for point in points(ranked, ["precision", "recall"])] == [(1, "precision_domain")]
    assert len(points(ranked, ["fd_random", "recall_domain"])) == 1
    assert points(rank(judged(a=report(fd(1.0))), "fd_random").runs, ["density", "coverage"]) == []
    with pytest.raises(ValueError, match="two results"):
        points(ranked, ["density"])
