"""Conditional synthesis with a discriminator that predicts the condition (AC-GAN: Odena et al. 2017, arXiv 1610.09585)."""

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

UNKNOWN = -100  # the label that cross_entropy ignores


class AuxiliaryClassifier(Synthesis):
    """Synthesis whose D predicts the condition instead of receiving it; both players have a loss on D's prediction.

    D's last layer is `networks.layers.AuxiliaryHead`: a logit, class logits, covariates. The loss is `weight` × (cross-entropy of the class
    + mean squared error of the standardized covariates), for D on the reals and for G on the fakes; D also has it on the fakes, times
    `fake_weight`. The paper has 1 there; 0 keeps D and G from agreeing on caricatures that are easy to classify.

    Raise ValueError for weight <= 0, fake_weight < 0, or a D that does not return 1 + classes + covariates numbers.
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
        """Return D's output for images: (B, 1 + classes + covariates)."""
        output, wanted = d(image), 1 + self.classes + len(self.covariates)
        if output.ndim != 2 or output.shape[1] != wanted:
            raise ValueError(
                f"game=auxiliary needs a discriminator that returns {wanted} numbers an image, a logit and the condition, got "
                f"{tuple(output.shape[1:])}; use model=acgan, or another with AuxiliaryHead as its head"
            )
        return output

    def augmented_answer(self, d: nn.Module, batch: Batch) -> Critic:
        """Return a function from images to D's whole output for the augmented images."""
        return lambda image: self.answer(d, self.augmented(image, batch))

    def discriminator_losses(self, d: nn.Module, batch: Batch, fake: Tensor) -> Losses:
        answer, real = self.augmented_answer(d, batch), self.real(batch)
        real_output, fake_output = answer(real), answer(fake)
        real_logits, fake_logits = real_output[:, 0], fake_output[:, 0]
        terms = self.verdict_terms(self.judge(d, batch), batch, real, fake, real_logits, fake_logits)
        terms["naming"] = self.weight * (
            self.prediction_loss(real_output, batch) + self.fake_weight * self.prediction_loss(fake_output, batch)
        )
        return Losses(
            terms, logged={"real": real_logits.mean(), "fake": fake_logits.mean(), "accuracy": accuracy(real_logits, fake_logits)}
        )

    def generator_losses(self, d: nn.Module, batch: Batch, fake: Tensor) -> Losses:
        answer = self.augmented_answer(d, batch)
        output = answer(fake)
        real_logits = answer(self.real(batch))[:, 0] if self.objective.paired else None
        terms = {"adversarial": self.objective.generator(output[:, 0], real_logits)}
        return Losses(terms | {"naming": self.weight * self.prediction_loss(output, batch)})

    def prediction_loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy of the classes plus the squared error of the covariates.

        Each is a mean in which an unknown value counts 0, so that parts of a batch add up to the whole.
        """
        output = output.float()
        loss = 0 * output[:, 1:].sum()  # keeps the graph if all values of a batch are unknown
        if self.classes:
            label = batch["label"]
            loss = loss + F.cross_entropy(output[:, 1 : 1 + self.classes], label.where(label >= 0, UNKNOWN), reduction="none").mean()
        if self.covariates:
            values = batch["covariates"]
            known = values.isfinite()
            loss = loss + ((output[:, 1 + self.classes :] - values.where(known, 0.0)) * known).square().mean()
        return loss
