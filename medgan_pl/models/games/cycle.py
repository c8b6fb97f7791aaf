"""Two domains, there and back again (CycleGAN: Zhu et al. 2017, arXiv 1703.10593)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.core.batch import Batch
from medgan_pl.models.games.base import Losses
from medgan_pl.models.games.unpaired import Unpaired, partners
from medgan_pl.models.networks.layers import space


class Cycle(Unpaired):
    """G_b(a) and G_a(b) against D_b and D_a; what is brought to the other domain and back must be what it was.

    G pays, besides the adversary, means over the images of both domains:
    - `cycle` · E|G_a(G_b(x)) - x|, x of a, and the same of b;
    - `cycle` · `identity` · E|G_b(x) - x|, x of b, and the same of a: what is there already stays. 0 for none;
    - `gradient` · (1 - the correlation of the gradients of x and G_b(x)), which holds edges in their place where the contrast is another,
      as between MR and CT. 0 for none.

    D learns from past fakes too, of a `Pool` of `pool` images of each domain, 0 for none: of `channels` and `size`. Generator and
    discriminator are `networks.pair.Pair`s. The paper adds up what each domain pays, here it is the mean, of all terms alike; it leaves
    out the half of G's least squares, so that with objective=least_squares a `cycle` of 5 is the paper's 10.

    Raises ValueError for cycle <= 0 and for other weights and a pool below 0.

    Source: eq. 1 to 3, and section 5.2 for the identity; gradients: Hiasa et al. 2018 (arXiv 1803.06629), eq. 5 and 6.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        cycle: float = 10.0,
        identity: float = 0.5,
        gradient: float = 0.0,
        pool: int = 50,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if cycle <= 0 or min(identity, gradient, pool) < 0:
            raise ValueError(
                "`cycle` must be above 0, `identity`, `gradient` and `pool` at least 0, got "
                f"{cycle}, {identity}, {gradient} and {pool}; only the way back ties a fake to its source"
            )
        self.cycle, self.identity, self.gradient = cycle, identity, gradient
        self.pool = Pool(pool, (channels, *space(size, spatial_dims))) if pool else None

    def draw(self, batch: Batch) -> Batch:
        batch = super().draw(batch)
        if self.pool is not None and "pool" not in batch:
            like = next(iter(batch.values()))
            batch = {**batch, "pool": self.pool.draw(len(like), like.device)}
        return batch

    def target(self, batch: Batch) -> Tensor:
        return 1 - self.domain(batch)

    def generate(self, g: nn.Module, batch: Batch) -> Tensor:
        return g(self.source(batch), self.target(batch))

    def play(self, g: nn.Module, batch: Batch) -> dict[str, Tensor]:
        image, domain = self.source(batch), self.domain(batch)
        row = partners(domain)
        source = image[row]
        fake = g(source, domain)
        made = {"image": fake}
        if not torch.is_grad_enabled():
            return made
        made["cycle"] = self.cycle * F.l1_loss(g(fake, domain[row]).float(), source)
        if self.identity:
            made["identity"] = self.cycle * self.identity * F.l1_loss(g(image, domain).float(), image)
        if self.gradient:
            made["gradient"] = self.gradient * (1 - gradient_correlation(source, fake)).mean()
        return made

    def shown(self, fake: dict[str, Tensor], batch: Batch) -> Tensor:
        return fake["image"] if self.pool is None else self.pool.shown(fake["image"], self.domain(batch), batch["pool"])

    def discriminator_losses(self, d: nn.Module, batch: Batch, fake: dict[str, Tensor]) -> Losses:
        if self.pool is not None:
            self.pool.note(fake["image"], self.domain(batch), batch["pool"])
        return super().discriminator_losses(d, batch, fake)

    def adapt(self, accuracy: Tensor, reduce: Callable[[Tensor], Tensor], images: int, new_images: int, total_images: int) -> None:
        super().adapt(accuracy, reduce, images, new_images, total_images)
        if self.pool is not None:
            self.pool.take_in()


class Pool(nn.Module):
    """Past fakes, `count` of each of two domains and of one `shape` (C, *S), so that D does not forget what G has left off doing.

    With even odds a fake goes to D itself, or to a place of its domain's pool drawn for it: its tenant goes to D in its stead, and it
    moves in; an empty place it takes, and goes to D too. D is shown what was there before its turn, and in the turn's end all move in: a
    batch played in parts is the same as the whole. What is not finite is not kept. In runs on several devices all have the pool of the
    first, by torch's DDP, which sends it around before each step. Buffers, saved with the run: for large volumes take a small `count`.

    Source: Shrivastava et al. 2017 (arXiv 1612.07828), section 2.3; as Zhu et al. 2017, section 4, 50 images.
    """

    images: Tensor
    full: Tensor

    def __init__(self, count: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(2, count, *shape))
        self.register_buffer("full", torch.zeros(2, count, dtype=torch.bool))
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []  # of this turn: fakes, domains and places of each part

    def draw(self, count: int, device: torch.device) -> Tensor:
        """(count,) places, below 0 for none, from the global generator."""
        places = self.full.shape[1]
        return torch.randint(-places, places, (count,), device=device)

    def shown(self, fake: Tensor, domain: Tensor, place: Tensor) -> Tensor:
        at = domain, place.clamp(min=0)
        swapped = ((place >= 0) & self.full[at]).view(-1, *[1] * (fake.ndim - 1))
        return torch.where(swapped, self.images[at].to(fake.dtype), fake)

    def note(self, fake: Tensor, domain: Tensor, place: Tensor) -> None:
        """Fakes of a part of the turn, to be taken in at its end."""
        self._seen.append((fake, domain, place.where(fake.flatten(1).isfinite().all(1), -1)))

    def take_in(self) -> None:
        for fakes, domains, places in self._seen:
            for fake, domain, place in zip(fakes, domains.tolist(), places.tolist(), strict=True):
                if place >= 0:
                    self.images[domain, place].copy_(fake)
                    self.full[domain, place] = True
        self._seen.clear()


def gradient_correlation(a: Tensor, b: Tensor) -> Tensor:
    """(B,) in [-1, 1]: the correlation of the finite differences of two images (B, C, *S) along an axis, mean over the axes; float32."""
    along = []
    for axis in range(2, a.ndim):
        slopes = [image.float().diff(dim=axis).flatten(1) for image in (a, b)]
        along.append(F.cosine_similarity(*(slope - slope.mean(1, keepdim=True) for slope in slopes), dim=1))
    return torch.stack(along).mean(0)
