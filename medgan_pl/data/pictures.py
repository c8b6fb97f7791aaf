"""Images as pictures."""

from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid


def to_grid(images: Tensor, columns: int) -> Image.Image:
    """Return images (N, C, *S) in [-1, 1] as one 8-bit picture, volumes by their middle slice, more than three channels by the first."""
    if images.ndim == 5:
        images = images[:, :, images.shape[2] // 2]
    if images.shape[1] not in (1, 3):
        images = images[:, :1]
    grid = make_grid(images.float().cpu().clamp(-1, 1), nrow=columns, padding=1, pad_value=-1)
    pixels = ((grid[: images.shape[1]] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()  # make_grid makes three channels of gray
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
