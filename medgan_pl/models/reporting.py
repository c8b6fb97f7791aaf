"""The log of a module: one row for each logging interval and each validation, to every logger."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from medgan_pl.models.guards import check_finite
from medgan_pl.models.running import RunningMeans

if TYPE_CHECKING:
    from pytorch_lightning.loggers.logger import Logger

log = logging.getLogger(__name__)


class Reporting:
    """The part of AdversarialModule that writes rows: `row` holds the newest value of each column."""

    images: int
    stages: dict[str, Any]

    def begin_reporting(self) -> None:
        """Create the empty row and means."""
        self.row: dict[str, float] = {}
        self.running = RunningMeans()
        self._announced_stage = ""
        self._failed_loggers: set[int] = set()

    def announce_stage(self, stage: str) -> None:
        """Log the stage that begins, in a run of several stages."""
        if stage != self._announced_stage and len(self.stages) > 1 and self.global_rank == 0:
            log.info("%9d images  stage %s: %s", self.images, stage, " and ".join(self.stages[stage].players))
        self._announced_stage = stage

    def log_interval(self) -> None:
        """Reduce the values since the last row over all ranks and write one row; raise Diverged if a weight is not finite."""
        if self.images == self.running.start:
            return
        check_finite(self.state_dict())
        row = self.running.means(self.mean_over_ranks)
        for name, optimizer in self.optimizers_by_player(wrapped=False).items():
            row[f"train/{name}/lr"] = optimizer.param_groups[0]["lr"]
            if self.guards[name].half:
                row[f"train/{name}/scale"] = self.guards[name].scale
        if self.game.augment is not None:
            row.update({f"train/augment/{name}": value for name, value in self.game.augment.logged().items()})
        row["train/skipped"] = sum(guard.skipped for guard in self.guards.values())
        row["train/rollbacks"] = self.rollbacks
        row["images_per_second"] = self.running.speed(self.images)
        self.running.reset(self.images)
        self.write_row(row)

    def write_row(self, row: dict[str, float]) -> None:
        """Give a row to every logger, with the images and epochs shown."""
        self.row.update(row)
        row = {"images": self.images, "epoch": self.images / self.epoch_images, **row}
        self.call_loggers(lambda logger: logger.log_metrics(row, step=self.images))

    def call_loggers(self, call: Callable[["Logger"], None]) -> None:
        """Call each logger. If one fails, such as by a lost connection, warn once; the run continues."""
        for i, logger in enumerate(self.loggers):
            try:
                call(logger)
            except Exception as error:
                if i not in self._failed_loggers and self.global_rank == 0:
                    log.warning("%s cannot log: %s; the run continues", type(logger).__name__, error or type(error).__name__)
                self._failed_loggers.add(i)
