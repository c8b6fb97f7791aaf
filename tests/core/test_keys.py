"""All randomness of a step follows from its key."""

import random

import numpy as np
import torch

from medgan_pl.core.keys import Purpose, key_randomness, seed_torch


def test_torch_is_seeded_as_by_its_own_function() -> None:
    for seed in (0, 7, 2**64 - 1):
        torch.manual_seed(seed)
        wanted = torch.rand(5)
        torch.rand(3)
        seed_torch(seed)
        assert torch.equal(torch.rand(5), wanted)


def drawn(*key: int) -> tuple[float, float, float]:
    key_randomness(*key, Purpose.STEP)
    return float(torch.rand(())), float(np.random.rand()), random.random()


def test_equal_keys_draw_the_same_and_others_do_not() -> None:
    first = drawn(0, 0, 64)
    for other in ((1, 0, 64), (0, 1, 64), (0, 0, 65)):
        assert all(a != b for a, b in zip(first, drawn(*other), strict=True)), other
    assert drawn(0, 0, 64) == first
