"""Synthesis of volumes, trained on slabs and on the whole at low resolution (HA-GAN: Sun et al. 2022, arXiv 2008.01910)."""

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.core.batch import Batch, from_batch
from medgan_pl.models.games.base import Losses
from medgan_pl.models.games.parts import Critic
from medgan_pl.models.games.synthesis import Synthesis
from medgan_pl.models.losses.adversarial import accuracy
from medgan_pl.models.networks.hagan import CELL, slab_of, thickness

VIEWS = ("slab", "low")


class Hierarchical(Synthesis):
    """Synthesis of volumes (B, C, D, H, W), trained on two views of each.

    `slab` is a part at full resolution, at a place drawn each step; `low` is the whole at 1/CELL of each axis, the reals averaged down.
    Each player's loss is the sum of the objective over the views, as for two discriminators; penalty and regularizers likewise. The
    networks are those of networks/hagan.py. We leave out the paper's encoder, a third network from images to z with a reconstruction loss:
    it provides features and stabilizes training, but G alone makes the images.
    """

    settings: ClassVar[frozenset[str]] = Synthesis.settings | {"model.slabs"}

    def __init__(self, *, slabs: int, **shared: Any) -> None:
        super().__init__(**shared)
        self.slabs = slabs
        each = {f"{name}_{view}": copy.deepcopy(term) for name, term in self.regularizers.items() for view in VIEWS}
        self.regularizers = nn.ModuleDict(each)  # each discriminator has its own state of the regularizers

    def draw(self, batch: Batch) -> Batch:
        batch = super().draw(batch)
        if "place" not in batch:
            like = next(iter(batch.values()))
            batch = {**batch, "place": torch.rand(len(like), 1, device=like.device)}
        return batch

    def play(self, g: nn.Module, batch: Batch) -> dict[str, Tensor]:
        z = from_batch(batch, "z", "the generator starts from noise")
        slab, low = g(z, self.condition(batch), batch["place"])
        return {"slab": slab, "low": low}

    def views(self, batch: Batch) -> dict[str, Tensor]:
        """Return the views of the reals that the fakes of `play` are compared with."""
        image = self.real(batch)
        return {"slab": slab_of(image, batch["place"], self.slabs), "low": F.avg_pool3d(image, CELL)}

    def critics(self, d: nn.Module, batch: Batch) -> dict[str, Critic]:
        """Return the two discriminators of augmented views."""
        condition, place = self.condition(batch), batch["place"]
        return {
            "slab": lambda slab: d(self.augmented(slab, batch), condition, place),
            "low": lambda low: d(self.augmented(low, batch), condition),
        }

    def critic(self, d: nn.Module, batch: Batch) -> Critic:
        """Return a critic of whole images (B, C, D, H, W): the mean logit of slabs that cover them, and that of the low view; (B, 2)."""
        condition = self.condition(batch)

        def judge(image: Tensor) -> Tensor:
            cells = image.shape[2] // CELL
            thick = thickness(cells, self.slabs)
            rooms = cells - thick + 1
            firsts = sorted({*range(0, rooms, thick), rooms - 1})  # the last slab ends at the volume's end
            logits = []
            for first in firsts:
                place = image.new_full((len(image), 1), (first + 0.5) / rooms)
                logits.append(d(slab_of(image, place, self.slabs), condition, place))
            return torch.stack([torch.stack(logits).mean(0), d(F.avg_pool3d(image, CELL), condition)], 1)

        return judge

    def discriminator_losses(self, d: nn.Module, batch: Batch, fake: dict[str, Tensor]) -> Losses:
        critics, reals = self.critics(d, batch), self.views(batch)
        terms, pairs = {}, []
        for view, critic in critics.items():
            pair = critic(reals[view]), critic(fake[view])
            pairs.append(pair)
            terms[f"adversarial_{view}"] = self.objective.discriminator(*pair)
            for name, term in self.regularizers.items():
                if name.endswith(f"_{view}"):
                    terms[name] = term(critic, reals[view], fake[view], *pair, batch.get(f"regularize_{name}"))
        real_logits, fake_logits = (torch.stack(logits, 1) for logits in zip(*pairs, strict=True))
        return Losses(
            terms, logged={"real": real_logits.mean(), "fake": fake_logits.mean(), "accuracy": accuracy(real_logits, fake_logits)}
        )

    def discriminator_penalties(self, d: nn.Module, batch: Batch, fake: dict[str, Tensor], turn: int) -> dict[str, Tensor]:
        if not self.penalty.due(turn):
            return {}
        critics, reals = self.critics(d, batch), self.views(batch)
        paid = [self.penalty(critic, reals[view], fake[view], batch.get("t")) for view, critic in critics.items()]
        return {"penalty": torch.stack(paid).sum()}

    def generator_losses(self, d: nn.Module, batch: Batch, fake: dict[str, Tensor]) -> Losses:
        critics = self.critics(d, batch)
        reals = self.views(batch) if self.objective.paired else {}
        terms = {}
        for view, critic in critics.items():
            real_logits = critic(reals[view]) if self.objective.paired else None
            terms[f"adversarial_{view}"] = self.objective.generator(critic(fake[view]), real_logits)
        return Losses(terms)
