"""What a generator pays between fake and real: by value, by slope, in 2-D and 3-D, under autocast."""

import math

import pytest
import torch
from monai.losses import DiceLoss
from monai.metrics.regression import compute_ms_ssim
from skimage.metrics import structural_similarity
from torch import nn
from torch.nn import functional as F

from medgan_pl.metrics.diversity import ms_ssim
from medgan_pl.metrics.extractors.domain import DomainFeatures
from medgan_pl.metrics.extractors.features import RandomFeatures
from medgan_pl.metrics.extractors.radiomics import RadiomicsFeatures
from medgan_pl.metrics.paired import ssim
from medgan_pl.models.losses.image import L1, MSE, CrossEntropy, FeatureMatching, Gradient, Perceptual, SoftDice, StructuralSimilarity
from medgan_pl.models.losses.structure import WEIGHTS, mean_inside, scale_weights, scales_within, similarity


def pair(shape, noise=0.2, dtype=torch.float32):
    """Smooth reals in [-1, 1] with a flat bright part, and noisy fakes."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(*shape[:2], *(max(2, side // 8) for side in shape[2:]), generator=draw, dtype=dtype)
    real = F.interpolate(coarse, size=shape[2:], mode="bilinear" if len(shape) == 4 else "trilinear") * 2 - 1
    real[..., -4:] = 0.97
    fake = (real + noise * torch.randn(shape, generator=draw, dtype=dtype)).clamp(-0.99, 0.99)
    return fake, real


def maps(images):
    """What a discriminator's layers may show: convolutions and matrices are what autocast narrows."""
    weight = torch.linspace(-1, 1, images.shape[1] * 2, dtype=images.dtype).view(2, images.shape[1], *[1] * (images.ndim - 2))
    convolved = (F.conv2d if images.ndim == 4 else F.conv3d)(images, weight)
    return [convolved, convolved.tanh().flatten(2).mean(2)]


TERMS = {
    "l1": L1(weight=0.5),
    "mse": MSE(weight=0.5),
    "ssim": StructuralSimilarity(weight=0.5),
    "ms_ssim": StructuralSimilarity(weight=0.5, scales=2),
    "gradient": Gradient(weight=0.5),
    "features": FeatureMatching(weight=0.5),
    "dice": SoftDice(weight=0.5),
    "cross_entropy": CrossEntropy(weight=0.5),
}


@pytest.mark.parametrize("shape", [(2, 2, 23, 26), (1, 1, 22, 24, 23)])
@pytest.mark.parametrize("name", TERMS)
def test_slopes_are_those_of_finite_differences(name, shape):
    fake, real = pair(shape, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda images: TERMS[name](images, real, maps), fake.requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("name", [*TERMS, "perceptual"])
def test_float32_under_autocast(name):
    term = {**TERMS, "perceptual": Perceptual(weight=0.5, extractor=RandomFeatures(channels=2))}[name]
    fake, real = pair((2, 2, 32, 24))
    half = fake.bfloat16()
    expected = term(half.float(), real, maps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        paid = term(half.requires_grad_(), real, maps)
    assert paid.dtype == torch.float32
    assert paid.shape == ()
    if name == "features":  # D itself has rounded
        torch.testing.assert_close(paid, expected, rtol=0.02, atol=0)
    else:
        assert paid == expected
    paid.backward()
    assert half.grad.isfinite().all()
    assert half.grad.any()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", TERMS)
def test_both_half_precisions_are_widened_first(name, half):
    fake, real = (images.to(half) for images in pair((1, 1, 24, 24)))
    paid = TERMS[name](fake, real, lambda images: maps(images.float()))
    assert paid.dtype == torch.float32
    assert paid == TERMS[name](fake.float(), real.float(), maps)


@pytest.mark.parametrize("side", [-1.0, 1.0])
@pytest.mark.parametrize("term", [SoftDice(weight=0.5), CrossEntropy(weight=0.5), L1(weight=0.5), MSE(weight=0.5), Gradient(weight=0.5)])
def test_nothing_in_padding_counts_whatever_stands_there(term, side):
    """The value is that of the image cut out of its padding, in which the real and the fake say the same or the opposite."""
    fake, real = pair((2, 2, 12, 10))
    inside = torch.zeros(2, 1, 12, 10)
    inside[..., 2:9, 1:8] = 1
    cut = (..., slice(2, 9), slice(1, 8))
    expected = term(fake[cut], real[cut])
    filled = torch.where(inside > 0, fake, 0.9 * side), torch.where(inside > 0, real, 1.0)
    torch.testing.assert_close(term(*filled, None, inside), expected)
    assert (term(*filled) - expected).abs() > 0.001


@pytest.mark.parametrize("name", ["ssim", "ms_ssim", "features"])
def test_what_differs_in_padding_alone_costs_nothing(name):
    """The padding begins at an odd place, so that halving mixes a column of it with one of the image."""
    fake, real = pair((2, 1, 50, 52))
    inside = torch.ones(2, 1, 50, 52)
    inside[..., 45:], inside[:, :, :3] = 0, 0
    fake = torch.where(inside > 0, real, fake)
    assert TERMS[name](fake, real, maps, inside).item() == pytest.approx(0, abs=1e-6)
    assert ms_ssim(fake, real, inside).tolist() == pytest.approx([1, 1], abs=1e-6)
    assert TERMS[name](fake, real, maps) > 0.001


def test_means_inside_by_hand():
    values = torch.arange(12.0).view(2, 2, 3)
    inside = torch.tensor([[[1.0, 0, 1]], [[0, 0, 0]]])
    assert mean_inside(values, inside, empty=7.0).tolist() == [(0 + 2 + 3 + 5) / 4, 7]


@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (2, 1, 4, 5, 6)])
def test_content_by_hand(shape):
    fake, real = pair(shape)
    assert float(L1(weight=100)(fake, real)) == pytest.approx(100 * float((fake - real).abs().mean()), rel=1e-6)
    assert float(MSE(weight=3)(fake, real)) == pytest.approx(3 * float((fake - real).square().mean()), rel=1e-6)


class TestStructuralSimilarity:
    @pytest.mark.parametrize("shape", [(3, 1, 64, 48), (2, 3, 40, 23), (2, 1, 24, 20, 22)])
    def test_one_scale_is_scikit_images(self, shape):
        fake, real = pair(shape)
        images = zip(fake.double().numpy(), real.double().numpy(), strict=True)
        settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1, "channel_axis": 0}
        each = [structural_similarity((a + 1) / 2, (b + 1) / 2, **settings) for a, b in images]
        paid = StructuralSimilarity(weight=2)(fake, real)
        assert float(paid) == pytest.approx(2 * (1 - sum(each) / len(each)), abs=1e-5)
        torch.testing.assert_close(paid / 2, 1 - ssim(fake, real).mean(), rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        ("shape", "scales"), [((2, 1, 44, 60), 3), ((1, 1, 176, 180), 5), ((1, 2, 44, 45, 46), 3), ((2, 1, 90, 96), 2)]
    )
    def test_more_scales_are_monais_and_the_metrics(self, shape, scales):
        fake, real = pair(shape)
        weights = [weight / sum(WEIGHTS[:scales]) for weight in WEIGHTS[:scales]]
        monai = compute_ms_ssim((fake + 1) / 2, (real + 1) / 2, spatial_dims=len(shape) - 2, weights=weights)
        paid = StructuralSimilarity(weight=1, scales=scales)(fake, real)
        torch.testing.assert_close(paid, 1 - monai.mean(), rtol=1e-4, atol=1e-5)
        if scales == scales_within(shape[2:]):
            torch.testing.assert_close(paid, 1 - ms_ssim(fake, real).mean(), rtol=0, atol=1e-6)

    def test_float32_is_exact_in_flat_bright_parts(self):
        real = torch.full((1, 1, 24, 24), 0.97)
        fake = real + 0.002 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
        exact = StructuralSimilarity(weight=1)(fake.double(), real.double())
        assert float(StructuralSimilarity(weight=1)(fake, real)) == pytest.approx(float(exact), rel=1e-3)
        assert 1e-4 < exact < 1e-2

    @pytest.mark.parametrize("scales", [1, 2])
    def test_equal_images_pay_nothing_and_have_no_slope(self, scales):
        real = pair((2, 1, 24, 24))[1]
        fake = real.clone().requires_grad_()
        paid = StructuralSimilarity(weight=1, scales=scales)(fake, real)
        paid.backward()
        assert float(paid.detach()) == pytest.approx(0, abs=1e-6)
        assert fake.grad.abs().max() < 1e-6
        assert all((part == 1).all() for part in similarity(real, real))

    @pytest.mark.parametrize("scales", [1, 3])
    def test_an_inverted_image_still_learns(self, scales, denormals_flushed):
        """MS-SSIM of the papers has no value here."""
        real = pair((2, 1, 48, 48))[1]
        term, fake = StructuralSimilarity(weight=1, scales=scales), -real
        before = term(fake, real)
        assert 1 - 1e-6 < float(before) < 2
        for _ in range(100):
            (slope,) = torch.autograd.grad(term(fake.requires_grad_(), real), fake)
            assert slope.isfinite().all()
            fake = (fake - 0.05 * slope.sign()).clamp(-1, 1).detach()
        assert term(fake, real) < before - 0.3

    def test_what_it_refuses(self):
        with pytest.raises(ValueError, match=r"`scales` must be 1 \(SSIM\) to 5 \(MS-SSIM\), got 6"):
            StructuralSimilarity(weight=1, scales=6)
        image = torch.zeros(1, 1, 100, 128)
        with pytest.raises(ValueError, match=r"scales=5 needs sides of 176 or more, got \(100, 128\); use scales=4"):
            StructuralSimilarity(weight=1, scales=5)(image, image)
        assert float(StructuralSimilarity(weight=1, scales=4)(image, image)) == pytest.approx(0, abs=1e-6)
        with pytest.raises(ValueError, match=r"needs sides of 11 or more, got \(8, 128\); use images of 2 or 3 sides"):
            StructuralSimilarity(weight=1)(image[:, :, :8], image[:, :, :8])

    def test_the_exponents_sum_to_one(self):
        assert scale_weights(5) == pytest.approx(WEIGHTS, rel=1e-3)
        assert all(sum(scale_weights(scales)) == pytest.approx(1) for scales in range(1, 6))
        assert [scales_within((side, 500)) for side in (10, 11, 22, 43, 44, 176, 4000)] == [0, 1, 2, 2, 3, 5, 5]


class TestGradient:
    def test_by_hand(self):
        real, fake = torch.zeros(2, 1, 1, 2, 3)
        fake[0, 0, 1] = 0.6  # an edge down the rows, in all of its three columns
        real[0, 0, :, 2] = 0.4  # one along the columns, in one of two places
        assert float(Gradient(weight=2)(fake[None, 0], real[None, 0])) == pytest.approx(2 * (0.6 + 0.4 / 2))

    def test_sums_the_axes_of_a_volume_and_knows_the_side(self):
        ramp = torch.linspace(-1, 1, 5).expand(1, 2, 4, 3, 5)
        assert float(Gradient(weight=1)(ramp, torch.zeros_like(ramp))) == pytest.approx(0.5)
        assert float(Gradient(weight=1)(ramp + 0.3, ramp)) == pytest.approx(0, abs=1e-6)  # brightness is no edge
        assert float(Gradient(weight=1)(-ramp, ramp)) == pytest.approx(1)
        turned = ramp.transpose(2, 4)
        assert float(Gradient(weight=1)(turned, torch.zeros_like(turned))) == pytest.approx(0.5)

    def test_refuses_what_has_no_edge(self):
        with pytest.raises(ValueError, match=r"sides of 2 or more, got \(1, 1, 1, 4\)"):
            Gradient(weight=1)(torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1, 4))


class TestFeatureMatching:
    def test_layers_weigh_alike_and_the_real_has_no_slope(self):
        scale = torch.tensor(1.0, requires_grad=True)
        fake, real = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, 1, 4, 4)

        def features(images):
            return [scale * images, scale * (images[:, :, :1, :1] * 4 + 1)]

        paid = FeatureMatching(weight=10)(fake, real, features)
        assert float(paid.detach()) == pytest.approx(10 * (0.5 + 2) / 2)
        (slope,) = torch.autograd.grad(paid, scale)
        assert float(slope) == pytest.approx(10 * (0.5 + 3) / 2)  # that of the fake's maps alone: the real's stand still, at 1

    def test_needs_a_discriminator_with_features(self):
        image = torch.zeros(1, 1, 4, 4)
        with pytest.raises(ValueError, match="needs the discriminator's features"):
            FeatureMatching(weight=1)(image, image)
        with pytest.raises(ValueError, match="at least one feature map, got none"):
            FeatureMatching(weight=1)(image, image, lambda images: [])


class Rounded(nn.Module):
    def forward(self, images):
        return images.detach().round().flatten(1)


class TestPerceptual:
    @pytest.mark.parametrize("shape", [(2, 1, 24, 17), (2, 2, 16, 16, 17)])
    def test_is_the_distance_of_features_and_teaches_the_fake(self, shape):
        extractor = RandomFeatures(spatial_dims=len(shape) - 2, channels=shape[1], width=4)
        term = Perceptual(weight=2, extractor=extractor)
        fake, real = pair(shape)
        before = term(fake.requires_grad_(), real)
        assert float(before.detach()) == pytest.approx(
            2 * float((extractor(fake.detach()) - extractor(real)).square().sum(1).mean()), rel=1e-5
        )
        (slope,) = torch.autograd.grad(before, fake)
        assert term(fake - 0.01 * slope / slope.abs().max(), real) < before
        assert not term.state_dict()

    def test_flat_images_have_a_slope(self):
        """Air and a masked-out background: the spread of a flat feature is 0, where a root has none."""
        fake = torch.full((1, 1, 16, 16), -1.0, requires_grad=True)
        Perceptual(weight=1, extractor=RandomFeatures())(fake, torch.zeros(1, 1, 16, 16)).backward()
        assert fake.grad.isfinite().all()

    def test_the_extractor_is_frozen_and_never_trains(self):
        extractor = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        term = Perceptual(weight=1, extractor=extractor)
        nn.ModuleDict({"perceptual": term}).train()
        fake, real = pair((2, 1, 8, 8))
        term(fake.requires_grad_(), real).backward()
        assert not extractor.training
        assert fake.grad.any()
        assert all(parameter.grad is None for parameter in extractor.parameters())
        assert not extractor[1].running_mean.any()

    @pytest.mark.parametrize("extractor", [RadiomicsFeatures(), DomainFeatures()])
    def test_refuses_at_once_what_is_fitted(self, extractor):
        with pytest.raises(ValueError, match=f"have a gradient and need no fit: random, .* or torchscript, got {extractor.name}"):
            Perceptual(weight=1, extractor=extractor)

    def test_refuses_an_extractor_that_cannot_teach(self):
        fake, real = pair((1, 1, 8, 8))
        term = Perceptual(weight=1, extractor=Rounded())
        with pytest.raises(ValueError, match="features have a gradient and need no fit"):
            term(fake.clone().requires_grad_(), real)
        assert term(fake, real) >= 0  # to look at only


class TestMasks:
    @pytest.mark.parametrize("shape", [(3, 2, 12, 10), (2, 3, 6, 7, 8)])
    def test_dice_is_monais_and_cross_entropy_the_formula(self, shape):
        fake = pair(shape)[0]
        mask = (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.3).float()
        mask[0, 1] = 0  # a structure that is absent
        p, real = (fake + 1) / 2, 2 * mask - 1
        monai = DiceLoss(squared_pred=True, smooth_nr=1, smooth_dr=1)(p, mask)
        torch.testing.assert_close(SoftDice(weight=3)(fake, real), 3 * monai)
        torch.testing.assert_close(CrossEntropy(weight=3)(fake, real), 3 * F.binary_cross_entropy(p, mask))

    def test_what_is_right_pays_nothing(self):
        real = torch.ones(2, 2, 4, 4)
        real[:, 0] = -1
        assert float(SoftDice(weight=1)(real, real)) == 0
        assert float(CrossEntropy(weight=1)(real, real)) < 1e-6
        half = torch.zeros(1, 1, 4, 4)  # p = 1/2 against 16 pixels
        assert float(SoftDice(weight=1)(half, half + 1)) == pytest.approx(1 - 17 / 21)

    def test_certain_and_wrong_is_finite(self):
        fake = torch.ones(1, 1, 2, 2, requires_grad=True)
        paid = CrossEntropy(weight=1)(fake, torch.full((1, 1, 2, 2), -1.0))
        paid.backward()
        assert float(paid.detach()) == pytest.approx(24 * math.log(2), abs=0.1)
        assert fake.grad.isfinite().all()

    def test_through_tanh_the_slope_is_p_minus_m(self):
        """Up to where float32 holds a tanh off 1."""
        x = torch.tensor([-7.0, -2.0, 0.0, 0.5, 7.0]).view(1, 1, 1, 5).requires_grad_()
        m = torch.tensor([1.0, 0, 1, 1, 0]).view(1, 1, 1, 5)
        CrossEntropy(weight=5)(x.tanh(), 2 * m - 1).backward()
        torch.testing.assert_close(x.grad, 2 * ((2 * x.detach()).sigmoid() - m), rtol=0.1, atol=1e-6)


@pytest.mark.parametrize("kind", [L1, MSE, StructuralSimilarity, Gradient, FeatureMatching, SoftDice, CrossEntropy])
@pytest.mark.parametrize("weight", [0, -1.0, math.nan, math.inf])
def test_a_weight_that_is_none_is_refused(kind, weight):
    with pytest.raises(ValueError, match="`weight` must be above 0, got"):
        kind(weight=weight)


def test_what_is_no_pair_is_refused():
    with pytest.raises(ValueError, match=r"of one shape \(B, C, \*S\), got fake \(2, 1, 4, 4\) and real \(1, 1, 4, 4\)"):
        L1(weight=1)(torch.zeros(2, 1, 4, 4), torch.zeros(1, 1, 4, 4))
