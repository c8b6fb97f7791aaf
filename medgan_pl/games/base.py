"""What every game shares: the players' losses by one objective and one penalty, on whatever is generated and judged."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from medgan_pl.batch import Batch, require
from medgan_pl.keys import Purpose, key_randomness
from medgan_pl.losses.adversarial import accuracy

Critic = Callable[[Tensor], Tensor]


@runtime_checkable
class Objective(Protocol):
    """Two verbs on logits; `paired` where the generator's needs the real logits too. See losses/adversarial.py."""

    paired: bool

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor: ...

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Penalty(Protocol):
    """A weighted term on D's gradient, paid in the turns that are `due`; `mixed` where it looks between reals and fakes. See
    losses/penalties.py."""

    mixed: bool

    def due(self, step: int) -> bool: ...

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor, t: Tensor | None = None) -> Tensor: ...


@dataclass
class Losses:
    """What a player pays: `terms` are already weighted, summed and differentiated, and shown; `watch` is only shown. All scalars."""

    terms: dict[str, Tensor]
    watch: dict[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        return torch.stack([term.float() for term in self.terms.values()]).sum()


class Game(ABC):
    """Who generates what from which keys of the batch, who judges what, and who pays what.

    A game owns no weights: the networks are arguments, so evaluation hands in the averaged generator. A new game says `draw`, `generate`
    and `critic`; the losses are the adversarial ones, to which it may add its own terms. `paired`: whether the fake of a batch's i-th place
    is to be the real of that place, so that the two can be held against each other, voxel by voxel.
    """

    paired: ClassVar[bool] = False

    def __init__(self, *, objective: Objective, penalty: Penalty) -> None:
        self.objective, self.penalty = objective, penalty

    def draw(self, batch: Batch) -> Batch:
        """The batch with the game's own random inputs added, once a step, so that its parts can be played one after the other."""
        if not self.penalty.mixed or "t" in batch:
            return batch
        like = next(iter(batch.values()))
        return {**batch, "t": torch.rand(len(like), device=like.device)}

    def draw_each(self, batch: Batch, seed: int, places: Sequence[int], purpose: Purpose) -> Batch:
        """The batch with what the game draws for it, the i-th image's by (seed, places[i], purpose) alone."""
        drawn: list[Batch] = []
        for i, place in enumerate(places):
            key_randomness(seed, 0, place, purpose)
            drawn.append(self.draw({key: value[i : i + 1] for key, value in batch.items()}))
        return batch | {key: torch.cat([each[key] for each in drawn]) for key in drawn[0] if key not in batch}

    @abstractmethod
    def generate(self, g: nn.Module, batch: Batch) -> Tensor:
        """The fakes (B, C, *S) in [-1, 1]; a function of the drawn batch alone."""

    def critic(self, d: nn.Module, batch: Batch) -> Critic:
        """D with its condition filled in: images (B, C, *S) to logits (B, …), higher = more real."""
        return d

    def real(self, batch: Batch) -> Tensor:
        """What the fakes are held against."""
        return require(batch, "image", "it is the real side of the game")

    def discriminator_losses(self, d: nn.Module, batch: Batch, fake: Tensor) -> Losses:
        """What D pays for telling `real` from `fake` (detached), each turn."""
        critic = self.critic(d, batch)
        real_logits, fake_logits = critic(self.real(batch)), critic(fake)
        return Losses(
            terms={"adversarial": self.objective.discriminator(real_logits, fake_logits)},
            watch={"real": real_logits.mean(), "fake": fake_logits.mean(), "accuracy": accuracy(real_logits, fake_logits)},
        )

    def penalties(self, d: nn.Module, batch: Batch, fake: Tensor, turn: int) -> dict[str, Tensor]:
        """What D pays besides, for its gradient, in the turns where that is due; `turn` counts D's steps. `d` is never a compiled network:
        torch.compile knows no second derivative."""
        if not self.penalty.due(turn):
            return {}
        return {"penalty": self.penalty(self.critic(d, batch), self.real(batch), fake, batch.get("t"))}

    def generator_losses(self, d: nn.Module, batch: Batch, fake: Tensor) -> Losses:
        """What G pays for `fake`, judged by a frozen D."""
        critic = self.critic(d, batch)
        real_logits = critic(self.real(batch)) if self.objective.paired else None
        return Losses(terms={"adversarial": self.objective.generator(critic(fake), real_logits)})
