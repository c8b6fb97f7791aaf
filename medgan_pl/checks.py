"""What must hold of a configuration, in plain containers, before anything is built or written from it."""

from functools import reduce
from typing import Any

from medgan_pl.trust import read_checkpoint

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


# What a run may change of its data when it goes on: how fast it comes and how it is stored and varied, not what it is.
FREE = ("batch_size", "workers", "cache", "augment", "max_corrupt", "seed")


def select(config: dict[str, Any], key: str) -> Any:
    """The value under a dotted key: data.size."""
    return reduce(lambda node, name: node[name], key.split("."), config)


def check_settings(config: dict[str, Any]) -> None:
    """ValueError for a count that is none, and for a GPU that is not there."""
    import torch

    for key, least in COUNTS.items():
        value = select(config, key)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"`{key}` must be a whole number of at least {least}, got {value}")
    trainer = config["trainer"]
    if trainer["accelerator"] in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError("trainer=gpu needs a CUDA GPU that torch can see, and there is none; use trainer=auto or trainer=cpu")
    if trainer["sync_batchnorm"] and (trainer["accelerator"] == "cpu" or not torch.cuda.is_available()):
        raise ValueError("trainer.sync_batchnorm=true needs CUDA GPUs, and there is none; use trainer.sync_batchnorm=false on the CPU")


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


def check_checkpoint(path: str, config: dict[str, Any]) -> int:
    """The images shown to a checkpoint to go on from; ValueError, before anything is written, if it is torn or of another model."""
    state = read_checkpoint(path)["medgan_pl"]
    change = difference(state["config"]["model"], config["model"], "model")
    if change:
        raise ValueError(f"the checkpoint {path} must be of this model; it differs (checkpoint, here): {'; '.join(change)}")
    # Another split could show the run its own held-out patients, other images are another task, and another seed is another run.
    moved = difference(state["config"]["seed"], config["seed"], "seed")
    moved += difference(*({key: value for key, value in c["data"].items() if key not in FREE} for c in (state["config"], config)), "data")
    if moved:
        raise ValueError(f"a run must go on with its own data and seed; they differ (checkpoint, here): {'; '.join(moved)}")
    if state["images"] >= config["total_images"]:
        raise ValueError(f"the run has shown {state['images']:,} images already; to go on, give total_images=… above that")
    return state["images"]


def difference(a: Any, b: Any, where: str) -> list[str]:
    """Each place at which two trees of plain containers differ, as "key: a, b"."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [line for key in keys for line in difference(a.get(key), b.get(key), f"{where}.{key}")]
    return [] if a == b else [f"{where}: {a}, {b}"]
