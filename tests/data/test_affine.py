"""The affine maps of both augmentations, by value."""

import math

import pytest
import torch
from torch.nn import functional as F

from medgan_pl.data.affine import in_shares, places, product, rotation


def test_a_rotation_turns_one_plane_and_leaves_the_other_axis() -> None:
    angles = torch.tensor([0.0, math.pi / 2, 0.3])
    for plane, rest in (((0, 1), 2), ((0, 2), 1), ((1, 2), 0)):
        turns = rotation(3, plane, angles)
        assert torch.equal(turns[0], torch.eye(3))
        unit = torch.eye(3)
        assert torch.allclose(turns[1] @ unit[plane[0]], unit[plane[1]], atol=1e-6)
        assert torch.equal(turns[2] @ unit[rest], unit[rest])
        assert torch.allclose(product(turns, turns.transpose(1, 2)), unit.expand(3, 3, 3), atol=1e-6)


def test_a_rotation_in_shares_is_one_in_pixels() -> None:
    sides = torch.tensor([30.0, 10.0])
    turn = in_shares(rotation(2, (0, 1), torch.tensor([math.pi / 2])), sides)
    assert torch.allclose(turn[0] @ (torch.tensor([6.0, 0.0]) / sides), torch.tensor([0.0, 6.0]) / sides, atol=1e-6)


@pytest.mark.parametrize("sides", [(5, 7), (4, 5, 6)])
def test_places_are_those_of_affine_grid(sides: tuple[int, ...]) -> None:
    motion = torch.randn(3, len(sides), len(sides) + 1, generator=torch.Generator().manual_seed(0))
    wanted = F.affine_grid(motion, [3, 1, *sides], align_corners=False)
    assert torch.allclose(places(motion, torch.Size(sides)), wanted, atol=1e-6)
