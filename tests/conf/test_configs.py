"""Every configuration plays: each model against each objective and each penalty builds and takes a real step; every option composes."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.optim import Optimizer

from medgan_pl.core.console import configuration_folder, describe_groups, suggest
from medgan_pl.models.build import build_module
from medgan_pl.models.games.base import Losses
from medgan_pl.models.module import AdversarialModule
from medgan_pl.models.networks.layers import frozen

FOLDER = configuration_folder()
HOUSE = FOLDER.parent


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (FOLDER / group).glob("*.yaml"))


TINY = ("data.size=16", "model.width=4", "metrics.random.extractor.width=4")
SPACES = {"2-D": ((16, 16), (16, 24)), "3-D": ((16, 16, 16), (8, 16, 16))}
ONLY = {"hagan": "3-D"}  # the others play in both
SOURCED = [
    model for model in options("model") if "source_channels" in (FOLDER / "model" / f"{model}.yaml").read_text()
]  # make images of images
NEEDS = {"acgan": ("model.classes=2",)} | dict.fromkeys(SOURCED, ("model.discriminator.layers=1",))  # what a model cannot do without
BETWEEN = ["cut", "cycle_gan", "star_gan"]  # of one domain into another: the batch's label is the domain
NEEDS |= dict.fromkeys(["cut", "cycle_gan"], ("model.patches.layers=1",)) | {"cut": ("model.discriminator.layers=1",)}
UNSOURCED = [model for model in options("model") if model not in (*SOURCED, *BETWEEN)]
PLAYS = [
    (model, space, size)
    for model in options("model")
    for space, sizes in SPACES.items()
    for size in sizes
    if ONLY.get(model, space) == space
]


def built(settings, model: str, *overrides: str, size: tuple[int, ...] = (16, 16)) -> AdversarialModule:
    if ONLY.get(model) == "3-D":
        size = size if len(size) == 3 else (16, 16, 16)
    latent = () if model in (*SOURCED, "cut", "cycle_gan") else ("model.latent=8",)
    where = (*latent, f"image.spatial_dims={len(size)}", f"data.size=[{','.join(map(str, size))}]")
    return build_module(settings(f"model={model}", *TINY, *where, *NEEDS.get(model, ()), *overrides))


def play(module: AdversarialModule) -> tuple[Losses, Losses]:
    """One turn of D and one of G, with the configured optimisers, by hand; every gradient must be finite and every player must move."""
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


@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize(("model", "space", "size"), PLAYS)
def test_every_model_plays_in_every_shape(settings, model, space, size, classes) -> None:
    if (classes == 0 and model == "acgan") or (classes and model not in UNSOURCED):
        pytest.skip("acgan names classes, and images of images know none")
    play(built(settings, model, f"model.classes={classes}", size=size))


@pytest.mark.parametrize("model", options("model"))
def test_every_model_plays_every_objective(settings, model) -> None:
    module = built(settings, model)
    start = copy.deepcopy(module.networks.state_dict())
    for objective in options("objective"):
        module.networks.load_state_dict(start)
        module.game.objective = instantiate(settings(f"objective={objective}")["objective"])
        play(module)
    before = [weight.clone() for weight in module.ema.network.parameters()]
    module.ema.update(module.networks["g"], images=1000, new_images=100)
    assert any(not torch.equal(old, new) for old, new in zip(before, module.ema.network.parameters(), strict=True))


@pytest.mark.parametrize("model", options("model"))
def test_every_model_plays_every_penalty_with_labels(settings, model) -> None:
    # A slow D: one step at 0.1 against WGAN-GP through batch norm may end in a D that is 0 everywhere.
    module = built(settings, model, *(("model.classes=2",) if model in UNSOURCED else ()), "optimizer_d.lr=1e-4")
    start = copy.deepcopy(module.networks.state_dict())
    for penalty in options("penalty"):
        module.networks.load_state_dict(start)
        module.game.penalty = instantiate(settings(f"penalty={penalty}")["penalty"])
        paid, _ = play(module)
        assert ("penalty" in paid.terms) == (penalty != "none"), penalty


@pytest.mark.parametrize("model", options("model"))
def test_every_model_with_other_channels(settings, model) -> None:
    play(built(settings, model, "data.channels=3"))


@pytest.mark.parametrize("model", UNSOURCED)
def test_every_model_with_covariates(settings, model) -> None:
    play(built(settings, model, "model.covariates=[age,sex]"))


@pytest.mark.parametrize("model", ["mlp", "dcgan", "resnet_gan"])
def test_spectral_norm(settings, model) -> None:
    play(built(settings, model, "model.discriminator.spectral_norm=true"))


@pytest.mark.parametrize("model", ["unet_gan", "rrdb_gan", "translator_gan"])
@pytest.mark.parametrize("factor", [1, 4])
def test_every_translation_enlarges_its_source_in_every_space(settings, model, factor) -> None:
    for size in SPACES["2-D"] + SPACES["3-D"]:
        play(built(settings, model, f"model.factor={factor}", size=size))


@pytest.mark.parametrize("extra", [option for option in options("extra") if option != "perceptual"])
def test_every_extra_is_paid_between_fake_and_real(settings, extra) -> None:
    for size in ((16, 16), (16, 16, 16)):
        _, paid = play(built(settings, "unet_gan", f"extra={extra}", size=size))
        assert paid.terms.keys() == {"adversarial", extra}


@pytest.mark.parametrize("optimizer", options("optimizer"))
def test_every_optimizer_serves_either_player(settings, optimizer) -> None:
    play(built(settings, "resnet_gan", f"optimizer@optimizer_d={optimizer}", f"optimizer@optimizer_g={optimizer}"))


@pytest.mark.parametrize("schedule", options("schedule"))
def test_every_schedule_is_a_factor(settings, schedule) -> None:
    module = build_module(settings(f"schedule@schedule_g={schedule}", *TINY))
    assert all(0 <= module.players["g"].schedule(images, 100) <= 1 for images in range(0, 101, 10))


@pytest.mark.parametrize("augment", options("augment"))
def test_every_augmentation_plays_in_every_space(settings, augment) -> None:
    for size in ((16, 16), (16, 16, 16)):
        play(built(settings, "resnet_gan", f"augment={augment}", "penalty=r1r2", size=size))


@pytest.mark.parametrize("regularizer", [*options("regularizer"), f"[{','.join(options('regularizer'))}]"])
@pytest.mark.parametrize("augment", ["none", "diffaugment"])
def test_every_regularizer_plays_alone_and_with_the_others(settings, regularizer, augment) -> None:
    for size in ((16, 16), (16, 16, 16)):
        paid, _ = play(built(settings, "resnet_gan", f"regularizer={regularizer}", f"augment={augment}", size=size))
        assert paid.terms.keys() >= set(regularizer.strip("[]").split(","))


def test_mirroring_is_refused_where_left_and_right_differ(settings) -> None:
    mirrored = ("augment=fixed", "augment.flip=true")
    for data in ("chest_xray", "xray", "ct"):
        with pytest.raises(InstantiationException, match=r"augment\.flip=true mirrors left and right"):
            build_module(settings(f"data={data}", *mirrored, *TINY))
    build_module(settings("data=mri", *mirrored, *TINY))
    build_module(settings("data=xray", "data.laterality=false", *mirrored, *TINY))


def test_the_defaults_are_adam_for_g_and_sgd_for_d(settings) -> None:
    optimizer_g, optimizer_d = build_module(settings(*TINY)).configure_optimizers()
    assert isinstance(optimizer_g, torch.optim.Adam)
    assert isinstance(optimizer_d, torch.optim.SGD)


@pytest.mark.parametrize("trainer", options("trainer"))
def test_every_trainer_composes(settings, trainer) -> None:
    node = settings(f"trainer={trainer}")["trainer"]
    if trainer in ("auto", "cpu"):
        instantiate(node, logger=False, enable_checkpointing=False, enable_progress_bar=False)


GROUPS = ("beside@data.beside.source", "extra", "stages", "noise", "optimizers", "logger", "data", "intensity@data.intensity")
GROUPS += ("game", "metrics", "experiment")
OTHERS = [(group, option) for group in GROUPS for option in options(group.split("@")[0])]


@pytest.mark.parametrize(("group", "option"), OTHERS)
@pytest.mark.slow
def test_every_option_composes(settings, group, option) -> None:
    needs = {("metrics", "segmentation"): ["beside@data.beside.mask=masks"], ("game", "star"): ["model=star_gan"]}
    chosen = f"{group}={option}"
    config = settings(*needs.get((group, option), []), chosen)
    assert suggest([chosen, *(f"{key}=" for key in keys_of(config))], FOLDER) == []


def keys_of(node: Any) -> list[str]:
    """All of it, dotted, as they are typed."""
    below = {key: keys_of(value) for key, value in node.items()} if isinstance(node, dict) else {}
    return [*below, *(f"{key}.{rest}" for key, keys in below.items() for rest in keys)]


@pytest.mark.parametrize("typed", ["extras.perceptul.weight=2", "extractor@extras.perceptul.extractor=file", "extras.perceptul=null"])
def test_only_a_name_that_is_nowhere_gets_a_hint(typed) -> None:
    right = ["extractor@extras.perceptual.extractor=file", "data.beside.source.root=/data", "data.domains.t1.root=/data", "resume.path=x"]
    hints = suggest([*right, typed, "data.size=16", typed, "+schedule@extras.mine.weight=linear", "extras.mine.weight=2"], FOLDER)
    assert [hint.partition(" or ")[0] for hint in hints] == ["there is no `perceptul` in the configuration; did you mean `perceptual`"]


@pytest.mark.parametrize("experiment", options("experiment"))
def test_errors_of_ct_are_shown_in_hu(settings, experiment) -> None:
    config = settings(f"experiment={experiment}")
    windows, paired = config["data"].get("intensity", {}).get("windows_hu"), config["metrics"].get("paired")
    if windows and paired:
        assert paired["half_range"] == max(high - low for low, high in windows) / 2


def test_slices_of_ct_are_dehazed_as_the_experiment_says(settings) -> None:
    words = re.search("CT: (.*?),", (FOLDER / "experiment" / "dehaze.yaml").read_text())[1].split()
    intensity = settings("experiment=dehaze", *words)["data"]["intensity"]
    assert intensity["_target_"] == "medgan_pl.data.intensity.Window"


@pytest.mark.parametrize("degrade", options("degrade"))
def test_every_degradation_composes(settings, degrade) -> None:
    settings("data=ct", f"degrade@data.degrade={degrade}")


@pytest.mark.parametrize("study", sorted((HOUSE / "experiments").glob("*/study.yaml")), ids=lambda path: path.parent.name)
def test_every_study_composes(study: Path, tmp_path: Path) -> None:
    with initialize_config_dir(str(FOLDER), version_base="1.3"):
        overrides = [f"hydra.searchpath=[file://{study.parent.parent}]", f"+{study.parent.name}=study", f"run_dir={tmp_path}"]
        config = compose("config", overrides=overrides, return_hydra_config=True)
        sweep = config.hydra.sweeper.params
        assert sweep, "a study sweeps over something"
        for key, values in sweep.items():
            first = re.split(r"interval\(|,", str(values))[1 if "interval(" in str(values) else 0]  # of an interval its lower end
            compose("config", overrides=[*overrides, f"{key}={first}"])
    assert OmegaConf.is_config(config.module)
    for name in ("README.md", "results.csv"):
        assert (study.parent / name).is_file(), name


def test_every_option_says_what_it_is() -> None:
    for line in describe_groups(FOLDER).splitlines():
        if line.startswith("    "):
            option, _, sentence = line.strip().partition(" ")
            assert len(sentence.strip()) > 5, option
