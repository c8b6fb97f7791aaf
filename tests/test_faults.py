"""What goes wrong in a run, injected: losses, gradients and statistics that are not finite, overflows, full disks, folders and loggers that are
gone. The run goes on, or goes back, or says why it cannot; nothing already computed is lost."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import rows
from games_of_numbers import NumbersData
from omegaconf import OmegaConf
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor, nn

from medgan_pl.callbacks import read_table
from medgan_pl.games.base import Losses
from medgan_pl.games.synthesis import Synthesis
from medgan_pl.module import AdversarialModule
from medgan_pl.train import train

TINY = ("data._target_=test_faults.Numbers", "data.size=16", "data.batch_size=4", "seed=3", "trainer=cpu", "logger=csv", "callbacks.curves=null")
TINY += ("model.width=4", "model.latent=8", "metrics.random.extractor.width=4", "callbacks.samples.n=4", "callbacks.progress=null")
TINY += ("total_images=96", "log_every=16", "validate_every=32")


class Numbers(NumbersData):
    """Numbers as the data of a whole run."""

    spatial_dims = 2

    def __init__(self, *, batch_size: int, **_: Any) -> None:
        super().__init__(batch_size)

    def describe(self) -> list[str]:
        return []


@pytest.fixture
def play(settings: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., dict[str, tuple[list[float], list[float]]]]:
    """A run, from its configuration to its end; its table comes back."""

    def play(*overrides: str) -> dict[str, tuple[list[float], list[float]]]:
        train(OmegaConf.create(settings(*TINY, *overrides)))
        return read_table(tmp_path / "run" / "metrics.csv")

    return play


@pytest.fixture
def inject(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`fault(module, losses, critic)` may change what a player pays, each turn, just before it is differentiated; None leaves it."""

    def inject(fault: Callable[[AdversarialModule, Losses], None], player: str = "d") -> None:
        real = AdversarialModule._losses

        def losses(module: AdversarialModule, who: str, *rest: Any) -> Losses:
            found = real(module, who, *rest)
            if who == player:
                fault(module, found)
            return found

        monkeypatch.setattr(AdversarialModule, "_losses", losses)

    return inject


def spoil(losses: Losses, factor: float = torch.nan) -> None:
    losses.terms["adversarial"] = losses.terms["adversarial"] * factor


def copies(module: AdversarialModule, player: str) -> list[Tensor]:
    """A player's weights and its optimiser's state."""
    network, optimizer = {"g": module.generator, "d": module.discriminator}[player], module.optimizers(use_pl_optimizer=False)["gd".index(player)]
    state = [value for each in optimizer.state_dict()["state"].values() for value in each.values() if isinstance(value, Tensor)]
    return [value.detach().clone() for value in [*network.parameters(), *state]]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def saved(folder: Path, name: str = "last.ckpt") -> dict[str, Any]:
    return torch.load(folder / "run" / "checkpoints" / name, weights_only=True)


def whole(folder: Path, images: list[int]) -> None:
    """The table has each of these rows once and in order, and the last checkpoint is at the end, finite."""
    assert [int(row["images"]) for row in rows(folder / "run")] == images
    state = saved(folder)
    assert state["medgan_pl"]["images"] == images[-1]
    assert all(value.isfinite().all() for value in state["state_dict"].values() if value.is_floating_point())


EVERY_16 = list(range(0, 97, 16))


# Steps that are not finite -----------------------------------------------------------------------------------------------------------


def nan_loss(module: AdversarialModule, losses: Losses) -> None:
    spoil(losses)


def infinite_gradient(module: AdversarialModule, losses: Losses) -> None:
    """The loss stays what it is: sqrt(0) = 0, with the slope of a wall."""
    weight = next(module.discriminator.parameters()).sum()
    losses.terms["wall"] = (weight - weight.detach()).sqrt()


@pytest.mark.parametrize("fault", [nan_loss, infinite_gradient])
def test_a_few_bad_steps_are_skipped_and_counted_and_leave_no_trace(play, inject, tmp_path, fault) -> None:
    seen: dict[int, list[Tensor]] = {}

    def at_two(module: AdversarialModule, losses: Losses) -> None:
        seen[module.images] = copies(module, "d")
        if module.images in (40, 44):
            fault(module, losses)

    inject(at_two)
    table = play()
    assert same(seen[40], seen[44])
    assert same(seen[40], seen[48])
    assert not same(seen[48], seen[52])
    assert not same(seen[36], seen[40])
    assert table["train/skipped"] == (EVERY_16[1:], [0, 0, 2, 2, 2, 2])
    assert all(torch.tensor(values).isfinite().all() for _, values in table.values())
    whole(tmp_path, EVERY_16)


def test_what_never_heals_is_tried_again_slower_and_then_told(play, inject, tmp_path) -> None:
    calm = play("run_dir=calm")
    rates: list[float] = []

    def for_ever(module: AdversarialModule, losses: Losses) -> None:
        if module.images >= 40:
            spoil(losses)
            rates.append(module.optimizers(use_pl_optimizer=False)[1].param_groups[0]["lr"])

    inject(for_ever)
    with pytest.raises(FloatingPointError) as told:
        play("guard.patience=3", "guard.rollbacks=2", "schedule@schedule_d=constant")
    assert rates == [0.1] * 3 + [0.05] * 3 + [0.025] * 3
    assert "2 rollbacks did not help" in str(told.value)
    assert re.findall(r"3 steps in a row .* nan after 48 images \(learning rates × (.*)\)", str(told.value)) == ["1", "0.5", "0.25"]
    assert "last.ckpt, 32 images is the last that is good" in str(told.value)
    whole(tmp_path, [0, 16, 32])
    assert calm.keys() >= {"train/d/loss", "val/fd_random"}


def test_a_rate_that_is_low_enough_carries_the_run_to_its_end(play, inject, tmp_path) -> None:
    def while_fast(module: AdversarialModule, losses: Losses) -> None:
        if module.images >= 40 and module.rate > 0.3:
            spoil(losses)

    inject(while_fast)
    table = play("guard.patience=3", "schedule@schedule_g=constant", "schedule@schedule_d=constant")
    assert table["train/rollbacks"] == (EVERY_16[1:], [0, 0, 2, 2, 2, 2])
    assert table["train/d/lr"][1] == pytest.approx([0.1, 0.1, *[0.025] * 4])
    assert table["train/g/lr"][1] == pytest.approx([5e-4, 5e-4, *[1.25e-4] * 4])
    whole(tmp_path, EVERY_16)
    assert (saved(tmp_path)["medgan_pl"]["rate"], saved(tmp_path)["medgan_pl"]["rollbacks"]) == (0.25, 2)


def test_before_the_first_checkpoint_the_way_back_is_to_the_beginning(play, inject, tmp_path, caplog) -> None:
    inject(lambda module, losses: spoil(losses) if module.rate == 1 and module.images >= 20 else None)
    table = play("guard.patience=2")
    assert "back to the beginning, learning rates × 0.5" in caplog.text
    assert table["train/rollbacks"] == (EVERY_16[1:], [1] * 6)
    whole(tmp_path, EVERY_16)


def test_a_poisoned_running_statistic_is_found_and_never_saved(play, inject, tmp_path, caplog) -> None:
    """Batch norm in training does not use them: the losses stay finite, and the averaged or evaluated network is ruined."""
    poisoned: list[int] = []

    def once(module: AdversarialModule, losses: Losses) -> None:
        if module.images == 40 and not poisoned:
            poisoned.append(module.images)
            next(layer for layer in module.generator.modules() if isinstance(layer, nn.BatchNorm2d)).running_mean[0] = torch.nan

    inject(once)
    table = play()
    assert "running_mean must be finite" in caplog.text
    assert "back to last.ckpt, 32 images" in caplog.text
    assert table["train/rollbacks"][1] == [0, 0, 1, 1, 1, 1]
    whole(tmp_path, EVERY_16)


# Precision ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("player", "other"), [("g", "d"), ("d", "g")])
def test_an_overflow_costs_its_own_player_one_step_and_half_its_scale(play, inject, tmp_path, player, other) -> None:
    seen: dict[int, list[Tensor]] = {}

    def overflow(module: AdversarialModule, losses: Losses) -> None:
        seen[module.images] = copies(module, player)
        if module.images == 40:
            spoil(losses, 1e36)  # finite, and past float32 when scaled

    inject(overflow, player)
    table = play("trainer.precision=16-mixed")
    assert table[f"train/{player}/scale"][1] == [65536, 65536, *[32768] * 4]
    assert table[f"train/{other}/scale"][1] == [65536] * 6
    assert same(seen[40], seen[44])
    assert not same(seen[44], seen[48])
    assert table["train/skipped"][1] == [0, 0, 1, 1, 1, 1]
    whole(tmp_path, EVERY_16)


# How far a logged loss of 10 steps may lie from that of float32 within the first 200: the largest difference seen, doubled.
@pytest.mark.parametrize(
    ("options", "far"),
    [(("trainer.precision=bf16-mixed",), 0.0), (("trainer.precision=16-mixed",), 0.0), (("channels_last=false",), 0.0)],
    ids=["bf16", "16", "channels_last"],
)
def test_precision_and_layout_leave_the_trajectory_alone(play, options, far) -> None:
    long = ("model=resnet_gan", "model.width=8", "total_images=800", "log_every=40", "validate_every=800")
    one, other = play(*long), play(*long, *options, "run_dir=other")
    one, other = (read_table(run / "metrics.csv") for run in (Path("run"), Path("other")))
    for key in ("train/d/loss", "train/g/loss"):
        difference = (torch.tensor(one[key][1]) - torch.tensor(other[key][1])).abs()
        print(options, key, len(difference), float(difference.max()), one[key][1][-1])


# Files and loggers -------------------------------------------------------------------------------------------------------------------


@contextmanager
def fault_between(inject: Callable[..., None], first: int, last: int, begin: Callable[[], Any], end: Callable[[], Any]) -> Iterator[None]:
    """Calls `begin` before the step after `first` images, and `end` before that after `last`."""
    inject(lambda module, losses: {first: begin, last: end}.get(module.images, lambda: None)())
    yield
