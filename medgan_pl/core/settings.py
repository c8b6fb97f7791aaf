"""The table of settings: the rules for each configuration key."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Setting:
    """The rules for one configuration key.

    - `resumable`: a resumed run may change it, because no number of the run depends on it.
    - `weights`: it is written into weights that are exported for sharing.
    - `sidecar`: it is written into the JSON file of each sample, and into reports as a setting of the training run.
    - `judgement`: it is written into metrics.json as a setting of the evaluation.
    - `place`: its value names a file or folder of this machine. The whole value never leaves the machine: metrics.json has the last part of
      the path, the other files omit it. null is always written.
    - `chooses`: it decides which files of a data set are read.
    - `reads`: it decides how an image of the data set is read.
    """

    resumable: bool = False
    weights: bool = False
    sidecar: bool = True
    judgement: bool = True
    place: bool = False
    chooses: bool = False
    reads: bool = False


RUN = Setting()  # a setting on which the numbers of a run depend
FREE = Setting(resumable=True)
LOCAL = Setting(resumable=True, sidecar=False)  # a setting for the run's place and speed on this machine only
NETWORK = Setting(weights=True)  # a setting that is needed to build the networks again
IMAGE = Setting(weights=True, reads=True)
OF_FILES = Setting(chooses=True, judgement=False)  # it may hold expressions made from file names
FOLDER = Setting(resumable=True, chooses=True, sidecar=False, judgement=False, place=True)
FILE = Setting(weights=True, place=True)

# Patterns of keys: * is one name, ** is any number of names, also none. The first pattern that matches a key is used. The settings of a
# domain, data.domains.NAME.KEY, have the rules of data.KEY.
RUNS: dict[str, Setting] = {
    # Files of weights that an extractor reads, wherever the extractor is used.
    "**.weights": FILE,
    "**.linear": FILE,
    # A training run.
    "seed": NETWORK,
    "total_images": RUN,
    "log_every": RUN,
    "validate_every": RUN,
    "monitor": RUN,
    "stop_after": RUN,
    "save_every": FREE,
    "resume.**": LOCAL,
    "init_from": replace(LOCAL, place=True),  # only read at the start of a run
    "init_from_sha256": FREE,
    "run_dir": replace(LOCAL, place=True),
    "phantom": Setting(resumable=True, weights=True),
    "image.spatial_dims": NETWORK,
    "model.**": NETWORK,
    "share.**": RUN,
    "noise.**": RUN,
    "augment.**": RUN,
    "game.**": RUN,
    "objective.**": RUN,
    "penalty.**": RUN,
    "regularizers.**": RUN,
    "extras.**": RUN,
    "stages.**": RUN,
    "metrics.**": RUN,
    "average.**": RUN,
    "ema.**": RUN,
    "optimizer_g.**": RUN,
    "optimizer_d.**": RUN,
    "schedule_g.**": RUN,
    "schedule_d.**": RUN,
    "schedule_penalty.**": RUN,
    "beta2.**": RUN,
    "d_per_g": RUN,
    "d_auto.**": RUN,
    "clip_g": RUN,
    "clip_d": RUN,
    "accumulate": RUN,
    "tf32": RUN,
    "compile": RUN,
    "channels_last": RUN,
    "guard.patience": RUN,
    "guard.slow_down": RUN,
    "guard.rollbacks": FREE,
    "callbacks.**": LOCAL,
    "logger.**": LOCAL,
    "module.**": Setting(resumable=True, weights=True, sidecar=False),  # repeats other settings
    **dict.fromkeys([f"trainer.{key}" for key in ("accelerator", "devices", "num_nodes", "strategy", "max_time")], LOCAL),
    "trainer.**": replace(RUN, sidecar=False),
    # A data set.
    "data.root": FOLDER,
    "data.cache.dir": replace(LOCAL, judgement=False, place=True),
    "data.cache.**": Setting(sidecar=False, judgement=False),
    "data.files": OF_FILES,
    "data.patient_pattern": OF_FILES,
    "data.cohort.**": Setting(chooses=True),
    "data.beside.*.root": FOLDER,
    "data.beside.**": Setting(chooses=True),
    "data.domains": Setting(chooses=True),
    "data.modality.**": Setting(reads=True),
    "data.intensity.**": IMAGE,
    **dict.fromkeys([f"data.{key}" for key in ("spatial_dims", "size", "channels", "spacing_mm", "crop", "patches")], IMAGE),
    "data.slices.**": IMAGE,
    "data._target_": Setting(reads=True),
    "data.workers": FREE,
    "data.max_corrupt": FREE,
    **dict.fromkeys([f"data.{key}" for key in ("classes", "split", "split_seed", "fractions", "max_train", "duplicates")], RUN),
    **dict.fromkeys([f"data.{key}" for key in ("laterality", "batch_size", "covariates", "seed")], RUN),
    "data.augment.**": RUN,
    "data.degrade.**": RUN,
}

# The settings of the other commands.
COMMANDS: dict[str, Setting] = {
    **dict.fromkeys(["checkpoint", "fake", "real", "train", "masks.*", "input", "output", "reference", "holes"], FILE),
    "extractor.**": RUN,
    "analysis.**": RUN,
    "use.**": RUN,
    **dict.fromkeys(["baseline", "groups", "paired", "n", "draws", "pairs", "batch_size", "device", "wandb", "descriptions"], RUN),
    **dict.fromkeys(["label", "covariates", "truncation", "format", "whole", "score", "plane"], RUN),
    **dict.fromkeys(["from", "to", "series", "resample", "coarser", "anonymize", "force", "uncertainty", "window", "overlap"], RUN),
}

TABLE = RUNS | COMMANDS


@lru_cache(maxsize=256)
def expression(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern of the table."""
    names = pattern.removesuffix(".**").removeprefix("**.")
    middle = re.escape(names).replace(r"\*", r"[^.]+")
    before = r"(?:.+\.)?" if pattern.startswith("**.") else ""
    after = r"(?:\..+)?" if pattern.endswith(".**") else ""
    return re.compile(before + middle + after)


def setting(key: str, table: Mapping[str, Setting] = TABLE) -> Setting | None:
    """Return the rules for a dotted key, None for a key that is not in the table, such as a group of keys."""
    key = re.sub(r"^data\.domains\.[^.]+\.", "data.", key)
    return next((rules for pattern, rules in table.items() if expression(pattern).fullmatch(key)), None)


def names_below(key: str, wanted: Callable[[Setting], bool]) -> tuple[str, ...]:
    """Return the names directly below a key with `wanted` rules, in the order of the table."""
    patterns = [pattern for pattern, rules in TABLE.items() if pattern.startswith(f"{key}.") and wanted(rules)]
    return tuple(dict.fromkeys(pattern.removeprefix(f"{key}.").split(".")[0] for pattern in patterns))


def joined(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def select(config: dict[str, Any], key: str) -> Any:
    """Return the value under a dotted key, such as data.size."""
    return reduce(lambda node, name: node[name], key.split("."), config)


def may_change(key: str) -> bool:
    """Return True if a resumed run may change this key."""
    rules = setting(key)
    return rules is not None and rules.resumable


def difference(a: Any, b: Any, where: str = "", ignored: Callable[[str], bool] = may_change) -> list[str]:
    """Return each difference of two trees of plain containers as "key: a, b", except for keys that are `ignored`."""
    if ignored(where):
        return []
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [line for key in keys for line in difference(a.get(key), b.get(key), joined(where, key), ignored)]
    return [] if a == b else [f"{where}: {a}, {b}"]


def kept(node: Any, travels: Callable[[Setting], bool], where: str = "", *, names: bool = False) -> Any:
    """Return the part of a configuration in plain containers that `travels`; a key that is not in the table is omitted.

    A value that names a file or folder is omitted, or with `names` shortened to the last part of its path.
    """
    if isinstance(node, list):
        return [kept(each, travels, where, names=names) if isinstance(each, dict) else each for each in node]
    if not isinstance(node, dict):
        return node
    found = {}
    for name, value in node.items():
        key = joined(where, str(name))
        rules = setting(key)
        if rules is None and not isinstance(value, dict):
            continue
        if rules is not None and not travels(rules):
            continue
        if rules is not None and rules.place and isinstance(value, str):
            if names:
                found[name] = Path(value).name
            continue
        below = kept(value, travels, key, names=names)
        if rules is not None or below:  # omit a group whose keys are all omitted
            found[name] = below
    return found


def for_judgement(plain: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of an evaluation for metrics.json, without paths of this machine and file names."""
    return kept(plain, lambda rules: rules.judgement, names=True)


def for_weights(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run for exported weights: those that build the networks and describe their images."""
    return kept(config | {"module": config["module"] | {"metrics": {}}}, lambda rules: rules.weights)


def for_sidecars(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run for sidecars and reports, without those of this machine, such as paths, loggers and callbacks."""
    return kept(config, lambda rules: rules.sidecar)


def reading(data: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a data set that decide how an image is read."""
    names = names_below("data", lambda rules: rules.reads)
    return {name: value for name, value in data.items() if name in names}


# The settings of a data set that decide which files are read. A shared file alone must not choose them.
CHOOSING = names_below("data", lambda rules: rules.chooses)

# The settings of an extractor that are files.
FILES = tuple(pattern.removeprefix("**.") for pattern in TABLE if pattern.startswith("**."))
