"""An extractor by any network that is saved as TorchScript."""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.metrics.extractors.planes import Planes
from medgan_pl.metrics.extractors.pretrained import views
from medgan_pl.metrics.extractors.weights import FrozenNetwork, find_weights, fingerprint


class NetworkFeatures(Planes):
    """The output of any `network`, 2-D or 3-D: (B, F) as it is, (B, F, *S) averaged over space.

    - `channels`: of the network's input. Images with as many go in unchanged; otherwise each channel alone, repeated, features
      concatenated.
    - `low`, `high`: the values that -1 and 1 are mapped to. `size_px`: side of the squares that 2-D images are resized to (bilinear,
      antialiased); None keeps the size.
    - `network_dims`: 2 applies the network to slices of volumes on three planes (see `Planes`), 3 to whole volumes.
    - `identity`: an identifier of its weights, for the rules.
    Raises ValueError for an output of another shape, a size for volumes, and `low` not below `high`.
    """

    def __init__(
        self, *, name: str, network: nn.Module, identity: str, channels: int = 1, low: float = -1.0, high: float = 1.0,
        size_px: int | None = None, network_dims: int = 2, spatial_dims: int = 2, slices: int = 5,
    ) -> None:  # fmt: skip
        super().__init__(spatial_dims=spatial_dims, slices=slices, network_dims=network_dims)
        if not low < high:
            raise ValueError(f"`low` must be below `high`, got {low} and {high}")
        if size_px is not None and network_dims == 3:
            raise ValueError(f"`size_px` must be null for a 3-D network, which takes volumes of their own size; got {size_px}")
        self.name, self.frozen = name, FrozenNetwork(network)
        self.channels, self.low, self.high, self.size_px = channels, low, high, size_px
        self.rules = {
            "weights": identity, "network": f"TorchScript, {network_dims}-D", "features": "output, averaged over space",
            "grey": f"images of {channels} channel(s) as they are, of others each channel repeated to {channels}, features side by side",
            "resize": f"{size_px} × {size_px}, bilinear with antialiasing" if size_px else "none",
            "normalisation": f"[-1, 1] to [{low:g}, {high:g}]", "volumes": self.volumes,
        }  # fmt: skip

    def look(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n features"]:
        if self.size_px:
            images = F.interpolate(images, (self.size_px, self.size_px), mode="bilinear", align_corners=False, antialias=True)
        images = (images + 1) / 2 * (self.high - self.low) + self.low
        return torch.cat([self._pooled(self.frozen(view), len(view)) for view in views(images, self.channels)], 1)

    def _pooled(self, out: Tensor, count: int) -> Tensor:
        if not isinstance(out, Tensor) or out.ndim < 2 or len(out) != count:
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ValueError(
                f"the network of {self.name} must give a tensor ({count}, F) or ({count}, F, *S) for {count} images, got {shape}"
            )
        return out.float().flatten(2).mean(2) if out.ndim > 2 else out.float()


def load_torchscript(
    name: str, weights: str, channels: int = 1, low: float = -1.0, high: float = 1.0, size_px: int | None = None, network_dims: int = 2,
    spatial_dims: int = 2, slices: int = 5,
) -> NetworkFeatures:  # fmt: skip
    """Return the extractor of a file that torch.jit.save wrote. Such a file is a program, and loading it may run it: use no file of a
    stranger.

    This is a function, and the class takes no path: the configuration of a checkpoint may build only classes (`allowed.check_targets`),
    so a stranger's checkpoint cannot load such a file. A command line can, for evaluation or as a perceptual loss (`build.PROGRAMS`).
    Raises FileNotFoundError for no file, ValueError for one that is no TorchScript.
    """
    path = find_weights(weights, name=name, published="your own; torch.jit.save(torch.jit.trace(network.eval(), image), PATH) writes one")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".torch\.jit\.load. is deprecated", category=FutureWarning)
        try:
            network = torch.jit.load(path, map_location="cpu")
        except RuntimeError as error:
            raise ValueError(f"{path} must be a TorchScript file, as torch.jit.save writes: {str(error).splitlines()[0]}") from None
    return NetworkFeatures(
        name=name, network=network, identity=fingerprint(path), channels=channels, low=low, high=high, size_px=size_px,
        network_dims=network_dims, spatial_dims=spatial_dims, slices=slices,
    )  # fmt: skip
