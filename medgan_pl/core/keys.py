"""All randomness of a run is keyed: the same (seed, rank, count, purpose) gives the same numbers, whatever happened before."""

import random
from collections.abc import Callable
from enum import IntEnum
from functools import cache

import numpy as np
import torch


class Purpose(IntEnum):
    """The purpose of random numbers; two purposes of one step never share their randomness."""

    INIT = 0
    STEP = 1  # noise, penalties, dropout of one training step; count = images shown
    AUGMENT = 2  # random augmentation of one training batch; count = images shown
    VALIDATION = 3  # noise of a validation image; count = its place in the split
    SAMPLES = 4  # noise of the sample grids and of `sample`; count = number of the image
    DEGRADE = 5  # what the sources of a training batch lack of their images; count = images shown
    HELD_OUT = 6  # the same of a held-out image; count = its row


def key_randomness(seed: int, rank: int, count: int, purpose: Purpose) -> None:
    """Set the global generators of torch (CPU and every GPU), NumPy and Python from the key; costs about 40 µs.

    Global generators keyed once a step serve noise, augmentation, penalties, dropout and whatever a user's own game draws from, so a
    resumed run draws what the uninterrupted one would have drawn, two ranks never draw the same, and a checkpoint holds no generator's
    state.
    """
    words = seeds(seed, rank, count, purpose)
    seed_torch(words[0] << 32 | words[1])
    np.random.seed(words[2])
    random.seed(words[3])


def seed_torch(seed: int) -> None:
    """Set the global generators of torch as `torch.manual_seed` does, of the devices that are there.

    For a device that is not there, `torch.manual_seed` takes a stack trace at each call, which costs 0.3 ms a step.
    """
    torch.default_generator.manual_seed(seed)
    for seed_all in seeders():
        seed_all(seed)


@cache
def seeders() -> list[Callable[[int], None]]:
    """Return, for each kind of GPU that this machine has, the function that sets its global generators."""
    kinds = {torch.cuda: torch.cuda.manual_seed_all, torch.xpu: torch.xpu.manual_seed_all, torch.backends.mps: torch.mps.manual_seed}
    return [seed_all for kind, seed_all in kinds.items() if kind.is_available()]


def keyed_generator(seed: int, rank: int, count: int, purpose: Purpose, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own from the key, on the device."""
    words = seeds(seed, rank, count, purpose)
    return torch.Generator(device).manual_seed(words[0] << 32 | words[1])


def seeds(seed: int, rank: int, count: int, purpose: Purpose) -> list[int]:
    """Four words of 32 bits."""
    return [int(word) for word in np.random.SeedSequence((seed, rank, count, int(purpose))).generate_state(4, np.uint32)]
