"""One generator for any number of domains, with style from noise or a reference (StarGAN v2: Choi et al. 2020, arXiv 1912.01865)."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.core.batch import Batch, from_batch
from medgan_pl.core.counts import whole_number
from medgan_pl.models.games.unpaired import Unpaired, distance
from medgan_pl.models.schedules import Constant

if TYPE_CHECKING:
    from medgan_pl.data.protocol import Data


class Star(Unpaired):
    """G(image, style) against D(image, domain); a style comes from an image of the domain or from noise z.

    Besides the adversarial loss G has these terms, for the fake G(x, s) of x in a random domain y, maybe x's own:
    - `style` · E|s - style_of_image(G(x, s), y)|: the fake has the style;
    - -`diversity` · E|G(x, s) - G(x, s')|, s' from other noise: styles differ; times `schedule_diversity`(images shown, total_images); in
      the paper it falls linearly to 0 (`schedules.Linear(decay_from=0, final=0)`). s' is detached, which saves a graph;
    - `cycle` · E|G(G(x, s), style_of_image(x, its domain)) - x|: the rest stays.

    `referred`: the share of training images with the style of a reference, the real image of the same row, and not of noise. The paper's
    text has 0; in inference both are used. `latent`: numbers of z. `domains`: their number. The generator is `networks.star.StarNetworks`,
    the discriminator `StarDiscriminator`; it needs compile=false, as the generator is three networks.

    In training, the source of row i is a randomly drawn other row, `source`, of the domain `source_label`; the generator translates it into
    row i's domain. `generate` translates each image to `target`, drawn among the other domains unless the batch has it, in the style of
    the batch's `reference` (B, C, *S) of that domain, or else of z.

    Raise ValueError for fewer than 2 domains, weights below 0, cycle or style 0, or `referred` outside [0, 1].

    Source: section 2.2, eq. 1 to 5, with their weights for CelebA-HQ; their penalty is R1 of weight 1, their objective non-saturating.
    """

    reads: ClassVar[frozenset[str]] = Unpaired.reads | {"inside"}
    settings: ClassVar[frozenset[str]] = Unpaired.settings | {"model.domains", "model.latent"}
    needs: ClassVar[Mapping[str, Sequence[str]]] = MappingProxyType({"schedule_diversity": ("diversity",)})
    strength: Tensor

    def __init__(
        self,
        *,
        domains: int,
        latent: int,
        style: float = 1.0,
        diversity: float = 1.0,
        cycle: float = 1.0,
        referred: float = 0.5,
        schedule_diversity: Callable[[int, int], float] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        whole_number("domains", domains, 2, "name them in data.domains")
        if min(style, cycle) <= 0 or diversity < 0 or not 0 <= referred <= 1:
            raise ValueError(
                "`style` and `cycle` must be above 0, `diversity` at least 0 and `referred` in [0, 1], got "
                f"{style}, {cycle}, {diversity} and {referred}"
            )
        self.domains, self.latent, self.referred = domains, latent, referred
        self.style, self.diversity, self.cycle = style, diversity, cycle
        self.schedule_diversity = schedule_diversity or Constant()
        self.register_buffer("strength", torch.tensor(float(self.schedule_diversity(0, 1))))  # current factor on `diversity`

    @classmethod
    def check_data(cls, settings: Mapping[str, Any], data: "Data") -> None:
        """Raise ValueError unless the data have as many domains as the game."""
        domains, found = settings["domains"], len(data.classes)
        if domains != found:
            raise ValueError(f"`model.domains` must be the number of data.domains, got {domains}; use model.domains={found}")

    def draw(self, batch: Batch) -> Batch:
        batch = super().draw(batch)
        domain = self.domain(batch)
        count, device = len(domain), domain.device
        drawn = {
            "z": lambda: torch.randn(count, self.latent, device=device),
            "z_other": lambda: torch.randn(count, self.latent, device=device),
            "target": lambda: (domain + torch.randint(1, self.domains, (count,), device=device)) % self.domains,
            "referred": lambda: torch.rand(count, device=device),
        }
        batch = batch | {key: make() for key, make in drawn.items() if key not in batch}
        if "source" not in batch:  # here, not in `play`, so that the parts of a batch equal the whole
            row = torch.randperm(count, device=device)
            batch |= {"source": self.source(batch)[row], "source_label": domain[row]}
            batch |= {"source_inside": batch["inside"][row]} if "inside" in batch else {}
        return batch

    def target(self, batch: Batch) -> Tensor:
        return from_batch(batch, "target", "it is the target domain of each image")

    def generate(self, g: nn.Module, batch: Batch) -> Tensor:
        target = self.target(batch)
        if "reference" in batch:
            style = g.style_of_image(batch["reference"], target)
        else:
            style = g.style_of_noise(from_batch(batch, "z", "without a reference the style comes from noise"), target)
        return g.translate(self.source(batch), style)

    def play(self, g: nn.Module, batch: Batch) -> dict[str, Tensor]:
        image, domain = self.source(batch), self.domain(batch)
        source, origin = batch["source"], batch["source_label"]
        style = g.style_of_noise(batch["z"], domain)
        if self.referred:
            style = torch.where((batch["referred"] < self.referred)[:, None], g.style_of_image(image, domain), style)
        fake, inside = g.translate(source, style), batch.get("source_inside")
        made = {"image": fake}
        if not torch.is_grad_enabled():
            return made
        made["style"] = self.style * F.l1_loss(g.style_of_image(fake, domain).float(), style.float())
        if self.diversity:
            with torch.no_grad():
                other = g.translate(source, g.style_of_noise(batch["z_other"], domain))
            made["diversity"] = -self.diversity * self.strength.clone() * distance(fake.float(), other.float(), inside)
        back = g.translate(fake, g.style_of_image(source, origin))
        made["cycle"] = self.cycle * distance(back.float(), source, inside)
        return made

    def adapt(self, accuracy: Tensor, reduce: Callable[[Tensor], Tensor], images: int, new_images: int, total_images: int) -> None:
        super().adapt(accuracy, reduce, images, new_images, total_images)
        self.strength.fill_(self.schedule_diversity(images, total_images))
