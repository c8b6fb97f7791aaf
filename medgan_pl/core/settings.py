"""One table of settings."""

import re
from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any

# What a run may change when it goes on, because no number of it depends on that: where it writes and what shows it, how fast data comes.
# The data itself is held by its fingerprint, the devices by their number and kind; `module` repeats what stands elsewhere.
FREE = ("run_dir", "resume", "logger", "callbacks", "save_every", "guard.rollbacks", "phantom", "module")

FREE += ("init_from", "init_from_sha256")  # taken at the beginning and not looked at again

FREE += ("data.beside.source.root", "data.beside.mask.root", "data.root", "data.workers", "data.cache.dir", "data.max_corrupt")

FREE += tuple(f"trainer.{key}" for key in ("max_time", "accelerator", "devices", "num_nodes", "strategy"))

# Settings of an extractor that are paths.
FILES = ("weights", "linear")


def select(config: dict[str, Any], key: str) -> Any:
    """The value under a dotted key: data.size."""
    return reduce(lambda node, name: node[name], key.split("."), config)


def difference(a: Any, b: Any, where: str = "") -> list[str]:
    """Each place at which two trees of plain containers differ, as "key: a, b", but for what is FREE."""
    if re.sub(r"^data\.domains\.[^.]+", "data", where) in FREE:
        return []
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [line for key in keys for line in difference(a.get(key), b.get(key), f"{where}.{key}" if where else key)]
    return [] if a == b else [f"{where}: {a}, {b}"]


def without_places(plain: dict[str, Any]) -> dict[str, Any]:
    """The configuration in plain containers, without what tells of this machine and of file names: of a path its last part."""
    plain = deepcopy(plain)
    plain["data"] = shareable_data(plain["data"], ("root", "cache", "files", "patient_pattern"))
    for node in (plain, plain["masks"], *plain["extractor"].values()):
        for key in ("checkpoint", "fake", "real", "train", "output", "weights", "linear"):
            if isinstance(node.get(key), str):
                node[key] = Path(node[key]).name
    return plain


# What of the data says which images come out. The rest may tell of machine and people: folders, and expressions made from file names.
DATA = ("spatial_dims", "size", "channels", "spacing_mm", "crop", "slices", "patches", "intensity")


def shared(config: dict[str, Any]) -> dict[str, Any]:
    """What of a run's configuration it takes to build its networks and to know what their images are; a list of what may go out, so that a
    setting that comes later stays in."""
    kept = {key: config[key] for key in ("seed", "image", "model", "phantom") if key in config}
    data = {key: config["data"][key] for key in DATA if key in config["data"]}
    return kept | {"data": data, "module": without_files(config["module"] | {"metrics": {}})}


# What of a run's data says how an image is read, but not which.
READING = ("_target_", "modality", "intensity", "spatial_dims", "size", "channels", "spacing_mm", "crop", "slices", "patches")

# What of a configuration tells of this machine, or repeats what stands elsewhere.
PLACES = ("run_dir", "resume", "init_from", "logger", "callbacks", "module", "trainer")


def shareable(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what tells of this machine and its users: paths, loggers, callbacks."""
    kept = {key: without_files(value) for key, value in config.items() if key not in PLACES}
    return kept | {"data": shareable_data(config["data"])}


def without_files(node: Any) -> Any:
    """`node` without the files that extractors below it read, of extras and metrics."""
    if isinstance(node, list):
        return [without_files(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {key: without_files(value) for key, value in node.items() if not (key in FILES and isinstance(value, str))}


def shareable_data(data: dict[str, Any], places: tuple[str, ...] = ("root", "cache")) -> dict[str, Any]:
    """The settings of a data set, of what lies beside it and of its domains, without the `places` where they lie."""
    kept = {key: value for key, value in data.items() if key not in places}
    for part in ("beside", "domains"):
        if kept.get(part):
            kept[part] = {name: shareable_data(each, places) for name, each in kept[part].items()}
    return kept
