"""The files that docs/extending.md shows are written into a copy of the package, and a user's commands train with them."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import TINY

import medgan_pl
from medgan_pl.core.console import configuration_folder

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCK = re.compile(r"^```(?:python|yaml) (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TASK = tuple(setting for setting in TINY if not setting.startswith(("model.latent", "metrics.random")))


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds the package and conf/ with every file that the page shows."""
    place = tmp_path_factory.mktemp("extended")
    shutil.copytree(Path(medgan_pl.__file__).parent, place / "medgan_pl", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(configuration_folder(), place / "conf", dirs_exist_ok=True)
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 15
    for name, content in blocks:
        path = place / name
        assert not path.exists(), f"{name} exists already"
        path.write_text(content, encoding="utf-8")
    return place


def train(place: Path, run: Path, *arguments: str) -> dict[str, str]:
    """Train by the command line in the copy; return the last row of metrics.csv."""
    done = subprocess.run(
        [sys.executable, "-m", "medgan_pl.train", *arguments, "logger=csv", f"hydra.run.dir={run}"],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))[-1]


def test_a_network_an_objective_a_penalty_a_data_set_and_a_metric(extended: Path, tmp_path: Path) -> None:
    parts = ("model=pixelwise", "objective=squared_margin", "penalty=fake_gradient", "data=my_films", "metrics=brightness")
    row = train(extended, tmp_path / "run", *TINY, *parts)
    assert float(row["train/d/penalty"]) > 0
    assert float(row["val/brightness"]) > 0
    assert float(row["val/fd_random"]) > 0


def test_a_paired_task_and_its_loss(extended: Path, tmp_path: Path) -> None:
    row = train(extended, tmp_path / "run", *TASK, "data.size=32", "model=unet_gan", "degrade@data.degrade=stripes", "extra=charbonnier")
    assert float(row["train/g/charbonnier"]) > 0
    assert float(row["val/ssim"])


def test_a_game_of_three_players(extended: Path, tmp_path: Path) -> None:
    row = train(extended, tmp_path / "run", *TINY, "experiment=encoding")
    assert float(row["train/e/inversion"]) > 0
