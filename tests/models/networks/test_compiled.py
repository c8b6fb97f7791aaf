"""Compiled players play the same game as plain ones: to rounding, in every phase, and even where guards let the wrong frame through."""

import copy
import inspect
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.functional import softplus

from medgan_pl.models.networks import dcgan, layers, mlp, resnet
from medgan_pl.models.networks.compiled import Compiled
from medgan_pl.models.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from medgan_pl.models.networks.layers import frozen, to_channels_last
from medgan_pl.models.networks.mlp import MLPDiscriminator, MLPGenerator
from medgan_pl.models.networks.resnet import ResNetDiscriminator, ResNetGenerator

MLP, DCGAN, RESNET = (MLPGenerator, MLPDiscriminator), (DCGANGenerator, DCGANDiscriminator), (ResNetGenerator, ResNetDiscriminator)
PLAIN = {"spatial_dims": 2, "channels": 1, "size": 8, "width": 4}

# Dynamo looks at `.grad` of the fakes, hides the warning by a way that pytest's errors do not take, and goes on.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.usefixtures("_fresh_dynamo"),
]


@pytest.fixture
def _fresh_dynamo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing compiled before; one thread, as tensors are tiny; and the checks of shapes, which only tests have, are not traced."""
    torch._dynamo.reset()
    for module in (layers, mlp, dcgan, resnet):
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__:
                monkeypatch.setattr(value, "forward", inspect.unwrap(value.forward))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch._dynamo.reset()


def play(wrap: Callable[[nn.Module], Any], pair: Any, *, short: int = 8, dtype: torch.dtype = torch.float64, **arguments: Any) -> Any:
    """10 alternating turns on equal noise, each fifth with a batch of `short`: (weights and buffers by name, those of the start).

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
    for step in range(10):
        with nullcontext() if dtype == kind else torch.autocast("cpu", dtype):  # one a step, as Lightning's
            size = short if step % 5 == 4 else 8
            label = torch.eye(labels)[torch.randint(labels, (size,))].to(kind) if labels else None
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


EAGER = partial(Compiled, backend="aot_eager")  # traces and differentiates as every backend does, and needs no compiler


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pair", "arguments"),
    [
        (MLP, {"short": 5}),  # .ci/run runs it
        (DCGAN, {"classes": 3}),
        (RESNET, {}),
        (DCGAN, {"spatial_dims": 3}),
    ],
)
def test_every_network_plays_the_same_game(pair: Any, arguments: dict[str, Any]) -> None:
    assert_same_game(EAGER, pair, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("pair", [MLP, DCGAN])
def test_so_it_does_under_autocast(pair: Any) -> None:
    assert_same_game(EAGER, pair, tolerance=0.02, dtype=torch.bfloat16)  # 8 bits of mantissa


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs g++ on the CPU")
@pytest.mark.parametrize("pair", [DCGAN, RESNET])
def test_inductor_plays_the_same_game(pair: Any) -> None:
    assert_same_game(Compiled, pair, classes=3, short=5)


@pytest.mark.slow  # .ci/run runs it
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs g++ on the CPU")
def test_inductor_draws_the_random_numbers_of_the_plain_network() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    image = torch.randn(8, 4)
    torch.manual_seed(0)
    plain = network(image)
    torch.manual_seed(0)
    torch.testing.assert_close(Compiled(network)(image), plain)


def blind(guards: Sequence[Any]) -> list[bool]:
    """Lets every frame through whatever its weights ask for: what pytorch #139476 does, at will."""
    return [not (guard.guard_type == "TENSOR_MATCH" and "_parameters" in guard.name) for guard in guards]


@pytest.mark.parametrize(("wrap", "right"), [(Compiled, True), (torch.compile, False)])
def test_a_frame_is_not_reused_for_the_other_phase_even_if_the_guards_let_it_through(wrap: Any, right: bool) -> None:
    """The second row is the control: one torch.compile for both phases, and a D that was frozen first never learns."""
    d, image = MLPDiscriminator(**PLAIN), torch.randn(2, 1, 8, 8)
    compiled = wrap(d, backend="aot_eager", options={"guard_filter_fn": blind})
    for _ in range(3):
        with frozen(d):
            assert not compiled(image).requires_grad
        assert compiled(image).requires_grad is right


def test_sizes_of_batches_do_not_pile_up() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = Compiled(DCGANDiscriminator(**PLAIN), backend=counter)
    for size in (8, 8, 5, 8, 3, 7, 6, 2):
        assert compiled(torch.randn(size, 1, 8, 8)).shape == (size,)
    assert counter.frame_count == 2


def test_spectral_norm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no spectral norm.*MLPDiscriminator.*set compile=false"):
        Compiled(MLPDiscriminator(**PLAIN, spectral_norm=True))


def test_two_derivatives_are_for_the_network_itself() -> None:
    d = MLPDiscriminator(**PLAIN)
    image = torch.randn(2, 1, 8, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(EAGER(d)(image).sum(), image, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        slope.square().sum().backward()
    (slope,) = torch.autograd.grad(d(image).sum(), image, create_graph=True)
    slope.square().sum().backward()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_it_adds_nothing_to_the_module_and_its_copy_plays_the_copy(duplicate: Callable[[Any], Any]) -> None:
    module = nn.Module()
    module.network = MLPDiscriminator(**PLAIN)
    names = list(module.state_dict())
    module.play = EAGER(module.network)
    image = torch.randn(2, 1, 8, 8)
    before = module.play(image)
    assert list(module.state_dict()) == names
    again = duplicate(module)
    assert again.play.network is again.network
    assert again.play.compiling == module.play.compiling
    nn.init.zeros_(again.network.verdict.linear.weight)
    nn.init.zeros_(again.network.verdict.linear.bias)
    assert not again.play(image).any()
    torch.testing.assert_close(module.play(image), before)
