"""A run that does not fit: in the memory of its device, in its discriminator, in its training set."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medgan_pl.models.build import build_module
from medgan_pl.train.checks import check_depth, repeated
from medgan_pl.train.memory import explained

SMALL = ("data.size=[32,64]", "model.width=4", "model.latent=8", "metrics.random.extractor.width=4", "data.batch_size=24", "accumulate=2")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
)
def test_memory_that_is_short_names_the_settings_with_numbers(settings, error: BaseException) -> None:
    with (
        pytest.raises(ValueError, match="memory of the device must hold 12 images of 32×64 by networks of width 4 at once") as caught,
        explained(settings(*SMALL)),
    ):
        raise error
    for part in (
        "accumulate=4 (parts of 6 images",
        "data.batch_size=12",
        "data.size=[16,32] (1/4 of",
        "data.patches=1",
        "model.width=2",
        "bf16",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_error_passes(settings) -> None:
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), explained(settings(*SMALL)):
        raise RuntimeError("shapes differ")


def test_a_discriminator_too_deep_for_the_size_is_refused_before_the_images_are_prepared(settings) -> None:
    module = build_module(
        settings("model=translator_gan", "game=translation", "data.size=16", "model.width=4", "model.discriminator.layers=3", "metrics={}")
    )
    data: Any = SimpleNamespace(size=(16, 16))
    with pytest.raises(
        ValueError, match=r"`size` must be at least 24 an axis for layers=3 and scales=1 of PatchDiscriminator, got \[16, 16\]"
    ):
        check_depth(module, data)
    data.size = (24, 32)
    check_depth(module, data)


def test_a_batch_of_more_images_than_there_are_is_told(settings) -> None:
    data: Any = SimpleNamespace(sizes=lambda: {"train": 48})
    assert repeated(settings(*SMALL), 2, data) == ""
    assert repeated(settings(*SMALL), 3, data).startswith("a batch of 72 holds training images more than once, got 48 of them")
