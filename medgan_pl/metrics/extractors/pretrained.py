"""Extractors with pretrained weights, and the rules by which images are prepared for them."""

import io
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.metrics.extractors.planes import Planes
from medgan_pl.metrics.extractors.weights import FrozenNetwork, find_weights, fingerprint, load_weights

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green, blue in [0, 1], as in torchvision
RGB_RULE = "1 channel repeated to red, green and blue; 3 as they are; of another number each alone as grey, features side by side"


def views(images: Float[Tensor, "n c *space"], channels: int = 3) -> Iterator[Float[Tensor, "n {channels} *space"]]:
    """Yield the images as inputs of a network with `channels`: unchanged if they have as many, otherwise one channel after the other, each
    repeated."""
    if images.shape[1] == channels:
        yield images
        return
    for gray in images.split(1, 1):
        yield gray.expand(-1, channels, *gray.shape[2:])


class PretrainedFeatures(Planes):
    """The base of all extractors with a 2-D RGB network: images (B, C, *S) in [-1, 1], 2-D or 3-D -> (B, F) float32.

    1 channel is repeated to 3, 3 are used as red, green and blue; of any other number each channel is used alone as gray, and the features
    are concatenated. Volumes: see `Planes`.
    `weights` is the path of a file, `published` the place where it can be obtained. Raises FileNotFoundError if the file is missing,
    ValueError if it does not fit the network or cannot be read safely, and for images of other axes than `spatial_dims`.
    """

    def __init__(self, *, name: str, network: nn.Module, path: Path, spatial_dims: int, slices: int) -> None:
        super().__init__(spatial_dims=spatial_dims, slices=slices)
        self.name, self.frozen = name, FrozenNetwork(network)
        self.rules = {"weights": fingerprint(path), "grey": RGB_RULE, "volumes": self.volumes}

    @abstractmethod
    def embed(self, rgb: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n features"]:
        """Return the features of images with three channels in [-1, 1]."""

    def look(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        return torch.cat([self.embed(rgb) for rgb in views(images)], 1)


class InceptionFeatures(PretrainedFeatures):
    """The 2,048 pooled features of the FID of the literature: Inception-v3 of TensorFlow's release of 2015-12-05.

    Images are rounded to 0…255 and resized to 299 × 299 as in TensorFlow 1, bilinear without antialiasing, by torch-fidelity. So values
    agree with published FIDs, and fine detail of images larger than 299 aliases as in them.
    It is trained on photographs, not on images of patients: report it for comparison, together with others.
    Raises ImportError without torch-fidelity, otherwise as `PretrainedFeatures`.

    Source: Heusel et al. 2017 (arXiv 1706.08500); Szegedy et al. 2015 (arXiv 1512.00567).
    """

    teaches = False

    def __init__(self, *, name: str, weights: str, published: str, spatial_dims: int = 2, slices: int = 5) -> None:
        path = find_weights(weights, name=name, published=published)
        super().__init__(name=name, network=_inception(path), path=path, spatial_dims=spatial_dims, slices=slices)
        self.rules |= {
            "network": "Inception-v3 of torch-fidelity", "features": "2048, pooled", "resize": "299 × 299, bilinear as TensorFlow 1",
            "normalisation": "[-1, 1] rounded and clipped to 0…255, then (x - 128) / 128",
        }  # fmt: skip

    def embed(self, rgb: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 2048"]:
        return self.frozen(((rgb + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))[0]


class ResizedFeatures(PretrainedFeatures):
    """Extractors whose network takes squares of `size_px`, normalized by `mean` and standard deviation `sd` of each channel in [0, 1].

    Resizing is bilinear with antialiasing and stretches images that are not square; images larger than `size_px` lose detail.
    """

    def __init__(
        self, *, name: str, network: nn.Module, path: Path, size_px: int, mean: Sequence[float], sd: Sequence[float], spatial_dims: int,
        slices: int,
    ) -> None:  # fmt: skip
        if len(mean) != 3 or len(sd) != 3 or min(sd) <= 0:
            raise ValueError(f"`mean` and `sd` must be three numbers each, `sd` above 0, got {mean} and {sd}")
        super().__init__(name=name, network=network, path=path, spatial_dims=spatial_dims, slices=slices)
        self.size_px = size_px
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer("sd", torch.tensor(sd, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.rules |= {
            "resize": f"{size_px} × {size_px}, bilinear with antialiasing, not square: stretched",
            "normalisation": f"[-1, 1] to [0, 1], minus {list(mean)}, divided by {list(sd)}",
        }

    def prepared(self, rgb: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 size size"]:
        square = F.interpolate(rgb, (self.size_px, self.size_px), mode="bilinear", align_corners=False, antialias=True)
        return ((square + 1) / 2 - self.mean) / self.sd

    def embed(self, rgb: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n features"]:
        return self.frozen(self.prepared(rgb))


class TorchvisionFeatures(ResizedFeatures):
    """The input of the last linear layer of a torchvision classifier. `arch` is its name in torchvision, such as resnet50 (F = 2048); the
    weights are your own or of a release, such as RadImageNet or SwAV.

    Raises ValueError for a network that is no classifier of torchvision, or has no linear layer.
    """

    def __init__(
        self, *, name: str, arch: str, weights: str, published: str, size_px: int = 224, mean: Sequence[float] = IMAGENET_MEAN,
        sd: Sequence[float] = IMAGENET_SD, spatial_dims: int = 2, slices: int = 5,
    ) -> None:  # fmt: skip
        path = find_weights(weights, name=name, published=published)
        network = _classifier(arch, path)
        super().__init__(name=name, network=network, path=path, size_px=size_px, mean=mean, sd=sd, spatial_dims=spatial_dims, slices=slices)
        self.rules |= {"network": f"torchvision {arch}", "features": "what the last linear layer is given"}


class DinoFeatures(ResizedFeatures):
    """The class token of a vision transformer trained by DINOv2: `arch` is its name in timm, such as vit_large_patch14_dinov2 (F = 1024).

    The release was trained at up to 518 px; timm resamples its position embedding (bicubic) to the patches of `size_px`, a multiple of 14.
    Raises ImportError without timm, ValueError for another size or a name that is no DINOv2 of timm.

    Source: Oquab et al. 2023 (arXiv 2304.07193). Stein et al. 2023 (arXiv 2306.04675) find its ViT-L/14 closest to human judgment of
    generated photographs; they resize by a bicubic filter, we by the bilinear one of all our extractors.
    """

    def __init__(
        self, *, name: str, arch: str, weights: str, published: str, size_px: int = 224, spatial_dims: int = 2, slices: int = 5
    ) -> None:
        path = find_weights(weights, name=name, published=published)
        network, mean, sd = _dino(arch, size_px, path), IMAGENET_MEAN, IMAGENET_SD
        super().__init__(name=name, network=network, path=path, size_px=size_px, mean=mean, sd=sd, spatial_dims=spatial_dims, slices=slices)
        self.rules |= {"network": f"timm {arch}, position embedding resampled for {size_px} px", "features": "class token, normalised"}


# Building a network draws weights, which the file then replaces; the global generator is restored.
@torch.random.fork_rng(devices=[])
def _inception(path: Path) -> nn.Module:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise ImportError("extractor=inception needs torch-fidelity: pip install 'medgan_pl[extractors]'") from None

    class Unread(FeatureExtractorInceptionV3):
        """Gives the constructor, which would read the weights by pickle and may run code, an empty file; we then read them safely."""

        def load_state_dict(self, state_dict, strict=True, assign=False):
            return super().load_state_dict(state_dict, strict=strict and bool(state_dict), assign=assign)

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    network = Unread("inception", ["2048"], feature_extractor_weights_path=empty)
    network.fc = nn.Identity()
    load_weights(network, path)
    return network


@torch.random.fork_rng(devices=[])
def _classifier(arch: str, path: Path) -> nn.Module:
    from torchvision import models

    if arch not in models.list_models(module=models):
        raise ValueError(f"`arch` must be the name of a classifier of torchvision, such as resnet50 or densenet121, got {arch}")
    network = models.get_model(arch, weights=None)
    linear = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise ValueError(f"`arch` must end in a linear layer, which is removed; {arch} has none; use resnet50 or densenet121")
    network.set_submodule(linear[-1], nn.Identity())
    load_weights(network, path)
    return network


@torch.random.fork_rng(devices=[])
def _dino(arch: str, size_px: int, path: Path) -> nn.Module:
    try:
        import timm
        from timm.models.vision_transformer import checkpoint_filter_fn
    except ImportError:
        raise ImportError("extractor=dinov2 needs timm: pip install 'medgan_pl[extractors]'") from None
    if not timm.is_model(arch) or "dinov2" not in arch or size_px % 14:
        raise ValueError(
            f"`arch` must be a DINOv2 of timm, such as vit_small_patch14_dinov2, and `size_px` a multiple of its patch of 14; "
            f"got {arch} and {size_px}; use 224"
        )
    network = timm.create_model(arch, pretrained=False, num_classes=0, img_size=size_px)
    load_weights(network, path, lambda state: checkpoint_filter_fn(state, network))
    return network
