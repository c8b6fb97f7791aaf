"""Trains a GAN: `python -m medgan_pl.train model=resnet_gan data=chest_xray`; `--help` is the manual.

The heavy imports come inside the functions, so that the manual and a mistyped option answer at once.
"""

import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.checks import check_checkpoint, check_data, check_settings
from medgan_pl.console import configuration_folder, describe_groups, describe_keys, log, one_message, suggest
from medgan_pl.trust import check_targets

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.module import AdversarialModule

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
  python -m medgan_pl.train -m model=dcgan,resnet_gan objective=hinge,relativistic penalty=r1 seed=1,2
      a sweep: every combination, one after the other, in multirun/<date>/<time>/<n>/

Groups and their options (of a player: optimizer@optimizer_d=adam, schedule@schedule_d=…; of the data: intensity@data.intensity=z_score)
{groups}

Keys and their defaults (those of a group: data.size=128, model.width=32, penalty.weight=0.1; all of data: medgan_pl.inspect --help)
{keys}

Going on and looking
  python -m medgan_pl.train resume=outputs/<date>/<time>     goes on in that folder with its settings, and others given here: total_images=…
  python -m medgan_pl.train --cfg job [overrides]             prints the whole configuration and stops; --hydra-help tells more
  MEDGAN_TRACEBACK=1                                          shows the traceback behind an error

The run folder outputs/<date>/<time>/ holds config.yaml, metrics.csv, curves.png, samples/, checkpoints/, train.log and wandb/.
"""


def manual() -> str:
    folder = configuration_folder()
    return MANUAL.format(groups=describe_groups(folder), keys=describe_keys(folder / "config.yaml"))


def continued(arguments: list[str]) -> list[str]:
    """With resume=<run folder or checkpoint>, the command line of that run with the new arguments behind, writing to the same folder.

    With a hydra.run.dir the arguments stand as they are; so do those with which Lightning starts the other ranks.
    """
    given = [argument.split("=", 1)[1].strip("'\"") for argument in arguments if argument.startswith("resume=")]
    if not given or given[-1] in ("auto", "never") or any(argument.startswith("hydra.run.dir=") for argument in arguments):
        return arguments
    path = Path(given[-1]).resolve()
    run = path.parent.parent if path.suffix == ".ckpt" else path
    checkpoint = path if path.suffix == ".ckpt" else run / "checkpoints" / "last.ckpt"
    if not checkpoint.is_file():
        raise FileNotFoundError(f"`resume` must be a run folder with checkpoints/last.ckpt, or a checkpoint; {checkpoint} does not exist")
    from omegaconf import OmegaConf

    record = run / ".hydra" / "overrides.yaml"
    if not record.is_file():
        raise FileNotFoundError(f"`resume` needs {record}, where the run's own settings stand; it does not exist")
    own = [str(override) for override in OmegaConf.load(record) if not str(override).startswith("resume=")]
    new = [argument for argument in arguments if not argument.startswith("resume=")]
    return [*own, *new, f"resume='{checkpoint}'", f"hydra.run.dir='{run}'"]


def main() -> None:
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(manual())
        return
    with one_message(None):
        sys.argv[1:] = continued(sys.argv[1:])
        launch(run, "config")


def launch(task: Callable[["DictConfig"], Any], name: str) -> None:
    """Composes the configuration `name` from the command line and hands it to `task`; a mistyped key is answered with the nearest ones."""
    import hydra

    folder = configuration_folder()
    try:
        hydra.main(version_base="1.3", config_path=str(folder), config_name=name)(task)()
    except SystemExit:
        for hint in suggest([argument for argument in sys.argv[1:] if not argument.startswith("hydra.")], folder):
            print(f"hint: {hint}", file=sys.stderr)
        raise


def run(config: "DictConfig") -> float:
    """One run under Hydra; what a sweeper minimises comes back: the best value of `monitor`."""
    from hydra.core.hydra_config import HydraConfig

    with one_message(Path(HydraConfig.get().runtime.output_dir) / "train.log"):
        return train(config)


def train(config: "DictConfig") -> float:
    """Builds data, module, callbacks, loggers and trainer from the configuration, and trains; the best value of `monitor` comes back."""
    quiet_libraries()
    import torch
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from pytorch_lightning.utilities import rank_zero_only

    from medgan_pl.callbacks import MetricsTable

    torch.set_flush_denormal(True)  # denormal numbers of a dying player slow the CPU many times over
    say = rank_zero_only(log.info)
    run_dir = Path(config.run_dir)
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    check_settings(plain)
    # Everything that can be wrong is built before the films are prepared, which may take minutes, and before anything is written.
    checkpoint = checkpoint_to_resume(str(config.resume), run_dir)
    shown = check_checkpoint(checkpoint, plain) if checkpoint else 0
    data = instantiate(config.data, _convert_="all")
    check_data(plain, data)
    plain["phantom"] = data.phantom
    module = build_module(plain)
    module.configure_optimizers()  # an option that an optimiser does not have shows only when it is built
    callbacks = {name: instantiate(node, _convert_="all") for name, node in config.callbacks.items()}
    loggers = build_loggers(plain["logger"])
    trainer = build_trainer(config, list(callbacks.values()), loggers)

    if trainer.is_global_zero:
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        OmegaConf.save(plain, run_dir / "config.yaml")
        data.prepare_data()
    data.setup("fit")
    for line in data.describe():
        say(line)
    say(f"generator {count(module.generator)}, discriminator {count(module.discriminator)} weights; {config.total_images:,} images to show")
    for logger in loggers:
        logger.log_hyperparams(plain)
        if isinstance(logger, MetricsTable):
            logger.forget_after(shown)
    try:
        if checkpoint is None:
            trainer.validate(module, datamodule=data, verbose=False)  # the untrained generator: the value to fall from
        else:
            say(f"going on from {checkpoint}")
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    finally:
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish()  # else the next run of a sweep would write into this one
    say(f"{module.images:,} images shown; the run is in {run_dir}")
    if callbacks["checkpoints"].interrupted:
        say(f"to go on: python -m medgan_pl.train resume={run_dir}")
        raise SystemExit(130)
    return callbacks["checkpoints"].best


def quiet_libraries() -> None:
    """Keeps off the screen what is no news to the user: Lightning's tips, its advice on workers, which here make the loader slower, and
    its worry over modules in evaluation mode, which the averaged generator and the feature extractors are meant to be in."""
    import warnings

    import pytorch_lightning  # noqa: F401  (sets the levels of its loggers when it is imported)

    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (".*does not have many workers.*", ".*in eval mode at the start of training.*", ".*isinstance.treespec, LeafSpec.*"):
        warnings.filterwarnings("ignore", message=message)


def checkpoint_to_resume(resume: str, run_dir: Path) -> str | None:
    """The checkpoint that `resume` means: a path as it stands, auto = this run folder's last.ckpt if it has one, never = none."""
    if resume == "never":
        return None
    if resume == "auto":
        last = run_dir / "checkpoints" / "last.ckpt"
        return str(last) if last.is_file() else None
    return resume


def build_trainer(config: "DictConfig", callbacks: list[Any], loggers: list[Any]) -> Any:
    """Lightning's Trainer, left to drive devices, precision and loops: what counts, saves, shows and shuffles is ours."""
    from hydra.utils import instantiate

    trainer = instantiate(
        config.trainer,
        callbacks=callbacks,
        logger=loggers,
        max_epochs=-1,  # the module ends the run, by images
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=config.run_dir,
    )
    trainer.val_check_interval = math.ceil(config.validate_every / (config.data.batch_size * trainer.world_size))
    return trainer


def build_loggers(nodes: dict[str, Any]) -> list[Any]:
    """The loggers of the configuration; wandb is kept from writing over the screen, as the run folder says where things are."""
    from hydra.utils import instantiate

    if "wandb" in nodes:
        import wandb

        wandb.setup(wandb.Settings(silent=True))
    return [instantiate(node, _convert_="all") for node in nodes.values() if isinstance(node, dict)]


def build_module(config: dict[str, Any]) -> "AdversarialModule":
    """The module of a resolved configuration in plain containers, its first weights keyed by the seed."""
    from hydra.utils import instantiate

    from medgan_pl.keys import Purpose, key_randomness

    check_targets(config["module"])
    key_randomness(config["seed"], 0, 0, Purpose.INIT)
    module = instantiate(config["module"], _convert_="all")
    module.config = config
    return module


def count(network: Any) -> str:
    """The number of weights, in words a person reads: 1.4 M."""
    weights = sum(weight.numel() for weight in network.parameters())
    return f"{weights / 1e6:.1f} M" if weights >= 1e5 else f"{weights:,}"


if __name__ == "__main__":
    main()
