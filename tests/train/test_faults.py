"""What goes wrong in a run, injected: losses, gradients and statistics that are not finite, overflows. The run goes on, or goes back, or
says why it cannot."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import rows
from games_of_numbers import NumbersData
from omegaconf import OmegaConf
from torch import Tensor, nn

from medgan_pl.core.files import read_table
from medgan_pl.models import turn
from medgan_pl.models.games.base import Losses
from medgan_pl.models.module import AdversarialModule
from medgan_pl.train.run import train

TINY = ("data._target_=test_faults.Numbers", "data.size=16", "data.batch_size=4", "seed=3", "trainer=cpu", "logger=csv", "model=mlp")
TINY += ("callbacks.curves=null", "callbacks.monitors=null", "callbacks.samples.n=4", "callbacks.progress=null")
TINY += ("model.width=4", "model.latent=8", "metrics.random.extractor.width=4", "total_images=96", "log_every=16", "validate_every=32")


class Numbers(NumbersData):
    """Numbers as the data of a whole run."""

    spatial_dims = 2

    def __init__(self, *, batch_size: int, **_: Any) -> None:
        super().__init__(batch_size)

    def describe(self) -> list[str]:
        return []


@pytest.fixture
def play(settings: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., dict[str, tuple[list[float], list[float]]]]:
    """A run in the folder of that name, from its configuration to its end; its table comes back."""

    def play(*overrides: str, name: str = "run") -> dict[str, tuple[list[float], list[float]]]:
        train(OmegaConf.create(settings(*TINY, *overrides, f"run_dir={tmp_path / name}")))
        return read_table(tmp_path / name / "metrics.csv")

    return play


@pytest.fixture
def inject(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`fault(module, losses, critic)` may change what a player pays, each turn, just before it is differentiated; None leaves it."""

    def inject(fault: Callable[[AdversarialModule, Losses], None], player: str = "d") -> None:
        real = turn.losses_of

        def losses(module: AdversarialModule, who: str, *rest: Any) -> Losses:
            found = real(module, who, *rest)
            if who == player:
                fault(module, found)
            return found

        monkeypatch.setattr(turn, "losses_of", losses)

    return inject


def spoil(losses: Losses, factor: float = torch.nan) -> None:
    losses.terms["adversarial"] = losses.terms["adversarial"] * factor


def copies(module: AdversarialModule, player: str) -> list[Tensor]:
    """A player's weights and its optimiser's state."""
    network, optimizer = module.networks[player], module.optimizers_by_player(wrapped=False)[player]
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


RESNET = ("model=resnet_gan",)  # with batch norm
EVERY_16 = list(range(0, 97, 16))


# Steps that are not finite -----------------------------------------------------------------------------------------------------------


def nan_loss(module: AdversarialModule, losses: Losses) -> None:
    spoil(losses)


def infinite_gradient(module: AdversarialModule, losses: Losses) -> None:
    """The loss stays what it is: sqrt(0) = 0, with the slope of a wall."""
    weight = next(module.networks["d"].parameters()).sum()
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
    assert re.findall(r"3 steps in a row .* nan, after 48 images \(learning rates × (.*)\)", str(told.value)) == ["1", "0.5", "0.25"]
    assert "last.ckpt, 32 images is the last good one" in str(told.value)
    assert [int(row["images"]) for row in rows(tmp_path / "run")] == [0, 16, 32, 48]
    assert saved(tmp_path)["medgan_pl"]["images"] == 32


def test_a_rate_that_is_low_enough_carries_the_run_to_its_end(play, inject, tmp_path) -> None:
    def while_fast(module: AdversarialModule, losses: Losses) -> None:
        if module.images >= 40 and module.rate > 0.3:
            spoil(losses)

    inject(while_fast)
    table = play("guard.patience=3", "log_every=4", "schedule@schedule_g=constant", "schedule@schedule_d=constant")
    assert table["train/rollbacks"][1] == [0] * 8 + [2] * 16
    assert table["train/d/lr"][1] == pytest.approx([0.1] * 8 + [0.025] * 16)
    assert table["train/g/lr"][1] == pytest.approx([5e-4] * 8 + [1.25e-4] * 16)
    whole(tmp_path, list(range(0, 97, 4)))
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
            next(layer for layer in module.networks["g"].modules() if isinstance(layer, nn.BatchNorm2d)).running_mean.data[0] = torch.nan

    inject(once)
    table = play(*RESNET)
    assert re.search(
        r"must be finite, but are not: networks.g.blocks.0.norm1.running_mean, .*, after 48 images; back to last.ckpt, 32", caplog.text
    )
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


@pytest.fixture(scope="module")
def calm() -> dict[tuple[str, ...], dict[str, tuple[list[float], list[float]]]]:
    """The tables of runs in float32, by their model."""
    return {}


MLP = ("model.width=32",)  # without batch norm, which sees the part


# The mean loss of 20 steps in a row, at ten places in the first 200 of one seed, may lie this far from that of float32; it was found to lie
# 0.0024, 0.0046, 0.0023 and 0.000003 away, and 0.007 with D's learning rate a tenth higher.
@pytest.mark.parametrize(
    ("option", "model", "far"),
    [
        ("trainer.precision=bf16-mixed", RESNET, 0.01),
        ("trainer.precision=16-mixed", RESNET, 0.01),
        ("channels_last=false", RESNET, 0.01),
        ("accumulate=2", MLP, 1e-4),
        pytest.param(
            *("optimizer_d.lr=0.2", RESNET, 0.01),
            marks=pytest.mark.xfail(strict=True, reason="shows that these bounds can be missed"),
        ),
    ],
)
@pytest.mark.slow
def test_precision_layout_and_parts_leave_the_trajectory_alone(play, calm, option, model, far) -> None:
    long = ("total_images=800", "log_every=80", "validate_every=800", *model)
    if model not in calm:
        calm[model] = play(*long)
    other = play(*long, option, name="other")
    for key in ("train/d/loss", "train/g/loss"):
        assert len(other[key][1]) == 10
        assert other[key][1] == pytest.approx(calm[model][key][1], rel=0, abs=far)
