"""Runs compared from the command line: what is written, who is caught copying, and hostile or broken reports."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from command_line import picture
from judged_runs import fd, lay, report, with_plane

from medgan_pl.compare.evaluated import find, read
from medgan_pl.compare.run import split_arguments
from medgan_pl.compare.tables import markdown
from medgan_pl.core.visible import cell, visible
from medgan_pl.metrics.result import Result


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
    assert "not ranked  b: fd_random is not defined: no\\nsecond line \\x1b[0m" in said
    head, _, *table = (line for line in Path("comparison/comparison.md").read_text().splitlines() if line.startswith("|"))
    assert {len(line.replace(r"\|", "").split("|")) for line in [head, *table]} == {8}
    with Path("comparison/comparison.csv").open(newline="") as file:
        assert [r["run"] for r in csv.DictReader(file)] == ["'=1+1|<b>", "c", "b"]
    assert markdown("a|[x](y)<b>") == r"a\|\[x\](y)\<b\>"
    assert visible("a\x00b\nc") == r"a\x00b\nc"
    assert (cell("-1.5"), cell("-x"), cell("=x"), cell("x=")) == ("-1.5", "'-x", "'=x", "x=")
