"""The sanity ladder: what each metric says of real images made worse, step by step; as pictures, a table and small charts."""

from collections.abc import Sequence
from itertools import groupby

from medgan_pl.evaluate.report import panels
from medgan_pl.evaluate.report.digits import Interval, beside, spelled
from medgan_pl.evaluate.report.judgement import Judgement, Row, entry, pooled, rungs_of
from medgan_pl.evaluate.report.markup import Markup, element, joined, paragraph
from medgan_pl.evaluate.report.pictures import Pictures
from medgan_pl.evaluate.report.ruler import described, free
from medgan_pl.evaluate.report.scale import Scale, scale_of, tick_text

LEFT, RIGHT, TOP, BOTTOM = 46, 292, 12, 112  # of a chart, in pixels of a box of 300 × 134
TEXT = (
    "Held-out real images are made worse, step by step, and put in place of those judged. A metric worth its name finds each step worse "
    "than the one before; where one does not, it is flagged, and that is what it cannot see."
)
CHARTS = (
    "The same as charts: the blue line across is what is judged, the green one held-out reals, each with its interval. Where the blue line "
    "meets the grey one, what is judged is as good as reals at that rung."
)


def ladder(judgement: Judgement, pictures: Pictures) -> Markup:
    """Empty where no metric has a ladder and there is no picture of one."""
    rows = [row for row in pooled(judgement) if row["ladder"]]
    rungs = rungs_of(judgement["results"]) or list(pictures.ladder)
    if not rungs:
        return Markup("")
    parts = [paragraph(TEXT), panels.rungs(pictures, rungs)]
    if rows:
        charts = element("div", *(chart(row, rungs) for row in rows), class_="charts")
        parts += [_table(rows, rungs), _flags(rows), paragraph(CHARTS), charts]
    return joined(*parts)


def _table(rows: Sequence[Row], rungs: Sequence[str]) -> Markup:
    """Metric by rung."""
    columns = ("In order?", "Judged", "Reals", *(f"{n} {rung}" for n, rung in enumerate(rungs, 1)), "Noise")
    head = element("tr", element("th", "Metric", scope="col"), *(element("th", name, scope="col") for name in columns))
    lines = []
    for row in rows:
        values = [spelled(row[key])[0] if row[key] else "—" for key in ("estimate", "floor")]
        values += [beside(row["ladder"][rung], row["estimate"]) if rung in row["ladder"] else "—" for rung in rungs]
        values += [beside(row["noise"], row["estimate"]) if row["noise"] is not None else "—"]
        order = element("td", "⚠ no", class_="flag") if row["unordered"] else element("td", "✓ yes", class_="order")
        header = element("th", entry(row).title, " ", element("code", row["name"]), scope="row")
        lines.append(element("tr", header, order, *(element("td", value, class_="number") for value in values)))
    caption = "What each metric says of real images made worse"
    whole = element("table", element("caption", caption), element("thead", head), element("tbody", *lines), class_="plain ladder")
    return element("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _flags(rows: Sequence[Row]) -> Markup:
    flagged = [element("li", element("code", row["name"]), " ", row["unordered"]) for row in rows if row["unordered"]]
    if not flagged:
        return Markup("")
    return element("div", element("h3", "⚠ What these metrics were shown not to see"), element("ul", *flagged), class_="notes")


def chart(row: Row, rungs: Sequence[str]) -> Markup:
    """The metric over the rungs, on the scale of its ruler, with what is judged and the held-out reals as lines across.

    Neighbouring rungs whose names begin with the same word (blur 0.5, blur 1) are one ladder and are joined.
    """
    scale = scale_of(row)
    present = [(n, rung) for n, rung in enumerate(rungs, 1) if rung in row["ladder"]]
    step = (RIGHT - LEFT - 40) / max(1, len(present) - (row["noise"] is None))
    points = [(round(LEFT + 20 + place * step, 1), _height(scale, row["ladder"][rung])) for place, (_, rung) in enumerate(present)]
    parts = [*_grid(scale), *_across(scale, row["floor"], "floor"), *_across(scale, row["estimate"], "judged")]
    for _, joint in groupby(zip(present, points, strict=True), key=lambda place: place[0][1].split()[:1]):
        parts.append(element("polyline", points=" ".join(f"{x},{y}" for _, (x, y) in joint), class_="steps"))
    parts += [element("path", d=f"M{x} {y - 4}l4 4l-4 4l-4 -4z", class_="rung") for x, y in points]
    parts += [element("text", str(n), x=x, y=BOTTOM + 17, class_="tick") for (x, _), (n, _) in zip(points, present, strict=True)]
    if row["noise"] is not None:
        x, y = RIGHT - 20, _height(scale, row["noise"])
        parts.append(element("path", d=f"M{x - 4} {y - 4}l8 8m0 -8l-8 8", class_="noise"))
        parts.append(element("text", "noise", x=x, y=BOTTOM + 17, class_="tick"))
    drawn = element("svg", *parts, class_="ruler steps", viewBox="0 0 300 134", role="img", aria_label=described(row))
    return element("figure", element("figcaption", element("strong", entry(row).title), " ", element("code", row["name"])), drawn)


def _height(scale: Scale, value: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * scale.part(value), 1)


def _grid(scale: Scale) -> list[Markup]:
    """A line and a number for each tick that has room, 0 and the largest first."""
    parts: list[Markup] = []
    taken: list[tuple[float, float]] = []
    for tick in scale.ticks(3):
        y = _height(scale, tick)
        if free(taken, y, 7):
            parts.append(element("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="gridline"))
            parts.append(element("text", tick_text(tick), x=LEFT - 6, y=y + 3.5, class_="side"))
    return parts


def _across(scale: Scale, estimate: Interval | None, kind: str) -> list[Markup]:
    """A line with its interval as a band."""
    if estimate is None:
        return []
    low, y, high = (_height(scale, estimate[key]) for key in ("low", "value", "high"))
    return [
        element("rect", x=LEFT, width=RIGHT - LEFT, y=high, height=round(max(1.0, low - high), 1), class_=f"{kind}-band"),
        element("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_=f"{kind}-line"),
    ]
