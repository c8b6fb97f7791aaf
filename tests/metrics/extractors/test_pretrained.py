"""Extractors with weights from files: made here at random, so that every value can be had from the network by hand."""

import pickle
import re
from pathlib import Path

import pytest
import torch
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torchvision import models

import medgan_pl
from medgan_pl.core.allowed import check_targets
from medgan_pl.core.console import configuration_folder
from medgan_pl.metrics.distances import Frechet
from medgan_pl.metrics.extractors.perceptual import PerceptualFeatures
from medgan_pl.metrics.extractors.pretrained import DinoFeatures, InceptionFeatures, TorchvisionFeatures, views
from medgan_pl.metrics.extractors.torchscript import NetworkFeatures, load_torchscript
from medgan_pl.metrics.space import FeatureSpace
from medgan_pl.models.build import build_module
from medgan_pl.models.losses.image import TEACHERS, Perceptual
from medgan_pl.models.state import FORMAT

MEAN, SD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
CONF = configuration_folder() / "extractor"
ARCH = "shufflenet_v2_x0_5"  # the smallest that torchvision has


@pytest.fixture(autouse=True)
def _one_thread():
    """Small networks are fastest on one thread, and on a busy machine many times faster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pictures(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def randomised(network):
    """Batch norm with means and spreads of its own, so that a weight put in the wrong place is noticed."""
    generator = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if "running" in name or "bn" in name:
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return network.eval()


@pytest.fixture(scope="module")
def small():
    return randomised(models.get_model(ARCH, weights=None))


@pytest.fixture
def file_small(small, tmp_path):
    torch.save(small.state_dict(), tmp_path / "small.pth")
    return tmp_path / "small.pth"


def by_hand(network, rgb, size=64, mean=MEAN, sd=SD):
    """What the head is given, with all parts before it played one after the other and the mean over space."""
    square = F.interpolate(rgb, (size, size), mode="bilinear", antialias=True, align_corners=False)
    x = ((square + 1) / 2 - mean) / sd
    with torch.no_grad():
        for part in list(network.children())[:-1]:
            x = part(x)
    return x.flatten(2).mean(2)


def features_of(path, **settings):
    return TorchvisionFeatures(**{"name": "file", "arch": ARCH, "weights": str(path), "published": "here", "size_px": 64, **settings})


def test_values_and_the_grey_rule(small, file_small):
    extractor = features_of(file_small)
    grey, rgb, five = pictures(3, 1, 40, 50), pictures(2, 3, 96, 64), pictures(2, 5, 40, 40)
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
    torch.testing.assert_close(extractor(images), alone, atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(extractor(images), alone, atol=1e-4, rtol=1e-4)


def release(network, how):
    """The state dict as releases write it."""
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("fc.")}
    places = {name: place for place, (name, _) in enumerate(network.named_children())}
    if how == "radimagenet":
        return {f"backbone.{places[name.split('.')[0]]}.{name.partition('.')[2]}": value for name, value in state.items()}
    if how == "swav":
        heads = {"module.projection_head.0.weight": torch.zeros(4, 8), "module.prototypes.weight": torch.zeros(3, 4)}
        return {**{f"module.{name}": value for name, value in state.items()}, **heads}
    if how == "lightning":
        nested = {f"model.backbone.{name}": value for name, value in state.items()}
        return {"epoch": 3, "state_dict": {**nested, "criterion.weight": torch.ones(2)}}
    if how == "old":
        return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


@pytest.mark.parametrize("how", ["radimagenet", "swav", "lightning", "old", "half"])
def test_names_of_releases(small, tmp_path, how):
    torch.save(release(small, how), tmp_path / "file.pth.tar")
    images = pictures(2, 1, 64, 64)
    wanted = by_hand(small, images.expand(-1, 3, -1, -1))
    tolerance = 0.02 if how == "half" else 1e-5
    torch.testing.assert_close(features_of(tmp_path / "file.pth.tar")(images), wanted, atol=tolerance, rtol=tolerance)


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


def test_torchscript_errors(tmp_path, file_small):
    with pytest.raises(ValueError, match="must be a TorchScript file"):
        load_torchscript("mine", str(file_small))
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


def test_views():
    images = pictures(2, 4, 3, 3)
    assert [torch.equal(view, images) for view in views(images, 4)] == [True]
    found = list(views(images, 2))
    assert len(found) == 4
    assert torch.equal(found[2], images[:, [2, 2]])


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
    """One network under the names of both releases: ResNet-50, [-1, 1] for RadImageNet and ImageNet's mean for SwAV, and volumes."""
    network = randomised(models.resnet50(weights=None))
    monkeypatch.setenv("MEDGAN_WEIGHTS", str(tmp_path))
    volume = pictures(1, 1, 32, 32, 32)
    for choice, mean, sd in (("radimagenet", 0.5, 0.5), ("swav", MEAN, SD)):
        torch.save(release(network, choice), tmp_path / CHOICES[choice])
        extractor = instantiate(settings_of(choice, spatial_dims=3) | {"slices": 1, "size_px": 32}, _convert_="all")
        assert extractor.name == choice
        wanted = [by_hand(network, volume.select(axis, 16).expand(-1, 3, -1, -1), 32, mean, sd) for axis in (2, 3, 4)]
        torch.testing.assert_close(extractor(volume), torch.cat(wanted, 1), atol=1e-4, rtol=1e-4)
