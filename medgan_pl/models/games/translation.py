"""Paired image translation: super-resolution, inpainting, dehazing, denoising, another modality, segmentation (Isola et al. 2017).

The data define the task (data.degrade, data.beside); `extras` defines G's losses besides the adversarial one. The game is the same for all.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.core.batch import Batch, from_batch
from medgan_pl.data.masks import as_image, keep_known
from medgan_pl.models.games.base import Fakes, Game, Losses
from medgan_pl.models.games.parts import Critic, Features
from medgan_pl.models.losses.image import ImageLoss

if TYPE_CHECKING:
    from medgan_pl.data.protocol import Data


class Translation(Game):
    """G(source) against D(source, image), and against the target image.

    - `extras`: name -> a loss `(fake, real, features)` of G (losses/image.py) besides the adversarial one; `features` maps images to D's
      maps. At least one is needed: D alone does not define the target image.
    - `keep_known`: pixels of the source are kept where its last channel marks nothing as missing (inpainting).
    - `conditional`: D also sees the source, enlarged to the image's size if it is smaller; the discriminator then has the channels of
      both, image first.

    Source: Isola et al. 2017 (arXiv 1611.07004), eq. 1 to 4, without their noise, which G learns to ignore (their section 3.1); only
    dropout, if G has it, is random.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"image", "source", "inside"})
    settings: ClassVar[frozenset[str]] = Game.settings | {"extras"}
    paired: ClassVar[bool] = True
    sourced: ClassVar[bool] = True

    def __init__(self, *, extras: Mapping[str, nn.Module], conditional: bool = True, keep_known: bool = False, **shared: Any) -> None:
        super().__init__(**shared)
        if not extras:
            raise ValueError("`extras` must hold a term between fake and real, such as extra=l1; D alone does not define the target image")
        for name, extra in extras.items():
            if not isinstance(extra, nn.Module):  # an experiment's settings of a term that the command line removed
                raise ValueError(
                    f"`extras.{name}` must be a loss, got only its settings, {extra}; add it by extra=[…,{name}], or remove them by "
                    f"~extras.{name}"
                )
        self.extras, self.conditional, self.keep_known = nn.ModuleDict(extras), conditional, keep_known

    @classmethod
    def check_data(cls, settings: Mapping[str, Any], data: "Data") -> None:
        """Raise ValueError if the game keeps what the source knows, and the source of the data does not say what that is."""
        if settings.get("keep_known") and not data.marks_holes:
            raise ValueError(
                "game.keep_known=true needs a source that is its image but for the holes it tells of, degrade@data.degrade=inpainting "
                "or missing_slices without data.beside.source; use game.keep_known=false"
            )

    def source(self, batch: Batch) -> Tensor:
        """Return the input of G (B, C', *S')."""
        return from_batch(batch, "source", "G makes each image from its source; set data.degrade or data.beside.source")

    def generate(self, g: nn.Module, batch: Batch) -> Tensor:
        source = self.source(batch)
        made = g(source)
        return keep_known(source, made) if self.keep_known else made

    def critic(self, d: nn.Module, batch: Batch) -> Critic:
        return lambda images: d(self.shown(images, batch))

    def judge(self, d: nn.Module, batch: Batch) -> Critic:
        return lambda images: d(self.augmented(self.shown(images, batch), batch))

    def shown(self, images: Tensor, batch: Batch) -> Tensor:
        """Return D's input for images: with `conditional` the source in further channels, so that both are augmented alike."""
        if not self.conditional:
            return images
        source = self.source(batch).to(images.dtype)
        if source.shape[2:] != images.shape[2:]:
            source = F.interpolate(source, images.shape[2:], mode="nearest")
        return torch.cat([images, source], 1)

    def features(self, d: nn.Module, batch: Batch) -> Features:
        """Return a function from images to D's maps, as `judge` sees them. It raises ValueError if D has no maps."""

        def look(images: Tensor) -> list[Tensor]:
            if not hasattr(d, "features"):
                raise ValueError(f"extra=feature_matching needs a D with features, such as PatchDiscriminator; {type(d).__name__} has none")
            return d.features(self.augmented(self.shown(images, batch), batch))

        return look

    def generator_losses(self, d: nn.Module, batch: Batch, fake: Fakes) -> Losses:
        losses, features = super().generator_losses(d, batch, fake), self.features(d, batch)
        terms = {name: self.term(extra, fake, batch, features) for name, extra in self.extras.items()}
        return Losses(losses.terms | terms, losses.logged)

    def term(self, extra: nn.Module, fake: Tensor, batch: Batch, features: Features | None) -> Tensor:
        """Return one of the `extras`; padding of the batch's images takes no part in it."""
        real, inside = self.real(batch), batch.get("inside")
        if inside is None:
            return extra(fake, real, features)
        if isinstance(extra, ImageLoss):
            return extra(fake, real, features, inside)
        return extra(torch.where(inside > 0, fake, real), real, features)

    @property
    def has_content(self) -> bool:
        return bool(self.without_critic())

    def content_losses(self, batch: Batch, fake: Fakes) -> Losses:
        """Return the extras that do not use D."""
        return Losses({name: self.term(extra, fake, batch, None) for name, extra in self.without_critic().items()})

    def without_critic(self) -> dict[str, nn.Module]:
        return {name: extra for name, extra in self.extras.items() if not extra.of_critic}


class Segmentation(Translation):
    """G(image) against D(image, masks): G makes one channel in [-1, 1] for each structure; (1 + fake) / 2 is its probability."""

    reads: ClassVar[frozenset[str]] = frozenset({"image", "mask", "inside"})
    segments: ClassVar[bool] = True

    def source(self, batch: Batch) -> Tensor:
        return from_batch(batch, "image", "it is the image to segment")

    def real(self, batch: Batch) -> Tensor:
        return as_image(from_batch(batch, "mask", "a segmentation is compared with it; set data.beside.mask"))
