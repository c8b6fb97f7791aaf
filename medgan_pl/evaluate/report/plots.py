"""Small figures by matplotlib, each its own SVG picture, so that they fold one below the other on a phone."""

import io
import math
from collections.abc import Mapping, Sequence

from medgan_pl.evaluate.report.markup import Markup, element
from medgan_pl.evaluate.report.pictures import data_uri
from medgan_pl.evaluate.report.scale import WIDE
from medgan_pl.metrics.catalogue import CATALOGUE

Curve = tuple[Sequence[float], Sequence[float]]

SIZE_INCH = (3.6, 2.35)
POINTS = 500  # of a curve: more do not show at this size
STYLE = {"svg.hashsalt": "medgan_pl", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 8}
COLOURS = ("#1c5fa8", "#2b7a55", "#8a4b9b")


def curves(columns: Mapping[str, Curve]) -> Markup:
    """Of metrics.csv: what the players pay, the logits of D, each number of the validation. Empty where there is nothing to draw."""
    shared = {
        "loss": ("train/d/loss", "train/g/loss"),
        "mean logit of D": ("train/d/real", "train/d/fake"),
        "likeness of pairs (MS-SSIM)": ("val/ms_ssim_fake", "val/ms_ssim_real"),
        "accuracy of D": ("train/d/accuracy", "val/d/accuracy_train", "val/d/accuracy_held_out"),
    }
    drawn = {name for names in shared.values() for name in names}
    panels = {title: [name for name in names if name in columns] for title, names in shared.items()}
    panels |= {title_of(name): [name] for name in columns if name.startswith("val/") and name not in drawn}
    charts = [_curve(title, {name: columns[name] for name in names}) for title, names in panels.items() if names]
    return element("div", *charts, class_="charts") if any(charts) else Markup("")


def title_of(column: str) -> str:
    """val/fd_random -> Fréchet distance (val/fd_random); a name that is in no catalogue stays."""
    name = column.removeprefix("val/")
    keys = [key for key in CATALOGUE if name == key or name.startswith(f"{key}_")]
    return f"{CATALOGUE[max(keys, key=len)].title} ({column})" if keys else column


def _curve(title: str, lines: Mapping[str, Curve]) -> Markup:
    figure, axes = _figure(title)
    seen: list[float] = []
    for colour, (name, (images, values)) in zip(COLOURS, lines.items(), strict=False):
        every = math.ceil(len(images) / POINTS) or 1
        points = [(x, y) for x, y in zip(images[::every], values[::every], strict=True) if math.isfinite(y)]
        marker = "." if len(points) < 30 else None
        axes.plot([x for x, _ in points], [y for _, y in points], color=colour, linewidth=1.2, marker=marker, label=name)
        seen += [y for _, y in points]
    if not seen:
        return Markup("")
    _fit(axes, min(seen), max(seen), len(lines))
    last = "; ".join(f"{name} ends at {values[-1]:.3g}" for name, (_, values) in lines.items() if len(values))
    return _picture(figure, f"{title} over images shown: {last}")


def _fit(axes, low: float, high: float, lines: int) -> None:
    """Logarithmic where the values spread over decades; room at the top for the names of several lines."""
    from matplotlib.ticker import EngFormatter, NullLocator

    if 0 < low < high / WIDE:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
    elif lines > 1:
        span = (high - low) or abs(high) or 1.0
        axes.set_ylim(low - 0.05 * span, high + 0.18 * math.ceil(lines / 2) * span)
    if lines > 1:
        axes.legend(frameon=False, fontsize=7, loc="upper left", ncols=2, borderaxespad=0.1, handlelength=1.2, columnspacing=1)
    axes.set_xlabel("images shown")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _figure(title: str):
    """A figure and its axes; matplotlib is imported late, since it takes a second."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE_INCH)
        figure.subplots_adjust(0.14, 0.2, 0.98, 0.88)  # a layout found anew for each would take most of the time
        axes = figure.add_subplot()
        axes.set_title(title, loc="left")
        axes.grid(alpha=0.25, linewidth=0.6)
    return figure, axes


def _picture(figure, alt: str) -> Markup:
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return element("img", src=data_uri("image/svg+xml", buffer.getvalue()), alt=alt, class_="chart")
