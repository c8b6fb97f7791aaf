"""Sweeps: what a child's end means for the others, the table, a search that stops and goes on, the launchers."""

import csv
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import TINY, command
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from matplotlib.figure import Figure
from omegaconf import DictConfig

from medgan_pl.core.command import launch
from medgan_pl.train.sweeps import children
from medgan_pl.train.sweeps.children import child, positions, tabulate
from medgan_pl.train.sweeps.tpe import distribution

RATES = "optimizer_d.lr=tag(log,interval(0.01,0.3))"
SEARCH = ("hydra/sweeper=tpe", "hydra.sweeper.startup=2", "hydra.sweep.dir=sweep", RATES, "penalty.weight=interval(0.1,1.0)", "penalty=r1")


def table(sweep: str | Path = "sweep") -> list[dict[str, str]]:
    with Path(sweep, "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def bring_up(error: BaseException) -> Callable[[], float]:
    def task() -> float:
        raise error

    return task


def a_child(task: Callable[[], float], number: int = 0, *overrides: str) -> float:
    run = Path("sweep", str(number))
    run.mkdir(parents=True, exist_ok=True)
    return child(task, run=run, sweep=Path("sweep"), overrides=list(overrides))


class TestChild:
    @pytest.mark.parametrize(
        ("task", "status", "error"),
        [
            (lambda: 1.5, "finished", ""),
            (bring_up(ValueError("`weight` must be above 0,\n got -1")), "failed", "ValueError: `weight` must be above 0, got -1"),
            (bring_up(RuntimeError("of no kind")), "failed", "RuntimeError: of no kind"),
            (bring_up(SystemExit(1)), "failed", "SystemExit: 1"),
            (lambda: math.inf, "failed", "FloatingPointError: the best value of `monitor` must be finite, got inf"),
        ],
    )
    @pytest.mark.parametrize("traceback", ["0", "1"])
    def test_its_end_is_written_down_and_is_not_the_sweeps(self, task, status, error, traceback, monkeypatch) -> None:
        monkeypatch.setenv("MEDGAN_TRACEBACK", traceback)
        value = a_child(task)
        assert value == 1.5 if status == "finished" else math.isnan(value)
        (row,) = table()
        assert (row["status"], row["best"]) == (status, "1.5" if status == "finished" else "")
        assert row["error"].startswith(error)
        assert bool(row["error"]) == bool(error)

    @pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(130), SystemExit(143), SystemExit(-1)])
    def test_a_signal_ends_the_sweep(self, end) -> None:
        with pytest.raises(SystemExit) as raised:
            a_child(bring_up(end))
        assert raised.value.code == (130 if isinstance(end, KeyboardInterrupt) else end.code)
        assert table()[0]["status"] == "unfinished"

    def test_one_that_finished_is_not_run_again(self) -> None:
        assert a_child(lambda: 2.0, 0, "seed=1") == 2.0
        assert a_child(bring_up(AssertionError("run again")), 0, "seed=1") == 2.0
        assert a_child(lambda: 3.0, 0, "seed=1", "total_images=9") == 3.0
        a_child(bring_up(ValueError("no")), 1, "seed=2")
        assert a_child(lambda: 4.0, 1, "seed=2") == 4.0  # what failed is tried again

    @pytest.mark.parametrize(("own", "group"), [(None, "sweep"), ("mine", "mine")])
    def test_its_wandb_run_is_of_the_sweeps_group(self, own, group, monkeypatch, settings) -> None:
        monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
        if own:
            monkeypatch.setenv("WANDB_RUN_GROUP", own)
        seen = []
        a_child(lambda: seen.append(settings("logger=wandb")["logger"]["wandb"]["group"]) or 1.0)
        assert seen == [group]
        assert os.environ.get("WANDB_RUN_GROUP") == own


class TestTable:
    def test_a_row_a_child_with_what_differs(self) -> None:
        for number, lr in ((2, "0.1"), (10, "0.01")):
            run = Path("sweep", str(number))
            run.mkdir(parents=True)
            (run / "speed.csv").write_text("images,images_per_second\n600,10\n1200,20\n")  # 60 and 30 seconds
            a_child(lambda: 1 / 3, number, f"optimizer_d.lr={lr}", "seed=1", "+objective=hinge")
        Path("sweep/3").mkdir()
        result = {"status": "unfinished", "overrides": ["seed=1"], "best": None, "error": ""}
        Path("sweep/3/result.json").write_text(json.dumps(result))
        tabulate(Path("sweep"))
        rows = table()
        assert list(rows[0]) == ["job", "status", "optimizer_d.lr", "objective", "best", "images", "minutes", "error"]
        assert [row["job"] for row in rows] == ["2", "3", "10"]
        assert [row["status"] for row in rows] == ["finished", "unfinished", "finished"]
        assert [row["optimizer_d.lr"] for row in rows] == ["0.1", "", "0.01"]
        assert (rows[0]["best"], rows[0]["images"], rows[0]["minutes"]) == ("0.333333", "1200", "1.5")
        assert (rows[1]["best"], rows[1]["images"], rows[1]["minutes"]) == ("", "0", "0.0")
        assert Path("sweep/sweep.png").read_bytes()[:4] == b"\x89PNG"
        assert not list(Path("sweep").rglob("*.part"))

    @pytest.mark.parametrize(
        ("values", "places", "scale"),
        [
            (["0.5", "0.01", "1e-4"], [0.5, 0.01, 1e-4], "log"),
            (["4", "8"], [4, 8], "linear"),
            (["0", "100"], [0, 100], "linear"),
            (["sgd", "adam", "sgd"], [1, 0, 1], "linear"),
            (["1", ""], [1, 0], "linear"),
        ],
    )
    def test_numbers_stand_at_their_value_and_names_in_strips(self, values, places, scale) -> None:
        axes = Figure().add_subplot()
        assert positions(axes, values) == pytest.approx(places, abs=0.2)
        assert axes.get_xscale() == scale


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str]]]:
    """A sweep whose children do not train: (exit code, what was said). `ends` gives what becomes of a job where that is not its value."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr(children, "draw", lambda rows, keys: b"")  # a third of the time

    def call(*arguments: str, ends: dict[int, Callable[[], float]] | None = None) -> tuple[int, str]:
        own = ends or {}

        def task(config: DictConfig) -> float:
            hydra = HydraConfig.get()
            run = Path(hydra.runtime.output_dir)
            value = own.get(hydra.job.num, lambda: math.log(config.optimizer_d.lr / 0.1) ** 2 + config.penalty.weight)
            return child(value, run=run, sweep=run.parent, overrides=list(hydra.overrides.task))

        monkeypatch.setattr(sys, "argv", ["train", "-m", *arguments])
        code = 0
        try:
            launch(task, "config")
        except SystemExit as end:
            code = int(end.code or 0)
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers = list(handlers)
        return code, "".join(capfd.readouterr())

    yield call
    root.setLevel(level)


class TestSearch:
    def test_one_that_stops_and_goes_on_is_the_one_that_did_not(self, search) -> None:
        assert search(*SEARCH, "hydra.sweeper.trials=5")[0] == 0
        whole = table()
        assert [row["job"] for row in whole] == list("01234")
        assert all(0.01 <= float(row["optimizer_d.lr"]) <= 0.3 and 0.1 <= float(row["penalty.weight"]) <= 1 for row in whole)
        assert len({row["optimizer_d.lr"] for row in whole}) == 5
        Path("sweep").rename("whole")
        for number in (0, 3):  # in the startup, and behind it
            assert search(*SEARCH, "hydra.sweeper.trials=5", ends={number: bring_up(KeyboardInterrupt())})[0] == 130
            assert len(table()) == number + 1
        assert search(*SEARCH, "hydra.sweeper.trials=4")[0] == 0
        assert search(*SEARCH, "hydra.sweeper.trials=5")[0] == 0
        assert table() == whole

    def test_a_failed_trial_is_none_of_the_estimators(self, search) -> None:
        code, said = search(*SEARCH, "hydra.sweeper.trials=4", ends={1: bring_up(ValueError("of no use")), 2: lambda: math.nan})
        assert code == 1
        assert "2 of 4 failed: job 1, 2" in said
        assert "best of 2 finished" in said
        assert [row["status"] for row in table()] == ["finished", "failed", "failed", "finished"]
        import optuna

        study = optuna.load_study(study_name="sweep", storage="sqlite:///sweep/study.db")
        assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "FAIL", "COMPLETE"]
        assert all(math.isfinite(trial.value) for trial in study.trials if trial.value is not None)

    def test_what_was_drawn_from_another_space_is_left(self, search) -> None:
        search(*SEARCH, "hydra.sweeper.trials=2", ends={1: bring_up(KeyboardInterrupt())})
        code, _ = search(*SEARCH, "objective=hinge,non_saturating", "hydra.sweeper.trials=4")
        assert code == 0
        assert [row["status"] for row in table()] == ["finished", "unfinished", "finished", "finished"]
        assert {row["objective"] for row in table()[2:]} <= {"hinge", "non_saturating"}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (("seed=3",), "a search must resume with its own settings"),
            (("hydra.sweeper.trials=0",), "`hydra.sweeper.trials` must be a whole number of at least 1, got 0"),
            ((RATES.replace("tag(log,interval(0.01,0.3))", "0.1"), "penalty.weight=0.3"), "must have something to search"),
        ],
    )
    def test_mistakes(self, change, message, search) -> None:
        assert search(*SEARCH, "hydra.sweeper.trials=1")[0] == 0
        code, said = search(*SEARCH, *change)
        assert code == 1
        assert message in said
        assert "Traceback" not in said

    def test_several_processes_do_not_search_each_on_its_own(self, search, monkeypatch) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        code, said = search(*SEARCH)
        assert code == 1
        assert "a search must be started as one process" in said

    @pytest.mark.parametrize(
        ("line", "kind", "low", "high", "log"),
        [
            ("a=int(interval(4,64))", "IntDistribution", 4, 64, False),
            ("a=tag(log,int(interval(4,64)))", "IntDistribution", 4, 64, True),
            ("a=interval(0,1)", "FloatDistribution", 0, 1, False),
            ("a=tag(log,interval(1e-4,0.1))", "FloatDistribution", 1e-4, 0.1, True),
        ],
    )
    def test_intervals(self, line: str, kind: str, low: float, high: float, log: bool) -> None:
        (override,) = OverridesParser.create().parse_overrides([line])
        drawn: Any = distribution(override)
        assert (type(drawn).__name__, drawn.low, drawn.high, drawn.log) == (kind, low, high, log)

    def test_choices(self) -> None:
        for line, names in {"a=sgd,adam": ("sgd", "adam"), "a=range(2,8,2)": ("2", "4", "6")}.items():
            (override,) = OverridesParser.create().parse_overrides([line])
            assert distribution(override).choices == names


@pytest.mark.parametrize("launcher", ["processes", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_children_in_other_processes(launcher: str, search) -> None:
    two = ("hydra.sweeper.trials=3", "hydra.sweeper.parallel=2", f"hydra/launcher={launcher}")
    code, said = search(*SEARCH, *two, ends={1: bring_up(ValueError("of no use"))})
    assert code == 1, said
    assert "1 of 3 failed: job 1" in said
    assert [row["status"] for row in table()] == ["finished", "failed", "finished"]
    assert len({row["optimizer_d.lr"] for row in table()}) == 3


@pytest.mark.parametrize("option", ["hydra/sweeper=tpe", "hydra/launcher=processes", "hydra/launcher=slurm"])
def test_without_the_extra_the_message_says_how_to_get_it(option: str, search, monkeypatch) -> None:
    monkeypatch.setattr(children, "find_spec", lambda name: None)
    plugins = children.Plugins.instance().class_name_to_class
    monkeypatch.setattr(children.Plugins.instance(), "class_name_to_class", {k: v for k, v in plugins.items() if "hydra_plugins" not in k})
    code, said = search("seed=1,2", option)
    assert code == 1
    assert f"error: {option} needs an extra: pip install 'medgan_pl[sweeps]'" in said
    assert not Path("multirun").exists()


@pytest.mark.slow
def test_a_grid_on_several_devices_goes_on_past_a_child_that_fails_in_one_folder() -> None:
    settings = [*(value for value in TINY if value != "trainer=cpu"), "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    settings += ["logger=csv", "total_images=16", "validate_every=16", "penalty=r1", "penalty.weight=0.5,-1,1"]
    done = command("train", "-m", *settings, code=1)
    assert "1 of 3 failed: job 1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("outputs").exists()
    (sweep,) = Path("multirun").glob("*/*")
    rows = table(sweep)
    assert [row["penalty.weight"] for row in rows] == ["0.5", "-1", "1"]
    assert [row["status"] for row in rows] == ["finished", "failed", "finished"]
    assert [row["images"] for row in rows] == ["16", "0", "16"]
    assert "`weight` must be above 0, got -1" in rows[1]["error"]
    assert "must be above 0" in (sweep / "1/train.log").read_text()
    assert sorted(path.parent.parent.name for path in sweep.rglob("last.ckpt")) == ["0", "2"]
