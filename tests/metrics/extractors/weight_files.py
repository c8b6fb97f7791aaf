"""Networks with weights made at random, their files as releases write them, and their features by hand."""

import torch
from torch import nn
from torch.nn import functional as F

from medgan_pl.core.console import configuration_folder
from medgan_pl.metrics.extractors.pretrained import TorchvisionFeatures

MEAN, SD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


CONF = configuration_folder() / "extractor"


ARCH = "shufflenet_v2_x0_5"  # the smallest that torchvision has


def pictures(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def randomised(network):
    """Batch norm with means and spreads of its own, about those of random pictures: a weight put in the wrong place is noticed, and no
    layer gives zeros alone."""
    generator = torch.Generator().manual_seed(1)
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean over all batches, here one
    with torch.no_grad():
        network.train()(F.interpolate(torch.randn(16, 3, 8, 8, generator=generator), (64, 64), mode="bilinear"))
        for norm in norms:
            for values in (norm.running_var, norm.weight):
                values *= 0.8 + 0.4 * torch.rand(values.shape, generator=generator)
            norm.bias += 0.2 * torch.rand(norm.bias.shape, generator=generator) - 0.1
    return network.eval()


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
