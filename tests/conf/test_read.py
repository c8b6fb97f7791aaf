"""What no part of a run reads is refused by name before data are prepared; every option of every group changes a run or is refused."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medgan_pl.core.console import configuration_folder
from medgan_pl.train import unread
from medgan_pl.train.unread import check_read, references

FOLDER = configuration_folder()

# Each game with networks and data that suit it.
GAMES = {
    "synthesis": ("model=resnet_gan",),
    "auxiliary": ("model=acgan", "model.classes=2"),
    "style": ("model=stylegan2",),
    "hierarchical": ("model=hagan", "data=ct", "image.spatial_dims=3"),
    "reconstruction": ("model=fastgan",),
    "translation": ("model=unet_gan", "degrade@data.degrade=dehaze"),
    "segmentation": ("experiment=lung_segmentation",),
    "cycle": ("experiment=unpaired_ct_mr",),
    "contrastive": ("experiment=unpaired_ct_mr", "model=cut", "~game.gradient"),
    "star": ("experiment=star_mr",),
}

# Each group with the keys it fills. A model, a game, a data set and an experiment are the run itself.
GROUPS = {
    "noise": ("noise",),
    "augment": ("augment",),
    "objective": ("objective",),
    "penalty": ("penalty",),
    "regularizer": ("regularizer",),
    "extra": ("extra",),
    "stages": ("stages",),
    "metrics": ("metrics",),
    "optimizers": ("optimizers",),
    "optimizer": ("optimizer@optimizer_g", "optimizer@optimizer_d"),
    "schedule": ("schedule@schedule_g", "schedule@schedule_d", "schedule@schedule_penalty", "schedule@beta2"),
    "degrade": ("degrade@data.degrade",),
    "beside": ("beside@data.beside.source", "beside@data.beside.mask"),
    "trainer": ("trainer",),
    "logger": ("logger",),
}


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(FOLDER), version_base="1.3"):
        return compose("config", overrides=["run_dir=run", *overrides])


def check(*overrides: str) -> None:
    config = composed(*overrides)
    check_read(*(OmegaConf.to_container(config, resolve=resolve) for resolve in (False, True)))


@pytest.mark.parametrize("game", GAMES)
def test_every_game_reads_what_suits_it(game) -> None:
    check(*GAMES[game])


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("extra=l1",), "nothing reads `extras` here: Synthesis"),
        (("model=unet_gan", "degrade@data.degrade=dehaze", "noise=uniform"), "nothing reads `noise` here: Translation"),
        (("data=ct", "data.patches=2"), "`data.patches` must be 0 in 2-D, got 2"),
        (("data=ct", "image.spatial_dims=3", "data.slices.axis=coronal"), "`data.slices.axis` must be left out in 3-D, got coronal"),
        (("degrade@data.degrade=dehaze",), "`data.degrade` would not be seen: it gives the batch a `source`, and Synthesis reads"),
        (("beside@data.beside.mask=film_masks",), "`data.beside.mask` would not be seen: it gives the batch a `mask`"),
        (("beside@data.beside.source=film",), "use beside@data.beside.source=none"),
        (("experiment=unpaired_ct_mr", "degrade@data.domains.ct.degrade=noise"), "`data.domains.ct.degrade` would not be seen"),
        (("+epochs=3",), "there is no setting `epochs`"),
        (("+lr=0.1",), "there is no setting `lr`"),
        (("++foo.bar=1",), "there is no setting `foo.bar`"),
        (("+guard.patients=1",), "there is no setting `guard.patients`, so nothing would read it; leave it out. did you mean"),
        (("+data.sizes=64",), "there is no setting `data.sizes`"),
        (("+device=cpu",), "there is no setting `device`"),
        (("+model.depth=3",), "nothing reads `model.depth` here"),
    ],
)
def test_what_nothing_reads_is_refused(overrides, told) -> None:
    with pytest.raises(ValueError, match="(?i)" + told.replace(".", r"\.")):
        check(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ("+optimizer_g.weight_decay=0.1", "+logger.wandb.tags=[a]", "+trainer.benchmark=true", "+callbacks.samples.more=1"),
        ("model=unet_gan", "beside@data.beside.source=film", "extra=[l1,structure]"),
        ("experiment=star_mr", "model.domains=4", "+data.domains.pd.root=pd"),
    ],
)
def test_a_real_addition_stays(overrides) -> None:
    check(*overrides)


@pytest.mark.parametrize("game", GAMES)
def test_a_game_declares_the_settings_that_its_file_hands_it(game) -> None:
    config = OmegaConf.to_container(composed(*GAMES[game]), resolve=False)["game"]
    named = {key for key in references(config) if not key.startswith(("data.", "image."))}  # what every game may know of its images
    declared = get_class(config["_target_"])
    assert named == declared.settings
    assert {*declared.needs, *(key for keys in declared.needs.values() for key in keys)} <= {*config}


# Every option with every game -----------------------------------------------------------------------------------------------------


def read_part(config: DictConfig) -> dict[str, Any]:
    """Return what a run is built from: the module with all it names, the data without a part that the game does not read, the rest."""
    plain = OmegaConf.to_container(config, resolve=True)
    reads = get_class(plain["game"]["_target_"]).reads
    data = {key: value for key, value in plain["data"].items() if key not in ("degrade", "beside")}
    beside = {key: each for key, each in (plain["data"].get("beside") or {}).items() if key in reads}
    source = plain["data"].get("degrade") if "source" in reads else None
    rest = {key: plain[key] for key in ("module", "trainer", "logger", "callbacks", "monitor")}
    return {**rest, "data": data, "beside": beside, "degrade": source}


def inert(game: str, places: tuple[str, ...], options: list[str]) -> Iterator[str]:
    """Yield each option that is recorded with a run of the game, is not refused, and changes nothing that is read."""
    base = composed(*GAMES[game])
    before, recorded = read_part(base), OmegaConf.to_container(base, resolve=True)
    for place in places:
        for option in options:
            try:
                config = composed(*GAMES[game], f"{place}={option}")
                plain = OmegaConf.to_container(config, resolve=True)
                check_read(OmegaConf.to_container(config, resolve=False), plain)
            except (ValueError, HydraException, OmegaConfBaseException):
                continue  # refused
            if plain != recorded and read_part(config) == before:
                yield f"{game}: {place}={option}"


@cache
def options(group: str) -> list[str]:
    return sorted(path.stem for path in (FOLDER / group).glob("*.yaml"))


@pytest.mark.parametrize("game", ["synthesis", "translation", "cycle"])
def test_no_option_of_noise_and_extras_is_inert(game) -> None:
    assert not list(inert(game, ("noise",), ["normal", "uniform"]))
    assert not list(inert(game, ("extra",), ["l1"]))


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("game", GAMES)
def test_every_option_changes_the_run_or_is_refused(game, group) -> None:
    assert not list(inert(game, GROUPS[group], options(group)))


def test_an_inert_option_would_be_found(monkeypatch) -> None:
    monkeypatch.setattr(unread, "OF_GAMES", ())  # as if nothing refused a noise that no game reads
    assert list(inert("translation", ("noise",), ["uniform"])) == ["translation: noise=uniform"]


def test_the_keys_that_an_interpolation_names() -> None:
    node = {"a": "${noise}", "b": ["x-${oc.select:model.slabs,8}", 3], "c": {"d": "${data.size}"}}
    assert set(references(node)) == {"noise", "model.slabs", "data.size"}
