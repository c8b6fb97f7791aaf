"""The folder of a run or a sweep: one that no other run has, for this process alone. It is taken before Hydra writes there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from medgan_pl.core.console import one_message
from medgan_pl.core.lock import claim, release
from medgan_pl.train.resume import launched

ADVICE = "wait until it ends, stop it, or choose another hydra.{kind}.dir"


class OwnFolder(Callback):
    """Hydra's callback around a run or a sweep. A default folder that exists gets a number; a given one must have no other writer.

    Hydra turns an error in a callback into a warning and goes on, so each error ends the process here. Of several processes that torchrun
    or srun started, the first takes the folder for all of them.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.take(config, "run")

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        release(folder_of(config, "run"))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.take(config, "sweep")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        release(folder_of(config, "sweep"))

    def take(self, config: DictConfig, kind: str) -> None:
        if launched()[0] > 0:
            return
        with one_message(None), usable(kind, folder_of(config, kind)):
            if not any(str(each).startswith(f"hydra.{kind}.dir=") for each in config.hydra.overrides.hydra):
                put(config, kind, fresh(folder_of(config, kind)))
            claim(folder_of(config, kind), ADVICE.format(kind=kind))


@contextmanager
def usable(kind: str, folder: Path) -> Iterator[None]:
    """Turn an error of the disk into ValueError, with the key, for a folder that cannot be made or written."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # another writer
            raise
        raise ValueError(f"`hydra.{kind}.dir` must be a folder that can be made and written, got {folder}: {error.strerror}") from error


def folder_of(config: DictConfig, kind: str) -> Path:
    """Return the folder of a run or a sweep (`kind`); relative to the folder in which the command was typed."""
    return Path(str(OmegaConf.select(config, f"hydra.{kind}.dir")))


def fresh(folder: Path) -> Path:
    """Make a folder that did not exist: `folder`, or it with the first free number from 2. Two runs of one second get two."""
    for number in range(1, 1_000_000):
        chosen = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            chosen.parent.mkdir(parents=True, exist_ok=True)
            chosen.mkdir()
        except FileExistsError:
            continue
        return chosen
    raise FileExistsError(f"{folder} and a million others exist; name a folder with hydra.run.dir=…")


def put(config: DictConfig, kind: str, folder: Path) -> None:
    """Write the folder into the configuration, and into that of a sweep's children."""
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra[kind].dir = str(folder)
        if kind == "sweep":
            quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")
