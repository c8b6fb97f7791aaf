"""One turn by value: the parts of a batch by their size, and the schedules of the penalty and of Adam's second beta."""

import math
from types import SimpleNamespace

import pytest
import torch
from games_of_numbers import NumbersData
from test_module import TINY, fit
from torch import nn

from medgan_pl.core.files import read_table
from medgan_pl.models.build import build_module
from medgan_pl.models.games.base import Losses
from medgan_pl.models.players import Player
from medgan_pl.models.schedules import Constant, Ramp
from medgan_pl.models.turn import losses_of

RAMP = Ramp(start=0.2, end=1.0, images=8)


def ramp(images: int) -> float:
    """From 0.2 to 1 along half a cosine over 8 images."""
    return 1 - 0.8 * (1 + math.cos(math.pi * min(1, images / 8))) / 2


def test_a_ramp_by_value() -> None:
    assert [RAMP(n, 100) for n in (0, 4, 8, 99)] == pytest.approx([0.2, 0.6, 1, 1])
    assert [Ramp(start=1.0, end=0.0, share=0.25)(n, 80) for n in (0, 5, 10, 20, 80)] == pytest.approx(
        [1, (1 + math.cos(math.pi / 4)) / 2, 0.5, 0, 0]
    )


def test_uneven_parts_weigh_by_their_images(settings, tmp_path) -> None:
    """Five images in parts of three and two: the gradients and the logged values are those of the five."""
    plain = (*TINY, "total_images=5", "log_every=5", "model=mlp", "clip_d=null", "optimizer@optimizer_g=sgd", "optimizer_g.lr=0.1")
    modules = [build_module(settings(*plain, f"accumulate={parts}")) for parts in (1, 2)]
    logged = []
    for i, module in enumerate(modules):
        fit(module, tmp_path / str(i), NumbersData(batch_size=5))
        logged.append({key: values[1] for key, values in read_table(tmp_path / str(i) / "metrics.csv").items() if "/loss" in key})
    for whole, parts in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-6)
    assert logged[0].keys() == logged[1].keys() > set()
    assert all(logged[0][key] == pytest.approx(logged[1][key], rel=1e-4) for key in logged[0])


@pytest.mark.parametrize(("schedule", "factor"), [(None, 1.0), (RAMP, 0.6)])
def test_the_schedule_of_the_penalty_weighs_penalties_alone(schedule: Ramp | None, factor: float) -> None:
    game = SimpleNamespace(
        generator="g",
        losses=lambda *_, **__: Losses({"adversarial": torch.tensor(3.0)}),
        penalties=lambda *_: {"penalty": torch.tensor(10.0), "path": torch.tensor(5.0)},
    )
    module = SimpleNamespace(
        game=game, networks=nn.ModuleDict({"d": nn.Linear(1, 1)}), called={}, turns={"d": 0}, stage="both", images=4, total_images=100,
        stages={"both": SimpleNamespace(adversarial=True)}, ownership=SimpleNamespace(owned={"d": []}),
        players={"d": SimpleNamespace(schedule_penalty=schedule)},
    )  # fmt: skip
    terms = losses_of(module, "d", {}, torch.zeros(1)).terms
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"adversarial": 3, "penalty": 10 * factor, "path": 5 * factor}
    )


def test_the_rate_and_the_second_beta_follow_their_schedules() -> None:
    weight = nn.Parameter(torch.zeros(1))
    player = Player(
        network=nn.Identity(),
        optimizer=lambda weights: torch.optim.Adam(weights, lr=0.01, betas=(0.3, 0.9)),
        schedule=Constant(warmup_images=10),
        beta2=RAMP,
    )
    optimizer = player.build_optimizer([weight])
    for images in (0, 4, 6, 50):
        player.set_rate(optimizer, images, 100, 0.5)
        (group,) = optimizer.param_groups
        assert group["lr"] == pytest.approx(0.01 * min(1, (images + 1) / 10) * 0.5)
        assert group["betas"] == (0.3, pytest.approx(ramp(images)))
    player.beta2 = None
    player.set_rate(optimizer, 0, 100, 1.0)
    assert optimizer.param_groups[0]["betas"] == (0.3, 1.0), "without a schedule it stays"
    with pytest.raises(ValueError, match="`beta2` needs Adam"):
        Player(network=nn.Identity(), optimizer=lambda w: torch.optim.SGD(w, lr=1), beta2=RAMP).build_optimizer([weight])


def test_both_keys_reach_both_players(settings, tmp_path) -> None:
    """Eight images in two steps: the last begins at 4 images, half way. The penalty of the first step is a fifth of what it would be."""
    ends = ("start=0.2", "end=1.0", "images=8")
    keys = [f"{key}.{end}" for key in ("schedule_penalty", "beta2") for end in ends]
    plain = (*TINY, "total_images=8", "log_every=4", "model=mlp", "optimizers=adam", "penalty=r1", "penalty.every=1")
    runs = {"with": ("schedule@schedule_penalty=ramp", "schedule@beta2=ramp", *keys), "without": ()}
    paid = {}
    for name, extra in runs.items():
        module = build_module(settings(*plain, *extra))
        trainer = fit(module, tmp_path / name)
        paid[name] = read_table(tmp_path / name / "metrics.csv")["train/d/penalty"][1]
        betas = [group["betas"][1] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        assert betas == (pytest.approx([0.6, 0.6]) if extra else betas[:1] * 2)
    assert paid["with"][0] == pytest.approx(0.2 * paid["without"][0], rel=1e-5)
