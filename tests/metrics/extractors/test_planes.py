"""Volumes by slices: which slices, in which order, and the same numbers as a plain loop over them."""

from typing import ClassVar

import pytest
import torch

from medgan_pl.metrics.extractors.planes import Planes, cuts


class Corners(Planes):
    """Mean, largest value and first pixel of each channel."""

    name = "corners"
    rules: ClassVar = {"weights": "none"}

    def look(self, images):
        pixels = images.flatten(2)
        return torch.cat([pixels.mean(2), pixels.amax(2), pixels[:, :, 0]], 1)


def volumes(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_planes_by_hand():
    images = volumes(2, 1, 4, 6, 8)
    features = Corners(spatial_dims=3, slices=2)(images)
    wanted = []
    for image in images[:, 0]:
        row = []
        # Middles of two equal parts: of 4 places 1 and 3, of 6 places 1 and 4, of 8 places 2 and 6.
        for slices in ([image[1], image[3]], [image[:, 1], image[:, 4]], [image[:, :, 2], image[:, :, 6]]):
            row += [
                sum(cut.mean() for cut in slices) / 2,
                sum(cut.max() for cut in slices) / 2,
                sum(cut[0, 0] for cut in slices) / 2,
            ]
        wanted.append(torch.stack(row))
    torch.testing.assert_close(features, torch.stack(wanted))


@pytest.mark.parametrize(("side", "count", "places"), [(9, 1, [4]), (9, 3, [1, 4, 7]), (4, 4, [0, 1, 2, 3]), (2, 4, [0, 0, 1, 1])])
@pytest.mark.parametrize("axis", [2, 3, 4])
def test_which_slices(axis, side, count, places):
    shape = [1, 1, 3, 3, 3]
    shape[axis] = side
    images = volumes(*shape)
    found = list(cuts(images, axis, count))
    assert len(found) == count
    assert all(torch.equal(cut, images.select(axis, place)) for cut, place in zip(found, places, strict=True))


def test_each_plane_sees_its_own_axis():
    """A volume that changes along one axis only: the plane across it sees flat slices, the two others see the change."""
    ramp = torch.linspace(-1, 1, 8).view(1, 1, 8, 1, 1).expand(1, 1, 8, 8, 8)
    across, along, also = Corners(spatial_dims=3, slices=8)(ramp)[0].view(3, 3)
    assert across[1] == pytest.approx(0, abs=1e-6)  # the mean of flat slices' largest values
    assert along[1] == also[1] == pytest.approx(1)


def test_pictures_and_networks_for_volumes_go_in_whole():
    flat, whole = Corners(spatial_dims=2, slices=5), Corners(spatial_dims=3, slices=5, network_dims=3)
    picture, volume = volumes(2, 3, 5, 7), volumes(2, 3, 5, 7, 4)
    assert torch.equal(flat(picture), flat.look(picture))
    assert torch.equal(whole(volume), whole.look(volume))
    assert whole(volume).shape == (2, 9)
    assert flat.volumes == "2-D images whole"
    assert "5 slices along each axis" in Corners(spatial_dims=3, slices=5).volumes


def test_float32_whatever_comes():
    extractor = Corners(spatial_dims=3, slices=3)
    images = volumes(2, 1, 4, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert extractor(images.double()).dtype == torch.float32


def test_errors():
    with pytest.raises(ValueError, match="`slices` must be a whole number of at least 1, got 0"):
        Corners(spatial_dims=3, slices=0)
    with pytest.raises(ValueError, match="2 axes cannot be shown to a 3-D network"):
        Corners(spatial_dims=2, slices=1, network_dims=3)
    with pytest.raises(ValueError, match=r"corners was built for images .* of 3 axes, got \(1, 1, 8, 8\)"):
        Corners(spatial_dims=3, slices=1)(torch.zeros(1, 1, 8, 8))
