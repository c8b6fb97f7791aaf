"""A trained generator as a target, on the data it was trained on or on other data of the same kind."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import OmegaConf

from medgan_pl.core.settings import for_sidecars
from medgan_pl.data.build import open_data
from medgan_pl.data.domain_truth import truth_in_last_domain, truth_unknown_because
from medgan_pl.data.of_run import data_of_run
from medgan_pl.data.sets import ImageSet, held_out, real_set
from medgan_pl.evaluate.fidelity import Sets
from medgan_pl.evaluate.targets.target import Target, extractors_of, refuse_pairs_alone, split_note
from medgan_pl.models.fits import check_fits, membership_unknown_because, training_unknown_because
from medgan_pl.models.generated import discriminator_scores, draw_like, translate, true_targets
from medgan_pl.models.load import load

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.data.datamodule import ImageDataModule
    from medgan_pl.models.module import AdversarialModule


def target_from_checkpoint(config: "DictConfig", overrides: list[str], device: str, announce: Callable[[str], None]) -> Target:
    """Return the images of the EMA generator of `config.checkpoint`, with the data of its run as the reals.

    `config.data`, `config.image.spatial_dims` and, for a generator of masks, `config.groups` are set to what is used.
    Raises ValueError for data that do not fit the generator.
    """
    path = Path(str(config.checkpoint))
    module = load(path, device)
    config.image.spatial_dims = module.config["image"]["spatial_dims"]
    run = path.resolve().parent.parent
    config.data = data_of_run(OmegaConf.to_container(config.data, resolve=True), module.config["data"], overrides, run)
    announce("reading the data")
    data = open_data(config.data)
    check_fits(module, data)
    if module.covariates.columns:
        data.use_covariates(module.covariates)
    extractors = [] if module.game.segments else extractors_of(config)
    unknown = training_unknown_because(module.origin.fingerprint, data)
    reference, floor, note = held_out(data)
    why_no_truth = _why_no_truth(module, data)
    if why_no_truth:
        refuse_pairs_alone(config, why_no_truth)
    sets = _Generated(module, data, config, announce).sets(reference, floor, known_truth=not why_no_truth)
    if module.game.segments:
        config.groups = ["paired"]
    notes = [note, split_note(data)]
    if _between_domains(module) and why_no_truth and "paired" in config.groups:
        notes.append(f"paired: not measured, because {why_no_truth}.")
    if unknown:
        notes.append(f"Reference and floor may contain images the generator was trained on; then all numbers look too good: {unknown}.")
    shared = path.suffix == ".safetensors"
    return Target(
        facts=_facts(module, path, sets.fake),
        data=data,
        sets=sets,
        extractors=extractors,
        folder=(run if (run / "config.yaml").is_file() else Path()) / "report",
        membership_unknown_because=membership_unknown_because(module.origin.fingerprint, data),
        run=for_sidecars(module.config),
        notes=[each for each in notes if each],
        wandb=_run_id(module.origin.wandb),
        discriminator=None if shared or module.game.sourced else discriminator_scores(module, config.batch_size),
    )


def _between_domains(module: "AdversarialModule") -> bool:
    """Return whether the generator translates between domains; its images are then judged as images of the last domain."""
    return module.game.sourced and not module.game.paired


def _why_no_truth(module: "AdversarialModule", data: "ImageDataModule") -> str:
    """Return why it is not known what each generated image should be; "" if it is known."""
    if module.game.paired:
        return ""
    return truth_unknown_because(data) if module.game.sourced else "images made from noise have no truth"


@dataclass(frozen=True)
class _Generated:
    """The generated images of a module and the reals they are compared with."""

    module: "AdversarialModule"
    data: "ImageDataModule"
    config: "DictConfig"
    announce: Callable[[str], None]

    def sets(self, reference: np.ndarray, floor: np.ndarray, known_truth: bool) -> Sets:
        """Return all sets of a judgement; `reference` and `floor` are rows of the data's table of images."""
        module, data = self.module, self.data
        domains = _between_domains(module)
        all_rows = (data.rows["train"], reference, floor)
        train, real, others = (real_set(data, _rows_of_last(data, rows) if domains else rows) for rows in all_rows)
        truth = None
        if module.game.paired:
            fake, truth = self.translated(reference), true_targets(module, data, reference, real)
        elif domains:
            rows = _rows_of_others(data, reference)
            fake, truth = self.translated(rows), truth_in_last_domain(data, rows) if known_truth else None
        else:
            n = self.config.n
            self.announce(f"generating {n:,} images")
            fake = draw_like(module, train, n, seed=self.config.seed, batch_size=self.config.batch_size)
        structures = data.companions["mask"].structures if module.game.segments else ()
        return Sets(fake, real, others, train, list(data.classes), truth, structures)

    def translated(self, rows: np.ndarray) -> ImageSet:
        self.announce(f"generating {len(rows):,} images")
        return translate(self.module, self.data, rows, seed=self.config.seed, batch_size=self.config.batch_size)


def _rows_of_last(data: "ImageDataModule", rows: np.ndarray) -> np.ndarray:
    """Return the rows whose image is of the last domain."""
    return rows[data.labels[data.image_records[rows]] == len(data.classes) - 1]


def _rows_of_others(data: "ImageDataModule", rows: np.ndarray) -> np.ndarray:
    """Return the rows whose image is of any domain but the last."""
    return rows[data.labels[data.image_records[rows]] != len(data.classes) - 1]


def _facts(module: "AdversarialModule", path: Path, fake: ImageSet) -> dict[str, Any]:
    """Return `subject` of metrics.json. The name is the run's folder and the file: a whole path would reveal the machine."""
    name = "/".join(path.resolve().parts[-3:])
    model = module.config["model"]["generator"]["_target_"].split(".")[-1]
    facts = {"kind": "checkpoint", "name": name, "path": path.name, "sha256": module.origin.sha256, "images_seen": module.images}
    return facts | {"model": model, "conditional": fake.labels is not None}


def _run_id(recorded: Any) -> str | None:
    """Return the id of the run at wandb that the checkpoint records, if it can be one."""
    return recorded if isinstance(recorded, str) and re.fullmatch(r"[\w-]{1,64}", recorded) else None
