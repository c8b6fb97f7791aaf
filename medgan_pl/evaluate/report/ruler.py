"""The geometry of a ruler: one number between held-out reals, the severity levels of the ladder and noise."""

from collections.abc import Sequence
from dataclasses import dataclass

from medgan_pl.evaluate.report.judgement import Row, entry, has_comparison
from medgan_pl.evaluate.report.scale import Scale, is_free, scale_of, tick_text

WIDTH, MARGIN = 300, 14  # pixels
HALF_CHARACTER = 3.1  # pixels, half the width of a character


@dataclass(frozen=True)
class Ruler:
    """The places of the marks and labels that templates/ruler.html.j2 draws.

    - `ticks`: x in pixels. `numbers`, `names`: (x, text, CSS class) of the labels below and above the axis.
    """

    scale: Scale
    ticks: list[float]
    numbers: list[tuple[float, str, str]]
    names: list[tuple[float, str, str]]

    def x(self, value: float) -> float:
        return _x(self.scale, value)


def ruler(row: Row, levels: Sequence[str]) -> Ruler | None:
    """Return the ruler of a row, or None if the row has no value or nothing says how large the value is.

    `levels` gives the severity levels their numbers.
    """
    if row["estimate"] is None or (entry(row).maximum is None and not has_comparison(row)):
        return None
    scale = scale_of(row)
    ticks = scale.ticks(4)
    names = [(row["floor"]["value"], "reals", "floor-name")] if row["floor"] else []
    names += [(row["noise"], "noise", "tick")] if row["noise"] is not None else []
    names += [(value, str(levels.index(level) + 1), "tick") for level, value in row["ladder"].items()]
    numbers = [(tick, tick_text(tick), "tick") for tick in ticks]
    return Ruler(scale, [_x(scale, tick) for tick in ticks], _placed(scale, numbers, 3), _placed(scale, names, 1))


def _x(scale: Scale, value: float) -> float:
    return round(MARGIN + (WIDTH - 2 * MARGIN) * scale.part(value), 1)


def _placed(scale: Scale, labels: Sequence[tuple[float, str, str]], gap: float) -> list[tuple[float, str, str]]:
    """Move labels inside the drawing, and leave out each label that would overlap an earlier one."""
    taken: list[tuple[float, float]] = []
    placed = []
    for value, text, kind in labels:
        half = HALF_CHARACTER * len(text) + gap
        x = round(min(max(_x(scale, value), half), WIDTH - half), 1)
        if is_free(taken, x, half):
            placed.append((x, text, kind))
    return placed
