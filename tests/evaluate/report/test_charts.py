import math
import re

import example
import pytest
from markupsafe import Markup
from reading import Reader

from medgan_pl.evaluate.report.charts import curves, ladder_chart, title_of

ROWS = {row["name"]: row for row in example.judgement()["results"]}


@pytest.fixture(scope="module")
def charts() -> list[Markup]:
    return [*curves(example.curves()), ladder_chart(ROWS["fd_random"], example.RUNGS), ladder_chart(ROWS["recall_random"], example.RUNGS)]


def test_one_chart_for_what_belongs_together(charts: list[Markup]) -> None:
    drawn = curves(example.curves())
    assert len(drawn) == 5  # losses, logits, MS-SSIM, fd, kid
    assert 'aria-label="loss over images shown: train/d/loss ends at 0.78; train/g/loss ends at 0.52"' in drawn[0]


def test_the_same_numbers_are_the_same_to_the_byte(charts: list[Markup]) -> None:
    columns = {"val/fd_random": example.curves()["val/fd_random"]}
    assert curves(columns) == curves(columns)
    assert ladder_chart(ROWS["fd_random"], example.RUNGS) in charts


def test_charts_stand_in_one_page_without_meeting(charts: list[Markup]) -> None:
    """Identifiers are unique and are those that are referred to; nothing is loaded; text is text; the page gives font and colors."""
    page = "".join(charts)
    read = Reader(page)
    assert read.open == []
    names = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(names) == len(set(names))
    assert {attributes["xlink:href"] for attributes in read.having("use")} == {f"#{name}" for name in names}
    assert not re.search(r"url\(|font-family|<style|<!|http|: #", page)
    assert "var(--ours)" in page
    assert {"train/d/loss", "real images shown", "noise", "0.8"} <= set(read.words)


def test_nothing_to_draw() -> None:
    assert curves({}) == []
    assert curves({"train/d/lr": ([0.0], [0.1])}) == []
    assert curves({"val/fd_random": ([0.0, 1.0], [math.nan, math.inf])}) == []


def test_gaps_and_a_single_point_are_drawn() -> None:
    assert len(curves({"val/fd_random": ([0.0, 1.0, 2.0], [3.0, math.nan, 1.0]), "val/kid_random": ([5.0], [0.0])})) == 2


def test_long_curves_are_thinned() -> None:
    lengths = [len(curves({"val/x": (range(n), [math.sin(x) for x in range(n)])})[0]) for n in (400, 40_000)]
    assert lengths[1] < 2 * lengths[0]


def test_names_from_data_are_neither_markup_nor_mathematics() -> None:
    (chart,) = curves({"val/<b>$x^2$": ([0.0, 1.0], [1.0, 2.0])})
    assert "val/&lt;b&gt;$x^2$" in chart


def test_decades_are_named_by_plain_numbers() -> None:
    (chart,) = curves({"val/fd_random": ([0.0, 1.0, 2.0], [1000.0, 10.0, 0.5])})
    assert {"1", "10", "100", "1,000"} <= set(Reader(chart).words)


@pytest.mark.parametrize(
    ("column", "title"),
    [
        ("val/fd_random", "Fréchet distance (val/fd_random)"),
        ("val/ms_ssim_paired", "Structural similarity over scales (val/ms_ssim_paired)"),
        ("val/fdx", "val/fdx"),
    ],
)
def test_columns_are_named_as_in_the_catalogue(column: str, title: str) -> None:
    assert title_of(column) == title


def joined(chart: Markup, color: str = "gray") -> list[list[tuple[float, float]]]:
    """Return the points of each line of this color."""
    lines = re.findall(rf'<path d="([ML][^"z]*)" style="fill: none; stroke: var\(--{color}\)', chart)
    return [[(float(x), float(y)) for x, y in re.findall(r"([-\d.]+) ([-\d.]+)", line)] for line in lines]


def test_ladders_are_joined_each_by_itself(charts: list[Markup]) -> None:
    lines = joined(charts[-2])
    assert [len(line) for line in lines] == [3, 3]
    assert all([y for _, y in line] == sorted((y for _, y in line), reverse=True) for line in lines)  # worse is higher up
    assert len({round(after - before, 3) for before, after in zip(range(3), range(1, 4), strict=True)}) == 1


def test_decades_of_the_ladder_are_equally_long() -> None:
    row = ROWS["fd_random"] | {"ladder": {"blur 1": 1.0, "blur 2": 10.0, "blur 3": 100.0}}
    ((*_, first), (*_, second), (*_, third)) = joined(ladder_chart(row, ("blur 1", "blur 2", "blur 3")))[0]
    assert first - second == pytest.approx(second - third, rel=1e-2)


def test_a_chart_of_an_undefined_metric_shows_its_ladder(charts: list[Markup]) -> None:
    drawn = ladder_chart(ROWS["fd_random"] | {"estimate": None, "floor": None}, example.RUNGS)
    assert len(joined(drawn)) == 2
    assert "var(--ours)" in charts[-2]
    assert "var(--ours)" not in drawn
    assert "fd_random: not defined; blur 0.5 0.362" in drawn
