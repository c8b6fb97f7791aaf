"""The state of a run: the project's own part of a checkpoint and of shared weights.

In plain containers it lies under "medgan_pl" in a .ckpt, and as JSON in the header of a .safetensors. `format` is FORMAT; the other keys
are the fields of RunState, and in place of `progress` the fields of Progress. A field that is None is not stored.
"""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from medgan_pl.core.safe_load import Stored, read_checkpoint, read_shared
from medgan_pl.core.untrusted import MAX_LETTERS, MAX_UNITS, MAX_VALUES, is_table, require, shown, walk
from medgan_pl.core.visible import visible, within
from medgan_pl.data.files.covariates import Covariates, check_covariates
from medgan_pl.data.intensity import Inverse

FORMAT = 2  # of checkpoints and shared weights; 1 was before players had names

# The keys of a checkpoint in the order in which they are stored.
KEYS = (
    *("wandb", "best", "worse", "format", "images", "turns", "turns_since", "rollbacks", "rate", "stage", "guards", "running"),
    *("world", "device", "fingerprint", "classes", "inverse", "config", "covariates", "inverses", "pipelines", "row", "checkpoint_sha256"),
)


@dataclass(frozen=True)
class Progress:
    """The part of a state that only a resumed run needs.

    - `turns`: player -> turns taken. `turns_since`: the discriminator's turns since the generator's last.
    - `rollbacks`: returns to an earlier checkpoint. `rate`: factor on all learning rates. `stage`: the name of the stage that is played.
    - `guards`: player -> state of its Guard. `running`: state of the RunningMeans. `row`: the newest value of each column of the log.
    - `world`: number of devices. `device`: their kind. `fingerprint`: of the data.
    - `best`: the best value of the monitor, NaN if none was watched. `worse`: validations since. `wandb`: the id of the run there.
    """

    turns: dict[str, int]
    turns_since: int
    rollbacks: int
    rate: float
    stage: str
    guards: dict[str, dict[str, Any]]
    running: dict[str, Any]
    world: int
    device: str
    fingerprint: str
    row: dict[str, float]
    wandb: str | None = None
    best: float = math.nan
    worse: int = 0


@dataclass(frozen=True)
class RunState:
    """The settings and facts that belong to the weights of a run.

    - `config`: the resolved configuration in plain containers. `classes`: names of the classes or domains of the data.
    - `images`: real images shown so far.
    - `inverse`: from [-1, 1] to native units and into space. `inverses`: the same, of each of several domains.
    - `covariates`: the columns that the model is conditioned on.
    - `pipelines`: the map of scans to images by domain, or of one data set under "", as `Pipeline.plain` gives it; None in shared weights.
    - `progress`: None in shared weights. `checkpoint_sha256`: of the checkpoint that shared weights were exported from.
    """

    config: dict[str, Any]
    classes: list[str]
    images: int
    inverse: Inverse
    inverses: dict[str, Inverse] = field(default_factory=dict)
    covariates: Covariates = field(default_factory=Covariates)
    pipelines: dict[str, Any] | None = None
    progress: Progress | None = None
    checkpoint_sha256: str | None = None

    def plain(self) -> dict[str, Any]:
        """Return the state in plain containers, in the order of KEYS."""
        content = {"format": FORMAT, "config": self.config, "classes": self.classes, "images": self.images}
        content |= {"inverse": self.inverse.plain(), "inverses": {name: each.plain() for name, each in self.inverses.items()}}
        content |= {"covariates": self.covariates.plain()}
        later = {"pipelines": self.pipelines, "checkpoint_sha256": self.checkpoint_sha256}
        content |= {key: value for key, value in later.items() if value is not None}
        content |= vars(self.progress) if self.progress else {}
        return {key: content[key] for key in KEYS if key in content}

    @classmethod
    def from_plain(cls, content: Any) -> "RunState":
        """Return the state in plain containers, which may come out of any file. Errors as `validate`."""
        validate(content)
        inverses = {visible(name): Inverse.from_plain(each) for name, each in content.get("inverses", {}).items()}
        pipelines = content.get("pipelines")
        progress = {each.name: content[each.name] for each in fields(Progress) if each.name in content}
        return cls(
            **{key: content[key] for key in ("config", "images")},
            classes=within(content["classes"]),
            inverse=Inverse.from_plain(content["inverse"]),
            inverses=inverses,
            covariates=Covariates.from_plain(content.get("covariates", [])),
            progress=Progress(**progress) if "turns" in content else None,
            pipelines=pipelines and {visible(name): each for name, each in pipelines.items()},
            checkpoint_sha256=content.get("checkpoint_sha256"),
        )


def read_stored(path: str | Path) -> Stored[RunState]:
    """Return the content of a checkpoint, or of shared weights (.safetensors).

    Errors as `read_checkpoint`, and ValueError for weights or states of optimizers that are NaN or infinite: their run had diverged, or
    somebody changed them.
    """
    shared = Path(path).suffix == ".safetensors"
    stored = read_shared(path, shared_from_plain) if shared else read_checkpoint(path, RunState.from_plain)
    played = {name: weight for name, weight in stored.weights.items() if name.startswith(("networks.", "ema."))}
    numbers = list(played.items())
    for name, value in walk(stored.content.get("optimizer_states", []), MAX_VALUES):
        numbers += [(f"{name} of an optimizer", value)] if isinstance(value, torch.Tensor) else []
    odd = [name for name, value in numbers if value.is_floating_point() and not value.isfinite().all()]
    if odd:
        names = ", ".join(shown(name) for name in odd[:3])
        raise ValueError(f"{path} must hold finite weights; {len(odd)} of {len(numbers)} are NaN or infinite, such as {names}")
    return stored


def shared_from_plain(content: Any) -> RunState:
    """Return the state of shared weights. Errors as `validate`, and ValueError if they claim a run that could be resumed."""
    state = RunState.from_plain(content)
    require(state.progress is None, "shared weights must not hold the progress of a run")
    return state


# Validation -------------------------------------------------------------------------------------------------------------------------


def validate(content: Any) -> None:
    """Raise ValueError unless plain containers are the state of a run; KeyError for a missing key."""
    require(isinstance(content, dict), f"its state must hold names and values, got {shown(content)}")
    check_format(content)
    config, classes, images = content["config"], content["classes"], content["images"]
    require(
        isinstance(classes, list) and all(isinstance(name, str) and len(name) <= MAX_LETTERS for name in classes),
        "`classes` must be names",
    )
    check_config(config, len(classes))
    require(type(images) is int and 0 <= images < 2**53, f"`images` must be how many were shown, got {shown(images)}")
    check_covariates(content.get("covariates", []), config["model"].get("covariates", []))  # a checkpoint from before them has none
    inverses = content.get("inverses", {})
    require(isinstance(inverses, dict) and inverses.keys() <= {*classes}, "`inverses` must be of the domains, which are the classes")
    for name, inverse in {"inverse": content["inverse"], **{f"inverses.{name[:64]}": each for name, each in inverses.items()}}.items():
        check_inverse(inverse, config["image"]["spatial_dims"], name)
    pipelines = content.get("pipelines", {})  # their content is checked where they are built (data/prepare/pipelines.py)
    require(isinstance(pipelines, dict) and pipelines.keys() <= {"", *classes}, "`pipelines` must be of the domains, which are the classes")
    digest = content.get("checkpoint_sha256", "")
    require(isinstance(digest, str) and len(digest) <= 64, f"`checkpoint_sha256` must be a SHA-256, got {shown(digest)}")
    if any(each.name in content for each in fields(Progress)):
        check_progress(content)


def check_format(content: dict[str, Any]) -> None:
    """Raise ValueError unless the file has the present format; files without a number have format 1."""
    found = content.get("format", 1)
    age = "an older" if isinstance(found, int) and found < FORMAT else "another"
    require(
        found == FORMAT, f"it was written by {age} version of medgan_pl (format {shown(found)}, this one reads {FORMAT}); use that version"
    )


def check_config(config: Any, classes: int) -> None:
    """Raise ValueError unless the configuration has the settings that loading reads; `classes`: number of names of classes."""
    require(isinstance(config, dict), f"`config` must hold the settings of the run, got {shown(config)}")
    for key in ("image", "data", "model", "module"):
        require(isinstance(config[key], dict), f"`{key}` must hold settings, got {shown(config[key])}")
    dims, size, seed = config["image"]["spatial_dims"], config["data"]["size"], config["seed"]
    require(type(dims) is int and dims in (2, 3), f"`image.spatial_dims` must be 2 or 3, got {shown(dims)}")
    sides = [size] * dims if isinstance(size, int) else size
    fits = is_table(sides, (dims,)) and all(0 < side <= MAX_UNITS for side in sides)
    require(fits, f"`data.size` must be {dims} sides, got {shown(size)}")
    require(type(seed) is int and seed >= 0, f"`seed` must be a whole number of at least 0, got {shown(seed)}")
    generator, known = config["model"]["generator"], config["model"]["classes"]
    named = isinstance(generator, dict) and isinstance(generator["_target_"], str)
    require(named, "`model.generator._target_` must name a class")
    require(type(known) is int and known in (0, classes), f"`model.classes` must be 0 or {classes}, got {shown(known)}")


def check_inverse(inverse: Any, dims: int, name: str) -> None:
    """Raise ValueError unless the plain inverse called `name` maps images of `dims` axes to native units and into space."""
    require(isinstance(inverse, dict), f"`{name}` must hold names and values, got {shown(inverse)}")
    for key, shape in {"levels": (None, 2), "spacing_mm": (dims,), "directions": (3, 3)}.items():
        fits = is_table(inverse[key], shape) or (inverse[key] is None and key != "levels")
        require(fits, f"`{name}.{key}` must be finite numbers of shape {shape}, got {shown(inverse[key])}")
    require(all(low < high for low, high in inverse["levels"]), f"`{name}.levels` must be pairs of a lower and a higher value")
    require(all(side > 0 for side in inverse["spacing_mm"] or ()), f"`{name}.spacing_mm` must be above 0")
    named = all(isinstance(inverse[key], str) and len(inverse[key]) <= 64 for key in ("unit", "modality"))
    require(named, f"`{name}` must name its unit and its modality")


def check_progress(content: dict[str, Any]) -> None:
    """Raise ValueError unless the fields of Progress are all there and of their kind; KeyError for a missing one."""
    for key, low in {"turns_since": 0, "rollbacks": 0, "world": 1}.items():
        check_count(content[key], low, key)
    check_count(content.get("worse", 0), 0, "worse")
    for key in ("stage", "device", "fingerprint"):
        require(isinstance(content[key], str) and len(content[key]) <= MAX_LETTERS, f"`{key}` must be a text, got {shown(content[key])}")
    rate, best, wandb = content["rate"], content.get("best", math.nan), content.get("wandb")
    require(isinstance(rate, float) and math.isfinite(rate) and rate > 0, f"`rate` must be a number above 0, got {shown(rate)}")
    require(isinstance(best, float), f"`best` must be a number, got {shown(best)}")
    require(wandb is None or isinstance(wandb, str), f"`wandb` must be the id of a run, got {shown(wandb)}")
    row = content["row"]
    require(isinstance(row, dict) and all(type(value) in (int, float) for value in row.values()), "`row` must hold numbers by name")
    turns, guards, running = content["turns"], content["guards"], content["running"]
    require(isinstance(turns, dict), f"`turns` must hold a number for each player, got {shown(turns)}")
    for count in turns.values():
        check_count(count, 0, "turns")
    require(isinstance(guards, dict) and guards.keys() == turns.keys(), "`guards` must be of the players, as `turns`")
    for guard in guards.values():
        numbers = isinstance(guard, dict) and guard.keys() == {"full_scale", "clean", "skipped", "in_a_row"}
        require(numbers and is_table(list(guard.values()), (4,)), "`guards` must hold four finite numbers for each player")
    require(isinstance(running, dict), f"`running` must hold names and values, got {shown(running)}")
    check_count(running["start"], 0, "running.start")
    kept = isinstance(running["turns"], list) and all(is_turn(each) for each in running["turns"])
    require(kept, "`running.turns` must hold the values of turns by player and name")


def check_count(value: Any, low: int, name: str) -> None:
    """Raise ValueError unless the value called `name` is a whole number of at least `low`."""
    require(type(value) is int and low <= value < 2**53, f"`{name}` must be a whole number of at least {low}, got {shown(value)}")


def is_turn(node: Any) -> bool:
    """Return whether plain containers are one entry of the state of RunningMeans: player, names and rows (…, turns, names)."""
    if not isinstance(node, dict) or node.keys() != {"player", "names", "rows"}:
        return False
    names, rows = node["names"], node["rows"]
    named = isinstance(node["player"], str) and isinstance(names, list) and all(isinstance(name, str) for name in names)
    return named and isinstance(rows, torch.Tensor) and rows.ndim >= 2 and rows.shape[-1] == len(names)
