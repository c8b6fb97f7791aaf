"""Runs and their reports: found in the folders of a sweep, and read without trusting them, for a report travels with a run."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan_pl.core.safe_load import MOST_VALUES, hold, shown, walk
from medgan_pl.metrics.catalogue import CATALOGUE
from medgan_pl.metrics.result import FORMAT, Result

REPORT = "report/metrics.json"  # in a run folder, where evaluate writes it
OF_A_RUN = ("checkpoints", "overrides.yaml", "train.log")  # any of them makes a folder a run
OF_A_SWEEP = ("multirun.yaml", "sweep.csv", "sweep.png", "study.db")  # beside the runs in the folder of a sweep, where a * finds them too
DEEPEST = 3  # levels below a folder at which a run may lie: multirun/<date>/<time>/<n>
MOST_BYTES = 2**26  # of a metrics.json, far above what one has


@dataclass(frozen=True)
class Judged:
    """A run as its report tells of it: `results` by name, the rest as `evaluation/result.py` says; `privacy`: the mark, and its text."""

    name: str
    path: Path
    results: Mapping[str, Result]
    subject: Mapping[str, Any]
    data: Mapping[str, Any]
    spaces: Mapping[str, Any]
    settings: Mapping[str, Any]
    run: Mapping[str, Any]
    privacy: tuple[str, str]


def find(paths: Iterable[Path]) -> dict[Path, Path | None]:
    """Each run below `paths`, in their order, with its metrics.json, None where it was not judged.

    A path is a run folder, a folder of such folders, the folder of a report, or a metrics.json. FileNotFoundError for a path that is not
    there, ValueError for one that is none of these.
    """
    found: dict[Path, Path | None] = {}
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"each path must be a run folder, or a folder of runs; there is no {path}")
        if path.is_file() and path.name in OF_A_SWEEP:
            continue
        runs = below(path)
        if not runs:
            raise ValueError(f"each path must be a run folder, a folder of runs, or a metrics.json; {path} is none and holds none")
        for folder, report in runs:
            known = [run for run, other in found.items() if run.resolve() == folder.resolve() or (report and other == report)]
            if not known:
                found[folder] = report
    return found


def below(path: Path, depth: int = 0) -> list[tuple[Path, Path | None]]:
    """The runs at most DEEPEST levels below a path, itself one of them, with their reports."""
    if path.is_file():
        folder = path.parent
        return [(folder.parent if folder.name == "report" else folder, path)] if path.suffix == ".json" else []
    if (path / REPORT).is_file():
        return [(path, path / REPORT)]
    if (path / "metrics.json").is_file():
        return [(path.parent if path.name == "report" else path, path / "metrics.json")]
    if any((path / name).exists() for name in OF_A_RUN):
        return [(path, None)]
    folders = sorted((each for each in path.iterdir() if each.is_dir()), key=lambda each: (len(each.name), each.name))
    return [run for folder in folders for run in below(folder, depth + 1)] if depth < DEEPEST else []


def read(path: Path, name: str) -> Judged:
    """The report in a metrics.json. ValueError, with the file and what is wrong, for one that is none."""
    try:
        hold(path.stat().st_size <= MOST_BYTES, f"it must have at most {MOST_BYTES} bytes")
        report = json.loads(path.read_bytes())
        hold(isinstance(report, dict), f"it must hold names and values, got {shown(report)}")
        hold(report["format"] == FORMAT, f"its format must be {FORMAT}, got {shown(report['format'])}: use the version that wrote it")
        for where, value in walk(report, MOST_VALUES):
            hold(not isinstance(value, float) or math.isfinite(value), f"{shown(where)} must be finite, got {value}")
        tables = {key: report[key] for key in ("subject", "data", "spaces", "settings", "run", "verdicts")}
        for key, table in tables.items():
            hold(isinstance(table, dict), f"{key!r} must hold names and values, got {shown(table)}")
        verdict = tables.pop("verdicts").get("privacy", {"mark": "unknown", "text": ""})
        results = [checked(Result.from_plain(row)) for row in report["results"]]
        privacy = str(verdict["mark"]), str(verdict["text"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} must be a metrics.json that medgan_pl.evaluate wrote; it is not: {why[:500]}") from error
    return Judged(name, path, {result.name: result for result in results}, **tables, privacy=privacy)


def checked(result: Result) -> Result:
    hold(result.key in CATALOGUE, f"it has a result of an unknown kind, {shown(result.key)}")
    texts = (result.space, result.label, result.undefined, result.unordered)
    hold(all(isinstance(text, str) for text in texts), f"the texts of {result.key} must be texts")
    for estimate in (result.estimate, result.floor):
        numbers = [] if estimate is None else [estimate.value, estimate.low, estimate.high]
        hold(all(type(number) in (int, float) for number in numbers), f"{result.name} must be numbers, got {shown(numbers)}")
    hold(all(type(count) is int for count in (result.n_fake, result.n_real)), f"the counts of {result.name} must be whole numbers")
    return result
