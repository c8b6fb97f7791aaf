"""Extractors with weights from files: made here at random, so that every value can be had from the network by hand."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from weight_files import ARCH, MEAN, SD, by_hand, features_of, pictures, randomised, release

from medgan_pl.metrics.distances import Frechet
from medgan_pl.metrics.extractors.pretrained import DinoFeatures, InceptionFeatures, TorchvisionFeatures, views
from medgan_pl.metrics.space import FeatureSpace


@pytest.fixture(scope="module")
def small():
    return randomised(models.get_model(ARCH, weights=None))


@pytest.fixture
def file_small(small, tmp_path):
    torch.save(small.state_dict(), tmp_path / "small.pth")
    return tmp_path / "small.pth"


def test_values_and_the_grey_rule(small, file_small):
    extractor = features_of(file_small)
    grey, rgb, five = pictures(3, 1, 40, 50), pictures(2, 3, 96, 64), pictures(2, 5, 40, 40)
    assert by_hand(small, rgb).std() > 0.1
    torch.testing.assert_close(extractor(grey), by_hand(small, grey.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(extractor(rgb), by_hand(small, rgb))
    each = [by_hand(small, five[:, channel : channel + 1].expand(-1, 3, -1, -1)) for channel in range(5)]
    torch.testing.assert_close(extractor(five), torch.cat(each, 1))
    assert extractor(five).shape == (2, 5 * 1024)


def test_volumes_on_three_planes(small, file_small):
    volume = pictures(2, 1, 20, 24, 28)
    extractor = features_of(file_small, spatial_dims=3, slices=2)
    planes = []
    for axis, places in ((2, (5, 15)), (3, (6, 18)), (4, (7, 21))):
        planes.append(sum(by_hand(small, volume.select(axis, place).expand(-1, 3, -1, -1)) for place in places) / 2)
    torch.testing.assert_close(extractor(volume), torch.cat(planes, 1))
    assert "2 slices along each axis" in extractor.rules["volumes"]


def test_rules_tell_all_that_features_depend_on(file_small):
    extractor = features_of(file_small)
    assert set(extractor.rules) == {"weights", "network", "features", "grey", "resize", "normalisation", "volumes"}
    assert extractor.rules["network"] == f"torchvision {ARCH}"
    copied = file_small.with_name("other.pth")
    copied.write_bytes(file_small.read_bytes())
    assert features_of(copied).rules == extractor.rules
    for change in ({"size_px": 32}, {"mean": (0.5, 0.5, 0.5)}, {"sd": (0.5, 0.5, 0.5)}, {"spatial_dims": 3}):
        assert features_of(file_small, **change).rules != extractor.rules
    torch.save({name: value + 1 for name, value in models.get_model(ARCH, weights=None).state_dict().items()}, file_small)
    assert features_of(file_small).rules["weights"] != extractor.rules["weights"]


def test_network_is_no_part_of_a_checkpoint_and_moves_along(file_small):
    state = torch.get_rng_state()
    space = FeatureSpace(features_of(file_small), {"fd": Frechet()})
    assert torch.equal(torch.get_rng_state(), state)
    holder = nn.ModuleDict({"metric": space})
    assert list(holder.parameters()) == []
    assert holder.state_dict() == {}
    holder.train()
    network = space.extractor.frozen.network
    assert not any(part.training for part in network.modules())
    assert not any(weight.requires_grad for weight in network.parameters())
    holder.to("meta")
    assert {weight.device.type for weight in network.parameters()} == {space.extractor.mean.device.type} == {"meta"}


def test_judged_one_by_one_and_in_float32(file_small):
    extractor, images = features_of(file_small), pictures(3, 1, 32, 32)
    alone = torch.cat([extractor(image[None]) for image in images])
    torch.testing.assert_close(extractor(images), alone, atol=1e-3, rtol=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(extractor(images), alone, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("how", ["radimagenet", "swav", "lightning", "old", "half"])
def test_names_of_releases(small, tmp_path, how):
    torch.save(release(small, how), tmp_path / "file.pth.tar")
    images = pictures(2, 1, 64, 64)
    network = copy.deepcopy(small)
    if how == "half":  # the file has fewer digits
        network.load_state_dict({name: value.half() if value.is_floating_point() else value for name, value in small.state_dict().items()})
    wanted = by_hand(network, images.expand(-1, 3, -1, -1))
    assert wanted.std() > 0.1
    torch.testing.assert_close(features_of(tmp_path / "file.pth.tar")(images), wanted, atol=1e-4, rtol=1e-4)


def test_safetensors(small, tmp_path):
    save_file(small.state_dict(), tmp_path / "file.safetensors")
    images = pictures(2, 3, 64, 64)
    torch.testing.assert_close(features_of(tmp_path / "file.safetensors")(images), by_hand(small, images))


@pytest.mark.parametrize(("arch", "size", "count"), [("densenet121", 32, 1024), ("mobilenet_v3_small", 32, 1024), ("resnet18", 32, 512)])
def test_other_architectures(tmp_path, arch, size, count):
    network = models.get_model(arch, weights=None).eval()
    state = {name: value for name, value in network.state_dict().items() if value.shape[:1] != (1000,)}
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "file.pth")
    given = []
    linear = [part for part in network.modules() if isinstance(part, nn.Linear)][-1]
    linear.register_forward_hook(lambda part, inputs, output: given.append(inputs[0]))
    images = pictures(2, 3, size, size)
    with torch.no_grad():
        network(((images + 1) / 2 - MEAN) / SD)
    extractor = TorchvisionFeatures(name="file", arch=arch, weights=str(tmp_path / "file.pth"), published="here", size_px=size)
    assert extractor(images).shape == (2, count)
    torch.testing.assert_close(extractor(images), given[0], atol=1e-4, rtol=1e-4)


def test_missing_file_says_which_and_where_and_what_to_type(tmp_path):
    with pytest.raises(FileNotFoundError) as told:
        features_of(tmp_path / "none.pth", name="mine", published="none.pth of https://example.org")
    for part in (str(tmp_path / "none.pth"), "none.pth of https://example.org", "extractor.mine.weights=PATH", "not downloaded"):
        assert part in str(told.value)


def test_wrong_weights_are_named(small, tmp_path):
    path = tmp_path / "file.pth"
    torch.save(small.state_dict() | {"conv1.0.weight": torch.zeros(24, 1, 3, 3)}, path)
    with pytest.raises(ValueError, match=r"; 1 of \d+ are missing or of another shape, such as conv1.0.weight \(24, 3, 3, 3\)"):
        features_of(path)
    torch.save(small.state_dict(), path)
    with pytest.raises(ValueError, match=r"such as stage2.0.branch1.2.weight \(58, .* Is it the file of this architecture"):
        features_of(path, arch="shufflenet_v2_x1_0")
    torch.save({"one.weight": torch.zeros(2, 3)}, path)
    with pytest.raises(ValueError, match=r"it contains 1: one.weight \(2, 3\)"):
        features_of(path)


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_files_that_run_code_are_refused(tmp_path, write):
    write({"conv1.weight": Evil()}, tmp_path / "file.pth")
    for build in (features_of, lambda path: InceptionFeatures(name="inception", weights=str(path), published="here")):
        with pytest.raises(ValueError, match=r"file\.pth must contain only weights"):
            build(tmp_path / "file.pth")
    assert not Path("ran").exists()


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 half a file"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_damaged_files(tmp_path, content, suffix):
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="must contain only weights, tensors by name; it is damaged"):
        features_of(path)


def test_file_without_tensors(tmp_path):
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "file.pth")
    with pytest.raises(ValueError, match="must contain weights: names and tensors; got none"):
        features_of(tmp_path / "file.pth")


def test_other_errors(file_small):
    with pytest.raises(ValueError, match="name of a classifier of torchvision"):
        features_of(file_small, arch="fasterrcnn_resnet50_fpn")
    with pytest.raises(ValueError, match="squeezenet1_0 has none"):
        features_of(file_small, arch="squeezenet1_0")
    with pytest.raises(ValueError, match="`sd` above 0"):
        features_of(file_small, sd=(1, 1, 0))
    with pytest.raises(ValueError, match="set image"):
        features_of(file_small)(torch.zeros(1, 1, 8, 8, 8))
    with pytest.raises(ValueError, match="`size_px` a multiple of its patch of 14"):
        DinoFeatures(name="dinov2", arch="vit_small_patch14_dinov2", weights=str(file_small), published="here", size_px=64)
    with pytest.raises(ValueError, match="`arch` must be a DINOv2"):
        DinoFeatures(name="dinov2", arch="resnet50", weights=str(file_small), published="here")


def test_views():
    images = pictures(2, 4, 3, 3)
    assert [torch.equal(view, images) for view in views(images, 4)] == [True]
    found = list(views(images, 2))
    assert len(found) == 4
    assert torch.equal(found[2], images[:, [2, 2]])
