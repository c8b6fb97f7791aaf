"""The segmenter finds planted squares; its loss and the Dice by value."""

import math

import pytest
import torch
from planted import squares
from torch import nn

from medgan_pl.metrics.utility import segmenter
from medgan_pl.metrics.utility.segmenter import Segmenter, dice_and_entropy, dice_scores, fit_segmenter
from medgan_pl.metrics.utility.teaching import Masked, Training


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Networks this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Threshold(Segmenter):
    """Finds what is bright."""

    def forward(self, images):
        return images


@pytest.mark.parametrize(("spatial_dims", "side", "least"), [(2, 32, 0.8), pytest.param(3, 16, 0.7, marks=pytest.mark.slow)])
def test_it_finds_planted_squares(spatial_dims, side, least):
    train, test = (squares(seed=seed, side=side, spatial_dims=spatial_dims) for seed in (0, 1))
    network = fit_segmenter([train], Training(steps=100, batch_size=8), seed=0)
    assert dice_scores(network, test).mean() > least


@pytest.mark.parametrize(("channels", "shape"), [(3, (16, 16)), (1, (17, 31)), (2, (16, 20, 19))])
def test_any_size_and_channels(channels, shape):
    assert Segmenter(spatial_dims=len(shape), channels=channels)(torch.zeros(2, channels, *shape)).shape == (2, 1, *shape)


def test_same_seed_same_network_and_the_global_generator_is_untouched():
    train, state = squares(), torch.get_rng_state()
    one, again = (fit_segmenter([train], Training(steps=3), seed=2).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert torch.equal(state, torch.get_rng_state())


def test_dice_by_hand():
    found, truth = -torch.ones(4, 1, 16, 16), torch.zeros(4, 1, 16, 16)
    found[0, 0, :4, :4], truth[0, 0, :4, 2:6] = 1, 1  # 16 and 16 pixels, 8 of them shared
    found[1, 0, 0, 0] = 1  # nothing there
    truth[2, 0, 0, 0] = 1  # not found
    assert dice_scores(Threshold(), Masked(found, truth)).tolist() == [0.5, 0, 0, 1]


def test_dice_is_taken_at_full_size():
    """A square of 64 pixels in 128, seen at 64: its outline is found again to about a pixel."""
    truth = torch.zeros(2, 1, 128, 128)
    truth[:, :, 32:96, 32:96] = 1
    assert dice_scores(Threshold(), Masked(2 * truth - 1, truth)).tolist() == pytest.approx([1, 1], abs=0.02)
    truth[1, :, 32:96, 33:96] = 0
    assert dice_scores(Threshold(), Masked(2 * truth - 1, truth))[1] < 1


def test_loss_by_hand():
    logits = torch.tensor([[[[3.0, -2.0]]], [[[0.5, -1.0]]]])
    masks = torch.tensor([[[[1.0, 0.0]]], [[[0.25, 0.0]]]])
    p = torch.sigmoid(logits)
    expected = 1 - 2 * (p * masks).sum() / (p.sum() + 1.25) - (masks * p.log() + (1 - masks) * (1 - p).log()).mean()
    torch.testing.assert_close(dice_and_entropy(logits, masks), expected)


def test_masks_move_with_the_images(monkeypatch):
    """Where the images are their masks, they still agree pixel by pixel in every batch."""
    train, batches = squares(seed=3), []
    monkeypatch.setattr(segmenter, "train_frozen", lambda network, batch, *_: batches.extend(batch() for _ in range(10)))
    pair = Masked(train.masks * 2 - 1, train.masks)
    fit_segmenter([pair, pair], Training(), seed=0)
    for images, masks in batches:
        assert images.shape == masks.shape == (32, 1, 32, 32)
        assert torch.equal(images > 0, masks > 0)
    known = {mask.numpy().tobytes() for mask in train.masks}
    assert sum(mask.numpy().tobytes() not in known for _, masks in batches for mask in masks) > 100


def test_errors():
    data, quick = squares(24), Training(steps=1)
    with pytest.raises(ValueError, match="20 images or more"):
        fit_segmenter([squares(19)], quick, 0)
    with pytest.raises(ValueError, match="24 empty ones"):
        fit_segmenter([Masked(data.images, torch.zeros_like(data.masks))], quick, 0)
    with pytest.raises(ValueError, match="0 and 1, got 0 to 255"):
        fit_segmenter([Masked(data.images, data.masks * 255)], quick, 0)
    with pytest.raises(ValueError, match="one mask and one group an image, got 23 masks of 24"):
        fit_segmenter([Masked(data.images, data.masks[1:])], quick, 0)
    with pytest.raises(ValueError, match="size of the images"):
        fit_segmenter([Masked(data.images, data.masks[..., 1:])], quick, 0)
    broken = Segmenter()
    nn.init.constant_(broken.last.weight, math.nan)
    with pytest.raises(ValueError, match="training diverged"):
        dice_scores(broken, data)
