"""What comes from a file that travels between people: read without running it, and built only from the project's own classes."""

from pathlib import Path
from typing import Any


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint holds, nothing unpickled but tensors and plain containers.

    FileNotFoundError if there is no such file, ValueError if it is not a whole medgan_pl checkpoint.
    """
    import pickle

    import torch

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`checkpoint` must be a checkpoint file, such as outputs/<date>/<time>/checkpoints/best.ckpt; got {path}")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["medgan_pl"]["config"]["model"], checkpoint["state_dict"]
    except (RuntimeError, OSError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} must be a whole checkpoint written by medgan_pl.train; it is not: {why}") from error
    return checkpoint


# Where the classes live that a configuration may build. A checkpoint travels between people, and building whatever it names would run their
# code; a prefix of the written name would not do, since the path to it may lead through any module imported on the way.
ALLOWED_PACKAGES = (
    "medgan_pl.module",
    "medgan_pl.networks",
    "medgan_pl.losses",
    "medgan_pl.games",
    "medgan_pl.metrics",
    "medgan_pl.schedules",
)


def check_targets(node: Any) -> None:
    """ValueError for anything in the plain containers of `node` that would build or evaluate more than the project's classes and torch's
    optimisers: each `_target_` must be the full name of such a class, and no string may be an interpolation."""
    if isinstance(node, dict):
        if "_target_" in node:
            check_target(node["_target_"])
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            check_targets(child)
    elif isinstance(node, str) and "${" in node:
        raise ValueError(f"a stored configuration must be resolved, got the interpolation {node}")
    elif not isinstance(node, str | int | float | bool | None):
        raise ValueError(f"a stored configuration must be plain containers, got a {type(node).__name__}")


def check_target(target: Any) -> None:
    """ValueError unless `target` is the full name of a class in ALLOWED_PACKAGES, or of an optimiser in torch.optim."""
    import importlib

    import torch

    package, _, name = str(target).rpartition(".")
    allowed = package == "torch.optim" or any(package == root or package.startswith(f"{root}.") for root in ALLOWED_PACKAGES)
    if allowed:
        try:
            found = getattr(importlib.import_module(package), name, None)
        except ImportError:
            found = None
        if isinstance(found, type) and (
            found.__module__ == package or (package == "torch.optim" and issubclass(found, torch.optim.Optimizer))
        ):
            return
    raise ValueError(
        f"a module's `_target_` must be the full name of a class in {', '.join(ALLOWED_PACKAGES)}, or of an optimiser in torch.optim; "
        f"got {target}"
    )
