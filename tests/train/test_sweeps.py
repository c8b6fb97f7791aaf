"""Sweeps: what a child's end means for the others, and the table."""

import csv
import json
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
from command_line import TINY, command
from hydra import main as hydra_main
from hydra.core.hydra_config import HydraConfig
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from medgan_pl.train.sweeps.children import SweepTable, child, positions, tabulate
from medgan_pl.train.sweeps.folders import RESOLVER


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


class TestFolders:
    """Where Hydra puts the children, asked of Hydra itself: a plain task in place of a training."""

    @staticmethod
    def sweep(subdir: str, *overrides: str) -> list[str]:
        """Run a sweep as `medgan_pl.train -m` does and return the folders of its children below the sweep."""
        seen = []

        def run(config) -> float:
            hydra = HydraConfig.get()
            folder = Path(hydra.runtime.output_dir)
            seen.append(os.path.relpath(folder, "named"))
            return child(lambda: 1.0, run=folder, sweep=Path(hydra.runtime.cwd, hydra.sweep.dir), overrides=list(hydra.overrides.task))

        Path("conf").mkdir(exist_ok=True)
        callback = "{_target_: medgan_pl.train.sweeps.children.SweepTable}"
        Path("conf/c.yaml").write_text(f"root: a\nseed: 0\nhydra:\n  output_subdir: null\n  callbacks: {{table: {callback}}}\n")
        places = ["hydra.sweep.dir=named", f"hydra.sweep.subdir={subdir}", "hydra/job_logging=none", "hydra/hydra_logging=none"]
        with patch("sys.argv", ["train", "-m", *places, *overrides]), patch("medgan_pl.train.sweeps.children.draw", lambda *_: b""):
            hydra_main(version_base="1.3", config_path=str(Path("conf").resolve()), config_name="c")(run)()
        return seen

    @pytest.mark.parametrize(
        ("subdir", "folders"),
        [
            ("${hydra.job.override_dirname}", ["root=%2Fx%2Fy,seed=1", "root=x_y,seed=1", "root=..,seed=1"]),
            ("${hydra:job.override_dirname}", ["root=%2Fx%2Fy,seed=1", "root=x_y,seed=1", "root=..,seed=1"]),
            ("${root}", ["%2Fx%2Fy", "x_y", "%2E%2E"]),
            ("${seed}/${root}", ["1/%2Fx%2Fy", "1/x_y", "1/%2E%2E"]),
        ],
    )
    def test_a_value_with_a_slash_is_one_folder_below_the_sweep(self, subdir, folders) -> None:
        assert self.sweep(subdir, "root=/x/y,x_y,..", "seed=1") == folders
        assert sorted(row["job"] for row in table("named")) == sorted(folders)
        assert {row["root"] for row in table("named")} == {"/x/y", "x_y", ".."}

    def test_a_folder_outside_the_sweep_is_an_error(self, capsys) -> None:
        with pytest.raises((SystemExit, ValueError)):
            self.sweep(f"{Path.cwd()}/elsewhere", "seed=1,2")
        assert "must name a folder below hydra.sweep.dir" in capsys.readouterr().err

    def test_no_table_is_an_error_and_not_a_warning(self, capsys) -> None:
        config = OmegaConf.create({"hydra": {"runtime": {"cwd": str(Path.cwd())}, "sweep": {"dir": "empty"}}})
        with pytest.raises(SystemExit) as raised:
            SweepTable().on_multirun_end(config)
        assert raised.value.code == 1
        assert "must leave a folder for each child" in capsys.readouterr().err

    def test_a_child_in_another_process_knows_the_names(self) -> None:
        OmegaConf.clear_resolver(RESOLVER)
        arrived = pickle.dumps(SweepTable())
        OmegaConf.clear_resolver(RESOLVER)
        pickle.loads(arrived)
        assert OmegaConf.create({"a": f"${{{RESOLVER}:/x}}"}).a == "%2Fx"


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
