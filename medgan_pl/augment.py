"""Differentiable augmentation in front of the discriminator, of real and fake alike: what makes few images last."""

from collections.abc import Callable

from torch import Tensor, nn


class NoAugmentation(nn.Module):
    """Images as they are."""

    numbers = 0

    def forward(self, images: Tensor, numbers: Tensor) -> Tensor:
        return images

    def adapt(self, accuracy: Callable[[], float], images: int, new_images: int, total_images: int) -> None:
        """Nothing to adapt."""

    def watch(self) -> dict[str, float]:
        return {}
