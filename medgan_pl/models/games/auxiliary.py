"""Conditional synthesis by a discriminator that names the condition (AC-GAN: Odena et al. 2017, arXiv 1610.09585)."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.core.batch import Batch
from medgan_pl.models.games.base import Losses
from medgan_pl.models.games.parts import Critic
from medgan_pl.models.games.synthesis import Synthesis
from medgan_pl.models.losses.adversarial import accuracy

UNKNOWN = -100  # the label that cross_entropy passes over


class AuxiliaryClassifier(Synthesis):
    """Synthesis whose D is not told the condition but names it; both players pay for a condition that D does not find.

    D's last layer is `networks.layers.AuxiliaryHead`: a logit, class logits, covariates. Each pays `weight` × (cross-entropy of the class +
    mean squared error of the standardised covariates): D on the reals, G on the fakes; D on the fakes too, at `fake_weight` of that. The
    paper has 1 there; 0 keeps D from agreeing with G on caricatures that name themselves well.

    Raises ValueError for weight <= 0, fake_weight < 0, and a D that does not answer with 1 + classes + covariates numbers.
    """

    needs: ClassVar[Mapping[str, Sequence[str]]] = MappingProxyType(dict.fromkeys(("weight", "fake_weight"), ("classes", "covariates")))

    def __init__(self, *, weight: float = 1.0, fake_weight: float = 0.0, **shared: Any) -> None:
        super().__init__(**shared)
        if weight <= 0 or fake_weight < 0:
            raise ValueError(f"`weight` must be above 0 and `fake_weight` at least 0, got {weight} and {fake_weight}")
        self.weight, self.fake_weight = weight, fake_weight

    def critic(self, d: nn.Module, batch: Batch) -> Critic:
        return lambda image: self.answer(d, image)[:, 0]

    def answer(self, d: nn.Module, image: Tensor) -> Tensor:
        """Return D's answer to images: (B, 1 + classes + covariates)."""
        told, wanted = d(image), 1 + self.classes + len(self.covariates)
        if told.ndim != 2 or told.shape[1] != wanted:
            raise ValueError(
                f"game=auxiliary needs a discriminator that answers with {wanted} numbers an image, a logit and the condition, got "
                f"{tuple(told.shape[1:])}; take model=acgan, or another with AuxiliaryHead for its head"
            )
        return told

    def naming(self, d: nn.Module, batch: Batch) -> Critic:
        """The whole answer as the players meet it, behind the augmentation."""
        return lambda image: self.answer(d, self.augmented(image, batch))

    def discriminator_losses(self, d: nn.Module, batch: Batch, fake: Tensor) -> Losses:
        naming, real = self.naming(d, batch), self.real(batch)
        told_real, told_fake = naming(real), naming(fake)
        real_logits, fake_logits = told_real[:, 0], told_fake[:, 0]
        terms = self.verdict_terms(self.judge(d, batch), batch, real, fake, real_logits, fake_logits)
        terms["naming"] = self.weight * (self.misnamed(told_real, batch) + self.fake_weight * self.misnamed(told_fake, batch))
        return Losses(terms, watch={"real": real_logits.mean(), "fake": fake_logits.mean(), "accuracy": accuracy(real_logits, fake_logits)})

    def generator_losses(self, d: nn.Module, batch: Batch, fake: Tensor) -> Losses:
        naming = self.naming(d, batch)
        told = naming(fake)
        real_logits = naming(self.real(batch))[:, 0] if self.objective.paired else None
        terms = {"adversarial": self.objective.generator(told[:, 0], real_logits)}
        return Losses(terms | {"naming": self.weight * self.misnamed(told, batch)})

    def misnamed(self, told: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the known classes plus squared error of the known covariates, each a mean over all that there are to name: what
        is unknown counts 0, so that parts of a batch add up to it."""
        told = told.float()
        loss = 0 * told[:, 1:].sum()  # the graph, also where a batch knows nothing
        if self.classes:
            label = batch["label"]
            loss = loss + F.cross_entropy(told[:, 1 : 1 + self.classes], label.where(label >= 0, UNKNOWN), reduction="none").mean()
        if self.covariates:
            values = batch["covariates"]
            known = values.isfinite()
            loss = loss + ((told[:, 1 + self.classes :] - values.where(known, 0.0)) * known).square().mean()
        return loss
