"""A generator, on the data it was trained on or on others of the same kind."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from omegaconf import OmegaConf

from medgan_pl.core.keys import Purpose
from medgan_pl.core.safe_load import DATA_PACKAGES, DATA_PARTS, check_targets, read_checkpoint
from medgan_pl.core.settings import CHOOSING, for_sidecars
from medgan_pl.data.export import sha256
from medgan_pl.data.settings import numbers
from medgan_pl.evaluate.fidelity import Sets
from medgan_pl.evaluate.sets import held_out, keyed, real_set, stored
from medgan_pl.evaluate.targets import truth
from medgan_pl.evaluate.targets.target import Subject, extractors_of, hold_pairs, opened, straddled, whole
from medgan_pl.models.draw import fixed_batch
from medgan_pl.models.load import load

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

    from medgan_pl.data.datamodule import ImageDataModule
    from medgan_pl.evaluate.sets import ImageSet
    from medgan_pl.models.module import AdversarialModule


def of_checkpoint(config: "DictConfig", overrides: list[str], device: str, watch: Callable[[str], None]) -> Subject:
    path = Path(str(config.checkpoint))
    module = load(path, device)
    state = {} if path.suffix == ".safetensors" else read_checkpoint(path)["medgan_pl"]
    config.image.spatial_dims = module.config["image"]["spatial_dims"]
    run = path.resolve().parent.parent
    config.data = data_of_run(config, module.config["data"], overrides, run)
    watch("the data")
    data = opened(config.data)
    check_fits(module, data)
    if module.covariates.columns:
        data.use_covariates(module.covariates)
    segments = module.game.segments
    extractors = [] if segments else extractors_of(config)
    strangers = trained_elsewhere(state.get("fingerprint"), data)
    reference, floor, note = held_out(data)
    brought = module.game.sourced and not module.game.paired  # from one domain to another: judged as images of the last
    why = "" if module.game.paired else truth.unknown(data) if brought else "what is made of noise has no truth"
    if why:
        hold_pairs(config, why)
    train, real, others = (real_set(data, of_last(data, rows) if brought else rows) for rows in (data.rows["train"], reference, floor))
    if module.game.paired:
        fake, right = translated(module, data, reference, config, watch), truth_of(module, data, reference, real)
    elif brought:
        rows = of_first(data, reference)
        fake, right = translated(module, data, rows, config, watch), None if why else truth.in_last(data, rows)
    else:
        fake, right = drawn(module, train, config, watch), None
    if segments:
        config.groups = ["paired"]
    name = "/".join(path.resolve().parts[-3:])  # the run's folder and the file: a whole path tells of the machine
    told = {"kind": "checkpoint", "name": name, "path": path.name, "sha256": sha256(path), "images_seen": module.images}
    told |= {"model": module.config["model"]["generator"]["_target_"].split(".")[-1], "conditional": fake.labels is not None}
    notes = [note, straddled(data)]
    if brought and why and "paired" in config.groups:
        notes.append(f"paired: not measured, since {why}.")
    wandb_run = state.get("wandb")
    if strangers:
        notes.append(f"Reference and floor may hold images the generator was trained on, and then all looks too good: {strangers}.")
    return Subject(
        told,
        data,
        Sets(fake, real, others, train, list(data.classes), right, structures_of(data) if segments else ()),
        extractors,
        (run if (run / "config.yaml").is_file() else Path()) / "report",
        strangers,
        for_sidecars(module.config),
        [note for note in notes if note],
        wandb_run if isinstance(wandb_run, str) and re.fullmatch(r"[\w-]{1,64}", wandb_run) else None,
        None if path.suffix == ".safetensors" or module.game.sourced else critic_of(module, whole(config, "batch_size", 1)),
    )


def data_of_run(config: "DictConfig", stored: dict[str, Any], overrides: list[str], run: Path) -> "DictConfig":
    """The data that the generator was trained on, but for what was typed: its settings are the base, `data.…` on the command line changes
    them. The cache is where this command line says, and which files are read only what the config.yaml of the checkpoint's own `run` folder
    says too, or what was typed: a file that travels must choose neither.

    Raises ValueError for data of another modality, and without data.root for weights that do not say, or may not say, where they lie.
    """
    typed = [override.split("=")[0].lstrip("+") for override in overrides]
    check_targets(stored, DATA_PACKAGES)
    own = stored.get("modality", {}).get("_target_", config.data.modality._target_)
    if "data" in typed and config.data.modality._target_ != own:
        kinds = [target.split(".")[-1] for target in (own, config.data.modality._target_)]
        raise ValueError("the generator was trained on {}, got data of {}; leave data=… out, or choose the same".format(*kinds))
    kept = {key: value for key, value in stored.items() if key != "cache"}
    record = run / "config.yaml"
    here = OmegaConf.to_container(OmegaConf.load(record))["data"] if record.is_file() else {}
    if any(here.get(key, {}) != stored.get(key, {}) for key in CHOOSING):
        if "domains" in kept:
            raise ValueError("several domains are judged in their run folder alone, whose config.yaml says where their files lie")
        if "data.root" not in typed:
            raise ValueError(
                "weights outside their run folder do not say where their data lie: add data.root=PATH (null for the embedded cohort)"
            )
        beside = {key: each and each | {"root": None} for key, each in kept.get("beside", {}).items()}
        kept = {key: value for key, value in kept.items() if key not in CHOOSING} | {"beside": beside}
        check_targets({key: value for key, value in kept.items() if key != "_target_"}, DATA_PARTS)
        for node in (kept, *beside.values()):
            if node and "series" in node.get("modality", {}):
                node["modality"] = node["modality"] | {"series": None}
    # Whole, key by key: a modality or an intensity must not mix the arguments of two classes.
    base = OmegaConf.to_container(config.data, resolve=True)
    base.pop("domains", None)  # there by what was typed alone
    if "domains" in kept:  # what else there is, each of them says
        base = {"domains": {name: domain | {"cache": base["cache"]} for name, domain in kept.pop("domains").items()}}
    merged = OmegaConf.create(base | kept)
    for name in [key.split("@data.")[1] for key in typed if "@data." in key]:
        OmegaConf.update(merged, name, OmegaConf.select(config.data, name), merge=False, force_add=True)
    for key in typed:
        if key.startswith(("data.beside.", "data.domains.")):
            check_there(merged, key)
        if key.startswith("data."):
            OmegaConf.update(merged, key.removeprefix("data."), OmegaConf.select(config, key), force_add=True)
    return merged


def check_there(data: "DictConfig", key: str) -> None:
    """ValueError unless `data` has this key, data.…, whatever its value: Hydra, which is told to add those, does not see a mistyped one."""
    above, _, last = key.removeprefix("data.").rpartition(".")
    node = OmegaConf.select(data, above)
    if last not in (node or {}):
        there = f"data.{above} has {', '.join(node)}" if node else f"nor is there any data.{above}"
        raise ValueError(f"there is no `{key}` in the data of the run; {there}")


def check_fits(module: "AdversarialModule", data: "ImageDataModule") -> None:
    """ValueError unless the reals are what the generator draws: modality, size, channels, and the classes where it knows any."""
    data.check_model(module.config)
    own = module.config["data"]
    size = numbers("size", own["size"], module.config["image"]["spatial_dims"], 1, whole=True)
    pairs = {
        "modality": (module.inverse.modality, data.modality.name),
        "data.size": (list(size), list(data.size)),
        "data.channels": (own["channels"], data.channels),
    }
    if module.config["model"]["classes"]:
        pairs["classes"] = (list(module.classes), list(data.classes))
    for name, (drawn, real) in pairs.items():
        if drawn != real:
            raise ValueError(f"the reals must be what the generator draws: its {name} is {drawn}, that of the reals {real}")


def trained_elsewhere(fingerprint: str | None, data: "ImageDataModule") -> str:
    """Why the images of the training split cannot be taken for those the generator saw; "" where they can."""
    if data.patches:
        return "patches are cut anew each round, so that which ones the generator saw cannot be told"
    if fingerprint is None:
        return "the weights do not record which images they were trained on"
    if fingerprint != data.fingerprint:
        return (
            f"these are not the images, or not the split, that the generator was trained on (fingerprint {data.fingerprint}, trained on "
            f"{fingerprint})"
        )
    return ""


def drawn(module: "AdversarialModule", train: "ImageSet", config: "DictConfig", watch: Callable[[str], None]) -> "ImageSet":
    """`n` images of the averaged generator, image i that of `medgan_pl.sample` for the same class and covariates: those of a training image
    drawn at random, so that both are as common as in training, and as common together."""
    n = whole(config, "n", 1)
    rows = torch.randint(len(train), (n,), generator=keyed(config.seed))
    asked = train.labels[rows] if module.config["model"]["classes"] else torch.zeros(n, dtype=torch.int64)
    covariates = train.covariates[rows] if module.covariates.columns else None
    watch(f"{n:,} images of the generator")

    def parts() -> "Iterator[Tensor]":
        for start in range(0, n, config.batch_size):
            part = slice(start, start + config.batch_size)
            yield module.generate(fixed_batch(module, asked[part], config.seed, start, None if covariates is None else covariates[part]))

    return stored(parts(), n, asked if module.config["model"]["classes"] else None)


def critic_of(module: "AdversarialModule", batch_size: int) -> Callable[["ImageSet"], torch.Tensor]:
    """D's logits (N,) of a set, each image with its own label and covariates; where D gives a map, its mean."""

    @torch.no_grad()
    def logits(images: "ImageSet") -> torch.Tensor:
        found = []
        for rows in torch.arange(len(images)).split(batch_size):
            batch = {"image": images[rows].to(module.device)}
            if images.labels is not None:
                batch["label"] = images.labels[rows].to(module.device)
            if images.covariates is not None:
                batch["covariates"] = images.covariates[rows].to(module.device)
            verdict = module.game.critic(module.discriminator, batch)(batch["image"])
            found.append(verdict.float().reshape(len(rows), -1).mean(1).cpu())
        return torch.cat(found)

    return logits


def translated(
    module: "AdversarialModule", data: "ImageDataModule", rows: "np.ndarray", config: "DictConfig", watch: Callable[[str], None]
) -> "ImageSet":
    """Of a game of images from images, what the averaged generator makes of each at `rows` of the data's table, in their order."""
    watch(f"{len(rows):,} images of the generator")

    def parts() -> "Iterator[Tensor]":
        for places in np.split(np.arange(len(rows)), range(config.batch_size, len(rows), config.batch_size)):
            batch = {key: value.to(module.device) for key, value in data.batch(rows, places).items()}
            batch = module.game.draw_each(batch, config.seed, places.tolist(), Purpose.SAMPLES)
            if "target" in batch:
                batch["target"] = torch.full_like(batch["target"], len(data.classes) - 1)
            yield module.generate(batch)

    labels = None if data.labels is None or not module.game.paired else torch.from_numpy(data.labels[data.image_records[rows]])
    return stored(parts(), len(rows), labels)


def truth_of(module: "AdversarialModule", data: "ImageDataModule", rows: "np.ndarray", real: "ImageSet") -> "ImageSet":
    """Image for image what `translated` is to be."""
    return replace(real, get=lambda asked: module.game.real(data.batch(rows, asked.numpy())))


def of_last(data: "ImageDataModule", rows: "np.ndarray") -> "np.ndarray":
    """Of these rows of the table those of the last domain."""
    return rows[data.labels[data.image_records[rows]] == len(data.classes) - 1]


def of_first(data: "ImageDataModule", rows: "np.ndarray") -> "np.ndarray":
    """And those of the others."""
    return rows[data.labels[data.image_records[rows]] != len(data.classes) - 1]


def structures_of(data: "ImageDataModule") -> tuple[str, ...]:
    return data.companions["mask"].structures
