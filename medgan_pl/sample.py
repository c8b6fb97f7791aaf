"""Draws images from a checkpoint: `python -m medgan_pl.sample checkpoint=outputs/…/checkpoints/best.ckpt n=64`."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.build import quiet_libraries
from medgan_pl.checks import FILES
from medgan_pl.console import configuration_folder, describe_keys, one_message, root_cause
from medgan_pl.train import launch
from medgan_pl.trust import check_targets, hold, read_checkpoint, read_shared, shown

if TYPE_CHECKING:
    import numpy as np
    from omegaconf import DictConfig, ListConfig
    from torch import Tensor

    from medgan_pl.module import AdversarialModule
    from medgan_pl.networks.stylegan2 import StyleGAN2Generator

MANUAL = """\
medgan_pl.sample: draw images from a trained generator

  python -m medgan_pl.sample checkpoint=PATH [key=value …]

Examples
  python -m medgan_pl.sample checkpoint=outputs/<date>/<time>/checkpoints/best.ckpt n=64
      64 PNGs and grid.png in outputs/<date>/<time>/generated/
  python -m medgan_pl.sample checkpoint=… label=pneumonia covariates.age=70 covariates.sex=F
      what a model trained with model.classes and model.covariates=[age,sex] makes of such a patient
  python -m medgan_pl.sample checkpoint=… truncation=0.7
      of model=stylegan2: nearer to the average image, cleaner and less varied
  python -m medgan_pl.sample checkpoint=weights.safetensors n=64
      from weights that `python -m medgan_pl.export` wrote for sharing: the same images
  python -m medgan_pl.sample checkpoint=… n=500 label=pneumonia seed=7 output=/data/synthetic
  python -m medgan_pl.sample checkpoint=… format=[nifti,dicom]
      in native units (HU) with spacing; every file says it is synthetic, a .json beside it what made it

Keys and their defaults
{keys}
"""


def load(path: str | Path, device: str = "cpu") -> "AdversarialModule":
    """The module of a checkpoint or of shared weights (.safetensors), in evaluation mode; `module.generate(batch)`: its averaged generator.

    Its metrics, which judge a run, and its extras, which a run pays, are left out. Weights shared without the players have the average for
    a generator and no discriminator. Nothing is built but the project's own classes and torch's optimisers, and only what is as large as
    the weights in the file. Errors as `read_checkpoint`, and ValueError if the settings stored with the weights cannot be built or are of
    other weights.
    """
    import torch

    from medgan_pl.data.covariates import Covariates
    from medgan_pl.data.intensity import Inverse

    path = Path(path)
    stored = read_shared(path) if path.suffix == ".safetensors" else read_checkpoint(path)
    state = stored["medgan_pl"]
    weights = {name: weight for name, weight in stored["state_dict"].items() if not name.startswith(("metrics.", "game.extras."))}
    whole = any(name.startswith("discriminator.") for name in weights)
    if not whole:
        weights |= {name.replace("average.network.", "generator.", 1): weight for name, weight in weights.items()}
    try:
        check_targets(without_terms(state["config"]["module"]))
        # First without memory: a width of a billion is a shape there, and a shape must be that of a weight in the file.
        with torch.device("meta"), at_most(4 * len(weights) + 1000):
            wanted = build(state["config"], whole).state_dict()
            # What a game keeps, such as a running mean of its penalty, serves training alone: shared weights need not have it.
            check_shapes({name: weight for name, weight in wanted.items() if whole or not name.startswith("game.")}, weights)
        module = build(state["config"], whole)
        module.load_state_dict(weights, strict=whole)
    except Exception as error:  # of any type: settings made to harm fail wherever they are used
        raise ValueError(f"the weights in {path} do not fit the settings stored with them: {str(root_cause(error))[:1000]}") from error
    module.config, module.images, module.classes = state["config"], state["images"], state["classes"]
    module.inverse = Inverse.from_plain(state["inverse"])
    module.inverses = {name: Inverse.from_plain(plain) for name, plain in state.get("inverses", {}).items()}
    module.covariates = Covariates.from_plain(state.get("covariates", []))
    return module.to(device).eval()


def build(config: dict[str, Any], whole: bool) -> "AdversarialModule":
    """The module of a checked configuration, without its metrics, one plain term in the place of its extras, and nothing, unless
    `whole`, in that of the discriminator and what is on the way to it."""
    from hydra.utils import instantiate
    from torch import nn

    from medgan_pl.keys import Purpose, key_randomness
    from medgan_pl.losses.image import L1

    settings = without_terms(config["module"])
    if "extras" in settings["game"]:
        settings["game"]["extras"] = {"left_out": L1(weight=1.0)}
    if not whole:
        game = settings["game"] | {"augment": None, "regularizers": {}} | ({"pool": 0} if "pool" in settings["game"] else {})
        settings |= {"discriminator": nn.Identity(), "share": None, "game": game}
    key_randomness(config["seed"], 0, 0, Purpose.INIT)
    return instantiate(settings, _convert_="all")


def without_terms(module: dict[str, Any]) -> dict[str, Any]:
    """The settings of a module without its metrics and extras, which serve a run alone: they may read files of the machine it ran on, and
    an older run may name classes that are no more."""
    game = module["game"]
    return module | {"metrics": {}, "game": game | ({"extras": {}} if "extras" in game else {})}


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Inside, ValueError once modules have been given more than `count` parameters, so that a loop as long as a file likes ends early."""
    from torch.nn.modules.module import register_module_parameter_registration_hook

    given = 0

    def note(*_: Any) -> None:
        nonlocal given
        given += 1
        hold(given <= count, f"the settings ask for more than {count} weights, many times what the file holds")

    handle = register_module_parameter_registration_hook(note)
    try:
        yield
    finally:
        handle.remove()


def check_shapes(wanted: dict[str, "Tensor"], found: dict[str, "Tensor"]) -> None:
    """ValueError unless `found` are the weights that are `wanted`, by name, shape and kind of number."""
    odd = sorted(wanted.keys() ^ found.keys())
    hold(not odd, f"{len(odd)} weights are in one and not in the other, such as {', '.join(shown(name) for name in odd[:3])}")
    for name, weight in found.items():
        same = weight.shape == wanted[name].shape and weight.is_floating_point() == wanted[name].is_floating_point()
        hold(same, f"{shown(name)} must be {tuple(wanted[name].shape)}, got {tuple(weight.shape)} of {weight.dtype}")


def main() -> None:
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(MANUAL.format(keys=describe_keys(configuration_folder() / "sample.yaml")))
        return
    # Which names there are, the model says; Hydra's ++ takes a key that the configuration does not have.
    sys.argv[1:] = [f"++{argument}" if argument.startswith("covariates.") else argument for argument in sys.argv[1:]]
    with one_message(None):
        launch(run, "sample")


def run(config: "DictConfig") -> None:
    with one_message(None):
        sample(config)


def sample(config: "DictConfig") -> None:
    """Writes `n` images with their sidecars and a grid of the first 64; image i of a seed is the same whatever `n` and `batch_size` are."""
    quiet_libraries()
    import torch
    from rich.progress import track

    from medgan_pl.callbacks import fixed_batch, to_grid

    for name in ("n", "batch_size"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise ValueError(f"`{name}` must be a whole number of at least 1, got {config[name]}")
    formats = wanted_formats(config.format)
    if config.checkpoint is None:
        raise ValueError("`checkpoint` must be given: python -m medgan_pl.sample checkpoint=outputs/<date>/<time>/checkpoints/best.ckpt")
    module = load(config.checkpoint, chosen_device(config.device))
    if module.game.sourced:
        raise ValueError(
            "this generator makes images of images, and noise alone gives it none: "
            "python -m medgan_pl.apply checkpoint=… input=DIR output=DIR"
        )
    truncate(module, config.truncation)
    labels = wanted_labels(module, config.label, config.n)
    covariates = wanted_covariates(module, config.covariates, config.seed, config.n)
    run = Path(config.checkpoint).resolve().parent.parent
    # Beside the run it comes from; a checkpoint that was copied elsewhere has no run folder around it.
    output = Path(str(config.output)) if config.output is not None else (run if (run / "config.yaml").is_file() else Path()) / "generated"
    writer = Writer(module, output, formats, Path(config.checkpoint), config.seed)
    first = []
    for start in track(range(0, config.n, config.batch_size), description="drawing", transient=True):
        part = labels[start : start + config.batch_size]
        told = covariates[start : start + config.batch_size]
        standardised = torch.from_numpy(module.covariates.standardised(told)) if module.covariates.columns else None
        images = module.generate(fixed_batch(module, part, config.seed, start, standardised)).float().cpu()
        for i, (image, label, values) in enumerate(zip(images, part.tolist(), told, strict=True), start):
            writer.write(i, image, label, module.covariates.said(values))
        first += list(images[: max(0, 64 - len(first))])
    to_grid(torch.stack(first), columns=math.ceil(math.sqrt(len(first)))).save(output / "grid.png")
    print(f"{config.n} images as {', '.join(formats)} and grid.png are in {output}")


def truncate(module: "AdversarialModule", truncation: Any) -> None:
    """Lets the averaged generator draw nearer to its average style, unless `truncation` is None. The configuration says so from then on,
    and with it the sidecar of every image. ValueError for a number outside 0 to 1 and as `style_based`."""
    if truncation is None:
        return
    if isinstance(truncation, bool) or not isinstance(truncation, int | float) or not 0 <= truncation <= 1:
        raise ValueError(f"`truncation` must be null or a number in 0 to 1, got {truncation}")
    style_based(module, "truncation").truncation = float(truncation)
    module.config = module.config | {"truncation": float(truncation)}


def style_based(module: "AdversarialModule", what: str) -> "StyleGAN2Generator":
    """The averaged generator of a model with styles; ValueError, which says what needs them, for another."""
    from medgan_pl.networks.stylegan2 import StyleGAN2Generator

    network = module.average.network
    if not isinstance(network, StyleGAN2Generator):
        raise ValueError(f"{what} needs a generator with styles, model=stylegan2; {type(network).__name__} has none")
    return network


def chosen_device(device: str) -> str:
    """auto is the GPU where there is one. ValueError for one that is not there."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"`device` must be auto, cpu or cuda, got {device}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda needs a CUDA GPU that torch can see, and there is none; use device=cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


FORMATS = ("png", "png16", "nifti", "dicom")


def wanted_formats(given: "str | ListConfig") -> list[str]:
    formats = [given] if isinstance(given, str) else list(given)
    if not formats or set(formats) - set(FORMATS) or {"png", "png16"} <= set(formats):
        raise ValueError(f"`format` must be of {', '.join(FORMATS)}, or several, [png,nifti], but one depth of PNG; got {given}")
    return formats


class Writer:
    """Writes generated images (C, *S) in [-1, 1] in native units and in space, each with its sidecar (`data/export`)."""

    def __init__(self, module: "AdversarialModule", output: Path, formats: list[str], checkpoint: Path, seed: int) -> None:
        from datetime import UTC, datetime

        from medgan_pl.data.export import Provenance, sha256

        self.inverse, self.classes, self.output, self.formats = module.inverse, module.classes, output, formats
        size = module.config["data"]["size"]
        shape = (size,) * module.config["image"]["spatial_dims"] if isinstance(size, int) else tuple(size)
        self.affine = self.inverse.affine(shape)
        if "nifti" in formats and self.affine is None:
            raise ValueError("format=nifti needs a place in space, and films have none; use format=png16 or dicom")
        self.conditional = bool(module.config["model"]["classes"])
        self.provenance = Provenance(
            model=module.config["model"]["generator"]["_target_"].split(".")[-1],
            checkpoint_sha256=sha256(checkpoint),
            seed=seed,
            images_seen=module.images,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            config=shareable(module.config),
        )
        output.mkdir(parents=True, exist_ok=True)

    def write(self, index: int, image: "Tensor", label: int, covariates: dict[str, float | str]) -> None:
        from medgan_pl.data.export import Facts, write_dicom, write_nifti, write_png, write_sidecar

        values = self.inverse(image).numpy()
        low, high = min(low for low, _ in self.inverse.levels), max(high for _, high in self.inverse.levels)
        name = self.classes[label] if self.conditional else None
        facts = Facts(index, self.inverse.unit, low, high, self.inverse.spacing_mm, name, covariates or None)
        for kind in self.formats:
            if kind == "nifti":
                path = self.output / f"{index:06d}.nii.gz"
                write_nifti(path, values, self.affine)
            elif kind == "dicom":
                path = self.output / (f"{index:06d}.dcm" if values.ndim == 2 else f"{index:06d}")
                write_dicom(path, values, facts, self.provenance, modality=self.inverse.modality, affine=self.affine)
            else:
                path = self.output / f"{index:06d}.png"
                write_png(path, values, bits=16 if kind == "png16" else 8, low=low, high=high)
            write_sidecar(path, self.provenance, facts)


# What of a configuration tells of this machine, or repeats what stands elsewhere.
PLACES = ("run_dir", "resume", "init_from", "logger", "callbacks", "module", "trainer")


def shareable(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what tells of this machine and its users: paths, loggers, callbacks."""
    kept = {key: without_files(value) for key, value in config.items() if key not in PLACES}
    return kept | {"data": shareable_data(config["data"])}


def without_files(node: Any) -> Any:
    """`node` without the files that extractors below it read, of extras and metrics."""
    if isinstance(node, list):
        return [without_files(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {key: without_files(value) for key, value in node.items() if not (key in FILES and isinstance(value, str))}


def shareable_data(data: dict[str, Any], places: tuple[str, ...] = ("root", "cache")) -> dict[str, Any]:
    """The settings of a data set, of what lies beside it and of its domains, without the `places` where they lie."""
    kept = {key: value for key, value in data.items() if key not in places}
    for part in ("beside", "domains"):
        if kept.get(part):
            kept[part] = {name: shareable_data(each, places) for name, each in kept[part].items()}
    return kept


def wanted_labels(module: "AdversarialModule", label: str | None, n: int) -> "Tensor":
    """The class of each of `n` images: the one asked for by name or number, or all in turn."""
    import torch

    classes, names = module.config["model"]["classes"], module.classes
    if label is None:
        return torch.arange(n) % max(1, classes)
    column = next((each for each in module.covariates.columns if each.name == str(label)), None)
    hint = f"; that is a covariate: covariates.{label}={column.levels[1] if column.levels else '…'}" if column else ""
    if not classes:
        raise ValueError(f"`label` needs a conditional model, got label={label}; this one was trained with model.classes=0{hint}")
    known = {str(i): i for i in range(classes)} | {name: i for i, name in enumerate(names)}  # a class may be called 1
    alike = [name for name in names if name.casefold() == str(label).casefold()]
    asked = alike[0] if len(alike) == 1 else str(label)
    if asked not in known:
        raise ValueError(f"`label` must be one of {', '.join(names)} or 0 to {classes - 1}, got {label}{hint}")
    return torch.full((n,), known[asked])


def wanted_covariates(module: "AdversarialModule", given: "DictConfig", seed: int, n: int) -> "np.ndarray":
    """Natural values (n, K) of the model's covariates for each image: those asked for, the others drawn by the number of the image.

    One that lies outside what the model was mostly trained on is told of; errors as `Covariates.asked`.
    """
    from omegaconf import OmegaConf

    asked = module.covariates.asked(
        {name: value for name, value in OmegaConf.to_container(given, resolve=True).items() if value is not None}
    )
    for place, value in asked.items():
        column = module.covariates.columns[place]
        if column.outside(value):
            print(
                f"WARNING: covariates.{column.name}={value:g} lies outside {column.low:.4g} to {column.high:.4g}, where 98 % or more of "
                "the training images lay; what is drawn there is a guess",
                file=sys.stderr,
            )
    return module.covariates.for_images(seed, range(n), asked)


if __name__ == "__main__":
    main()
