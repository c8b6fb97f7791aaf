"""The comparison as text, Markdown and CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medgan_pl.core.files import atomically
from medgan_pl.core.visible import cell, visible

if TYPE_CHECKING:
    from medgan_pl.compare.ranking import Ranking


# The table ------------------------------------------------------------------------------------------------------------------------


def cells(ranking: "Ranking") -> list[list[str]]:
    """Return the table of the ranked runs as texts, its head first."""
    from medgan_pl.compare.ranking import differences, with_interval

    settings = differences([run.evaluated for run in ranking.runs])
    rows = [["", "run", f"{ranking.score} (95 % interval)", "floor", "privacy", "differs in"]]
    for place, run in enumerate(ranking.runs, 1):
        floor = f"{run.result.floor.value:.4g}" if run.result.floor else ""
        privacy = "CAUGHT COPYING" if run.caught else run.evaluated.privacy[0]
        own = " ".join(f"{key}={value}" for key, value in settings[run.evaluated.name].items())
        rows.append([f"{place}{' =' if run.tied else ''}", run.evaluated.name, with_interval(run.estimate), floor, privacy, own])
    rows = [[visible(text) for text in row] for row in rows]
    return [row if any(each[-1] for each in rows[1:]) else row[:-1] for row in rows]


def as_text(ranking: "Ranking", lines: Sequence[str]) -> str:
    rows = cells(ranking)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    table.insert(1, "  ".join("-" * width for width in widths))
    unranked = [visible(f"not ranked  {name}: {why}") for name, why in ranking.unranked.items()]
    return "\n".join([*table, "", *(visible(line) for line in lines), *unranked])


def as_markdown(ranking: "Ranking", lines: Sequence[str], picture: bool) -> str:
    head, *rows = [[markdown(text) for text in row] for row in cells(ranking)]
    table = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    parts = [f"# Comparison by {markdown(visible(ranking.score))}", "\n".join(table), *(markdown(visible(line)) for line in lines)]
    if ranking.unranked:
        left = [f"- {markdown(visible(name))}: {markdown(visible(why))}" for name, why in ranking.unranked.items()]
        parts.append("\n".join(["Not ranked:", "", *left]))
    if picture:
        parts.append("![Each run by quality and variety](plane.png)")
    return "\n\n".join(parts) + "\n"


def write_csv(ranking: "Ranking", path: Path) -> None:
    from medgan_pl.compare.ranking import differences

    settings = differences([run.evaluated for run in ranking.runs])
    keys = list(next(iter(settings.values()), {}))
    own = ("place", "tied", "run", "score", "value", "low", "high", "floor", "floor_low", "floor_high", "n_fake", "n_real", "privacy")
    with atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, [*own, "path", "why_not_ranked", *(cell(f"set:{key}") for key in keys)], restval="", lineterminator="\n"
        )
        writer.writeheader()
        for place, run in enumerate(ranking.runs, 1):
            estimate, floor, result = run.estimate, run.result.floor, run.result
            row = {
                "place": place,
                "tied": "yes" if run.tied else "no",
                "run": cell(run.evaluated.name),
                "score": cell(ranking.score),
            }
            row |= {"value": estimate.value, "low": estimate.low, "high": estimate.high}
            row |= {"floor": floor.value, "floor_low": floor.low, "floor_high": floor.high} if floor else {}
            row |= {"n_fake": result.n_fake, "n_real": result.n_real, "privacy": cell(run.evaluated.privacy[0])}
            row |= {"path": cell(str(run.evaluated.path))} | {
                cell(f"set:{key}"): cell(value) for key, value in settings[run.evaluated.name].items()
            }
            writer.writerow(row)
        writer.writerows({"run": cell(name), "why_not_ranked": cell(why)} for name, why in ranking.unranked.items())


def markdown(text: str) -> str:
    """Return the text escaped for Markdown, so that nothing in it makes a cell, a link or HTML."""
    return "".join(f"\\{letter}" if letter in r"\|`*[]<>" else letter for letter in text)
