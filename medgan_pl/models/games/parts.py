"""The protocols of the parts that a game is given: objective, penalty, augmentation, regularizers."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

Critic = Callable[[Tensor], Tensor]
Features = Callable[[Tensor], list[Tensor]]


@runtime_checkable
class Objective(Protocol):
    """Two losses on logits; `paired` if the generator's loss needs the real logits too. See losses/adversarial.py."""

    paired: bool

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor: ...

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Penalty(Protocol):
    """A weighted term on D's gradient in the turns that are `due`; `mixed` if it is between reals and fakes. See losses/penalties.py."""

    mixed: bool

    def due(self, step: int) -> bool: ...

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor, t: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Augmentation(Protocol):
    """The augmentation of every real and fake image before D; G gets its gradient by it. See augment.py."""

    numbers: int  # uniform random numbers that it needs for each image; 0 if it does nothing

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor: ...

    def adapt(self, accuracy: Callable[[], Tensor], images: int, new_images: int, total_images: int) -> None:
        """Adapt after each turn of D, by the images shown in all and in that turn, and by D's accuracy on its batch, over ranks.

        Every rank must call `accuracy` equally often.
        """

    def logged(self) -> dict[str, float]:
        """Return the values to log, such as the current strength."""


@runtime_checkable
class Regularizer(Protocol):
    """A weighted term on D's logits (losses/regularizers.py); `critic` augments its images, `real` and `fake` are not augmented yet."""

    numbers: int  # uniform random numbers that it needs for each image; 0 if it draws nothing

    def __call__(
        self, critic: Critic, real: Tensor, fake: Tensor, real_logits: Tensor, fake_logits: Tensor, numbers: Tensor | None
    ) -> Tensor: ...

    def adapt(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """Adapt after all parts of a turn's batch; `reduce` takes the mean over ranks, and all ranks must call it equally often."""
