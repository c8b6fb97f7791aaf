"""What is known of a patient beside the images (age, sex, a finding): from the texts of a table to the standardised numbers of a batch."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

# Written for a value that is not known; also what `medgan_pl.sample` takes for one.
MISSING = ("", "na", "n/a", "nan", "none", "null", "unknown", "?", "-", ".")
MOST_LETTERS = 64  # of a name and of a level
NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9_-]{{0,{MOST_LETTERS - 1}}}")  # one that can stand on a command line: covariates.age=70
TAKEN = ("image", "label", "patient", "split")
# What is remembered of the values: the ends themselves would be those of two patients.
PERCENT = np.linspace(1, 99, 21)
# A column of so few different values, each of so many records, is one of counts or grades: none between them is drawn.
FEW, SHARED_BY = 20, 5
FAR_QUARTILES = 10  # a value as many times the distance of the quartiles off is rather a code for a missing one
FINENESS = 2  # digits of the range: as a quantile a value is no patient's to the last digit, and as drawn it can be asked for again


@dataclass(frozen=True)
class Covariate:
    """One column, as the training split has it. Nothing of it is of one patient alone, but for the ends of a column nearly always the same.

    - `mean`, `sd`: of the known values; of a column of two values, counted as 0 and 1, `mean` is the share of the second.
    - `low`, `high`: the 1st and the 99th percentile; where these coincide, as of a count that is nearly always 0, the ends.
    - `missing`: the share of the training records that do not say.
    - `levels`: the two values as they are written, in order, of a column that has no more; else None.
    - `quantiles`: those at PERCENT of the known values; of a column of two values, and in a checkpoint from before them, none.
    - `few`: whether these are all the values there are to draw; else what lies between two of them is drawn too.
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
        """What becomes 0, and what becomes 1 more: mean and standard deviation. Two values come to lie 2 apart, however rare one is: by its
        standard deviation a finding of one patient in a hundred would be a 10."""
        return self.mean, 0.5 if self.levels else self.sd

    def number(self, asked: Any) -> float:
        """The number of a value as it is asked for: 70, F, unknown (NaN). Raises ValueError for what the training images cannot tell of."""
        text = str(asked).strip()
        if text.casefold() in MISSING:
            if not self.missing:
                raise ValueError(f"`covariates.{self.name}` must be known: it was of every training image; leave it out to have it drawn")
            return math.nan
        if self.levels:
            for place, level in enumerate(self.levels):
                if text.casefold() == level.casefold() or as_number(text) == as_number(level) is not None:
                    return float(place)
            raise ValueError(f"`covariates.{self.name}` must be {' or '.join(self.levels)}, got {asked}")
        value = as_number(text)
        if value is None:
            raise ValueError(f"`covariates.{self.name}` must be a number, got {asked}")
        least = self.low - self.sd if self.low < 0 else max(0.0, self.low - self.sd)  # no age is negative
        if not least <= value <= self.high + self.sd:
            raise ValueError(
                f"`covariates.{self.name}` must be near what the model was trained on, {self.low:.4g} to {self.high:.4g} in 98 % of the "
                f"images, got {value:g}; nothing it draws there would mean anything"
            )
        return value

    def outside(self, value: float) -> bool:
        return not self.levels and not self.low <= value <= self.high and math.isfinite(value)

    def drawn(self, uniform: float) -> float:
        """A value, or NaN, as common as among the training images, from a number evenly in [0, 1)."""
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
        """The number as a person writes it."""
        if not math.isfinite(value):
            return "unknown"
        return self.levels[round(value)] if self.levels else value

    def line(self, count: int) -> str:
        """What it is among `count` training records, for the log."""
        known = f"{self.name}: known of {round(count * (1 - self.missing))} of {count} training scans"
        if self.levels:
            return f"{known}, {self.levels[0]} {1 - self.mean:.1%}, {self.levels[1]} {self.mean:.1%}"
        return f"{known}, mean {self.mean:.4g}, sd {self.sd:.4g}, 98 % or more in {self.low:.4g} to {self.high:.4g}"


@dataclass(frozen=True)
class Covariates:
    """The columns that a model is told, in their order; rides in the checkpoint as plain containers. Values are natural (R, K) float64 as
    the table has them, two values as 0 and 1, or standardised (R, K) float32; NaN where not known."""

    columns: tuple[Covariate, ...] = ()

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @classmethod
    def from_plain(cls, plain: Sequence[Mapping[str, Any]]) -> "Covariates":
        levels = [None if each["levels"] is None else (str(each["levels"][0]), str(each["levels"][1])) for each in plain]
        points = [tuple(map(float, each.get("quantiles", ()))) for each in plain]
        return cls(
            tuple(Covariate(**{**each, "levels": pair, "quantiles": own}) for each, pair, own in zip(plain, levels, points, strict=True))
        )

    def plain(self) -> list[dict[str, Any]]:
        return [
            asdict(column) | {"levels": column.levels and list(column.levels), "quantiles": list(column.quantiles)}
            for column in self.columns
        ]

    def standardised(self, values: np.ndarray) -> np.ndarray:
        """Unknown becomes the mean in a column that all training images knew: what else it means, the networks have not learnt."""
        centre, unit = np.array([column.scale for column in self.columns]).T
        learnt = np.array([column.missing > 0 for column in self.columns])
        return np.where(np.isnan(values) & ~learnt, 0, (values - centre) / unit).astype(np.float32)

    def check_levels(self, others: "Covariates") -> None:
        """ValueError unless these columns and `others` count the same two values, or numbers, under the same names."""
        here, there = ([f"{each.name} ({' or '.join(each.levels or ['numbers'])})" for each in told.columns] for told in (self, others))
        if here != there:
            raise ValueError(
                f"the covariates must be those the model learnt, {', '.join(here)}; the data have {', '.join(there)}; write them alike"
            )

    def asked(self, given: Mapping[str, Any]) -> dict[int, float]:
        """The values asked for by name, by the place of their column. Raises ValueError for a name the model does not know, and as
        `Covariate.number`."""
        strange = [str(name) for name in given if name not in self.names]
        if strange and not self.columns:
            raise ValueError(f"`covariates` needs a model that is told some, got {', '.join(strange)}; this one has model.covariates=[]")
        if strange:
            raise ValueError(f"`covariates` must be of {', '.join(self.names)}, which the model is told; got {', '.join(strange)}")
        return {self.names.index(name): self.columns[self.names.index(name)].number(value) for name, value in given.items()}

    def for_images(self, seed: int, places: Sequence[int], asked: Mapping[int, float] | None = None) -> np.ndarray:
        """Natural values (B, K) for images drawn: those `asked` for, the others as common as in training, each column by itself and by
        (seed, place) alone."""
        values = np.empty((len(places), len(self.columns)))
        for row, place in enumerate(places):
            uniform = np.random.default_rng([seed, place]).random(len(self.columns))  # of all, so that what is asked moves no other
            values[row] = [column.drawn(u) for column, u in zip(self.columns, uniform, strict=True)]
        for column, value in (asked or {}).items():
            values[:, column] = value
        return values

    def said(self, values: np.ndarray) -> dict[str, float | str]:
        """One image's natural values (K,) by name, as a person writes them."""
        return {column.name: column.said(value) for column, value in zip(self.columns, values.tolist(), strict=True)}


def check_names(names: Any) -> tuple[str, ...]:
    """The names of columns. Raises ValueError for what is no list of names that can stand on a command line, each once."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ValueError(f"`model.covariates` must be a list of names, such as [age,sex], got {names!r}")
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in TAKEN:
            raise ValueError(
                f"a name in `model.covariates` must be letters, digits, _ and -, {MOST_LETTERS} at most, and none of {', '.join(TAKEN)}; "
                f"got {name!r}; rename the column"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"`model.covariates` must name each column once, got {', '.join(names)}")
    return tuple(names)


def as_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None  # float takes 1_0 for 10


def rounded(value: float, spread: float) -> float:
    """To FINENESS digits of the spread, which is above 0 unless all are the same."""
    return round(value, FINENESS - math.floor(math.log10(spread))) if spread else value


def parsed(name: str, texts: Sequence[str], owners: Sequence[str], training: np.ndarray) -> tuple[np.ndarray, tuple[str, str] | None]:
    """A column's texts as natural numbers (R,), NaN where not known, and its levels if it has two values: those are counted as 0 and 1.
    Which of the two it is, the records of `training` (R,) say.

    Raises ValueError for a column that says nothing or always the same there, for text of more than two values, for values that differ in
    case alone, and for one outside training of another kind; `owners` are the names of the records. No value is shown: it is a patient's.
    """
    texts = [text.strip() for text in texts]
    known = [row for row, text in enumerate(texts) if text.casefold() not in MISSING]
    learnt = [row for row in known if training[row]]
    words = [row for row in learnt if as_number(texts[row]) is None]
    read = {row: texts[row] if words else as_number(texts[row]) for row in known}
    kinds = {read[row] for row in learnt}
    check_kinds(name, kinds, [texts[row] for row in learnt], [owners[row] for row in words])
    strange = [row for row in known if read[row] is None or (len(kinds) == 2 and read[row] not in kinds)]
    if strange:
        kind = "one of the two values of" if len(kinds) == 2 else "a number as in"
        raise ValueError(
            f"the covariate `{name}` must be {kind} the training split; on {len(strange)} rows outside it is another, the first that of "
            f"{owners[strange[0]]}; leave it empty where unknown, or split so that training has all values"
        )
    if len(kinds) > 2:
        return np.array([read.get(row, math.nan) for row in range(len(texts))]), None
    first, second = sorted(kinds)
    levels = tuple(value if words else np.format_float_positional(value, trim="-") for value in (first, second))
    if max(map(len, levels)) > MOST_LETTERS:
        raise ValueError(f"the values of the covariate `{name}` must have at most {MOST_LETTERS} letters, got {max(map(len, levels))}")
    return np.array([float(read[row] == second) if row in read else math.nan for row in range(len(texts))]), levels


def check_kinds(name: str, kinds: set[Any], known: Sequence[str], no_numbers: Sequence[str]) -> None:
    """ValueError unless the training split's `kinds` of values, `known` as they are written, can be learnt of; `no_numbers` are the owners
    of those that are text."""
    if len(kinds) < 2:
        what = "is the same in" if kinds else "is not known in"
        raise ValueError(
            f"the covariate `{name}` {what} the whole training split, where {', '.join(MISSING[1:])} count as unknown, and a model can "
            "learn nothing of it; leave it out of model.covariates, or split otherwise"
        )
    if no_numbers and len({kind.casefold() for kind in kinds}) < len(kinds):
        raise ValueError(
            f"the covariate `{name}` must write each value in one way, and some of its values differ in case alone; write F or f, not both"
        )
    if no_numbers and len(kinds) > 2:
        advice = "make it the column label, or a column of 0 and 1 for each value"
        if 2 * sum(text[0].isdigit() for text in known) > len(known):
            advice = "leave it empty where unknown, and write 70, not 070Y or 70,5"
        raise ValueError(
            f"the covariate `{name}` must be numbers, or text of two values such as F and M; got {len(kinds)} values of which "
            f"{len(no_numbers)} of {len(known)} rows hold no number, the first that of {no_numbers[0]}; {advice}"
        )


def measured(name: str, values: np.ndarray, levels: tuple[str, str] | None) -> Covariate:
    """The facts of the training split's natural values (R,), of which `parsed` has seen two at least."""
    known = values[np.isfinite(values)]
    mean, sd, missing = float(known.mean()), float(known.std()), 1 - len(known) / len(values)
    if levels:
        return Covariate(name, mean, sd, 0.0, 1.0, levels, missing)
    kinds = len(np.unique(known))
    few = kinds <= FEW and len(known) >= SHARED_BY * kinds
    points = np.percentile(known, PERCENT, method="inverted_cdf" if few else "linear").tolist()
    quantiles = tuple(points if few else (rounded(point, points[-1] - points[0]) for point in points))  # one may be a patient's value
    low, high = quantiles[0], quantiles[-1]
    if low == high:
        low, high = float(known.min()), float(known.max())
    return Covariate(name, mean, sd, low, high, None, missing, quantiles, few)


def tabulated(
    names: Sequence[str], rows: Sequence[Sequence[str]], owners: Sequence[str], training: np.ndarray
) -> tuple[Covariates, np.ndarray]:
    """The columns `names` of a table of texts (R, K), measured where `training` (R,) holds; and all its natural values (R, K)."""
    columns, values = [], np.empty((len(rows), len(names)))
    for place, name in enumerate(names):
        values[:, place], levels = parsed(name, [row[place] for row in rows], owners, training)
        columns.append(measured(name, values[training, place], levels))
    return Covariates(tuple(columns)), values


def odd_values(covariates: Covariates, values: np.ndarray) -> list[str]:
    """A line for each column of natural values (R, K) that holds some which are rather codes for missing ones, such as 999 years."""
    said = []
    for column, given in zip(covariates.columns, values.T, strict=True):
        low, middle, high = np.nanpercentile(given, (25, 50, 75))
        far = int((np.abs(given - middle) > FAR_QUARTILES * (high - low)).sum()) if high > low and not column.levels else 0
        if far:
            said.append(f"WARNING: {far} of {column.name} lie far from all others; where that stands for a missing value, leave it empty")
    return said
