"""Augmentation in front of D: by value, by frequency, with its derivatives; and that G does not learn it."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medgan_pl.models.augment import Augment
from medgan_pl.models.games.parts import Augmentation
from medgan_pl.models.games.synthesis import Synthesis
from medgan_pl.models.losses.adversarial import NonSaturating
from medgan_pl.models.losses.penalties import R1R2, NoPenalty
from medgan_pl.models.schedules import Ramp
from medgan_pl.models.strength import Adaptive, Fixed, Ramped

ALL = {"flip": True, "shift": 0.2, "scale": 0.2, "rotate_deg": 20, "brightness": 0.2, "contrast": 0.2, "cutout": 0.4}
SIZES = {2: (12, 9), 3: (8, 6, 7)}


def augment(dims: int = 2, p: float = 1.0, **operations: Any) -> Augment:
    return Augment(spatial_dims=dims, strength=Fixed(p), laterality=False, **operations)


def images(dims: int = 2, count: int = 4, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, *SIZES[dims], generator=torch.Generator().manual_seed(0)) * 2 - 1


def drawn(how: Augment, count: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(count, how.numbers, generator=torch.Generator().manual_seed(seed))


def at(how: Augment, **values: float | list[float]) -> Tensor:
    """Numbers that do each operation named, as far as said in [-1, 1), and no other."""
    numbers = torch.ones(1, how.numbers)
    for name, value in values.items():
        gate, places = how.columns[name]
        numbers[0, gate], numbers[0, places] = 0, (torch.as_tensor(value) + 1) / 2
    return numbers


# By value ---------------------------------------------------------------------------------------------------------------------------


def test_a_shift_moves_whole_pixels_and_brings_in_the_mirror_of_the_border() -> None:
    film, how = images(count=1), augment(shift=0.25)  # of 12 × 9 pixels at most 3 and 2
    out = how(film, at(how, shift=[0.99, -0.99]))[0, 0]  # along x first: 2 to the right, 3 up
    old = film[0, 0]
    torch.testing.assert_close(out[:-3, 2:], old[3:, :-2], atol=1e-5, rtol=0)
    torch.testing.assert_close(out[:-3, :2], old[3:, :2].flip(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[-3:, 2:], old[-3:, :-2].flip(0), atol=1e-5, rtol=0)


def test_shifts_of_every_length_are_as_likely() -> None:
    how = augment(shift=0.25)
    spot = torch.zeros(4000, 1, 12, 9)
    spot[:, :, 6, 4] = 1
    where = how(spot, drawn(how, 4000)).flatten(1).argmax(1)
    places, counts = where.unique(return_counts=True)
    assert len(places) == 7 * 5
    assert counts.min() > 4000 / 35 * 0.6


def test_a_turn_of_90_degrees_keeps_lengths_where_sides_differ() -> None:
    film = torch.full((1, 1, 31, 61), -1.0)
    film[0, 0, 15, 20:41] = 1.0
    how = augment(rotate_deg=90)
    out = how(film, at(how, rotate=0.9999999))[0, 0]
    assert (out[5:26, 30] > 0.9).all()
    assert (out > 0).sum() == 21


def test_scaling_doubles_the_side_of_a_square_and_a_cube() -> None:
    for dims in (2, 3):
        image = torch.full((1, 1, *[16] * dims), -1.0)
        image[(0, 0, *[slice(6, 10)] * dims)] = 1.0
        how = augment(dims, scale=1.0)
        grown = how(image, at(how, scale=0.9999999)) > 0
        assert grown.flatten(2).any(2).all()
        for axis in range(2, dims + 2):
            assert grown.amax([i for i in range(2, dims + 2) if i != axis]).sum() == 8


def test_a_flip_is_one_of_left_and_right() -> None:
    film, how = images(count=1), augment(flip=True)
    torch.testing.assert_close(how(film, at(how, flip=-0.5)), film.flip(-1), atol=1e-5, rtol=0)
    assert torch.equal(how(film, at(how, flip=0.5)), film)


def test_turns_about_each_axis_of_a_volume() -> None:
    image = torch.full((1, 1, 9, 9, 9), -1.0)
    image[0, 0, 4, 4, 2:7] = 1.0  # along x, about the centre
    how = augment(3, rotate_deg=90)
    lines = [(4, slice(2, 7), 4), (slice(2, 7), 4, 4), (4, 4, slice(2, 7))]  # turned in x-y, in x-z, in y-z
    for plane, line in enumerate(lines):
        angles = [0.9999999 if i == plane else 0.0 for i in range(3)]
        out = how(image, at(how, rotate=angles))[0, 0]
        assert (out[line] > 0.9).all()
        assert (out > 0).sum() == 5


@pytest.mark.parametrize("dims", [2, 3])
def test_what_is_not_done_changes_nothing_to_the_bit(dims) -> None:
    how = augment(dims, **ALL)
    assert torch.equal(how(images(dims, 1), at(how)), images(dims, 1))
    still = at(how, shift=[0.0] * dims, scale=0.0, rotate=[0.0] * (1 if dims == 2 else 3), brightness=0.0, contrast=0.0)
    torch.testing.assert_close(how(images(dims, 1), still), images(dims, 1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_constant_image_stays_constant_wherever_it_is_moved(dims) -> None:
    how = augment(dims, flip=True, shift=0.4, scale=1.0, rotate_deg=180)
    even = torch.full((64, 1, *SIZES[dims]), -0.7)
    torch.testing.assert_close(how(even, drawn(how, 64)), even, atol=1e-6, rtol=0)


def test_grey_is_bent_between_fixed_ends_and_keeps_its_order() -> None:
    grey = torch.linspace(-1, 1, 201).view(1, 1, 1, 201).repeat(500, 1, 3, 1)
    how = augment(brightness=0.2, contrast=0.3)
    out = how(grey, drawn(how, 500))
    assert torch.equal(out[..., 0], grey[..., 0])  # air
    assert torch.equal(out[..., -1], grey[..., -1])
    assert (out.diff(dim=-1) > 0).all()
    middle = out[:, 0, 0, 100]
    assert 0.19 < middle.max() <= 0.2
    assert -0.2 <= middle.min() < -0.19
    brighter = how(grey[:1], at(how, brightness=0.5))
    torch.testing.assert_close(brighter, grey[:1] + 0.1 * (1 - grey[:1] ** 2))
    steeper = how(grey[:1], at(how, contrast=0.5))
    assert float(steeper[0, 0, 0, 101] - steeper[0, 0, 0, 99]) == pytest.approx(0.02 * 1.15, rel=1e-3)


def test_what_a_g_without_tanh_draws_outside_the_range_stays_outside() -> None:
    how = augment(brightness=0.2, contrast=0.3)
    far = torch.tensor([-3.0, -1.5, 1.5, 3.0]).view(1, 1, 1, 4).repeat(200, 1, 1, 1)
    torch.testing.assert_close(how(far, drawn(how, 200)), far)


def test_a_small_image_moves_by_a_pixel_at_least() -> None:
    how = augment(shift=0.06)
    spot = torch.zeros(200, 1, 4, 4)
    spot[:, :, 2, 2] = 1
    assert len(how(spot, drawn(how, 200)).flatten(1).argmax(1).unique()) == 9


@pytest.mark.parametrize("dims", [2, 3])
def test_a_box_of_the_stated_size_is_cut_out(dims) -> None:
    how, ones = augment(dims, cutout=0.5), torch.ones(300, 1, *[8] * dims)
    cut = how(ones, drawn(how, 300)) == 0
    sizes = cut.flatten(1).sum(1)
    assert sizes.max() == 4**dims
    assert sizes.min() >= 2**dims  # centred in the image, it may hang over its edge
    assert float(how(ones[:1], at(how, cutout=[0.0] * dims)).sum()) == 8**dims - 4**dims


@pytest.mark.parametrize("dims", [2, 3])
def test_real_and_fake_of_a_row_and_all_channels_are_treated_alike(dims) -> None:
    how = augment(dims, **ALL)
    numbers = drawn(how)
    two = images(dims, channels=2)
    two[:, 1] = two[:, 0]
    out = how(two, numbers)
    assert torch.equal(out[:, 0], out[:, 1])
    assert torch.equal(how(two, numbers), out)
    torch.testing.assert_close(torch.cat([how(two[:1], numbers[:1]), how(two[1:], numbers[1:])]), out)
    assert out.abs().max() <= 1 + 1e-6


def test_half_precision_is_placed_in_full() -> None:
    how = augment(shift=0.25)
    film = images(count=1).bfloat16()
    out = how(film, at(how, shift=[0.99, -0.99]))
    torch.testing.assert_close(out[0, 0, :-3, 2:], film[0, 0, 3:, :-2].float(), atol=1e-5, rtol=0)


# Derivatives ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["all", *(pytest.param(name, marks=pytest.mark.slow) for name in ALL)])
def test_first_and_second_derivatives(dims, name) -> None:
    how = augment(dims, **(ALL if name == "all" else {name: ALL[name]}))
    size = (4, 5) if dims == 2 else (4, 3, 5)
    image = (torch.rand(2, 1, *size, dtype=torch.double) * 2 - 1).requires_grad_()
    numbers = drawn(how, 2, seed=3)
    assert torch.autograd.gradcheck(lambda x: how(x, numbers), image)
    assert torch.autograd.gradgradcheck(lambda x: how(x, numbers), image)


@pytest.mark.parametrize("dims", [2, 3])
def test_g_is_taught_and_d_penalised_through_it(dims) -> None:
    game = Synthesis(latent=2, objective=NonSaturating(), penalty=R1R2(weight=1.0), augment=augment(dims, **ALL))
    shape = (1, *SIZES[dims])
    g = nn.Sequential(nn.Linear(2, math.prod(shape)), nn.Tanh(), nn.Unflatten(1, shape))
    d = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 8), nn.Softplus(), nn.Linear(8, 1))
    players = (lambda z, condition: g(z)), (lambda image, condition: d(image))
    batch = game.draw({"image": images(dims)})
    fake = game.generate(players[0], batch)
    game.generator_losses(players[1], batch, fake).total.backward()
    assert all(weight.grad.abs().sum() > 0 for weight in g.parameters())
    d.zero_grad()
    game.discriminator_penalties(players[1], batch, fake.detach(), 0)["penalty"].backward()
    assert d[1].weight.grad.abs().sum() > 0


# How often --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ALL if name != "flip"])
def test_each_operation_leaves_an_image_alone_at_1_minus_p(name) -> None:
    """What makes it invertible (Karras et al. 2020): the identity is the likeliest of its doings at any p < 1."""
    how = augment(p=0.3, **{name: ALL[name]})
    alike = (how(images(count=1).expand(4000, -1, -1, -1), drawn(how, 4000)) == images(count=1)).flatten(1).all(1)
    extra = 0.3 / 25 if name == "shift" else 0.0  # by 2 pixels or less on each axis: no move at all is one of 25
    assert float(alike.float().mean()) == pytest.approx(0.7 + extra, abs=0.03)


def test_all_together_leave_it_alone_at_the_product() -> None:
    how = augment(p=0.1, **ALL)
    film = images(count=1)
    alike = (how(film.expand(4000, -1, -1, -1), drawn(how, 4000)) == film).flatten(1).all(1)
    nothing = 0.9**5 * (0.9 + 0.1 / 25) * 0.95  # flips are half of what they are asked for
    assert float(alike.float().mean()) == pytest.approx(nothing, abs=0.03)


def test_never_and_always() -> None:
    film = images(count=500)
    never, always = augment(p=0.0, **ALL), augment(p=1.0, **ALL)
    assert torch.equal(never(film, drawn(never, 500)), film)
    assert not (always(film, drawn(always, 500)) == film).flatten(1).all(1).any()


def told(strength: Adaptive, accuracy: float, turns: int, images: int = 10) -> float:
    for _ in range(turns):
        strength.adapt(lambda: torch.tensor(accuracy), 0, images, 0)
    return float(strength.p)


class TestAdaptive:
    def test_it_rises_and_falls_by_the_images_shown(self) -> None:
        strength = Adaptive(target=0.8, full_images=1000, max_p=0.5)
        assert told(strength, 1.0, 3) == 0
        assert told(strength, 1.0, 1) == pytest.approx(0.04)
        assert told(strength, 0.79, 8) == 0.0  # 0.04 down, then held at 0
        assert told(strength, 0.81, 20, images=5) == pytest.approx(0.1)

    def test_the_mean_of_the_turns_decides(self) -> None:
        strength = Adaptive(target=0.8, full_images=1000)
        for accuracy in (0.95, 0.95, 0.95, 0.2):  # mean 0.7625
            told(strength, accuracy, 1)
        assert float(strength.p) == 0

    def test_it_is_clamped(self) -> None:
        strength = Adaptive(target=0.8, full_images=100, max_p=0.6)
        assert told(strength, 1.0, 100) == pytest.approx(0.6)

    def test_a_step_that_is_not_finite_moves_nothing(self) -> None:
        strength = Adaptive(target=0.8, full_images=1000, start=0.2)
        assert told(strength, math.nan, 4) == pytest.approx(0.2)
        assert told(strength, 1.0, 4) == pytest.approx(0.24)

    def test_its_state_is_whole(self) -> None:
        one, other = (Adaptive(target=0.8, full_images=1000) for _ in range(2))
        told(one, 0.9, 7)
        other.load_state_dict(one.state_dict())
        assert told(one, 0.7, 1) == told(other, 0.7, 1)
        assert float(one.p) == float(other.p) > 0


def test_a_ramp_follows_the_images() -> None:
    strength = Ramped(Ramp(start=0.1, end=0.5, images=100))
    assert float(strength.p) == pytest.approx(0.1)
    strength.adapt(lambda: torch.tensor(0.0), 50, 10, 1000)
    assert float(strength.p) == pytest.approx(0.3)
    strength.adapt(lambda: torch.tensor(0.0), 500, 10, 1000)
    assert float(strength.p) == pytest.approx(0.5)


# What is refused --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Augment(spatial_dims=2, strength=Fixed(1.0), flip=True), "the heart lies left"),
        (lambda: augment(shift=0.6), "shift must lie in 0 to 0.5, got 0.6"),
        (lambda: augment(cutout=-0.1), "cutout must lie in 0 to 1"),
        (lambda: augment(brightness=0.3, contrast=0.3), r"brightness \+ contrast must lie in 0 to 0.5, got 0.6"),
        (lambda: Fixed(1.2), "`p` must be a probability"),
        (lambda: Ramped(Ramp(start=0.0, end=1.5)), "`ramp.end` must be a probability"),
        (lambda: Adaptive(target=0.4, full_images=10), "`target` must be an accuracy between"),
        (lambda: Adaptive(target=0.8, full_images=0), "`full_images` must be a whole number of at least 1"),
        (lambda: Adaptive(target=0.8, full_images=10, max_p=0.5, start=0.6), "`start` must be at most `max_p`"),
        (lambda: augment(3, shift=0.1)(images(2), torch.rand(4, 4)), "must have 3 axes of space and 4 numbers each"),
    ],
)
def test_what_cannot_be_is_refused(make, words) -> None:
    with pytest.raises(ValueError, match=words):
        make()


# The leak ---------------------------------------------------------------------------------------------------------------------------

SIDE = 8


class Both(nn.Module):
    """What a game has. `fakes` off is the mistake the paper warns of: only the reals are augmented."""

    def __init__(self, how: Augment) -> None:
        super().__init__()
        self.how, self.numbers = how, how.numbers

    def forward(self, images: Tensor, numbers: Tensor) -> Tensor:
        return self.how(images, numbers)


def blobs(count: int) -> Tensor:
    """A round spot of random brightness, always at the centre."""
    place = torch.arange(SIDE) - (SIDE - 1) / 2
    spot = (-(place[:, None] ** 2 + place[None] ** 2) / 3).exp()
    return (torch.rand(count, 1, 1, 1) * 0.4 + 0.6) * 2 * spot - 1


def spread(image: Tensor) -> float:
    """How far the spots lie from the centre, in pixels along an axis: root mean square."""
    mass = (image + 1).clamp(min=0).square().squeeze(1)
    place = torch.arange(SIDE) - (SIDE - 1) / 2
    x, y = ((mass.sum(axis) * place).sum(1) / mass.sum((1, 2)) for axis in (1, 2))
    return float(((x.square() + y.square()) / 2).mean().sqrt())


def learnt(judged: Callable[[Augment, Tensor, Tensor], Tensor], steps: int = 300) -> Tensor:
    """What a tiny G draws after its game, with every image shifted by up to 2 pixels at p = 0.7 on its way to D."""
    torch.manual_seed(0)
    how = augment(p=0.7, shift=0.25)
    g = nn.Sequential(nn.Linear(8, 64), nn.LeakyReLU(0.2), nn.Linear(64, SIDE**2), nn.Tanh(), nn.Unflatten(1, (1, SIDE, SIDE)))
    d = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 128), nn.LeakyReLU(0.2), nn.Linear(128, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
    optimizers = [torch.optim.Adam(player.parameters(), lr, betas=(0.5, 0.9)) for player, lr in ((g, 1e-3), (d, 2e-3))]
    objective, penalty = NonSaturating(), R1R2(weight=0.1)
    for _ in range(steps):
        real, z, numbers = blobs(32), torch.randn(32, 8), torch.rand(32, how.numbers)
        fake, shown = g(z), how(real, numbers)
        seen = judged(how, fake.detach(), numbers)
        loss = objective.discriminator(d(shown), d(seen)) + penalty(d, shown, seen)
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        objective.generator(d(judged(how, fake, numbers))).backward()
        optimizers[0].step()
    with torch.no_grad():
        return g(torch.randn(500, 8))


@pytest.mark.slow
def test_g_does_not_learn_the_augmentation_unless_its_own_images_pass_it_by() -> None:
    how = augment(p=0.7, shift=0.25)
    moved = spread(how(blobs(500), drawn(how, 500)))
    kept = spread(learnt(lambda how, fake, numbers: how(fake, numbers)))
    leaked = spread(learnt(lambda how, fake, numbers: fake))
    assert leaked > moved / 2
    assert kept < moved / 5


def test_the_protocol() -> None:
    assert isinstance(augment(**ALL), Augmentation)
    assert NoPenalty().mixed is False
