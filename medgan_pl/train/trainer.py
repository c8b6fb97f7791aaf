"""The Lightning trainer and loggers of a run."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.core.command import OTHER_RANK
from medgan_pl.core.console import log

if TYPE_CHECKING:
    from omegaconf import DictConfig


def build_trainer(config: "DictConfig", callbacks: list[Any], loggers: list[Any]) -> Any:
    """Return Lightning's Trainer. It drives devices, precision and loops; counting, saving, logging, scaling and shuffling are ours."""
    import torch
    from hydra.utils import instantiate
    from pytorch_lightning.plugins import MixedPrecision
    from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment

    from medgan_pl.train.checkpoints import WholeFiles

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
    """Return the loggers of the configuration. wandb resumes the run `wandb_run`, and prints nothing to the screen."""
    from hydra.utils import instantiate

    if "wandb" in nodes:
        import wandb

        wandb.setup(wandb.Settings(silent=True))
        if wandb_run:
            nodes = {**nodes, "wandb": {**nodes["wandb"], "id": wandb_run, "resume": "allow"}}
    return [instantiate(node, _convert_="all") for node in nodes.values() if isinstance(node, dict)]


def cut_short(trainer: Any, module: Any, folder: Path) -> str:
    """Return that `trainer.max_time` ended the run before all images were shown, and how it goes on; "" if it did not."""
    from pytorch_lightning.callbacks import Timer

    left = [timer.time_remaining() for timer in trainer.callbacks if isinstance(timer, Timer)]
    if module.images >= module.total_images or not any(seconds is not None and seconds <= 0 for seconds in left):
        return ""
    return f"; trainer.max_time ended it before {module.total_images:,} images, and resume={folder} goes on for as long again"


def close_down() -> None:
    """End what would affect the next run of a sweep: wandb's run, the process group, and the variables that Lightning set for it."""
    import torch.distributed

    if "wandb" in sys.modules:
        try:
            sys.modules["wandb"].finish(exit_code=int(sys.exc_info()[0] is not None))
        except Exception as error:  # only the upload is lost: the run itself is complete
            log.warning("wandb cannot end its run: %s", error)
    if os.environ.pop(OTHER_RANK, None):
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"):
            os.environ.pop(name, None)
