"""Images that cost nothing to make: smooth fields of random gray values, of well patients and of ill ones."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate


def crowd(seed: int, count: int, side: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (N, 1, S, S) in -1 to 1 of as many patients, no two alike, and their classes; the ill, 1, are brighter at the top."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    fields = interpolate(torch.randn(count, 1, 6, 6, generator=generator), (side, side), mode="bicubic") / 3
    fields[labels == 1, :, : side // 3] += 0.4
    return fields.clamp(-1, 1), labels


def films(folder: str, seed: int, count: int, side: int = 24) -> None:
    """Write PNGs of 16 bits of them, in folders by class."""
    images, labels = crowd(seed, count, side)
    for i, (image, label) in enumerate(zip(images[:, 0], labels, strict=True)):
        path = Path(folder, ("well", "ill")[label], f"p{seed}-{i:04d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(((image.numpy() + 1) * 30000).astype(np.uint16)).save(path)
