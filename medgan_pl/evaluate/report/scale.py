"""The axis of one metric: its range, and linear or nearly logarithmic."""

import math
from dataclasses import dataclass

from medgan_pl.evaluate.report.judgement import Row, entry, has_comparison, numbers_of
from medgan_pl.metrics.catalogue import Entry

WIDE = 30  # largest value over smallest: beyond this a linear axis shows one mark at the end and a heap at the start


@dataclass(frozen=True)
class Scale:
    """A map from values to parts of the way from `low` to `high`.

    It is linear if `unit` is None, otherwise asinh(x / unit): linear within ± unit, logarithmic beyond, and defined for 0 and below.
    """

    low: float
    high: float
    unit: float | None = None

    def warped(self, value: float) -> float:
        return value if self.unit is None else math.asinh(value / self.unit)

    def part(self, value: float) -> float:
        """Return the place of `value` between `low` (0) and `high` (1)."""
        start, end = self.warped(self.low), self.warped(self.high)
        return (self.warped(value) - start) / (end - start)

    def ticks(self, steps: int) -> list[float]:
        """Return round values, the most important first: 0, then the largest.

        There are about `steps` of them on a linear axis; on a logarithmic axis they are the powers of ten.
        """
        if self.unit is None:
            step = _round_down((self.high - self.low) / steps)
            found = [round(n * step, 12) for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        else:
            last = math.ceil(math.log10(max(abs(self.low), abs(self.high))))
            powers = [10.0**n for n in range(math.floor(math.log10(self.unit)), last + 1)]
            found = [x for x in (0.0, *powers, *(-power for power in powers)) if self.low <= x <= self.high]
        return sorted(found, key=lambda x: (x != 0, -abs(x)))


def tick_text(tick: float) -> str:
    """Return a tick as text: "1,000", "−0.2"."""
    return f"{tick:,.10g}".replace("-", "−")


def is_free(taken: list[tuple[float, float]], middle: float, half: float) -> bool:
    """Return True, and add the label to `taken`, if a label of this half length overlaps none that was placed before."""
    free = all(middle + half < low or middle - half > high for low, high in taken)
    if free:
        taken.append((middle - half, middle + half))
    return free


def scale_of(row: Row) -> Scale:
    """Return a scale just wide enough for all numbers of the row.

    A distance starts at 0, and a gain shows 0. A share is shown over its whole range if its values spread over a quarter of that range or
    if there is nothing to compare it with.
    """
    values, kind, unit = numbers_of(row), entry(row), _unit(row)
    low, high = min(values), max(values)
    if unit is not None:
        return Scale(min(0.0, low), max(0.0, high) * 1.3, unit)
    if kind.maximum is None or (kind.minimum or 0) < 0:
        low, high = min(low, 0.0), max(high, 0.0)
        high = max(high, kind.maximum) if kind.maximum is not None and high > kind.maximum / 4 else high
    elif kind.minimum is not None and (high - low > (kind.maximum - kind.minimum) / 4 or not has_comparison(row)):
        return Scale(min(low, kind.minimum), max(high, kind.maximum))
    pad = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
    return Scale(*_clipped(low - pad, high + pad, low, high, kind))


def _unit(row: Row) -> float | None:
    """Return the linear part of a nearly logarithmic axis, or None for a linear axis.

    Only an unbounded metric whose values spread over decades has one: the wider half interval, below which no difference can be seen.
    """
    sizes = sorted(abs(value) for value in numbers_of(row) if value)
    if entry(row).maximum is not None or not sizes:
        return None
    halves = [(row[key]["high"] - row[key]["low"]) / 2 for key in ("estimate", "floor") if row[key]]
    unit = max([half for half in halves if half > 0], default=sizes[0])
    return unit if sizes[-1] > WIDE * max(sizes[0], unit) else None


def _clipped(low: float, high: float, smallest: float, largest: float, kind: Entry) -> tuple[float, float]:
    """Keep the padding within the range of the metric. Values outside that range are shown all the same."""
    low = low if kind.minimum is None else max(low, min(kind.minimum, smallest))
    high = high if kind.maximum is None else min(high, max(kind.maximum, largest))
    return low, high


def _round_down(length: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not above `length`."""
    power = 10.0 ** math.floor(math.log10(length))
    return power * max((factor for factor in (2, 5) if power * factor <= length), default=1)
