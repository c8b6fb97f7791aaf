"""Published extractors with weights of our own: Inception as torch-fidelity's, DINOv2 as timm's, the options of conf/extractor."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torchvision import models
from weight_files import ARCH, CONF, MEAN, SD, by_hand, pictures, randomised, release

from medgan_pl.metrics.extractors.pretrained import DinoFeatures, InceptionFeatures


def test_inception_is_torch_fidelity_s(tmp_path):
    """With weights of our own: the same features as torch-fidelity's extractor that has read the same file its way."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Blank(FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict, strict=True, assign=False):
            return None

    torch.save({}, tmp_path / "empty.pth")
    network = Blank("inception", ["2048"], feature_extractor_weights_path=tmp_path / "empty.pth")
    for part in network.modules():  # as first drawn its 48 layers shrink everything to 1e-8
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, generator=torch.Generator().manual_seed(0))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    extractor = InceptionFeatures(name="inception", weights=str(tmp_path / "weights.pth"), published="here")
    grey = torch.cat([pictures(1, 1, 20, 24), torch.ones(1, 1, 20, 24), torch.full((1, 1, 20, 24), 1.5)])
    levels = ((grey[:1] + 1) / 2 * 255).round().to(torch.uint8)
    (wanted,) = network(levels.expand(-1, 3, -1, -1))
    assert wanted.std() > 1e-3
    found = extractor(grey)
    assert found.shape == (3, 2048)
    torch.testing.assert_close(found[:1], wanted)
    torch.testing.assert_close(found[2], found[1])  # above 1 is clipped, not wrapped to black


def test_dino_of_the_release(tmp_path):
    """The release's file is for 37 × 37 patches and holds a mask token; the values are those of timm with the embedding resampled."""
    import timm
    from timm.layers import resample_abs_pos_embed

    arch = "vit_small_patch14_dinov2"
    network = timm.create_model(arch, pretrained=False, num_classes=0, img_size=56)
    large = torch.randn(1, 1 + 37 * 37, 384, generator=torch.Generator().manual_seed(0))
    torch.save({**network.state_dict(), "pos_embed": large, "mask_token": torch.zeros(1, 384)}, tmp_path / "file.pth")
    network.pos_embed.data = resample_abs_pos_embed(large, (4, 4), num_prefix_tokens=1)
    extractor = DinoFeatures(name="dinov2", arch=arch, weights=str(tmp_path / "file.pth"), published="here", size_px=56)
    rgb = pictures(2, 3, 56, 56)
    with torch.no_grad():
        wanted = network.eval().forward_features(((rgb + 1) / 2 - MEAN) / SD)[:, 0]
    torch.testing.assert_close(extractor(rgb), wanted, atol=1e-4, rtol=1e-4)


CHOICES = {
    "inception": "weights-inception-2015-12-05-6726825d.pth",
    "radimagenet": "ResNet50.pt",
    "swav": "swav_800ep_pretrain.pth.tar",
    "dinov2": "dinov2_vits14_pretrain.pth",
    "lpips": "alexnet-owt-7be5be79.pth",
    "file": "file.pth",
    "torchscript": "torchscript.pt",
}


def settings_of(choice, **image):
    node = OmegaConf.create({"data": {"channels": 1}, "image": {"spatial_dims": 2, **image}, "extractor": {}})
    node.extractor[choice] = OmegaConf.load(CONF / f"{choice}.yaml")
    return OmegaConf.to_container(node, resolve=True)["extractor"][choice]


@pytest.mark.parametrize("choice", CHOICES)
def test_configurations_name_the_missing_file(choice, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_WEIGHTS", str(tmp_path / "weights"))
    with pytest.raises(Exception, match=f"extractor.{choice}.weights=PATH") as told:
        instantiate(settings_of(choice), _convert_="all")
    assert str(tmp_path / "weights" / CHOICES[choice]) in str(told.value)
    assert (CONF / f"{choice}.yaml").read_text().startswith(f"# @package extractor.{choice}\n# ")
    monkeypatch.delenv("MEDGAN_WEIGHTS")
    assert settings_of(choice)["weights"] == f"~/.cache/medgan_pl/weights/{CHOICES[choice]}"


def test_configurations_of_releases_build(tmp_path, monkeypatch):
    """A network, smaller than their ResNet-50, under the names of both: [-1, 1] for RadImageNet, ImageNet's mean for SwAV, and volumes."""
    network = randomised(models.get_model(ARCH, weights=None))
    monkeypatch.setenv("MEDGAN_WEIGHTS", str(tmp_path))
    volume = pictures(1, 1, 32, 32, 32)
    for choice, mean, sd in (("radimagenet", 0.5, 0.5), ("swav", MEAN, SD)):
        torch.save(release(network, choice), tmp_path / CHOICES[choice])
        settings = settings_of(choice, spatial_dims=3)
        assert settings["arch"] == "resnet50"
        extractor = instantiate(settings | {"slices": 1, "size_px": 32, "arch": ARCH}, _convert_="all")
        assert extractor.name == choice
        wanted = [by_hand(network, volume.select(axis, 16).expand(-1, 3, -1, -1), 32, mean, sd) for axis in (2, 3, 4)]
        torch.testing.assert_close(extractor(volume), torch.cat(wanted, 1), atol=1e-4, rtol=1e-4)
