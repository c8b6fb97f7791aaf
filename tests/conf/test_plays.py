"""Every model of the configuration plays: it builds, and takes a real step in each space, with each objective and each penalty."""

import copy
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from placed import FOLDER, options, resolved, with_option
from torch.optim import Optimizer

from medgan_pl.models.build import build_module
from medgan_pl.models.games.base import Losses
from medgan_pl.models.module import AdversarialModule
from medgan_pl.models.networks.layers import frozen

TINY = ("data.size=16", "model.width=4", "metrics.random.extractor.width=4")
MODELS = options("model")
SOURCED = [model for model in MODELS if "source_channels" in (FOLDER / "model" / f"{model}.yaml").read_text()]  # make images of images
BETWEEN = ["cut", "cycle_gan", "star_gan"]  # of one domain into another: the batch's label is the domain
UNSOURCED = [model for model in MODELS if model not in (*SOURCED, *BETWEEN)]
NEEDS = {"acgan": ("model.classes=2",)} | dict.fromkeys(SOURCED, ("model.discriminator.layers=1",))  # what a model cannot do without
NEEDS |= dict.fromkeys(["cut", "cycle_gan"], ("model.patches.layers=1",)) | {"cut": ("model.discriminator.layers=1",)}
FIRST = {"acgan", "fastgan", "resnet_hybrid", "shared_trunk", "unet_gan"}  # of games whose D is asked in its own way
FLAT, OBLONG, CUBE, BRICK = (16, 16), (16, 24), (16, 16, 16), (8, 16, 16)


def shapes(model: str) -> list[tuple[int, ...]]:
    return [CUBE, BRICK] if model == "hagan" else [FLAT, OBLONG, BRICK]


def built(settings, model: str, *overrides: str, size: tuple[int, ...] = FLAT) -> AdversarialModule:
    latent = () if model in (*SOURCED, "cut", "cycle_gan") else ("model.latent=8",)
    where = (*latent, f"image.spatial_dims={len(size)}", f"data.size=[{','.join(map(str, size))}]")
    return build_module(settings(f"model={model}", *TINY, *where, *NEEDS.get(model, ()), *overrides))


def play(module: AdversarialModule) -> tuple[Losses, Losses]:
    """One turn of D and one of G, with the configured optimizers, by hand; every gradient must be finite and every player must move."""
    optimizer_g, optimizer_d = module.configure_optimizers()
    config = module.config
    image = torch.rand(4, config["data"]["channels"], *config["data"]["size"]) * 2 - 1
    labels = 2 if module.game.sourced else max(1, config["model"]["classes"])
    batch = {"image": image, "label": torch.arange(4) % labels}
    if "source_channels" in config["model"]:
        sides = [side // config["model"]["factor"] for side in config["data"]["size"]]
        batch["source"] = torch.rand(4, config["model"]["source_channels"], *sides) * 2 - 1
    batch = module.game.draw(batch | {"covariates": torch.randn(4, len(config["model"].get("covariates", [])))})
    fake = module.game.play(module.networks["g"], batch)
    seen = {name: each.detach() for name, each in fake.items()} if isinstance(fake, dict) else fake.detach()
    paid_d = module.game.discriminator_losses(module.networks["d"], batch, seen)
    paid_d.terms.update(module.game.discriminator_penalties(module.networks["d"], batch, seen, 0))
    step(module.networks["d"], [optimizer_d], paid_d)
    if module.ownership.shared:
        fake = module.game.play(module.networks["g"], batch)
    with frozen(module.networks["d"]):
        paid_g = module.game.generator_losses(module.networks["d"], batch, fake)
        paid_g.terms.update(module.game.generator_penalties(module.networks["g"], batch, 0))
        step(module.networks["g"], [optimizer_g], paid_g)
    images = module.generate(batch)
    assert images.shape == image.shape
    assert images.abs().max() <= 1
    return paid_d, paid_g


def step(player: torch.nn.Module, optimizers: list[Optimizer], losses: Losses) -> None:
    learning = {name: weight for name, weight in player.named_parameters() if weight.requires_grad}
    before = [weight.detach().clone() for weight in learning.values()]
    losses.total.backward()
    for name, weight in learning.items():
        assert weight.grad is not None, f"{name} got no gradient"
        assert weight.grad.isfinite().all(), name
    for optimizer in optimizers:
        optimizer.step()
    player.zero_grad()
    assert any(not torch.equal(old, new) for old, new in zip(before, learning.values(), strict=True))


def part(module: AdversarialModule, group: str, place: str, option: str) -> Any:
    """Return what the configuration of the module, with this option, has in a place, built."""
    raw = with_option(module.config, group, place, option)
    return instantiate(resolved(raw[place], raw), _convert_="all")


@pytest.mark.parametrize("model", MODELS)
def test_every_model_plays(settings, model) -> None:
    """In each space, alone and with all conditions.

    The first models play all objectives and penalties; the others those that ask most of their layers and games: pairs, and a second
    derivative.
    """
    first, *others = shapes(model)
    conditions = ("model.classes=2", "model.covariates=[age,sex]") if model in UNSOURCED else ()
    for size in others:
        play(built(settings, model, "data.channels=3", *conditions, size=size))
    # A slow D: one step at 0.1 against WGAN-GP through batch norm may end in a D that is 0 everywhere.
    module = built(settings, model, "optimizer_d.lr=1e-4", size=first)
    start, game = copy.deepcopy(module.networks.state_dict()), module.game
    play(module)
    for penalty in options("penalty") if model in FIRST else ("wgan_gp",):
        module.networks.load_state_dict(start)
        game.penalty = part(module, "penalty", "penalty", penalty)
        paid, _ = play(module)
        assert ("penalty" in paid.terms) == (penalty != "none"), penalty
    game.penalty = part(module, "penalty", "penalty", "none")
    for objective in options("objective") if model in FIRST else ("relative",):
        module.networks.load_state_dict(start)
        game.objective = part(module, "objective", "objective", objective)
        play(module)
    before = [weight.clone() for weight in module.ema.network.parameters()]
    module.ema.update(module.networks["g"], images=1000, new_images=100)
    assert any(not torch.equal(old, new) for old, new in zip(before, module.ema.network.parameters(), strict=True))


@pytest.mark.parametrize("model", ["mlp", "dcgan", "resnet_gan"])
def test_spectral_norm(settings, model) -> None:
    play(built(settings, model, "model.discriminator.spectral_norm=true"))


@pytest.mark.parametrize("model", ["unet_gan", "rrdb_gan", "translator_gan"])
def test_every_translation_enlarges_its_source(settings, model) -> None:
    for size in (OBLONG, CUBE):
        play(built(settings, model, "model.factor=4", size=size))


def test_every_extra_is_paid_between_fake_and_real(settings) -> None:
    for size in (FLAT, CUBE):
        module = built(settings, "unet_gan", size=size)
        for extra in options("extra"):
            if extra != "perceptual":  # needs weights of a pretrained network
                module.game.extras = torch.nn.ModuleDict(part(module, "extra", "extras", extra))
                _, paid = play(module)
                assert paid.terms.keys() == {"adversarial", extra}


def test_every_augmentation_plays_in_every_space(settings) -> None:
    for size in (FLAT, CUBE):
        module = built(settings, "resnet_gan", "penalty=r1r2", size=size)
        for augment in options("augment"):
            module.game.augment = part(module, "augment", "augment", augment)
            play(module)


def test_every_regularizer_plays_alone_and_with_the_others(settings) -> None:
    for size, augment in ((FLAT, "none"), (CUBE, "diffaugment")):
        module = built(settings, "resnet_gan", f"augment={augment}", size=size)
        each = {name: part(module, "regularizer", "regularizers", name)[name] for name in options("regularizer")}
        for chosen in (*({name: one} for name, one in each.items()), each):
            module.game.regularizers = torch.nn.ModuleDict(chosen)
            paid, _ = play(module)
            assert paid.terms.keys() >= chosen.keys()


def test_every_optimizer_serves_either_player(settings) -> None:
    module = built(settings, "resnet_gan")
    start = copy.deepcopy(module.networks.state_dict())
    for optimizer in options("optimizer"):
        module.networks.load_state_dict(start)
        for name, player in module.players.items():
            player.optimizer = part(module, "optimizer", f"optimizer_{name}", optimizer)
        play(module)
