"""Feature extractors: their base class, and one that needs neither download nor training, a fixed random network."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 4  # halvings: a side of 16 ends as one pixel
SLOPE = 0.2  # of the leaky ReLU below zero
FLOOR = 0.05  # of a standard deviation before its logarithm: a tenth of a usual one, so that empty background is not minus infinity


@runtime_checkable
class Images(Protocol):
    """Images that need not all be in memory at once; a tensor is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the images at `rows` (B,) int64: (B, C, *S) in [-1, 1], float32."""


class Extractor(nn.Module, ABC):
    """A feature extractor: images (B, C, *S) in [-1, 1] -> features (B, F) float32, the space in which sets of images are compared.

    - `name`: the end of every key measured in it, such as `fd_random`; letters, digits and underscores.
    - `rules`: all that the features depend on besides the image, in plain containers: weights, resizing, gray to RGB, normalization,
      levels. They are written into every result; values under different rules must not be compared, and cached features are found by them.
    - `teaches`: True if it can be a perceptual loss (`losses.image.Perceptual`): its features have a gradient to the images, without a fit.
    - `fit` is called once, with the real training images, before the first image; most extractors need none.
    """

    name: str
    rules: Mapping[str, Any]
    teaches: ClassVar[bool] = True

    def fit(self, images: Images, labels: Tensor | None) -> None:
        """Fit to real training images and their classes (N,), the same each time, and add to `rules` an identifier of the fit. Raises
        ValueError for too few images."""

    @abstractmethod
    def forward(self, images: Float[Tensor, "b ..."]) -> Float[Tensor, "b features"]:
        """Return the features. Raises ValueError for images it was not built for, RuntimeError if `fit` is needed and was not called."""


class RandomFeatures(Extractor):
    """Features of a fixed, untrained convolutional network: no download, no bias toward photographs, the same in 2-D and 3-D.

    Images (B, `channels`, *S) in [-1, 1], each side 16 or more and never resized -> (B, F) float32, F = 14 × `width`. Four strided
    convolutions with leaky ReLU. The features of each channel on each level are the mean over space and the logarithm of the standard
    deviation (texture and shape, fine and coarse). Half of the filters sum to zero: they ignore brightness and react to edges and grain.
    The weights come from `seed` on the CPU and are the same on every machine (a GPU may convolve in TF32: about 1e-3 off); they are not in
    checkpoints.
    Values with another `seed` or `width`, or of other image sizes, must not be compared.
    Raises ValueError for other channels, another number of axes, or sides below 16.

    Source: Naeem et al. 2020 (arXiv 2002.09797): embeddings by a random network are fair if the data are far from ImageNet. They use the
    last layer of VGG16. We pool all levels of a small network; the zero sums and the logarithm were chosen on chest films of 64²: in units
    of the distance of two real halves they put blurred and noisy films five times as far away, shuffled ones twice.
    """

    name = "random"

    def __init__(self, *, seed: int = 0, width: int = 16, spatial_dims: int = 2, channels: int = 1) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"`spatial_dims` must be 2 or 3, got {spatial_dims}")
        self.channels = channels
        self.spatial_dims = spatial_dims
        self.rules = {
            "weights": f"random, seed {seed}, width {width}", "resize": "none", "grey": f"{channels} channel(s) as they are",
            "normalisation": "none: [-1, 1]", "features": f"mean and log spread of each channel on {LEVELS} levels, {spatial_dims}-D",
        }  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        widths = [channels, width, 2 * width, 2 * width, 2 * width]
        for level in range(LEVELS):
            inputs, outputs = widths[level : level + 2]
            weight = torch.randn(outputs, inputs, *[3] * spatial_dims, generator=generator, device="cpu")
            weight[: outputs // 2] -= weight[: outputs // 2].flatten(2).mean(2).view(-1, inputs, *[1] * spatial_dims)
            # He et al. 2015 (arXiv 1502.01852), eq. 14: conv and leaky ReLU keep the second moment about unchanged.
            weight *= (2 / (1 + SLOPE**2) / weight[0].numel()) ** 0.5
            self.register_buffer(f"weight{level}", weight, persistent=False)

    def forward(self, images: Float[Tensor, "b ..."]) -> Float[Tensor, "b features"]:
        self._validate(images)
        convolve = F.conv2d if self.spatial_dims == 2 else F.conv3d
        features = []
        with torch.autocast(device_type=images.device.type, enabled=False):
            x = images.float()
            for level in range(LEVELS):
                # Replicated borders: zeros would draw a frame around every image whose background is -1.
                x = F.pad(x, [1] * 2 * self.spatial_dims, mode="replicate")
                x = F.leaky_relu(convolve(x, self.get_buffer(f"weight{level}"), stride=2), SLOPE)  # (B, C', *S / 2)
                pixels = x.flatten(2)
                features += [pixels.mean(2), (pixels.std(2, correction=0) + FLOOR).log()]
        return torch.cat(features, 1)

    def _validate(self, images: Tensor) -> None:
        if images.ndim != self.spatial_dims + 2 or images.shape[1] != self.channels:
            wanted = f"(B, {self.channels}, {', '.join('S' * self.spatial_dims)})"
            raise ValueError(f"RandomFeatures was built for images {wanted}, got {tuple(images.shape)}; set `channels` and `spatial_dims`")
        if min(images.shape[2:]) < 2**LEVELS:
            raise ValueError(f"RandomFeatures halves the image {LEVELS} times: each side must be 16 or more, got {tuple(images.shape[2:])}")
