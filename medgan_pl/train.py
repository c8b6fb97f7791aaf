"""Trains a GAN: `python -m medgan_pl.train model=resnet_gan data=chest_xray`; `--help` is the manual.

The heavy imports come inside the functions, so that the manual and a mistyped option answer at once.
"""

import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.build import build_loggers, build_module, build_trainer, count, quiet_libraries
from medgan_pl.checks import check_data, check_same_place, check_same_run, check_settings
from medgan_pl.console import configuration_folder, describe_groups, describe_keys, log, one_message, suggest
from medgan_pl.trust import check_secrets, read_checkpoint

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.guards import Diverged


MANUAL = """\
medgan_pl.train: train a generative adversarial network on medical images

  python -m medgan_pl.train [group=option …] [key=value …]

Examples
  python -m medgan_pl.train model=resnet_gan data=chest_xray
      the default: chest films of the embedded phantom cohort, nothing to download
  python -m medgan_pl.train data.root=/data/chest_xray data.size=128 total_images=500000 trainer.precision=bf16-mixed
      your own films: PNG, JPEG, TIFF or DICOM in folders, or a CSV (image,label,patient,split)
  python -m medgan_pl.inspect data=ct data.root=/data/chest_ct
      look at the data first: what there is, what is wrong with which file, a contact sheet
  python -m medgan_pl.train data=ct data.root=/data/chest_ct data.spacing_mm=1.5 data.size=256
      axial slices of DICOM series, NIfTI, NRRD or MetaImage; volumes with image.spatial_dims=3 data.size=[64,96,96]
  python -m medgan_pl.train experiment=super_resolution_x4 data.root=/data/chest_xray
      from image to image: sources made of your images, or lying beside them (docs/translation.md); python -m medgan_pl.apply uses it
  python -m medgan_pl.train -m model=dcgan,resnet_gan objective=hinge,relative penalty=r1 seed=1,2
      a sweep: every combination, one after the other, in multirun/<date>/<time>/<n>/; several at once: hydra/launcher=processes
  python -m medgan_pl.train -m hydra/sweeper=tpe hydra.sweep.dir=multirun/rates 'optimizer_d.lr=tag(log,interval(0.01,0.3))'
      a search by Optuna's TPE, which the same command goes on with
  python -m medgan_pl.train init_from=outputs/<date>/<time>/checkpoints/best.ckpt data.root=/data/other_hospital
      fine-tuning: a new run that begins with another's weights; layers that do not fit begin anew and are named

Groups and their options (of a player: optimizer@optimizer_d=adam, schedule@schedule_d=…; of the data:
intensity@data.intensity=z_score, degrade@data.degrade=inpainting, beside@data.beside.source=mri, beside@data.beside.mask=masks)
{groups}

Keys and their defaults (those of a group: data.size=128, model.width=32, penalty.weight=0.1; all of data: medgan_pl.inspect --help)
{keys}

Going on and looking
  python -m medgan_pl.train resume=outputs/<date>/<time>     goes on in that folder with its settings, as if it had not stopped
  … resume=outputs/<date>/<time> total_images=200000 resume.force=true    goes on with others, knowingly
  python -m medgan_pl.train --cfg job [overrides]             prints the whole configuration and stops; --hydra-help tells more
  MEDGAN_TRACEBACK=1                                          shows the traceback behind an error

The run folder outputs/<date>/<time>/ holds config.yaml, metrics.csv, speed.csv, curves.png, samples/, checkpoints/, train.log
and wandb/.
"""


def manual() -> str:
    folder = configuration_folder()
    return MANUAL.format(groups=describe_groups(folder), keys=describe_keys(folder / "config.yaml"))


def continued(arguments: list[str]) -> list[str]:
    """The command line with `resume=…` spelt out as `resume.path=…`; with a run folder or a checkpoint, that run's own command line with
    the new arguments behind, writing to the same folder. With a hydra.run.dir the arguments stand as they are."""
    given = [argument.split("=", 1)[1].strip("'\"") for argument in arguments if argument.startswith(("resume=", "resume.path="))]
    new = [argument for argument in arguments if not argument.startswith(("resume=", "resume.path="))]
    if not given:
        return arguments
    if given[-1] in ("auto", "never"):
        return [*new, f"resume.path={given[-1]}"]
    path = Path(given[-1]).resolve()
    if not path.is_file() and not (path / "checkpoints").is_dir():
        raise FileNotFoundError(f"`resume` must be auto, never, a checkpoint, or a run folder that holds checkpoints/; {path} is none")
    if any(argument.startswith("hydra.run.dir=") for argument in arguments):
        return [*new, f"resume.path='{path}'"]
    run = path.parent.parent if path.is_file() else path
    from omegaconf import OmegaConf

    record = run / "overrides.yaml"  # not Hydra's, which it writes before anything is checked
    if not record.is_file():
        raise FileNotFoundError(f"`resume` needs {record}, where the run's own settings stand; it does not exist")
    own = [str(override) for override in OmegaConf.load(record) if not str(override).startswith("resume.")]
    return [*own, *new, f"hydra.run.dir='{run}'", f"resume.path='{path}'"]


def check_launch(arguments: list[str]) -> list[str]:
    """For one of several processes started by torchrun or srun: what to add to its command line, so that only the first speaks and writes.

    ValueError without a folder that all of them know.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    elif "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        rank, world = int(os.environ.get("SLURM_PROCID", 0)), int(os.environ["SLURM_NTASKS"])
    else:
        return []
    if world > 1 and not any(argument.startswith(("hydra.run.dir=", "hydra.sweep.dir=")) for argument in arguments):
        raise ValueError(
            "`hydra.run.dir` must be given under torchrun and srun, where each process would name a folder by its own clock; add "
            "hydra.run.dir=outputs/<name> (under SLURM outputs/$SLURM_JOB_ID, which a requeued job keeps)"
        )
    return ["hydra.output_subdir=null", "hydra.job_logging.root.level=WARNING"] if rank > 0 else []


def main() -> None:
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(manual())
        return
    with one_message(None):
        if OTHER_RANK in os.environ:
            follow(Path(os.environ[OTHER_RANK]))
            return
        check_secrets(sys.argv[1:])  # before Hydra writes it down
        sys.argv[1:] = continued(sys.argv[1:])
        sys.argv += check_launch(sys.argv[1:])
        launch(run, "config")


def launch(task: Callable[["DictConfig"], Any], name: str) -> None:
    """Composes the configuration `name` from the command line and hands it to `task`; a mistyped key is answered with the nearest ones."""
    import hydra

    folder = configuration_folder()
    try:
        hydra.main(version_base="1.3", config_path=str(folder), config_name=name)(task)()
    except SystemExit:
        own = [argument for argument in sys.argv[1:] if not argument.startswith(("hydra.", "hydra/"))]
        for hint in suggest(own, folder):
            print(f"hint: {hint}", file=sys.stderr)
        raise


def run(config: "DictConfig") -> float:
    """One run under Hydra; what a sweeper minimises comes back, see `train`; NaN from a child of a sweep that failed."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    run_dir = Path(hydra.runtime.output_dir)
    if hydra.mode == RunMode.MULTIRUN:
        from medgan_pl.sweeps.children import child

        sweep = Path(hydra.runtime.cwd, hydra.sweep.dir)
        return child(lambda: train(config), run=run_dir, sweep=sweep, overrides=list(hydra.overrides.task))
    with one_message(run_dir / "train.log"):
        return train(config)


# Where the processes that Lightning starts for the other ranks find what to do. Going through Hydra again they would make folders of their
# own, and in a sweep a second sweep.
OTHER_RANK = "MEDGAN_RUN_FOLDER"


def follow(run_dir: Path) -> None:
    """Another rank of the run in `run_dir`, by the configuration that rank 0 has written there."""
    from omegaconf import OmegaConf

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        train(OmegaConf.load(run_dir / "config.yaml"))
    except SystemExit:
        pass  # a signal: rank 0 says it; an exit code here would have rank 0 killed before it has
    except BaseException:
        time.sleep(10)  # the same: Lightning kills rank 0 as soon as another rank fails
        raise


def train(config: "DictConfig") -> float:
    """Builds data, module, callbacks, loggers and trainer from the configuration, and trains; the best value of `monitor` comes back, its
    negative where higher is better, since a sweeper looks for the lowest.

    A run that diverges goes back to its last checkpoint with a lower learning rate, `guard.rollbacks` times. A signal ends it with
    SystemExit(128 + signal), saved.
    """
    quiet_libraries()
    import torch
    from omegaconf import OmegaConf

    torch.set_flush_denormal(True)  # denormal numbers of a dying player slow the CPU many times over
    # Torch's own defaults differ for the two. By the older names: once the newer are used, reading the older is an error, and libraries do.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = bool(config.tf32)
    logging.raiseExceptions = False  # a full disk takes train.log, not the run
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    check_settings(plain)
    check_secrets(plain)
    run_dir = Path(plain["run_dir"])
    # Everything that can be wrong is built before the films are prepared, which may take minutes, and before anything is written.
    found = checkpoint_to_resume(plain["resume"]["path"], run_dir)
    if found:
        check_same_run(*found, plain, plain["resume"]["force"])
        if found[1]["images"] >= plain["total_images"] or found[1]["worse"] >= (plain["stop_after"] or math.inf):
            ended = f"the run in {run_dir} has ended, after {found[1]['images']:,} images"
            say(f"{ended}; for a longer one: resume.force=true with total_images=… or stop_after=…")
            return minimised(plain["monitor"], float(found[1]["best"]))
    try:
        return Run(config, plain, found).through()
    finally:
        close_down()


def minimised(monitor: str, best: float) -> float:
    from medgan_pl.checkpoints import higher_is_better

    return -best if higher_is_better(monitor) else best


def say(line: str) -> None:
    from pytorch_lightning.utilities import rank_zero_only

    rank_zero_only(log.info)(line)


class Run:
    """A run from its beginning or a checkpoint to its end, and back to the last checkpoint where it diverges."""

    def __init__(self, config: "DictConfig", plain: dict[str, Any], found: tuple[Path, dict[str, Any]] | None) -> None:
        from hydra.utils import instantiate

        self.config, self.plain, self.found = config, plain, found
        self.folder, self.resume = Path(plain["run_dir"]), plain["resume"]
        self.data = instantiate(config.data, _convert_="all")
        check_data(plain, self.data)
        plain["phantom"] = self.data.phantom
        if found:
            if "init_from_sha256" in found[1]["config"]:
                plain["init_from_sha256"] = found[1]["config"]["init_from_sha256"]
            if plain["init_from"] is not None:
                say(f"init_from is not read: the run goes on from {found[0]}")
        self.module = self.new_module()
        self.module.configure_optimizers()  # an option that an optimiser does not have shows only when it is built
        self.callbacks = {name: instantiate(node, _convert_="all") for name, node in config.callbacks.items() if node}
        own = found and found[0].resolve().is_relative_to(self.folder.resolve())  # one that starts from another's is a run of its own
        self.loggers = build_loggers(plain["logger"], found[1]["wandb"] if own else None)
        self.trainer = self.new_trainer()
        self.setbacks: list[str] = []

    def new_module(self) -> Any:
        """The module with its first weights: those of `init_from` where the run begins, also where it goes back to its beginning."""
        module = build_module(self.plain)
        if self.plain["init_from"] is not None and self.found is None:
            from medgan_pl.transfer import begin_from

            for line in begin_from(self.plain, module, self.data.classes):
                say(line)
        return module

    def new_trainer(self) -> Any:
        return build_trainer(self.config, list(self.callbacks.values()), self.loggers)

    def through(self) -> float:
        """Trains to the end; the best value of `monitor`, as `train` gives it."""
        from medgan_pl.guards import Diverged

        self.prepare()
        while True:
            try:
                self.fit()
                break
            except Diverged as error:
                self.go_back(error)
        self.check_saved("the run is through")
        say(f"{self.module.images:,} images shown; the run is in {self.folder}")
        return minimised(self.plain["monitor"], float(self.callbacks["checkpoints"].best))

    def check_saved(self, what: str) -> None:
        """OSError if the last checkpoint, or a row of the tables, could not be written."""
        from medgan_pl.callbacks import MetricsTable

        checkpoints = self.callbacks["checkpoints"]
        if checkpoints.unsaved:
            raise OSError(
                f"{what}, and its last checkpoint could not be saved: {checkpoints.unsaved}; "
                f"{checkpoints.folder} has the one before it: make room and go on from there"
            )
        stale = [str(table.path) for each in self.loggers if isinstance(each, MetricsTable) for table in each.tables if table.stale]
        if stale:
            raise OSError(f"{what} and saved, and the last rows of {', '.join(stale)} could not be written; make room")

    def prepare(self) -> None:
        """Writes the configuration, reads the data, and speaks of both."""
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        trainer, data = self.trainer, self.data
        if not trainer.is_global_zero:
            return  # Lightning sets the data up when rank 0 has prepared it
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        data.prepare_data()
        data.setup("fit")
        if self.found:
            check_same_place(self.found[1], trainer.world_size, trainer.strategy.root_device.type, data.fingerprint, self.resume["force"])
        OmegaConf.save(self.plain, self.folder / "config.yaml")
        if HydraConfig.initialized():
            OmegaConf.save(list(HydraConfig.get().overrides.task), self.folder / "overrides.yaml")
        for line in data.describe():
            say(line)
        weights = f"generator {count(self.module.generator)}, discriminator {count(self.module.discriminator)} weights"
        say(f"{weights}; {self.plain['total_images']:,} images to show")
        for logger in self.loggers:
            logger.log_hyperparams(self.plain)
        if trainer.world_size > 1 and not trainer.strategy.cluster_environment.creates_processes_externally:
            os.environ[OTHER_RANK] = str(self.folder.resolve())

    def fit(self) -> None:
        from pytorch_lightning.utilities.exceptions import SIGTERMException

        from medgan_pl.callbacks import MetricsTable
        from medgan_pl.checkpoints import Stopped

        for logger in self.loggers:
            if isinstance(logger, MetricsTable):
                logger.forget_after(self.found[1]["images"] if self.found else -1)
        self.callbacks["checkpoints"].listen()
        try:
            if self.found is None:
                self.trainer.validate(self.module, datamodule=self.data, verbose=False)  # the untrained generator: the value to fall from
            else:
                say(f"going on from {self.found[0]}, after {self.found[1]['images']:,} images")
            self.trainer.fit(self.module, datamodule=self.data, ckpt_path=self.found and str(self.found[0]), weights_only=True)
        except Stopped as stop:
            self.check_saved(f"the run was {stop}")
            say(f"{stop} after {self.module.images:,} images; to go on: python -m medgan_pl.train resume={self.folder}")
            raise SystemExit(128 + stop.signum) from None
        except SIGTERMException:  # before the first step
            raise SystemExit(128 + signal.SIGTERM) from None
        finally:
            self.callbacks["checkpoints"].restore_signals()

    def go_back(self, error: "Diverged") -> None:
        """Makes ready to go on from the last checkpoint, or from the beginning where there is none, at a lower rate."""
        from medgan_pl.checkpoints import newest

        guard, before = self.plain["guard"], self.module
        own = newest(self.folder / "checkpoints")
        self.found = (own[0], own[1]["medgan_pl"]) if own else self.found  # else from where it began, which may be another's checkpoint
        start = f"{self.found[0].name}, {self.found[1]['images']:,} images" if self.found else "the beginning"
        told = f"{error}, after {before.images:,} images"
        self.setbacks.append(f"{told} (learning rates × {before.rate:g})")
        if before.rollbacks >= guard["rollbacks"]:
            told = "\n  ".join(self.setbacks)
            good = f"{start} is the last that is good: go on from it, with resume.force=true and" if self.found else "Begin anew with"
            raise FloatingPointError(
                f"the run diverges, and {before.rollbacks} rollbacks did not help:\n  {told}\n{good} a lower optimizer_d.lr or "
                "optimizer_g.lr, clip_d=1 clip_g=1, penalty=r1, or trainer.precision=32-true"
            ) from error
        self.module = self.new_module()
        self.module.rate, self.module.rollbacks = before.rate * guard["slow_down"], before.rollbacks + 1
        self.trainer = self.new_trainer()
        log.warning("%s; back to %s, learning rates × %g", told, start, self.module.rate)


def close_down() -> None:
    """Lets go of what would reach into the next run of a sweep: wandb's run, and the group of processes with what Lightning set for it."""
    import torch.distributed

    if "wandb" in sys.modules:
        try:
            sys.modules["wandb"].finish(exit_code=int(sys.exc_info()[0] is not None))
        except Exception as error:  # lost on the way: the run itself is whole
            log.warning("wandb cannot end its run: %s", error)
    if os.environ.pop(OTHER_RANK, None):
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"):
            os.environ.pop(name, None)


def checkpoint_to_resume(resume: str, run_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint that `resume.path` means, with its state: auto = the newest whole one of this run folder, if it has one; never = none;
    a run folder = its newest; a checkpoint = itself. FileExistsError where that begins another run over the one in this folder."""
    from medgan_pl.checkpoints import newest

    path = run_dir if resume in ("auto", "never") else Path(resume)
    found = (path, read_checkpoint(path)) if path.is_file() else None
    if resume != "never":
        found = found or newest(path / "checkpoints")
    if found is None and resume not in ("auto", "never"):
        raise FileNotFoundError(
            f"`resume` must be a run folder with a whole checkpoint, or a checkpoint; there is none in {path}/checkpoints"
        )
    own = (run_dir / "checkpoints").resolve()
    if any(own.glob("*.ckpt")) and not (found and found[0].resolve().parent == own):
        raise FileExistsError(
            f"{run_dir} holds the checkpoints of a run, and resume={resume} would begin another over them"
            f"{', since none of them is whole' if resume == 'auto' else ''}; move that folder away, or choose another hydra.run.dir"
        )
    return found and (found[0], found[1]["medgan_pl"])


if __name__ == "__main__":
    main()
