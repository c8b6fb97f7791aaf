"""The stored number types of prepared images, their errors, and the refusal of a type that loses too much."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from medgan_pl.data.intensity import Levels, Unit


class Format:
    """The stored type of a number in [-1, 1]: `dtype` is uint16 or uint8 (even steps), float16, or float32 (unchanged)."""

    # The largest error on the [-1, 1] scale: half a step; for float16 half its spacing in [0.5, 1].
    ERRORS: Mapping[str, float] = {"uint16": 1 / 65535, "uint8": 1 / 255, "float16": 2**-12, "float32": 2**-25}

    def __init__(self, dtype: str) -> None:
        if dtype not in self.ERRORS:
            raise ValueError(f"data.cache.dtype must be one of {', '.join(self.ERRORS)}, got {dtype}")
        self.dtype, self.error = np.dtype(dtype), self.ERRORS[dtype]
        self.steps = np.iinfo(self.dtype).max if self.dtype.kind == "u" else None

    def quantize(self, image: Tensor) -> np.ndarray:
        """Return the stored numbers of floats in [-1, 1]."""
        values = image.numpy()
        return (((values.clip(-1, 1) + 1) * (self.steps / 2)).round() if self.steps else values).astype(self.dtype)

    def restore(self, stored: np.ndarray) -> Tensor:
        """Return the float32 values in [-1, 1] of stored numbers, as a new contiguous tensor of the same shape."""
        image = stored.astype(np.float32)  # by NumPy: a batch is too small for torch's threads, which training uses
        if self.steps:
            image *= 2 / self.steps
            image -= 1
        return torch.from_numpy(image)

    def check(self, levels: Levels, unit: Unit) -> float:
        """The largest error of a value stored so, in `unit`. Raise ValueError for more than one."""
        loss = unit.loss(self.error, levels)
        if loss > 1:
            low, high = max(levels, key=lambda pair: pair[1] - pair[0])
            raise ValueError(
                f"data.cache.dtype must keep every value within 1 {unit.of_loss}, got {self.dtype}, which loses up to {loss:.3g} between "
                f"{low:g} and {high:g}; use data.cache.dtype={'uint16' if self.dtype == np.uint8 else 'float32'}"
            )
        return loss
