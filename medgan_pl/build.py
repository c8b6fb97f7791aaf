"""Builds the parts of a run from its configuration."""

import logging
import os
from typing import TYPE_CHECKING, Any

from medgan_pl.trust import check_targets

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.module import AdversarialModule


def quiet_libraries() -> None:
    """Keeps off the screen what is no news to the user: Lightning's tips, its advice on workers, which here make the loader slower, its
    worry over modules in evaluation mode, which the averaged generator and the feature extractors are meant to be in, and over metrics not
    reduced over ranks, which ours are in themselves; and torch's over the strides of one-channel weights: two names for one layout."""
    import warnings

    import pytorch_lightning  # noqa: F401  (sets the levels of its loggers when it is imported)

    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    news = ("does not have many workers", "in eval mode at the start of training", "isinstance.treespec, LeafSpec", "sync_dist=True")
    for message in (*news, "Grad strides do not match bucket view strides"):
        warnings.filterwarnings("ignore", message=f"(?s).*{message}.*")


def build_trainer(config: "DictConfig", callbacks: list[Any], loggers: list[Any]) -> Any:
    """Lightning's Trainer, left to drive devices, precision and loops: what counts, saves, shows, scales and shuffles is ours."""
    import torch
    from hydra.utils import instantiate
    from pytorch_lightning.plugins import MixedPrecision
    from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment

    from medgan_pl.checkpoints import WholeFiles

    node = config.trainer
    plugins: list[Any] = [WholeFiles()]
    if SLURMEnvironment.detect():
        # In a job of one task Lightning starts the other processes. In one of several it would save and requeue at SIGUSR1 its own way.
        plugins.append(LightningEnvironment() if os.environ["SLURM_NTASKS"] == "1" else SLURMEnvironment(auto_requeue=False))
    if node.precision == "16-mixed":  # on the CPU too; each player has its own scale (guards.py), so Lightning's for both is off
        device = "cuda" if node.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
        plugins.append(MixedPrecision("16-mixed", device, torch.amp.GradScaler(device, enabled=False)))
        node = {**node, "precision": None}
    return instantiate(
        node,
        plugins=plugins,
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


def build_loggers(nodes: dict[str, Any], wandb_run: str | None) -> list[Any]:
    """The loggers of the configuration; wandb goes on in `wandb_run`, and is kept from writing over the screen, as the run folder says
    where things are."""
    from hydra.utils import instantiate

    if "wandb" in nodes:
        import wandb

        wandb.setup(wandb.Settings(silent=True))
        if wandb_run:
            nodes = {**nodes, "wandb": {**nodes["wandb"], "id": wandb_run, "resume": "allow"}}
    return [instantiate(node, _convert_="all") for node in nodes.values() if isinstance(node, dict)]


# What the command line of a run may have called, and a checkpoint may not: its user names the program that it loads.
PROGRAMS = ("medgan_pl.metrics.torchscript.load_torchscript",)


def build_module(config: dict[str, Any]) -> "AdversarialModule":
    """The module of a resolved configuration in plain containers, its first weights keyed by the seed."""
    from hydra.utils import instantiate

    from medgan_pl.keys import Purpose, key_randomness

    check_targets(config["module"], functions=PROGRAMS)
    key_randomness(config["seed"], 0, 0, Purpose.INIT)
    module = instantiate(config["module"], _convert_="all")
    module.config = config
    return module


def count(network: Any) -> str:
    """The number of weights, in words a person reads: 1.4 M."""
    weights = sum(weight.numel() for weight in network.parameters())
    return f"{weights / 1e6:.1f} M" if weights >= 1e5 else f"{weights:,}"
