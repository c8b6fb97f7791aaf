"""Which checkpoint is the best: the lowest monitor or the highest, as the catalogue says; and what a sweeper is told."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_faults import play  # noqa: F401 - a fixture

from medgan_pl.metrics.catalogue import CATALOGUE
from medgan_pl.train.checkpoints import Checkpoints, higher_is_better
from medgan_pl.train.run import minimized


@pytest.mark.parametrize(
    ("monitor", "higher"),
    [
        ("val/coverage_random", True),
        ("val/density_domain", True),
        ("val/precision_random", True),
        ("val/fd_random", False),
        ("val/kid_inception", False),
        ("val/ms_ssim_fake", False),
        ("val/ms_ssim_paired", True),  # of two kinds that it could be, the longer name
        ("val/dice_synthetic", True),
        ("val/g/weight_norm", False),
        ("val/coveragex", False),
        ("val/d/overfitting", False),
        ("val/new", False),
    ],
)
def test_the_catalogue_says_which_way_is_better(monitor, higher) -> None:
    assert higher_is_better(monitor) is higher
    assert minimized(monitor, 0.3) == (-0.3 if higher else 0.3)
    assert CATALOGUE["ms_ssim_paired"].better != CATALOGUE["ms_ssim"].better


def validate(checkpoints: Checkpoints, value: float) -> tuple[bool, bool]:
    """One validation with this value: whether it was saved as the best, and whether the run is to end."""
    saved: list[bool] = []
    checkpoints.save = lambda trainer, module, best: saved.append(best)
    state = SimpleNamespace(fn="fit")
    metrics = {checkpoints.monitor: torch.tensor(value)}
    trainer: Any = SimpleNamespace(callback_metrics=metrics, state=state, world_size=1, should_stop=False)
    checkpoints.on_validation_end(trainer, SimpleNamespace(images=0))
    return saved[0], trainer.should_stop


@pytest.mark.parametrize(("monitor", "sign"), [("val/coverage_random", 1), ("val/fd_random", -1)])
def test_best_follows_the_monitor_and_patience_counts_from_it(monitor, sign) -> None:
    checkpoints = Checkpoints("none", monitor, stop_after=2)
    told = [validate(checkpoints, sign * value) for value in (0.2, 0.5, 0.5, 0.4)]
    assert told == [(True, False), (True, False), (False, False), (False, True)]
    assert checkpoints.best == sign * 0.5  # as it is shown
    again = Checkpoints("none", monitor)
    again.load_state_dict(checkpoints.state_dict())
    assert (again.best, again.worse) == (sign * 0.5, 2)
    assert validate(again, sign * 0.6) == (True, False)


def test_a_monitor_that_cannot_be_computed_keeps_the_newest_until_there_is_a_best() -> None:
    checkpoints = Checkpoints("none", "val/fd_random", stop_after=2)
    nan = float("nan")
    assert [validate(checkpoints, value) for value in (nan, nan, nan)] == [(True, False)] * 3
    assert [validate(checkpoints, value) for value in (0.4, nan)] == [(True, False), (False, False)]
    assert (checkpoints.best, checkpoints.worse) == (pytest.approx(0.4), 0)


def test_of_another_monitor_nothing_is_compared() -> None:
    before, now = Checkpoints("none", "val/fd_random"), Checkpoints("none", "val/coverage_random")
    validate(before, 3.0)
    now.load_state_dict(before.state_dict())
    assert validate(now, 0.1) == (True, False)
    older = {"best": 0.3, "worse": 1}  # as it was written before the monitor stood beside it
    now.load_state_dict(older)
    assert now.best == 0.3


def test_a_run_by_coverage(play, tmp_path: Path) -> None:  # noqa: F811
    """Every metric of metrics=full is a finite number, and the best checkpoint is that of the highest coverage."""
    table = play("metrics=full", "monitor=val/coverage_random")
    for key in ("precision", "recall", "density", "coverage", "fd", "kid"):
        assert len(table[f"val/{key}_random"][1]) == 4, key
    images, values = table["val/coverage_random"]
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["medgan_pl"]
    trained = dict(zip(images[1:], values[1:], strict=True))
    assert best["images"] == max(trained, key=trained.get)
    assert best["best"] == pytest.approx(max(trained.values()))
