"""The classical line: each model is set as its paper has it, and the label is really used."""

from functools import partial

import pytest
import torch
from games_of_numbers import NumbersData
from test_conditional_learning import halves
from test_module import TINY, fit
from torch import nn

from medgan_pl.core.files import read_table
from medgan_pl.models.build import build_module
from medgan_pl.models.games.auxiliary import AuxiliaryClassifier
from medgan_pl.models.games.synthesis import Synthesis
from medgan_pl.models.losses.adversarial import Hinge, NonSaturating, Wasserstein
from medgan_pl.models.losses.penalties import NoPenalty, WassersteinPenalty
from medgan_pl.models.networks.cgan import CGANDiscriminator, CGANGenerator
from medgan_pl.models.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from medgan_pl.models.networks.layers import BATCH_NORM, AuxiliaryHead, frozen

RATES = {  # of G, of D, and the betas of both
    "optimizers=adam": (2e-4, 2e-4, (0.5, 0.999)),
    "model=cgan": (2e-4, 2e-4, (0.5, 0.999)),
    "model=acgan": (2e-4, 2e-4, (0.5, 0.999)),
    "model=wgan_gp": (1e-4, 1e-4, (0.0, 0.9)),
    "model=sngan": (2e-4, 2e-4, (0.0, 0.9)),
    "model=sagan": (1e-4, 4e-4, (0.0, 0.9)),
}


@pytest.mark.parametrize("choice", RATES)
def test_adam_for_both_at_the_rates_of_the_paper(settings, choice) -> None:
    module = build_module(settings(*TINY, choice, "model.width=4", "model.latent=8", "model.classes=2"))
    optimizers, (rate_g, rate_d, betas) = module.configure_optimizers(), RATES[choice]
    assert all(type(optimizer) is torch.optim.Adam for optimizer in optimizers)
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [rate_g, rate_d]
    assert all(optimizer.param_groups[0]["betas"] == betas for optimizer in optimizers)


def test_another_optimizer_brings_its_own_rate(settings) -> None:
    for model in ("wgan_gp", "sngan", "sagan"):
        chosen = settings(f"model={model}", "optimizer@optimizer_d=sgd")["optimizer_d"]
        assert chosen == settings("optimizer@optimizer_d=sgd")["optimizer_d"]


@pytest.mark.parametrize(
    ("model", "objective", "penalty", "turns"),
    [("wgan_gp", Wasserstein(), WassersteinPenalty(), 5), ("sngan", Hinge(), NoPenalty(), 1), ("sagan", Hinge(), NoPenalty(), 1)],
)
def test_no_batch_norm_where_each_image_is_judged_alone(settings, model, objective, penalty, turns) -> None:
    config = settings(*TINY, f"model={model}")
    module = build_module(config)
    assert (module.game.objective, module.game.penalty, config["d_per_g"]) == (objective, penalty, turns)
    assert not any(isinstance(layer, tuple(BATCH_NORM.values())) for layer in module.networks["d"].modules())
    convolutions = [layer for layer in module.networks["d"].modules() if isinstance(layer, nn.Conv2d)]
    assert {hasattr(layer, "parametrizations") for layer in convolutions} == {model != "wgan_gp"}


def test_three_stages_are_ready(settings, tmp_path) -> None:
    stages = settings("stages=three")["stages"]
    assert [(stage["players"], stage.get("images")) for stage in stages.values()] == [(["d"], 2000), (["g"], 2000), (["d", "g"], None)]
    lengths = ("stages.d_only.images=4", "stages.g_only.images=null", "stages.g_only.epochs=0.125")
    module = build_module(settings(*TINY, "total_images=16", "log_every=4", "stages=three", *lengths))
    fit(module, tmp_path, NumbersData())  # of 64 images an epoch
    table = read_table(tmp_path / "metrics.csv")
    assert (table["train/d/loss"][0], table["train/g/loss"][0]) == ([4, 16], [8, 12, 16])


PLAYERS = {
    "cgan": (CGANGenerator, CGANDiscriminator, Synthesis),
    "acgan": (DCGANGenerator, partial(DCGANDiscriminator, head=AuxiliaryHead), AuxiliaryClassifier),
    "acgan, fakes named too": (
        DCGANGenerator,
        partial(DCGANDiscriminator, head=AuxiliaryHead),
        partial(AuxiliaryClassifier, fake_weight=1.0),
    ),
}


@pytest.mark.parametrize("player", PLAYERS)
def test_the_half_that_the_label_says_is_the_bright_one(player) -> None:
    torch.manual_seed(0)
    generator, discriminator, kind = PLAYERS[player]
    where = {"spatial_dims": 2, "channels": 1, "size": 8, "width": 16, "classes": 2}
    g, d = generator(**where, latent=8), discriminator(**where)
    game = kind(latent=8, classes=2, objective=NonSaturating(), penalty=NoPenalty())
    steps_g, steps_d = (torch.optim.Adam(network.parameters(), 1e-3, betas=(0.5, 0.999)) for network in (g, d))
    for _ in range(100):
        label = torch.randint(2, (32,))
        known = torch.where(torch.rand(32) < 0.2, -1, label)
        batch = game.draw({"image": halves(32, torch.zeros(32), label), "label": known})
        fake = game.play(g, batch)
        game.discriminator_losses(d, batch, fake.detach()).total.backward()
        steps_d.step()
        with frozen(d):
            game.generator_losses(d, batch, fake).total.backward()
        steps_g.step()
        g.zero_grad()
        d.zero_grad()
    label = torch.arange(200) % 2
    with torch.no_grad():
        image = game.generate(g.eval(), {"label": label, "z": torch.randn(200, 8)})
    left, right = image.unflatten(3, (2, 4)).mean((1, 2, 4)).unbind(1)
    said, other = torch.where(label == 0, left, right), torch.where(label == 0, right, left)
    assert (said > other).float().mean() > 0.95
    assert (said - other).mean() == pytest.approx(0.5, abs=0.25)
