"""The tables of numbers: a question, its metrics with their reading, and of each its value, its floor and where it lies."""

from collections.abc import Sequence
from itertools import groupby

from medgan_pl.evaluate.report.digits import spelled
from medgan_pl.evaluate.report.judgement import DIRECTIONS, Judgement, Row, entry, grouped, rungs_of
from medgan_pl.evaluate.report.markup import Markup, details, element, joined, paragraph
from medgan_pl.evaluate.report.ruler import ruler

COLUMNS = ("Measured in", "Value, 95 % interval", "Held-out reals (floor)", "Where it lies", "Images")
CLASS_COLUMNS = ("Class", "Value, 95 % interval", "Held-out reals (floor)", "Where it lies", "Images")


def groups(judgement: Judgement) -> list[tuple[str, Markup]]:
    """For each group that has rows its name and tables: all classes together first, single classes below."""
    rungs = rungs_of(judgement["results"])
    parts = []
    for group, rows, by_class in grouped(judgement):
        content = [metric_table("All classes together", COLUMNS, rows, rungs)] if rows else []
        if by_class:
            inner = metric_table("Each class by itself", CLASS_COLUMNS, by_class, rungs, reading=not rows)
            content.append(details(f"Class by class ({len(by_class)} numbers)", inner, open_=True))
        parts.append((group, joined(*content)))
    return parts


def legend() -> Markup:
    """How to read the small axes: once, above the first of them."""
    marks = (
        (element("circle", cx=8, cy=8, r=5, class_="value"), "what is judged, with its 95 % interval"),
        (element("rect", x=4, y=1, width=8, height=14, class_="floor-band"), "held-out real images in its place (floor), with theirs"),
        (
            element("path", d="M8 3.5l4.5 4.5l-4.5 4.5l-4.5 -4.5z", class_="rung"),
            "real images made worse, numbered as in the sanity ladder",
        ),
        (element("path", d="M4 4l8 8m0 -8l-8 8", class_="noise"), "noise in place of images"),
        (element("path", d="M13 8l-9 -5v10z", class_="arrow"), "the better end"),
    )
    items = [element("li", element("svg", mark, viewBox="0 0 16 16", class_="key", aria_hidden="true"), text) for mark, text in marks]
    return element("ul", *items, class_="legend")


def metric_table(caption: str, columns: Sequence[str], rows: Sequence[Row], rungs: Sequence[str], *, reading: bool = True) -> Markup:
    """One body for each metric, headed by its name, direction and reading; a row for each space or class."""
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in columns)))
    bodies = [_metric(columns, list(same), rungs, reading) for _, same in groupby(rows, key=lambda row: row["key"])]
    whole = element("table", element("caption", caption), head, *bodies, class_="metrics")
    return element("div", whole, class_="scroll")


def _metric(columns: Sequence[str], rows: Sequence[Row], rungs: Sequence[str], reading: bool) -> Markup:
    kind = entry(rows[0])
    title = [element("span", kind.title, class_="metric"), " ", element("span", DIRECTIONS[kind.better], class_="direction")]
    said = [paragraph(kind.reading, class_="reading")] if reading else []
    head = element("tr", element("th", *title, *said, scope="rowgroup", colspan=len(columns), class_="head"))
    return element("tbody", head, *(_row(columns, row, rungs) for row in rows))


def _row(columns: Sequence[str], row: Row, rungs: Sequence[str]) -> Markup:
    where = " ".join(filter(None, (row["label"] or row["space"], row["unit"] and f"in {row['unit']}")))
    named = [element("span", where, class_="where"), " "] if where else []
    header = element("th", *named, element("code", row["name"]), scope="row")
    if row["estimate"] is None:
        why = row["undefined"] or "no reason was recorded"
        undefined = element("td", element("div", element("em", "not defined: "), why), colspan=3, data_label=columns[1])
        return element("tr", header, undefined, _counts(row, columns[4]), class_="greyed")
    floor = "number" if row["floor"] else "number absent"
    cells = [
        element("td", element("div", interval(row["estimate"], "value")), data_label=columns[1], class_="number"),
        element("td", element("div", interval(row["floor"], "floor")), data_label=columns[2], class_=floor),
        element("td", ruler(row, rungs), _warning(row), data_label=columns[3], class_="lies"),
        _counts(row, columns[4]),
    ]
    return element("tr", header, *cells)


def interval(estimate: dict[str, float] | None, class_: str) -> Markup:
    if estimate is None:
        return element("span", "—", class_="none")
    value, ends = spelled(estimate)
    return joined(element("span", value, class_=class_), " ", element("span", ends, class_="interval"))


def _warning(row: Row) -> Markup:
    return paragraph("⚠ ", row["unordered"], class_="unordered") if row["unordered"] else Markup("")


def _counts(row: Row, label: str) -> Markup:
    said = joined(f"{row['n_fake']:,}", element("small", " judged"), element("br"), f"{row['n_real']:,}", element("small", " real"))
    return element("td", element("div", said), data_label=label)
