"""The base of all games: the players' losses by one objective, one penalty and any regularizers, on whatever is generated and judged."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from medgan_pl.core.batch import Batch, from_batch
from medgan_pl.core.keys import Purpose, key_randomness
from medgan_pl.models.games.parts import Augmentation, Critic, Objective, Penalty, Regularizer
from medgan_pl.models.losses.adversarial import accuracy

if TYPE_CHECKING:
    from medgan_pl.data.protocol import Data

Fakes = Tensor | dict[str, Tensor]


@dataclass
class Losses:
    """The losses of a player: `terms` are already weighted, summed and differentiated, and shown; `watch` is only shown. All scalars."""

    terms: dict[str, Tensor]
    watch: dict[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        return torch.stack([term.float() for term in self.terms.values()]).sum()


class Game(nn.Module, ABC):
    """A game says who generates what from which keys of the batch, who judges what, and who pays what.

    A game owns no weights: the networks are arguments, so evaluation hands in the averaged generator. What state its augmentation and its
    regularisers have, such as an adaptive strength, are buffers, saved with the run. A new game says `draw`, `generate` and `critic`; the
    losses are the adversarial ones, to which it may add its own terms. `paired`: whether the fake of a batch's i-th place is to be the
    real of that place, so that the two can be held against each other, voxel by voxel. `sourced`: whether it makes images of images, which
    the batch must bring, and not of noise alone. `segments`: whether what it makes are masks, a channel for each structure.

    A game declares what it reads, and a run refuses the rest by name: `reads`, the keys of the data's batch; `settings`, the keys of the
    configuration that are its arguments; `needs`, for an argument that may be idle, those of which at least one must be on.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"image"})
    settings: ClassVar[frozenset[str]] = frozenset({"objective", "penalty", "augment", "regularizers"})
    needs: ClassVar[Mapping[str, Sequence[str]]] = MappingProxyType({})
    players: ClassVar[Sequence[str]] = ("d", "g")  # in order of play; the discriminator before the generator
    generator: ClassVar[str] = "g"  # makes the fakes; the EMA of its weights is validated and sampled
    discriminator: ClassVar[str] = "d"  # judges the fakes; `d_per_g` counts its turns for each of the generator's
    paired: ClassVar[bool] = False
    sourced: ClassVar[bool] = False
    segments: ClassVar[bool] = False

    def __init__(
        self,
        *,
        objective: Objective,
        penalty: Penalty,
        augment: Augmentation | None = None,
        regularizers: Mapping[str, Regularizer] | None = None,
    ) -> None:
        super().__init__()
        self.objective, self.penalty, self.augment = objective, penalty, augment
        self.regularizers = nn.ModuleDict(regularizers or {})

    @classmethod
    def check_data(cls, settings: Mapping[str, Any], data: "Data") -> None:
        """Raise ValueError if the data lack what a game of these `settings` needs. Called before anything is built."""

    def draw(self, batch: Batch) -> Batch:
        """The batch with the game's own random inputs added, once a step, so that its parts can be played one after the other."""
        like = next(iter(batch.values()))
        if self.penalty.mixed and "t" not in batch:
            batch = {**batch, "t": torch.rand(len(like), device=like.device)}
        if self.augment is not None and self.augment.numbers and "augment" not in batch:
            batch = {**batch, "augment": torch.rand(len(like), self.augment.numbers, device=like.device)}
        for name, term in self.regularizers.items():
            if term.numbers and f"regularize_{name}" not in batch:
                batch = {**batch, f"regularize_{name}": torch.rand(len(like), term.numbers, device=like.device)}
        return batch

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

    def source(self, batch: Batch) -> Tensor:
        """Return the input of G (B, C', *S') in a game that is `sourced`."""
        raise ValueError(f"{type(self).__name__} makes images of noise, and has no source")

    def losses(self, player: str, networks: Mapping[str, nn.Module], batch: Batch, fake: Fakes, *, adversarial: bool = True) -> Losses:
        """Return the losses of one turn of `player`, by its name in `players`. A game with further players overrides this.

        - `networks`: all players' networks by name. Only the player's own weights ask for gradients.
        - `fake`: of `play`, with the graph to the generator's weights in the generator's own turn and detached in any other.
        - `adversarial`: false in a stage where the generator learns without the discriminator.
        """
        if player == self.discriminator:
            return self.discriminator_losses(networks[self.discriminator], batch, fake)
        if player != self.generator:
            raise ValueError(f"{type(self).__name__} has no losses for a player `{player}`; its players are {', '.join(self.players)}")
        if adversarial:
            return self.generator_losses(networks[self.discriminator], batch, fake)
        return self.content_losses(batch, fake)

    def penalties(self, player: str, networks: Mapping[str, nn.Module], batch: Batch, fake: Fakes, turn: int) -> dict[str, Tensor]:
        """Return what `player` pays besides `losses`, for its gradient or its weights; `turn` counts its steps, and `networks` are never
        compiled: torch.compile knows no second derivative."""
        if player == self.discriminator:
            return self.discriminator_penalties(networks[self.discriminator], batch, fake, turn)
        return self.generator_penalties(networks[self.generator], batch, turn) if player == self.generator else {}

    def play(self, g: nn.Module, batch: Batch) -> Fakes:
        """Return what D and G learn from: the fakes themselves, unless a game trains on something else, such as a part of each."""
        return self.generate(g, batch)

    def of_fakes(self, batch: Batch, fake: Tensor) -> tuple[Batch, Tensor]:
        """Return the batch and the fakes that D is to judge, of those that `generate` made, with their condition for `critic`."""
        return batch, fake

    def of_reals(self, batch: Batch) -> Batch:
        """The rows whose reals D learns from."""
        return batch

    def compared(self, batch: Batch, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fakes of a drawn batch and the reals they are compared with in validation: as many of each, maybe none."""
        return fake, self.real(batch)

    def critic(self, d: nn.Module, batch: Batch) -> Critic:
        """D with its condition filled in: images (B, C, *S) to logits (B, …), higher = more real."""
        return d

    def judge(self, d: nn.Module, batch: Batch) -> Critic:
        """The critic as the players meet it: behind the augmentation."""
        critic = self.critic(d, batch)
        return lambda images: critic(self.augmented(images, batch))

    def augmented(self, images: Tensor, batch: Batch) -> Tensor:
        """Images as D is shown them, real and fake of one row augmented alike."""
        augment = self.augment
        return images if augment is None or not augment.numbers else augment(images, batch["augment"])

    def real(self, batch: Batch) -> Tensor:
        """Return the real images (B, C, *S) that the fakes are compared with."""
        return from_batch(batch, "image", "it is the real side of the game")

    def discriminator_losses(self, d: nn.Module, batch: Batch, fake: Fakes) -> Losses:
        """Return D's losses for telling `real` from `fake` (detached), each turn."""
        critic, real = self.judge(d, batch), self.real(batch)
        real_logits, fake_logits = critic(real), critic(fake)
        return Losses(
            terms=self.verdict_terms(critic, batch, real, fake, real_logits, fake_logits),
            watch={"real": real_logits.mean(), "fake": fake_logits.mean(), "accuracy": accuracy(real_logits, fake_logits)},
        )

    def verdict_terms(
        self, critic: Critic, batch: Batch, real: Tensor, fake: Tensor, real_logits: Tensor, fake_logits: Tensor
    ) -> dict[str, Tensor]:
        """The objective of D and its regularisers on the same verdicts."""
        terms = {"adversarial": self.objective.discriminator(real_logits, fake_logits)}
        for name, term in self.regularizers.items():
            terms[name] = term(critic, real, fake, real_logits, fake_logits, batch.get(f"regularize_{name}"))
        return terms

    def discriminator_penalties(self, d: nn.Module, batch: Batch, fake: Fakes, turn: int) -> dict[str, Tensor]:
        """Return what D pays besides, for its gradient, in the turns where that is due; `turn` counts D's steps. `d` is never a compiled
        network: torch.compile knows no second derivative."""
        if not self.penalty.due(turn):
            return {}
        return {"penalty": self.penalty(self.judge(d, batch), self.real(batch), fake, batch.get("t"))}

    def generator_losses(self, d: nn.Module, batch: Batch, fake: Fakes) -> Losses:
        """Return G's losses for `fake`, judged by a frozen D."""
        critic = self.judge(d, batch)
        real_logits = critic(self.real(batch)) if self.objective.paired else None
        return Losses(terms={"adversarial": self.objective.generator(critic(fake), real_logits)})

    @property
    def has_content(self) -> bool:
        """Return whether G has a loss in a stage without the adversary."""
        return False

    def content_losses(self, batch: Batch, fake: Fakes) -> Losses:
        """Return G's losses in a stage without the adversary, where the game `has_content`."""
        raise TypeError(f"{type(self).__name__} has nothing for G to pay without the adversary")

    def adapt(self, accuracy: Tensor, reduce: Callable[[Tensor], Tensor], images: int, new_images: int, total_images: int) -> None:
        """After each turn of D, of `accuracy` on its batch: what follows how D fares. `images`: shown in all, `new_images`: in that turn;
        `reduce` takes the mean over ranks."""
        if self.augment is not None:
            self.augment.adapt(lambda: reduce(accuracy), images, new_images, total_images)
        for term in self.regularizers.values():
            term.adapt(reduce)

    def generator_penalties(self, g: nn.Module, batch: Batch, turn: int) -> dict[str, Tensor]:
        """Return what G pays for itself, whoever judges; `turn` counts G's steps, `g` is never a compiled network."""
        return {}
