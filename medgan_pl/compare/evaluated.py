"""Runs and their reports: found in the folders of a sweep, and validated when read, because reports come from other people too."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medgan_pl.core.untrusted import require
from medgan_pl.metrics.judgement import Judgement
from medgan_pl.metrics.result import Result

REPORT = "report/metrics.json"  # in a run folder, as evaluate writes it
OF_A_RUN = ("checkpoints", "overrides.yaml", "train.log")  # any of them makes a folder a run
OF_A_SWEEP = ("multirun.yaml", "sweep.csv", "sweep.png", "study.db")  # in the folder of a sweep, where a * matches them too
DEEPEST = 3  # levels below a folder at which a run may lie: multirun/<date>/<time>/<n>
MAX_BYTES = 2**26  # of a metrics.json, far above a usual one


@dataclass(frozen=True)
class EvaluatedRun:
    """A run with its judgement: `results` by name; `privacy`: mark and text of the verdict on privacy."""

    name: str
    path: Path
    judgement: Judgement
    results: Mapping[str, Result]
    privacy: tuple[str, str]


def find(paths: Iterable[Path]) -> dict[Path, Path | None]:
    """Return each run below `paths`, in their order, with its metrics.json, None if it was not judged.

    A path is a run folder, a folder of such folders, the folder of a report, or a metrics.json. Raises FileNotFoundError for a path
    that does not exist, and ValueError for one that is none of these.
    """
    found: dict[Path, Path | None] = {}
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"each path must be a run folder, or a folder of runs; there is no {path}")
        if path.is_file() and path.name in OF_A_SWEEP:
            continue
        runs = runs_below(path)
        if not runs:
            raise ValueError(f"each path must be a run folder, a folder of runs, or a metrics.json; {path} is none and contains none")
        for folder, report in runs:
            known = [run for run, other in found.items() if run.resolve() == folder.resolve() or (report and other == report)]
            if not known:
                found[folder] = report
    return found


def runs_below(path: Path, depth: int = 0) -> list[tuple[Path, Path | None]]:
    """Return the runs at most DEEPEST levels below a path, the path included, with their reports."""
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
    return [run for folder in folders for run in runs_below(folder, depth + 1)] if depth < DEEPEST else []


def read(path: Path, name: str) -> EvaluatedRun:
    """Return the report in a metrics.json. Raises ValueError, with the file and what is wrong, for any other content."""
    try:
        require(path.stat().st_size <= MAX_BYTES, f"it must have at most {MAX_BYTES} bytes")
        judgement = Judgement.from_plain(json.loads(path.read_bytes()))
        verdict = judgement.verdicts.get("privacy", {"mark": "unknown", "text": ""})
        privacy = str(verdict["mark"]), str(verdict["text"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} must be a metrics.json that medgan_pl.evaluate wrote; it is not: {why[:500]}") from error
    return EvaluatedRun(name, path, judgement, {result.name: result for result in judgement.results}, privacy)
