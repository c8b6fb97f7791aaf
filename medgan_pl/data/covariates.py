"""What is known of a patient beside the images (age, sex, a finding): from the texts of a table to the standardised numbers of a batch."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

# Written for a value that is not known; also what `medgan_pl.sample` takes for one.
MISSING = ("", "na", "n/a", "nan", "unknown")
MOST_LETTERS = 64  # of a name and of a level
NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9_-]{{0,{MOST_LETTERS - 1}}}")  # one that can stand on a command line: covariates.age=70
TAKEN = ("image", "label", "patient", "split")
# The range that is remembered: the ends themselves would be the values of two patients.
RANGE_PERCENT = (1, 99)
FAR_QUARTILES = 10  # a value as many times the distance of the quartiles off is rather a code for a missing one
DIGITS = 4  # of a value that is drawn, so that it can be asked for again


@dataclass(frozen=True)
class Covariate:
    """One column, as the training split has it; nothing of it is of one patient alone.

    - `mean`, `sd`: of the known values; of a column of two values, counted as 0 and 1, `mean` is the share of the second.
    - `low`, `high`: the 1st and the 99th percentile. `missing`: the share of the training records that do not say.
    - `levels`: the two values as they are written, in order, of a column that has no more; else None.
    """

    name: str
    mean: float
    sd: float
    low: float
    high: float
    levels: tuple[str, str] | None
    missing: float

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
        if not self.low - self.sd <= value <= self.high + self.sd:
            raise ValueError(
                f"`covariates.{self.name}` must be near what the model was trained on, {self.low:.4g} to {self.high:.4g} (1st to 99th "
                f"percentile), got {value:g}; nothing it draws there would mean anything"
            )
        return value

    def outside(self, value: float) -> bool:
        return not self.levels and not self.low <= value <= self.high and math.isfinite(value)

    def drawn(self, uniform: float) -> float:
        """A value as common as among the training images, from a number in (0, 1): normal and cut to the range; of two values the one."""
        if self.levels:
            return float(uniform < self.mean)
        return float(f"{min(max(self.mean + self.sd * float(ndtri(uniform)), self.low), self.high):.{DIGITS}g}")

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
        return f"{known}, mean {self.mean:.4g}, sd {self.sd:.4g}, 1st to 99th percentile {self.low:.4g} to {self.high:.4g}"


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
        return cls(tuple(Covariate(**{**each, "levels": pair}) for each, pair in zip(plain, levels, strict=True)))

    def plain(self) -> list[dict[str, Any]]:
        return [asdict(column) | {"levels": column.levels and list(column.levels)} for column in self.columns]

    def standardised(self, values: np.ndarray) -> np.ndarray:
        centre, unit = np.array([column.scale for column in self.columns]).T
        return ((values - centre) / unit).astype(np.float32)

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
            values[row] = [column.drawn(max(u, 1e-12)) for column, u in zip(self.columns, uniform, strict=True)]
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
    return value if math.isfinite(value) else None


def parsed(name: str, texts: Sequence[str], owners: Sequence[str]) -> tuple[np.ndarray, tuple[str, str] | None]:
    """A column's texts as natural numbers (R,), NaN where not known, and its levels if it has two values: those are counted as 0 and 1.

    Raises ValueError for a column that says nothing or always the same, and for text of more than two values; `owners` are the names of
    the records. No value is shown: it is a patient's.
    """
    texts = [text.strip() for text in texts]
    known = [text.casefold() not in MISSING for text in texts]
    numbers = [as_number(text) for text in texts]
    words = [row for row, number in enumerate(numbers) if known[row] and number is None]
    kinds = {text if words else number for text, number, says in zip(texts, numbers, known, strict=True) if says}
    if len(kinds) < 2:
        what = "is the same on every row" if kinds else f"is known of none of {len(texts)}"
        raise ValueError(f"the covariate `{name}` {what}, and a model can learn nothing of it; leave it out of model.covariates")
    if len(kinds) > 2 and words:
        raise ValueError(
            f"the covariate `{name}` must be numbers, or text of two values such as F and M; got {len(kinds)} values of which "
            f"{len(words)} of {len(texts)} rows hold no number, the first that of {owners[words[0]]}; make it the column label, or a "
            "column of 0 and 1 for each value"
        )
    if len(kinds) > 2:
        return np.array([number if says else math.nan for number, says in zip(numbers, known, strict=True)]), None
    first, second = sorted(kinds)
    levels = (str(first), str(second)) if words else (f"{first:.12g}", f"{second:.12g}")
    if max(map(len, levels)) > MOST_LETTERS:
        raise ValueError(f"the values of the covariate `{name}` must have at most {MOST_LETTERS} letters, got {max(map(len, levels))}")
    of_row = texts if words else numbers
    return np.array([float(each == second) if says else math.nan for each, says in zip(of_row, known, strict=True)]), levels


def measured(name: str, values: np.ndarray, levels: tuple[str, str] | None) -> Covariate:
    """The facts of the training split's natural values (R,). Raises ValueError where they are not two at least."""
    known = values[np.isfinite(values)]
    if not len(known) or known.min() == known.max():
        raise ValueError(
            f"the covariate `{name}` {'is the same in' if len(known) else 'is not known in'} the whole training split; leave it out of "
            "model.covariates, or split otherwise"
        )
    low, high = (0.0, 1.0) if levels else map(float, np.percentile(known, RANGE_PERCENT))
    return Covariate(name, float(known.mean()), float(known.std()), low, high, levels, 1 - len(known) / len(values))


def tabulated(
    names: Sequence[str], rows: Sequence[Sequence[str]], owners: Sequence[str], training: np.ndarray
) -> tuple[Covariates, np.ndarray]:
    """The columns `names` of a table of texts (R, K), measured where `training` (R,) holds; and all its natural values (R, K)."""
    columns, values = [], np.empty((len(rows), len(names)))
    for place, name in enumerate(names):
        values[:, place], levels = parsed(name, [row[place] for row in rows], owners)
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
