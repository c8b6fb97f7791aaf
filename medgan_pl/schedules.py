"""What changes with the images shown: learning rates, and who plays."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PLAYERS = ("d", "g")


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Factor on a base learning rate: a linear rise from 0 over the first `warmup_images`, then 1."""

    warmup_images: int = 0

    def __call__(self, images: int, total_images: int) -> float:
        return min(1.0, (images + 1) / self.warmup_images) if self.warmup_images else 1.0


@dataclass(frozen=True, kw_only=True)
class Linear(Constant):
    """After the warm-up 1 until `decay_from` of the run (a share of `total_images`), then straight down to `final`."""

    decay_from: float = 0.5
    final: float = 0.1

    def __call__(self, images: int, total_images: int) -> float:
        done = min(1.0, max(0.0, images / total_images - self.decay_from) / max(1e-9, 1 - self.decay_from))
        return super().__call__(images, total_images) * (1 - (1 - self.final) * done)


@dataclass(frozen=True, kw_only=True)
class Cosine(Constant):
    """After the warm-up half a cosine over the whole run, from 1 to `final` (Loshchilov & Hutter 2017, eq. 5, one period)."""

    final: float = 0.0

    def __call__(self, images: int, total_images: int) -> float:
        wave = (1 + math.cos(math.pi * min(1.0, images / total_images))) / 2
        return super().__call__(images, total_images) * (self.final + (1 - self.final) * wave)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Who plays, and for how long: in `images`, or in `epochs` of the training split; neither means to the end of the run."""

    players: Sequence[str]
    images: int | None = None
    epochs: float | None = None

    def __post_init__(self) -> None:
        if not self.players or set(self.players) - set(PLAYERS):
            raise ValueError(f"a stage's `players` must be some of {list(PLAYERS)}, got {list(self.players)}")
        if self.images is not None and self.epochs is not None:
            raise ValueError(f"a stage has a length in `images` or in `epochs`, got both: {self.images} and {self.epochs}")

    def length(self, epoch_images: int) -> float:
        if self.images is not None:
            return self.images
        return math.inf if self.epochs is None else self.epochs * epoch_images


def stage_at(stages: Mapping[str, Stage], images: int, epoch_images: int) -> str:
    """The name of the stage that is played after `images` images; the last stage goes on for ever."""
    end = 0.0
    for name, stage in stages.items():
        end += stage.length(epoch_images)
        if images < end:
            return name
    return name
