import re
from itertools import pairwise

import example
import pytest

from medgan_pl.evaluate.report.ruler import WIDTH, ruler
from medgan_pl.evaluate.report.scale import Scale, scale_of
from medgan_pl.evaluate.report.templating import HTML
from medgan_pl.metrics.result import Result

ROWS = {row["name"]: row for row in example.judgement()["results"]}


def drawing(name: str) -> str:
    """Return the SVG of a ruler, "" for none."""
    axis = ruler(ROWS[name], example.RUNGS)
    template = HTML.from_string('{% from "ruler.html.j2" import ruler %}{{ ruler(row, axis) }}')
    return template.render(row=ROWS[name], axis=axis) if axis else ""


def test_decades_are_spread_and_shares_are_not() -> None:
    distance, share = scale_of(ROWS["fd_random"]), scale_of(ROWS["precision_random"])
    assert distance.unit == pytest.approx(0.5 * 2.1 * 0.021)  # half of the wider interval
    assert (distance.low, distance.high) == (0, pytest.approx(1.3 * 142.3))
    assert share == Scale(0, 1)


@pytest.mark.parametrize("scale", [Scale(0, 185, 0.022), Scale(-0.0018, 14.3, 0.003), Scale(-0.2, 0.9)])
def test_order_is_kept_from_end_to_end(scale: Scale) -> None:
    values = [scale.low + (scale.high - scale.low) * n / 50 for n in range(51)]
    parts = [scale.part(value) for value in values]
    assert parts == sorted(parts)
    assert (parts[0], parts[-1]) == (pytest.approx(0), pytest.approx(1))


def test_beyond_the_unit_each_decade_is_as_long_as_the_next() -> None:
    scale = Scale(0, 1000, 0.01)
    decades = [scale.part(10.0 ** (n + 1)) - scale.part(10.0**n) for n in range(3)]
    assert decades == pytest.approx([decades[0]] * 3, rel=1e-4)


@pytest.mark.parametrize("name", sorted(name for name, row in ROWS.items() if row["estimate"]))
def test_every_number_has_its_place_inside(name: str) -> None:
    scale = scale_of(ROWS[name])
    row = ROWS[name]
    ends = [value for key in ("estimate", "floor") for value in (row[key] or {}).values()]
    for value in (*ends, *row["ladder"].values(), *([row["noise"]] if row["noise"] is not None else [])):
        assert 0 <= scale.part(value) <= 1


def test_a_gain_is_seen_about_0_and_a_lone_share_in_its_range() -> None:
    gain = scale_of(ROWS["auc_gain"])
    assert gain.low < 0 < gain.high < 0.05
    assert scale_of(ROWS["auc_real"]) == Scale(0, 1)


def test_values_that_are_all_one_have_a_scale() -> None:
    row = Result("kid", "x", "", example.about(0, 0), "", 9, 9, example.about(0, 0)).plain()
    assert scale_of(row).part(0) == pytest.approx(0.5)
    assert scale_of(row).ticks(4)


@pytest.mark.parametrize(
    ("low", "high", "steps", "ticks"),
    [(0, 1, 4, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-0.004, 0.009, 3, [-0.004, -0.002, 0, 0.002, 0.004, 0.006, 0.008])],
)
def test_ticks_are_round(low: float, high: float, steps: int, ticks: list[float]) -> None:
    assert sorted(Scale(low, high).ticks(steps)) == pytest.approx(ticks)


def test_ticks_of_decades_are_powers_of_ten() -> None:
    assert sorted(Scale(-0.5, 185, 0.02).ticks(4)) == [-0.1, -0.01, 0, 0.01, 0.1, 1, 10, 100]


def test_names_over_the_marks_do_not_cover_one_another() -> None:
    for name in ROWS:
        for height in (12, 44):
            places = re.findall(rf'<text x="([\d.]+)" y="{height}" class="[\w-]+">([^<]*)<', drawing(name))
            spans = sorted((float(x) - 2.7 * len(text), float(x) + 2.7 * len(text)) for x, text in places)
            assert all(after[0] >= before[1] for before, after in pairwise(spans))
            assert all(start >= 0 and end <= WIDTH for start, end in spans)


def test_the_ruler_says_in_words_what_it_shows() -> None:
    drawn = drawing("fd_random")
    assert 'aria-label="fd_random: 0.243; held-out reals 0.120; blur 0.5 0.362; blur 1 2.41; blur 2 5.87; noise 0.05 0.301; ' in drawn
    assert "<title>blur 1: 2.41</title>" in drawn
    places = [float(x) for x in re.findall(r'(?: c?x="|[MH])([\d.]+)', drawn)]
    assert len(places) > 20
    assert all(0 <= x <= WIDTH for x in places)


def test_the_better_end_has_the_arrow() -> None:
    arrows = {name: re.search(r'class="arrow" d="M([\d.]+) ', drawing(name)) for name in ROWS}
    assert float(arrows["fd_random"][1]) < 10
    assert float(arrows["recall_random"][1]) > WIDTH - 10
    assert arrows["ms_ssim"] is None


def test_no_ruler_where_nothing_says_how_much_it_is() -> None:
    assert drawing("psnr") == ""
    assert drawing("hd95") == ""
    assert drawing("ssim") != ""
