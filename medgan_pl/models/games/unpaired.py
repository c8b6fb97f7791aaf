"""The base of games between domains without pairs: no image's own counterpart is known, and patients may differ between domains."""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from medgan_pl.core.batch import Batch, from_batch
from medgan_pl.models.games.base import Game, Losses
from medgan_pl.models.games.parts import Critic


class Unpaired(Game):
    """Images of one domain made into images of another; a batch is `image` (B, C, *S) and `label` (B,), the domain, as many of each.

    What is learnt from, `play`, is {"image": fakes, name: a term that G pays besides, …}: the terms need further passes of G, and are made
    only where G learns. There a fake stands in a row of the domain that it was brought to, made of another row: so fakes and reals of one
    row are judged as of one domain, and objective, penalty and regularisers are those of any game. In `generate` it stands in the row of
    the image that it was made of, and `of_fakes` says what D is then to be told.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"image", "label"})
    sourced: ClassVar[bool] = True
    domains: int = 2

    def source(self, batch: Batch) -> Tensor:
        """Return the input of G (B, C, *S)."""
        return from_batch(batch, "image", "it is what is brought to another domain")

    def domain(self, batch: Batch) -> Tensor:
        return from_batch(batch, "label", "it is the domain of each image; use data=domains")

    @abstractmethod
    def target(self, batch: Batch) -> Tensor:
        """The domain (B,) to which `generate` brings each image."""

    def of_fakes(self, batch: Batch, fake: Tensor) -> tuple[Batch, Tensor]:
        domain, target = self.domain(batch), self.target(batch)
        moved = target != domain
        return {key: value[moved] for key, value in {**batch, "label": target}.items()}, fake[moved]

    def compared(self, batch: Batch, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Return what was brought to the last domain, and reals of that domain. Both ways together would be nearest to the reals where G
        does nothing."""
        domain, target, last = self.domain(batch), self.target(batch), self.domains - 1
        fakes, reals = fake[(target == last) & (domain != last)], self.real(batch)[domain == last]
        count = min(len(fakes), len(reals))
        return fakes[:count], reals[:count]

    def critic(self, d: nn.Module, batch: Batch) -> Critic:
        domain = self.domain(batch)
        return lambda images: d(images, domain)

    def shown(self, fake: dict[str, Tensor], batch: Batch) -> Tensor:
        """The fakes that D learns from."""
        return fake["image"]

    def discriminator_losses(self, d: nn.Module, batch: Batch, fake: dict[str, Tensor]) -> Losses:
        return super().discriminator_losses(d, batch, self.shown(fake, batch))

    def discriminator_penalties(self, d: nn.Module, batch: Batch, fake: dict[str, Tensor], turn: int) -> dict[str, Tensor]:
        return super().discriminator_penalties(d, batch, self.shown(fake, batch), turn)

    def generator_losses(self, d: nn.Module, batch: Batch, fake: dict[str, Tensor]) -> Losses:
        losses = super().generator_losses(d, batch, fake["image"])
        return Losses(losses.terms | {name: term for name, term in fake.items() if name != "image"}, losses.watch)


def partners(domain: Tensor) -> Tensor:
    """For each row (B,) of {0, 1} one of the other domain: the k-th of either changes places with the k-th of the other.

    Raises ValueError unless there are as many of each.
    """
    half, ones = len(domain) // 2, int(domain.sum())
    if len(domain) % 2 or ones != half or not ((domain == 0) | (domain == 1)).all():
        raise ValueError(
            f"a batch, and each of its `accumulate` parts, must hold as many images of domain 0 as of domain 1, got {domain.tolist()}; "
            "use data=domains with two domains and a data.batch_size that is a multiple of 2 · accumulate"
        )
    order = domain.argsort(stable=True)
    return order.roll(half)[order.argsort()]
