"""Refuse settings that no part of a run reads. Such a setting would be recorded with the run and change nothing."""

import difflib
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from medgan_pl.core.command import default_option
from medgan_pl.core.settings import RUNS, joined, setting
from medgan_pl.data.prepare.planes import ACQUIRED
from medgan_pl.train.inert import check_idle, data_sets

if TYPE_CHECKING:
    from medgan_pl.models.games.base import Game

REFERENCE = re.compile(r"\$\{(?:oc\.select:)?([\w.]+)")

# Settings of conf/config.yaml that nothing but a game reads. A game declares which of them.
OF_GAMES = ("noise", "augment", "objective", "penalty", "regularizers", "extras")


def check_read(raw: dict[str, Any], plain: dict[str, Any]) -> None:
    """Raise ValueError, by its key, for a setting that no part of the run reads.

    Both are the configuration in plain containers: `raw` with its interpolations, `plain` resolved.
    """
    from hydra.utils import get_class

    check_known(plain)
    game = get_class(plain["game"]["_target_"])
    check_game(plain, game)
    if isinstance(raw["module"]["game"], str):  # not so on another rank, which has the resolved configuration of the first
        check_model(plain["model"], {*references(raw["model"]), *references(raw["module"]), *game.settings}, game.__name__)
    for where, data in data_sets(plain["data"]):
        check_data_set(data, where, game.reads, game.__name__, plain["image"]["spatial_dims"])
    check_idle(plain, game)


def check_known(plain: dict[str, Any]) -> None:
    """Raise ValueError for a key that a run does not have, whether it was typed as key=value, +key=value or ++key=value."""
    for key in leaves(plain):
        if not is_known(key):
            known = [pattern.removesuffix(".**") for pattern in RUNS if not pattern.startswith("**")]
            near = difflib.get_close_matches(key, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`python -m medgan_pl.train --help` lists the settings."
            raise ValueError(f"there is no setting `{key}`, so nothing would read it; leave it out. {hint}")


@lru_cache(maxsize=4096)
def is_known(key: str) -> bool:
    """Return True for a key that a run may have."""
    return setting(key, RUNS) is not None


def leaves(node: dict[str, Any], where: str = "") -> Iterator[str]:
    """Yield each dotted key of a tree that has no keys below it."""
    for name, value in node.items():
        key = joined(where, str(name))
        if isinstance(value, dict):
            yield from leaves(value, key)
        else:
            yield key


def references(node: Any) -> Iterator[str]:
    """Yield each key that an interpolation below `node` names."""
    if isinstance(node, str):
        yield from REFERENCE.findall(node)
    elif isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from references(value)


def check_game(plain: dict[str, Any], game: type["Game"]) -> None:
    """Raise ValueError for a setting of games that this game does not declare and that is not at its default."""
    for key in OF_GAMES:
        if plain[key] and key not in game.settings and plain[key] != default_option(key):
            raise ValueError(f"nothing reads `{key}` here: {game.__name__} does not use it; leave it out, or choose a game that does")


def check_model(model: dict[str, Any], read: set[str], game: str) -> None:
    """Raise ValueError for a key of the model that is not in `read`, the keys that networks and players name or the game declares."""
    for name, value in model.items():
        key = f"model.{name}"
        if value and not any(each == key or each.startswith(f"{key}.") for each in read):
            raise ValueError(f"nothing reads `{key}` here: neither the networks nor {game} use it; leave it out")


def check_data_set(data: dict[str, Any], where: str, reads: frozenset[str], game: str, spatial_dims: int) -> None:
    """Raise ValueError for a part of the batch that the game does not read, and for a slice axis in 3-D."""
    beside = data.get("beside") or {}
    parts = {"degrade": ("source", data.get("degrade"))} | {f"beside.{key}": (key, each) for key, each in beside.items()}
    for name, (key, part) in parts.items():
        if part and key not in reads:
            raise ValueError(
                f"`{where}.{name}` would not be seen: it gives the batch a `{key}`, and {game} reads "
                f"{', '.join(sorted(reads - {'inside'}))} alone; "
                f"use {name.split('.')[0]}@{where}.{name}=none, or a game that reads `{key}`"
            )
    axis = (data.get("slices") or {}).get("axis", ACQUIRED)
    if spatial_dims == 3 and axis != ACQUIRED:
        raise ValueError(f"`{where}.slices.axis` must be left out in 3-D, got {axis}; slices are images of image.spatial_dims=2")
