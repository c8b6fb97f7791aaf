"""Ranks judged runs: `python -m medgan_pl.compare outputs/* score=fd_random`."""

import csv
import shlex
import sys
from collections.abc import Sequence
from os.path import commonpath
from pathlib import Path
from typing import TYPE_CHECKING

from medgan_pl.console import configuration_folder, describe_keys, one_message
from medgan_pl.train import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.evaluation.ranking import Ranking

MANUAL = """\
medgan_pl.compare: rank runs that medgan_pl.evaluate has judged

  python -m medgan_pl.compare PATH … [key=value …]

Examples
  python -m medgan_pl.compare outputs/*
      run folders, folders of run folders, folders of reports, or metrics.json files
  python -m medgan_pl.compare multirun/<date>/<time>/* score=coverage_random
      the children of a sweep by another number; higher or lower is better as docs/evaluation.md says
  python -m medgan_pl.compare outputs/* 'plane=[precision,recall]' output=docs/comparison

Only runs measured alike are ranked: the same held-out patients, size, numbers of images and extractor; the others are named with what
differs. A run whose 95 % interval overlaps that of the first is tied with it. A run that was caught copying is marked.

Keys and their defaults
{keys}
"""


def main() -> None:
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(MANUAL.format(keys=describe_keys(configuration_folder() / "compare.yaml")))
        return
    with one_message(None):
        paths, sys.argv[1:] = told_apart(sys.argv[1:])

        def run(config: "DictConfig") -> None:
            with one_message(None):
                compare(paths, config)

        launch(run, "compare")


def told_apart(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The paths on the command line, and the rest: what begins with a dash, and key=value where no file has that name."""
    options = [
        argument
        for argument in arguments
        if argument.startswith(("-", "+")) or ("=" in argument and not Path(argument).expanduser().exists())
    ]
    return [Path(argument).expanduser() for argument in arguments if argument not in options], options


def compare(paths: Sequence[Path], config: "DictConfig") -> None:
    """Prints the table, and writes it as Markdown and CSV with the plane into `output`."""
    from medgan_pl.evaluation.judged import find, read
    from medgan_pl.evaluation.plane import draw, points
    from medgan_pl.evaluation.ranking import rank, spoken

    if not paths:
        raise ValueError("paths of runs must be given: python -m medgan_pl.compare outputs/*")
    score, output = str(config.score), Path(str(config.output))
    found = find(paths)
    if not found:
        raise ValueError(f"there is no run among {', '.join(map(str, paths))}")
    names = short_names(list(found))
    not_judged = {names[run]: how_to_judge(run) for run, report in found.items() if report is None}
    judged = [read(report, names[run]) for run, report in found.items() if report is not None]
    if not judged:
        told = "\n  ".join(f"{name}: {how}" for name, how in not_judged.items())
        raise ValueError(f"runs must be judged before they are compared; none of these has a report:\n  {told}")
    ranking = rank(judged, score)
    ranking.unranked.update(not_judged)
    in_plane = points(ranking.runs, list(config.plane))
    lines = spoken(ranking)
    if not in_plane:
        lines.append(f"plane.png was not drawn: no ranked run has both {' and '.join(config.plane)}.")
    print(as_text(ranking, lines))
    output.mkdir(parents=True, exist_ok=True)
    (output / "comparison.md").write_text(as_markdown(ranking, lines, picture=bool(in_plane)), encoding="utf-8")
    write_csv(ranking, output / "comparison.csv")
    (output / "plane.png").unlink(missing_ok=True)  # of another comparison
    if in_plane:
        draw(in_plane, output / "plane.png")
    print(f"\n{', '.join(sorted(path.name for path in output.iterdir() if path.is_file()))} are in {output}")


def short_names(runs: Sequence[Path]) -> dict[Path, str]:
    """Each run's path without what all have in common; of one run alone the last two folders."""
    places = {run: run.resolve() for run in runs}
    shared = Path(commonpath([place.parent for place in places.values()])) if len(runs) > 1 else next(iter(places.values())).parent.parent
    return {run: printable(str(place.relative_to(shared))) for run, place in places.items()}


def how_to_judge(run: Path) -> str:
    for name in ("best.ckpt", "last.ckpt"):
        if (run / "checkpoints" / name).is_file():
            return f"not judged: python -m medgan_pl.evaluate {shlex.quote(f'checkpoint={run}/checkpoints/{name}')}"
    return "not judged, and there is no checkpoint to judge: did the run fail?"


# The table ------------------------------------------------------------------------------------------------------------------------


def cells(ranking: "Ranking") -> list[list[str]]:
    """The table in texts, its head first: the ranked runs, then the others."""
    from medgan_pl.evaluation.ranking import differing, told

    settings = differing([run.judged for run in ranking.runs])
    rows = [["", "run", f"{ranking.score} (95 % interval)", "floor", "privacy", "differs in"]]
    for place, run in enumerate(ranking.runs, 1):
        floor = f"{run.result.floor.value:.4g}" if run.result.floor else ""
        privacy = "CAUGHT COPYING" if run.caught else run.judged.privacy[0]
        own = " ".join(f"{key}={value}" for key, value in settings[run.judged.name].items())
        rows.append([f"{place}{' =' if run.tied else ''}", run.judged.name, told(run.estimate), floor, privacy, own])
    rows = [[printable(cell) for cell in row] for row in rows]
    return [row if any(each[-1] for each in rows[1:]) else row[:-1] for row in rows]


def as_text(ranking: "Ranking", lines: Sequence[str]) -> str:
    rows = cells(ranking)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    table.insert(1, "  ".join("-" * width for width in widths))
    left = [f"not ranked  {name}: {printable(why)}" for name, why in ranking.unranked.items()]
    return "\n".join([*table, "", *(printable(line) for line in lines), *left])


def as_markdown(ranking: "Ranking", lines: Sequence[str], picture: bool) -> str:
    head, *rows = [[marked(cell) for cell in row] for row in cells(ranking)]
    table = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    parts = [f"# Comparison by {marked(ranking.score)}", "\n".join(table), *(marked(printable(line)) for line in lines)]
    if ranking.unranked:
        left = [f"- {marked(name)}: {marked(printable(why))}" for name, why in ranking.unranked.items()]
        parts.append("\n".join(["Not ranked:", "", *left]))
    if picture:
        parts.append("![Each run in the plane of quality and variety](plane.png)")
    return "\n\n".join(parts) + "\n"


def write_csv(ranking: "Ranking", path: Path) -> None:
    from medgan_pl.evaluation.ranking import differing

    settings = differing([run.judged for run in ranking.runs])
    keys = list(next(iter(settings.values()), {}))
    own = ("place", "tied", "run", "score", "value", "low", "high", "floor", "floor_low", "floor_high", "n_fake", "n_real", "privacy")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*own, "path", "why_not_ranked", *(f"set:{key}" for key in keys)], restval="", lineterminator="\n")
        writer.writeheader()
        for place, run in enumerate(ranking.runs, 1):
            estimate, floor, result = run.estimate, run.result.floor, run.result
            row = {"place": place, "tied": "yes" if run.tied else "no", "run": inert(run.judged.name), "score": inert(ranking.score)}
            row |= {"value": estimate.value, "low": estimate.low, "high": estimate.high}
            row |= {"floor": floor.value, "floor_low": floor.low, "floor_high": floor.high} if floor else {}
            row |= {"n_fake": result.n_fake, "n_real": result.n_real, "privacy": inert(run.judged.privacy[0])}
            row |= {"path": inert(str(run.judged.path))} | {f"set:{key}": inert(value) for key, value in settings[run.judged.name].items()}
            writer.writerow(row)
        writer.writerows({"run": inert(name), "why_not_ranked": inert(why)} for name, why in ranking.unranked.items())


def printable(text: str) -> str:
    """On one line, without what moves a terminal's cursor: names and reasons come out of files."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def marked(text: str) -> str:
    """As Markdown shows it: nothing in it makes a cell, a link or HTML."""
    return "".join(f"\\{letter}" if letter in r"\|`*[]<>" else letter for letter in text)


def inert(text: str) -> str:
    """As a cell that no spreadsheet takes for a formula; a number stays one."""
    text = printable(text)
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
    return text


if __name__ == "__main__":
    main()
