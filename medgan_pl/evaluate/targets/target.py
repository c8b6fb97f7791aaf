"""An evaluation target: the images that are judged, and the reals they are compared with."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.data.files.split import straddling
from medgan_pl.metrics.extractors.build import build_extractors

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.data.datamodule import ImageDataModule
    from medgan_pl.evaluate.fidelity import Sets
    from medgan_pl.evaluate.privacy import Scores
    from medgan_pl.metrics.extractors.features import Extractor


@dataclass(frozen=True)
class Target:
    """The images that are judged, with all that a judgement needs to know about them.

    - `facts`, `run`, `notes`: `subject`, `run` and `notes` of metrics.json. `data`: the data module of the reals.
    - `extractors`: built before anything is generated, so that a missing file of weights is reported at once.
    - `folder`: the default folder of the report. `wandb`: the id of the run there.
    - `membership_unknown_because`: why it is not known which images were used in training, "" if it is known.
    - `discriminator`: the scores of a set of images by D, None without a D.
    """

    facts: dict[str, Any]
    data: "ImageDataModule"
    sets: "Sets"
    extractors: "list[Extractor]"
    folder: Path
    membership_unknown_because: str = ""
    run: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    wandb: str | None = None
    discriminator: "Scores | None" = None


def extractors_of(config: "DictConfig") -> "list[Extractor]":
    """Return the extractors that are needed: none if only pairs are judged. Raises as `build_extractors`."""
    return [] if list(config.groups) == ["paired"] else build_extractors(config.extractor)


def split_note(data: "ImageDataModule") -> str:
    """Return a note if patients are in more than one of the splits that came with the data, else ""."""
    count = straddling([record.patient for record in data.records], [record.split for record in data.records])
    return (
        f"{count} patients are in more than one split, so all numbers look too good; data.split=patient makes a new split." if count else ""
    )


def refuse_pairs_alone(config: "DictConfig", why: str) -> None:
    """Raise ValueError if only pairs are to be judged; `why` is the reason why there are none."""
    if list(config.groups) == ["paired"]:
        raise ValueError(f"`groups` must contain more than paired, which would measure nothing: {why}")
