"""The children of a sweep: a failed child does not end the sweep, a finished child is not run again, and a table shows all of them."""

import csv
import gc
import io
import json
import math
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import env_override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from medgan_pl.core.console import log, one_message, root_cause, say
from medgan_pl.core.files import read_table, write_whole
from medgan_pl.core.visible import cell, visible
from medgan_pl.train.sweeps.folders import check_inside, job_of, keep_inside, register, runs_in
from medgan_pl.train.sweeps.tpe import TPE, Tpe


def child(task: Callable[[], float], *, run: Path, sweep: Path, overrides: list[str]) -> float:
    """Run one child of a sweep in the folder `run`. Return the best value of `monitor`, or NaN if the child failed.

    The outcome is stored in `run`/result.json (unfinished while the child runs and after a kill), and the tables in `sweep` are written
    again, whole, because children in several processes write the same ones. A child that finished before with the same overrides is not
    run again. Ctrl-C, signals (SystemExit above 128) and submitit's exit (-1, after it has queued the job again) are passed on, because
    they end more than the child. Raise ValueError for a folder outside `sweep`.
    """
    check_inside(run, sweep)
    file = run / "result.json"
    before = json.loads(file.read_text()) if file.is_file() else {}
    if before.get("status") == "finished" and before["overrides"] == overrides:
        log.info("finished before: %s", run)
        return before["best"]
    result: dict[str, Any] = {"status": "unfinished", "overrides": overrides, "best": None, "error": ""}
    write_whole(file, json.dumps(result).encode())
    try:
        with env_override({"WANDB_RUN_GROUP": os.environ.get("WANDB_RUN_GROUP", sweep.name)}), one_message(run / "train.log"):
            result["best"] = task()
            if not math.isfinite(result["best"]):
                raise FloatingPointError(f"the best value of `monitor` must be finite, got {result['best']}; was there a validation?")
        result["status"] = "finished"
    except (Exception, SystemExit) as end:
        if isinstance(end, SystemExit) and isinstance(end.code, int) and not 0 <= end.code <= 128:
            log.info("to resume: the same command with hydra.sweep.dir=%s", sweep)
            raise
        if isinstance(end, Exception):  # with MEDGAN_TRACEBACK=1; otherwise one_message has printed it and raised SystemExit
            log.exception("this child failed; the sweep continues")
        cause = root_cause(end.__context__ or end if isinstance(end, SystemExit) else end)
        result |= {"status": "failed", "best": None, "error": " ".join(f"{type(cause).__name__}: {cause}".split())}
    finally:
        write_whole(file, json.dumps(result).encode())
        tabulate(sweep)
        gc.collect()  # a run refers to itself: its files stay open and its memory taken, on a GPU too, beside the next child
    return math.nan if result["best"] is None else result["best"]


# The table and the plot ---------------------------------------------------------------------------------------------------------


def tabulate(sweep: Path) -> list[dict[str, Any]]:
    """Write sweep.csv and sweep.png from the folders of the children, and return the rows.

    Each child has one row: job, status (finished, failed, unfinished), each override in which the children differ, the best (lowest) value
    of `monitor`, images shown, minutes of training without validations, error.
    """
    runs = runs_in(sweep)
    found = {run: json.loads((run / "result.json").read_text()) for run in runs}
    set_for = {run: dict(override.lstrip("+").partition("=")[::2] for override in result["overrides"]) for run, result in found.items()}
    keys = list(dict.fromkeys(key for chosen in set_for.values() for key in chosen))
    keys = [key for key in keys if len({chosen.get(key, "") for chosen in set_for.values()}) > 1]
    rows = []
    for run in runs:
        result, (images, minutes) = found[run], progress(run)
        row = {"job": job_of(run, sweep), "status": result["status"], **{key: set_for[run].get(key, "") for key in keys}}
        row["best"] = "" if result["best"] is None else f"{result['best']:.6g}"
        rows.append(row | {"images": images, "minutes": minutes, "error": result["error"]})
    if rows:
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerows([cell(str(value)) for value in row] for row in ([*rows[0]], *(row.values() for row in rows)))
        write_whole(sweep / "sweep.csv", table.getvalue().encode())
    if keys and any(row["best"] for row in rows):
        write_whole(sweep / "sweep.png", draw(rows, keys))
    return rows


def progress(run: Path) -> tuple[int, float]:
    """Return images shown and minutes of training, from the tables of a run. Unlike a clock, they continue after a resume."""
    if not (run / "speed.csv").is_file():
        return 0, 0.0
    from medgan_pl.train.tables import SPEED

    images, speeds = read_table(run / "speed.csv")[SPEED]
    seconds = sum((here - before) / speed for before, here, speed in zip([0.0, *images], images, speeds, strict=False))
    return int(images[-1]), round(seconds / 60, 2)


def draw(rows: list[dict[str, Any]], keys: list[str]) -> bytes:
    """Return a PNG of the best value of `monitor` against each of `keys`, one panel each. A failed child is a cross at the top."""
    from matplotlib.figure import Figure

    done = {i: float(row["best"]) for i, row in enumerate(rows) if row["best"]}
    failed = [i for i, row in enumerate(rows) if row["status"] == "failed"]
    best = min(done, key=done.__getitem__)
    across = min(3, len(keys))
    figure = Figure(figsize=(4.5 * across, 3.6 * math.ceil(len(keys) / across)), layout="constrained")
    for place, key in enumerate(keys):
        axes = figure.add_subplot(math.ceil(len(keys) / across), across, place + 1)
        x = positions(axes, [row[key] for row in rows])
        axes.scatter([x[i] for i in done], list(done.values()), s=28, alpha=0.8)
        axes.scatter(x[best], done[best], s=110, facecolors="none", edgecolors="C3", label=f"best: job {shortened(rows[best]['job'])}")
        if failed:
            top = axes.get_xaxis_transform()  # x in values, y in the height of the panel
            axes.scatter([x[i] for i in failed], [0.97] * len(failed), marker="x", color="C3", transform=top, label="failed")
        if spans_decades(list(done.values())):
            axes.set_yscale("log")
        axes.set(xlabel=shortened(key, 40), ylabel="" if place % across else "best value of monitor")
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=100)
    return picture.getvalue()


def positions(axes: Any, values: list[str]) -> list[float]:
    """Return the positions of `values` on the x axis: numbers at their value, on a log axis if they span a decade; names in strips."""
    from matplotlib.ticker import LogLocator, NullFormatter

    try:
        numbers = [float(value) for value in values]
    except ValueError:
        names = sorted(set(values))
        shown = [shortened(name) for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=20 if len(names) > 3 or max(map(len, shown)) > 12 else 0)
        axes.set_xlim(-0.5, len(names) - 0.5)
        return [names.index(value) + 0.08 * (i % 5 - 2) for i, value in enumerate(values)]  # spread, so that no point hides another
    if spans_decades(numbers):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # otherwise a span of one decade shows one label, or overlapping ones
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    return numbers


def shortened(name: Any, most: int = 20) -> str:
    """Return a name of a folder or a value in at most `most` letters, its beginning and its end: a longer one leaves a panel no room."""
    name = visible(str(name)).replace("$", r"\$")  # a dollar sign would begin a formula
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def spans_decades(values: list[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= 10


class SweepTable(Callback):
    """Hydra's callback around a sweep. It checks first that the plugins and SLURM are there, and exits with 1 if a child failed or
    there is no table.

    Hydra turns an error in a callback into a warning and goes on, so each error ends the process here.
    """

    def __init__(self) -> None:
        register()

    def __reduce__(self) -> tuple[type, tuple]:
        return SweepTable, ()  # a child in another process needs the resolver too

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        plugins = Plugins.instance().class_name_to_class
        if find_spec("optuna"):
            plugins[TPE] = Tpe  # Hydra builds plugins under such names only; the other way is a package hydra_plugins beside ours
        for group in ("sweeper", "launcher"):
            if config.hydra[group]._target_ not in plugins:
                option = config.hydra.runtime.choices[f"hydra/{group}"]
                say(f"error: hydra/{group}={option} needs an extra: pip install 'medgan_pl[sweeps]'", error=True)
                raise SystemExit(1)
        keep_inside(config)
        if config.hydra.launcher._target_.endswith(".SlurmLauncher") and not shutil.which("srun"):
            say("error: hydra/launcher=slurm needs SLURM, and there is no srun here; use hydra/launcher=processes", error=True)
            raise SystemExit(1)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        sweep = Path(config.hydra.runtime.cwd, config.hydra.sweep.dir)
        table = sweep / "sweep.csv"
        with one_message(None):
            rows = tabulate(sweep)
            if not rows:
                raise FileNotFoundError(f"the sweep must leave a folder for each child in {sweep}, got none with a result; look there")
        failed = [row["job"] for row in rows if row["status"] == "failed"]
        done = sorted((float(row["best"]), row["job"]) for row in rows if row["best"])
        if done:
            say(f"best of {len(done)} finished: {done[0][0]:.6g}, job {done[0][1]}; the table is {table}")
        if failed:
            say(f"error: {len(failed)} of {len(rows)} failed: job {', '.join(failed)}; see {table} for the reasons", error=True)
            raise SystemExit(1)
