"""A search by Optuna: it stops and goes on, what failed, what it refuses, the launchers."""

import logging
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig
from test_sweeps import bring_up, table

from medgan_pl.core import command as command_module
from medgan_pl.core.command import launch
from medgan_pl.core.console import configuration_folder
from medgan_pl.train.sweeps import children
from medgan_pl.train.sweeps.children import child
from medgan_pl.train.sweeps.tpe import distribution

RATES = "optimizer_d.lr=tag(log,interval(0.01,0.3))"
SEARCH = ("hydra/sweeper=tpe", "hydra.sweeper.startup=2", "hydra.sweep.dir=sweep", RATES, "penalty.weight=interval(0.1,1.0)", "penalty=r1")


SMALL = """
defaults: [{objective: non_saturating}, {penalty: none}, {optimizer@optimizer_d: sgd}, {hydra: run}, _self_]
seed: 0
run_dir: ${hydra:runtime.output_dir}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small part of conf/: of the whole, Hydra composes one a second."""
    folder = tmp_path_factory.mktemp("small")
    for group in ("hydra", "objective", "penalty", "optimizer"):
        shutil.copytree(configuration_folder() / group, folder / group)
    (folder / "config.yaml").write_text(SMALL)
    return folder


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], small: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    """A sweep whose children do not train: (exit code, what was said). `ends` gives what becomes of a job where that is not its value."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr(command_module, "configuration_folder", lambda: small)
    monkeypatch.setattr(Hydra, "get_mode", lambda *_, **__: None)  # as in `here`
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
        assert search(*SEARCH, "hydra.sweeper.trials=4")[0] == 0
        whole = table()
        assert [row["job"] for row in whole] == list("0123")
        assert all(0.01 <= float(row["optimizer_d.lr"]) <= 0.3 and 0.1 <= float(row["penalty.weight"]) <= 1 for row in whole)
        assert len({row["optimizer_d.lr"] for row in whole}) == 4
        Path("sweep").rename("whole")
        for number in (0, 2):  # in the startup, and behind it
            assert search(*SEARCH, "hydra.sweeper.trials=4", ends={number: bring_up(KeyboardInterrupt())})[0] == 130
            assert len(table()) == number + 1
        assert search(*SEARCH, "hydra.sweeper.trials=3")[0] == 0
        assert search(*SEARCH, "hydra.sweeper.trials=4")[0] == 0
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

    def test_mistakes(self, search) -> None:
        assert search(*SEARCH, "hydra.sweeper.trials=1")[0] == 0
        for change, message in (
            (("seed=3",), "a search must resume with its own settings"),
            (("hydra.sweeper.trials=0",), "`hydra.sweeper.trials` must be a whole number of at least 1, got 0"),
            ((RATES.replace("tag(log,interval(0.01,0.3))", "0.1"), "penalty.weight=0.3"), "must have something to search"),
        ):
            code, said = search(*SEARCH, *change)
            assert (code, message in said, "Traceback" in said) == (1, True, False), said

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


def test_jobs_of_slurm_need_slurm(search, monkeypatch) -> None:
    monkeypatch.setattr(children.shutil, "which", lambda name: None)
    code, said = search("seed=1,2", "hydra/launcher=slurm")
    assert code == 1
    assert "error: hydra/launcher=slurm needs SLURM, and there is no srun here; use hydra/launcher=processes" in said
    assert "Traceback" not in said
    assert not Path("multirun").exists()
