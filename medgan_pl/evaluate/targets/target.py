"""Who is judged, on which data, and what all kinds of them share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.data.files.split import straddling

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.data.datamodule import ImageDataModule
    from medgan_pl.evaluate.fidelity import Sets
    from medgan_pl.evaluate.privacy import Critic
    from medgan_pl.metrics.extractors.features import Extractor


@dataclass(frozen=True)
class Subject:
    """Who is judged on what.

    - `extractors`: built before anything is drawn, so that a missing file of weights is told at once.
    - `told`, `run`, `notes`: as `subject`, `run` and `notes` in metrics.json; `data`: of the reals.
    - `folder`: where the report goes by itself; `wandb`: the run's id there.
    - `strangers`: why training images cannot be told from others, "" where they can. `critic`: the discriminator, where there is one.
    """

    told: dict[str, Any]
    data: "ImageDataModule"
    sets: "Sets"
    extractors: "list[Extractor]"
    folder: Path
    strangers: str = ""
    run: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    wandb: str | None = None
    critic: "Critic | None" = None


def opened(node: "DictConfig", **changes: Any) -> "ImageDataModule":
    from hydra.utils import instantiate

    data = instantiate(node, _convert_="all", **changes)
    data.setup()
    return data


def straddled(data: "ImageDataModule") -> str:
    """A sentence where patients stand in more than one of the splits that came with the data."""
    count = straddling([record.patient for record in data.records], [record.split for record in data.records])
    return f"{count} patients stand in more than one split, so that all looks too good; data.split=patient splits anew." if count else ""


def extractors_of(config: "DictConfig") -> "list[Extractor]":
    from hydra.utils import instantiate

    return list(instantiate(config.extractor, _convert_="all").values())


def hold_pairs(config: "DictConfig", why: str) -> None:
    """ValueError where nothing but pairs is to be judged; `why` there are none."""
    if list(config.groups) == ["paired"]:
        raise ValueError(f"`groups` must hold more than paired, which would measure nothing: {why}")


def whole(config: "DictConfig", name: str, least: int) -> int:
    if isinstance(config[name], bool) or not isinstance(config[name], int) or config[name] < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}, got {config[name]}")
    return config[name]
