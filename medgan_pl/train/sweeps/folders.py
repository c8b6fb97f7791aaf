"""The folders of a sweep's children: one folder for each value of an interpolation, also where the value holds a slash."""

import os
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

PLAIN = "${hydra.job.num}"
# ${key} and ${resolver:argument}; the argument may hold interpolations.
INTERPOLATION = re.compile(r"\$\{(?:[^{}]|\$?\{[^{}]*\})*\}")
RESOLVER = "medgan_pl.as_name"


def as_name(value: Any) -> str:
    """Return a value as a part of a folder's name: / becomes %2F, and % becomes %25, so that no two values have one name."""
    name = str(value).replace("%", "%25").replace("/", "%2F")
    return name.replace(".", "%2E") if name in (".", "..") else name


def register() -> None:
    """Make `as_name` known to OmegaConf in this process."""
    OmegaConf.register_new_resolver(RESOLVER, as_name, replace=True)


def keep_inside(config: DictConfig) -> None:
    """Change the configuration of a sweep so that no value in hydra.sweep.subdir leads to another folder.

    A slash that the user writes between two values still means a folder in a folder.
    """
    subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]
    if subdir == PLAIN:
        return
    safe = INTERPOLATION.sub(lambda found: f"${{{RESOLVER}:{found[0]}}}", str(subdir)).replace("'", "\\'")
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.overrides.hydra.append(f"hydra.sweep.subdir='{safe}'")


def check_inside(run: Path, sweep: Path) -> None:
    """Raise ValueError for a child's folder outside the folder of the sweep, whose table could not list it."""
    if not Path(os.path.abspath(run)).is_relative_to(os.path.abspath(sweep)):
        raise ValueError(f"hydra.sweep.subdir must name a folder below hydra.sweep.dir, {sweep}, got {run}; leave out the slash in front")


def runs_in(sweep: Path) -> list[Path]:
    """Return the folders of the children that have a result.json, at any depth below `sweep`, numbers in their order."""
    found = []
    for folder, folders, files in os.walk(sweep):
        if "result.json" in files:
            found.append(Path(folder))
            folders.clear()
    return sorted(found, key=lambda run: (len(job_of(run, sweep)), job_of(run, sweep)))


def job_of(run: Path, sweep: Path) -> str:
    """Return the name of a child: its path below the sweep."""
    return run.relative_to(sweep).as_posix()
