"""A generator that was trained on patches takes whole films and slices in their own pixels, in windows without seams."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from apply.shifting import FILMS, OF_FILMS, a_volume, oblique, settings_of_apply, shifted
from apply.test_windows import random_unet
from PIL import Image

from medgan_pl.apply.inference import Inference
from medgan_pl.apply.windows import Windows
from medgan_pl.models.load import load

PATCHES = "data.patches=2"


def test_films_of_any_size_keep_their_pixels(trained, applied, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    films = {name: np.random.default_rng(1).integers(0, 256, shape, np.uint8) for name, shape in {"a": (40, 52), "b": (530, 17)}.items()}
    for name, film in films.items():
        Image.fromarray(film).save(f"in/{name}.png")
    code, said = applied(f"checkpoint={trained(*FILMS, PATCHES, **OF_FILMS)}", "input=in", "output=out", "device=cpu")
    assert (code, "detail" in said) == (0, False), said
    for name, film in films.items():
        with Image.open(f"out/{name}.png") as made:
            assert np.abs(np.asarray(made).astype(float) - shifted(film, 0, 255)).max() <= 0.51
        assert json.loads(Path(f"out/{name}.png.json").read_text())["lost"] is None


def test_slices_of_the_spacing_of_training_keep_their_pixels(trained, applied, tmp_path) -> None:
    volume = a_volume(40, 3, 50)
    oblique(tmp_path / "ct.nii.gz", volume)
    common = ("input=ct.nii.gz", "output=out", "device=cpu", "window=16", "overlap=0.5")
    code, said = applied(f"checkpoint={trained(PATCHES)}", *common)
    assert code == 0, said
    assert np.abs(nibabel.load("out/ct.nii.gz").get_fdata() - shifted(volume)).max() < 0.1


def test_a_whole_film_goes_in_windows_of_512_pixels(trained, tmp_path) -> None:
    checkpoint = trained(*FILMS, PATCHES, **OF_FILMS)
    inference, seen = Inference(load(checkpoint), settings_of_apply(checkpoint=checkpoint)), set()

    def generate(windows: torch.Tensor) -> torch.Tensor:
        seen.add(tuple(windows.shape[2:]))
        return windows

    film = torch.rand(1, 1, 2000, 1700)
    assert torch.allclose(inference.windows(generate, film), film, atol=1e-6)
    assert seen == {(512, 512)}


@pytest.mark.parametrize(("levels", "factor"), [(1, 1), (3, 1), (3, 2)])
@torch.no_grad()
def test_no_seam_shows(levels, factor) -> None:
    """From each pixel to the next the result of windows changes as that of the whole does, also where the last window would begin
    4 pixels after the one before it."""
    network = random_unet(levels=levels, spatial_dims=2, factor=factor)
    image = 0.5 * torch.rand(1, 1, 228, 324) - 0.25
    whole = network(image)
    off = Windows((128, 128), network.factors, network.multiple, 0.25, 4)(network, image) - whole
    assert off.shape == whole.shape
    for axis in (2, 3):
        seams, own = (values.diff(dim=axis).abs().mean(5 - axis).squeeze() for values in (off, whole))  # of each row or column
        assert seams.max() < 0.2 * own.mean()


def test_windows_are_spread_evenly_where_the_last_would_begin_soon() -> None:
    windows = Windows((128, 128), (1, 1), 8, 0.25, 1)
    assert [windows.interval(side, 128, 8) for side in (128, 136, 224, 228, 324, 320)] == [96, 96, 96, 56, 72, 96]
    seen = []
    windows(lambda x: seen.append(tuple(x.shape[2:])) or x, torch.rand(1, 1, 152, 168))  # less than a quarter more is no second window
    assert set(seen) == {(152, 128)}
