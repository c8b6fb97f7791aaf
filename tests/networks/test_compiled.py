"""Compiled players play the same game as plain ones: to rounding, in every phase, and even where guards would let the wrong frame through."""

import copy
import inspect
import pickle
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.functional import softplus

from medgan_pl.networks import dcgan, layers, mlp, resnet
from medgan_pl.networks.compiled import Compiled
from medgan_pl.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from medgan_pl.networks.layers import frozen, to_channels_last
from medgan_pl.networks.mlp import MLPDiscriminator, MLPGenerator
from medgan_pl.networks.resnet import ResNetDiscriminator, ResNetGenerator

MLP, DCGAN, RESNET = (MLPGenerator, MLPDiscriminator), (DCGANGenerator, DCGANDiscriminator), (ResNetGenerator, ResNetDiscriminator)
PLAIN = {"spatial_dims": 2, "channels": 1, "size": 16, "width": 4}

# Dynamo looks at `.grad` of the fakes, hides the warning by a way that pytest's errors do not take, and goes on.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.usefixtures("_fresh_dynamo"),
]


@pytest.fixture
def _fresh_dynamo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing compiled before; and the checks of shapes, which only tests have, are not traced: that took ten times as long."""
    torch._dynamo.reset()
    for module in (layers, mlp, dcgan, resnet):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__:
                monkeypatch.setattr(value, "forward", inspect.unwrap(value.forward))


def play(wrap: Callable[[nn.Module], Any], pair: Any, *, steps: int = 20, dtype: torch.dtype = torch.float64, **arguments: Any) -> Any:
    """Alternating turns on equal noise, each fifth batch shorter: (weights and buffers by name, those of the start).

    As the module plays: fakes made once, D on reals and detached fakes, G through D frozen, which also judges reals, as a relativistic
    objective asks. In float64 what is not rounding shows; half precision runs under autocast.
    """
    torch.manual_seed(0)
    labels = arguments.get("classes", 0)
    g, d = pair[0](**PLAIN | arguments, latent=8), pair[1](**PLAIN | arguments)
    for network in (g, d):
        to_channels_last(network.to(torch.float64 if dtype == torch.float64 else torch.float32))
    start = {name: value.clone() for name, value in nn.ModuleDict({"g": g, "d": d}).state_dict().items()}
    play_g, play_d = wrap(g), wrap(d)
    optimizers = [torch.optim.SGD(network.parameters(), 0.05, momentum=0.5) for network in (g, d)]
    kind = next(g.parameters()).dtype
    with nullcontext() if dtype == kind else torch.autocast("cpu", dtype):
        for step in range(steps):
            size = 5 if step % 5 == 4 else 8
            label = torch.randint(labels, (size,)) if labels else None
            fake = play_g(torch.randn(size, 8, dtype=kind), label)
            real = torch.randn(fake.shape, dtype=kind)
            (softplus(play_d(fake.detach(), label)) + softplus(-play_d(real, label))).double().mean().backward()
            assert all(weight.grad is not None for weight in d.parameters())
            assert all(weight.grad is None for weight in g.parameters())
            optimizers[1].step()
            optimizers[1].zero_grad()
            with frozen(d):
                softplus(play_d(real, label) - play_d(fake, label)).double().mean().backward()
            assert all(weight.grad is not None for weight in g.parameters())
            assert all(weight.grad is None for weight in d.parameters())
            optimizers[0].step()
            optimizers[0].zero_grad()
    return nn.ModuleDict({"g": g, "d": d}).state_dict(), start


def assert_same_game(compiled: Callable[[nn.Module], Any], pair: Any, tolerance: float = 1e-10, **arguments: Any) -> None:
    (theirs, start), (ours, _) = play(lambda network: network, pair, **arguments), play(compiled, pair, **arguments)
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=tolerance, rtol=tolerance, msg=lambda text, name=name: f"{name}: {text}")
    for player in ("g.", "d."):
        assert any(not torch.equal(value, start[name]) for name, value in theirs.items() if name.startswith(player))


@pytest.mark.parametrize(
    ("pair", "arguments"),
    [
        (MLP, {}),
        (DCGAN, {"size": 8}),
        (DCGAN, {"size": 8, "classes": 3}),
        (RESNET, {"size": 8}),
        (DCGAN, {"size": 8, "spatial_dims": 3, "steps": 10}),
    ],
)
def test_every_network_plays_the_same_game(pair: Any, arguments: dict[str, Any]) -> None:
    assert_same_game(lambda network: Compiled(network, backend="aot_eager"), pair, **arguments)
