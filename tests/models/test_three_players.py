"""A game of three players: an encoder with its own optimizer trains in its own stage, resumes to the bit and is loaded."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from test_module import TINY, equal, fit, weights
from torch import Tensor, nn

import medgan_pl
import medgan_pl.models.games
from medgan_pl.core.files import read_table
from medgan_pl.export.weights import export
from medgan_pl.models.build import build_module
from medgan_pl.models.transfer import transfer

GAME = "medgan_pl.models.games.encoding"
ENCODER = f"network:{{_target_:{GAME}.Encoder,channels:1,width:4,latent:8}},optimizer:{{_target_:torch.optim.Adam,_partial_:true,lr:0.01}}"
THREE = (
    *TINY,
    f"game._target_={GAME}.Encoding",
    f"+module.players.e={{_target_:medgan_pl.models.players.Player,clip:1.0,{ENCODER}}}",
    "+stages.both.images=16",
    "+stages.encode={_target_:medgan_pl.models.schedules.Stage,players:[e]}",
    "schedule@schedule_g=constant",
    "schedule@schedule_d=constant",
    "validate_every=16",
    "log_every=4",
)


@pytest.fixture(autouse=True)
def _added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the package find the game as if its file lay in medgan_pl/models/games."""
    folder = Path(__file__).with_name("added_games")
    monkeypatch.setattr(medgan_pl.models.games, "__path__", [*medgan_pl.models.games.__path__, str(folder)])


def learned(network: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in network.parameters()]


def test_it_trains_in_its_stage_alone_resumes_and_is_loaded(settings: Any, tmp_path: Path) -> None:
    first_stage, stopped, through, resumed = (build_module(settings(*THREE, f"total_images={images}")) for images in (16, 24, 32, 32))
    e = learned(first_stage.networks["e"])
    fit(first_stage, tmp_path / "a")
    assert equal(e, learned(first_stage.networks["e"]))
    fit(through, tmp_path / "b")
    assert all(not torch.equal(*pair) for pair in zip(e, learned(through.networks["e"]), strict=True))
    for name in "gd":
        assert equal(learned(first_stage.networks[name]), learned(through.networks[name]))
    assert equal(weights(first_stage.ema), weights(through.ema))
    assert through.turns == {"g": 4, "d": 4, "e": 4}
    table = read_table(tmp_path / "b" / "metrics.csv")
    assert table["train/e/inversion"][0] == table["train/e/gradient_norm"][0] == [20, 24, 28, 32]
    assert table["train/d/loss"][0] == [4, 8, 12, 16]

    fit(stopped, tmp_path / "c")
    last = tmp_path / "c" / "checkpoints" / "last.ckpt"
    fit(resumed, tmp_path / "c", ckpt_path=str(last))
    assert equal(weights(through), weights(resumed))
    states = [module.optimizers_by_player(wrapped=False)["e"].state_dict()["state"] for module in (through, resumed)]
    for own, other in zip(states[0].values(), states[1].values(), strict=True):
        assert all(torch.equal(value, other[key]) for key, value in own.items())

    loaded = medgan_pl.load(last)
    assert equal(weights(through.networks["e"]), weights(loaded.networks["e"]))
    export(last, tmp_path / "shared.safetensors")
    shared = medgan_pl.load(tmp_path / "shared.safetensors")
    assert set(shared.networks) == {"g", "d", "e"}
    assert not list(shared.networks["e"].parameters())
    lines = transfer(through.state_dict(), build_module(settings(*THREE)))
    assert [line.split(":")[0] for line in lines] == ["g", "d", "e", "ema"]


def test_its_losses_reach_its_own_weights_alone(settings: Any, tmp_path: Path) -> None:
    """The gradient passes through G to the encoder, and G keeps none."""
    module = build_module(settings(*THREE, "total_images=4", "stages.both.images=0"))
    losses, seen = module.game.losses, []

    def look(player: str, networks: Any, *rest: Any, **options: Any) -> Any:
        seen.append({name: any(weight.requires_grad for weight in network.parameters()) for name, network in networks.items()})
        return losses(player, networks, *rest, **options)

    module.game.losses = look
    fit(module, tmp_path)
    assert seen == [{"g": False, "d": False, "e": True}]
    assert all(weight.requires_grad and weight.grad is None for weight in module.networks.parameters())


def test_a_player_in_no_stage_is_refused(settings) -> None:
    with pytest.raises(InstantiationException, match="`stages` must let each player play; e is in no stage"):
        build_module(settings(*(word for word in THREE if not word.startswith("+stages.encode"))))
