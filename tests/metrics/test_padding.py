"""Padding is no image: the size of the canvas changes nothing of the paired metrics, nor of the losses between voxels."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from medgan_pl.metrics.diversity import Diversity
from medgan_pl.metrics.paired import Paired, PairedMasks, Segments
from medgan_pl.models.losses.image import L1, MSE, CrossEntropy, Gradient, ImageLoss, SoftDice, StructuralSimilarity
from medgan_pl.models.module import AdversarialModule

SHAPE = (2, 1, 24, 30)


def pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    real = 1.6 * torch.rand(SHAPE, generator=generator) - 0.8
    return (real + 0.2 * torch.randn(SHAPE, generator=generator)).clamp(-1, 1), real


def on_canvas(images: Tensor, size: tuple[int, int], value: float) -> Tensor:
    """Return images in the middle of a canvas of `value`."""
    canvas = torch.full((*images.shape[:2], *size), value)
    start = [(new - old) // 2 for new, old in zip(size, images.shape[2:], strict=True)]
    canvas[..., start[0] : start[0] + images.shape[2], start[1] : start[1] + images.shape[3]] = images
    return canvas


@pytest.mark.parametrize("size", [(30, 30), (64, 96)])
def test_the_canvas_changes_no_paired_metric(size) -> None:
    fake, real = pair()
    bare, padded = Paired(half_range=700.0), Paired(half_range=700.0)
    bare.update(fake, real)
    padded.update(on_canvas(fake, size, 0.5), on_canvas(real, size, -1.0), on_canvas(torch.ones_like(real), size, 0.0))
    torch.testing.assert_close(padded.values, bare.values)
    assert bare.values[:, 0].min() > 50


def test_validation_leaves_padding_out_of_the_metrics_that_can() -> None:
    fake, real = pair()
    size, bare = (64, 96), Paired()
    bare.update(fake, real)
    batch = {"image": on_canvas(real, size, -1.0), "inside": on_canvas(torch.ones_like(real), size, 0.0)}
    game = SimpleNamespace(paired=True, draw_each=lambda batch, *_: batch, compared=lambda batch, fake: (fake, batch["image"]))
    metrics = {"paired": Paired(), "similar": Diversity()}
    module = SimpleNamespace(
        _place=0, trainer=SimpleNamespace(world_size=1), game=game, seed=0, metrics=metrics, device=torch.device("cpu")
    )
    module.generate = lambda batch: on_canvas(fake, size, 0.5)
    AdversarialModule.validation_step(module, batch, 0)
    torch.testing.assert_close(metrics["paired"].values, bare.values)
    assert len(metrics["similar"].fake[0]) == 2


def test_outside_a_circle_nothing_counts() -> None:
    fake, real = pair()
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(30), indexing="ij")
    circle = (((rows - 12) ** 2 + (columns - 15) ** 2) < 11**2).float().expand(SHAPE)
    metric = Paired()
    for noise in (0.0, 0.7):
        metric.update(torch.where(circle > 0, fake, noise), torch.where(circle > 0, real, -1.0), circle)
    assert torch.equal(metric.values[:2], metric.values[2:])
    error = (fake - real).double().abs()[circle > 0].view(2, -1).mean(1)
    torch.testing.assert_close(metric.values[:2, 0], error.float())


def test_an_image_without_room_for_a_window_has_errors_and_no_similarity() -> None:
    fake, real = pair()
    inside = torch.zeros(SHAPE)
    inside[0, 0, 3:9, 3:9] = 1
    metric = Paired()
    metric.update(fake, real, inside)
    assert metric.values.isnan().tolist() == [[False, False, True, True], [True] * 4]


LOSSES = [
    L1(weight=2.0),
    MSE(weight=2.0),
    Gradient(weight=2.0),
    StructuralSimilarity(weight=2.0),
    SoftDice(weight=2.0),
    CrossEntropy(weight=2.0),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_the_canvas_changes_no_loss_between_voxels(loss: ImageLoss) -> None:
    fake, real = pair()
    for size in ((30, 30), (64, 96)):
        made = on_canvas(fake, size, 0.5).requires_grad_()
        inside = on_canvas(torch.ones_like(real), size, 0.0)
        term = loss(made, on_canvas(real, size, -1.0), None, inside)
        torch.testing.assert_close(term, loss(fake, real))
        term.backward()
        assert made.grad[inside == 0].abs().max() == 0, "padding teaches nothing"
        assert made.grad[inside == 1].abs().max() > 0


def test_masks_in_padding_are_no_structure() -> None:
    inside = on_canvas(torch.ones(SHAPE), (40, 40), 0.0)
    mask = on_canvas((pair()[1] > 0).float(), (40, 40), 0.0)
    wrong = torch.where(inside > 0, mask, 1.0)
    metric, segments = PairedMasks(), Segments(structures=["lung"])
    metric.update(wrong, mask, inside)
    segments.update(2 * wrong - 1, 2 * mask - 1, inside)
    assert metric.values.tolist() == [[1, 0]] * 2
    assert segments.values.tolist() == [[1, 1]] * 2
    assert np.isclose(float(inside.mean()), 24 * 30 / 1600)
