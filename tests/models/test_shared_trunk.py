"""Layers that both players have, through the real trainer: whose they are, when they learn, and that a checkpoint keeps them one."""

import copy
from pathlib import Path

import pytest
import torch
from command_line import TINY as SMALL
from command_line import command
from games_of_numbers import NumbersData
from test_module import equal, fit, weights
from torch import Tensor, nn

import medgan_pl
from medgan_pl.core.batch import Batch
from medgan_pl.models.build import build_module
from medgan_pl.models.games.base import Losses
from medgan_pl.models.module import AdversarialModule

TINY = ("seed=3", "data.size=16", "model=shared_trunk", "model.width=4", "model.latent=8", "metrics.random.extractor.width=4", "logger=csv")
BOTH = pytest.mark.parametrize("both", [False, True], ids=["D's", "both"])


def trunk(module: AdversarialModule) -> list[Tensor]:
    return weights(module.networks["g"].trunk)


def one(module: AdversarialModule) -> bool:
    pairs = zip(module.networks["g"].trunk.parameters(), module.networks["d"].trunk.parameters(), strict=True)
    return all(mine is theirs for mine, theirs in pairs)


@BOTH
def test_the_same_tensors_each_in_one_optimiser(settings, both) -> None:
    module = build_module(settings(*TINY, f"share.both={both}"))
    assert one(module)
    in_g, in_d = ([id(w) for group in optimizer.param_groups for w in group["params"]] for optimizer in module.configure_optimizers())
    assert sorted(in_g + in_d) == sorted(
        {id(weight) for weight in (*module.networks["g"].parameters(), *module.networks["d"].parameters())}
    )
    assert {id(weight) for weight in module.networks["g"].trunk.parameters()} <= set(in_d)


@BOTH
@pytest.mark.parametrize("player", ["d", "g"])
def test_in_whose_turns_it_learns(settings, tmp_path, both, player) -> None:
    module = build_module(settings(*TINY, "total_images=8", f"stages.both.players=[{player}]", f"share.both={both}"))
    before, head, decoder = trunk(module), weights(module.networks["d"].verdict), weights(module.networks["g"].to_image)
    fit(module, tmp_path)
    assert equal(before, trunk(module)) == (player == "g" and not both)
    assert equal(head, weights(module.networks["d"].verdict)) == (player == "g")
    assert equal(decoder, weights(module.networks["g"].to_image)) == (player == "d")
    assert one(module)


def test_in_gs_turn_it_learns_as_the_part_of_g_that_it_is(settings, tmp_path) -> None:
    rates = ("optimizer@optimizer_d=sgd", "optimizer_d.lr=1", "optimizer_d.momentum=0", "penalty=none")
    module = build_module(settings(*TINY, "total_images=4", "stages.both.players=[g]", "share.both=true", *rates))
    before, batches = trunk(module), []
    judge, g = copy.deepcopy(module.networks["d"]), copy.deepcopy(module.networks["g"])  # two trunks: one is judged by, one is learnt
    play = module.game.play
    module.game.play = lambda network, batch: (batches.append(batch), play(network, batch))[1]
    fit(module, tmp_path)
    module.game.generator_losses(judge, batches[0], g(batches[0]["z"])).total.backward()
    for old, new, weight in zip(before, trunk(module), g.trunk.parameters(), strict=True):
        torch.testing.assert_close(new, old - weight.grad, rtol=1e-4, atol=1e-6)


@BOTH
def test_parts_add_up_to_the_whole_batch(settings, tmp_path, both) -> None:
    plain = (*TINY, "total_images=12", "clip_d=1", "clip_g=1", f"share.both={both}", "penalty.every=2", "d_per_g=2")
    plain += ("optimizer@optimizer_g=sgd", "optimizer@optimizer_d=sgd")  # Adam would blow rounding up to its step size
    modules = [build_module(settings(*plain, f"accumulate={parts}")) for parts in (1, 3)]
    for i, module in enumerate(modules):
        for layer in module.networks["g"].modules():  # batch norm sees the part, not the batch
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
        module.networks["g"].train = lambda mode=True, g=module.networks["g"]: g
        fit(module, tmp_path / str(i), NumbersData(batch_size=6))
    for whole, parts in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)


def test_g_plays_with_the_layers_that_d_has_just_changed_under_bf16(settings, tmp_path) -> None:
    module = build_module(settings(*TINY, "total_images=4", "share.both=true", "optimizer_d.lr=0.1"))
    seen = []
    losses = module.game.generator_losses

    def look(d: nn.Module, batch: Batch, fake: Tensor) -> Losses:
        seen.append((fake.detach(), copy.deepcopy(module.networks["g"])(batch["z"]).detach()))  # copies have no cast weights in the cache
        return losses(d, batch, fake)

    module.game.generator_losses = look
    fit(module, tmp_path, precision="bf16-mixed")
    torch.testing.assert_close(*seen[0], rtol=0, atol=1e-2)


@BOTH
def test_resumed_it_is_still_shared_and_equals_the_run_that_was_not_stopped(settings, tmp_path, both) -> None:
    steady = (*TINY, f"share.both={both}", "schedule@schedule_g=constant", "schedule@schedule_d=constant", "validate_every=16")
    through, first, second = (build_module(settings(*steady, f"total_images={images}")) for images in (32, 16, 32))
    fit(through, tmp_path / "a")
    fit(first, tmp_path / "b")
    fit(second, tmp_path / "b", ckpt_path=str(tmp_path / "b" / "checkpoints" / "last.ckpt"))
    assert second.images == 32
    assert one(second)
    assert equal(weights(through), weights(second))


@pytest.mark.slow
def test_a_checkpoint_loads_draws_and_travels(tmp_path: Path) -> None:
    wide = "model.width=16"  # so that a tensor told of twice would claim more than the file has
    command("train", *SMALL, "model=shared_trunk", wide, "logger=csv", "hydra.run.dir=here")
    assert one(medgan_pl.load("here/checkpoints/last.ckpt"))
    command("export", "checkpoint=here/checkpoints/last.ckpt", "output=alone.safetensors")
    command("export", "checkpoint=here/checkpoints/last.ckpt", "output=whole.safetensors", "whole=true")
    for source in ("here/checkpoints/last.ckpt", "alone.safetensors", "whole.safetensors"):
        command("sample", f"checkpoint={source}", "n=2", "output=drawn", "device=cpu")
        assert Path("drawn/000001.png").stat().st_size > 0
