"""Images for radiomic features."""

import numpy as np
from scipy.ndimage import gaussian_filter


def image(*shape, seed=0):
    """Smooth noise in [-1, 1] that does not reach the ends."""
    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1)
    return smooth / np.abs(smooth).max() * 0.9 + 0.05
