"""A small picture of one number: where it lies between held-out reals, the rungs of the ladder and noise."""

from collections.abc import Sequence

from medgan_pl.evaluate.report.digits import number, spelled
from medgan_pl.evaluate.report.judgement import Row, compared, entry
from medgan_pl.evaluate.report.markup import Markup, element
from medgan_pl.evaluate.report.scale import Scale, scale_of, tick_text

WIDTH, HEIGHT = 300, 50
MARGIN, AXIS, ABOVE, BELOW = 14, 26, 12, 44  # pixels: left and right; heights of the axis, the names over it, the numbers under it


def ruler(row: Row, rungs: Sequence[str]) -> Markup:
    """The row's numbers on one axis, as inline SVG, rungs by their place in `rungs`; empty where nothing says how much it is."""
    if row["estimate"] is None or (entry(row).most is None and not compared(row)):
        return Markup("")
    scale = scale_of(row)
    parts = [_axis(scale, entry(row).better), *_band(scale, row), *_rungs(scale, row), *_names(scale, row, rungs), *_value(scale, row)]
    return element("svg", *parts, class_="ruler", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=described(row))


def described(row: Row) -> str:
    """The same in words, for those who do not see it."""
    said = [f"{row['name']}: {spelled(row['estimate'])[0] if row['estimate'] else 'not defined'}"]
    said += [f"held-out reals {spelled(row['floor'])[0]}"] if row["floor"] else []
    said += [f"{rung} {number(value)}" for rung, value in row["ladder"].items()]
    said += [f"noise {number(row['noise'])}"] if row["noise"] is not None else []
    return "; ".join(said)


def _axis(scale: Scale, better: str) -> Markup:
    left, right = MARGIN - 8, WIDTH - MARGIN + 8
    parts = [_line(left, AXIS, right, AXIS, "axis")]
    if better == "lower":
        parts.append(element("path", d=f"M{left - 5} {AXIS}l7 -4v8z", class_="arrow"))
    elif better == "higher":
        parts.append(element("path", d=f"M{right + 5} {AXIS}l-7 -4v8z", class_="arrow"))
    taken: list[tuple[float, float]] = []
    for tick in scale.ticks(4):
        x, text = _pixel(scale, tick), tick_text(tick)
        parts.append(_line(x, AXIS - 2, x, AXIS + 2, "axis"))
        if free(taken, x, 3.2 * len(text) + 3):
            parts.append(_text(x, BELOW, text, "tick"))
    return element("g", *parts)


def _band(scale: Scale, row: Row) -> list[Markup]:
    if row["floor"] is None:
        return []
    low, high = (_pixel(scale, row["floor"][end]) for end in ("low", "high"))
    x = _pixel(scale, row["floor"]["value"])
    width = round(max(high - low, 2), 1)
    return [
        element("rect", x=low, y=AXIS - 8, width=width, height=16, class_="floor-band"),
        _line(x, AXIS - 8, x, AXIS + 8, "floor-line"),
    ]


def _rungs(scale: Scale, row: Row) -> list[Markup]:
    parts = []
    for rung, value in row["ladder"].items():
        title = element("title", f"{rung}: {number(value)}")
        parts.append(element("path", title, d=f"M{_pixel(scale, value)} {AXIS - 4.5}l4.5 4.5l-4.5 4.5l-4.5 -4.5z", class_="rung"))
    if row["noise"] is not None:
        x, title = _pixel(scale, row["noise"]), element("title", f"noise: {number(row['noise'])}")
        parts.append(element("path", title, d=f"M{x - 4} {AXIS - 4}l8 8m0 -8l-8 8", class_="noise"))
    return parts


def _names(scale: Scale, row: Row, rungs: Sequence[str]) -> list[Markup]:
    """Names over the marks; the first come is served, one that would cover another is left out."""
    wanted = [(_pixel(scale, row["floor"]["value"]), "reals", "floor-name")] if row["floor"] else []
    wanted += [(_pixel(scale, row["noise"]), "noise", "tick")] if row["noise"] is not None else []
    wanted += [(_pixel(scale, value), str(rungs.index(rung) + 1), "tick") for rung, value in row["ladder"].items()]
    taken: list[tuple[float, float]] = []
    parts = []
    for x, text, class_ in wanted:
        half = 3.0 * len(text) + 1
        x = min(max(x, half), WIDTH - half)
        if free(taken, x, half):
            parts.append(_text(x, ABOVE, text, class_))
    return parts


def _value(scale: Scale, row: Row) -> list[Markup]:
    x, low, high = (_pixel(scale, row["estimate"][key]) for key in ("value", "low", "high"))
    dot = element("circle", element("title", " ".join(spelled(row["estimate"]))), cx=x, cy=AXIS, r=5, class_="value")
    return [_line(low, AXIS, high, AXIS, "whisker"), dot]


def free(taken: list[tuple[float, float]], x: float, half: float) -> bool:
    """Whether nothing stands there yet; then it is taken."""
    fits = all(x + half < low or x - half > high for low, high in taken)
    if fits:
        taken.append((x - half, x + half))
    return fits


def _pixel(scale: Scale, value: float) -> float:
    return round(MARGIN + (WIDTH - 2 * MARGIN) * scale.part(value), 1)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _text(x: float, y: float, text: str, class_: str) -> Markup:
    return element("text", text, x=round(x, 1), y=y, class_=class_)
