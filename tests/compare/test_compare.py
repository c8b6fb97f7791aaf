"""Judged runs ranked: which are comparable, who is first, tied, caught copying; what is written; and hostile or broken reports."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from command_line import picture

from medgan_pl.compare.evaluated import find, read
from medgan_pl.compare.plane import points
from medgan_pl.compare.ranking import differences, rank
from medgan_pl.compare.run import split_arguments
from medgan_pl.compare.tables import csv_cell, markdown, printable
from medgan_pl.metrics.estimate import Estimate
from medgan_pl.metrics.judgement import FORMAT
from medgan_pl.metrics.result import Result

RULES = {"random": {"weights": "random, seed 0, width 16", "resize": "none"}}


def about(value: float, reach: float = 0.1) -> Estimate:
    return Estimate(value, value - reach, value + reach)


def report(*results: Result, mark: str = "good", **changes: Any) -> dict[str, Any]:
    data = {"split_hash": "ab12", "size": [64, 64], "channels": 1, "spatial_dims": 2}
    text = "Nine in ten are training images." if mark == "bad" else ""
    whole = {"format": FORMAT, "subject": {"kind": "checkpoint"}, "data": data, "spaces": RULES, "settings": {"use": {"seeds": 5}}}
    whole |= {"run": {}, "verdicts": {"privacy": {"mark": mark, "text": text}}, "results": [result.plain() for result in results]}
    return whole | changes


def fd(value: float, reach: float = 0.1, **changes: Any) -> Result:
    return Result("fd", "random", estimate=about(value, reach), **{"n_fake": 500, "n_real": 500, "floor": about(0.1, 0.02), **changes})


def lay(folder: str, content: Any) -> Path:
    path = Path(folder) / "report" / "metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def judged(**reports: dict[str, Any]) -> list[Any]:
    return [read(lay(name, content), name) for name, content in reports.items()]


def order(ranking: Any) -> list[tuple[str, bool]]:
    return [(run.evaluated.name, run.tied) for run in ranking.runs]


# Ranking -------------------------------------------------------------------------------------------------------------------------------


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


# The plane -----------------------------------------------------------------------------------------------------------------------------


def with_plane(value: float, space: str = "random", **changes: Any) -> dict[str, Any]:
    pair = [
        Result(key, space, estimate=about(share, 0.03), floor=about(1.0), n_fake=500)
        for key, share in (("density", 1 / value), ("coverage", 0.9 / value), ("precision", 0.8 / value), ("recall", 0.5 / value))
    ]
    return report(fd(value), *pair, **changes)


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


# The command line ----------------------------------------------------------------------------------------------------------------------


def test_a_sweep_is_compared_from_the_command_line(here) -> None:
    """As a * gives it: children, the sweep's own files; a copier in front, one that was not judged, one that failed."""
    sweep = "multirun/2026-01-01/10-00-00"
    for child, (value, mark) in enumerate([(0.2, "bad"), (1.0, "good"), (1.1, "good"), (3.0, "unknown")]):
        lay(f"{sweep}/{child}", with_plane(value, mark=mark, run={"optimizer_d": {"lr": child / 10}}))
    for name, kept in (("4", "checkpoints/best.ckpt"), ("5", "train.log")):
        (Path(sweep, name, kept).parent).mkdir(parents=True)
        Path(sweep, name, kept).touch()
    for name in ("sweep.csv", "sweep.png", "study.db", "multirun.yaml"):
        Path(sweep, name).touch()
    code, said = here("compare", *(str(path) for path in sorted(Path(sweep).iterdir())), "output=out")
    assert code == 0, said
    lines = said.splitlines()
    assert lines[0].split("  ")[0].strip() == ""
    table = [" ".join(line.split()) for line in lines[2:6]]
    assert table == [
        "1 0 0.2 (0.1 to 0.3) 0.1 CAUGHT COPYING optimizer_d.lr=0.0",
        "2 1 1 (0.9 to 1.1) 0.1 good optimizer_d.lr=0.1",
        "3 2 1.1 (1 to 1.2) 0.1 good optimizer_d.lr=0.2",
        "4 3 3 (2.9 to 3.1) 0.1 unknown optimizer_d.lr=0.3",
    ]
    assert "CAUGHT COPYING: 0. Nine in ten are training images." in said
    assert "do not choose 0; the best that was not caught is 1, tied with 2" in said
    assert f"not ranked  4: not judged: python -m medgan_pl.evaluate checkpoint={sweep}/4/checkpoints/best.ckpt" in said
    assert "not ranked  5: not judged, and there is no checkpoint" in said
    assert {path.name for path in Path("out").iterdir()} == {"comparison.md", "comparison.csv", "plane.png"}
    assert picture(Path("out/plane.png")).size[0] > 500
    with Path("out/comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["place"], row["run"], row["tied"], row["privacy"]) for row in rows[:4]] == [
        ("1", "0", "no", "bad"), ("2", "1", "no", "good"), ("3", "2", "no", "good"), ("4", "3", "no", "unknown"),
    ]  # fmt: skip
    assert float(rows[1]["low"]) == pytest.approx(0.9)
    assert rows[1]["set:optimizer_d.lr"] == "0.1"
    assert "no checkpoint" in rows[5]["why_not_ranked"]
    text = Path("out/comparison.md").read_text()
    assert "| 1 | 0 | 0.2 (0.1 to 0.3) | 0.1 | CAUGHT COPYING | optimizer_d.lr=0.0 |" in text
    assert "![" in text
    assert here("compare", f"{sweep}/1", "output=out")[0] == 0  # one alone is listed
    assert here("compare", "multirun", "score=coverage_random", "plane=[precision,recall]", "output=out")[0] == 0


def test_a_picture_of_another_comparison_does_not_stay(here) -> None:
    lay("runs/a", with_plane(1.0))
    assert here("compare", "runs")[0] == 0
    assert Path("comparison/plane.png").is_file()
    lay("runs/a", report(fd(1.0)))
    code, said = here("compare", "runs")
    assert code == 0
    assert "plane.png was not drawn: no ranked run has both density and coverage." in said
    assert not Path("comparison/plane.png").exists()
    assert "plane.png)" not in Path("comparison/comparison.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "paths of runs must be given"),
        (("nowhere",), "there is no nowhere"),
        (("empty",), "empty is none and contains none"),
        (("text.txt",), "text.txt is none and contains none"),
        (("run",), "none of these has a report:\n  "),
        (("broken/report/metrics.json",), "broken/report/metrics.json must be a metrics.json that medgan_pl.evaluate wrote"),
        (("good", "score=fd_inception"), "`score` must be a result that is defined in a report, got fd_inception"),
        (("good", "scroe=fd_random"), "did you mean `score`"),
        (("good", "plane=[density]"), "`plane` must be two results"),
    ],
)
def test_mistakes_are_answered(here, arguments, why) -> None:
    Path("empty").mkdir()
    Path("text.txt").touch()
    Path("run/checkpoints").mkdir(parents=True)
    lay("broken", '{"format": 1, "data": ')
    lay("good", report(fd(1.0)))
    code, said = here("compare", *arguments)
    assert code == 1, said
    assert why in said
    assert not Path("comparison").exists()


def test_the_manual_has_the_keys(here) -> None:
    code, said = here("compare", "--help")
    assert code == 0
    for key in ("score: fd_random", "plane: [density, coverage]", "output: comparison"):
        assert key in said


def test_paths_and_options_are_split_arguments() -> None:
    Path("lr=0.1").mkdir()
    assert split_arguments(["a b", "score=x", "lr=0.1", "--cfg", "+more=1"]) == (
        [Path("a b"), Path("lr=0.1")],
        ["score=x", "--cfg", "+more=1"],
    )


def test_runs_are_found_once_in_whatever_way_they_are_named() -> None:
    for name in ("outputs/d/1", "outputs/d/2", "outputs/d/10"):
        lay(name, report(fd(1.0)))
    Path("outputs/d/2/wandb/run").mkdir(parents=True)
    Path("alone").mkdir()
    Path("alone/metrics.json").write_text(json.dumps(report(fd(1.0))))
    found = find([Path("outputs/d/2/report"), Path("outputs"), Path("outputs/d/1/report/metrics.json"), Path("alone")])
    assert [str(path) for path in found] == ["outputs/d/2", "outputs/d/1", "outputs/d/10", "alone"]
    assert found[Path("alone")] == Path("alone/metrics.json")


# What reports may hold -----------------------------------------------------------------------------------------------------------------


def row(**changes: Any) -> dict[str, Any]:
    return fd(1.0).plain() | changes


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "Expecting value"),
        ("[" * 100_000, "recursion|levels deep"),
        ("[]", "it must have names and values"),
        ({**report(), "format": 2}, "its format must be 1, got 2"),
        ({key: value for key, value in report().items() if key != "spaces"}, "it lacks 'spaces'"),
        ({**report(), "data": 3}, "'data' must have names and values"),
        ({**report(), "results": [3]}, "a result must have names and values, got 3"),
        ({**report(), "results": [row(key="fid_secret")]}, "a result of an unknown kind, 'fid_secret'"),
        ({**report(), "results": [row(key=["fd"])]}, "a result of an unknown kind, a list"),
        ({**report(), "results": [row(extra=1)]}, "extra"),
        (
            {**report(), "results": [row(estimate={"value": "1", "low": 0, "high": 2})]},
            "'fd_random' must be finite numbers, got '1'",
        ),
        (
            {**report(), "results": [row(estimate={"value": float("nan"), "low": 0, "high": 2})]},
            "'fd_random' must be finite numbers, got nan",
        ),
        ({**report(), "results": [row(floor=3)]}, "floor of .* must be value, low and high"),
        ({**report(), "results": [row(n_fake="many")]}, "whole numbers"),
    ],
)
def test_a_broken_report_is_named(content, why) -> None:
    path = lay("x", content)
    with pytest.raises(ValueError, match=f"{path} must be a metrics.json .*({why})"):
        read(path, "x")


def test_texts_out_of_files_cannot_speak_for_others(here) -> None:
    """A name that would colour the terminal, close a cell of the table, or be a formula."""
    lay("runs/=1+1|<b>", report(fd(1.0), run={"a": {"b": "\x1b[31m| x"}}))
    lay("runs/b", report(Result("fd", "random", undefined="no\nsecond line \x1b[0m"), fd(2.0, label="x"), run={"a": {"b": 2}}))
    lay("runs/c", report(fd(2.0), run={"a": {"b": "@sum"}}))
    code, said = here("compare", "runs")
    assert code == 0, said
    assert "\x1b" not in said
    assert "not ranked  b: fd_random is not defined: no second line ?[0m" in said
    head, _, *table = (line for line in Path("comparison/comparison.md").read_text().splitlines() if line.startswith("|"))
    assert {len(line.replace(r"\|", "").split("|")) for line in [head, *table]} == {8}
    with Path("comparison/comparison.csv").open(newline="") as file:
        assert [r["run"] for r in csv.DictReader(file)] == ["'=1+1|<b>", "c", "b"]
    assert markdown("a|[x](y)<b>") == r"a\|\[x\](y)\<b\>"
    assert printable("a\x00b\nc") == "a?b c"
    assert (csv_cell("-1.5"), csv_cell("-x"), csv_cell("=x"), csv_cell("x=")) == ("-1.5", "'-x", "'=x", "x=")
