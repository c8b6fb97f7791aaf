"""The schedules of a run: learning rates, stages, and the turns of each player."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from medgan_pl.core.counts import whole_number


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A factor on a base learning rate: a linear rise from 0 over the first `warmup_images`, then 1."""

    warmup_images: int = 0

    def __call__(self, images: int, total_images: int) -> float:
        return min(1.0, (images + 1) / self.warmup_images) if self.warmup_images else 1.0


@dataclass(frozen=True, kw_only=True)
class Linear(Constant):
    """A factor that is 1 after the warm-up until `decay_from` (a share of `total_images`) and then falls linearly to `final`."""

    decay_from: float = 0.5
    final: float = 0.1

    def __call__(self, images: int, total_images: int) -> float:
        done = min(1.0, max(0.0, images / total_images - self.decay_from) / max(1e-9, 1 - self.decay_from))
        return super().__call__(images, total_images) * (1 - (1 - self.final) * done)


@dataclass(frozen=True, kw_only=True)
class Cosine(Constant):
    """A factor that falls after the warm-up by half a cosine over the whole run, from 1 to `final` (Loshchilov & Hutter 2017, eq. 5)."""

    final: float = 0.0

    def __call__(self, images: int, total_images: int) -> float:
        wave = (1 + math.cos(math.pi * min(1.0, images / total_images))) / 2
        return super().__call__(images, total_images) * (self.final + (1 - self.final) * wave)


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A value from `start` to `end` along half a cosine over the first `images` (else the first `share` of the run), then `end`.

    It is a factor on a learning rate or a penalty, or a value such as Adam's second beta: the burn-in of R3GAN (Huang et al. 2025,
    arXiv 2501.05441, appendix on training details).
    """

    start: float
    end: float
    images: int | None = None
    share: float = 0.5

    def __post_init__(self) -> None:
        if (self.images is not None and self.images < 1) or not 0 < self.share <= 1:
            raise ValueError(f"a ramp needs `images` of at least 1, or `share` in (0, 1], got {self.images} and {self.share}")

    def __call__(self, images: int, total_images: int) -> float:
        done = min(1.0, images / (self.images or max(1, self.share * total_images)))
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of training: its players and its length in `images`, or in `epochs` of the training split; with neither it never ends.

    `adversarial`: G has the adversarial loss; if false, only G plays, with the other losses of a paired game (its extras).
    """

    players: Sequence[str]
    adversarial: bool = True
    images: int | None = None
    epochs: float | None = None

    def __post_init__(self) -> None:
        if not self.players:
            raise ValueError("a stage's `players` must name at least one player, got none")
        if self.images is not None and self.epochs is not None:
            raise ValueError(f"a stage must have a length in `images` or in `epochs`, got both: {self.images} and {self.epochs}")

    def length(self, epoch_images: int) -> float:
        if self.images is not None:
            return self.images
        return math.inf if self.epochs is None else self.epochs * epoch_images


def stage_at(stages: Mapping[str, Stage], images: int, epoch_images: int) -> str:
    """Return the name of the stage after `images` images; the last stage never ends."""
    end = 0.0
    for name, stage in stages.items():
        end += stage.length(epoch_images)
        if images < end:
            return name
    return name


@dataclass(frozen=True, kw_only=True)
class Saturated:
    """With `d_per_g` "auto", D plays until its accuracy (losses/adversarial.py) on a new batch reaches `accuracy`, or `max_turns` times.

    The accuracy is measured before D learns from the batch. Training D towards its optimum is the inner loop of Goodfellow et al. 2014
    (arXiv 1406.2661), algorithm 1; the threshold bounds it. Raise ValueError unless 0.5 < accuracy <= 1 and max_turns >= 1.
    """

    accuracy: float = 0.8
    max_turns: int = 5

    def __post_init__(self) -> None:
        if not 0.5 < self.accuracy <= 1 or self.max_turns < 1:
            given = f"accuracy={self.accuracy} and max_turns={self.max_turns}"
            raise ValueError(f"`d_auto` must have 0.5 < accuracy <= 1 and max_turns >= 1, got {given}")


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The discriminator's turns for each turn of the generator: a number (n_critic in Arjovsky et al. 2017) or "auto".

    With "auto", `auto` decides by D's accuracy. Raise ValueError for a number below 1.
    """

    d_per_g: int | str = 1
    auto: Saturated = field(default_factory=Saturated)

    def __post_init__(self) -> None:
        if self.d_per_g != "auto":
            whole_number("d_per_g", self.d_per_g, 1, "or auto")

    def may(self, turns: int) -> bool:
        """Return whether G may play after D's `turns`-th turn since G's last; this is known before that turn."""
        return self.d_per_g == "auto" or turns >= self.d_per_g

    def now(self, turns: int, accuracy: Callable[[], float]) -> bool:
        """Return whether G plays after D's `turns`-th turn since G's last; `accuracy()` is D's on the new batch."""
        if self.d_per_g == "auto":
            return turns >= self.auto.max_turns or accuracy() >= self.auto.accuracy
        return turns >= self.d_per_g
