import json
from pathlib import Path
from typing import Any

import example
import pytest
import torch

from medgan_pl.evaluate.report import Pictures, write_report
from medgan_pl.metrics.result import Result

FEW = Pictures(example.films(2, 0), example.films(2, 1))


def test_three_files_and_the_numbers_come_back(tmp_path: Path) -> None:
    judgement = example.judgement()
    path = write_report(tmp_path / "run" / "report", judgement, example.pictures(), example.curves())
    assert path == tmp_path / "run" / "report" / "report.html"
    assert sorted(file.name for file in path.parent.iterdir()) == ["metrics.json", "model_card.md", "report.html"]
    read = json.loads(path.with_name("metrics.json").read_text(encoding="utf-8"))
    assert read == judgement
    assert [Result.from_plain(row).plain() for row in read["results"]] == judgement["results"]
    assert path.stat().st_size < 5_000_000


def few() -> dict[str, Any]:
    """A judgement of one row, and so with one chart."""
    judgement = example.judgement()
    return judgement | {"results": judgement["results"][:1]}


def test_a_new_report_takes_the_place_of_the_old(tmp_path: Path) -> None:
    write_report(tmp_path, few(), FEW, {})
    before = (tmp_path / "report.html").read_bytes()
    write_report(tmp_path, few(), FEW, {})
    assert (tmp_path / "report.html").read_bytes() == before
    write_report(tmp_path, few() | {"notes": ["Another."]}, FEW, {})
    assert b"Another." in (tmp_path / "report.html").read_bytes()


@pytest.mark.parametrize("place", ["value", "low", "floor", "ladder", "noise"])
def test_no_number_that_is_none(tmp_path: Path, place: str) -> None:
    judgement = example.judgement()
    row = judgement["results"][0]
    if place == "floor":
        row["floor"]["value"] = float("nan")
    elif place == "ladder":
        row["ladder"]["blur 1"] = float("inf")
    elif place == "noise":
        row["noise"] = float("nan")
    else:
        row["estimate"][place] = float("nan")
    with pytest.raises(ValueError, match=r"(estimate|floor|ladder and the noise) of 'fd_random' must be finite numbers, got (nan|inf)"):
        write_report(tmp_path, judgement, FEW, {})
    assert list(tmp_path.iterdir()) == []


def test_nan_elsewhere_is_no_json_either(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'lr' must be finite"):
        write_report(tmp_path, example.judgement() | {"settings": {"lr": float("nan")}}, FEW, {})
    assert list(tmp_path.iterdir()) == []


def test_a_metric_that_no_catalogue_explains_is_refused(tmp_path: Path) -> None:
    judgement = example.judgement()
    judgement["results"][0]["key"] = "fid"
    with pytest.raises(ValueError, match="a result of an unknown kind, 'fid'"):
        write_report(tmp_path, judgement, FEW, {})


def test_pictures_of_nan_leave_no_half_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finite"):
        write_report(tmp_path, example.judgement(), Pictures(torch.full((1, 1, 32, 32), torch.nan), example.films(1, 0)), {})
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_not_utf8_do_not_stop_it(tmp_path: Path) -> None:
    odd = "NORM\udcc4L"  # what os.fsdecode makes of Latin-1 bytes
    judgement = example.judgement((odd, "PNEUMONIA"))
    judgement["results"] = [row for row in judgement["results"] if row["label"]]
    write_report(tmp_path, judgement, FEW, {})
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["data"]["classes"][0] == odd
    assert r"NORM\udcc4L" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert r"NORM\\udcc4L" in (tmp_path / "model_card.md").read_text(encoding="utf-8")
