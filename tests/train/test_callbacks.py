"""The things that look, each by what it writes."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan_pl.core.files import read_table
from medgan_pl.data.pictures import to_grid
from medgan_pl.models.build import build_module
from medgan_pl.models.draw import fixed_batch
from medgan_pl.train.tables import MetricsTable

TINY = ("data.size=16", "model.width=4", "model.latent=8", "metrics.random.extractor.width=4")


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_widens_merges_and_forgets(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.csv"
    table = MetricsTable(path)
    table.log_metrics({"images": 0, "val/x": 9.0})
    table.log_metrics({"images": 10, "loss": 1.0})
    table.log_metrics({"images": 20, "loss": 2.0})
    table.log_metrics({"images": 20, "val/x": 3.0})
    assert [row["images"] for row in lines(path)] == ["0", "10", "20"]
    assert lines(path)[2] == {"images": "20", "val/x": "3.0", "loss": "2.0"}
    again = MetricsTable(path)  # a run that goes on from 10 images
    again.forget_after(10)
    again.log_metrics({"images": 20, "loss": 5.0})
    assert [row["images"] for row in lines(path)] == ["0", "10", "20"]
    assert read_table(path)["loss"] == ([10, 20], [1.0, 5.0])
    assert read_table(path)["val/x"] == ([0], [9.0])


def test_a_grid_by_value() -> None:
    images = torch.stack([torch.full((1, 2, 2), value) for value in (-1.0, 0.0, 1.0, 3.0)])
    grid = np.asarray(to_grid(images, columns=2))
    assert grid.shape == (7, 7)
    assert [grid[1, 1], grid[1, 4], grid[4, 1], grid[4, 4]] == [0, 128, 255, 255]
    assert grid[0].max() == 0
    colour = to_grid(torch.zeros(1, 3, 2, 2), columns=1)
    assert colour.mode == "RGB"
    volume = torch.zeros(1, 1, 3, 2, 2)
    volume[:, :, 1] = 1
    assert np.asarray(to_grid(volume, columns=1)).max() == 255


def test_a_place_of_a_grid_depends_on_seed_and_place_alone(settings) -> None:
    module = build_module(settings(*TINY))
    labels = torch.zeros(4, dtype=torch.long)
    whole = fixed_batch(module, labels, seed=1)["z"]
    torch.rand(7)
    assert torch.equal(whole[2:], fixed_batch(module, labels[:2], seed=1, first=2)["z"])
    assert not torch.equal(whole, fixed_batch(module, labels, seed=2)["z"])
    assert len({tuple(z.tolist()) for z in whole}) == 4


@pytest.mark.parametrize("n", [0, -1])
def test_a_grid_needs_images(settings, n) -> None:
    from hydra.utils import instantiate

    with pytest.raises(Exception, match="n` must be a whole number of at least 1"):
        instantiate(settings(f"callbacks.samples.n={n}")["callbacks"]["samples"])
