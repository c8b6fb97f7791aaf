"""Validate a configuration, in plain containers, before anything is built or written from it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.core.counts import whole_number
from medgan_pl.core.settings import FILES, difference, select
from medgan_pl.train.kinds import check_kinds

if TYPE_CHECKING:
    from medgan_pl.data.protocol import Data
    from medgan_pl.models.module import AdversarialModule
    from medgan_pl.models.state import Progress, RunState

# The least value of what must be a whole number.
COUNTS = {
    "seed": 0,
    "total_images": 1,
    "log_every": 1,
    "validate_every": 1,
    "accumulate": 1,
    "data.batch_size": 1,
    "model.width": 1,
    "model.latent": 1,
    "model.classes": 0,
}


STRATEGIES = ("auto", "ddp_find_unused_parameters_true")


def check_settings(config: dict[str, Any]) -> None:
    """Raise ValueError for a count that is not a whole number and for a GPU that is not there; errors as `check_kinds`, `check_files`."""
    import torch

    for key, least in COUNTS.items():
        if key == "model.latent" and "latent" not in config["model"]:
            continue  # a model that draws nothing
        whole_number(key, select(config, key), least)
    if config["d_per_g"] != "auto":
        whole_number("d_per_g", config["d_per_g"], 1, "or auto")
    check_kinds(config)  # after the counts, which others refer to: seed
    trainer = config["trainer"]
    if trainer["accelerator"] in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError("trainer=gpu needs a CUDA GPU that torch can see, and there is none; use trainer=auto or trainer=cpu")
    if trainer["strategy"] == "auto" and (trainer["devices"], trainer["num_nodes"]) != (1, 1):
        raise ValueError(f"several devices need trainer=ddp or trainer=slurm, got trainer.devices={trainer['devices']} without")
    if trainer["strategy"] not in STRATEGIES:
        raise ValueError(
            f"`trainer.strategy` must be one of {', '.join(STRATEGIES)}, got {trainer['strategy']}: one that shards weights, such as FSDP, "
            "knows no second derivative, which the penalties need, and cannot run one player of the module alone; use trainer=ddp, with a "
            "smaller data.batch_size or accumulate=… where memory is short"
        )
    for group in ("extras", "metrics"):
        check_files(config[group], group)


def check_files(node: dict[str, Any], where: str) -> None:
    """Raise FileNotFoundError, with the key, if an extractor below `where` is to read a file that does not exist.

    The message of the extractor itself cannot name the key, because an extractor does not know which part of the run uses it.
    """
    for name, value in node.items():
        key = f"{where}.{name}"
        if isinstance(value, dict):
            check_files(value, key)
        elif name in FILES and isinstance(value, str) and not Path(value).expanduser().is_file():
            published = f" Published: {node['published']}." if name == "weights" and "published" in node else ""
            raise FileNotFoundError(
                f"`{key}` must be a file of weights, and there is none at {value}; it is not downloaded for you.{published} Put it there, "
                f"or give its path: {key}=PATH"
            )


def check_data(config: dict[str, Any], data: "Data") -> None:
    """Raise ValueError if the model or the game does not fit the data. Called before anything is built."""
    from hydra.utils import get_class

    data.check_model(config)
    get_class(config["game"]["_target_"]).check_data(config["game"], data)
    classes, found = config["model"]["classes"], len(data.classes)
    if classes and classes != found:
        names = ", ".join(data.classes) or "none: the data has no labels"
        raise ValueError(
            f"`model.classes` must be 0 or the number of classes of the data, got {classes}; the data has {found} ({names}); "
            f"use model.classes={found}"
        )
    if list(config["model"].get("covariates", [])) != list(data.covariate_names):
        raise ValueError(
            f"`model.covariates` and data.covariates must be the same, got {config['model'].get('covariates', [])} and "
            f"{list(data.covariate_names)}; set model.covariates alone"
        )


def check_depth(module: "AdversarialModule", data: "Data") -> None:
    """Raise ValueError, before the images are prepared, for a discriminator of patches that is too deep for their size."""
    from medgan_pl.models.networks.patchgan import PatchDiscriminator

    for part in module.networks.modules():
        if isinstance(part, PatchDiscriminator):
            part.check_size(data.size)


def check_learnt(config: dict[str, Any], data: "Data") -> None:
    """Raise ValueError if a class of a conditional model has no training image: it would be drawn from noise. After `data.setup`."""
    import numpy as np

    if not config["model"]["classes"]:
        return
    counts = np.bincount(data.labels[data.image_records[data.rows["train"]]], minlength=len(data.classes))
    if not counts.all():
        never = ", ".join(name for name, count in zip(data.classes, counts, strict=True) if not count)
        shown = ", ".join(f"{name} {count}" for name, count in zip(data.classes, counts, strict=True))
        raise ValueError(
            f"each class of a conditional model must have a training image, got none of {never} (train: {shown}); add patients of it, "
            "split otherwise (data.split_seed, the column split), leave its files out (data.files, a CSV), or use model.classes=0"
        )


def repeated(config: dict[str, Any], world: int, data: "Data") -> str:
    """Return a warning for a batch of all devices that is larger than the training split, "" for another. After `data.setup`."""
    batch, images = config["data"]["batch_size"] * world, data.sizes()["train"]
    said = f"a batch of {batch} holds training images more than once, got {images} of them; use a smaller data.batch_size"
    return said if batch > images else ""


def check_same_run(path: Path, state: "RunState", config: dict[str, Any], force: bool) -> None:
    """Raise ValueError, with each difference, if a setting that a resumed run may not change is not that of the checkpoint.

    With `force` only the networks must be the same.
    """
    own = state.config
    change = difference(own["model"], config["model"], "model")
    if change:
        raise ValueError(f"the checkpoint {path} must be of this model; it differs (checkpoint, here): {'; '.join(change)}")
    changes = difference(own, config) or [f"module.{change}" for change in difference(own["module"], config["module"])]
    if changes and not force:
        raise ValueError(
            f"a run goes on as the run it was, and the configuration differs (checkpoint, here): {'; '.join(changes)}; "
            "resume.force=true goes on knowingly"
        )


def check_same_place(progress: "Progress", world: int, device: str, fingerprint: str, force: bool) -> None:
    """Raise ValueError unless the data and splits are those of the checkpoint, and the devices are as many and of the same kind."""
    here = {"devices": world, "kind of device": device, "data set (fingerprint)": fingerprint}
    there = {"devices": progress.world, "kind of device": progress.device, "data set (fingerprint)": progress.fingerprint}
    changes = [f"{key}: {there[key]}, {here[key]}" for key in here if there[key] != here[key]]
    if changes and not force:
        raise ValueError(
            f"a run goes on with its own data on its own devices, and these differ (checkpoint, here): {'; '.join(changes)}; "
            "resume.force=true goes on knowingly, without equality to the bit"
        )
