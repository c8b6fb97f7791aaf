"""Features of the data's own domain: a small network trained on the real training images, by their classes or by contrast (SimCLR)."""

import hashlib
import math

import torch
from jaxtyping import Float, Int
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.metrics.extractors.features import LEVELS, Extractor, Images
from medgan_pl.metrics.extractors.weights import FrozenNetwork

MIN_IMAGES = 50
MIN_OF_CLASS = 25  # images, for a class to count toward the two that `auto` needs
TEMPERATURE = 0.2
PROJECTED = 64  # features of the contrastive head, which is discarded after training
RATE = 2e-3  # of Adam, decayed to 0 along half a cosine


class DomainFeatures(Extractor):
    """Features of a small network trained on the real training images: no download, no photographs, 2-D and 3-D.

    Images (B, `channels`, *S) in [-1, 1], each side 16 or more and never resized -> (B, 8 × `width`) float32, the means over space of the
    last of four strided convolutions. `fit` trains it for `steps` batches of `batch_size`; on one CPU with as many threads the same images,
    labels and `seed` give bit-equal weights. The time grows with the pixels, and is double for `contrastive`.
    `method`: `label` learns the classes (cross-entropy, all classes equally often); `contrastive` learns to find the other view of an image
    among all others; `auto` uses `label` if two classes have 25 images or more. Both augment images by rotation, shift, scaling, brightness
    and a little noise, but never mirror them: left and right differ in patients.
    Other fits are other spaces: `rules` contain a hash of the weights, and only distances of one fit may be compared. It does not see what
    the training images do not teach: read it together with `random`, and never train or choose a generator by it.
    Raises RuntimeError in use before `fit`; ValueError for fewer than 50 images, `label` without two classes, NaN, other channels, another
    number of axes, and sides below 16.

    Source: Chen et al. 2020 (SimCLR, arXiv 2002.05709), eq. 1, with our own mild augmentation: theirs crops down to 8 % and changes colors,
    which destroys a radiograph. Features from the same domain as in Morozov et al. 2021 (ICLR), who train on photographs.
    """

    name = "domain"
    teaches = False

    def __init__(
        self, *, method: str = "auto", width: int = 16, steps: int = 400, batch_size: int = 64, seed: int = 0, channels: int = 1,
        spatial_dims: int = 2,
    ) -> None:  # fmt: skip
        super().__init__()
        if method not in ("auto", "label", "contrastive"):
            raise ValueError(f"`method` must be auto, label or contrastive, got {method}")
        if spatial_dims not in (2, 3) or steps < 1 or batch_size < 2:
            raise ValueError(f"needed: `spatial_dims` 2 or 3, `steps` 1, `batch_size` 2 or more; got {spatial_dims}, {steps}, {batch_size}")
        self.method, self.width, self.steps, self.batch_size, self.seed = method, width, steps, batch_size, seed
        self.channels, self.spatial_dims, self.fitted = channels, spatial_dims, False
        self.frozen = FrozenNetwork(trunk(spatial_dims, channels, width, torch.Generator().manual_seed(seed)))
        self.rules = {
            "weights": "not fitted yet", "resize": "none", "grey": f"{channels} channel(s) as they are", "normalisation": "none: [-1, 1]",
            "features": f"{8 * width}, mean of the last of {LEVELS} levels, {spatial_dims}-D",
        }  # fmt: skip

    def fit(self, images: Images, labels: Int[Tensor, " n"] | None) -> None:
        if len(images) < MIN_IMAGES:
            raise ValueError(f"the extractor {self.name} needs {MIN_IMAGES} real training images or more, got {len(images)}; use random")
        method = self._method(labels, len(images))
        device = next(self.frozen.network.parameters()).device
        # Training needs gradients and float32, whatever the caller has switched off.
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device_type=device.type, enabled=False):
            network = self._trained(images, labels if method == "label" else None, device)
        self.frozen, self.fitted = FrozenNetwork(network), True
        weights = b"".join(value.detach().cpu().numpy().tobytes() for value in network.state_dict().values())
        digest = hashlib.sha256(weights).hexdigest()[:32]
        self.rules = {**self.rules, "weights": f"{method}, {self.steps} steps, {len(images)} images, seed {self.seed}, sha256 {digest}"}

    def _method(self, labels: Tensor | None, count: int) -> str:
        if labels is not None and len(labels) != count:
            raise ValueError(f"`labels` must be one for each image, got {len(labels)} for {count} images")
        classes = 0 if labels is None or int(labels.min()) < 0 else int((labels.bincount() >= MIN_OF_CLASS).sum())
        if self.method == "label" and classes < 2:
            raise ValueError(
                f"method=label needs two classes of {MIN_OF_CLASS} images or more, got {classes}; "
                f"use extractor.{self.name}.method=contrastive"
            )
        return self.method if self.method != "auto" else ("label" if classes > 1 else "contrastive")

    def _trained(self, images: Images, labels: Tensor | None, device: torch.device) -> nn.Module:
        """Return the trunk, trained with a head that is discarded; all random numbers come from one generator on the CPU."""
        generator = torch.Generator().manual_seed(self.seed)
        features, outputs = 8 * self.width, PROJECTED if labels is None else int(labels.max()) + 1
        body = trunk(self.spatial_dims, self.channels, self.width, generator)
        head = nn.Sequential(_linear(features, features, generator), nn.ReLU(), _linear(features, outputs, generator))
        network = nn.Sequential(body, head).to(device)
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        often = torch.ones(len(images)) if labels is None else 1 / labels.bincount()[labels].cpu()
        for step in track(range(self.steps), description=f"training the extractor {self.name}", transient=True):
            rows = torch.multinomial(often, min(self.batch_size, len(images)), replacement=labels is not None, generator=generator)
            batch = images[rows]
            self._validate(batch)
            batch = batch.to(device, torch.float32)
            if labels is None:
                loss = contrastive_loss(*network(torch.cat([augmented(batch, generator), augmented(batch, generator)])).chunk(2))
            else:
                loss = F.cross_entropy(network(augmented(batch, generator)), labels[rows].to(device))
            if not torch.isfinite(loss):
                raise ValueError(f"the extractor {self.name} diverged in step {step}: the loss is not finite; do the images contain NaN?")
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 + math.cos(math.pi * step / self.steps)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return body

    def forward(self, images: Float[Tensor, "b ..."]) -> Float[Tensor, "b features"]:
        if not self.fitted:
            raise RuntimeError(f"the extractor {self.name} must be fitted first: call fit(images, labels) with real training images")
        self._validate(images)
        with torch.autocast(device_type=images.device.type, enabled=False):
            return self.frozen(images.float())

    def _validate(self, images: Tensor) -> None:
        if images.ndim != self.spatial_dims + 2 or images.shape[1] != self.channels or min(images.shape[2:]) < 2**LEVELS:
            wanted = f"(B, {self.channels}, {', '.join('S' * self.spatial_dims)}) with sides of {2**LEVELS} or more"
            raise ValueError(
                f"the extractor {self.name} was built for images {wanted}, got {tuple(images.shape)}; set `channels` and `spatial_dims`"
            )


def contrastive_loss(a: Float[Tensor, "n f"], b: Float[Tensor, "n f"]) -> Float[Tensor, ""]:
    """Return the NT-Xent loss: each of the 2 N views must find the other view of its image among the 2 N - 1 others, by cosine at
    temperature 0.2.

    Source: Chen et al. 2020 (arXiv 2002.05709), eq. 1.
    """
    views = F.normalize(torch.cat([a, b]), dim=1)
    alike = views @ views.T / TEMPERATURE
    alike = alike.masked_fill(torch.eye(len(views), dtype=torch.bool, device=a.device), -math.inf)
    return F.cross_entropy(alike, torch.arange(len(views), device=a.device).roll(len(a)))


def augmented(images: Float[Tensor, "b c *space"], generator: torch.Generator) -> Float[Tensor, "b c *space"]:
    """Return images (B, C, *S) rotated by up to 15°, scaled by 0.8 to 1.25, shifted by up to 10 % of each side, with contrast × 0.8 to
    1.25, brightness ± 0.1 and noise of up to 0.02 standard deviation: the variation between days and machines.

    The network becomes blind to these differences: with noise of up to 0.05, the distance of phantom films with noise of 0.05 fell to that
    of clean ones.
    """
    count, dims, device = len(images), images.ndim - 2, images.device

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(count, *shape, generator=generator)).to(device)

    angles = math.radians(15) * draw(-1, 1, dims, dims).triu(1)
    turn = torch.linalg.matrix_exp(angles - angles.mT)  # a rotation in each plane of two axes
    # In x, y (, z): images are rotated in pixels, not in the square frame of affine_grid.
    sides = torch.tensor(images.shape[:1:-1], dtype=torch.float32, device=device)
    turn = turn * sides / sides[:, None] * draw(0.8, 1.25, 1, 1)
    grid = F.affine_grid(torch.cat([turn, draw(-0.2, 0.2, dims, 1)], 2), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    each = (1,) * (dims + 1)
    noise = torch.randn(images.shape, generator=generator).to(device) * draw(0, 0.02, *each)
    return moved * draw(0.8, 1.25, *each) + draw(-0.1, 0.1, *each) + noise


def trunk(spatial_dims: int, channels: int, width: int, generator: torch.Generator) -> nn.Sequential:
    """Return four strided convolutions with batch norm and ReLU, then the mean over space: (B, `channels`, *S) -> (B, 8 × `width`)."""
    flat = spatial_dims == 2
    conv, norm, pool = (nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d) if flat else (nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d)
    # Replicated borders: zeros would draw a frame around every image whose background is -1.
    parts: list[nn.Module] = [nn.ReplicationPad2d(1) if flat else nn.ReplicationPad3d(1)]
    for level in range(LEVELS):
        inputs, outputs = channels if level == 0 else width << level - 1, width << level
        with torch.random.fork_rng(devices=[]):  # the constructor draws weights from the global generator; ours replace them
            layer = conv(inputs, outputs, 3, stride=2, padding=0 if level == 0 else 1, bias=False)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        parts += [layer, norm(outputs), nn.ReLU()]
    network = nn.Sequential(*parts, pool(1), nn.Flatten())
    return network.to(memory_format=torch.channels_last if flat else torch.channels_last_3d)  # a third faster on the CPU


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear", generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
