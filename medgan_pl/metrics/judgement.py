"""A judgement: the content of metrics.json, which `evaluate` writes and `report` and `compare` read.

metrics.json:

- `format`: FORMAT. `created`: ISO 8601. `version`: of medgan_pl.
- `subject`: the target that is judged: `kind` (checkpoint, folder, baseline), `name`, `path`; of a checkpoint also `sha256`, `model`,
  `images_seen`.
- `data`: the reals: `title`, `phantom`, `modality`, `unit`, `classes` (names), `size`, `channels`, `spatial_dims`, `split_hash`; `counts`
  and `patients`, each of `train`, `reference`, `floor`, `fake` (patients: not of fake); `per_class`: class -> images of the reference.
- `spaces`: name of an extractor -> its `rules`.
- `settings`: the configuration of the judgement. `run`: that of the training, {} if there is none.
- `verdicts`: group -> {`mark`: good, doubtful, bad or unknown; `text`: a sentence or two in plain language}.
- `results`: rows, as `Result.plain` gives them.
- `notes`: sentences a reader must see: what was left out, what is not to be trusted.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from medgan_pl.core.untrusted import MAX_VALUES, require, shown, walk
from medgan_pl.metrics.catalogue import CATALOGUE
from medgan_pl.metrics.result import Result

FORMAT = 1
TABLES = ("subject", "data", "spaces", "settings", "run", "verdicts")


@dataclass(frozen=True)
class Judgement:
    """The content of metrics.json; the keys are explained at the head of this file."""

    subject: dict[str, Any]
    data: dict[str, Any]
    spaces: dict[str, Any]
    settings: dict[str, Any]
    run: dict[str, Any]
    verdicts: dict[str, Any]
    results: list[Result]
    created: str = ""
    version: str = ""
    notes: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Return the content of metrics.json in plain containers, in the order of its keys."""
        return {
            "format": FORMAT,
            "created": self.created,
            "version": self.version,
            **{key: getattr(self, key) for key in TABLES},
            "results": [result.plain() for result in self.results],
            "notes": list(self.notes),
        }

    @classmethod
    def from_plain(cls, content: Any) -> "Judgement":
        """Return the judgement of plain containers, which may come from any file.

        Raises ValueError for content of another format, a metric that is not in the catalogue, and numbers that are not finite; KeyError
        for a missing key.
        """
        validate(content)
        texts = {key: content.get(key, "") for key in ("created", "version")}
        results = [Result.from_plain(row) for row in content["results"]]
        return cls(**{key: content[key] for key in TABLES}, results=results, notes=content.get("notes", []), **texts)


def validate(content: Any) -> None:
    """Raise ValueError unless the plain containers are a judgement, KeyError for a missing key."""
    require(isinstance(content, dict), f"it must have names and values, got {shown(content)}")
    require(content["format"] == FORMAT, f"its format must be {FORMAT}, got {shown(content['format'])}: use the version that wrote it")
    require(isinstance(content["results"], list), f"'results' must be a list of rows, got {shown(content['results'])}")
    for row in content["results"]:
        validate_row(row)
    for name, value in walk(content, MAX_VALUES):
        require(not isinstance(value, float) or math.isfinite(value), f"{shown(name)} must be finite, got {value}")
    for key in TABLES:
        require(isinstance(content[key], dict), f"{key!r} must have names and values, got {shown(content[key])}")
    for key in ("created", "version"):
        require(isinstance(content.get(key, ""), str), f"{key!r} must be a text, got {shown(content.get(key))}")
    notes = content.get("notes", [])
    require(isinstance(notes, list) and all(isinstance(note, str) for note in notes), "'notes' must be a list of texts")


def validate_row(row: Any) -> None:
    """Raise ValueError unless the row of plain values is a result of the catalogue, KeyError for a missing key."""
    require(isinstance(row, dict), f"a result must have names and values, got {shown(row)}")
    require(isinstance(row["key"], str) and row["key"] in CATALOGUE, f"it has a result of an unknown kind, {shown(row['key'])}")
    name = shown(row.get("name", row["key"]))
    texts = ("name", "space", "label", "undefined", "unordered", "unit")
    require(all(isinstance(row.get(key, ""), str) for key in texts), f"the texts of {name} must be texts")
    for key in ("estimate", "floor"):
        ends = row[key]
        require(
            ends is None or (isinstance(ends, dict) and set(ends) == {"value", "low", "high"}),
            f"{key} of {name} must be value, low and high",
        )
        _require_numbers((ends or {}).values(), f"{key} of {name}")
    ladder = row.get("ladder", {})
    require(isinstance(ladder, dict), f"the ladder of {name} must have severity levels and numbers, got {shown(ladder)}")
    noise = row.get("noise")
    _require_numbers([*ladder.values(), *([] if noise is None else [noise])], f"the ladder and the noise of {name}")
    require(all(type(row.get(key, 0)) is int for key in ("n_fake", "n_real")), f"the counts of {name} must be whole numbers")


def _require_numbers(values: Iterable[Any], what: str) -> None:
    """Raise ValueError unless all values are finite numbers; JSON's true and false are not."""
    bad = [value for value in values if type(value) not in (int, float) or not math.isfinite(value)]
    require(
        not bad,
        f"{what} must be finite numbers, got {', '.join(map(shown, bad))}; if it cannot be measured, give the reason in 'undefined'",
    )
