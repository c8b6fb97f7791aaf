"""Sweeps: a child that fails does not end one, one started again goes on, and sweep.csv and sweep.png tell what came of it.

The searcher is a plugin of Hydra, so that any launcher can carry it: one process, joblib on this machine, submitit on a cluster.
"""

import csv
import json
import math
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus, env_override
from hydra.experimental.callback import Callback
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from medgan_pl.console import log, one_message, root_cause


def child(task: Callable[[], float], *, run: Path, sweep: Path, overrides: list[str]) -> float:
    """Runs one child of a sweep in the folder `run`: the best value of `monitor` comes back, NaN where it failed.

    What became of it stands in `run`/result.json (unfinished while it runs, and after a kill), and the tables in `sweep` are made anew.
    One that finished with the same overrides before is not run again. SystemExit above 128 goes through: Ctrl-C or a signal ends the sweep,
    anything else only the child.
    """
    file = run / "result.json"
    before = json.loads(file.read_text()) if file.is_file() else {}
    if before.get("status") == "finished" and before["overrides"] == overrides:
        log.info("finished before: %s", run)
        return before["best"]
    result: dict[str, Any] = {"status": "unfinished", "overrides": overrides, "best": None, "error": ""}
    replace(file, lambda path: path.write_text(json.dumps(result, indent=1)))
    try:
        with env_override({"WANDB_RUN_GROUP": os.environ.get("WANDB_RUN_GROUP", sweep.name)}), one_message(run / "train.log"):
            value = task()
            if not math.isfinite(value):
                raise FloatingPointError(f"the best value of `monitor` must be finite, got {value}; was there a validation?")
        result |= {"status": "finished", "best": value}
    except (Exception, SystemExit) as end:
        if isinstance(end, SystemExit) and isinstance(end.code, int) and end.code > 128:
            log.info("to go on: the same command with hydra.sweep.dir=%s", sweep)
            raise
        # one_message leaves with SystemExit and the error as its context; with MEDGAN_TRACEBACK=1 the error itself comes through.
        if isinstance(end, Exception):
            log.exception("this child failed; the sweep goes on")
        cause = root_cause(end.__context__ or end) if isinstance(end, SystemExit) else root_cause(end)
        result |= {"status": "failed", "error": " ".join(f"{type(cause).__name__}: {cause}".split())}
    finally:
        replace(file, lambda path: path.write_text(json.dumps(result, indent=1)))
        tabulate(sweep)
    return math.nan if result["best"] is None else result["best"]


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes beside and moves into place: children of several processes write the same table."""
    beside = path.with_name(f"{os.getpid()}.{path.name}")
    write(beside)
    os.replace(beside, path)


# The table and the plot ---------------------------------------------------------------------------------------------------------


def tabulate(sweep: Path) -> list[dict[str, Any]]:
    """Writes sweep.csv and sweep.png from the children's folders; the rows come back.

    A row a child: job, status (finished, failed, unfinished), each override in which the children differ, the best (lowest) value of
    `monitor`, images shown, minutes of training without validations, error.
    """
    found = {file.parent: json.loads(file.read_text()) for file in sweep.glob("*/result.json")}
    set_for = {run: dict(override.lstrip("+").partition("=")[::2] for override in result["overrides"]) for run, result in found.items()}
    keys = list(dict.fromkeys(key for chosen in set_for.values() for key in chosen))
    keys = [key for key in keys if len({chosen.get(key) for chosen in set_for.values()}) > 1]
    rows = []
    for run in sorted(found, key=lambda run: (int(run.name) if run.name.isdigit() else math.inf, run.name)):
        result, (images, minutes) = found[run], progress(run / "metrics.csv")
        best = f"{result['best']:.6g}" if result["status"] == "finished" else ""
        row = {"job": run.name, "status": result["status"], **{key: set_for[run].get(key, "") for key in keys}}
        rows.append(row | {"best": best, "images": images, "minutes": minutes, "error": result["error"]})
    if rows:
        replace(sweep / "sweep.csv", lambda path: write_rows(path, rows))
        if keys and any(row["best"] for row in rows):
            replace(sweep / "sweep.png", lambda path: draw(path, rows, keys))
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def progress(table: Path) -> tuple[int, float]:
    """Images shown and minutes of training, from a metrics.csv: that goes on with the run; a clock would forget what was before a kill."""
    from medgan_pl.callbacks import read_table

    columns = read_table(table) if table.is_file() else {}
    images, speeds = columns.get("images_per_second", ([], []))
    seconds = sum((here - before) / speed for before, here, speed in zip([0.0, *images], images, speeds, strict=False))
    return int(max(columns.get("images", [[0]])[0], default=0)), round(seconds / 60, 2)


def draw(path: Path, rows: list[dict[str, Any]], keys: list[str]) -> None:
    """The best value of `monitor` against each of `keys`, a panel each: points over numbers, strips over names; a failed child is a cross at the top."""
    from matplotlib.figure import Figure

    done, failed = ([row for row in rows if row["status"] == status] for status in ("finished", "failed"))
    y = [float(row["best"]) for row in done]
    across = min(3, len(keys))
    figure = Figure(figsize=(4.5 * across, 3.6 * math.ceil(len(keys) / across)), layout="constrained")
    for place, key in enumerate(keys, 1):
        axes = figure.add_subplot(math.ceil(len(keys) / across), across, place)
        x = dict(zip([row["job"] for row in rows], positions(axes, [row[key] for row in rows]), strict=True))
        axes.scatter([x[row["job"]] for row in done], y, s=28, alpha=0.8)
        best = min(range(len(y)), key=y.__getitem__)
        axes.scatter(x[done[best]["job"]], y[best], s=110, facecolors="none", edgecolors="C3", label=f"best: job {done[best]['job']}")
        if failed:
            top = axes.get_xaxis_transform()  # x in values, y in the height of the panel
            axes.scatter([x[row["job"]] for row in failed], [0.97] * len(failed), marker="x", color="C3", transform=top, label="failed")
        if spans_decades(y):
            axes.set_yscale("log")
        axes.set(xlabel=key, ylabel="best value of monitor" if place % across == 1 or across == 1 else "")
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(path, dpi=100, format="png")


def positions(axes: Any, values: list[str]) -> list[float]:
    """Where `values` stand on the x axis: numbers at their value, on a log axis if they span decades; names beside each other."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        names = sorted(set(values))
        axes.set_xticks(range(len(names)), names, rotation=20 if len(names) > 3 else 0)
        axes.set_xlim(-0.5, len(names) - 0.5)
        return [names.index(value) + 0.08 * (i % 5 - 2) for i, value in enumerate(values)]  # spread, so that no point hides another
    if spans_decades(numbers):
        axes.set_xscale("log")
    return numbers


def spans_decades(values: list[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= 10


class SweepTable(Callback):
    """Hydra's callback around a sweep: what it needs is there before it begins, and at its end the exit code tells a child's failure."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        # Hydra builds its plugins under this name only; a folder hydra_plugins beside the package would be the other way.
        Plugins.instance().class_name_to_class[TPE] = Tpe
        for group in ("sweeper", "launcher"):
            target = config.hydra[group]._target_
            if not installed("optuna" if target == TPE else target.rpartition(".")[0]):
                option = config.hydra.runtime.choices[f"hydra/{group}"]
                print(f"error: hydra/{group}={option} needs an extra: pip install 'medgan_pl[sweeps]'", file=sys.stderr)
                raise SystemExit(1)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        sweep = Path(config.hydra.runtime.cwd, config.hydra.sweep.dir)
        rows, table = tabulate(sweep), sweep / "sweep.csv"
        failed = [row["job"] for row in rows if row["status"] == "failed"]
        done = sorted((float(row["best"]), row["job"]) for row in rows if row["best"])
        if done:
            print(f"best of {len(done)} finished: {done[0][0]:.6g}, job {done[0][1]}; the table is {table}")
        if failed:
            print(f"error: {len(failed)} of {len(rows)} failed: job {', '.join(failed)}; why stands in {table}", file=sys.stderr)
            raise SystemExit(1)


def installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


# The search ---------------------------------------------------------------------------------------------------------------------

TPE = "hydra_plugins.medgan_pl.Tpe"


class Tpe(Sweeper):
    """Tree-structured Parzen estimator (Bergstra et al. 2011) by Optuna, over intervals and choices; the lowest objective is the best.

    - `trials`: children in all, over all starts of the sweep, failed ones counted. `parallel`: asked for at once.
    - `startup`: trials drawn at random before there is something to estimate from.
    - `seed`: of the draws. Trial n is drawn by (seed, n) and what is known then: a sweep that stopped asks for what it would have asked.
    - `params`: key -> what is searched, as on the command line, where the same key wins: `interval(4,64)` of whole numbers,
      `interval(0.0,1.0)`, `tag(log,interval(0.01,0.3))`, and choices: `adam,sgd`.

    The study is kept in study.db of the sweep's folder. Trial n is job n; one that was not told when the sweep stopped is run again in its
    folder, where its run goes on. A failed trial is none of the estimator's.
    """

    def __init__(self, *, trials: int, parallel: int, startup: int, seed: int, params: DictConfig | None) -> None:
        for name, count, least in (("trials", trials, 1), ("parallel", parallel, 1), ("startup", startup, 1), ("seed", seed, 0)):
            if count < least:
                raise ValueError(f"`hydra.sweeper.{name}` must be at least {least}, got {count}")
        self.trials, self.parallel, self.startup, self.seed, self.params = trials, parallel, startup, seed, params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.folder = Path(config.hydra.runtime.cwd, config.hydra.sweep.dir)
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        import optuna
        from optuna.trial import TrialState

        parsed = OverridesParser.create().parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        overrides = {override.get_key_element(): override for override in parsed}  # the last of a key wins
        space = {key: distribution(override) for key, override in overrides.items() if override.is_sweep_override()}
        if not space:
            raise ValueError("hydra/sweeper=tpe must have something to search, as optimizer_d.lr=tag(log,interval(0.01,0.3)); got none")
        fixed = [f"{key}={override.get_value_element_as_str()}" for key, override in overrides.items() if key not in space]
        self.folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(storage=f"sqlite:///{self.folder / 'study.db'}", study_name="sweep", load_if_exists=True)
        trials = []
        for left in study.get_trials(states=(TrialState.RUNNING,)):
            if left.params.keys() == space.keys():
                trials.append(left)
            else:  # killed while it was drawn, or of another search
                study.tell(left.number, state=TrialState.FAIL)
        while trials or len(study.trials) < self.trials:
            while len(trials) < self.parallel and len(study.trials) < self.trials:
                study.sampler = self.sampler(len(study.trials))
                trials.append(study.ask(space))
            jobs = [[*fixed, *(f"{key}={value}" for key, value in trial.params.items())] for trial in trials]
            for trial, job in zip(trials, self.launcher.launch(jobs, initial_job_idx=trials[0].number), strict=True):
                well = job.status == JobStatus.COMPLETED and math.isfinite(job.return_value)
                study.tell(trial.number, job.return_value if well else None, state=None if well else TrialState.FAIL)
            trials = []

    def sampler(self, number: int) -> Any:
        """The estimator for trial `number`, its randomness keyed by that number and not by what was drawn since the start."""
        from numpy.random import SeedSequence
        from optuna.samplers import TPESampler

        seed = int(SeedSequence([self.seed, number]).generate_state(1)[0])
        return TPESampler(n_startup_trials=self.startup, seed=seed, constant_liar=True)  # those still running count as bad: no two the same


def distribution(override: Override) -> Any:
    """What Optuna draws from for a swept override: whole or other numbers for an interval, by its bounds, and names for anything else."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    if not override.is_interval_sweep():
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    whole = isinstance(value.start, int) and isinstance(value.end, int)
    return (IntDistribution if whole else FloatDistribution)(value.start, value.end, log="log" in value.tags)
