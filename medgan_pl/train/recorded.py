"""The command line that a run folder records, overrides.yaml. The folder may be a stranger's, so its lines are data: they may choose
settings, and name nothing that runs and no place to write to. What needs more is typed anew."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medgan_pl.core.allowed import ALLOWED_PACKAGES, DATA_PACKAGES, check_targets
from medgan_pl.core.untrusted import MAX_LETTERS, require, shown

MAX_LINES = 1000
# What the configuration of a run builds besides the module and the data; and those parts of it that write files.
PACKAGES = (*ALLOWED_PACKAGES, *DATA_PACKAGES, *(f"medgan_pl.train.{name}" for name in ("callbacks", "checkpoints", "monitors", "tables")))
LIBRARIES = ("pytorch_lightning.Trainer", "pytorch_lightning.loggers.WandbLogger")
WRITING = ("callbacks", "logger", "trainer")
PLACES = re.compile(r"(^|_)(folder|path|table|dir|dirpath|file|filename)$")
RUN = "/a run"  # a name for its folder


def recorded(run: Path, typed: Sequence[str]) -> list[str]:
    """Return the lines of a run's overrides.yaml, without those whose key is `typed` anew, and without those about resuming.

    Raise FileNotFoundError if there is none, and ValueError, with the line where one is at fault, for lines that do more than choose
    settings: keys of Hydra, interpolations, targets that no run of ours has, other places to write to.
    """
    import yaml
    from hydra.core.override_parser.overrides_parser import OverridesParser

    record = run / "overrides.yaml"  # not Hydra's, which it writes before anything is checked
    if not record.is_file():
        raise FileNotFoundError(f"`resume` needs {record}, where the run's own settings stand; it does not exist")
    anew = {key_of(argument) for argument in typed}
    try:
        require(record.stat().st_size <= MAX_LINES * MAX_LETTERS, "it is too large")
        lines = yaml.safe_load(record.read_bytes())
        require(isinstance(lines, list) and len(lines) <= MAX_LINES, f"it must be a list of at most {MAX_LINES} lines")
        require(all(isinstance(line, str) for line in lines), "each line must be a text")
        lines = [line for line in lines if key_of(line) not in anew and key_of(line).split(".")[0] != "resume"]
        parser = OverridesParser.create()
        for line in lines:
            check_line(line, parser)
        check_composed(lines, typed)
    except Exception as error:  # of any type: a file made to harm fails anywhere
        why = str(error).splitlines()[0][:500] if str(error) else type(error).__name__
        raise ValueError(
            f"{record} must hold the settings of a run, and these are only taken if they run nothing and write nowhere else: {why}; "
            "if you trust the line, type it yourself after resume=…"
        ) from error
    return lines


def key_of(line: str) -> str:
    """Return the key of an override: +data.root=x -> data.root"""
    return line.lstrip("+~").partition("=")[0]


def check_line(line: str, parser: Any) -> None:
    """Raise ValueError unless a line sets one value of ours or chooses one option of a group."""
    require(len(line) <= MAX_LETTERS, f"a line must have at most {MAX_LETTERS} letters, got {shown(line)}…")
    parser.parse_override(line)
    key = key_of(line)
    require(not re.search(r"(^|@)hydra\b", key) and not line.startswith("-"), f"{shown(line)} is for Hydra")
    require("${" not in line, f"{shown(line)} refers to another value")
    require(key != "run_dir", f"{shown(line)} writes to another folder")
    added = line.startswith("+") and key.split(".")[0].split("@")[-1] in WRITING
    require(not added, f"{shown(line)} adds to what writes files")
    option = line.partition("=")[2]
    require("." in key or "@" not in key or ".." not in option, f"{shown(line)} leaves the folder of its group")


def check_composed(lines: Sequence[str], typed: Sequence[str]) -> None:
    """Raise ValueError unless the configuration that the lines make builds what a run of ours builds, and writes to its folder."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from medgan_pl.core.console import configuration_folder

    folder = configuration_folder()
    for line in lines:
        group = folder / key_of(line).partition("@")[0]
        require(not group.is_dir() or ".." not in line.partition("=")[2].split("/"), f"{shown(line)} leaves the folder of its group")
    with initialize_config_dir(str(folder), version_base="1.3"):
        composed = compose("config", overrides=[*lines, *search_path(typed), f"run_dir='{RUN}'"])
    config = OmegaConf.to_container(composed, resolve=True)
    check_targets(config, PACKAGES, LIBRARIES)
    for part in WRITING:
        for key, value in places(config[part], part):
            inside = value is None or (f"{value}/".startswith(f"{RUN}/") and ".." not in value.split("/"))
            require(inside, f"{key} must lie in the run folder, got {shown(value)}")


def search_path(typed: Sequence[str]) -> list[str]:
    """Return the override for the folder of --config-dir, where options of the user may stand."""
    for i, argument in enumerate(typed):
        if argument in ("--config-dir", "-cd") and i + 1 < len(typed):
            return [f"hydra.searchpath=['file://{Path(typed[i + 1]).resolve()}']"]
        if argument.startswith("--config-dir="):
            return [f"hydra.searchpath=['file://{Path(argument.partition('=')[2]).resolve()}']"]
    return []


def places(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield the key and the value of each file or folder that a part of the configuration names."""
    for name, value in node.items() if isinstance(node, dict) else ():
        if PLACES.search(name) and not isinstance(value, dict):
            yield f"{where}.{name}", value
        yield from places(value, f"{where}.{name}")
