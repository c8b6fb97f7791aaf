"""The layers of AlexNet as LPIPS weighs them, and extractors as perceptual losses."""

import re

import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F
from torchvision import models
from weight_files import CONF, MEAN, SD, features_of, pictures

from medgan_pl.metrics.extractors.perceptual import PerceptualFeatures
from medgan_pl.metrics.extractors.torchscript import NetworkFeatures
from medgan_pl.models.losses.image import TEACHERS, Perceptual


@pytest.fixture(scope="module")
def alexnet():
    with torch.device("meta"):
        network = models.alexnet(weights=None)
    network.classifier = nn.Identity()
    network.to_empty(device="cpu")
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(0))
    return network.eval()


@pytest.fixture
def file_alex(alexnet, tmp_path):
    torch.save(alexnet.state_dict(), tmp_path / "alex.pth")
    return str(tmp_path / "alex.pth")


def perceptual_distances(alexnet, a, b, scales):
    """LPIPS and its lower bound on a grid of g × g cells, for images (1, 3, 64, 64), by a loop over layers."""
    total, bounds = 0.0, dict.fromkeys((1, 3), 0.0)
    x, y = (((image + 1) / 2 - MEAN) / SD for image in (a, b))
    layer = 0
    with torch.no_grad():
        for part in alexnet.features:
            x, y = part(x), part(y)
            if isinstance(part, nn.ReLU):
                apart = (F.normalize(x) - F.normalize(y)) * scales[layer].sqrt().view(-1, 1, 1)
                total += apart.square().sum(1).mean().item()
                for grid in bounds:
                    bounds[grid] += F.adaptive_avg_pool2d(apart, grid).square().sum(1).mean().item()
                layer += 1
    return total, bounds


@pytest.mark.parametrize("weighted", [False, True])
def test_perceptual_distance_is_bounded_by_lpips(alexnet, file_alex, tmp_path, weighted):
    a, b = pictures(2, 3, 64, 64).split(1)
    generator = torch.Generator().manual_seed(3)
    scales = [torch.rand(count, generator=generator) if weighted else torch.ones(count) for count in (64, 192, 384, 256, 256)]
    torch.save({f"lin{layer}.model.1.weight": scale.view(1, -1, 1, 1) for layer, scale in enumerate(scales)}, tmp_path / "linear.pth")
    total, bounds = perceptual_distances(alexnet, a, b, scales)
    for grid, bound in bounds.items():
        linear = str(tmp_path / "linear.pth") if weighted else None
        extractor = PerceptualFeatures(name="lpips", weights=file_alex, published="here", linear=linear, grid=grid, size_px=64)
        one, other = extractor(torch.cat([a, b]))
        assert len(one) == 1152 * grid**2
        assert (one - other).square().sum().item() == pytest.approx(bound, rel=1e-4)
        assert bound <= total
        assert ("sha256" in extractor.rules["features"]) == weighted
    assert bounds[1] < bounds[3]


def test_perceptual_errors(file_alex, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"extractor.lpips.linear=PATH"):
        PerceptualFeatures(name="lpips", weights=file_alex, published="here", linear="none.pth")
    with pytest.raises(ValueError, match="`grid` must be 1 to 13"):
        PerceptualFeatures(name="lpips", weights=file_alex, published="here", grid=0)
    torch.save({f"lin{layer}.model.1.weight": -torch.ones(1, 64, 1, 1) for layer in range(5)}, tmp_path / "linear.pth")
    with pytest.raises(ValueError, match="for 64, 192, 384, 256, 256 channels, none below 0"):
        PerceptualFeatures(name="lpips", weights=file_alex, published="here", linear=str(tmp_path / "linear.pth"))


@pytest.mark.parametrize("option", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_what_serves_as_a_perceptual_loss_is_said_everywhere(option):
    target = get_object(OmegaConf.load(CONF / f"{option}.yaml")._target_)
    kind = target if isinstance(target, type) else NetworkFeatures
    row = next(line for line in (CONF.parent.parent / "docs/translation.md").read_text().splitlines() if line.startswith("| `perceptual`"))
    line = (CONF.parent / "extra" / "perceptual.yaml").read_text().splitlines()[2]
    serve = re.search(r"can be used: (.*?) \(its file", Perceptual.__doc__, re.DOTALL)[1]
    assert {option in re.findall(r"\w+", text) for text in (TEACHERS, row, line.partition(";")[0], serve)} == {kind.teaches}


def test_weights_of_files_teach(file_alex, tmp_path):
    torch.save(models.resnet18(weights=None).state_dict(), tmp_path / "file.pth")
    file = features_of(tmp_path / "file.pth", arch="resnet18")
    lpips = PerceptualFeatures(name="lpips", weights=file_alex, published="here", grid=2, size_px=64)
    for extractor in (file, lpips):
        fake = pictures(2, 1, 64, 64).requires_grad_()
        Perceptual(weight=1, extractor=extractor)(fake, torch.zeros_like(fake)).backward()
        assert fake.grad.isfinite().all()
        assert fake.grad.any()
