"""Degradations: what each does, by value; seeds, rows, ranges and settings of all."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy.ndimage import fourier_shift, gaussian_filter

from medgan_pl.core.console import configuration_folder
from medgan_pl.data import degrade
from medgan_pl.data.degrade import kspace
from medgan_pl.data.degrade.projection import back_project, project
from medgan_pl.data.degrade.resolution import blurred, reach

FILES = sorted(file for file in (configuration_folder() / "degrade").glob("*.yaml") if file.stem != "none")
WATER = {"windows_hu": [[-1000, 1000]], "pixel_mm": 2.0}


def made(file: Path, windows_hu=((-1000, 400),)) -> degrade.Degradation:
    config = OmegaConf.create({"data": {"intensity": {"windows_hu": [list(pair) for pair in windows_hu]}}, "it": OmegaConf.load(file)})
    return instantiate(config.it)


def keyed(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Smooth enough to be images, in [-1, 1]."""
    noise = torch.rand(shape, generator=keyed(seed)) * 2 - 1
    return (2 * blurred(noise, 1.0, 4)).clamp(-1, 1)


# All of them ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 1, 16, 24), (2, 3, 24, 16), (2, 1, 16, 8, 12), (2, 3, 8, 12, 16)], ids=str)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_choice_is_seeded_row_by_row_and_stays_in_range(file, shape):
    it = made(file, [(-1000, 400), (-160, 240), (-1000, 1000)][: shape[1]])
    x = images(*shape)
    before = x.clone()
    state = torch.get_rng_state()
    out = it(x, keyed(1))
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)  # nothing global is drawn
    sides = tuple(side // it.factor for side in shape[2:])
    assert out.shape == (shape[0], shape[1] + it.extra_channels, *sides)
    assert out.dtype == torch.float32
    assert out.abs().max() <= 1
    assert torch.equal(out, it(x, keyed(1)))
    assert torch.equal(out[:1], it(x[:1], keyed(1)))  # whatever comes after it in the batch
    assert not torch.equal(out, it(x, keyed(2)))
    same = it(x[:1].repeat(6, *[1] * (len(shape) - 1)), keyed(1))
    assert not torch.equal(same, same[:1].expand_as(same))  # each row its own draw


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_choice_works_on_a_gpu(file):
    out = made(file)(images(2, 1, 16, 24).cuda(), torch.Generator("cuda").manual_seed(0))
    assert out.is_cuda
    assert out.abs().max() <= 1


def test_a_chain_is_its_steps_in_order():
    x = images(2, 1, 16, 16)
    chain = degrade.Chain([degrade.Shrink(factor=2), degrade.Shrink(factor=4), degrade.Gaussian(0.0)])
    assert (chain.factor, chain.extra_channels) == (8, 0)
    assert torch.allclose(chain(x, keyed()), x.unflatten(2, (2, 8)).mean(3).unflatten(3, (2, 8)).mean(4), atol=1e-6)
    holes = degrade.Holes([degrade.Boxes(number=1, size=0.5)])
    assert degrade.Chain([degrade.Blur(1.0), holes]).extra_channels == 1
    with pytest.raises(ValueError, match="must be the last"):
        degrade.Chain([holes, degrade.Blur(1.0)])


# Resolution -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 20, 24), (1, 1, 12, 20, 24)], ids=str)
def test_blur_is_the_gaussian_of_scipy(shape):
    x = images(*shape).double()
    reference = gaussian_filter(x[0, 0].numpy(), 1.5, mode="nearest", truncate=4.0)
    assert np.allclose(degrade.Blur(1.5)(x, keyed())[0, 0].numpy(), reference, atol=1e-6)
    assert torch.equal(blurred(x, 0.0, reach(0.0)), x)


@pytest.mark.parametrize("shape", [(2, 1, 16, 24), (2, 2, 8, 16, 12)])
def test_shrinking_keeps_constants_and_the_mean(shape):
    shrink = degrade.Shrink(factor=4, blur=[0.5, 1.5])
    assert torch.allclose(shrink(torch.full(shape, 0.3), keyed()), torch.tensor(0.3))
    point = torch.zeros(shape)
    point[(0, 0, *[side // 2 for side in shape[2:]])] = 1.0
    far = degrade.Shrink(factor=4, blur=0.4)(point, keyed())  # nothing of it reaches the border
    assert far.sum().item() == pytest.approx(1 / 4 ** (len(shape) - 2), rel=1e-5)


def test_thick_slices_are_means_of_slices_enlarged_linearly():
    x = images(1, 1, 12, 6, 6)
    out = degrade.Shrink(factor=4, axes=[0])(x, keyed())
    thick = x.unflatten(2, (3, 4)).mean(3)
    assert torch.allclose(out[:, :, 3], 0.625 * thick[:, :, 0] + 0.375 * thick[:, :, 1], atol=1e-6)  # 1.5 of 4 slices on from the middle
    assert degrade.Shrink(factor=4, axes=[0]).factor == 1


def test_a_side_that_does_not_divide_is_refused_with_a_remedy():
    with pytest.raises(ValueError, match="multiple of 4 to shrink by 4, got 30; use 28 or 32"):
        degrade.Shrink(factor=4)(torch.zeros(1, 1, 32, 30), keyed())
    with pytest.raises(ValueError, match="axes of the image, 0 to 1"):
        degrade.Shrink(factor=4, axes=[2])(torch.zeros(1, 1, 32, 32), keyed())


# Gaps -------------------------------------------------------------------------------------------------------------------------------

SHAPES = {
    "boxes": degrade.Boxes(number=[1, 3], size=[0.1, 0.4]),
    "free form": degrade.FreeForm(strokes=[1, 3], vertices=[2, 6], length=[0.1, 0.2], width=[0.08, 0.2]),
    "slices": degrade.MissingSlices(number=[1, 2], thickness=[1, 2]),
}


@pytest.mark.parametrize("shape", [(4, 3, 32, 24), (3, 1, 12, 16, 20)], ids=str)
@pytest.mark.parametrize("hole", SHAPES.values(), ids=SHAPES)
def test_outside_the_holes_nothing_changes(hole, shape):
    x = images(*shape)
    for seed in range(5):
        out = degrade.Holes([hole], fill=0.25)(x, keyed(seed))
        image, mask = out[:, :-1], out[:, -1:].expand_as(x)
        assert set(mask.unique().tolist()) == {-1.0, 1.0}
        assert torch.equal(image[mask < 0], x[mask < 0])
        assert (image[mask > 0] == 0.25).all()
        assert (mask > 0).flatten(1).any(1).all()
        assert (mask < 0).flatten(1).any(1).all()


def test_a_box_and_a_gap_have_the_stated_size():
    for seed in range(20):
        (box,) = degrade.Boxes(number=1, size=[0.25, 0.5])(torch.Size((40, 20)), keyed(seed))[None]
        height, width = int(box.any(1).sum()), int(box.any(0).sum())
        assert 10 <= height <= 20
        assert 5 <= width <= 10
        assert box.sum() == height * width
        (box,) = degrade.Boxes(number=1, size=[0.25, 0.5])(torch.Size((16, 40, 20)), keyed(seed))[None]
        lengths = [int(box.movedim(axis, 0).flatten(1).any(1).sum()) for axis in range(3)]
        assert all(side / 4 <= length <= side / 2 for side, length in zip(box.shape, lengths, strict=True))
        assert box.sum() == math.prod(lengths)
        gap = degrade.MissingSlices(number=1, thickness=3)(torch.Size((12, 4, 4)), keyed(seed))
        rows = gap.flatten(1).all(1)
        assert gap.flatten(1).any(1).sum() == rows.sum() == 3
        assert not rows[[0, -1]].any()


def test_a_straight_stroke_is_as_long_and_wide_as_it_says():
    stroke = degrade.FreeForm(strokes=1, vertices=1, length=0.4, width=0.1)
    areas = []
    for seed in range(40):
        hole = stroke(torch.Size((200, 200)), keyed(seed))
        if not (hole[0].any() or hole[-1].any() or hole[:, 0].any() or hole[:, -1].any()):  # wholly inside
            areas.append(hole.sum().item())
    assert 0.8 * (80 * 20 + math.pi * 100) < np.mean(areas) < 80 * 20 + math.pi * 100  # with round ends
    assert min(areas) > 0.7 * max(areas)


def test_a_straight_stroke_in_a_volume_is_a_round_rod():
    stroke = degrade.FreeForm(strokes=1, vertices=1, length=0.4, width=0.15)
    volumes = []
    for seed in range(40):
        hole = stroke(torch.Size((64, 64, 64)), keyed(seed))
        if not any(hole.movedim(axis, 0)[[0, -1]].any() for axis in range(3)):  # wholly inside
            volumes.append(hole.sum().item())
    rod = math.pi * 4.8**2 * (25.6 + 4 / 3 * 4.8)  # with round ends
    assert 0.8 * rod < np.mean(volumes) < rod
    assert min(volumes) > 0.7 * max(volumes)


def test_metal_is_bright_and_marked():
    out = degrade.MetalLike(number=2, radius=0.05, streaks=0.5)(torch.full((2, 1, 64, 64), -0.5), keyed())
    image, mask = out[:, 0], out[:, 1]
    assert (image[mask > 0] == 1).all()
    assert (mask > 0).sum() == pytest.approx(2 * 2 * math.pi * 3.2**2, rel=0.25)
    changed = (image[mask < 0] + 0.5).abs()
    assert 0.005 < changed.mean() < 0.2


def test_metal_in_a_volume_is_rods_over_half_or_more_of_the_slices():
    metal, x = degrade.MetalLike(number=[1, 3], radius=[0.03, 0.08], streaks=0.5), images(1, 2, 9, 24, 32)
    found = set()
    for seed in range(20):
        out = metal(x, keyed(seed))
        whole = torch.cat([x, torch.full_like(x[:, :1], -1.0)], 1)  # where no rod comes
        alone = torch.stack([metal(x[:, :, place], keyed(seed)) for place in range(9)], 2)  # the same discs in each slice by itself
        reached = [place for place in range(9) if not torch.equal(out[:, :, place], whole[:, :, place])]
        assert reached == list(range(reached[0], reached[-1] + 1))
        assert 5 <= len(reached) <= 9
        assert torch.equal(out[:, :, reached], alone[:, :, reached])
        found.add((reached[0], len(reached)))
    assert len(found) > 5


# Fog, film, noise -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 1, 20, 32), (2, 3, 8, 12, 10)], ids=str)
def test_fog_is_the_scattering_model_and_inverts_exactly(shape):
    fog = degrade.Fog(transmission=[0.3, 0.9], airlight=[0.5, 1.0])
    x = images(*shape).double()
    out = fog(x, keyed(3))
    t, a = fog.layer(x, keyed(3))
    assert t.shape == (shape[0], 1, *shape[2:])
    assert 0.3 <= t.min() < t.max() <= 0.9
    assert 0.5 <= a.min() < a.max() <= 1.0
    scattered = (x + 1) / 2 * t + a * (1 - t)
    assert torch.allclose((out + 1) / 2, scattered, atol=1e-12)
    assert torch.allclose(fog.clear(out, t, a), x, atol=1e-12)
    for axis in range(2, len(shape)):
        assert t.diff(dim=axis).abs().max() < 0.6 * 8 * math.pi / shape[axis]  # smooth


def test_salt_and_gaussian_have_the_stated_amount():
    x = torch.zeros(4, 2, 64, 64)
    out = degrade.Salt(0.1)(x, keyed())
    assert (out == 1).float().mean().item() == pytest.approx(0.05, abs=0.005)
    assert (out == -1).float().mean().item() == pytest.approx(0.05, abs=0.005)
    assert torch.equal(out[:, 0], out[:, 1])
    assert degrade.Gaussian(0.2)(x, keyed()).std().item() == pytest.approx(0.2, rel=0.02)


def test_film_noise_is_poisson():
    for photons in (50, 200):
        signal = (degrade.Quanta(photons)(torch.zeros(1, 1, 128, 128), keyed()) + 1) / 2
        assert signal.mean().item() == pytest.approx(0.5, rel=0.01)
        assert signal.var().item() == pytest.approx(0.5 / photons, rel=0.05)


# CT ---------------------------------------------------------------------------------------------------------------------------------


def disc(side: int, radius: float) -> torch.Tensor:
    place = torch.arange(side) - (side - 1) / 2
    return (place.square()[:, None] + place.square() <= radius**2).float()


def test_a_disc_throws_the_shadow_of_its_chords():
    for sides in ((96, 96), (96, 64)):
        slices = torch.zeros(1, *sides)
        slices[0, :, sides[1] // 2 - 32 : sides[1] // 2 + 32] = disc(96, 28.0)[:, 16:80]
        shadow = project(slices, views=12)
        t = torch.arange(shadow.shape[-1]) - (shadow.shape[-1] - 1) / 2
        chords = 2 * (28.0**2 - t.square()).clamp(min=0).sqrt()
        inside = t.abs() < 24
        assert (shadow - chords)[..., inside].abs().max() < 1.5  # of 56
        assert shadow.sum(-1).sub(math.pi * 28**2).abs().max() < 0.02 * math.pi * 28**2


def test_back_projection_inverts_and_passes_noise_as_stated():
    slices = disc(64, 20.0)[None]
    back = back_project(project(slices, views=96), (64, 64))
    assert (back - slices)[0, 24:40, 24:40].abs().max() < 0.05
    noise = back_project(torch.randn(8, 64, 91, generator=keyed()), (64, 64))
    assert noise[:, 16:48, 16:48].var().item() == pytest.approx((math.pi**2 / 18 - 1 / 6) / 64, rel=0.05)


@pytest.mark.parametrize("shape", [(12, 1, 64, 64), (1, 1, 12, 64, 64)], ids=str)
def test_low_dose_noise_in_hu_is_that_of_the_photons(shape):
    """The variance in the middle of water of radius r is known, in HU: (1000 / mu)² (π² / 18 - 1 / 6) exp(2 r mu) / (views · N)."""
    x = disc(64, 26.0)[None, None] - 1  # air, water
    found = {}
    for kind in (degrade.LowDose, degrade.DoseNoise):
        for photons in (1e5, 4e5):
            out = kind(photons=photons, views=64, **WATER)(x.expand(12, 1, 64, 64).reshape(shape), keyed())
            noise = 1000 * (out.view(12, 1, 64, 64) - x)
            found[kind, photons] = noise[:, 0, 28:36, 28:36].var().item()
            expected = (1000 / 0.04) ** 2 * (math.pi**2 / 18 - 1 / 6) * math.exp(52 * 0.04) / (64 * photons)
            assert found[kind, photons] == pytest.approx(expected, rel=0.15)
            assert noise[:, 0, 28:36, 28:36].mean().abs() < 3
    assert found[degrade.LowDose, 1e5] / found[degrade.LowDose, 4e5] == pytest.approx(4, rel=0.1)
    quiet = degrade.LowDose(photons=1e12, views=64, **WATER)(x, keyed())
    assert (quiet - x).abs().max() < 2e-3  # no artefact of the back-projection enters


def test_slices_of_a_volume_are_seen_one_by_one():
    low = degrade.LowDose(photons=1e12, views=32, **WATER)
    volume = torch.full((1, 1, 3, 32, 32), -1.0)
    volume[0, 0, 1] = disc(32, 10) - 1
    through = project(low.lost(low.native(volume)).flatten(0, 1), 32)
    assert through[0].abs().max() == through[2].abs().max() == 0
    assert torch.equal(through[1], project(low.lost(low.native(volume[:, :, 1])).flatten(0, 1), 32)[0])


# MRI --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(1, 2, 32, 40), (1, 1, 3, 40, 32)], ids=str)
def test_kept_lines_are_unchanged_and_the_others_zero(shape, axis):
    x = images(*shape).double()
    scan = degrade.KSpace(acceleration=4, centre=0.1, axis=axis)
    count = shape[axis - 2]
    lines = scan.lines(count, keyed(1))
    assert lines.sum() == count // 4
    middle = torch.fft.fftshift(lines)[count // 2 - 1 : count // 2 + 2]
    assert middle.all()
    got = torch.fft.fft2(kspace.acquired(x, kspace.across(lines, axis))).movedim(axis - 2, 0)
    full = torch.fft.fft2((x + 1) / 2).movedim(axis - 2, 0)
    assert torch.allclose(got[lines], full[lines], atol=1e-10)
    assert got[~lines].abs().max() < 1e-10
    assert torch.allclose(degrade.KSpace(acceleration=1, centre=0.1, axis=axis)(x, keyed()), x, atol=1e-6)


def test_motion_before_the_middle_is_a_shift_and_none_is_none():
    x = images(1, 1, 32, 32).double()
    motion = degrade.Motion(shift_px=0.0, moves=2)
    assert torch.allclose(motion(x, keyed()), x, atol=1e-6)
    shift = degrade.Motion(shift_px=[2, 4], moves=[1, 3]).shifts(32, keyed(2))
    assert torch.equal(shift[:1], torch.zeros(1, 2))  # the middle of k-space is where the image is
    assert 0 < shift.abs().max() <= 8
    assert len(shift.unique(dim=0)) <= 4
    # All lines alike: the image shifted by as much.
    turns = 3 * torch.fft.fftfreq(32, dtype=torch.float64)[:, None] + 2 * torch.fft.fftfreq(32, dtype=torch.float64)
    moved = kspace.acquired(x, torch.polar(torch.ones_like(turns), -2 * math.pi * turns))
    assert torch.allclose(2 * moved.real - 1, x.roll((3, 2), (2, 3)), atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(1, 2, 31, 25), (1, 1, 3, 25, 31)], ids=str)
def test_each_line_of_every_slice_sees_the_image_shifted_alike(shape, axis):
    x = images(*shape).double()
    motion = degrade.Motion(shift_px=[2, 4], moves=3, axis=axis)
    lines = shape[axis - 2]
    shifts = motion.shifts(lines, keyed(1))
    assert torch.fft.fftshift(shifts, dim=0).diff(dim=0).any(1).sum() == 3  # as they were measured, from edge to edge
    slices = (x[0].flatten(0, -3).numpy() + 1) / 2
    signal = np.zeros(slices.shape, complex)
    for place, image in enumerate(slices):
        for line in range(lines):
            there = (line, slice(None)) if axis == 0 else (slice(None), line)
            signal[(place, *there)] = fourier_shift(np.fft.fft2(image), shifts[line].tolist())[there]
    moved = 2 * np.abs(np.fft.ifft2(signal)) - 1
    assert np.allclose(motion(x, keyed(1))[0].flatten(0, -3).numpy(), moved.clip(max=1), atol=1e-5)


# Settings ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: degrade.Blur([2, 1]), r"`sigma_px` must be a number or \[low, high\]"),
        (lambda: degrade.Blur([1, 2, 3]), r"got \[1, 2, 3\]"),
        (lambda: degrade.Salt(1.5), "within 0 to 1, got 1.5"),
        (lambda: degrade.Shrink(factor=1), "`factor` must be a whole number of at least 2, got 1"),
        (lambda: degrade.Shrink(factor=2, axes=[3]), r"`axes` must be some of 0, 1, 2, each once, or null for all, got \[3\]"),
        (lambda: degrade.Shrink(factor=2, axes=[]), r"`axes` must be .*, got \[\]"),
        (lambda: degrade.Shrink(factor=2, axes=[0, 0]), r"`axes` must be .* each once, .*, got \[0, 0\]"),
        (lambda: degrade.Shrink(factor=2, axes=[0.0]), r"`axes` must be .*, got \[0.0\]"),
        (lambda: degrade.Boxes(number=[1, 2.5], size=0.2), r"`number` must be whole numbers, got \[1, 2.5\]; use \[1, 3\]"),
        (lambda: degrade.MissingSlices(number=1, thickness=7)(torch.Size((8, 8)), keyed()), "at most 6 of 8 slices, .* got 7; use 6"),
        (lambda: degrade.Holes([]), "`shapes` must name at least one"),
        (lambda: degrade.Holes([degrade.Blur(1.0)]), "`shapes` must be shapes of holes, .*got Blur"),
        (
            lambda: degrade.Chain([degrade.Boxes(number=1, size=0.5)]),
            "`steps` must be degradations, .*got Boxes; put shapes of holes inside Holes",
        ),
        (lambda: degrade.Holes([SHAPES["boxes"]], fill=math.nan), r"`fill` must be a number in \[-1, 1\], got nan"),
        (lambda: degrade.FreeForm(strokes=1, vertices=1, length=0.1, width=0.1, bend=[0, 1]), r"`bend` must be .*got \[0, 1\]"),
        (lambda: degrade.Fog(transmission=[0, 1], airlight=1.0), "`transmission` must be"),
        (lambda: degrade.Fog(transmission=0.5, airlight=1.0, waves=2.5), "`waves` must be a whole number from 2 to 16, got 2.5"),
        (lambda: degrade.KSpace(acceleration=2, centre=[0.1, 0.2]), r"`centre` must be .*, got \[0.1, 0.2\]; use 0.5"),
        (lambda: degrade.KSpace(acceleration=2, decay=math.nan), "`decay` must be a number of at least 0, got nan"),
        (lambda: degrade.Motion(shift_px=1, moves=1, axis=1.0), "`axis` must be 0, .* got 1.0"),
        (lambda: degrade.KSpace(acceleration=[2, 8], centre=0.2), "at most 1 / acceleration, got 0.2; use 0.125"),
        (lambda: degrade.KSpace(acceleration=2, axis=2), "`axis` must be 0, the rows"),
        (lambda: degrade.LowDose(windows_hu=[[400, -1000]], pixel_mm=1, photons=1e5), "windows_hu must be pairs"),
        (lambda: degrade.DoseNoise(windows_hu=[[-1000, 400]], pixel_mm=0, photons=1e5), "`pixel_mm` must be a number above 0 mm, got 0"),
        (lambda: degrade.LowDose(windows_hu=[[0, 1]], pixel_mm=math.inf, photons=1e5), "`pixel_mm` must be .*, got inf"),
        (lambda: degrade.LowDose(photons=1e5, views=16.5, **WATER), "`views` must be a whole number of at least 8, got 16.5"),
    ],
)
def test_what_cannot_be_is_refused(make, why):
    with pytest.raises(ValueError, match=why):
        make()
