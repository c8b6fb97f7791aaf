"""All randomness of a run is keyed: the same (seed, rank, count, purpose) gives the same numbers, whatever happened before."""

import random
from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What the numbers are for; two purposes of one step never share their randomness."""

    INIT = 0
    STEP = 1  # noise, penalties, dropout of one training step; count = images shown
    AUGMENT = 2  # random augmentation of one training batch; count = images shown
    VALIDATION = 3  # noise of a validation image; count = its place in the split
    SAMPLES = 4  # noise of the sample grids and of `sample`; count = number of the image


def key_randomness(seed: int, rank: int, count: int, purpose: Purpose) -> None:
    """Sets the global generators of torch (CPU and every CUDA device), NumPy and Python from the key; costs about 35 µs.

    Global generators keyed once a step serve noise, augmentation, penalties, dropout and whatever a user's own game draws from, so a
    resumed run draws what the uninterrupted one would have drawn, two ranks never draw the same, and a checkpoint holds no generator's
    state.
    """
    words = [int(word) for word in np.random.SeedSequence((seed, rank, count, int(purpose))).generate_state(4, np.uint32)]
    torch.manual_seed(words[0] << 32 | words[1])
    np.random.seed(words[2])
    random.seed(words[3])
