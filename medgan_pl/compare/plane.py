"""The plot of quality against variety: each run is a point with its intervals, held-out reals are a star."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medgan_pl.compare.ranking import Ranked, measurement
from medgan_pl.core.files import atomically
from medgan_pl.metrics.catalogue import CATALOGUE
from medgan_pl.metrics.result import Result

MAX_RUNS = 40  # runs drawn, the best first; more cannot be distinguished


@dataclass(frozen=True)
class Point:
    """A ranked run with its place, and its results of quality `x` and variety `y`."""

    place: int
    run: Ranked
    x: Result
    y: Result


def points(runs: Sequence[Ranked], wanted: Sequence[str]) -> list[Point]:
    """Return the ranked runs with both numbers, measured alike; none if no run has both.

    `wanted`: two keys of the catalogue, taken from the space of the score or, if it has none, from the first space that has both; or two
    whole names of results. Raises ValueError for another number.
    """
    if len(wanted) != 2 or not all(isinstance(name, str) for name in wanted):
        raise ValueError(f"`plane` must be two results, such as [density,coverage] or [precision,recall], got {list(wanted)}")
    spaces = dict.fromkeys(result.space for run in runs for result in (run.result, *run.evaluated.results.values()))
    for names in (list(wanted), *([f"{name}_{space}" for name in wanted] for space in spaces if space)):
        found: list[Point] = []
        for place, run in enumerate(runs, 1):
            pair = [run.evaluated.results.get(name) for name in names]
            if all(result and result.estimate for result in pair):
                alike = not found or all(
                    measurement(run.evaluated, own) == measurement(found[0].run.evaluated, first)
                    for own, first in zip(pair, (found[0].x, found[0].y), strict=True)
                )
                found += [Point(place, run, *pair)] if alike else []
        if found:
            return found[:MAX_RUNS]
    return []


def draw(found: Sequence[Point], path: Path) -> None:
    """Write the picture: numbered points with bars over the 95 % intervals, and their names in order in the legend."""
    from matplotlib.figure import Figure

    longest = max(len(label(point)) for point in found)
    figure = Figure(figsize=(6.5 + 0.085 * min(longest, 60), max(5.2, 1.2 + 0.24 * len(found))), layout="constrained")
    axes = figure.add_subplot()
    for point, offset in zip(found, label_offsets(found), strict=True):
        color, marker = ("C3", "X") if point.run.caught else ("C0" if point.run.tied or point.place == 1 else "0.4", "o")
        x, y = point.x.estimate, point.y.estimate
        bars = {"xerr": error_bar(point.x), "yerr": error_bar(point.y), "ecolor": color, "elinewidth": 1, "alpha": 0.9}
        axes.errorbar(x.value, y.value, marker=marker, markersize=7, color=color, linestyle="", label=label(point), **bars)
        words = {"ha": "center", "va": "center", "fontsize": 10, "weight": "bold", "color": color}
        axes.annotate(str(point.place), (x.value, y.value), offset, textcoords="offset points", **words)
    x, y = found[0].x.floor, found[0].y.floor
    if x and y:
        axes.plot(x.value, y.value, marker="*", markersize=18, color="C2", linestyle="", label="held-out reals", zorder=1.5)
    titles = [f"{CATALOGUE[result.key].title} ({result.name})" for result in (found[0].x, found[0].y)]
    axes.set(xlabel=f"quality: {titles[0]}", ylabel=f"variety: {titles[1]}")
    axes.margins(0.12)
    axes.grid(alpha=0.3)
    figure.legend(
        loc="outside right upper", fontsize=9, title="place, run; blue: first or tied\nred cross: caught copying", title_fontsize=8
    )
    with atomically(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def label_offsets(found: Sequence[Point]) -> list[tuple[float, float]]:
    """Return the offset of each point's number, in points: away from its neighbors, most from the nearest."""
    places = np.array([[point.x.estimate.value, point.y.estimate.value] for point in found])
    spread = np.ptp(places, axis=0)
    places = places / np.where(spread > 0, spread, 1)
    away = places[:, None] - places  # (N, N, 2)
    pushes = (away / (np.linalg.norm(away, axis=2, keepdims=True) + 0.01) ** 3).sum(1) + 1e-6
    return [tuple(12 * push / np.linalg.norm(push)) for push in pushes]


def label(point: Point) -> str:
    name = point.run.evaluated.name
    return f"{point.place}  {name if len(name) <= 60 else '…' + name[-59:]}".replace("$", r"\$")  # a dollar sign would begin a formula


def error_bar(result: Result) -> list[list[float]]:
    """Return the distances from the value down and up to the ends of its interval."""
    estimate = result.estimate
    return [[max(0.0, estimate.value - estimate.low)], [max(0.0, estimate.high - estimate.value)]]
