"""Batched random augmentation: off is off, and each motion does what it says."""

import pytest
import torch

from medgan_pl.data.randomize import Randomize


@pytest.fixture
def images():
    return torch.rand(6, 1, 12, 20) * 2 - 1


def test_off_gives_the_same_tensor(images):
    assert Randomize()(images) is images


@pytest.mark.parametrize("options", [{"scale": 0.2}, {"rotate_deg": 20}, {"shift": 0.2}, {"flip": True}, {"noise": 0.3}])
@pytest.mark.parametrize("shape", [(6, 1, 12, 20), (6, 2, 5, 8, 9)])
def test_range_shape_and_seed(options, shape):
    images = torch.rand(shape) * 2 - 1
    torch.manual_seed(0)
    out = Randomize(**options)(images)
    torch.manual_seed(0)
    assert torch.equal(out, Randomize(**options)(images))
    assert not torch.equal(out, images)
    assert out.shape == images.shape
    assert out.abs().max() <= 1
    moved = (out - images).flatten(1).abs().amax(1)
    assert len(moved.unique()) > 1  # each image its own draw


def test_flip_is_a_flip(images):
    out = Randomize(flip=True)(images)
    assert all(torch.equal(o, i) or torch.equal(o, i.flip(-1)) for o, i in zip(out, images, strict=True))


def test_a_turn_is_rigid_on_a_film_that_is_not_square(monkeypatch):
    images = torch.full((1, 1, 31, 61), -1.0)
    images[0, 0, 15, 20:41] = 1.0  # a level bar of 21 pixels about the centre
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.ones(shape))  # the largest turn: 90 degrees
    out = Randomize(rotate_deg=90)(images)[0, 0]
    assert (out[5:26, 30] > 0.9).all()
    assert (out > 0).sum() == 21


def test_shift_and_scale_move_by_the_stated_amount(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.ones(shape))
    image = torch.full((1, 1, 40, 40), -1.0)
    image[0, 0, 18:22, 18:22] = 1.0
    moved = Randomize(shift=0.25)(image)[0, 0]
    assert (moved[8:12, 8:12] > 0.99).all()  # a quarter of 40 pixels
    grown = Randomize(scale=1.0)(image)[0, 0]
    assert (grown > 0).sum() == 64  # twice the side


@pytest.mark.parametrize("options", [{"scale": -0.1}, {"rotate_deg": 200}, {"shift": 0.6}, {"noise": 2}])
def test_out_of_range_is_refused(options):
    with pytest.raises(ValueError, match=r"data\.augment\..* must lie in 0 to"):
        Randomize(**options)
