import base64
import math
import re

import example
import pytest

from medgan_pl.evaluate.report.plots import curves, title_of


def drawings(html: str) -> list[str]:
    return [base64.b64decode(content).decode() for content in re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', html)]


def test_one_chart_for_what_belongs_together() -> None:
    drawn = curves(example.curves())
    assert len(drawings(drawn)) == 5  # losses, logits, MS-SSIM, fd, kid
    assert "train/d/loss ends at 0.78; train/g/loss ends at 0.52" in drawn


def test_the_same_curves_are_the_same_to_the_byte() -> None:
    columns = {"val/fd_random": example.curves()["val/fd_random"]}
    assert curves(columns) == curves(columns)


def test_nothing_to_draw() -> None:
    assert curves({}) == ""
    assert curves({"train/d/lr": ([0.0], [0.1])}) == ""
    assert curves({"val/fd_random": ([0.0, 1.0], [math.nan, math.inf])}) == ""


def test_gaps_and_a_single_point_are_drawn() -> None:
    assert len(drawings(curves({"val/fd_random": ([0.0, 1.0, 2.0], [3.0, math.nan, 1.0]), "val/kid_random": ([5.0], [0.0])}))) == 2


def test_long_curves_are_thinned() -> None:
    lengths = [len(drawings(curves({"val/x": (range(n), [math.sin(x) for x in range(n)])}))[0]) for n in (400, 40_000)]
    assert lengths[1] < 2 * lengths[0]


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
