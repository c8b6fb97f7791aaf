"""Every model learns: on the embedded cohort, in minutes, it beats its own untrained self by a factor of 3."""

from pathlib import Path

import pytest
from command_line import command, rows
from test_plays import UNSOURCED

NEEDS = {"acgan": ("model.classes=4",)}  # what a model cannot do without; the cohort's films have four classes
FILMS = ("data.size=32", "data.cohort.patients=600", "total_images=8000", "validate_every=2000")
VOLUMES = ("data=ct", "image.spatial_dims=3", "data.size=16", "data.cohort.patients=100", "total_images=5000", "validate_every=1000")


def fall(model: str, *overrides: str) -> float:
    """How many times smaller the best `val/fd_random` is than that of the untrained networks."""
    command("train", f"model={model}", *overrides, "logger=csv", "trainer=cpu", "hydra.run.dir=run", seconds=1500)
    values = [float(row["val/fd_random"]) for row in rows(Path("run")) if row["val/fd_random"]]
    return values[0] / min(values[1:])


@pytest.mark.slow
@pytest.mark.parametrize("model", [model for model in UNSOURCED if model != "hagan"])
def test_every_model_learns_films(model) -> None:
    assert fall(model, *FILMS, *NEEDS.get(model, ())) > 3


@pytest.mark.slow
@pytest.mark.parametrize("model", UNSOURCED)
def test_every_model_learns_volumes(model) -> None:
    assert fall(model, *VOLUMES, *NEEDS.get(model, ())) > 3
