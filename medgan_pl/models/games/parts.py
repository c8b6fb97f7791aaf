"""The protocols of the parts that a game is given: objective, penalty, augmentation, regularizers."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

Critic = Callable[[Tensor], Tensor]
Features = Callable[[Tensor], list[Tensor]]


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


@runtime_checkable
class Augmentation(Protocol):
    """The augmentation of every image on its way to D, real and fake alike; G learns through it. See augment.py."""

    numbers: int  # uniform random numbers it takes for each image; 0 where it does nothing

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor: ...

    def adapt(self, accuracy: Callable[[], Tensor], images: int, new_images: int, total_images: int) -> None:
        """Told after each turn of D how many images were shown, in all and in that turn; `accuracy` asks for D's on its batch, over ranks:
        every rank must ask alike."""

    def watch(self) -> dict[str, float]:
        """Return what is to be logged, such as the present strength."""


@runtime_checkable
class Regularizer(Protocol):
    """A weighted term on D's verdicts, a module for the state it may have; see losses/regularizers.py. `critic` stands behind the
    augmentation, `real` and `fake` before it."""

    numbers: int  # uniform random numbers it takes for each image; 0 where it draws nothing

    def __call__(
        self, critic: Critic, real: Tensor, fake: Tensor, real_logits: Tensor, fake_logits: Tensor, numbers: Tensor | None
    ) -> Tensor: ...

    def adapt(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """Told after each turn of D that all parts of its batch were seen; `reduce` takes the mean over ranks, and all must ask alike."""
