"""Windows of whole images: seams, sizes, and the way there and back."""

import json
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from apply.shifting import a_volume, oblique, settings_of_apply, shifted

from medgan_pl.apply.inference import Inference
from medgan_pl.apply.windows import Windows, at_spacing
from medgan_pl.data.readers.scan import ScanError
from medgan_pl.models.load import load
from medgan_pl.models.networks.layers import BATCH_NORM
from medgan_pl.models.networks.unet import UNetGenerator


def random_unet(levels: int = 1, **settings) -> UNetGenerator:
    torch.manual_seed(0)
    network = UNetGenerator(channels=1, source_channels=1, width=4, levels=levels, **settings)
    for layer in network.modules():
        if isinstance(layer, BATCH_NORM[settings["spatial_dims"]]):
            layer.running_mean.normal_(), layer.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(network.end.conv.weight, std=0.2)
    return network.eval()


def seen_whole(side: int, window: int, factor: int, reach: int) -> torch.Tensor:
    """(side · factor,) bool: places further than `reach` from every border of a window of `Windows(overlap=0.25, multiple=2)` within."""
    starts = [*range(0, side - window, window * 3 // 4 // 2 * 2), side - window] if side > window else [0]
    borders = [border * factor for start in starts for border in (start, start + window) if 0 < border < side]
    place = torch.arange(side * factor)
    return torch.stack([(place < border - reach) | (place >= border + reach) for border in borders]).all(0) if borders else place >= 0


@pytest.mark.parametrize(
    ("spatial_dims", "sides", "factor"), [(2, (150, 102), 1), (2, (74, 90), 2), (3, (20, 48, 90), 1), (2, (20, 151), 1)]
)
@torch.no_grad()
def test_windows_with_real_convolutions_are_the_whole(spatial_dims, sides, factor) -> None:
    network = random_unet(spatial_dims=spatial_dims, factor=factor)
    source = torch.rand(2, 1, *sides) * 2 - 1
    made = Windows((64,) * spatial_dims, network.factors, network.multiple, 0.25, 3)(network, source)
    off = (made - network(source)).abs()
    masks = [seen_whole(side + side % 2, 64, factor, 9)[: side * factor] for side in sides]  # a pixel sees 9 pixels far
    away = torch.meshgrid(*masks, indexing="ij")
    away = torch.stack(away).all(0)
    assert away.float().mean() > 0.3
    assert off[:, :, away].max() < 1e-3
    assert off.mean() < 2e-3


@pytest.mark.parametrize(("most", "window"), [(16 * 16 * 400, 400), (16 * 16 * 304, 304)])
@torch.no_grad()
def test_a_volume_is_given_whole_or_in_windows_of_as_many_voxels(most, window) -> None:
    """By a U-Net of the default depth, which sees 93 voxels to each side, as small windows would not show."""
    network, source, seen = random_unet(levels=4, spatial_dims=3), torch.rand(1, 1, 16, 16, 400) * 2 - 1, []
    windows = Windows((16,) * 3, network.factors, network.multiple, 0.25, 4, max_voxels=most)
    off = (windows(lambda x: seen.append(tuple(x.shape)) or network(x), source) - network(source)).abs()
    assert set(seen) == {(1, 1, 16, 16, window)}  # one at once
    place = torch.arange(400)
    away = (window == 400) | (place < 96) | ((place >= 96 + 93) & (place < 304 - 93)) | (place >= 304)  # windows from 0 and from 96
    assert off[..., away].max() < 1e-3


def test_windows_grow_evenly_and_are_never_smaller_than_those_of_training() -> None:
    grown = partial(Windows, factors=(1, 2, 2), multiple=4, overlap=0.25, batch_size=4)
    assert grown((16, 16, 16), max_voxels=2**22).grown((100, 256, 256)) == (100, 102, 102)
    assert grown((16, 16, 16), max_voxels=2**22).grown((20, 64, 64)) == (20, 64, 64)
    assert grown((8, 128, 16), max_voxels=8 * 128 * 20 * 4).grown((9, 300, 300)) == (9, 128, 17)
    assert grown((64, 64, 64), max_voxels=1000).grown((100, 256, 256)) == (64, 64, 64)


def test_volumes_are_given_whole_unless_a_window_is_named(trained, tmp_path) -> None:
    checkpoint = trained("image.spatial_dims=3", spacing_mm=[0.8, 0.5, 0.5])
    keys = settings_of_apply(checkpoint=checkpoint)
    for window, wanted in ((None, (40, 48, 60)), (16, (16, 16, 16))):
        seen = []
        windows = Inference(load(checkpoint), keys | {"window": window}).windows
        windows(lambda x: seen.append(x.shape[2:]) or x, torch.rand(1, 1, 40, 48, 60))  # noqa: B023
        assert set(seen) == {wanted}


def test_a_smaller_image_is_its_own_window() -> None:
    seen = []
    Windows((32, 32), (1, 1), 4, 0.25, 1)(lambda x: seen.append(x.shape) or x, torch.rand(1, 1, 10, 90))
    assert {shape[2:] for shape in seen} == {(12, 32)}


@pytest.mark.parametrize("scales", [(1.7, 1.0), (3.0, 2.5), (0.6, 0.4)])
@pytest.mark.parametrize("factors", [(1, 1), (2, 2)])
def test_there_and_back_keeps_the_place(scales, factors) -> None:
    """A slope comes back as the same slope, at the centres of the finer voxels too; `resample` takes a voxel for level within itself."""
    sides = (40, 31)
    places = [(torch.arange(n * f) + 0.5) / f for n, f in zip(sides, factors, strict=True)]
    coarse = [torch.arange(n) + 0.5 for n in sides]
    image, wanted = (a[:, None] + 2 * b for a, b in (coarse, places))
    enlarge = torch.nn.Upsample(scale_factor=factors, mode="bilinear", align_corners=False)
    back = at_spacing(enlarge, image[None, None], scales, factors)[0, 0]
    assert back.shape == wanted.shape
    inside = tuple(slice(8 * f, -8 * f) for f in factors)
    off = back[inside] - wanted[inside]
    assert off.abs().max() < 0.15  # of a slope of 1 and 2 a voxel
    assert off.mean().abs() < 2e-3


def test_volumes_by_windows(trained, applied, tmp_path) -> None:
    volume = a_volume(20, 37, 25)
    oblique(tmp_path / "ct.nii.gz", volume)
    checkpoint = trained("image.spatial_dims=3", "data.size=16", spacing_mm=[0.8, 3.0, 0.5])
    code, said = applied(
        f"checkpoint={checkpoint}", "input=ct.nii.gz", "output=out", "device=cpu", "force=true", "overlap=0.5", "window=16"
    )
    assert code == 0, said
    assert np.abs(nibabel.load("out/ct.nii.gz").get_fdata() - shifted(volume)).max() < 0.1


def test_a_spacing_that_asks_for_too_much_is_refused() -> None:
    for scales in ((1e-4, 1e-4), (3e4, 3e4)):
        with pytest.raises(ScanError, match="at the spacing of training it may have 268,435,456 voxels, got 1 × "):
            at_spacing(lambda x: x, torch.zeros(1, 1, 9, 9), scales, (1, 1))


def test_no_result_depends_on_how_many_windows_are_made_at_once(trained, applied, tmp_path) -> None:
    oblique(tmp_path / "ct.nii.gz", a_volume(24, 2, 20))
    masks = ("game=segmentation", "beside@data.beside.mask=masks", "degrade@data.degrade=none", "model.generator.residual=false")
    checkpoint = trained("model.generator.dropout=0.5", "model.generator.levels=3", *masks)
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"]["ema.network.end.conv.weight"] += 0.1
    torch.save(state, checkpoint)
    for count in (1, 4):
        arguments = (f"checkpoint={checkpoint}", "input=ct.nii.gz", f"output={count}", "uncertainty=2", "window=16", f"batch_size={count}")
        assert applied(*arguments, "device=cpu")[0] == 0
    spread = nibabel.load("1/ct_sd.nii.gz").get_fdata()
    assert spread.mean() > 1e-3
    assert np.array_equal(spread, nibabel.load("4/ct_sd.nii.gz").get_fdata())
    assert json.loads(Path("1/ct_sd.nii.gz.json").read_text())["unit"] == "probability"
