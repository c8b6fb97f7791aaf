"""Options of the configuration's groups, put in their places in plain containers as Hydra would put them, which takes no time."""

import re
from functools import cache
from typing import Any

from games_of_conf import GAMES
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from medgan_pl.core.console import configuration_folder

FOLDER = configuration_folder()
EXACT = re.compile(r"\$\{([\w.]+)\}")  # an interpolation of one other key, and of nothing else
SEVERAL = {"extra": "extras", "regularizer": "regularizers"}  # places that hold several options, each by its name
Tree = dict[str, Any]


@cache
def composed(name: str, *overrides: str) -> Tree:
    """Return a composed configuration in plain containers, with its interpolations. It is shared: do not change it."""
    with initialize_config_dir(str(FOLDER), version_base="1.3"):
        return OmegaConf.to_container(compose(name, overrides=list(overrides)), resolve=False)


def base(game: str) -> Tree:
    return composed("config", "run_dir=run", *GAMES[game])


@cache
def content(group: str, option: str) -> Tree:
    """Return what an option puts in its place, with its interpolations. It is shared: do not change it."""
    node = OmegaConf.to_container(OmegaConf.load(FOLDER / group / f"{option}.yaml"), resolve=False)
    if "defaults" in node:
        return composed(f"{group}/{option}").get(SEVERAL.get(group, group), {})
    return {option: node} if group in SEVERAL and node else node


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (FOLDER / group).glob("*.yaml"))


def put(tree: Tree, key: str, value: Any) -> Tree:
    """Return the tree with the value under a dotted key; KeyError if the key is not there, as Hydra then refuses the option."""
    first, _, rest = key.partition(".")
    if first not in tree:
        raise KeyError(key)
    return tree | {first: put(tree[first], rest, value) if rest else value}


def with_option(raw: Tree, group: str, place: str, option: str) -> Tree:
    """Return the configuration `raw` with an option of a group in its place."""
    if group != "optimizers":
        return put(raw, place, content(group, option))
    for override in OmegaConf.load(FOLDER / group / f"{option}.yaml").defaults:  # - override /optimizer@optimizer_g: adam
        ((target, chosen),) = override.items()
        raw = put(raw, target.partition("@")[2], content("optimizer", chosen))
    return raw


def resolved(node: Any, raw: Tree) -> Any:
    """Return a node with each interpolation of one other key replaced by what stands there; KeyError if there is none."""
    if isinstance(node, dict):
        return {name: resolved(value, raw) for name, value in node.items()}
    if isinstance(node, list):
        return [resolved(value, raw) for value in node]
    found = EXACT.fullmatch(node) if isinstance(node, str) else None
    if not found:
        return node
    value: Any = raw
    for name in found[1].split("."):
        value = resolved(value, raw)[name] if isinstance(value, str) else value[name]
    return resolved(value, raw)
