"""Find, read and rank judged runs, and write the comparison."""

import shlex
from collections.abc import Sequence
from os.path import commonpath
from pathlib import Path
from typing import TYPE_CHECKING

from medgan_pl.compare.tables import as_markdown, as_text, write_csv
from medgan_pl.core.console import say
from medgan_pl.core.files import write_whole
from medgan_pl.core.lock import OTHER_OUTPUT, only_writer
from medgan_pl.core.visible import visible

if TYPE_CHECKING:
    from omegaconf import DictConfig


def split_arguments(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the paths on the command line, and the options: arguments with a dash or plus, and key=value unless a file has that name."""
    options = [
        argument
        for argument in arguments
        if argument.startswith(("-", "+")) or ("=" in argument and not Path(argument).expanduser().exists())
    ]
    return [Path(argument).expanduser() for argument in arguments if argument not in options], options


def compare(paths: Sequence[Path], config: "DictConfig") -> None:
    """Print the table, and write it as Markdown and CSV, with the plot of quality against variety, to `output`."""
    from medgan_pl.compare.evaluated import find, read
    from medgan_pl.compare.plane import draw, points
    from medgan_pl.compare.ranking import rank, summary

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
        commands = "\n  ".join(f"{name}: {how}" for name, how in not_judged.items())
        raise ValueError(f"runs must be judged before they are compared; none of these has a report:\n  {commands}")
    ranking = rank(judged, score)
    ranking.unranked.update(not_judged)
    in_plane = points(ranking.runs, list(config.plane))
    lines = summary(ranking)
    if not in_plane:
        lines.append(f"plane.png was not drawn: no ranked run has both {' and '.join(config.plane)}.")
    print(as_text(ranking, lines))
    with only_writer(output, OTHER_OUTPUT):
        write_whole(output / "comparison.md", as_markdown(ranking, lines, picture=bool(in_plane)).encode())
        write_csv(ranking, output / "comparison.csv")
        (output / "plane.png").unlink(missing_ok=True)  # of another comparison
        if in_plane:
            draw(in_plane, output / "plane.png")
    say("", f"{', '.join(sorted(path.name for path in output.iterdir() if path.is_file()))} are in {output}")


def short_names(runs: Sequence[Path]) -> dict[Path, str]:
    """Return each run's path without the part that all have in common; for a single run the last two folders."""
    places = {run: run.resolve() for run in runs}
    shared = Path(commonpath([place.parent for place in places.values()])) if len(runs) > 1 else next(iter(places.values())).parent.parent
    return {run: visible(str(place.relative_to(shared))) for run, place in places.items()}


def how_to_judge(run: Path) -> str:
    for name in ("best.ckpt", "last.ckpt"):
        if (run / "checkpoints" / name).is_file():
            return f"not judged: python -m medgan_pl.evaluate {shlex.quote(f'checkpoint={run}/checkpoints/{name}')}"
    return "not judged, and there is no checkpoint to judge: did the run fail?"
