"""The data settings of a trained run, to open its data again."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from medgan_pl.core.allowed import DATA_PACKAGES, DATA_PARTS, check_targets
from medgan_pl.core.command import read_foreign_config
from medgan_pl.core.settings import CHOOSING


def data_of_run(given: Mapping[str, Any], stored: Mapping[str, Any], overrides: Sequence[str], run: Path) -> dict[str, Any]:
    """Return the settings of the data that a generator was trained on, changed by the typed arguments.

    The run's settings are the base, and `data.…` on the command line changes them. Only the command line sets the cache. The checkpoint's
    choice of files is used only if the config.yaml of its own `run` folder has the same, or if it was typed.

    - `given`: the command's own `data` settings, resolved, in plain containers.
    - `stored`: the `data` settings in the checkpoint.
    - `overrides`: the arguments that were typed.

    Raise ValueError for data of another modality, for weights outside their run folder without data.root, and for a typed key that the
    data of the run do not have.
    """
    typed = [override.split("=")[0].lstrip("+") for override in overrides]
    check_targets(stored, DATA_PACKAGES)
    _check_modality(given, stored, typed)
    kept = {key: value for key, value in stored.items() if key != "cache"}
    record = run / "config.yaml"
    here = read_foreign_config(record)["data"] if record.is_file() else {}
    if any(here.get(key, {}) != stored.get(key, {}) for key in CHOOSING):
        kept = _without_files(kept, typed)
    # Key by key and not merged: a modality or an intensity must not mix the arguments of two classes.
    base = {key: value for key, value in given.items() if key != "domains"}  # domains are there only if they were typed
    if "domains" in kept:  # each domain has all other settings
        base = {"domains": {name: domain | {"cache": base["cache"]} for name, domain in kept.pop("domains").items()}}
    return _with_typed(deepcopy(base | kept), given, typed)


def _check_modality(given: Mapping[str, Any], stored: Mapping[str, Any], typed: Sequence[str]) -> None:
    asked = given["modality"]["_target_"]
    own = stored.get("modality", {}).get("_target_", asked)
    if "data" in typed and asked != own:
        kinds = [target.split(".")[-1] for target in (own, asked)]
        raise ValueError("the generator was trained on {}, got data of {}; leave data=… out, or use the same".format(*kinds))


def _without_files(kept: dict[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """Return the settings of weights that lie outside their run folder, without those that choose files (CHOOSING)."""
    if "domains" in kept:
        raise ValueError("several domains can be evaluated only in their run folder, whose config.yaml names their files")
    if "data.root" not in typed:
        raise ValueError("weights outside their run folder do not name their data: add data.root=PATH (null for the embedded cohort)")
    beside = {key: each and each | {"root": None} for key, each in kept.get("beside", {}).items()}
    kept = {key: value for key, value in kept.items() if key not in CHOOSING} | {"beside": beside}
    check_targets({key: value for key, value in kept.items() if key != "_target_"}, DATA_PARTS)
    for node in (kept, *beside.values()):
        if node and "series" in node.get("modality", {}):
            node["modality"] = node["modality"] | {"series": None}
    return kept


def _with_typed(data: dict[str, Any], given: Mapping[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """Return `data` with the typed groups (intensity@data.intensity) and keys (data.size) from `given`."""
    for key in (key.split("@data.")[1] for key in typed if "@data." in key):
        _put(data, key.split("."), _find(given, key.split(".")), merge=False)
    for key in typed:
        if key.startswith(("data.beside.", "data.domains.")):
            _check_there(data, key)
        if key.startswith("data."):
            path = key.split(".")[1:]
            _put(data, path, _find(given, path), merge=True)
    return data


def _check_there(data: Mapping[str, Any], key: str) -> None:
    """Raise ValueError unless `data` has this key. Hydra adds such keys, so that it does not notice a mistyped one."""
    *above, last = key.split(".")[1:]
    node = _find(data, above)
    if last not in (node or {}):
        there = f"data.{'.'.join(above)} has {', '.join(node)}" if node else f"there is no data.{'.'.join(above)} either"
        raise ValueError(f"there is no `{key}` in the data of the run; {there}")


def _find(tree: Any, path: Sequence[str]) -> Any:
    """Return the value at a path, or None if there is none."""
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def _put(tree: dict[str, Any], path: Sequence[str], value: Any, *, merge: bool) -> None:
    """Set the value at a path; with `merge`, merge a mapping into the existing one, key by key."""
    *above, last = path
    for name in above:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    if merge and isinstance(value, Mapping) and isinstance(tree.get(last), dict):
        for key, inner in value.items():
            _put(tree[last], [key], inner, merge=True)
    else:
        tree[last] = deepcopy(value)
