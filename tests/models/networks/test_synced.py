"""Batch norm over ranks: two processes with parts of a batch give what one process gives with all of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from two_ranks import two_ranks

from medgan_pl.models.networks.dcgan import DCGANDiscriminator
from medgan_pl.models.networks.resnet import ResNetDiscriminator
from medgan_pl.models.networks.synced import Moments, SyncedBatchNorm, synced

LAYERS = {
    "1-D": (nn.BatchNorm1d(3), (8, 3)),
    "2-D": (nn.BatchNorm2d(3), (8, 3, 5, 4)),
    "3-D": (nn.BatchNorm3d(3), (8, 3, 2, 3, 4)),
    "no weights": (nn.BatchNorm2d(3, affine=False), (8, 3, 5, 4)),
    "mean of all": (nn.BatchNorm2d(3, momentum=None), (8, 3, 5, 4)),
    "no memory": (nn.BatchNorm2d(3, track_running_stats=False), (8, 3, 5, 4)),
}
PARTS = {1: [slice(0, 8)], 2: [slice(0, 3), slice(3, 8)]}  # unequal on purpose


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layer_alone(layer: nn.Module, shape: tuple[int, ...], part: slice) -> dict[str, Tensor]:
    """The layer's output, gradients and gradient of gradients for a part of the batch; losses are sums, so parts add up."""
    layer = layer.double().train()
    weights = list(layer.parameters())
    for weight in weights:
        nn.init.uniform_(weight, 0.5, 1.5, generator=torch.Generator().manual_seed(1))
    x = (random(*shape) * 2 + 3)[part].requires_grad_()
    layer((random(*shape, seed=2) - 1)[part])  # so that the running statistics move twice
    y = layer(x)
    (first,) = torch.autograd.grad((random(*shape, seed=3)[part] * y.square()).sum(), x, create_graph=True)
    second = torch.autograd.grad(first.square().sum(), [x, *weights])
    memory = {name: value.detach().clone() for name, value in layer.named_buffers()}
    return {"y": y.detach(), "first": first.detach(), "second": second[0], "weights": torch.cat([*second[1:], torch.zeros(1)]), **memory}


def critic_with_r1(critic: nn.Module, spatial_dims: int, part: slice) -> dict[str, Tensor]:
    """A whole discriminator: logits, and the gradient of its loss and R1 together, which differentiates batch norm twice."""
    critic = critic.double().train()
    real, fake = (random(8, 1, *[16] * spatial_dims, seed=seed)[part] for seed in (4, 5))
    real.requires_grad_()
    logits = critic(real)
    (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    loss = nn.functional.softplus(-logits).sum() + nn.functional.softplus(critic(fake)).sum() + slope.square().sum()
    gradients = torch.autograd.grad(loss, list(critic.parameters()))
    memory = torch.cat([value.detach().double().flatten() for value in critic.buffers()])
    return {"y": logits.detach(), "weights": torch.cat([gradient.flatten() for gradient in gradients]), "memory": memory}


def play(rank: int, world: int) -> dict[str, Any]:
    if world > 1:
        dist.init_process_group("gloo", rank=rank, world_size=world)
    part = PARTS[world][rank]
    results = {name: layer_alone(synced(layer), shape, part) for name, (layer, shape) in LAYERS.items()}
    torch.manual_seed(0)
    for dims, critic in ((2, DCGANDiscriminator), (3, ResNetDiscriminator)):
        d = critic(spatial_dims=dims, channels=1, size=16, width=2)
        results[f"critic {dims}-D"] = critic_with_r1(synced(d), dims, part)
    far = (random(8, 3, 16, 16) + 1000)[part].float()
    layer = synced(nn.BatchNorm2d(3))
    with torch.autocast("cpu", torch.bfloat16):
        results["half"] = layer(far.bfloat16() - 1000).dtype == torch.bfloat16
    layer = synced(nn.BatchNorm2d(3, momentum=1.0))
    layer(far)
    results["variance"] = layer.running_var
    if world > 1:
        dist.destroy_process_group()
    return results


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return play(0, 1), two_ranks(play, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", [*LAYERS, "critic 2-D", "critic 3-D"])
def test_two_parts_are_the_whole(played, case) -> None:
    whole, (a, b) = played[0][case], [rank[case] for rank in played[1]]
    for name, value in whole.items():
        if name in ("y", "first", "second"):
            parts = torch.cat([a[name], b[name]])
        elif name == "weights":
            parts = a[name] + b[name]
        else:  # what the layers remember: the same on every rank, to the bit
            assert torch.equal(a[name], b[name]), name
            parts = a[name]
        torch.testing.assert_close(parts, value, rtol=1e-10, atol=1e-10, msg=lambda why, name=name: f"{name}: {why}")


def test_a_small_variance_beside_a_large_mean_is_kept(played) -> None:
    for rank in played[1]:
        torch.testing.assert_close(rank["variance"], random(8, 3, 16, 16).var([0, 2, 3]).float(), rtol=1e-3, atol=0)
        assert rank["half"]


def test_one_process_and_evaluation_are_plain_batch_norm() -> None:
    plain, ours = nn.BatchNorm2d(3), synced(nn.BatchNorm2d(3))
    for _ in range(2):
        x = torch.randn(4, 3, 8, 8)
        assert torch.equal(plain(x), ours(x))
        assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), ours.state_dict().values(), strict=True))
    assert torch.equal(plain.eval()(x), ours.eval()(x))


def test_weights_names_and_hooks_stay() -> None:
    d = DCGANDiscriminator(spatial_dims=2, channels=1, size=16, width=4, spectral_norm=True)
    weights, names, x = list(d.parameters()), list(d.state_dict()), torch.randn(2, 1, 16, 16)
    plain = d.eval()(x)
    assert synced(d) is d
    assert synced(synced(d)) is d
    assert all(a is b for a, b in zip(weights, d.parameters(), strict=True))
    assert list(d.state_dict()) == names
    assert torch.equal(plain, d(x))
    assert any(isinstance(layer, SyncedBatchNorm) for layer in d.modules())
    assert not any(type(layer) is nn.BatchNorm2d for layer in d.modules())


def test_moments_are_differentiated_twice() -> None:
    x = random(4, 2, 3).requires_grad_()
    torch.autograd.gradcheck(Moments.apply, x)
    torch.autograd.gradgradcheck(Moments.apply, x)
    variance, mean = torch.var_mean(x, [0, 2], correction=0)
    torch.testing.assert_close(Moments.apply(x), (mean, variance))


def test_a_failing_rank_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="rank 1 fell"):
        two_ranks(fall, tmp_path)


def fall(rank: int, world: int) -> None:
    if rank:
        raise RuntimeError("rank 1 fell")
    dist.init_process_group("gloo", rank=rank, world_size=world)  # waits for the other
