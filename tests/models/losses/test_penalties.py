"""Penalties against critics whose gradient is known on paper, and their second derivative against finite differences."""

import pickle

import pytest
import torch
from torch import nn

from medgan_pl.models.losses.penalties import R1, R1R2, NoPenalty, WassersteinPenalty

SHAPES = [(2, 1, 6, 6), (2, 2, 4, 4, 4)]


def images(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear(slope):
    return lambda x: (x * slope).flatten(1).sum(1)


def quadratic(x):
    """D(x) = ‖x‖²/2, so ∇D(x) = x."""
    return x.square().flatten(1).sum(1) / 2


@pytest.mark.parametrize("shape", SHAPES)
def test_linear_critic(shape):
    slope = images(shape[1:], seed=5)
    real, fake = images(shape), images(shape, seed=1)
    length = slope.norm().item()
    assert R1(weight=3.0)(linear(slope), real, fake).item() == pytest.approx(1.5 * length**2, rel=1e-5)
    assert R1R2(weight=3.0)(linear(slope), real, fake).item() == pytest.approx(3 * length**2, rel=1e-5)
    assert WassersteinPenalty(weight=10.0)(linear(slope), real, fake).item() == pytest.approx(10 * (length - 1) ** 2, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_quadratic_critic_takes_the_norm_of_each_image(shape):
    real, fake = images(shape), images(shape, seed=1)
    real[1] *= 3  # norms of unequal images: a norm over the whole batch, or one shared by all, gives another number
    energy = [sum(x.square().sum().item() for x in batch) / 2 for batch in (real, fake)]
    assert R1(weight=2.0)(quadratic, real, fake).item() == pytest.approx(energy[0], rel=1e-5)
    assert R1R2(weight=2.0)(quadratic, real, fake).item() == pytest.approx(sum(energy), rel=1e-5)
    norms = [x.norm().item() for x in real]
    same = WassersteinPenalty(weight=1.0)(quadratic, real, real.clone())  # x̂ = x whatever t is
    assert same.item() == pytest.approx(sum((n - 1) ** 2 for n in norms) / 2, rel=1e-5)


def test_interpolates_lie_between_with_one_t_for_each_image():
    seen = []
    real, fake = torch.ones(64, 1, 4, 4), torch.zeros(64, 1, 4, 4)
    torch.manual_seed(0)
    WassersteinPenalty()(lambda x: seen.append(x.detach()) or quadratic(x), real, fake)
    t = seen[0].flatten(1)  # x̂ = t here
    assert (t == t[:, :1]).all()
    assert t[:, 0].unique().numel() == 64
    assert t.min() >= 0
    assert t.max() < 1
    torch.manual_seed(0)
    assert torch.equal(t[:, 0], torch.rand(64, 1, 1, 1).flatten())  # the global generator, nothing else


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 1, 2, 2)])
def test_logits_of_an_image_are_averaged(shape):
    def critic(x):
        return quadratic(x).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)

    real = images((3, 1, 4, 4))
    assert R1(weight=2.0)(critic, real, real).item() == pytest.approx(real.square().sum().item() / 3, rel=1e-5)


@pytest.mark.parametrize("penalty", [R1, R1R2, WassersteinPenalty])
def test_lazy_penalty_has_the_same_mean_strength(penalty):
    real, fake = images((2, 1, 4, 4)), images((2, 1, 4, 4), seed=1)
    slope = images((1, 4, 4), seed=3)
    lazy, eager = penalty(weight=0.7, every=16), penalty(weight=0.7, every=1)
    assert lazy(linear(slope), real, fake).item() == pytest.approx(16 * eager(linear(slope), real, fake).item())
    assert [step for step in range(40) if lazy.due(step)] == [0, 16, 32]
    assert all(eager.due(step) for step in range(5))


def gradient(critic, x):
    """E‖∇D(x)‖² as R1 sees it."""
    return R1(weight=2.0)(critic, x, x).item()


def verdict(x):
    """One number of a picture, whatever it is written in: no slope but that of its mean grey value."""
    return x.flatten(1).mean(1).square()


def test_one_channel_against_three_equal_channels():
    grey = images((3, 1, 6, 6))
    colour = grey.expand(3, 3, 6, 6)
    # The same slope at each number: three equal channels have three times the squared gradient of one.
    slope = images((1, 6, 6), seed=1)
    assert gradient(linear(slope), grey) == pytest.approx(gradient(linear(slope), colour) / 3, rel=1e-5)
    # The same verdict of the same picture: each of three channels has a third of the slope, so all together a third of the square.
    assert gradient(verdict, colour) == pytest.approx(gradient(verdict, grey) / 3, rel=1e-5)


def test_a_weight_by_reference_binds_the_same_verdict_alike_at_any_size_and_channels():
    penalty = R1R2(weight=0.5, reference=36)
    picture = images((3, 1, 6, 6))
    cases = [
        picture,
        picture.expand(3, 3, 6, 6),
        picture.repeat_interleave(2, 2).repeat_interleave(2, 3),
        picture.unsqueeze(2).expand(3, 1, 6, 6, 6),
    ]
    for x in cases:
        assert penalty(verdict, x, x).item() == pytest.approx(R1R2(weight=0.5)(verdict, picture, picture).item(), rel=1e-5)
    with pytest.raises(ValueError, match="`reference` must be a whole number of at least 1"):
        R1R2(weight=1.0, reference=0)


@pytest.mark.parametrize("penalty", [R1(weight=2.0), R1R2(weight=2.0), WassersteinPenalty(weight=1.0)])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_second_derivative_reaches_the_weights(penalty, spatial_dims):
    """The gradient of each penalty with respect to the critic's weights equals a central difference.

    Penalties work in float32; a smooth critic and a wide step keep rounding out of the difference.
    """
    torch.manual_seed(0)
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims]
    critic = nn.Sequential(convolution(1, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 4**spatial_dims, 1))
    real, fake = images((2, 1, *[4] * spatial_dims)), images((2, 1, *[4] * spatial_dims), seed=1)

    def value():
        torch.manual_seed(1)
        return penalty(critic, real, fake)

    value().backward()
    for parameter in (critic[0].weight, critic[0].bias, critic[3].weight):
        direction = parameter.grad / parameter.grad.norm()
        step = 1e-2
        with torch.no_grad():
            parameter += step * direction
        above = value().item()
        with torch.no_grad():
            parameter -= 2 * step * direction
        below = value().item()
        with torch.no_grad():
            parameter += step * direction
        assert (above - below) / (2 * step) == pytest.approx(parameter.grad.norm().item(), rel=2e-2)


def test_norm_is_safe_where_the_critic_is_flat():
    weight = torch.zeros(16, requires_grad=True)
    real = images((2, 1, 4, 4))
    loss = WassersteinPenalty(weight=10.0)(lambda x: x.flatten(1) @ weight, real, real + 1)
    assert loss.item() == pytest.approx(10, rel=1e-4)
    assert torch.autograd.grad(loss, weight)[0].isfinite().all()


@pytest.mark.parametrize("penalty", [R1(weight=1.0), R1R2(weight=1.0), WassersteinPenalty()])
def test_runs_in_float32_under_autocast(penalty):
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 1))
    dtypes = []

    def spy(x):
        logits = critic(x)
        dtypes.append((x.dtype, logits.dtype))
        return logits

    real, fake = images((2, 1, 4, 4)), images((2, 1, 4, 4), seed=1)
    torch.manual_seed(1)
    exact = penalty(critic, real, fake)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = penalty(spy, real, fake)
    assert set(dtypes) == {(torch.float32, torch.float32)}
    assert torch.equal(cast, exact)
    assert penalty(critic, real.bfloat16(), fake.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("penalty", [R1(weight=1.0), R1R2(weight=1.0), WassersteinPenalty()])
def test_images_stay_untouched(penalty):
    real, fake = images((2, 1, 4, 4)), images((2, 1, 4, 4), seed=1).requires_grad_()
    weight = torch.ones(16, requires_grad=True)
    penalty(lambda x: (x.flatten(1) ** 2) @ weight, real, fake).backward()
    assert not real.requires_grad
    assert fake.grad is None
    assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize("penalty", [R1(weight=1.0), R1R2(weight=1.0), WassersteinPenalty()])
def test_critic_must_look_at_the_image(penalty):
    x = images((2, 1, 4, 4))
    bias = torch.zeros(1, requires_grad=True)
    for blind in (lambda x: torch.zeros(2), lambda x: bias.expand(2), lambda x: (x.detach() + bias).flatten(1).sum(1)):
        with pytest.raises(ValueError, match="depend on the images"):
            penalty(blind, x, x)
    with torch.no_grad(), pytest.raises(ValueError, match="no_grad"):
        penalty(quadratic, x, x)


@pytest.mark.parametrize("penalty", [R1, R1R2, WassersteinPenalty])
def test_arguments(penalty):
    for weight in (0.0, -1.0):
        with pytest.raises(ValueError, match="`weight` must be above 0"):
            penalty(weight=weight)
    with pytest.raises(ValueError, match="`every` must be a whole number of at least 1"):
        penalty(weight=1.0, every=0)
    assert pickle.loads(pickle.dumps(penalty(weight=2.0, every=4))) == penalty(weight=2.0, every=4)


def test_wasserstein_penalty_needs_pairs():
    with pytest.raises(ValueError, match=r"real \(2, 1, 4, 4\) and fake \(3, 1, 4, 4\)"):
        WassersteinPenalty()(quadratic, images((2, 1, 4, 4)), images((3, 1, 4, 4)))


def test_no_penalty():
    x = images((2, 1, 4, 4))
    assert not any(NoPenalty().due(step) for step in range(20))
    assert NoPenalty()(quadratic, x, x).item() == 0
