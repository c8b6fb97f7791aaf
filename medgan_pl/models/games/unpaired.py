"""The base of games between domains without pairs: no image has a known counterpart, and patients may differ between domains."""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.core.batch import Batch, from_batch
from medgan_pl.models.games.base import Game, Losses
from medgan_pl.models.games.parts import Critic
from medgan_pl.models.losses.structure import mean_inside


class Unpaired(Game):
    """Translation of images between domains; a batch has `image` (B, C, *S) and `label` (B,), the domain, with as many of each domain.

    `play` returns {"image": fakes, name: a further loss of G, …}; these losses need further passes of G and are computed only in G's turn.
    There the fake of a row is in the row's domain, made from another row. So the fake and the real of a row have one domain, and objective,
    penalty and regularizers are those of any game. In `generate` a fake is in the row of its source, and `of_fakes` gives D its domain.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"image", "label"})
    sourced: ClassVar[bool] = True
    domains: int = 2

    def source(self, batch: Batch) -> Tensor:
        """Return the input of G (B, C, *S)."""
        return from_batch(batch, "image", "it is translated to another domain")

    def domain(self, batch: Batch) -> Tensor:
        return from_batch(batch, "label", "it is the domain of each image; use data=domains")

    @abstractmethod
    def target(self, batch: Batch) -> Tensor:
        """Return the domain (B,) into which `generate` translates each image."""

    def of_fakes(self, batch: Batch, fake: Tensor) -> tuple[Batch, Tensor]:
        domain, target = self.domain(batch), self.target(batch)
        moved = target != domain
        return {key: value[moved] for key, value in {**batch, "label": target}.items()}, fake[moved]

    def compared(self, batch: Batch, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images translated to the last domain, and reals of that domain.

        With both directions together, a G that changes nothing would be nearest to the reals.
        """
        domain, target, last = self.domain(batch), self.target(batch), self.domains - 1
        fakes, reals = fake[(target == last) & (domain != last)], self.real(batch)[domain == last]
        count = min(len(fakes), len(reals))
        return fakes[:count], reals[:count]

    def critic(self, d: nn.Module, batch: Batch) -> Critic:
        domain = self.domain(batch)
        return lambda images: d(images, domain)

    def shown(self, fake: dict[str, Tensor], batch: Batch) -> Tensor:
        """Return the fakes that D learns from."""
        return fake["image"]

    def discriminator_losses(self, d: nn.Module, batch: Batch, fake: dict[str, Tensor]) -> Losses:
        return super().discriminator_losses(d, batch, self.shown(fake, batch))

    def discriminator_penalties(self, d: nn.Module, batch: Batch, fake: dict[str, Tensor], turn: int) -> dict[str, Tensor]:
        return super().discriminator_penalties(d, batch, self.shown(fake, batch), turn)

    def generator_losses(self, d: nn.Module, batch: Batch, fake: dict[str, Tensor]) -> Losses:
        losses = super().generator_losses(d, batch, fake["image"])
        return Losses(losses.terms | {name: term for name, term in fake.items() if name != "image"}, losses.logged)


def partners(domain: Tensor) -> Tensor:
    """Return for each row (B,) of {0, 1} a row of the other domain: the k-th of one domain is paired with the k-th of the other.

    Raise ValueError unless there are as many of each.
    """
    half, ones = len(domain) // 2, int(domain.sum())
    if len(domain) % 2 or ones != half or not ((domain == 0) | (domain == 1)).all():
        raise ValueError(
            f"a batch, and each of its `accumulate` parts, must hold as many images of domain 0 as of domain 1, got {domain.tolist()}; "
            "use data=domains with two domains and a data.batch_size that is a multiple of 2 · accumulate"
        )
    order = domain.argsort(stable=True)
    return order.roll(half)[order.argsort()]


def distance(a: Tensor, b: Tensor, inside: Tensor | None = None) -> Tensor:
    """Return E|a - b| over images (B, C, *S), each where `inside` (B, 1, *S) is 1, which is what is no padding; None: everywhere."""
    return F.l1_loss(a, b) if inside is None else mean_inside((a - b).abs(), inside, empty=0.0).mean()
