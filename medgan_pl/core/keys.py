"""All randomness of a run is keyed: the same (seed, rank, count, purpose) always gives the same numbers."""

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
    DEGRADE = 5  # the degradation of a training batch; count = images shown
    HELD_OUT = 6  # the degradation of a held-out image; count = its row


def key_randomness(seed: int, rank: int, count: int, purpose: Purpose) -> None:
    """Set the global generators of torch (CPU and every GPU), NumPy and Python from the key; costs about 40 µs.

    They are seeded once a step for noise, augmentation, penalties, dropout and a user's own game. So a resumed run has the numbers of an
    uninterrupted one, two ranks never have the same numbers, and a checkpoint needs no state of a generator.
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
    """Return a separate generator on the device, seeded by the key."""
    words = seeds(seed, rank, count, purpose)
    return torch.Generator(device).manual_seed(words[0] << 32 | words[1])


def seeds(seed: int, rank: int, count: int, purpose: Purpose) -> list[int]:
    """Return four words of 32 bits."""
    return [int(word) for word in np.random.SeedSequence((seed, rank, count, int(purpose))).generate_state(4, np.uint32)]
