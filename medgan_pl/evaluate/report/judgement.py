"""The rows of a judgement as a report needs them: in their groups, each with its catalogue entry."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from medgan_pl.metrics.catalogue import CATALOGUE, GROUPS, Entry

Judgement = Mapping[str, Any]  # metrics.json, see medgan_pl.metrics.result
Row = Mapping[str, Any]

UNKNOWN = "not recorded"
DIRECTIONS = {"lower": "↓ lower is better", "higher": "↑ higher is better", "floor": "◎ right where held-out reals are"}


def validate(judgement: Judgement) -> None:
    """Raises ValueError for a metric that the catalogue does not know, and for NaN or infinity: neither can be explained to a reader."""
    for row in judgement["results"]:
        if row["key"] not in CATALOGUE:
            raise ValueError(f"every metric must stand in medgan_pl/metrics/catalogue.py, got `{row['key']}`; add an entry for it")
        bad = [value for value in numbers_of(row) if not math.isfinite(value)]
        if bad:
            raise ValueError(f"the numbers of `{row['name']}` must be finite, got {bad[0]}; mark it undefined and say why")


def numbers_of(row: Row) -> list[float]:
    """All values of one row: its own, the floor's and their intervals, the ladder's, the noise's."""
    ends = [value for key in ("estimate", "floor") for value in (row[key] or {}).values()]
    return [*ends, *row["ladder"].values(), *([] if row["noise"] is None else [row["noise"]])]


def entry(row: Row) -> Entry:
    return CATALOGUE[row["key"]]


def compared(row: Row) -> bool:
    """Whether there is anything beside the value itself."""
    return row["floor"] is not None or row["noise"] is not None or bool(row["ladder"])


def pooled(judgement: Judgement) -> list[Row]:
    """The rows of all classes together, in the order of the catalogue."""
    return _ordered([row for row in judgement["results"] if not row["label"]])


def grouped(judgement: Judgement) -> Iterator[tuple[str, list[Row], list[Row]]]:
    """Of each group that has rows: its name, the pooled rows and those of single classes."""
    for group in GROUPS:
        rows = [row for row in judgement["results"] if entry(row).group == group]
        if rows:
            yield group, _ordered([row for row in rows if not row["label"]]), _ordered([row for row in rows if row["label"]])


def rungs_of(rows: Sequence[Row]) -> list[str]:
    """The names of the rungs of all ladders, the best first, each once."""
    return list(dict.fromkeys(rung for row in rows for rung in row["ladder"]))


def recorded(container: Mapping[str, Any], key: str) -> str:
    """The value as text, or that there is none."""
    value = container.get(key)
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def called(subject: Mapping[str, Any]) -> str:
    """A short name without a path: of a checkpoint its model, else what it was given as."""
    return str(subject.get("model") or PurePath(subject.get("name") or UNKNOWN).name)


def size_of(data: Mapping[str, Any]) -> str:
    size = data.get("size")
    if size is None:
        return UNKNOWN
    channels = data.get("channels")
    sides = " × ".join(map(str, size if isinstance(size, (list, tuple)) else [size] * data.get("spatial_dims", 2)))
    return f"{sides} {'voxels' if data.get('spatial_dims') == 3 else 'pixels'}" + (f", {channels} channels" if (channels or 1) > 1 else "")


def day(created: str) -> str:
    """2026-11-21T09:30:00+00:00 -> 2026-11-21 09:30."""
    return created[:16].replace("T", " ")


def _ordered(rows: list[Row]) -> list[Row]:
    order = list(CATALOGUE)
    return sorted(rows, key=lambda row: order.index(row["key"]))
