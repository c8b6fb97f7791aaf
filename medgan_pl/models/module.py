"""The one adversarial LightningModule: whose turn it is, freeze the other, accumulate, step, average, log, save.

What is generated, judged and paid is the game's; this file knows no loss.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn
from torch.optim import Optimizer

from medgan_pl.core.batch import Batch, cut
from medgan_pl.core.keys import Purpose, key_randomness
from medgan_pl.data.files.covariates import Covariates
from medgan_pl.data.intensity import Inverse
from medgan_pl.models.games.base import Fakes, Game, Losses
from medgan_pl.models.guards import Guard, check_finite
from medgan_pl.models.networks.compiled import Compiled
from medgan_pl.models.networks.ema import Average
from medgan_pl.models.networks.layers import frozen, to_channels_last
from medgan_pl.models.networks.shared import Share, common
from medgan_pl.models.networks.synced import synced
from medgan_pl.models.running import Interval
from medgan_pl.models.schedules import Constant, EveryNth, Ramp, Saturated, Stage, stage_at

log = logging.getLogger(__name__)


class AdversarialModule(pl.LightningModule):
    """Plays a game between a generator and a discriminator by manual optimisation.

    One batch is one turn of D and, each `d_per_g`-th batch, one turn of G against the D just updated. Both see the same fakes, generated
    once; with `accumulate` > 1 the batch is played in that many parts, whose gradients add up to the whole batch's (batch norm sees the
    part).
    Progress is `images`: real images shown, over all devices, counted once whoever plays.

    - `optimizer_g`, `optimizer_d`: called with the parameters. `schedule_g`, `schedule_d`: (images, total_images) -> factor on the rate.
    - `stages`: name -> Stage, played in order. `clip_g`, `clip_d`: largest gradient norm, or None.
    - `d_per_g`: a number, or "auto" for `d_auto`, what decides then. `patience`: steps in a row that may be not finite, see Guard.
    - `metrics`: name -> metric with `update(fake, real)` and `compute() -> {key: value}`; shown as `val/<key>` with the averaged generator.
    - `log_every`, `validate_every`: images between two rows of the log, and between two validations.
    - `channels_last`, `compile`: of the networks; they change no result beyond rounding.
    - `schedule_penalty`: (images, total_images) -> factor on the penalty's weight. `beta2`: the same, the second beta of both Adams.
    - `share`: what makes layers of D layers of G, see networks/shared.py; None for two players apart.
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
        validate_every: int = 10_000,
        schedule_penalty: Constant | None = None,
        beta2: Ramp | None = None,
        share: Share | None = None,
        d_per_g: int | str = 1,
        d_auto: Saturated | None = None,
        accumulate: int = 1,
        clip_g: float | None = None,
        clip_d: float | None = None,
        patience: int = 10,
        channels_last: bool = True,
        compile: bool = False,
        seed: int = 0,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        counts = {"total_images": total_images, "log_every": log_every, "validate_every": validate_every, "accumulate": accumulate}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"`{name}` must be at least 1, got {count}")
        if not stages:
            raise ValueError("`stages` must hold at least one stage")
        if not game.has_content and not all(stage.adversarial for stage in stages.values()):
            raise ValueError(
                "a stage without the adversary needs a game that holds each fake against its own real by a term that is not D's, "
                f"game=translation extra=l1; {type(game).__name__} has none here"
            )
        self.automatic_optimization = False
        if share is not None:
            share(generator, discriminator)
        if channels_last:
            for network in (generator, discriminator):
                to_channels_last(network)
        self.generator, self.discriminator, self.game = generator, discriminator, game
        # What is called in the players' turns; penalties, validation and the average take the networks themselves.
        self.players = {"g": Compiled(generator), "d": Compiled(discriminator)} if compile else {"g": generator, "d": discriminator}
        self.average = average(generator)
        self.metrics = nn.ModuleDict(metrics)
        self.make_optimizers, self.schedules = (optimizer_g, optimizer_d), (schedule_g, schedule_d)
        self.schedule_penalty, self.beta2 = schedule_penalty or Constant(), beta2
        self.shared = common(generator, discriminator)
        self.shared_learns = share is not None and share.both  # in G's turns too
        self.guards = {"g": Guard("g", clip=clip_g, patience=patience), "d": Guard("d", clip=clip_d, patience=patience)}
        self.stages, self.turns = dict(stages), (d_auto or Saturated()) if d_per_g == "auto" else EveryNth(d_per_g)
        self.total_images, self.accumulate = total_images, accumulate
        self.log_every, self.validate_every = log_every, validate_every
        self.seed, self.config = seed, config
        self.images = self.turns_d = self.turns_g = self.turns_since_g = self.rollbacks = 0
        self.rate = 1.0  # factor on both learning rates, lowered by each rollback
        self.classes: list[str] = []
        self.inverse: Inverse | None = None  # of the checkpoint it was loaded from: from [-1, 1] to native units and space
        self.inverses: dict[str, Inverse] = {}  # likewise, of several domains each
        self.pipelines: dict[str, Any] = {}  # likewise, how scans become images, as plain values: by domain, or of one data set under ""
        self.covariates = Covariates()  # of that checkpoint, or of the data it is trained on
        self.row: dict[str, float] = {}
        self.interval = Interval()
        self._shown = 0
        self._told = ""
        self._deaf: set[int] = set()

    # Turns ----------------------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        self.covariates = self.trainer.datamodule.covariates
        if self.trainer.world_size > 1:  # else every rank would normalise by its own part of the batch
            for network in (self.generator, self.discriminator):
                synced(network)
        for guard in self.guards.values():
            guard.half = self.trainer.precision_plugin.precision == "16-mixed"

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        key_randomness(self.seed, self.global_rank, self.images, Purpose.STEP)
        batch = self.game.draw(batch)
        size = len(batch["image"])
        players = self._players()
        d_plays, g_plays = "d" in players, "g" in players
        self._set_learning_rates()
        parts = cut(batch, self.accumulate)
        # One pass serves both players; parts are generated anew for each, so that only one part's graph is held at a time.
        # Neither does it serve with layers that both have: D's step would change the weights behind the fakes' graph.
        once = len(parts) == 1 and not self.shared
        with torch.set_grad_enabled(g_plays and (not d_plays or self.turns.may(self.turns_since_g + 1))):
            fakes = [self.game.play(self.players["g"], batch)] if once else None
        shown = new_images = size * self.trainer.world_size
        if d_plays:
            accuracy = self._turn("d", parts, fakes)
            self.turns_d += 1
            self.game.adapt(accuracy, self._over_ranks, self.images + shown, shown, self.total_images)
            if g_plays:
                self.turns_since_g += 1
                new_images *= self.turns_since_g
                g_plays = self.turns.now(self.turns_since_g, lambda: float(self._over_ranks(accuracy)))
        if g_plays:
            with frozen(self.discriminator, but=self.shared if self.shared_learns else []):
                self._turn("g", parts, fakes)
            self.turns_g += 1
            self.turns_since_g = 0
        self._shown, self.images = shown, self.images + shown
        if g_plays:
            self.average.update(self.generator, images=self.images, new_images=new_images)
        if self.images - self.interval.start >= self.log_every:
            self.log_interval()
        # Lightning counts batches; here a validation is due by images, so that it falls alike after a resume and for any batch and world.
        self.trainer.val_check_batch = 1 if self.passed(self.validate_every) else math.inf
        if self.images >= self.total_images:
            self.trainer.should_stop = True

    def passed(self, every: int) -> bool:
        """Whether the step just made passed a multiple of `every` images."""
        return self.images // every > (self.images - self._shown) // every

    def _players(self) -> Sequence[str]:
        """Who plays now; a run of several stages says so when one begins."""
        stage = self.stage
        if stage != self._told and len(self.stages) > 1:
            rank_zero_only(log.info)("%9d images  stage %s: %s", self.images, stage, " and ".join(self.stages[stage].players))
        self._told = stage
        return self.stages[stage].players

    def _over_ranks(self, value: Tensor) -> Tensor:
        """The mean over ranks, on the device."""
        return self.trainer.strategy.reduce(value, reduce_op="mean")

    def _turn(self, player: str, parts: list[Batch], fakes: list[Fakes] | None) -> Tensor | None:
        """Adds up one player's gradients over the parts, each by its share of the batch, and steps; returns D's accuracy on the batch."""
        size = sum(len(part["image"]) for part in parts)
        guard, optimizer_g, optimizer_d = self.guards[player], *self.optimizers()
        values: dict[str, Tensor] = {}
        for i, part in enumerate(parts):
            share = len(part["image"]) / size
            if fakes is None:
                with torch.set_grad_enabled(player == "g"):
                    fake = self.game.play(self.players["g"], part)
            else:
                fake = fakes[i]
            losses = self._losses(player, part, fake)
            self.manual_backward(guard.weigh(losses.total, share))
            for name, value in {"loss": losses.total, **losses.terms, **losses.watch}.items():
                values[name] = values.get(name, 0) + value.detach() * share
        network = self.generator if player == "g" else self.discriminator
        admitted, norm = guard.admits(network.parameters(), values)
        if admitted:
            if player == "g":
                optimizer_g.step()
            if player == "d" or self.shared_learns:  # in G's turn nothing but the shared layers of D has a gradient
                optimizer_d.step()
            self.interval.note(player, {**values, "gradient_norm": norm})
        network.zero_grad(set_to_none=True)
        return values.get("accuracy")

    def _losses(self, player: str, part: Batch, fake: Fakes) -> Losses:
        if player == "g":
            with frozen(self.discriminator):  # shared layers too: they learn as the part of G that they are, not to be fooled more easily
                if self.stages[self.stage].adversarial:
                    losses = self.game.generator_losses(self.players["d"], part, fake)
                else:
                    losses = self.game.content_losses(part, fake)
            losses.terms.update(self.game.generator_penalties(self.generator, part, self.turns_g))
            return losses
        fake = {name: each.detach() for name, each in fake.items()} if isinstance(fake, dict) else fake.detach()
        losses = self.game.discriminator_losses(self.players["d"], part, fake)
        factor = self.schedule_penalty(self.images, self.total_images)
        paid = self.game.penalties(self.discriminator, part, fake, self.turns_d)
        losses.terms.update({name: term * factor for name, term in paid.items()})
        return losses

    # Optimisers -----------------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        theirs = {id(weight) for weight in self.shared}  # each weight has one optimiser: the shared ones D's
        weights = ([weight for weight in self.generator.parameters() if id(weight) not in theirs], self.discriminator.parameters())
        optimizers = [make(own) for make, own in zip(self.make_optimizers, weights, strict=True)]
        if self.beta2 is not None and not all("betas" in group for optimizer in optimizers for group in optimizer.param_groups):
            raise ValueError("`beta2` needs Adam for both players (optimizers=adam); set beta2=null for others")
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["initial_lr"] = float(group["lr"])
        return optimizers

    def _set_learning_rates(self) -> None:
        for optimizer, schedule in zip(self.optimizers(use_pl_optimizer=False), self.schedules, strict=True):
            factor = schedule(self.images, self.total_images) * self.rate
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
                if self.beta2 is not None:
                    group["betas"] = (group["betas"][0], self.beta2(self.images, self.total_images))

    @property
    def stage(self) -> str:
        return stage_at(self.stages, self.images, self.epoch_images)

    @property
    def epoch_images(self) -> int:
        """Images of one epoch: the size of the training split."""
        return self.trainer.datamodule.sizes()["train"]

    def stream_position(self) -> int:
        """Return the position in the endless stream of training images where the next batch begins: see data/protocol.py."""
        return self.images

    # Log ------------------------------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        self.interval.clock(self.images)

    def log_interval(self) -> None:
        """Reduces what was noted since the last row and writes one."""
        if self.images == self.interval.start:
            return
        check_finite(self.state_dict())
        row = self.interval.means(self._over_ranks)
        for name, optimizer in zip("gd", self.optimizers(use_pl_optimizer=False), strict=True):
            row[f"train/{name}/lr"] = optimizer.param_groups[0]["lr"]
            if self.guards[name].half:
                row[f"train/{name}/scale"] = self.guards[name].scale
        if self.game.augment is not None:
            row.update({f"train/augment/{name}": value for name, value in self.game.augment.watch().items()})
        row["train/skipped"] = sum(guard.skipped for guard in self.guards.values())
        row["train/rollbacks"] = self.rollbacks
        row["images_per_second"] = self.interval.speed(self.images)
        self.interval.begin(self.images)
        self.write_row(row)

    def write_row(self, row: dict[str, float]) -> None:
        self.row.update(row)
        row = {"images": self.images, "epoch": self.images / self.epoch_images, **row}
        self.tell(lambda logger: logger.log_metrics(row, step=self.images))

    def tell(self, say: Callable[[Logger], None]) -> None:
        """Speaks to each logger; one that fails, such as a lost connection, is told of once and does not end the run."""
        for i, logger in enumerate(self.loggers):
            try:
                say(logger)
            except Exception as error:
                if i not in self._deaf:
                    rank_zero_only(log.warning)("%s cannot log: %s; the run goes on", type(logger).__name__, error or type(error).__name__)
                self._deaf.add(i)

    # Validation -----------------------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        if self.trainer.state.fn == "fit":
            self.log_interval()
        self._place = self.global_rank
        for metric in self.metrics.values():
            metric.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        # Rank r has every world-th image from the r-th on; each image's noise is its own, whatever the batch and the number of ranks.
        places = [self._place + i * self.trainer.world_size for i in range(len(batch["image"]))]
        self._place = places[-1] + self.trainer.world_size
        batch = self.game.draw_each(batch, self.seed, places, Purpose.VALIDATION)
        fake, real = self.game.compared(batch, self.generate(batch).float())
        with torch.autocast(self.device.type, enabled=False):
            for metric in self.metrics.values() if len(fake) else ():
                metric.update(fake, real)

    def on_validation_epoch_end(self) -> None:
        row = {f"val/{key}": float(value) for metric in self.metrics.values() for key, value in metric.compute().items()}
        self.log_dict(row, logger=False, sync_dist=False)
        self.write_row(row)

    def on_validation_end(self) -> None:
        self.interval.clock(self.images)  # the speed shown is that of training

    @torch.no_grad()
    def generate(self, batch: Batch) -> Tensor:
        """Fakes (B, C, *S) in [-1, 1] of the averaged generator for a drawn batch."""
        return self.game.generate(self.average.network, batch)

    # Checkpoint -----------------------------------------------------------------------------------------------------------------

    COUNTERS = ("images", "turns_d", "turns_g", "turns_since_g", "rollbacks", "rate")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        data = self.trainer.datamodule
        checkpoint.pop("loops")  # Lightning's place in its loops and its counts since this start; ours is `images`
        checkpoint.update(global_step=0, epoch=0)
        shared = {id(weight) for weight in self.shared}
        for name, weight in self.named_parameters(remove_duplicate=False):
            if id(weight) in shared:  # twice in the file, in each player: no tensor of a file may claim what another does (trust.py)
                checkpoint["state_dict"][name] = checkpoint["state_dict"][name].clone()
        state = {name: getattr(self, name) for name in self.COUNTERS}
        state |= {"stage": self.stage, "guards": {name: guard.state_dict() for name, guard in self.guards.items()}}
        state |= {"interval": self.interval.state_dict(self.trainer.strategy.all_gather)}
        state |= {"world": self.trainer.world_size, "device": self.device.type, "fingerprint": data.fingerprint}
        state |= {"classes": list(data.classes), "inverse": data.inverse.plain(), "config": self.config}
        state |= {"covariates": data.covariates.plain(), "inverses": {name: each.plain() for name, each in data.inverses.items()}}
        state |= {"pipelines": {name: each.plain() for name, each in data.pipelines.items()}}
        state |= {"row": {key: value for key, value in self.row.items() if key != "images_per_second"}}
        checkpoint.setdefault("medgan_pl", {}).update(state)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint.get("callbacks", {}).pop("Timer", None)  # max_time bounds each start, not all together
        state = checkpoint["medgan_pl"]
        rate, rollbacks = self.rate, self.rollbacks
        for name in self.COUNTERS:
            setattr(self, name, state.get(name, 0))  # turns_g is younger than the rest
        self.rate, self.rollbacks = min(rate, self.rate), max(rollbacks, self.rollbacks)  # a rollback sets these before it loads
        for name, guard in self.guards.items():
            guard.load_state_dict(state["guards"][name])
            if rollbacks > state["rollbacks"]:
                guard.in_a_row = 0  # else one that was saved within a bad streak would be given no chance
        self.row = dict(state["row"])
        self.classes, self.inverse = state["classes"], Inverse.from_plain(state["inverse"])
        self.covariates = Covariates.from_plain(state.get("covariates", []))  # a checkpoint from before them has none
        if self._trainer is not None:
            if self.covariates.columns:  # resume.force=true may bring other data; what the networks learnt stays on its scale
                self.trainer.datamodule.use_covariates(self.covariates)
            strategy = self.trainer.strategy
            self.interval.load_state_dict(state["interval"], self.global_rank, self.trainer.world_size, strategy.root_device)
