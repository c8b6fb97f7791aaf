"""Every option of every group, with every game, changes what a run is built from, or is refused before data are prepared.

Hydra composes each game and each option once. Between them, an option is put in its place in plain containers, as Hydra would put it.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from games_of_conf import GAMES
from hydra.utils import get_class
from omegaconf import OmegaConf
from placed import FOLDER, Tree, base, composed, options, put, resolved, with_option

from medgan_pl.train import unread
from medgan_pl.train.unread import check_read

# Each group with the places it fills. DATA stands for the data set, or for the last of several domains.
GROUPS = {
    "noise": ("noise",),
    "augment": ("augment",),
    "objective": ("objective", "objective.base"),
    "penalty": ("penalty",),
    "regularizer": ("regularizers",),
    "extra": ("extras",),
    "stages": ("stages",),
    "metrics": ("metrics",),
    "extractor": ("metrics.random.extractor",),
    "optimizers": ("",),
    "optimizer": ("optimizer_g", "optimizer_d"),
    "schedule": ("schedule_g", "schedule_d", "schedule_penalty", "beta2"),
    "degrade": ("DATA.degrade",),
    "beside": ("DATA.beside.source", "DATA.beside.mask"),
    "intensity": ("DATA.intensity",),
    "trainer": ("trainer",),
    "logger": ("logger",),
}
WHOLE = {"model", "game", "data", "experiment"}  # the run itself
OTHERS = {"analysis", "hydra"}  # of other commands, and of Hydra
LAST = {"cycle": "data.domains.ct", "contrastive": "data.domains.ct", "star": "data.domains.flair"}


def read_part(plain: Tree) -> Tree:
    """Return what a run is built from: the module with all that it names, the data that the game reads, and the rest of the run."""
    reads = get_class(plain["game"]["_target_"]).reads
    module, data = plain["module"], plain["data"]
    d = module["players"]["d"]
    if plain["penalty"]["_target_"].endswith("NoPenalty"):
        d = d | {"schedule_penalty": None}
    sets = data.get("domains", {"": data})
    seen = {
        name: {
            **each,
            "degrade": each.get("degrade") if "source" in reads else None,
            "beside": {key: beside for key, beside in (each.get("beside") or {}).items() if key in reads},
        }
        for name, each in sets.items()
    }
    rest = {key: plain[key] for key in ("trainer", "logger", "callbacks", "monitor")}
    return {**rest, "data": seen, "module": put(module, "players.d", d)}


def inert(game: str, groups: Iterator[str] | list[str]) -> Iterator[str]:
    """Yield each option that is recorded with a run of the game, is not refused, and changes nothing that is read."""
    raw = base(game)
    recorded = resolved(raw, raw)
    before = read_part(recorded)
    for group in groups:
        for place in GROUPS[group]:
            for option in options(group):
                try:
                    changed = with_option(raw, group, place.replace("DATA", LAST.get(game, "data")), option)
                    plain = resolved(changed, changed)
                    check_read(changed, plain)
                except (ValueError, KeyError):
                    continue  # refused, by us or by Hydra
                if plain != recorded and read_part(plain) == before:
                    yield f"{game}: {group}@{place}={option}"


pytestmark = pytest.mark.filterwarnings("ignore:.*Defaults list is missing `_self_`")  # of an option that is composed alone


@pytest.mark.parametrize("game", GAMES)
def test_every_option_changes_the_run_or_is_refused(game) -> None:
    assert not list(inert(game, list(GROUPS)))


def test_the_games_and_the_groups_are_all() -> None:
    assert {*GAMES} == {*options("game")}
    assert {*GROUPS} | WHOLE | OTHERS == {path.name for path in FOLDER.iterdir() if path.is_dir()}


@pytest.mark.parametrize(
    ("name", "game", "group", "found"),
    [
        ("OF_GAMES", "translation", "noise", {"translation: noise@noise=uniform"}),
        ("check_idle", "translation", "schedule", {f"translation: schedule@schedule_penalty={each}" for each in options("schedule")}),
        ("check_data_set", "star", "degrade", {f"star: degrade@DATA.degrade={each}" for each in options("degrade") if each != "none"}),
    ],
)
def test_an_inert_option_would_be_found(name, game, group, found, monkeypatch) -> None:
    """Without the check that refuses it, an inert option is reported."""
    monkeypatch.setattr(unread, name, () if name == "OF_GAMES" else lambda *_: None)
    assert {*inert(game, [group])} >= found - {"star: degrade@DATA.degrade=low_dose", "star: degrade@DATA.degrade=low_dose_fast"}


@pytest.mark.parametrize(
    ("game", "group", "place", "option", "typed"),
    [
        ("synthesis", "penalty", "penalty", "none", "penalty=none"),
        ("synthesis", "objective", "objective.base", "hinge", "objective@objective.base=hinge"),
        ("synthesis", "optimizers", "", "adam_ttur", "optimizers=adam_ttur"),
        ("synthesis", "beside", "data.beside.mask", "film_masks", "beside@data.beside.mask=film_masks"),
        ("translation", "degrade", "data.degrade", "inpainting", "degrade@data.degrade=inpainting"),
        ("translation", "degrade", "data.degrade", "none", "degrade@data.degrade=none"),
        ("translation", "extra", "extras", "perceptual", "extra=perceptual"),
        ("style", "schedule", "schedule_penalty", "ramp", "schedule@schedule_penalty=ramp"),
        ("hierarchical", "intensity", "data.intensity", "z_score", "intensity@data.intensity=z_score"),
        ("reconstruction", "regularizer", "regularizers", "lecam", "regularizer=lecam"),
    ],
)
def test_an_option_is_put_in_its_place_as_hydra_puts_it(game, group, place, option, typed) -> None:
    ours, theirs = with_option(base(game), group, place, option), composed("config", "run_dir=run", *GAMES[game], typed)
    assert resolved(ours, ours) == resolved(theirs, theirs)


def test_interpolations_are_resolved_as_omegaconf_resolves_them() -> None:
    raw = base("translation")
    theirs = OmegaConf.to_container(OmegaConf.create(raw), resolve=True)

    def same(own: Any, other: Any) -> bool:
        if isinstance(own, dict):
            return own.keys() == other.keys() and all(same(own[key], other[key]) for key in own)
        return own == other or (isinstance(own, str) and "${" in own)

    assert same(resolved(raw, raw), theirs)
