"""The one adversarial LightningModule: it takes turns, freezes, accumulates, steps, averages, logs and saves.

The game says who generates what, who judges what, and each player's losses; this file knows no loss and no player by name.
"""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from medgan_pl.core.batch import Batch, cut, size_of
from medgan_pl.core.counts import whole_number
from medgan_pl.core.keys import Purpose, key_randomness
from medgan_pl.models.games.base import Game
from medgan_pl.models.guards import Guard
from medgan_pl.models.networks.compiled import Compiled
from medgan_pl.models.networks.ema import EMA
from medgan_pl.models.networks.layers import to_channels_last
from medgan_pl.models.networks.shared import Share
from medgan_pl.models.networks.synced import synced
from medgan_pl.models.players import Ownership, Player, check_players
from medgan_pl.models.reporting import Reporting
from medgan_pl.models.saving import Saving
from medgan_pl.models.schedules import Pace, Stage, stage_at
from medgan_pl.models.turn import generate, take_turn

log = logging.getLogger(__name__)


class AdversarialModule(Reporting, Saving, pl.LightningModule):
    """Train the players of a game in turns, by manual optimization.

    In each batch the players of the stage play in the order of `game.players`; the generator plays each `pace`-th time after the
    discriminator, against the discriminator just updated. All see the same fakes, generated once. With `accumulate` > 1 (gradient
    accumulation) the batch is played in that many parts, and the gradients add up to those of the whole batch (batch norm sees the part).
    Progress is `images`: real images shown, over all devices, counted once whoever plays.

    - `players`: name -> Player; the names must be those of `game.players`. Their order is that of the optimizers.
    - `stages`: name -> Stage, played in order.
    - `ema`: builds the EMA (exponential moving average) of the generator's weights.
    - `metrics`: name -> metric with `update(fake, real)` and `compute() -> {key: value}`; logged as `val/<key>`, of the EMA generator.
    - `log_every`, `validate_every`: images between two rows of the log, and between two validations.
    - `share`: gives two players layers in common, see networks/shared.py; None for none.
    - `channels_last`, `compile`: apply to all networks; they change no result beyond rounding.
    - `config`: plain containers, saved in the checkpoint so that `medgan_pl.load` can build the module again.

    Raise ValueError for counts below 1, and if players, stages and game do not fit.
    """

    def __init__(
        self,
        *,
        players: Mapping[str, Player],
        game: Game,
        stages: Mapping[str, Stage],
        ema: Callable[[nn.Module], EMA],
        metrics: Mapping[str, nn.Module],
        total_images: int,
        log_every: int = 1000,
        validate_every: int = 10_000,
        pace: Pace | None = None,
        share: Share | None = None,
        accumulate: int = 1,
        channels_last: bool = True,
        compile: bool = False,
        seed: int = 0,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        counts = {"total_images": total_images, "log_every": log_every, "validate_every": validate_every, "accumulate": accumulate}
        for name, count in counts.items():
            whole_number(name, count, 1)
        check_players(players, stages, game)
        self.automatic_optimization = False
        self.players, self.stages, self.pace = dict(players), dict(stages), pace or Pace()
        self.networks = nn.ModuleDict({name: player.network for name, player in players.items()})
        if share is not None:
            share(dict(self.networks))
        if channels_last:
            to_channels_last(self.networks)
        # Called in the players' turns; penalties, validation and the EMA take the networks themselves.
        self.called = {name: Compiled(network) if compile else network for name, network in self.networks.items()}
        self.game = game
        self.ema = ema(self.networks[game.generator])
        self.metrics = nn.ModuleDict(metrics)
        self.ownership = Ownership(dict(self.networks), share)
        self.guards = {name: Guard(name, clip=player.clip, patience=player.patience) for name, player in players.items()}
        self.total_images, self.accumulate, self.seed, self.config = total_images, accumulate, seed, config
        self.log_every, self.validate_every = log_every, validate_every
        self._begin()

    def _begin(self) -> None:
        """Set the counters and what a run or a checkpoint fills in later."""
        self.images = self.turns_since = self.rollbacks = 0  # turns_since: the discriminator's turns since the generator's last
        self.turns = dict.fromkeys(self.players, 0)
        self.rate = 1.0  # factor on all learning rates, lowered by each rollback
        self._shown = 0
        self.begin_saving()
        self.begin_reporting()

    # Turns ----------------------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        self.covariates = self.trainer.datamodule.covariates
        if self.trainer.world_size > 1:  # else every rank would normalize by its own part of the batch
            for network in self.networks.values():
                synced(network)
        for guard in self.guards.values():
            guard.half = self.trainer.precision_plugin.precision == "16-mixed"

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        key_randomness(self.seed, self.global_rank, self.images, Purpose.STEP)
        batch, stage = self.game.draw(batch), self.stage
        self.announce_stage(stage)
        self._set_learning_rates()
        shown = size_of(batch) * self.trainer.world_size
        new_images = self._play(batch, self.stages[stage], shown)
        self._shown, self.images = shown, self.images + shown
        if new_images:
            self.ema.update(self.networks[self.game.generator], images=self.images, new_images=new_images)
        if self.images - self.running.start >= self.log_every:
            self.log_interval()
        # Lightning counts batches; here a validation is due by images, so that it falls alike after a resume and for any batch and world.
        self.trainer.val_check_batch = 1 if self.passed(self.validate_every) else math.inf
        if self.images >= self.total_images:
            self.trainer.should_stop = True

    def _play(self, batch: Batch, stage: Stage, shown: int) -> int:
        """Let the players of the stage take their turns on a drawn batch of `shown` images over all devices.

        Return how many images the generator's turn stands for, 0 if it did not play.
        """
        generator, judge, parts = self.game.generator, self.game.discriminator, cut(batch, self.accumulate)
        judged, new_images, accuracy = judge in stage.players, 0, None
        # One pass serves all players; parts are generated anew for each, so that only one part's graph is held at a time.
        # Nor does one pass serve where players share layers: one player's step would change the weights behind the fakes' graph.
        learns = generator in stage.players and (not judged or self.pace.may(self.turns_since + 1))
        fakes = [generate(self, batch, learns=learns)] if len(parts) == 1 and not self.ownership.shared else None
        for name in self.game.players:
            if name not in stage.players:
                continue
            if name == generator and judged and not self._generator_is_due(accuracy):
                continue
            values = take_turn(self, name, parts, fakes)
            self.turns[name] += 1
            if name == judge:
                accuracy = values.get("accuracy")
                self.game.adapt(accuracy, self.mean_over_ranks, self.images + shown, shown, self.total_images)
            if name == generator:
                new_images, self.turns_since = shown * (self.turns_since if judged else 1), 0
        return new_images

    def _generator_is_due(self, accuracy: Tensor | None) -> bool:
        """Count the discriminator's turn, and return whether the generator plays after it."""
        self.turns_since += 1
        return self.pace.now(self.turns_since, lambda: float(self.mean_over_ranks(accuracy)))

    def passed(self, every: int) -> bool:
        """Return whether the last step passed a multiple of `every` images."""
        return self.images // every > (self.images - self._shown) // every

    def mean_over_ranks(self, value: Tensor) -> Tensor:
        """Return the mean over ranks, on the device."""
        return self.trainer.strategy.reduce(value, reduce_op="mean")

    # Optimizers -----------------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        return [self.build_optimizer(name) for name in self.players]

    def build_optimizer(self, name: str) -> Optimizer:
        """Return the optimizer of a player. Raise ValueError, with the key, for a setting that it does not take."""
        try:
            return self.players[name].build_optimizer(self.ownership.owned[name])
        except (ValueError, TypeError) as error:
            raise ValueError(f"`optimizer_{name}` must be settings that its optimizer takes: {error}") from error

    def optimizers_by_player(self, *, wrapped: bool = True) -> dict[str, Any]:
        """Return each player's optimizer, as Lightning wraps it or, without `wrapped`, itself."""
        optimizers = self.optimizers(use_pl_optimizer=wrapped)
        return dict(zip(self.players, optimizers if isinstance(optimizers, list) else [optimizers], strict=True))

    def _set_learning_rates(self) -> None:
        for name, optimizer in self.optimizers_by_player(wrapped=False).items():
            self.players[name].set_rate(optimizer, self.images, self.total_images, self.rate)

    @property
    def stage(self) -> str:
        """The name of the stage that is played now."""
        return stage_at(self.stages, self.images, self.epoch_images)

    @property
    def epoch_images(self) -> int:
        """The number of images of one epoch: the size of the training split."""
        return self.trainer.datamodule.sizes()["train"]

    @property
    def reads(self) -> frozenset[str]:
        """The keys of a training batch that the losses use: see data/protocol.py."""
        return self.game.reads

    def stream_position(self) -> int:
        """Return the position in the endless stream of training images where the next batch begins: see data/protocol.py."""
        return self.images

    # Validation -----------------------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        self.running.start_timer(self.images)

    def on_validation_epoch_start(self) -> None:
        if self.trainer.state.fn == "fit":
            self.log_interval()
        self._place = self.global_rank
        for metric in self.metrics.values():
            metric.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        # Rank r has every world-th image from the r-th on; each image's noise is its own, whatever the batch and the number of ranks.
        places = [self._place + i * self.trainer.world_size for i in range(size_of(batch))]
        self._place = places[-1] + self.trainer.world_size
        batch = self.game.draw_each(batch, self.seed, places, Purpose.VALIDATION)
        fake, real = self.game.compared(batch, self.generate(batch).float())
        inside, known = batch.get("inside"), {}
        if inside is not None:  # its rows are those of fakes and reals in a paired game alone
            known = {"common": inside.amin(0, keepdim=True)} | ({"inside": inside} if self.game.paired else {})
        with torch.autocast(self.device.type, enabled=False):
            for metric in self.metrics.values() if len(fake) else ():
                metric.update(fake, real, **(metric._filter_kwargs(**known) if known else {}))

    def on_validation_epoch_end(self) -> None:
        row = {f"val/{key}": float(value) for metric in self.metrics.values() for key, value in metric.compute().items()}
        self.log_dict(row, logger=False, sync_dist=False)
        self.write_row(row)

    def on_validation_end(self) -> None:
        self.running.start_timer(self.images)  # the speed shown is that of training

    @torch.no_grad()
    def generate(self, batch: Batch) -> Tensor:
        """Return fakes (B, C, *S) in [-1, 1] of the EMA generator for a drawn batch."""
        return self.game.generate(self.ema.network, batch)
