"""Covariates: what is known about a patient besides the images (age, sex, a finding), as numbers that a model can be conditioned on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medgan_pl.core.untrusted import MAX_NODES, is_table, require

# The spellings of an unknown value, in a table and for `medgan_pl.sample`.
MISSING = ("", "na", "n/a", "nan", "none", "null", "unknown", "?", "-", ".")
# The percentiles that are stored: the minimum and the maximum would be the values of two patients.
PERCENT = np.linspace(1, 99, 21)
FINENESS = 2  # digits of the range. A rounded quantile is no patient's exact value, and a drawn value can be written exactly


@dataclass(frozen=True)
class Covariate:
    """One column, as measured on the training split. No fact is one patient's alone, except the ends of a column that is nearly constant.

    - `mean`, `sd`: of the known values. In a column of two values, counted as 0 and 1, `mean` is the share of the second.
    - `low`, `high`: the 1st and the 99th percentile. Where they are equal, as for a count that is nearly always 0, minimum and maximum.
    - `missing`: the share of the training records without a value.
    - `levels`: the two values as they are written, in order, for a column with no more than two; else None.
    - `quantiles`: the percentiles PERCENT of the known values; empty for a column of two values, and in a checkpoint from before them.
    - `few`: True if only these values are drawn; else values between them are drawn too.
    """

    name: str
    mean: float
    sd: float
    low: float
    high: float
    levels: tuple[str, str] | None
    missing: float
    quantiles: tuple[float, ...] = ()
    few: bool = False

    @property
    def scale(self) -> tuple[float, float]:
        """Return the value that becomes 0, and the difference that becomes 1: mean and standard deviation.

        Two levels are 2 apart, however rare one is: by the standard deviation, a finding of one patient in a hundred would be a 10.
        """
        return self.mean, 0.5 if self.levels else self.sd

    def number(self, asked: Any) -> float:
        """Return the number of a value that a user writes: 70, F, unknown (NaN). Raise ValueError far from the training data."""
        text = str(asked).strip()
        if text.casefold() in MISSING:
            if not self.missing:
                raise ValueError(f"`covariates.{self.name}` must be known: it was known for every training image; leave it out to draw it")
            return math.nan
        if self.levels:
            for place, level in enumerate(self.levels):
                if text.casefold() == level.casefold() or as_number(text) == as_number(level) is not None:
                    return float(place)
            raise ValueError(f"`covariates.{self.name}` must be {' or '.join(self.levels)}, got {asked}")
        value = as_number(text)
        if value is None:
            raise ValueError(f"`covariates.{self.name}` must be a number, got {asked}")
        minimum = self.low - self.sd if self.low < 0 else max(0.0, self.low - self.sd)  # no age is negative
        if not minimum <= value <= self.high + self.sd:
            raise ValueError(
                f"`covariates.{self.name}` must be near the training data, {self.low:.4g} to {self.high:.4g} in 98 % of the "
                f"images, got {value:g}; the model's images there would be meaningless"
            )
        return value

    def outside(self, value: float) -> bool:
        """Return True for a number outside `low` to `high`."""
        return not self.levels and not self.low <= value <= self.high and math.isfinite(value)

    def drawn(self, uniform: float) -> float:
        """Return a value, or NaN, with the training images' frequencies; `uniform` is a uniform number in [0, 1)."""
        if uniform < self.missing:
            return math.nan
        uniform = (uniform - self.missing) / (1 - self.missing)
        if self.levels:
            return float(uniform < self.mean)
        points = self.quantiles or (self.low, self.mean, self.high)
        place = min(max((100 * uniform - PERCENT[0]) / (PERCENT[-1] - PERCENT[0]), 0), 1) * (len(points) - 1)
        if self.few:
            return points[round(place)]
        value = rounded(float(np.interp(place, range(len(points)), points)), self.high - self.low)
        return min(max(value, self.low), self.high)

    def said(self, value: float) -> float | str:
        """Return the number as a person writes it."""
        if not math.isfinite(value):
            return "unknown"
        return self.levels[round(value)] if self.levels else value

    def line(self, count: int) -> str:
        """Return a line about the column among `count` training records, for the log."""
        known = f"{self.name}: known of {round(count * (1 - self.missing))} of {count} training scans"
        if self.levels:
            return f"{known}, {self.levels[0]} {1 - self.mean:.1%}, {self.levels[1]} {self.mean:.1%}"
        return f"{known}, mean {self.mean:.4g}, sd {self.sd:.4g}, 98 % or more in {self.low:.4g} to {self.high:.4g}"


@dataclass(frozen=True)
class Covariates:
    """The columns that a model is conditioned on, in order. The checkpoint stores them as plain containers.

    Values are natural, (R, K) float64 as in the table with two levels as 0 and 1, or standardized, (R, K) float32; NaN where unknown.
    """

    columns: tuple[Covariate, ...] = ()

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @classmethod
    def from_plain(cls, plain: Sequence[Mapping[str, Any]]) -> "Covariates":
        """Return the columns from what `plain` returned."""
        levels = [None if each["levels"] is None else (str(each["levels"][0]), str(each["levels"][1])) for each in plain]
        points = [tuple(map(float, each.get("quantiles", ()))) for each in plain]
        return cls(
            tuple(Covariate(**{**each, "levels": pair, "quantiles": own}) for each, pair, own in zip(plain, levels, points, strict=True))
        )

    def plain(self) -> list[dict[str, Any]]:
        """Return the columns as plain containers."""
        return [
            asdict(column) | {"levels": column.levels and list(column.levels), "quantiles": list(column.quantiles)}
            for column in self.columns
        ]

    def standardize(self, values: np.ndarray) -> np.ndarray:
        """Return natural values (R, K) standardized.

        An unknown value becomes the mean in a column that was known for all training images: the networks have not learned unknown values.
        """
        center, unit = np.array([column.scale for column in self.columns]).T
        learned = np.array([column.missing > 0 for column in self.columns])
        return np.where(np.isnan(values) & ~learned, 0, (values - center) / unit).astype(np.float32)

    def check_levels(self, others: "Covariates") -> None:
        """Raise ValueError unless these columns and `others` have the same names, and the same two levels or numbers."""
        here, there = ([f"{each.name} ({' or '.join(each.levels or ['numbers'])})" for each in one.columns] for one in (self, others))
        if here != there:
            raise ValueError(
                f"the covariates must be those of the model, {', '.join(here)}; the data have {', '.join(there)}; make them equal"
            )

    def asked(self, given: Mapping[str, Any]) -> dict[int, float]:
        """Return the values that are given by name, by the place of their column.

        Raise ValueError for an unknown name, and as `Covariate.number`.
        """
        strange = [str(name) for name in given if name not in self.names]
        if strange and not self.columns:
            raise ValueError(f"`covariates` needs a model with covariates, got {', '.join(strange)}; this one has model.covariates=[]")
        if strange:
            raise ValueError(f"`covariates` must be among the model's, {', '.join(self.names)}; got {', '.join(strange)}")
        return {self.names.index(name): self.columns[self.names.index(name)].number(value) for name, value in given.items()}

    def for_images(self, seed: int, places: Sequence[int], asked: Mapping[int, float] | None = None) -> np.ndarray:
        """Return natural values (B, K) for generated images: those `asked` for, all others drawn with the training frequencies.

        Each column is drawn independently and keyed by (seed, place).
        """
        values = np.empty((len(places), len(self.columns)))
        for row, place in enumerate(places):
            uniform = np.random.default_rng([seed, place]).random(len(self.columns))  # for all, so that a given value changes no other
            values[row] = [column.drawn(u) for column, u in zip(self.columns, uniform, strict=True)]
        for column, value in (asked or {}).items():
            values[:, column] = value
        return values

    def said(self, values: np.ndarray) -> dict[str, float | str]:
        """Return one image's natural values (K,) by name, as a person writes them."""
        return {column.name: column.said(value) for column, value in zip(self.columns, values.tolist(), strict=True)}


def check_covariates(columns: Any, names: Any) -> None:
    """Raise ValueError unless `columns` are covariates in plain containers, one for each of `names`."""
    require(isinstance(columns, list) and len(columns) <= MAX_NODES, "`covariates` must be a list of columns")
    for column in columns:
        older = {"name", "mean", "sd", "low", "high", "levels", "missing"}
        keys = older | {"quantiles", "few"}
        fits = isinstance(column, dict) and column.keys() in (keys, older)
        require(fits, f"a column of `covariates` must have {', '.join(sorted(keys))}")
        numbers = [column[key] for key in ("mean", "sd", "low", "high", "missing")]
        require(
            is_table(numbers, (5,)) and not any(isinstance(number, bool) for number in numbers), "`covariates` must hold finite numbers"
        )
        require(column["sd"] > 0 and column["low"] <= column["high"] and 0 <= column["missing"] <= 1, "`covariates` must have a spread")
        points, few = column.get("quantiles", []), column.get("few", False)
        require(
            points == [] or (is_table(points, (21,)) and points == sorted(points)), "`covariates` must have 21 rising quantiles, or none"
        )
        require(isinstance(few, bool) and (bool(points) or not few), "`few` in `covariates` must be true or false, with quantiles")
        levels = column["levels"]
        texts = [column["name"], *(levels if isinstance(levels, list) else [])]
        require(all(isinstance(text, str) and len(text) <= 64 for text in texts), "names in `covariates` must be short")
        require(levels is None or (isinstance(levels, list) and len(levels) == 2), "`covariates` must have two levels, or none")
    require([column["name"] for column in columns] == names, "`covariates` must be those of model.covariates")


def as_number(text: str) -> float | None:
    """Return the finite number of the text, None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None  # float reads 1_0 as 10


def rounded(value: float, spread: float) -> float:
    """Return the value rounded to FINENESS digits of the spread; a spread of 0 leaves it as it is."""
    return round(value, FINENESS - math.floor(math.log10(spread))) if spread else value
