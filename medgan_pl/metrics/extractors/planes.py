"""Volumes for 2-D extractors: slices along each axis, the features of three planes concatenated (2.5-D)."""

from abc import abstractmethod
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from medgan_pl.core.counts import whole_number
from medgan_pl.metrics.extractors.features import Extractor


class Planes(Extractor):
    """An extractor whose network takes `network_dims` axes, for images of `spatial_dims`.

    If both are equal, images go in whole. A 2-D network gets `slices` slices along each axis of each volume (B, C, D, H, W). The features F
    of the slices of one plane are averaged, and the planes are concatenated: (B, 3 F), in the order D, H, W of the axis that is cut. The
    slices are the middles of `slices` equal parts of the axis, so 1 is the middle one.
    It sees what the slices of a volume have in common, not how they follow each other.
    Raises ValueError for other axes than it was built for, and no slices.

    Source: Guo et al. 2024 (MAISI, arXiv 2409.11169) measure volumes by a 2-D network on three planes, one distance for each. We
    concatenate the planes, so that one distance describes the volume, and average over slices, so that one row is a patient's scan.
    """

    def __init__(self, *, spatial_dims: int, slices: int, network_dims: int = 2) -> None:
        super().__init__()
        if (network_dims, spatial_dims) not in ((2, 2), (2, 3), (3, 3)):
            raise ValueError(
                f"images of {spatial_dims} axes cannot be shown to a {network_dims}-D network; it may be 2-D for 2 or 3, 3-D for 3"
            )
        whole_number("slices", slices, 1)
        self.spatial_dims, self.network_dims, self.slices = spatial_dims, network_dims, slices

    @property
    def volumes(self) -> str:
        """Return the rule for volumes, in words."""
        if self.spatial_dims == self.network_dims:
            return f"{self.spatial_dims}-D images whole"
        return f"mean over {self.slices} slices along each axis (middles of equal parts), the three planes side by side"

    @abstractmethod
    def look(self, images: Float[Tensor, "n channels *space"]) -> Float[Tensor, "n features"]:
        """Return the features of images (N, C, *S) in [-1, 1] with the network's axes, float32."""

    def forward(self, images: Float[Tensor, "b ..."]) -> Float[Tensor, "b features"]:
        if images.ndim != self.spatial_dims + 2:
            raise ValueError(
                f"the extractor {self.name} was built for images (B, C, *S) of {self.spatial_dims} axes, got {tuple(images.shape)}; "
                "set image.spatial_dims"
            )
        with torch.autocast(device_type=images.device.type, enabled=False):
            images = images.float()
            if self.spatial_dims == self.network_dims:
                return self.look(images)
            planes = [torch.stack([self.look(cut) for cut in cuts(images, axis, self.slices)]).mean(0) for axis in (2, 3, 4)]
            return torch.cat(planes, 1)


def cuts(volumes: Float[Tensor, "b c d h w"], axis: int, count: int) -> Iterator[Float[Tensor, "b c height width"]]:
    """Yield the slices across `axis` (2, 3 or 4) in the middle of `count` equal parts, one after the other, so that a batch of slices is as
    large as one of volumes. Slices repeat if there are fewer than `count`."""
    side = volumes.shape[axis]
    for part in range(count):
        yield volumes.select(axis, int((part + 0.5) * side / count))
