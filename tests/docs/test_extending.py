"""The files that docs/extending.md shows are written into a copy of the package, and a user's commands train with them."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import TINY, Process, rows

import medgan_pl
from medgan_pl.core.console import configuration_folder

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCK = re.compile(r"^```(?:python|yaml) (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def copied(place: Path) -> None:
    """Write the package and conf/ with every file that the page shows."""
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


QUICK = (*TINY, "data.cohort.patients=20", "total_images=32", "callbacks.samples.n=4", "logger=csv")
PARTS = ("model=pixelwise", "objective=squared_margin", "penalty=fake_gradient", "regularizer=small_logits", "augment=dimming")
DATA = ("data=my_films", "intensity@data.intensity=extremes", "metrics=brightness")
TASK = (*(word for word in QUICK if not word.startswith(("model.latent", "metrics.random"))), "data.size=32", "model=unet_gan")
CHECKPOINT = "checkpoint=network/checkpoints/last.ckpt"
COMMANDS = (
    ("train", *QUICK, *PARTS, *DATA, "hydra.run.dir=network"),
    ("sample", CHECKPOINT, "n=4", "output=images"),
    ("analyze", "analysis=brightness", CHECKPOINT, "input=images"),
    ("evaluate", CHECKPOINT, "extractor=moments", "n=24", "draws=20", "groups=[fidelity]", "wandb=disabled"),
    ("train", *TASK, "degrade@data.degrade=stripes", "extra=charbonnier", "hydra.run.dir=task"),
    ("train", *QUICK, "total_images=64", "validate_every=64", "experiment=encoding", "hydra.run.dir=game"),
)


def used() -> None:
    """Run the commands of a user of the copy, all in one process, as imports take the longest."""
    copied(Path("copy"))
    Path("commands.json").write_text(json.dumps(COMMANDS))
    user = Path(__file__).with_name("extended_user.py")
    shutil.copy(user, ".")
    process = Process("extended_user", str(Path("copy").absolute()), "commands.json", out=Path("said"), within="")
    assert process.wait() == 0, Path("said").read_text()


@pytest.fixture(scope="module")
def place(made_once: Callable[[str, Callable[[], None]], Path]) -> Path:
    """Where a user has worked with the copy."""
    return made_once("extended", used)


def last_row(run: Path) -> dict[str, float]:
    return {key: float(value) for key, value in rows(run)[-1].items() if value}


def test_a_network_its_losses_data_metrics_and_an_analysis(place: Path) -> None:
    row = last_row(place / "network")
    for key in ("train/d/penalty", "train/d/small_logits", "val/brightness", "val/fd_random"):
        assert row[key] > 0, key
    assert len(json.loads((place / "analyzed/brightness.json").read_text())) >= 4
    results = json.loads((place / "network/report/metrics.json").read_text())["results"]
    assert "fd_moments" in {row["name"] for row in results}


def test_a_paired_task_and_its_loss(place: Path) -> None:
    row = last_row(place / "task")
    assert row["train/g/charbonnier"] > 0
    assert row["val/ssim"]


def test_a_game_of_three_players(place: Path) -> None:
    assert last_row(place / "game")["train/e/inversion"] > 0
