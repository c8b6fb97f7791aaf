"""Numbers as text, with no more digits than their interval justifies."""

import math
from collections.abc import Mapping

MAX_DECIMALS = 6
Interval = Mapping[str, float]  # an Estimate in metrics.json: value, low, high


def number(value: float, decimals: int | None = None) -> str:
    """Return `value` with three significant digits, or with `decimals`; with a comma at each thousand and a typographic minus."""
    if decimals is None:
        decimals = _clamp(2 - _magnitude(value)) if value else 0
        if value and abs(value) < 10**-MAX_DECIMALS:
            figures, exponent = f"{value:.1e}".split("e")
            return f"{figures} × 10^{int(exponent)}".replace("-", "−")
    text = f"{value:,.{decimals}f}"
    return (text if any(digit in text for digit in "123456789") else text.lstrip("-")).replace("-", "−")


def decimals_of(estimate: Interval) -> int:
    """Return the number of decimals that the interval justifies.

    The wider half of the interval shows two digits if it begins with 1 or 2, otherwise one. The value shows at most four digits. This is
    the rule of the Particle Data Group (Review of Particle Physics 2024, section 5.3), with 3 instead of their 3.55.
    """
    half = max(estimate["high"] - estimate["value"], estimate["value"] - estimate["low"])
    if half <= 0:
        return _clamp(2 - _magnitude(estimate["value"]))
    shown = (1 if half < 3 * 10 ** _magnitude(half) else 0) - _magnitude(half)
    return _clamp(min(shown, 3 - _magnitude(max(abs(estimate["value"]), half))))


def number_like(value: float, estimate: Interval | None) -> str:
    """Return a number that has no interval: three significant digits, but no more decimals than the estimate of its row."""
    decimals = _clamp(2 - _magnitude(value))
    return number(value, min(decimals, decimals_of(estimate))) if estimate and value else number(value)


def spelled(estimate: Interval) -> tuple[str, str]:
    """Return the value and its interval as text: ("0.243", "0.221 to 0.268")."""
    decimals = decimals_of(estimate)
    return number(estimate["value"], decimals), f"{number(estimate['low'], decimals)} to {number(estimate['high'], decimals)}"


def _magnitude(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0


def _clamp(decimals: int) -> int:
    return max(0, min(MAX_DECIMALS, decimals))
