"""The one adversarial LightningModule: whose turn it is, freeze the other, accumulate, step, average, log, save.

What is generated, judged and paid is the game's; this file knows no loss.
"""

import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn
from torch.optim import Optimizer

from medgan_pl.batch import Batch
from medgan_pl.data.intensity import Inverse
from medgan_pl.games.base import Game, Losses
from medgan_pl.keys import Purpose, key_randomness
from medgan_pl.networks.average import Average
from medgan_pl.networks.layers import frozen, to_channels_last
from medgan_pl.schedules import Constant, Stage, stage_at

log = logging.getLogger(__name__)


class AdversarialModule(pl.LightningModule):
    """Plays a game between a generator and a discriminator by manual optimisation.

    One batch is one turn of D and, each `d_per_g`-th batch, one turn of G against the D just updated. Both see the same fakes, generated
    once; with `accumulate` > 1 the batch is played in that many parts, whose gradients add up to the whole batch's (batch norm sees the
    part).
    Progress is `images`: real images shown, over all devices, counted once whoever plays.

    - `optimizer_g`, `optimizer_d`: called with the parameters. `schedule_g`, `schedule_d`: (images, total_images) -> factor on the rate.
    - `stages`: name -> Stage, played in order. `clip_g`, `clip_d`: largest gradient norm, or None.
    - `metrics`: name -> metric with `update(fake, real)` and `compute() -> {key: value}`; shown as `val/<key>` with the averaged generator.
    - `log_every`: images between two rows of the log; a loss that is not finite ends the run there, before anything of it is saved.
    - `config`: plain containers, saved in the checkpoint so that `medgan_pl.load` can build the module anew.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        game: Game,
        optimizer_g: Callable[..., Optimizer],
        optimizer_d: Callable[..., Optimizer],
        schedule_g: Constant,
        schedule_d: Constant,
        stages: Mapping[str, Stage],
        average: Callable[[nn.Module], Average],
        metrics: Mapping[str, nn.Module],
        total_images: int,
        log_every: int = 1000,
        d_per_g: int = 1,
        accumulate: int = 1,
        clip_g: float | None = None,
        clip_d: float | None = None,
        channels_last: bool = True,
        seed: int = 0,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for name, count in {"total_images": total_images, "log_every": log_every, "d_per_g": d_per_g, "accumulate": accumulate}.items():
            if count < 1:
                raise ValueError(f"`{name}` must be at least 1, got {count}")
        if not stages:
            raise ValueError("`stages` must hold at least one stage")
        self.automatic_optimization = False
        if channels_last:
            for network in (generator, discriminator):
                to_channels_last(network)
        self.generator, self.discriminator, self.game = generator, discriminator, game
        self.average = average(generator)
        self.metrics = nn.ModuleDict(metrics)
        self.make_optimizers, self.schedules = (optimizer_g, optimizer_d), (schedule_g, schedule_d)
        self.stages, self.clips = dict(stages), (clip_g, clip_d)
        self.total_images, self.log_every, self.d_per_g, self.accumulate = total_images, log_every, d_per_g, accumulate
        self.seed, self.config = seed, config
        self.images = self.turns_d = 0
        self.classes: list[str] = []
        self.inverse: Inverse | None = None  # of the checkpoint it was loaded from: from [-1, 1] to native units and space
        self.row: dict[str, float] = {}
        self._values: dict[str, list[Tensor]] = defaultdict(list)
        self._turns: Counter[str] = Counter()
        self._told = ""

    # Turns ----------------------------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        key_randomness(self.seed, self.global_rank, self.images, Purpose.STEP)
        batch = self.game.draw(batch)
        size = len(batch["image"])
        players = self._players()
        d_plays = "d" in players
        g_plays = "g" in players and (not d_plays or (self.turns_d + 1) % self.d_per_g == 0)
        optimizer_g, optimizer_d = self.optimizers()
        self._set_learning_rates()
        parts = self._parts(batch, size)
        # One pass serves both players; parts are generated anew for each, so that only one part's graph is held at a time.
        with torch.set_grad_enabled(g_plays):
            fakes = [self.game.generate(self.generator, batch)] if len(parts) == 1 else None
        if d_plays:
            self._turn("d", optimizer_d, parts, fakes)
            self.turns_d += 1
        if g_plays:
            with frozen(self.discriminator):
                self._turn("g", optimizer_g, parts, fakes)
        shown = size * self.trainer.world_size
        self.images += shown
        if g_plays:
            self.average.update(self.generator, images=self.images, new_images=shown * (self.d_per_g if d_plays else 1))
        if self.images - self._logged >= self.log_every:
            self.log_interval()
        if self.images >= self.total_images:
            self.trainer.should_stop = True

    def _players(self) -> Sequence[str]:
        """Who plays now; a run of several stages says so when one begins."""
        stage = self.stage
        if stage != self._told and len(self.stages) > 1:
            rank_zero_only(log.info)("%9d images  stage %s: %s", self.images, stage, " and ".join(self.stages[stage].players))
        self._told = stage
        return self.stages[stage].players

    def _parts(self, batch: Batch, size: int) -> list[Batch]:
        if self.accumulate == 1:
            return [batch]
        if size < self.accumulate:
            raise ValueError(f"`accumulate` must be at most the batch size, got {self.accumulate} parts of a batch of {size}")
        cut = {key: value.tensor_split(self.accumulate) for key, value in batch.items()}
        return [{key: value[i] for key, value in cut.items()} for i in range(self.accumulate)]

    def _turn(self, player: str, optimizer: Optimizer, parts: list[Batch], fakes: list[Tensor] | None) -> None:
        """Adds up one player's gradients over the parts, each by its share of the batch, and steps."""
        size = sum(len(part["image"]) for part in parts)
        for i, part in enumerate(parts):
            share = len(part["image"]) / size
            if fakes is None:
                with torch.set_grad_enabled(player == "g"):
                    fake = self.game.generate(self.generator, part)
            else:
                fake = fakes[i]
            losses = self._losses(player, part, fake)
            self.manual_backward(losses.total * share)
            self._note(player, losses, share)
        self._turns[player] += 1
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _losses(self, player: str, part: Batch, fake: Tensor) -> Losses:
        if player == "d":
            return self.game.discriminator_losses(self.discriminator, part, fake.detach(), self.turns_d)
        return self.game.generator_losses(self.discriminator, part, fake)

    # Optimisers -----------------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        networks = (self.generator, self.discriminator)
        optimizers = [make(network.parameters()) for make, network in zip(self.make_optimizers, networks, strict=True)]
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["initial_lr"] = float(group["lr"])
        if self._trainer is not None and self.trainer.precision == "16-mixed" and any(self.clips):
            for name, optimizer in zip("gd", optimizers, strict=True):
                if any(group.get("fused") for group in optimizer.param_groups):
                    raise ValueError(f"clipping under precision 16-mixed needs unscaled gradients: set optimizer_{name}.fused=false")
        return optimizers

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Here, and not after backward: only here are the gradients unscaled under 16-mixed.
        for own, clip in zip(self.optimizers(use_pl_optimizer=False), self.clips, strict=True):
            if own is optimizer and clip is not None:
                nn.utils.clip_grad_norm_([weight for group in own.param_groups for weight in group["params"]], clip)

    def _set_learning_rates(self) -> None:
        for optimizer, schedule in zip(self.optimizers(use_pl_optimizer=False), self.schedules, strict=True):
            factor = schedule(self.images, self.total_images)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    @property
    def stage(self) -> str:
        return stage_at(self.stages, self.images, self.epoch_images)

    @property
    def epoch_images(self) -> int:
        """Images of one epoch: the size of the training split."""
        return self.trainer.datamodule.sizes()["train"]

    # Log ------------------------------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        self._logged, self._since = self.images, time.perf_counter()

    def _note(self, player: str, losses: Losses, share: float) -> None:
        for name, value in {"loss": losses.total, **losses.terms, **losses.watch}.items():
            self._values[f"train/{player}/{name}"].append(value.detach() * share)

    def log_interval(self) -> None:
        """Reduces what was noted since the last row and writes one; the only place where the host waits for the device."""
        if self.images == self._logged:
            return
        keys = sorted(self._values)
        # Over all turns of the player, so that a lazy penalty counts 0 where it is not due and the terms add up to the loss.
        means = torch.stack([torch.stack(self._values[key]).float().sum() / self._turns[key.split("/")[1]] for key in keys])
        values = self.trainer.strategy.reduce(means, reduce_op="mean").tolist()
        self._values.clear()
        self._turns.clear()
        seconds = time.perf_counter() - self._since
        row = dict(zip(keys, values, strict=True))
        for name, value in row.items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"`{name}` must be finite, got {value} between {self._logged} and {self.images} images; nothing of it is saved: "
                    "go on from the last checkpoint with a lower optimizer_d.lr or optimizer_g.lr, or with clip_d=1 clip_g=1"
                )
        for name, optimizer in zip("gd", self.optimizers(use_pl_optimizer=False), strict=True):
            row[f"train/{name}/lr"] = optimizer.param_groups[0]["lr"]
        row["images_per_second"] = (self.images - self._logged) / seconds
        self._logged, self._since = self.images, time.perf_counter()
        self.write_row(row)

    def write_row(self, row: dict[str, float]) -> None:
        self.row.update(row)
        row = {"images": self.images, "epoch": self.images / self.epoch_images, **row}
        for logger in self.loggers:
            logger.log_metrics(row, step=self.images)

    # Validation -----------------------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        if self.trainer.state.fn == "fit":
            self.log_interval()
        for metric in self.metrics.values():
            metric.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        key_randomness(self.seed, self.global_rank, batch_idx, Purpose.VALIDATION)
        fake = self.generate(self.game.draw(batch))
        with torch.autocast(self.device.type, enabled=False):
            for metric in self.metrics.values():
                metric.update(fake.float(), self.game.real(batch))

    def on_validation_epoch_end(self) -> None:
        row = {f"val/{key}": float(value) for metric in self.metrics.values() for key, value in metric.compute().items()}
        self.log_dict(row, logger=False, sync_dist=False)
        self.write_row(row)

    def on_validation_end(self) -> None:
        self._since = time.perf_counter()  # the speed shown is that of training

    @torch.no_grad()
    def generate(self, batch: Batch) -> Tensor:
        """Fakes (B, C, *S) in [-1, 1] of the averaged generator for a drawn batch."""
        return self.game.generate(self.average.network, batch)

    # Checkpoint -----------------------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        classes = list(self.trainer.datamodule.classes)
        inverse = self.trainer.datamodule.inverse.plain()
        state = {"images": self.images, "turns_d": self.turns_d, "classes": classes, "inverse": inverse, "config": self.config}
        checkpoint["medgan_pl"] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint.get("callbacks", {}).pop("Timer", None)  # max_time bounds each start, not all together
        state = checkpoint["medgan_pl"]
        self.images, self.turns_d, self.classes = state["images"], state["turns_d"], state["classes"]
        self.inverse = Inverse.from_plain(state["inverse"])
