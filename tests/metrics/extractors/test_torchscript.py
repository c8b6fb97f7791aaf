"""Networks as TorchScript files: their values, what is refused, and who may ask for them."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from weight_files import pictures

import medgan_pl
from medgan_pl.core.allowed import check_targets
from medgan_pl.metrics.extractors.torchscript import NetworkFeatures, load_torchscript
from medgan_pl.models.build import build_module
from medgan_pl.models.state import FORMAT


def traced(network, image, path):
    with pytest.warns(FutureWarning, match="deprecated"):
        torch.jit.save(torch.jit.trace(network.eval(), image), path)
    return str(path)


def test_torchscript_values(tmp_path):
    network = nn.Conv2d(1, 4, 3).eval()
    path = traced(network, torch.zeros(1, 1, 16, 16), tmp_path / "file.pt")
    extractor = load_torchscript("mine", path, low=0.0, high=255.0, size_px=16)
    images = pictures(2, 2, 32, 24)
    square = F.interpolate(images, (16, 16), mode="bilinear", antialias=True, align_corners=False)
    with torch.no_grad():
        wanted = [network((square[:, channel : channel + 1] + 1) * 127.5).mean((2, 3)) for channel in range(2)]
    torch.testing.assert_close(extractor(images), torch.cat(wanted, 1), atol=1e-3, rtol=1e-4)
    assert extractor.rules["normalisation"] == "[-1, 1] to [0, 255]"
    assert nn.ModuleDict({"extractor": extractor}).state_dict() == {}


def test_torchscript_in_three_axes(tmp_path):
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    path = traced(network, torch.zeros(1, 1, 8, 8, 8), tmp_path / "file.pt")
    images = pictures(2, 1, 8, 9, 10)
    whole = load_torchscript("mine", path, network_dims=3, spatial_dims=3)
    with torch.no_grad():
        torch.testing.assert_close(whole(images), network(images))
    flat = traced(nn.Conv2d(1, 4, 3), torch.zeros(1, 1, 8, 8), tmp_path / "flat.pt")
    assert load_torchscript("mine", flat, network_dims=2, spatial_dims=3, slices=2)(images).shape == (2, 12)


def test_torchscript_errors(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="must be a TorchScript file"):
        load_torchscript("mine", str(tmp_path / "weights.pth"))
    with pytest.raises(FileNotFoundError, match=r"extractor\.mine\.weights=PATH"):
        load_torchscript("mine", "none.pt")
    with pytest.raises(ValueError, match="`low` must be below `high`"):
        NetworkFeatures(name="mine", network=nn.Identity(), identity="none", low=1, high=1)
    with pytest.raises(ValueError, match="`size_px` must be null for a 3-D network"):
        NetworkFeatures(name="mine", network=nn.Identity(), identity="none", size_px=8, network_dims=3, spatial_dims=3)
    with pytest.raises(ValueError, match=r"must give a tensor \(2, F\) or \(2, F, \*S\) for 2 images, got \(128,\)"):
        NetworkFeatures(name="mine", network=nn.Flatten(0), identity="none")(torch.zeros(2, 1, 8, 8))


def test_a_checkpoint_cannot_have_a_torchscript_file_loaded():
    with pytest.raises(ValueError, match="must be the full name of a class"):
        check_targets({"_target_": "medgan_pl.metrics.extractors.torchscript.load_torchscript", "name": "mine", "weights": "evil.pt"})
    check_targets({"_target_": "medgan_pl.metrics.extractors.pretrained.TorchvisionFeatures"})


def test_a_program_of_the_command_line_is_loaded_to_train_and_a_checkpoint_cannot_ask_for_it(settings, tmp_path):
    path = traced(nn.Conv2d(1, 4, 3), torch.zeros(1, 1, 16, 16), tmp_path / "file.pt")
    paid = ("extra=perceptual", "extractor@extras.perceptual.extractor=torchscript", f"extras.perceptual.extractor.weights={path}")
    config = settings("degrade@data.degrade=noise", "model=unet_gan", "model.width=4", "model.generator.levels=2", "data.size=16", *paid)
    module = build_module(config)
    fake = pictures(2, 1, 16, 16).requires_grad_()
    module.game.extras["perceptual"](fake, torch.zeros_like(fake)).backward()
    assert fake.grad.any()
    inverse = {"levels": [[0.0, 1.0]], "unit": "", "modality": "CR", "spacing_mm": None, "directions": None}
    state = {"format": FORMAT, "config": config, "classes": [], "images": 64, "inverse": inverse}
    torch.save({"state_dict": module.state_dict(), "medgan_pl": state}, tmp_path / "best.ckpt")
    Path(path).write_bytes(b"evil")
    assert not hasattr(medgan_pl.load(tmp_path / "best.ckpt").game.extras, "perceptual")
    config["module"]["players"]["g"]["network"]["extractor"] = config["extras"]["perceptual"]["extractor"]
    torch.save({"state_dict": module.state_dict(), "medgan_pl": state}, tmp_path / "evil.ckpt")
    with pytest.raises(
        ValueError, match=r"must be the full name of a class .* got 'medgan_pl\.metrics\.extractors\.torchscript\.load_torchscript'"
    ):
        medgan_pl.load(tmp_path / "evil.ckpt")
