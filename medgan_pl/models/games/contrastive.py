"""Translation of one domain into another by mutual information of patches, without a cycle (CUT: Park et al. 2020, arXiv 2007.15651)."""

from typing import Any

import torch
from torch import Tensor, nn

from medgan_pl.core.batch import Batch
from medgan_pl.models.games.base import Losses
from medgan_pl.models.games.parts import Critic
from medgan_pl.models.games.unpaired import Unpaired, partners


class Contrastive(Unpaired):
    """G from domain 0 to domain 1 against D(image); each place of a fake must match its own place in the source better than all others.

    Besides the adversarial loss G has the PatchNCE loss (`patch_nce`), mean over the maps of G's encoder:
    - `nce` times, between source and fake;
    - `identity` times, between an image of domain 1 and G's output for it, which prevents needless changes; 0 switches it off.

    `patches` places of each image are compared, drawn for each step and each image; the paper has the same places for all images. The
    generator is `networks.patches.PatchTranslator`; it and the heads learn from the fake's side, the source's side is detached, as in the
    authors' code. It needs compile=false: a compiled network returns only its images. `generate` applies G to images of domain 1 too.

    Raise ValueError for nce <= 0, identity < 0, patches < 2, or temperature <= 0.

    Source: eq. 3 to 5, with their weights of 1 and 1, 256 places and a temperature of 0.07.
    """

    def __init__(self, *, nce: float = 1.0, identity: float = 1.0, patches: int = 256, temperature: float = 0.07, **shared: Any) -> None:
        super().__init__(**shared)
        if nce <= 0 or identity < 0 or patches < 2 or temperature <= 0:
            raise ValueError(
                "`nce` and `temperature` must be above 0, `identity` at least 0 and `patches` at least 2, got "
                f"{nce}, {temperature}, {identity} and {patches}"
            )
        self.nce, self.identity, self.patches, self.temperature = nce, identity, patches, temperature

    def draw(self, batch: Batch) -> Batch:
        batch = super().draw(batch)
        if "patches" not in batch:
            like = next(iter(batch.values()))
            batch = {**batch, "patches": torch.rand(len(like), self.patches, device=like.device)}
        return batch

    def target(self, batch: Batch) -> Tensor:
        return torch.ones_like(self.domain(batch))

    def generate(self, g: nn.Module, batch: Batch) -> Tensor:
        return g(self.source(batch))

    def critic(self, d: nn.Module, batch: Batch) -> Critic:
        return d

    def of_reals(self, batch: Batch) -> Batch:
        """Return the rows of domain 1, which the fakes of `play` are compared with."""
        rows = self.domain(batch) == 1
        return {key: value[rows] for key, value in batch.items()}

    def play(self, g: nn.Module, batch: Batch) -> dict[str, Tensor]:
        domain, reals = self.domain(batch), self.of_reals(batch)
        source = self.source(batch)[partners(domain)[domain == 1]]
        fake = g(source)
        made = {"image": fake}
        if not torch.is_grad_enabled():
            return made
        numbers = reals["patches"]
        made["nce"] = self.nce * self.contrast(g, source, fake, numbers)
        if self.identity:
            made["identity"] = self.identity * self.contrast(g, reals["image"], g(reals["image"]), numbers)
        return made

    def contrast(self, g: nn.Module, source: Tensor, fake: Tensor, numbers: Tensor) -> Tensor:
        """Return PatchNCE between the maps of both, mean over the maps."""
        losses = []
        for (query, places), (key, _) in zip(g.patches(fake, numbers), g.patches(source, numbers), strict=True):
            losses.append(patch_nce(query, key.detach(), places, self.temperature))
        return torch.stack(losses).mean()

    def discriminator_losses(self, d: nn.Module, batch: Batch, fake: dict[str, Tensor]) -> Losses:
        return super().discriminator_losses(d, self.of_reals(batch), fake)

    def discriminator_penalties(self, d: nn.Module, batch: Batch, fake: dict[str, Tensor], turn: int) -> dict[str, Tensor]:
        return super().discriminator_penalties(d, self.of_reals(batch), fake, turn)

    def generator_losses(self, d: nn.Module, batch: Batch, fake: dict[str, Tensor]) -> Losses:
        return super().generator_losses(d, self.of_reals(batch), fake)


def patch_nce(query: Tensor, key: Tensor, places: Tensor, temperature: float) -> Tensor:
    """Return -log(exp(q_i · k_i / τ) / Σ_j exp(q_i · k_j / τ)), mean over places i and images; float32, outside autocast.

    query, key (B, P, F) of length 1, at `places` (B, P) of both images; j are the places of the same image. A place drawn twice is no
    negative of itself. Source: eq. 3 and 4.
    """
    with torch.autocast(query.device.type, enabled=False):
        logits = query.float() @ key.float().transpose(1, 2) / temperature  # (B, P, P)
    itself = torch.eye(places.shape[1], dtype=torch.bool, device=places.device)
    logits = logits.masked_fill((places[:, :, None] == places[:, None]) & ~itself, -torch.inf)
    return -logits.log_softmax(2).diagonal(dim1=1, dim2=2).mean()
