"""Translation between two domains with cycle consistency (CycleGAN: Zhu et al. 2017, arXiv 1703.10593)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.core.batch import Batch
from medgan_pl.models.games.base import Losses
from medgan_pl.models.games.unpaired import Unpaired, distance, partners
from medgan_pl.models.losses.structure import mean_inside
from medgan_pl.models.networks.layers import space


class Cycle(Unpaired):
    """G_b(a) and G_a(b) against D_b and D_a; an image translated to the other domain and back must equal itself.

    Besides the adversarial loss G has these terms, means over the images of both domains:
    - `cycle` · E|G_a(G_b(x)) - x|, x of a, and the same for b;
    - `cycle` · `identity` · E|G_b(x) - x|, x of b, and the same for a: images of the target domain stay. 0 switches it off;
    - `gradient` · (1 - the correlation of the gradients of x and G_b(x)), which keeps edges in place when the contrast changes, as between
      MR and CT. 0 switches it off.

    D also learns from past fakes in a `Pool` of `pool` images of each domain (0: no pool) of `channels` and `size`. Generator and
    discriminator are `networks.pair.Pair`s. The paper sums the losses of the domains; we take the mean of every term. The paper omits the
    half in G's least squares, so with objective=least_squares a `cycle` of 5 is the paper's 10.

    Raise ValueError for cycle <= 0, or another weight or a pool below 0.

    Source: eq. 1 to 3, and section 5.2 for the identity; gradients: Hiasa et al. 2018 (arXiv 1803.06629), eq. 5 and 6.
    """

    reads: ClassVar[frozenset[str]] = Unpaired.reads | {"inside"}

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
                f"{cycle}, {identity}, {gradient} and {pool}; only the cycle loss ties a fake to its source"
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
        inside = batch.get("inside")
        origin = None if inside is None else inside[row]
        made["cycle"] = self.cycle * distance(g(fake, domain[row]).float(), source, origin)
        if self.identity:
            made["identity"] = self.cycle * self.identity * distance(g(image, domain).float(), image, inside)
        if self.gradient:
            made["gradient"] = self.gradient * (1 - gradient_correlation(source, fake, origin)).mean()
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
    """A pool of past fakes, `count` of each of two domains, of one `shape` (C, *S), so that D does not forget G's earlier artifacts.

    With probability 1/2 a fake is swapped with the pool's fake at a random place of its domain, and D sees the old one; at an empty place
    it is stored, and D sees the new one. Otherwise D sees the fake. Within a turn D sees the pool from before the turn, and all fakes are
    stored at its end, so that a batch accumulated in parts equals the whole. Fakes that are not finite are not stored. With several
    devices, DDP broadcasts the first one's pool before each step. The pool is in buffers, saved with the run: use a small `count` for large
    volumes.

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
        """Return (count,) places, below 0 for none, from the global generator."""
        places = self.full.shape[1]
        return torch.randint(-places, places, (count,), device=device)

    def shown(self, fake: Tensor, domain: Tensor, place: Tensor) -> Tensor:
        at = domain, place.clamp(min=0)
        swapped = ((place >= 0) & self.full[at]).view(-1, *[1] * (fake.ndim - 1))
        return torch.where(swapped, self.images[at].to(fake.dtype), fake)

    def note(self, fake: Tensor, domain: Tensor, place: Tensor) -> None:
        """Note the fakes of a part of the turn, to store them at its end."""
        self._seen.append((fake, domain, place.where(fake.flatten(1).isfinite().all(1), -1)))

    def take_in(self) -> None:
        for fakes, domains, places in self._seen:
            for fake, domain, place in zip(fakes, domains.tolist(), places.tolist(), strict=True):
                if place >= 0:
                    self.images[domain, place].copy_(fake)
                    self.full[domain, place] = True
        self._seen.clear()


def gradient_correlation(a: Tensor, b: Tensor, inside: Tensor | None = None) -> Tensor:
    """Return the correlation (B,) in [-1, 1] of two images' finite differences along an axis, mean over axes; (B, C, *S), float32.

    Differences count where both neighbors are image, which is where `inside` (B, 1, *S) is 1; None: everywhere.
    """
    along = []
    for axis in range(2, a.ndim):
        slopes = [image.float().diff(dim=axis) for image in (a, b)]
        if inside is None:
            centered = [slope.flatten(1) - slope.flatten(1).mean(1, keepdim=True) for slope in slopes]
        else:
            both = inside.unfold(axis, 2, 1).amin(-1)
            means = [mean_inside(slope, both, empty=0.0).view(-1, *[1] * (a.ndim - 1)) for slope in slopes]
            centered = [torch.where(both > 0, slope - mean, 0).flatten(1) for slope, mean in zip(slopes, means, strict=True)]
        along.append(F.cosine_similarity(*centered, dim=1))
    return torch.stack(along).mean(0)
