"""Numbers as they are read: no more digits than their interval bears out."""

import math
from collections.abc import Mapping

MOST_DECIMALS = 6
Interval = Mapping[str, float]  # an Estimate as metrics.json has it: value, low, high


def number(value: float, decimals: int | None = None) -> str:
    """Three significant digits, or so many `decimals`; a thousand has its comma, minus its own sign."""
    if decimals is None:
        decimals = _within(2 - _magnitude(value)) if value else 0
        if value and abs(value) < 10**-MOST_DECIMALS:
            figures, exponent = f"{value:.1e}".split("e")
            return f"{figures} × 10^{int(exponent)}".replace("-", "−")
    text = f"{value:,.{decimals}f}"
    return (text if any(digit in text for digit in "123456789") else text.lstrip("-")).replace("-", "−")


def decimals_of(estimate: Interval) -> int:
    """So many that the wider half of the interval shows two digits where it begins with 1 or 2, else one; at most four of the value.

    The rule of the Particle Data Group (Review of Particle Physics 2024, section 5.3), with 3 in place of their 3.55."""
    half = max(estimate["high"] - estimate["value"], estimate["value"] - estimate["low"])
    if half <= 0:
        return _within(2 - _magnitude(estimate["value"]))
    shown = (1 if half < 3 * 10 ** _magnitude(half) else 0) - _magnitude(half)
    return _within(min(shown, 3 - _magnitude(max(abs(estimate["value"]), half))))


def beside(value: float, estimate: Interval | None) -> str:
    """A number without interval in a row with one: three significant digits, but no more decimals than its neighbour has."""
    decimals = _within(2 - _magnitude(value))
    return number(value, min(decimals, decimals_of(estimate))) if estimate and value else number(value)


def spelled(estimate: Interval) -> tuple[str, str]:
    """("0.243", "0.221 to 0.268")."""
    decimals = decimals_of(estimate)
    return number(estimate["value"], decimals), f"{number(estimate['low'], decimals)} to {number(estimate['high'], decimals)}"


def _magnitude(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0


def _within(decimals: int) -> int:
    return max(0, min(MOST_DECIMALS, decimals))
