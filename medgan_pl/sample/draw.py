"""Draw images from a checkpoint: `python -m medgan_pl.sample checkpoint=outputs/…/checkpoints/best.ckpt n=64`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.core.command import chosen_device, quiet_libraries
from medgan_pl.core.console import say
from medgan_pl.core.counts import whole_number
from medgan_pl.core.files import atomically
from medgan_pl.core.lock import OTHER_OUTPUT, only_writer
from medgan_pl.core.settings import for_sidecars
from medgan_pl.models.load import load, style_based
from medgan_pl.sample.others import refuse_others, sidecars_in

if TYPE_CHECKING:
    import numpy as np
    from omegaconf import DictConfig, ListConfig
    from torch import Tensor

    from medgan_pl.models.module import AdversarialModule


def sample(config: "DictConfig") -> None:
    """Write `n` images with sidecars and a grid of the first 64; image i of a seed does not depend on `n` and `batch_size`,
    except for rounding: kernels add in another order for another number of images, and a gray level may be the next one."""
    quiet_libraries()
    for name in ("n", "batch_size"):
        whole_number(name, config[name], 1)
    formats = wanted_formats(config.format)
    if config.checkpoint is None:
        raise ValueError("`checkpoint` must be given: python -m medgan_pl.sample checkpoint=outputs/<date>/<time>/checkpoints/best.ckpt")
    module = load(config.checkpoint, chosen_device(config.device))
    if module.game.sourced:
        raise ValueError(
            "this generator makes images from images, not from noise; use python -m medgan_pl.apply checkpoint=… input=DIR output=DIR"
        )
    truncate(module, config.truncation)
    run = Path(config.checkpoint).resolve().parent.parent
    # In the run folder; a checkpoint that was copied elsewhere has none.
    output = Path(str(config.output)) if config.output is not None else (run if (run / "config.yaml").is_file() else Path()) / "generated"
    with only_writer(output, OTHER_OUTPUT):
        draw(module, config, formats, output)
    say(f"{config.n} images as {', '.join(formats)} and grid.png are in {output}")


def draw(module: "AdversarialModule", config: "DictConfig", formats: list[str], output: Path) -> None:
    """Write the images, their sidecars and grid.png to `output`. Raise ValueError if another draw is there."""
    import torch
    from rich.progress import track

    from medgan_pl.data.pictures import to_grid
    from medgan_pl.models.draw import fixed_batch

    there = sidecars_in(output)
    count = max([config.n, *(sidecar["index"] + 1 for sidecar in there.values())])
    labels = wanted_labels(module, config.label, count)
    covariates = wanted_covariates(module, config.covariates, config.seed, count)
    refuse_others(output, there, config.n, config.seed, module, labels, covariates)
    labels, covariates = labels[: config.n], covariates[: config.n]
    writer = Writer(module, output, formats, config.seed)
    first = []
    for start in track(range(0, config.n, config.batch_size), description="drawing", transient=True):
        part = labels[start : start + config.batch_size]
        rows = covariates[start : start + config.batch_size]
        standardized = torch.from_numpy(module.covariates.standardize(rows)) if module.covariates.columns else None
        images = module.generate(fixed_batch(module, part, config.seed, start, standardized)).float().cpu()
        for i, (image, label, values) in enumerate(zip(images, part.tolist(), rows, strict=True), start):
            writer.write(i, image, label, module.covariates.said(values))
        first += list(images[: max(0, 64 - len(first))])
    with atomically(output / "grid.png") as temporary:
        to_grid(torch.stack(first), columns=math.ceil(math.sqrt(len(first)))).save(temporary, format="PNG")


def truncate(module: "AdversarialModule", truncation: Any) -> None:
    """Draw nearer to the average style of the EMA generator, unless `truncation` is None, and record it in the configuration, and so in the
    sidecar of every image. Raises ValueError for a number outside 0 to 1, otherwise as `style_based`."""
    if truncation is None:
        return
    if isinstance(truncation, bool) or not isinstance(truncation, int | float) or not 0 <= truncation <= 1:
        raise ValueError(f"`truncation` must be null or a number in 0 to 1, got {truncation}")
    style_based(module, "truncation").truncation = float(truncation)
    module.config = module.config | {"truncation": float(truncation)}


FORMATS = ("png", "png16", "nifti", "dicom")


def wanted_formats(given: "str | ListConfig") -> list[str]:
    formats = [given] if isinstance(given, str) else list(given)
    if not formats or set(formats) - set(FORMATS) or {"png", "png16"} <= set(formats):
        raise ValueError(
            f"`format` must be one of {', '.join(FORMATS)}, or several, such as [png,nifti], but one depth of PNG; got {given}"
        )
    return formats


class Writer:
    """Writes generated images (C, *S) in [-1, 1] in native units and with spacing, each with its sidecar (`data/export`)."""

    def __init__(self, module: "AdversarialModule", output: Path, formats: list[str], seed: int) -> None:
        from datetime import UTC, datetime

        from medgan_pl.data.export import Provenance

        self.inverse, self.classes, self.output, self.formats = module.inverse, module.classes, output, formats
        size = module.config["data"]["size"]
        shape = (size,) * module.config["image"]["spatial_dims"] if isinstance(size, int) else tuple(size)
        self.affine = self.inverse.affine(shape)
        if "nifti" in formats and self.affine is None:
            slices = self.inverse.modality != "CR"
            other = "png16, which states its black and white" if slices else "png16 or dicom"
            raise ValueError(
                f"format=nifti needs a spacing, and {'slices in pictures' if slices else 'films'} have none; use format={other}"
            )
        if "dicom" in formats and self.affine is None and self.inverse.modality != "CR":
            raise ValueError(
                f"format=dicom of {self.inverse.modality} needs a spacing, and slices in pictures have none; use format=png16, which "
                "states its black and white"
            )
        self.conditional = bool(module.config["model"]["classes"])
        self.provenance = Provenance(
            model=module.config["model"]["generator"]["_target_"].split(".")[-1],
            checkpoint_sha256=module.origin.sha256,
            seed=seed,
            images_seen=module.images,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            config=for_sidecars(module.config),
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
                write_png(path, values, bits=16 if kind == "png16" else 8, low=low, high=high, unit=facts.unit)
            write_sidecar(path, self.provenance, facts)


def wanted_labels(module: "AdversarialModule", label: str | None, n: int) -> "Tensor":
    """Return the class of each of `n` images: the requested one (name or number), or all in turn."""
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
    """Return natural values (n, K) of the model's covariates for each image: the requested ones; the others are drawn by the image's
    number.

    Warns about a value outside the range of most training images. Raises as `Covariates.asked`.
    """
    from omegaconf import OmegaConf

    asked = module.covariates.asked(
        {name: value for name, value in OmegaConf.to_container(given, resolve=True).items() if value is not None}
    )
    for place, value in asked.items():
        column = module.covariates.columns[place]
        if column.outside(value):
            say(
                f"WARNING: covariates.{column.name}={value:g} lies outside {column.low:.4g} to {column.high:.4g}, where 98 % or more of "
                "the training images lie; images drawn there are an extrapolation",
                error=True,
            )
    return module.covariates.for_images(seed, range(n), asked)
