"""The settings that a file may have built: the project's own classes and torch's optimizers, with plain arguments within bounds."""

import math
import re
from typing import Any

from medgan_pl.core.untrusted import MAX_LETTERS, MAX_NODES, MAX_UNITS, require, shown, walk

MAX_PIXELS = 2**28  # of an image; 1 GiB in float32
COUNTED = re.compile(r"(^|_)(images|every|seed)$")  # names of the numbers that nothing is built by

# Where the classes live that a configuration may build. A checkpoint travels between people, and building whatever it names would run their
# code; a prefix of the written name would not do, since the path to it may lead through any module imported on the way.
ALLOWED_PACKAGES = (
    "medgan_pl.models.module",
    "medgan_pl.models.players",
    "medgan_pl.models.networks",
    "medgan_pl.models.losses",
    "medgan_pl.models.games",
    "medgan_pl.metrics",
    "medgan_pl.models.schedules",
    "medgan_pl.models.augment",
    "medgan_pl.models.strength",
)

# The same for the data that a judgement opens anew.
DATA_PARTS = tuple(
    f"medgan_pl.data.{room}" for room in ("modalities", "intensity", "companion", "degrade")
)  # none opens a folder by itself
DATA_PACKAGES = ("medgan_pl.data.datamodule", "medgan_pl.data.domains", *DATA_PARTS)


def check_targets(node: Any, packages: tuple[str, ...] = ALLOWED_PACKAGES, functions: tuple[str, ...] = ()) -> None:
    """Raise ValueError if `node` would build anything but the project's classes and torch's optimizers, or something too large.

    Each `_target_` must be the full name of such a class or one of `functions`. All else must be plain, resolved and within the bounds
    above. Of Hydra's other words only `_partial_` is allowed: `_args_` would pass arguments that no name checks, and `_recursive_` and
    `_convert_` would change what was checked.
    """
    for name, value in walk(node, MAX_NODES):
        if name == "_target_":
            if value not in functions:
                check_target(value, packages)
        elif name == "_partial_":
            require(isinstance(value, bool), f"`_partial_` must be true or false, got {shown(value)}")
        else:
            require(not re.fullmatch(r"_\w+_", name), f"a module may be built by `_target_` and `_partial_` alone, got {shown(name)}")
        check_value(name, value)


def check_value(name: str, value: Any) -> None:
    if isinstance(value, dict):
        require(all(isinstance(key, str) and len(key) <= MAX_LETTERS for key in value), "a stored configuration must have names as keys")
        check_pixels(value)
    elif isinstance(value, str):
        require("${" not in value, f"a stored configuration must be resolved, got the interpolation {shown(value)}")
        require(
            len(value) <= MAX_LETTERS, f"a stored configuration must have texts of at most {MAX_LETTERS} letters; {shown(name)} is longer"
        )
    elif isinstance(value, int):
        largest = 2**53 if COUNTED.search(name) else MAX_UNITS
        require(abs(value) <= largest, f"{shown(name)} must be at most {largest}, got {shown(value)}")
    else:
        plain = value is None or isinstance(value, list | float)
        require(plain, f"a stored configuration must be plain containers, got a {type(value).__name__}")


def check_pixels(node: dict[str, Any]) -> None:
    """A few weights can make a huge image, so a `size` has a bound of its own."""
    size = node.get("size")
    sides = size if isinstance(size, list) else [size] * (3 if node.get("spatial_dims") == 3 else 2)
    if all(isinstance(side, int) for side in sides):
        require(math.prod(sides) <= MAX_PIXELS, f"`size` must make at most {MAX_PIXELS} pixels, got {sides[:3]}")


def check_target(target: Any, packages: tuple[str, ...] = ALLOWED_PACKAGES) -> type:
    """Return the class named `target`; raise ValueError unless it is in `packages`, or an optimizer in torch.optim."""
    import importlib

    import torch

    package, _, name = (target if isinstance(target, str) and re.fullmatch(r"[\w.]+", target) else "").rpartition(".")
    allowed = package == "torch.optim" or any(package == root or package.startswith(f"{root}.") for root in packages)
    why = ""
    if allowed:
        try:
            found = getattr(importlib.import_module(package), name, None)
            why = f"; {package} has no class {name}"
        except ImportError as error:
            found, why = None, f"; {package} cannot be imported: {error}"
        if isinstance(found, type):
            own = f"{found.__module__}.".startswith(f"{package}.")  # a package may show what one of its files holds
            if own or (package == "torch.optim" and issubclass(found, torch.optim.Optimizer)):
                return found
    raise ValueError(
        f"a module's `_target_` must be the full name of a class that a file may name, got {shown(target)}{why[:500]} "
        f"(those in {', '.join(packages)}, and the optimizers in torch.optim)"
    )
