"""The base of all games: the players' losses by one objective, one penalty and any regularizers."""

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
    """The losses of a player, all scalars: the weighted `terms` are summed, differentiated and logged; `logged` is only logged."""

    terms: dict[str, Tensor]
    logged: dict[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        return torch.stack([term.float() for term in self.terms.values()]).sum()


class Game(nn.Module, ABC):
    """A game defines what is generated from which keys of the batch, what is judged, and the loss of each player.

    A game owns no weights: the networks are arguments, so that evaluation can pass the EMA of the generator. The state of its augmentation
    and regularizers, such as an adaptive strength, is in buffers, saved with the run. A new game defines `draw`, `generate` and `critic`;
    the losses are the adversarial ones, and it may add terms. `paired`: the i-th fake should equal the i-th real of the batch, so that they
    can be compared voxel by voxel. `sourced`: it makes images from images of the batch, not from noise alone. `segments`: it makes masks,
    one channel for each structure.

    A game declares what it reads, and a run refuses all other settings by name: `reads`, the keys of the data's batch; `settings`, the keys
    of the configuration that are its arguments; `needs`, for an argument that may be idle, those of which at least one must be on.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"image"})
    settings: ClassVar[frozenset[str]] = frozenset({"objective", "penalty", "augment", "regularizers"})
    needs: ClassVar[Mapping[str, Sequence[str]]] = MappingProxyType({})
    players: ClassVar[Sequence[str]] = ("d", "g")  # in order of play; the discriminator before the generator
    generator: ClassVar[str] = "g"  # makes the fakes; its EMA is validated and sampled
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
        """Return the batch with the game's random inputs added, once a step, so that its parts can be played one after the other."""
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
        """Return the batch with the game's random inputs; those of the i-th image depend only on (seed, places[i], purpose)."""
        drawn: list[Batch] = []
        for i, place in enumerate(places):
            key_randomness(seed, 0, place, purpose)
            drawn.append(self.draw({key: value[i : i + 1] for key, value in batch.items()}))
        return batch | {key: torch.cat([each[key] for each in drawn]) for key in drawn[0] if key not in batch}

    @abstractmethod
    def generate(self, g: nn.Module, batch: Batch) -> Tensor:
        """Return the fakes (B, C, *S) in [-1, 1]; they depend only on G and the drawn batch."""

    def source(self, batch: Batch) -> Tensor:
        """Return the input of G (B, C', *S') in a game that is `sourced`."""
        raise ValueError(f"{type(self).__name__} makes images from noise and has no source")

    def losses(self, player: str, networks: Mapping[str, nn.Module], batch: Batch, fake: Fakes, *, adversarial: bool = True) -> Losses:
        """Return the losses of one turn of `player`, by its name in `players`. A game with further players overrides this.

        - `networks`: all players' networks by name. Only the player's own weights need gradients.
        - `fake`: from `play`, with the graph to the generator's weights in the generator's turn, detached in any other.
        - `adversarial`: false in a stage in which the generator learns without the discriminator.
        """
        if player == self.discriminator:
            return self.discriminator_losses(networks[self.discriminator], batch, fake)
        if player != self.generator:
            raise ValueError(f"{type(self).__name__} has no losses for a player `{player}`; its players are {', '.join(self.players)}")
        if adversarial:
            return self.generator_losses(networks[self.discriminator], batch, fake)
        return self.content_losses(batch, fake)

    def penalties(self, player: str, networks: Mapping[str, nn.Module], batch: Batch, fake: Fakes, turn: int) -> dict[str, Tensor]:
        """Return the penalties of `player`, on its gradient or weights; `turn` counts its steps. `networks` are never compiled networks."""
        if player == self.discriminator:
            return self.discriminator_penalties(networks[self.discriminator], batch, fake, turn)
        return self.generator_penalties(networks[self.generator], batch, turn) if player == self.generator else {}

    def play(self, g: nn.Module, batch: Batch) -> Fakes:
        """Return what D and G learn from: the fakes, unless a game trains on something else, such as a part of each."""
        return self.generate(g, batch)

    def of_fakes(self, batch: Batch, fake: Tensor) -> tuple[Batch, Tensor]:
        """Return the batch, with the condition for `critic`, and the fakes of `generate` that D judges."""
        return batch, fake

    def of_reals(self, batch: Batch) -> Batch:
        """Return the rows of the batch whose reals D learns from."""
        return batch

    def compared(self, batch: Batch, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fakes of a drawn batch and the reals to compare them with in validation: as many of each, maybe none."""
        return fake, self.real(batch)

    def critic(self, d: nn.Module, batch: Batch) -> Critic:
        """Return D with the batch's condition: images (B, C, *S) to logits (B, …), higher = more real."""
        return d

    def judge(self, d: nn.Module, batch: Batch) -> Critic:
        """Return the critic of augmented images, as in training."""
        critic = self.critic(d, batch)
        return lambda images: critic(self.augmented(images, batch))

    def augmented(self, images: Tensor, batch: Batch) -> Tensor:
        """Return the augmented images; the real and the fake of one row are augmented alike."""
        augment = self.augment
        return images if augment is None or not augment.numbers else augment(images, batch["augment"])

    def real(self, batch: Batch) -> Tensor:
        """Return the real images (B, C, *S) of the batch."""
        return from_batch(batch, "image", "it is the real side of the game")

    def discriminator_losses(self, d: nn.Module, batch: Batch, fake: Fakes) -> Losses:
        """Return D's losses on the reals and on `fake` (detached), each turn."""
        critic, real = self.judge(d, batch), self.real(batch)
        real_logits, fake_logits = critic(real), critic(fake)
        return Losses(
            terms=self.verdict_terms(critic, batch, real, fake, real_logits, fake_logits),
            logged={"real": real_logits.mean(), "fake": fake_logits.mean(), "accuracy": accuracy(real_logits, fake_logits)},
        )

    def verdict_terms(
        self, critic: Critic, batch: Batch, real: Tensor, fake: Tensor, real_logits: Tensor, fake_logits: Tensor
    ) -> dict[str, Tensor]:
        """Return the objective of D and its regularizers on the same logits."""
        terms = {"adversarial": self.objective.discriminator(real_logits, fake_logits)}
        for name, term in self.regularizers.items():
            terms[name] = term(critic, real, fake, real_logits, fake_logits, batch.get(f"regularize_{name}"))
        return terms

    def discriminator_penalties(self, d: nn.Module, batch: Batch, fake: Fakes, turn: int) -> dict[str, Tensor]:
        """Return D's penalties on its gradient, in the turns in which they are due; `turn` counts D's steps.

        `d` is never a compiled network: torch.compile has no second derivative.
        """
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
        """Return whether G has a loss in a stage without the discriminator."""
        return False

    def content_losses(self, batch: Batch, fake: Fakes) -> Losses:
        """Return G's losses in a stage without the discriminator, if the game `has_content`."""
        raise TypeError(f"{type(self).__name__} has no loss for G without the discriminator")

    def adapt(self, accuracy: Tensor, reduce: Callable[[Tensor], Tensor], images: int, new_images: int, total_images: int) -> None:
        """Adapt augmentation and regularizers after each turn of D, by its `accuracy` on the batch; `reduce` takes the mean over ranks."""
        if self.augment is not None:
            self.augment.adapt(lambda: reduce(accuracy), images, new_images, total_images)
        for term in self.regularizers.values():
            term.adapt(reduce)

    def generator_penalties(self, g: nn.Module, batch: Batch, turn: int) -> dict[str, Tensor]:
        """Return G's penalties, independent of D; `turn` counts G's steps, `g` is never a compiled network."""
        return {}
