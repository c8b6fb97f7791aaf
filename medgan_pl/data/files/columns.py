"""Convert the columns of a table to covariates: the accepted names, texts and numbers."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from medgan_pl.core.visible import visible
from medgan_pl.data.files.covariates import MISSING, PERCENT, Covariate, Covariates, as_number, rounded
from medgan_pl.data.files.records import Record

MAX_LETTERS = 64  # of a name and of a level
NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9_-]{{0,{MAX_LETTERS - 1}}}")  # can be written on a command line: covariates.age=70
TAKEN = ("image", "label", "patient", "split")
# A column with at most FEW values, each shared by SHARED_BY records on average, holds counts or grades: no value between them is drawn.
FEW, SHARED_BY = 20, 5
FAR_QUARTILES = 10  # a value this many interquartile ranges from the median is probably a code for a missing one


def check_names(names: Any) -> tuple[str, ...]:
    """Return the names of columns. Raise ValueError unless they are different names that can be written on a command line."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ValueError(f"`model.covariates` must be a list of names, such as [age,sex], got {names!r}")
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in TAKEN:
            raise ValueError(
                f"a name in `model.covariates` must be at most {MAX_LETTERS} letters, digits, _ and -, and none of {', '.join(TAKEN)}; "
                f"got {name!r}; rename the column"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"`model.covariates` must name each column once, got {', '.join(names)}")
    return tuple(names)


def parsed(name: str, texts: Sequence[str], owners: Sequence[str], training: np.ndarray) -> tuple[np.ndarray, tuple[str, str] | None]:
    """Return a column's texts as natural numbers (R,), NaN where unknown, and its levels if it has two, counted as 0 and 1.

    The records of `training` (R,) decide whether the column has two levels or numbers. `owners` are the names of the records.
    Raise ValueError for a column that is empty or constant in training, for text of more than two values, for values that differ only in
    case, and for a value of another kind outside training. No message shows a value, as it is a patient's.
    """
    texts = [visible(text.strip()) for text in texts]
    known = [row for row, text in enumerate(texts) if text.casefold() not in MISSING]
    learned = [row for row in known if training[row]]
    words = [row for row in learned if as_number(texts[row]) is None]
    read = {row: texts[row] if words else as_number(texts[row]) for row in known}
    kinds = {read[row] for row in learned}
    check_kinds(name, kinds, [texts[row] for row in learned], [owners[row] for row in words])
    strange = [row for row in known if read[row] is None or (len(kinds) == 2 and read[row] not in kinds)]
    if strange:
        kind = "one of the two values of" if len(kinds) == 2 else "a number as in"
        raise ValueError(
            f"the covariate `{name}` must be {kind} the training split; it is not on {len(strange)} other rows, the first that of "
            f"{owners[strange[0]]}; leave it empty if unknown, or split so that training has all values"
        )
    if len(kinds) > 2:
        return np.array([read.get(row, math.nan) for row in range(len(texts))]), None
    first, second = sorted(kinds)
    levels = tuple(value if words else np.format_float_positional(value, trim="-") for value in (first, second))
    if max(map(len, levels)) > MAX_LETTERS:
        raise ValueError(f"the values of the covariate `{name}` must have at most {MAX_LETTERS} letters, got {max(map(len, levels))}")
    return np.array([float(read[row] == second) if row in read else math.nan for row in range(len(texts))]), levels


def check_kinds(name: str, kinds: set[Any], known: Sequence[str], no_numbers: Sequence[str]) -> None:
    """Raise ValueError unless a model can learn from the training split's `kinds` of values, written as in `known`. `no_numbers` are the
    owners of those that are text."""
    if len(kinds) < 2:
        what = "is the same in" if kinds else "is not known in"
        raise ValueError(
            f"the covariate `{name}` {what} the whole training split, where {', '.join(MISSING[1:])} count as unknown, and a model can "
            "learn nothing from it; leave it out of model.covariates, or split differently"
        )
    if no_numbers and len({kind.casefold() for kind in kinds}) < len(kinds):
        raise ValueError(
            f"the covariate `{name}` must write each value in one way, but some of its values differ only in case; write F or f, not both"
        )
    if no_numbers and len(kinds) > 2:
        advice = "make it the column label, or a column of 0 and 1 for each value"
        if 2 * sum(text[0].isdigit() for text in known) > len(known):
            advice = "leave it empty if unknown, and write 70, not 070Y or 70,5"
        raise ValueError(
            f"the covariate `{name}` must be numbers, or text of two values such as F and M; got {len(kinds)} values of which "
            f"{len(no_numbers)} of {len(known)} rows hold no number, the first that of {no_numbers[0]}; {advice}"
        )


def measured(name: str, values: np.ndarray, levels: tuple[str, str] | None) -> Covariate:
    """Return the facts about the training split's natural values (R,), at least two of which differ."""
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
    """Return the columns `names` of a table of texts (R, K), measured where `training` (R,) is True, and all natural values (R, K)."""
    columns, values = [], np.empty((len(rows), len(names)))
    for place, name in enumerate(names):
        values[:, place], levels = parsed(name, [row[place] for row in rows], owners, training)
        columns.append(measured(name, values[training, place], levels))
    return Covariates(tuple(columns)), values


def odd_values(covariates: Covariates, values: np.ndarray) -> list[str]:
    """Return a line for each column of natural values (R, K) with values that look like codes for missing ones, such as 999 years."""
    said = []
    for column, given in zip(covariates.columns, values.T, strict=True):
        low, middle, high = np.nanpercentile(given, (25, 50, 75))
        far = int((np.abs(given - middle) > FAR_QUARTILES * (high - low)).sum()) if high > low and not column.levels else 0
        if far:
            said.append(f"WARNING: {far} of {column.name} are far from all others; if such a value means missing, leave it empty")
    return said


def of_records(names: Sequence[str], records: Sequence[Record]) -> tuple[Covariates, np.ndarray | None, np.ndarray | None]:
    """Return the covariates `names`, measured on the training records, and their values (R, K), natural and standardized.

    The values are None without covariates. Raise ValueError as `tabulated`.
    """
    if not names:
        return Covariates(), None, None
    training = np.array([record.split == "train" for record in records])
    rows, owners = [record.covariates for record in records], [record.name for record in records]
    covariates, known = tabulated(names, rows, owners, training)
    return covariates, known, covariates.standardize(known)
