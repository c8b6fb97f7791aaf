"""What must hold of a configuration, in plain containers, before anything is built or written from it."""

from functools import reduce
from pathlib import Path
from typing import Any

# The least value of what must be a whole number.
COUNTS = {
    "seed": 0,
    "total_images": 1,
    "log_every": 1,
    "validate_every": 1,
    "d_per_g": 1,
    "accumulate": 1,
    "data.batch_size": 1,
    "model.width": 1,
    "model.latent": 1,
    "model.classes": 0,
}


def check_settings(config: dict[str, Any]) -> None:
    """ValueError for a count that is none, and for a GPU that is not there."""
    import torch

    for key, least in COUNTS.items():
        value = reduce(lambda node, name: node[name], key.split("."), config)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"`{key}` must be a whole number of at least {least}, got {value}")
    if config["trainer"]["accelerator"] in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError("trainer=gpu needs a CUDA GPU that torch can see, and there is none; use trainer=auto or trainer=cpu")


def check_data(config: dict[str, Any], data: Any) -> None:
    """Holds the model against the data it is to learn, before anything is built."""
    classes, found = config["model"]["classes"], len(data.classes)
    if classes and classes != found:
        names = ", ".join(data.classes) or "none: the data has no labels"
        raise ValueError(
            f"`model.classes` must be 0 or the number of classes of the data, got {classes}; the data has {found} ({names}); "
            f"use model.classes={found}"
        )
    if config["image"]["spatial_dims"] != data.spatial_dims:
        raise ValueError(
            f"`image.spatial_dims` must be that of the data, got {config['image']['spatial_dims']}; these images have {data.spatial_dims}"
        )


def read_checkpoint(path: str | Path, device: str = "cpu") -> dict[str, Any]:
    """What a checkpoint holds, nothing unpickled but tensors and plain containers.

    FileNotFoundError if there is no such file, ValueError if it is not a whole medgan_pl checkpoint.
    """
    import pickle

    import torch

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`checkpoint` must be a checkpoint file, such as outputs/<date>/<time>/checkpoints/best.ckpt; got {path}")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        checkpoint["medgan_pl"]["config"]["model"], checkpoint["state_dict"]
    except (RuntimeError, OSError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} must be a whole checkpoint written by medgan_pl.train; it is not: {why}") from error
    return checkpoint


def check_checkpoint(path: str, config: dict[str, Any]) -> int:
    """The images shown to a checkpoint to go on from; ValueError, before anything is written, if it is torn or of another model."""
    state = read_checkpoint(path)["medgan_pl"]
    change = difference(state["config"]["model"], config["model"], "model")
    if change:
        raise ValueError(f"the checkpoint {path} must be of this model; it differs (checkpoint, here): {'; '.join(change)}")
    return state["images"]


def difference(a: Any, b: Any, where: str) -> list[str]:
    """Each place at which two trees of plain containers differ, as "key: a, b"."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [line for key in keys for line in difference(a.get(key), b.get(key), f"{where}.{key}")]
    return [] if a == b else [f"{where}: {a}, {b}"]


# What a configuration may build. A checkpoint travels between people, and instantiating whatever it names would run their code.
ALLOWED_TARGETS = ("medgan_pl.", "torch.optim.")


def check_targets(node: Any) -> None:
    """ValueError for a `_target_` outside ALLOWED_TARGETS anywhere in the plain containers of `node`."""
    if isinstance(node, dict):
        target = node.get("_target_")
        if target is not None and not str(target).startswith(ALLOWED_TARGETS):
            raise ValueError(f"a module's `_target_` must start with one of {', '.join(ALLOWED_TARGETS)}, got {target}")
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        check_targets(child)
