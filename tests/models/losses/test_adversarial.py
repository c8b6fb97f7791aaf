"""Every objective against its formula, written out here in plain Python floats."""

import math
import pickle

import pytest
import torch

from medgan_pl.models.losses.adversarial import (
    Hinge,
    Hybrid,
    LeastSquares,
    NonSaturating,
    Relative,
    Saturating,
    Separate,
    Wasserstein,
    accuracy,
)

RELATIVE = Relative(NonSaturating())
SYMMETRIC = LeastSquares(real_target=1.0, fake_target=-1.0)
SEPARATE = [NonSaturating(), Saturating(), LeastSquares(), Hinge(), Wasserstein(), Separate(Hinge())]
PAIRED = [RELATIVE, Relative(Hinge()), Relative(SYMMETRIC), Relative(Wasserstein()), Hybrid(Hinge()), Hybrid(Wasserstein(), 0.3)]
ALL = [*SEPARATE, *PAIRED]
REAL = [0.3, -1.7, 2.5, 0.9]
FAKE = [-0.4, 1.2, -3.1, 0.05]


def log_sigmoid(x):
    return math.log(1 / (1 + math.exp(-x)))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def entropy(real, fake):
    return -mean(log_sigmoid(r) for r in real) - mean(math.log(1 - 1 / (1 + math.exp(-f))) for f in fake)


BY_HAND = [
    (NonSaturating(), entropy, lambda real, fake: -mean(log_sigmoid(f) for f in fake)),
    (Saturating(), entropy, lambda real, fake: mean(math.log(1 - 1 / (1 + math.exp(-f))) for f in fake)),
    (
        LeastSquares(),
        lambda real, fake: 0.5 * mean((r - 1) ** 2 for r in real) + 0.5 * mean(f**2 for f in fake),
        lambda real, fake: 0.5 * mean((f - 1) ** 2 for f in fake),
    ),
    (
        LeastSquares(real_target=0.9, fake_target=-1.0),
        lambda real, fake: 0.5 * mean((r - 0.9) ** 2 for r in real) + 0.5 * mean((f + 1) ** 2 for f in fake),
        lambda real, fake: 0.5 * mean((f - 0.9) ** 2 for f in fake),
    ),
    (
        Hinge(),
        lambda real, fake: mean(max(0.0, 1 - r) for r in real) + mean(max(0.0, 1 + f) for f in fake),
        lambda real, fake: -mean(fake),
    ),
    (Wasserstein(), lambda real, fake: mean(fake) - mean(real), lambda real, fake: -mean(fake)),
    (
        RELATIVE,
        lambda real, fake: -mean(log_sigmoid(r - f) for r, f in zip(real, fake, strict=True)),
        lambda real, fake: -mean(log_sigmoid(f - r) for r, f in zip(real, fake, strict=True)),
    ),
]


@pytest.mark.parametrize(("objective", "discriminator", "generator"), BY_HAND)
@pytest.mark.parametrize("shape", [(4,), (4, 1), (2, 1, 2), (1, 1, 2, 2, 1)])
def test_values_are_the_formula(objective, discriminator, generator, shape):
    real, fake = torch.tensor(REAL).reshape(shape), torch.tensor(FAKE).reshape(shape)
    d, g = objective.discriminator(real, fake), objective.generator(fake, real)
    assert d.shape == g.shape == ()
    assert d.item() == pytest.approx(discriminator(REAL, FAKE), rel=1e-5)
    assert g.item() == pytest.approx(generator(REAL, FAKE), rel=1e-5)


# Of each base what D and G pay for by how much a real beats its fake, a, and the slope of both in a.
KINDS = {
    "hinge": (Hinge(), lambda a: max(0.0, 1 - a), lambda a: -1.0 * (a < 1), lambda a: a, lambda a: 1.0),
    "least squares": (SYMMETRIC, lambda a: (a - 1) ** 2 / 2, lambda a: a - 1, lambda a: (a + 1) ** 2 / 2, lambda a: a + 1),
    "wasserstein": (Wasserstein(), lambda a: -a, lambda a: -1.0, lambda a: a, lambda a: 1.0),
    "logistic": (
        NonSaturating(),
        lambda a: math.log(1 + math.exp(-a)),
        lambda a: -1 / (1 + math.exp(a)),
        lambda a: math.log(1 + math.exp(a)),
        lambda a: 1 / (1 + math.exp(-a)),
    ),
}


@pytest.mark.parametrize(("base", "d_pays", "d_slope", "g_pays", "g_slope"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("separate", [0.0, 0.3])
def test_relative_and_hybrid_by_hand(base, d_pays, d_slope, g_pays, g_slope, separate):
    objective = Hybrid(base, separate) if separate else Relative(base)
    real, fake = torch.tensor(REAL, requires_grad=True), torch.tensor(FAKE, requires_grad=True)
    apart = {
        "d": base.discriminator(real, fake) * separate,  # held against the formula above
        "g": base.generator(fake) * separate,
    }
    beaten = [r - f for r, f in zip(REAL, FAKE, strict=True)]
    pays, slopes = {"d": d_pays, "g": g_pays}, {"d": d_slope, "g": g_slope}
    for player, loss in {"d": objective.discriminator(real, fake), "g": objective.generator(fake, real)}.items():
        against = (1 - separate) * mean(map(pays[player], beaten))
        assert loss.item() == pytest.approx(apart[player].item() + against, rel=1e-5)
        slope = torch.tensor([(1 - separate) * slopes[player](a) / len(beaten) for a in beaten])
        alone = torch.autograd.grad(apart[player], (real, fake), allow_unused=True, materialize_grads=True)
        gradients = torch.autograd.grad(loss, (real, fake))
        torch.testing.assert_close(gradients, (alone[0] + slope, alone[1] - slope))


def test_separate_is_its_base():
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    assert Separate(SYMMETRIC).discriminator(real, fake) == SYMMETRIC.discriminator(real, fake)
    assert Separate(SYMMETRIC).generator(fake) == SYMMETRIC.generator(fake)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_hybrid_is_of_both_kinds(share):
    with pytest.raises(ValueError, match="for 1 use objective=separate, for 0 objective=relative"):
        Hybrid(Hinge(), share)


@pytest.mark.parametrize("objective", ALL)
def test_gradients_are_finite_differences(objective):
    real = torch.tensor(REAL, dtype=torch.float64, requires_grad=True)
    fake = torch.tensor(FAKE, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(objective.discriminator, (real, fake))
    assert torch.autograd.gradcheck(objective.generator, (fake, real))


@pytest.mark.parametrize("objective", ALL)
@pytest.mark.parametrize(("real_value", "fake_value"), [(200, 200), (200, -200), (-200, 200), (-200, -200)])
def test_far_logits_stay_finite(objective, real_value, fake_value):
    real = torch.full((3,), float(real_value), requires_grad=True)
    fake = torch.full((3,), float(fake_value), requires_grad=True)
    for loss in (objective.discriminator(real, fake), objective.generator(fake, real)):
        gradients = torch.autograd.grad(loss, (real, fake), allow_unused=True)
        assert loss.isfinite()
        assert all(g is None or g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_accuracy_of_logits_that_are_not_finite_is_none(wrong):
    assert accuracy(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.5])) == 0.75
    assert accuracy(torch.tensor([1.0, wrong]), torch.tensor([0.0, 1.5])).isnan()
    assert accuracy(torch.tensor([1.0, 2.0]), torch.tensor([0.0, wrong])).isnan()


def test_accuracy_is_the_share_of_pairs_in_order_ties_half():
    real, fake = torch.tensor([3.0, 1.0, -2.0]), torch.tensor([1.0, 0.0])
    assert accuracy(real, fake).item() == pytest.approx((2 + 1.5 + 0) / 6)
    assert accuracy(fake, real).item() == pytest.approx((0.5 + 2) / 6)
    assert accuracy(torch.zeros(4), torch.zeros(3)).item() == 0.5
    maps = torch.tensor([[1.0, 2.0, 3.0], [-4.0, 0.0, 5.5]])  # means 2 and 0.5
    assert accuracy(maps, torch.tensor([[1.9], [0.6]])).item() == 0.5, "by the mean of its logits, however many there are"
    assert accuracy(maps.requires_grad_(), fake).requires_grad is False


def test_far_logits_have_their_limits():
    far = torch.full((2,), 200.0)
    assert NonSaturating().discriminator(-far, far).item() == pytest.approx(400)
    assert NonSaturating().generator(-far).item() == pytest.approx(200)
    assert Saturating().generator(far).item() == pytest.approx(-200)
    assert Hinge().discriminator(far, -far).item() == 0
    assert Hinge().discriminator(-far, far).item() == pytest.approx(402)
    assert RELATIVE.discriminator(-far, far).item() == pytest.approx(400)


def test_generator_of_a_beaten_gan_still_learns_only_without_saturation():
    fake = torch.full((1,), -30.0, requires_grad=True)
    assert torch.autograd.grad(NonSaturating().generator(fake), fake)[0].item() == pytest.approx(-1)
    assert abs(torch.autograd.grad(Saturating().generator(fake), fake)[0].item()) < 1e-12


def test_hinge_has_its_corners_at_one():
    real = torch.tensor([0.9, 1.1], requires_grad=True)
    fake = torch.tensor([-0.9, -1.1], requires_grad=True)
    gradients = torch.autograd.grad(Hinge().discriminator(real, fake), (real, fake))
    assert gradients[0].tolist() == [-0.5, 0]
    assert gradients[1].tolist() == [0.5, 0]


@pytest.mark.parametrize("objective", ALL)
def test_every_generator_raises_its_logits_and_every_discriminator_parts_them(objective):
    real, fake = torch.tensor([0.1, -0.2], requires_grad=True), torch.tensor([0.2, 0.1], requires_grad=True)
    towards_real, towards_fake = torch.autograd.grad(objective.discriminator(real, fake), (real, fake))
    assert (towards_real < 0).all()
    assert (towards_fake > 0).all()
    assert (torch.autograd.grad(objective.generator(fake, real), fake)[0] < 0).all()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("objective", ALL)
def test_half_precision_is_widened(objective, half):
    real, fake = torch.tensor([300.0, 1.0], dtype=half), torch.tensor([-300.0, 0.3], dtype=half)
    for loss, exact in zip(paid(objective, real, fake), paid(objective, real.double(), fake.double()), strict=True):
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact.item(), rel=1e-5)  # bfloat16 alone is off by some 1e-3
    assert accuracy(real, fake).dtype == torch.float32


def paid(objective, real, fake):
    return objective.discriminator(real, fake), objective.generator(fake, real)


@pytest.mark.parametrize("objective", [o for o in ALL if not o.paired])
def test_unpaired_objectives_need_no_real_and_take_unequal_batches(objective):
    assert objective.generator(torch.zeros(3)).isfinite()
    assert objective.discriminator(torch.zeros(2, 1), torch.zeros(5, 1)).isfinite()


def test_relativistic_pairs_rows():
    assert [o for o in ALL if o.paired] == PAIRED
    real, fake = torch.tensor([5.0, -5.0]), torch.tensor([5.0, -5.0])
    assert RELATIVE.discriminator(real, fake).item() == pytest.approx(math.log(2))
    assert RELATIVE.discriminator(real, fake.flip(0)).item() > 4
    with pytest.raises(ValueError, match=r"real_logits \(2,\) and fake_logits \(3,\)"):
        RELATIVE.discriminator(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="as many fakes"):
        RELATIVE.generator(torch.zeros(1), torch.zeros(3))
    with pytest.raises(ValueError, match="real_logits"):
        RELATIVE.generator(torch.zeros(2))


def test_least_squares_needs_two_targets():
    with pytest.raises(ValueError, match="must differ"):
        LeastSquares(real_target=0.5, fake_target=0.5)


@pytest.mark.parametrize("objective", ALL)
def test_objectives_are_plain_values(objective):
    assert pickle.loads(pickle.dumps(objective)) == objective
