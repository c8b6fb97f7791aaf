"""All randomness of a run is keyed: the same (seed, rank, count, purpose) gives the same numbers, whatever happened before."""

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What the numbers are for; two purposes of one step never share their randomness."""

    INIT = 0
    STEP = 1  # noise, penalties, dropout of one training step; count = images shown
    AUGMENT = 2  # random augmentation of one training batch; count = images shown
    VALIDATION = 3  # noise of a validation batch; count = number of the batch
    SAMPLES = 4  # noise of the sample grids and of `sample`; count = number of the batch


def key_randomness(seed: int, rank: int, count: int, purpose: Purpose) -> None:
    """Sets torch's global generators (CPU and every CUDA device) from the key; costs about 30 µs.

    One global generator keyed once a step serves noise, augmentation, penalties and dropout alike, so a resumed run draws what the
    uninterrupted one would have drawn, and two ranks never draw the same.
    """
    torch.manual_seed(int(np.random.SeedSequence((seed, rank, count, int(purpose))).generate_state(1, np.uint64)[0]))
