"""The files that docs/extending.md shows are written into a copy of the package, and a user's commands train with them."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from command_line import TINY, command

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
    assert len(blocks) >= 25
    for name, content in blocks:
        path = place / name
        added = name.endswith(".py") and not content.startswith('"""')
        assert path.exists() == added, f"{name} exists already, or is missing"
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n\n{content}" if added else content)
    return place


def train(place: Path, run: Path, *arguments: str) -> dict[str, str]:
    """Train by the command line in the copy; return the last row of metrics.csv."""
    command("train", *arguments, "logger=csv", f"hydra.run.dir={run}", package=place)
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))[-1]


def test_a_network_its_losses_data_metrics_and_an_analysis(extended: Path, tmp_path: Path) -> None:
    parts = ("model=pixelwise", "objective=squared_margin", "penalty=fake_gradient", "regularizer=small_logits", "augment=dimming")
    data = ("data=my_films", "intensity@data.intensity=extremes", "metrics=brightness")
    row = train(extended, tmp_path / "run", *TINY, *parts, *data)
    for key in ("train/d/penalty", "train/d/small_logits", "val/brightness", "val/fd_random"):
        assert float(row[key]) > 0, key
    checkpoint = f"checkpoint={tmp_path / 'run/checkpoints/last.ckpt'}"
    command("sample", checkpoint, "n=4", f"output={tmp_path / 'images'}", package=extended)
    command("analyze", "analysis=brightness", checkpoint, f"input={tmp_path / 'images'}", package=extended)
    assert len(json.loads(Path("analyzed/brightness.json").read_text())) >= 4
    command("evaluate", checkpoint, "extractor=moments", "n=24", "draws=20", "groups=[fidelity]", package=extended)
    results = json.loads((tmp_path / "run/report/metrics.json").read_text())["results"]
    assert "fd_moments" in {row["name"] for row in results}


def test_a_paired_task_and_its_loss(extended: Path, tmp_path: Path) -> None:
    row = train(extended, tmp_path / "run", *TASK, "data.size=32", "model=unet_gan", "degrade@data.degrade=stripes", "extra=charbonnier")
    assert float(row["train/g/charbonnier"]) > 0
    assert float(row["val/ssim"])


def test_a_game_of_three_players(extended: Path, tmp_path: Path) -> None:
    row = train(extended, tmp_path / "run", *TINY, "experiment=encoding")
    assert float(row["train/e/inversion"]) > 0
