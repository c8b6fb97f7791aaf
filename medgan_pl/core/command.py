"""The entry points: the manual, the command line, Hydra, the device, and libraries kept quiet."""

import logging
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.core.console import configuration_folder, describe_groups, describe_keys, one_message, say, show_visibly, suggest
from medgan_pl.core.untrusted import MAX_NODES, require, walk

if TYPE_CHECKING:
    from omegaconf import DictConfig

MAX_CONFIG = 2**20  # bytes of a config.yaml; one of ours has some 20,000
Task = Callable[["DictConfig"], Any]


def enter(verb: str, task: Task, *, config: str | None = None, prepare: Callable[[list[str]], Sequence[str]] | None = None) -> None:
    """Run the command `python -m medgan_pl.<verb>`: print its manual for --help, else compose the configuration and call `task` with it.

    An error becomes one message and exit code 1. A task that returns False ends with exit code 1 too.

    - `config`: the name of the file in `conf/`; the verb's own name by default.
    - `prepare`: converts the typed arguments to those that Hydra reads.
    """
    config = config or verb
    show_visibly()
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(manual(verb, config))
        return

    def run(composed: "DictConfig") -> Any:
        with one_message(None):
            result = task(composed)
        if result is False:
            raise SystemExit(1)
        return result

    with one_message(None):
        if prepare is not None:
            sys.argv[1:] = prepare(sys.argv[1:])
        launch(run, config)


def manual(verb: str, config: str) -> str:
    """Return the manual of a verb: its manual.txt, with the keys of its configuration and the groups that it names."""
    folder = configuration_folder()
    text = (Path(__file__).parent.parent / verb / "manual.txt").read_text(encoding="utf-8")
    parts = {
        "keys": lambda: describe_keys(folder / f"{config}.yaml"),
        "groups": lambda: describe_groups(folder),
        "extractors": lambda: options_of("extractor", folder),
        "analyses": lambda: options_of("analysis", folder),
        "data": lambda: "\n".join(describe_keys(folder / "data" / "base" / name) for name in ("images.yaml", "volumes.yaml")),
    }
    for name, part in parts.items():
        if f"{{{name}}}" in text:
            text = text.replace(f"{{{name}}}", part())
    return text


def options_of(group: str, folder: Path) -> str:
    """Return the options of one group of the configuration, a line each."""
    lines = describe_groups(folder).splitlines()
    start = lines.index(f"  {group}") + 1
    end = next((i for i in range(start, len(lines)) if not lines[i].startswith("    ")), len(lines))
    return "\n".join(line[2:] for line in lines[start:end])


def launch(task: Callable[["DictConfig"], Any], name: str) -> None:
    """Compose the configuration `name` from the command line and call `task` with it. For a mistyped key, print the nearest keys."""
    import hydra

    folder = configuration_folder()
    try:
        hydra.main(version_base="1.3", config_path=str(folder), config_name=name)(task)()
    except SystemExit:
        own = [argument for argument in sys.argv[1:] if not argument.startswith(("hydra.", "hydra/"))]
        for hint in [*suggest(own, folder), *unquoted(own, several=bool({"-m", "--multirun"} & set(sys.argv)))]:
            say(f"hint: {hint}", error=True)
        raise


def unquoted(arguments: Sequence[str], several: bool) -> list[str]:
    """Return a hint for each argument whose value Hydra cannot read without quotes; `several`: a comma may separate values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, hints = OverridesParser.create(), []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        try:
            unfit = parser.parse_override(argument).is_sweep_override() and not several and "/" in value
        except HydraException:
            unfit = bool(equals)
        if unfit:
            plain = value[1:-1] if value[:1] == value[-1:] and value[:1] in ("'", '"') else value
            safe = plain.replace("\\", "\\\\").replace("'", "\\'")
            hints.append(f"a value with blanks, brackets, commas, ~, = or letters such as ö needs quotes inside quotes: \"{key}='{safe}'\"")
    return hints


def quiet_libraries() -> None:
    """Silence messages of libraries that do not concern the user.

    These are Lightning's tips; its advice on workers, which slow our loader; its warnings about modules in evaluation mode, as the EMA and
    the extractors must be; its warnings about metrics that are not reduced over ranks, as ours are reduced; and torch's warning about the
    strides of one-channel weights, which have two equal layouts.
    """
    import warnings

    import pytorch_lightning  # noqa: F401  (sets the levels of its loggers when it is imported)

    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    news = ("does not have many workers", "in eval mode at the start of training", "isinstance.treespec, LeafSpec", "sync_dist=True")
    for message in (*news, "Grad strides do not match bucket view strides"):
        warnings.filterwarnings("ignore", message=f"(?s).*{message}.*")


def chosen_device(device: str) -> str:
    """Return the device: auto means the GPU if there is one. Raise ValueError for a missing device."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"`device` must be auto, cpu or cuda, got {device}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda needs a CUDA GPU that torch can use, got none; use device=cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


@lru_cache
def default_option(group: str) -> Any:
    """Return the content of a group's default option in conf/config.yaml, None for a group without one.

    `group` may include its place, as in schedule@schedule_d. The content is shared: do not change it.
    """
    from omegaconf import OmegaConf

    folder = configuration_folder()
    defaults = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"), resolve=False)["defaults"]
    chosen = next((each[group] for each in defaults if isinstance(each, dict) and each.get(group)), None)
    return chosen and OmegaConf.to_container(OmegaConf.load(folder / group.partition("@")[0] / f"{chosen}.yaml"), resolve=False)


def instantiate(node: Any, **changes: Any) -> Any:
    """Build the objects of a configuration's `_target_`s, innermost first. Containers are plain. `changes` replace arguments."""
    from hydra.utils import instantiate as build

    return build(node, _convert_="all", **changes)


def read_config(path: Path) -> dict[str, Any]:
    """Return a YAML file of settings, such as a run's config.yaml, in plain containers."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(path))


def read_foreign_config(path: Path) -> dict[str, Any]:
    """Return the config.yaml of a run folder, which may be a stranger's, in plain containers. Nothing in it is resolved.

    Raise ValueError, with the path, unless it holds settings by name, among them `data`. Aliases are refused: a few make a huge object.
    """
    import yaml

    try:
        text = path.read_bytes()
        require(len(text) <= MAX_CONFIG, f"it has {len(text)} bytes, more than {MAX_CONFIG}")
        require(not any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)), "it has aliases")
        config = read_config(path)
        require(isinstance(config, dict) and isinstance(config.get("data"), dict), "it has no settings of `data`")
        for _ in walk(config, MAX_NODES):
            pass
    except Exception as error:  # of any type: text made to harm fails anywhere
        raise ValueError(f"{path} must be the config.yaml of a run, and it is not: {str(error).splitlines()[0][:500]}") from error
    return config


# The entry point of the processes that Lightning starts for the other ranks. With Hydra they would make their own folders, and in a sweep
# a second sweep.
OTHER_RANK = "MEDGAN_RUN_FOLDER"
