"""The rows of a judgement in the order and the groups of a report."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from medgan_pl.metrics.catalogue import CATALOGUE, GROUPS, Entry

Judgement = Mapping[str, Any]  # the content of metrics.json, see medgan_pl.metrics.judgement
Row = Mapping[str, Any]
Metrics = list[tuple[Entry, list[Row]]]


def numbers_of(row: Row) -> list[float]:
    """Return all numbers of one row: value and floor with their intervals, the ladder and the noise."""
    ends = [value for key in ("estimate", "floor") for value in (row[key] or {}).values()]
    return [*ends, *row["ladder"].values(), *([] if row["noise"] is None else [row["noise"]])]


def entry(row: Row) -> Entry:
    """Return the catalogue's entry for the metric of a row."""
    return CATALOGUE[row["key"]]


def has_comparison(row: Row) -> bool:
    """Return True if the row has a floor, a ladder or a value for noise to compare its own value with."""
    return row["floor"] is not None or row["noise"] is not None or bool(row["ladder"])


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Return the rows in the order of the catalogue."""
    order = list(CATALOGUE)
    return sorted(rows, key=lambda row: order.index(row["key"]))


def pooled(judgement: Judgement) -> list[Row]:
    """Return the rows that cover all classes together, in the order of the catalogue."""
    return ordered([row for row in judgement["results"] if not row["label"]])


def by_metric(rows: Sequence[Row]) -> Metrics:
    """Return for each metric its catalogue entry and its rows, in the order of the catalogue."""
    return [(CATALOGUE[key], list(same)) for key, same in groupby(ordered(rows), key=lambda row: row["key"])]


def grouped(judgement: Judgement) -> dict[str, tuple[Metrics, Metrics]]:
    """Map each group that has rows to the metrics of all classes together and the metrics of single classes."""
    groups = {}
    for group in GROUPS:
        rows = [row for row in judgement["results"] if entry(row).group == group]
        if rows:
            groups[group] = by_metric([row for row in rows if not row["label"]]), by_metric([row for row in rows if row["label"]])
    return groups


def severity_levels(rows: Sequence[Row]) -> list[str]:
    """Return the names of the severity levels of all ladders, the mildest first, each once."""
    return list(dict.fromkeys(level for row in rows for level in row["ladder"]))
