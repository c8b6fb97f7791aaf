"""The charts of a report by matplotlib, each an inline SVG that takes fonts and colors from the page."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup

from medgan_pl.evaluate.report.judgement import Row, entry
from medgan_pl.evaluate.report.scale import WIDE, is_free, scale_of, tick_text
from medgan_pl.evaluate.report.text import described
from medgan_pl.metrics.catalogue import CATALOGUE

Curve = tuple[Sequence[float], Sequence[float]]

POINTS = 500  # per curve: more cannot be seen at this size
# Each color stands for a variable of report.css: `_inline` puts the variable in its place, so that charts follow the dark mode.
COLORS = {name: f"#00000{n}" for n, name in enumerate(("ink", "soft", "gray", "line", "paper", "ours", "reals", "third"), 1)}
COLORS |= {"ours-band": "#00000a", "reals-band": "#00000b"}
STYLE = {
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 8, "axes.titlesize": 8, "axes.titlecolor": COLORS["ink"],
    "axes.edgecolor": COLORS["gray"], "axes.labelcolor": COLORS["soft"], "xtick.color": COLORS["soft"], "ytick.color": COLORS["soft"],
    "text.color": COLORS["soft"], "grid.color": COLORS["line"], "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip
BARE = {
    "font.size": 10, "axes.spines.left": False, "axes.spines.bottom": False,
    "xtick.major.size": 0, "xtick.major.pad": 7, "ytick.major.size": 0, "ytick.major.pad": 5,
}  # fmt: skip
PANELS = {
    "loss": ("train/d/loss", "train/g/loss"),
    "mean logit of D": ("train/d/real", "train/d/fake"),
    "similarity of pairs (MS-SSIM)": ("val/ms_ssim_fake", "val/ms_ssim_real"),
    "accuracy of D": ("train/d/accuracy", "val/d/accuracy_train", "val/d/accuracy_held_out"),
}


def curves(columns: Mapping[str, Curve]) -> list[Markup]:
    """Return charts of metrics.csv: the losses, the logits of D and each number of the validation; without those that have no point.

    `columns` maps a column of metrics.csv to its (images, values).
    """
    shared = {name for names in PANELS.values() for name in names}
    panels = {title: [name for name in names if name in columns] for title, names in PANELS.items()}
    panels |= {title_of(name): [name] for name in columns if name.startswith("val/") and name not in shared}
    charts = [_curve(title, {name: columns[name] for name in names}) for title, names in panels.items()]
    return [chart for chart in charts if chart]


def title_of(column: str) -> str:
    """Return a readable title: val/fd_random -> Fréchet distance (val/fd_random). A name without catalogue entry stays as it is."""
    name = column.removeprefix("val/")
    keys = [key for key in CATALOGUE if name == key or name.startswith(f"{key}_")]
    return f"{CATALOGUE[max(keys, key=len)].title} ({column})" if keys else column


def _curve(title: str, columns: Mapping[str, Curve]) -> Markup | None:
    lines = {}
    for name, (images, values) in columns.items():
        every = math.ceil(len(images) / POINTS) or 1
        lines[name] = [point for point in zip(images[::every], values[::every], strict=True) if math.isfinite(point[1])]
    seen = [y for points in lines.values() for _, y in points]
    if not seen:
        return None
    import matplotlib
    from matplotlib.ticker import EngFormatter

    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(260, 170, (0.14, 0.2, 0.84, 0.68))
        axes.set_title(title, loc="left")
        axes.grid(linewidth=0.6)
        for color, (name, points) in zip(("ours", "reals", "third"), lines.items(), strict=False):
            marker = "." if len(points) < 30 else None
            axes.plot([x for x, _ in points], [y for _, y in points], color=COLORS[color], linewidth=1.2, marker=marker, label=name)
        _set_range(axes, min(seen), max(seen), len(lines))
        axes.set_xlabel("real images shown")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        last = "; ".join(f"{name} ends at {values[-1]:.3g}" for name, (_, values) in columns.items() if len(values))
        return _inline(figure, f"{title} over images shown: {last}")


def _set_range(axes: Any, low: float, high: float, lines: int) -> None:
    """Use a logarithmic axis if the values spread over decades; leave room above several lines for their names."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    if 0 < low < high / WIDE:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: tick_text(tick)))
    elif lines > 1:
        span = (high - low) or abs(high) or 1.0
        axes.set_ylim(low - 0.05 * span, high + 0.18 * math.ceil(lines / 2) * span)
    if lines > 1:
        axes.legend(frameon=False, fontsize=7, loc="upper left", ncols=2, borderaxespad=0.1, handlelength=1.2, columnspacing=1)


def ladder_chart(row: Row, levels: Sequence[str]) -> Markup:
    """Return a chart of the metric over the severity levels, with the judged images and held-out reals as horizontal lines.

    The vertical axis is that of the row's ruler. Neighboring levels whose names begin with the same word (blur 0.5, blur 1) are joined.
    """
    import matplotlib

    present = [(n, level) for n, level in enumerate(levels, 1) if level in row["ladder"]]
    scale, taken, height = scale_of(row), [], 134
    ticks = [tick for tick in scale.ticks(3) if is_free(taken, height * scale.part(tick), 9)]
    marks = {"color": COLORS["gray"], "linewidth": 1.3, "markeredgewidth": 1.3, "markerfacecolor": COLORS["paper"]}
    with matplotlib.rc_context(STYLE | BARE):
        figure, axes = _axes(300, height, (0.15, 0.18, 0.83, 0.74))
        if scale.unit is not None:
            axes.set_yscale("asinh", linear_width=scale.unit)
        axes.set_yticks(ticks, [tick_text(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(axis="y", linewidth=1)
        for key, color in (("floor", "reals"), ("estimate", "ours")):
            if row[key]:
                axes.axhspan(row[key]["low"], row[key]["high"], color=COLORS[f"{color}-band"], linewidth=1)
                axes.axhline(row[key]["value"], color=COLORS[color], linewidth=1.6)
        for _, joint in groupby(enumerate(present), key=lambda place: place[1][1].split()[:1]):
            places, values = zip(*((place, row["ladder"][level]) for place, (_, level) in joint), strict=True)
            axes.plot(places, values, "D-", markersize=5.5, **marks)
        names = [str(n) for n, _ in present]
        if row["noise"] is not None:
            axes.plot([len(present)], [row["noise"]], "x", markersize=8, **marks)
            names.append("noise")
        axes.set_xticks(range(len(names)), names)
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(scale.low, scale.high))
        return _inline(figure, f"{entry(row).title} over the severity levels. {described(row)}")


def _axes(width: int, height: int, place: tuple[float, float, float, float]) -> tuple[Any, Any]:
    """Return a figure of this many pixels and its axes; `place` is left, bottom, width, height in parts of the figure.

    matplotlib is imported late in this module, because the import takes a second.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    axes = figure.add_axes(place)
    axes.set_axisbelow(True)
    return figure, axes


def _inline(figure: Any, alt: str) -> Markup:
    """Return the figure as an SVG element that can stand in a page beside others; `alt` is its content in words.

    Only the marks that the drawing refers to keep their identifiers. These follow from `alt` and the marks, so the same figure gives the
    same bytes. Text stays text, in the font of the page.
    """
    import matplotlib

    for artist in figure.findobj():
        artist.set_clip_on(False)  # a clip path would be one more identifier; nothing here is drawn outside the axes
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": ascii(alt)}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")), transparent=True)
    drawn = buffer.getvalue().decode()
    drawn = drawn[drawn.index('<g id="figure_1">') : drawn.rindex("</svg>")]  # without doctype, name spaces and style
    drawn = re.sub(r' id="(?!m[0-9a-f]{10}")[^"]*"| font-family: [^;"]*;?| transform="rotate\(-0[^"]*"', "", drawn)
    variables = {color: f"var(--{name})" for name, color in COLORS.items()}
    drawn = re.sub(r"(?<=: )#[0-9a-f]{6}\b", lambda found: variables.get(found[0], found[0]), drawn)
    width, height = (round(72 * inches) for inches in figure.get_size_inches())
    svg = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return svg.format(width, height, alt, Markup(" ".join(drawn.split())))
