"""The axis of one number: how wide, and linear or nearly logarithmic."""

import math
from dataclasses import dataclass

from medgan_pl.evaluate.report.judgement import Row, compared, entry, numbers_of
from medgan_pl.metrics.catalogue import Entry

WIDE = 30  # times the smallest: beyond it a linear axis shows one mark at the end and a heap at the start


@dataclass(frozen=True)
class Scale:
    """Values to parts of the way from `low` to `high`: linear where `unit` is None, else as asinh(x / unit), which is linear within ± unit,
    logarithmic beyond, and has a place for 0 and below."""

    low: float
    high: float
    unit: float | None = None

    def warped(self, value: float) -> float:
        return value if self.unit is None else math.asinh(value / self.unit)

    def part(self, value: float) -> float:
        start, end = self.warped(self.low), self.warped(self.high)
        return (self.warped(value) - start) / (end - start)

    def ticks(self, steps: int) -> list[float]:
        """About so many `steps` where linear, else powers of ten; in the order in which they may be named: 0, then the largest."""
        if self.unit is None:
            step = _step((self.high - self.low) / steps)
            found = [round(n * step, 12) for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        else:
            last = math.ceil(math.log10(max(abs(self.low), abs(self.high))))
            powers = [10.0**n for n in range(math.floor(math.log10(self.unit)), last + 1)]
            found = [x for x in (0.0, *powers, *(-power for power in powers)) if self.low <= x <= self.high]
        return sorted(found, key=lambda x: (x != 0, -abs(x)))


def tick_text(tick: float) -> str:
    return f"{tick:,.10g}".replace("-", "−")


def scale_of(row: Row) -> Scale:
    """Just wide enough for all numbers of the row; a distance is seen from 0, a gain about 0, a share that spreads over a quarter of its
    range, or stands alone, within the whole of it."""
    values, kind, unit = numbers_of(row), entry(row), _unit(row)
    low, high = min(values), max(values)
    if unit is not None:
        return Scale(min(0.0, low), max(0.0, high) * 1.3, unit)
    if kind.most is None or (kind.least or 0) < 0:
        low, high = min(low, 0.0), max(high, 0.0)
        high = max(high, kind.most) if kind.most is not None and high > kind.most / 4 else high
    elif kind.least is not None and (high - low > (kind.most - kind.least) / 4 or not compared(row)):
        return Scale(min(low, kind.least), max(high, kind.most))
    pad = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
    return Scale(*_inside(low - pad, high + pad, low, high, kind))


def _unit(row: Row) -> float | None:
    """Where an unbounded metric spreads over decades: the wider of its two intervals, below which no difference shows; None for linear."""
    sizes = sorted(abs(value) for value in numbers_of(row) if value)
    if entry(row).most is not None or not sizes:
        return None
    halves = [(row[key]["high"] - row[key]["low"]) / 2 for key in ("estimate", "floor") if row[key]]
    unit = max([half for half in halves if half > 0], default=sizes[0])
    return unit if sizes[-1] > WIDE * max(sizes[0], unit) else None


def _inside(low: float, high: float, least_seen: float, most_seen: float, kind: Entry) -> tuple[float, float]:
    """Padding does not leave the range of the metric; values that do are shown all the same."""
    low = low if kind.least is None else max(low, min(kind.least, least_seen))
    high = high if kind.most is None else min(high, max(kind.most, most_seen))
    return low, high


def _step(length: float) -> float:
    """1, 2 or 5 times a power of ten, the next to `length` from below."""
    power = 10.0 ** math.floor(math.log10(length))
    return power * max((factor for factor in (2, 5) if power * factor <= length), default=1)
