"""Refuse settings that other settings have switched off. Such a setting would be recorded with the run and change nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

from medgan_pl.core.command import default_option, read_config
from medgan_pl.core.console import configuration_folder
from medgan_pl.core.settings import joined

if TYPE_CHECKING:
    from medgan_pl.models.games.base import Game

# Settings of a data set that only files have, and those that only the embedded cohort has.
OF_FILES = (
    "files",
    "patient_pattern",
    "classes",
    "duplicates",
    "modality.series",
    "modality.image_type",
    "modality.volume",
    "modality.straighten",
    "modality.pictures",
    "modality.nan",
    "modality.voi",
    "beside.source.root",
    "beside.mask.root",
)
OF_SIMULATION = ("modality.tr_ms", "modality.te_ms", "modality.ti_ms")
OF_COHORT = ("cohort", *OF_SIMULATION)


@dataclass(frozen=True)
class Idle:
    """A setting that nothing reads in this run, because of another.

    - `key`: its dotted key; all keys below it are idle too.
    - `because`: the reason, and what to do, as the end of a sentence.
    - `usual`: the values that it may have all the same, since nobody chose them: the defaults.
    """

    key: str
    because: str
    usual: tuple[Any, ...]


def check_idle(plain: dict[str, Any], game: type["Game"]) -> None:
    """Raise ValueError, by its key, for a setting of the resolved configuration that another one has switched off.

    A setting at its default is never refused.
    """
    check_stages(plain["stages"])
    chosen = chosen_with(find(plain, "model.generator._target_"))  # by the model, and not by the user
    for idle in (*idle_turns(plain, game), *idle_numbers(plain), *idle_arguments(plain["game"], game)):
        if idle.key not in chosen:
            refuse(idle, find(plain, idle.key))
    for where, data in data_sets(plain["data"]):
        for idle in idle_data(data, where, plain["image"]["spatial_dims"]):
            refuse(idle, find(plain, idle.key))


def refuse(idle: Idle, value: Any) -> None:
    """Raise ValueError unless a setting that is idle is at a default."""
    if value is not None and value not in idle.usual:
        raise ValueError(f"`{idle.key}` changes nothing here, got {value}: {idle.because}")


def find(tree: Any, key: str) -> Any:
    """Return the value under a dotted key, None if there is none."""
    for name in key.split("."):
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def data_sets(data: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the key and the settings of the data set, or of each of its domains."""
    if "domains" not in data:
        yield "data", data
    for name, domain in data.get("domains", {}).items():
        yield f"data.domains.{name}", domain


# Defaults ---------------------------------------------------------------------------------------------------------------------------


@lru_cache
def files(folder: str) -> dict[str, dict[str, Any]]:
    """Return the files of a folder of conf/ by their names, those in folders below it too, or config.yaml itself for an empty name."""
    where = configuration_folder()
    paths = sorted((where / folder).rglob("*.yaml")) if folder else [where / "config.yaml"]
    return {path.stem: read_config(path) or {} for path in paths}


def generator_of(name: str) -> str | None:
    """Return the class of the generator of a file of conf/model, which may be that of a file it builds on."""
    file = files("model")[name]
    own = find(file, "model.generator._target_") or find(file, "generator._target_")
    bases = [each.partition("@")[0] for each in file.get("defaults", []) if isinstance(each, str) and each != "_self_"]
    return own or next((generator_of(base) for base in bases), None)


@lru_cache
def chosen_with(generator: str) -> frozenset[str]:
    """Return the keys whose groups a model with such a generator chooses: `penalty` where its file has `override /penalty: r1`."""
    entries = [entry for name, file in files("model").items() if generator_of(name) == generator for entry in file.get("defaults", [])]
    places = [key.removeprefix("override /") for entry in entries if isinstance(entry, dict) for key in entry]
    return frozenset(place.rpartition("@")[2].removeprefix("_global_.") for place in places)


def leaves(key: str, node: Any) -> Iterator[str]:
    """Yield each key at or below `key` that has no keys below it."""
    if not isinstance(node, Mapping):
        yield key
    else:
        for name, value in node.items():
            yield from leaves(joined(key, name), value)


def each_leaf(tree: Mapping[str, Any], key: str, because: str, folder: str = "") -> Iterator[Idle]:
    """Yield the keys at and below `key` of `tree`, each with the values that the files of a folder of conf/ give it."""
    above = key.split(".")[0] if folder else ""
    for leaf in leaves(key, find(tree, key)):
        below = leaf.removeprefix(f"{above}.") if above else leaf
        yield Idle(leaf, because, tuple(find(file, below) for file in files(folder).values()))


def as_a_whole(key: str, because: str) -> Idle:
    """Return a group or a value of config.yaml that is idle as a whole."""
    option = default_option(key) or default_option(f"schedule@{key}")
    return Idle(key, because, (option if option is not None else find(files("")["config"], key),))


# What may be idle -------------------------------------------------------------------------------------------------------------------


def check_stages(stages: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ValueError for a stage after one without a length, and for a length of the last stage, which goes on to the end of the run."""
    *earlier, last = stages
    for name in earlier:
        if stages[name].get("images") is None and stages[name].get("epochs") is None:
            raise ValueError(f"`stages.{last}` is never played: `stages.{name}`, before it, has no length; set stages.{name}.images")
    for unit in ("images", "epochs"):
        if stages[last].get(unit) is not None:
            raise ValueError(
                f"`stages.{last}.{unit}` changes nothing here, got {stages[last][unit]}: the last stage goes on to the end of the run; "
                "set total_images, and leave it out"
            )


def idle_turns(plain: dict[str, Any], game: type["Game"]) -> Iterator[Idle]:
    """Yield the settings of turns that no stage has."""
    from hydra.utils import get_class

    from medgan_pl.models.losses.penalties import NoPenalty

    d, g, stages = game.discriminator, game.generator, list(plain["stages"].values())
    playing = {name for stage in stages for name in stage["players"]}
    if d not in playing:
        for key in ("penalty", "regularizers", f"clip_{d}", f"schedule_{d}"):
            yield as_a_whole(key, f"`{d}` plays in no stage; leave it out, or choose other stages")
        yield from each_leaf(plain, f"optimizer_{d}", f"`{d}` plays in no stage; leave it out, or choose other stages", "optimizer")
    if not any(stage.get("adversarial", True) for stage in stages):
        for key in ("augment", "objective"):
            yield as_a_whole(key, f"no stage asks `{d}`; leave it out, or choose other stages")
    if g not in playing:
        for key in (f"clip_{g}", f"schedule_{g}"):
            yield as_a_whole(key, f"`{g}` plays in no stage; leave it out, or choose other stages")
        yield from each_leaf(plain, f"optimizer_{g}", f"`{g}` plays in no stage; leave it out, or choose other stages", "optimizer")
    if not any({d, g} <= {*stage["players"]} for stage in stages):
        yield as_a_whole("d_per_g", f"`{d}` and `{g}` play together in no stage; leave it out, or choose other stages")
    if plain["d_per_g"] != "auto":
        yield from each_leaf(plain, "d_auto", f"d_per_g={plain['d_per_g']} is a fixed number; leave it out, or use d_per_g=auto")
    if d not in playing or issubclass(get_class(plain["penalty"]["_target_"]), NoPenalty):
        yield as_a_whole("schedule_penalty", "no penalty is paid, which it would weigh; use schedule_penalty=null, or choose a penalty")


def idle_numbers(plain: dict[str, Any]) -> Iterator[Idle]:
    """Yield the settings that a number, or a 0, of another setting switches off."""
    from hydra.utils import get_class

    from medgan_pl.models.augment import Augment
    from medgan_pl.models.schedules import Ramp

    if not plain["guard"]["rollbacks"]:
        yield from each_leaf(plain, "guard.slow_down", "guard.rollbacks=0 never goes back; leave it out, or allow a rollback")
    for key in ("schedule_g", "schedule_d", "schedule_penalty", "beta2", "augment.strength.ramp"):
        ramp = find(plain, key)
        if ramp and issubclass(get_class(ramp["_target_"]), Ramp) and ramp.get("images") is not None:
            because = f"{key}.images={ramp['images']} is the length; leave it out, or use {key}.images=null"
            yield Idle(f"{key}.share", because, (Ramp.share,))
    augment = plain["augment"]
    if augment and issubclass(get_class(augment["_target_"]), Augment):
        if not any(augment.get(name) for name in Augment.operations):
            yield as_a_whole("augment", f"it does nothing, as {', '.join(Augment.operations)} are all off; use augment=none")
        for key in ("strength.p", "strength.max_p"):
            if find(augment, key) == 0:
                yield as_a_whole("augment", f"it does nothing, as augment.{key}=0 is its probability; use augment=none")


def idle_arguments(settings: Mapping[str, Any], game: type["Game"]) -> Iterator[Idle]:
    """Yield the arguments of a game that it declares to need others, which are off."""
    for name, others in game.needs.items():
        if not any(settings.get(other) for other in others):
            off = " and ".join(f"game.{other}={settings.get(other)}" for other in others)
            yield from each_leaf({"game": settings}, f"game.{name}", f"{game.__name__} does not read it with {off}; leave it out", "game")


def idle_data(data: Mapping[str, Any], where: str, spatial_dims: int) -> Iterator[Idle]:
    """Yield the settings of a data set that its source of scans, its dimensions or its place in others do not read."""
    if data.get("root") is None:
        keys, because = OF_FILES, f"{where}.root=null is the embedded cohort, and only files have it; leave it out, or set {where}.root"
    else:
        keys, because = OF_COHORT, f"{where}.root names files, and only the embedded cohort has it; leave it out, or use {where}.root=null"
    for key in keys:
        yield from usual_data(data, where, key, because, "root")
    if data.get("root") is not None:
        for name, key in product(data.get("beside") or {}, OF_SIMULATION):
            yield Idle(f"{where}.beside.{name}.{key}", because, tuple(find(file, key) for file in files("beside").values()))
    if spatial_dims == 3:
        yield from usual_data(data, where, "slices", "slices are images of image.spatial_dims=2; leave it out", "slices")
    elif find(data, "modality.pictures") is not None:
        yield from usual_data(data, where, "slices", "data.modality.pictures reads single slices, and all of them; leave it out", "slices")
    if data.get("split", "patient") != "patient":
        yield from usual_data(data, where, "fractions", f"{where}.split={data['split']} is no split by patient; leave it out", "split")
    if where != "data":
        for key in ("batch_size", "workers"):
            usual = tuple(find(file, key) for file in files("data").values())
            yield Idle(f"{where}.{key}", f"all domains are in one batch; leave it out, or use data.{key}", usual)
    if data.get("spacing_mm") is not None or data.get("patches"):
        because = f"{where}.spacing_mm or {where}.patches already says what part of a scan is seen; leave it out"
        yield Idle(f"{where}.crop", because, ("slices" not in data,))  # the default: true of films, false of volumes


def usual_data(data: Mapping[str, Any], where: str, key: str, because: str, switch: str) -> Iterator[Idle]:
    """Yield the keys at and below `key` of a data set, each with the values that files of conf/ give it.

    The values in an experiment count as well, unless it sets the `switch` too: an experiment that suits the cohort may be given files.
    """
    inner = [file["data"] for file in files("experiment").values() if "data" in file]
    inner += [domain for each in inner for domain in each.get("domains", {}).values()]
    usual = [*files("data").values(), *(each for each in inner if switch not in each or switch == key)]
    for leaf in leaves(key, find(data, key)):
        yield Idle(f"{where}.{leaf}", because, tuple(find(file, leaf) for file in usual))
