"""The state of an AdversarialModule in checkpoints: saving and restoring."""

import math
from collections.abc import Mapping
from typing import Any

from medgan_pl.data.files.covariates import Covariates
from medgan_pl.data.intensity import Inverse
from medgan_pl.models.resumable import check_callbacks, check_resumable
from medgan_pl.models.state import Progress, RunState


class Saving:
    """The part of AdversarialModule that saves its state and restores it."""

    images: int
    turns: dict[str, int]
    turns_since: int
    rollbacks: int
    rate: float

    def begin_saving(self) -> None:
        """Set the facts that a checkpoint fills in later."""
        self.classes: list[str] = []
        self.inverse: Inverse | None = None  # from [-1, 1] to native units and space
        self.inverses: dict[str, Inverse] = {}  # the same, of each of several domains
        self.pipelines: dict[str, Any] = {}  # the map of scans to images, as plain values: by domain, or of one data set under ""
        self.covariates = Covariates()  # of the checkpoint, or of the data it is trained on

    def take_facts(self, state: RunState) -> None:
        """Take the facts about the weights from the state of a run, without its configuration."""
        self.images, self.classes, self.covariates = state.images, state.classes, state.covariates
        self.inverse, self.inverses, self.pipelines = state.inverse, state.inverses, state.pipelines or {}

    def run_state(self, *, wandb: str | None = None, best: float = math.nan, worse: int = 0) -> RunState:
        """Return the state of the run in training. All ranks must call it; the arguments are those of Progress."""
        data, strategy = self.trainer.datamodule, self.trainer.strategy
        progress = Progress(
            turns=self.turns,
            turns_since=self.turns_since,
            rollbacks=self.rollbacks,
            rate=self.rate,
            stage=self.stage,
            guards={name: guard.state_dict() for name, guard in self.guards.items()},
            running=self.running.state_dict(strategy.all_gather),
            world=self.trainer.world_size,
            device=self.device.type,
            fingerprint=data.fingerprint,
            row={key: value for key, value in self.row.items() if key != "images_per_second"},
            wandb=wandb,
            best=best,
            worse=worse,
        )
        return RunState(
            config=self.config,
            classes=list(data.classes),
            images=self.images,
            inverse=data.inverse,
            inverses=dict(data.inverses),
            covariates=data.covariates,
            pipelines={name: each.plain() for name, each in data.pipelines.items()},
            progress=progress,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint.pop("loops")  # Lightning's place in its loops and its counts since this start; ours is `images`
        checkpoint.update(global_step=0, epoch=0)
        shared = {id(weight) for weight in self.ownership.shared}
        for name, weight in self.named_parameters(remove_duplicate=False):
            if id(weight) in shared:  # twice in the file, in each player: no tensor of a file may claim what another does (safe_load.py)
                checkpoint["state_dict"][name] = checkpoint["state_dict"][name].clone()
        if "medgan_pl" not in checkpoint:  # the callback Checkpoints has written it already, with its best value
            checkpoint["medgan_pl"] = self.run_state().plain()

    def check_states(self, content: Mapping[str, Any], state: RunState) -> None:
        """Raise ValueError unless this module and its trainer can take back all that the content of a checkpoint should hold."""
        config, callbacks = state.config, self._trainer.callbacks if self._trainer is not None else ()
        written = [node.get("_target_") for node in config.get("callbacks", {}).values() if isinstance(node, dict)]
        try:
            check_resumable(content, state.progress, self.players, self.ownership.owned, list(config["module"]["stages"]))
            if callbacks:
                check_callbacks(content, callbacks, written)
        except ValueError as error:
            raise ValueError(f"a run cannot go on from this checkpoint: {error}; resume from another (previous.ckpt, best.ckpt)") from None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint.get("callbacks", {}).pop("Timer", None)  # max_time bounds each start, not all together
        state = RunState.from_plain(checkpoint["medgan_pl"])
        progress = state.progress
        if progress is None:
            raise ValueError("a run resumes from a checkpoint of training only; this file holds weights without the progress of a run")
        self.check_states(checkpoint, state)
        self.take_facts(state)
        self.turns, self.turns_since = dict(progress.turns), progress.turns_since
        gone_back = self.rollbacks > progress.rollbacks
        # A rollback sets these before it loads.
        self.rate, self.rollbacks = min(self.rate, progress.rate), max(self.rollbacks, progress.rollbacks)
        for name, guard in self.guards.items():
            guard.load_state_dict(progress.guards[name])
            if gone_back:
                guard.in_a_row = 0  # else one that was saved within a bad streak would be given no chance
        self.row = dict(progress.row)
        if self._trainer is not None:
            if self.covariates.columns:  # resume.force=true may bring other data; what the networks learned stays on its scale
                self.trainer.datamodule.use_covariates(self.covariates)
            strategy = self.trainer.strategy
            self.running.load_state_dict(progress.running, self.global_rank, self.trainer.world_size, strategy.root_device)
