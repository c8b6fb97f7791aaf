"""Native values to [-1, 1] and back: each rule by hand, exact inverses, and where a generated image lies in space."""

import json
import math

import numpy as np
import pytest
import torch

from medgan_pl.data.intensity import GRAY_LEVELS, HU, SIGNAL, FullRange, Inverse, Percentiles, Window, ZScore, from_unit, seen, to_unit
from medgan_pl.data.prepare.planes import PLANES
from medgan_pl.data.readers.scan import Scan, ScanError

RAMP = np.arange(101, dtype=np.float32)
HALF = np.where(np.arange(101) < 51, np.float32(0), RAMP)  # 0 in the lower half, then 51 to 100


def scan(values, **options):
    return Scan(np.asarray(values, np.float32).reshape(1, -1), **options)


def padded(values):
    """The last ten values stand for what the scanner did not see."""
    return scan(values, padding=np.arange(len(values))[None] >= len(values) - 10)


@pytest.mark.parametrize(
    ("rule", "image", "levels"),
    [
        (Window([[-1000, 400]]), scan(RAMP), ((-1000, 400),)),
        (Window([[-1000, 400], (-160, 240)]), scan(RAMP), ((-1000, 400), (-160, 240))),
        (Percentiles(0, 100), scan(RAMP), ((0, 100),)),
        (Percentiles(10, 60), scan(RAMP), ((10, 60),)),
        (Percentiles(0, 100), padded(RAMP), ((0, 90),)),
        (Percentiles(0, 100, nonzero=True), scan(HALF), ((51, 100),)),
        (Percentiles(0, 100, nonzero=True), padded(HALF), ((51, 90),)),
        (Percentiles(0.5, 99.5), scan([*np.linspace(100, 300, 999), 1e6]), ((101, 299.2),)),  # a hot pixel darkens nothing
        (ZScore(2), scan([0, 0, 0, 4, 8]), ((2, 10),)),  # mean 6, standard deviation 2, zeros left out
        (ZScore(0.5), scan([4, 8, 99], padding=np.array([[False, False, True]])), ((5, 7),)),
        (FullRange(), scan(RAMP, bits=12), ((0, 4095),)),
        (FullRange(), scan(RAMP, bits=8), ((0, 255),)),
    ],
)
def test_levels_by_hand(rule, image, levels):
    assert np.allclose(rule.levels(image), levels, atol=0.2 if image.pixels.max() > 1e5 else 1e-5)
    assert rule.channels == len(levels)
    assert json.loads(json.dumps(rule.settings)) == rule.settings  # they go into the cache's key


def test_of_a_large_scan_every_third_value_counts_without_its_padding():
    """Three is odd, so that an image of even width gives values of all its columns."""
    values = np.zeros((2**12, 2**12), np.uint8)
    values[0, :20] = np.arange(20)
    whole = Scan(values, padding=np.zeros(values.shape, bool))
    whole.padding[0, :6] = True  # of which the values 0 and 3 would count
    found = seen(whole, nonzero=False)
    assert found[:3].tolist() == [6, 9, 12]
    assert len(found) == -(-(2**24) // 3) - 2
    small = Scan(values[:5], padding=whole.padding[:5])
    assert seen(small, nonzero=False)[:3].tolist() == [6, 7, 8]


def test_which_levels_follow_from_the_values():
    rules = [Window([[0, 1]]), FullRange(), Percentiles(), ZScore()]
    assert [rule.from_values for rule in rules] == [False, False, True, True]


def test_the_last_value_of_the_bits_and_one_beyond():
    assert FullRange().levels(scan([0, 255], bits=8)) == ((0.0, 255.0),)
    for beyond in ([0, 256], [-1, 255]):
        with pytest.raises(ScanError, match="must lie in 0 to 255"):
            FullRange().levels(scan(beyond, bits=8))


def test_percentiles_from_0_to_100_in_order():
    for low, high in ((0, 100), (50, 50.5)):
        assert Percentiles(low, high).settings == {"percentiles": [low, high], "nonzero": False}
    for low, high in ((5, 5), (-0.1, 50), (50, 100.1), (60, 40)):
        with pytest.raises(ValueError, match="0 <= low < high <= 100"):
            Percentiles(low, high)


def test_settings_tell_rules_apart():
    rules = [Window([[0, 1]]), Window([[0, 2]]), Percentiles(), Percentiles(1), Percentiles(nonzero=True), ZScore(), ZScore(3), FullRange()]
    assert len({json.dumps(rule.settings) for rule in rules}) == len(rules)


@pytest.mark.parametrize(
    ("rule", "image", "words"),
    [
        (Percentiles(), scan([0.0] * 999 + [1.0]), "almost constant: the 0.5th and 99.5th percentiles are equal"),
        (Percentiles(nonzero=True), scan([0.0, 0.0]), "values besides padding and zeros"),
        (ZScore(), scan([0, 0, 5, 5]), "standard deviation is 0"),
        (ZScore(), scan([0, 0]), "values besides padding and zeros"),
        (
            FullRange(),
            scan(RAMP),
            r"no bit depth; use intensity@data\.intensity=window for CT, intensity@data\.intensity=percentiles for others",
        ),
        (FullRange(), scan(RAMP - 1, bits=8), r"0 to 255 for 8 bits, got -1 to 99 .*; use intensity@data\.intensity=window for CT"),
        (FullRange(), scan(RAMP * 3, bits=8), "got 0 to 300"),
    ],
)
def test_scans_without_levels_are_refused(rule, image, words):
    with pytest.raises(ScanError, match=words):
        rule.levels(image)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Window([]), "windows_hu must be pairs"),
        (lambda: Window([[1, 1]]), "low < high"),
        (lambda: Window([[400, -1000]]), "low < high"),
        (lambda: Window([[0, math.inf]]), "pairs"),
        (lambda: Window([[math.nan, 1]]), "pairs"),
        (lambda: Window([-1000, 400]), "pairs"),
        (lambda: Window(400), "pairs"),
        (lambda: Window([[1, 2, 3]]), "pairs"),
        (lambda: Percentiles(99, 1), "0 <= low < high <= 100, got 99 and 1"),
        (lambda: Percentiles(-1, 99), "got -1 and 99"),
        (lambda: Percentiles(1, 101), "got 1 and 101"),
        (lambda: Percentiles(math.nan, 99), "low_percentile and high_percentile must be"),
        (lambda: ZScore(0), "clip_sd must be above 0"),
        (lambda: ZScore(math.nan), "clip_sd must be above 0"),
    ],
)
def test_bad_rules_are_refused_at_construction(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_to_unit_by_hand():
    levels = ((-1000.0, 400.0), (-160.0, 240.0))
    out = to_unit(torch.tensor([-2000.0, -1000, -300, 40, 240, 400, 3000]), levels)
    assert torch.allclose(out[0], torch.tensor([-1.0, -1, 0, 340 / 700, 540 / 700, 1, 1]))
    assert torch.allclose(out[1], torch.tensor([-1.0, -1, -1, 0, 1, 1, 1]))


@pytest.mark.parametrize(
    "levels", [((-1000.0, 400.0),), ((-1024.0, 3071.0), (-160.0, 240.0)), ((-160.0, 240.0), (-1000.0, 400.0), (0.0, 80.0))]
)
def test_there_and_back_is_exact_within_the_windows(levels):
    low, high = min(low for low, _ in levels), max(high for _, high in levels)
    native = torch.linspace(low, high, 4001)
    back = from_unit(to_unit(native, levels), levels)
    assert (back - native).abs().max() < 1e-3  # HU: float32 of thousands
    assert torch.allclose(from_unit(to_unit(torch.tensor([low - 500, high + 500]), levels), levels), torch.tensor([low, high]))


def test_the_value_that_agrees_most_with_all_windows_is_taken():
    levels = ((-1000.0, 400.0), (-160.0, 240.0))
    # windows that disagree, as a network's may: of the two values that they say the one under which the other window is less wrong
    image = torch.tensor([[0.5, 0.5, 0.5, 0.5, 2.0], [0.0, 1.0, -1.0, 0.5, 1.5]])
    expected = torch.tensor([40.0, 240.0, -160.0, 140.0, 400.0])
    assert torch.allclose(from_unit(image, levels), expected)
    assert torch.allclose(from_unit(image.flip(0), levels[::-1]), expected)
    with pytest.raises(ValueError, match="a channel for each of 2 windows, got 1"):
        from_unit(image[:1], levels)


NESTED, DISJOINT = ((-1000.0, 400.0), (-160.0, 240.0)), ((-1000.0, -500.0), (-160.0, 240.0), (300.0, 1500.0))


@pytest.mark.parametrize(
    ("levels", "native"),
    [
        (NESTED, [-1000.0, -700.0, -250.0, -100.0, 40.0, 200.0, 390.0]),  # air, lung, fat, tissue, bone
        (NESTED[::-1], [-1000.0, -700.0, -250.0, -100.0, 40.0, 200.0, 390.0]),
        (DISJOINT, [-1000.0, -700.0, -510.0, -150.0, 40.0, 200.0, 310.0, 700.0, 1490.0]),
    ],
)
def test_a_generator_that_comes_only_near_the_ends_gives_the_right_hu(levels, native):
    """tanh never reaches ±1: a channel at ±0.998 is at the end of its window, and says nothing of a value outside it."""
    native = torch.tensor(native)
    drawn = to_unit(native, levels)
    reach = max(high - low for low, high in levels) * 0.001  # HU that 0.998 is off at the end of the widest window
    assert (from_unit(drawn * 0.998, levels) - native).abs().max() <= reach * 1.01
    assert (from_unit(drawn.clamp(-0.998, 0.998), levels) - native).abs().max() <= reach * 1.01
    assert (from_unit(drawn, levels) - native).abs().max() < 1e-3  # what was real is exact as ever


@pytest.mark.parametrize("levels", [DISJOINT, DISJOINT[::-1], ((-1000.0, 0.0), (0.0, 400.0))])
def test_there_and_back_through_windows_side_by_side(levels):
    for low, high in levels:
        native = torch.linspace(low, high, 2001)[1:-1]  # a gap, its ends included, is one image: it comes back as one of its ends
        assert (from_unit(to_unit(native, levels), levels) - native).abs().max() < 1e-3
    gap = torch.linspace(-500, -160, 50)
    assert {-500.0, -160.0} >= set(from_unit(to_unit(gap, DISJOINT), DISJOINT).tolist())


@pytest.mark.parametrize(
    ("unit", "levels", "loss"),
    [
        (HU, ((-1000, 400), (-160, 240)), 7.0),
        (GRAY_LEVELS, ((0, 4095),), 20.475),
        (SIGNAL, ((0, 1e6),), 5.0),  # thousandths of the range, whatever it is
    ],
)
def test_what_an_error_costs_in_the_unit(unit, levels, loss):
    assert unit.loss(0.01, levels) == pytest.approx(loss)


def test_an_inverse_travels_as_plain_containers():
    full = Inverse(((-1000.0, 400.0), (-160.0, 240.0)), "HU", "CT", (2.5, 0.8), PLANES["coronal"][1])
    bare = Inverse(((0.0, 255.0),), "gray levels", "CR", None, None)
    for inverse in (full, bare):
        plain = inverse.plain()
        assert json.loads(json.dumps(plain)) == plain
        assert Inverse.from_plain(plain) == inverse
        assert Inverse.from_plain(json.loads(json.dumps(plain))) == inverse
    assert torch.allclose(bare(torch.tensor([[-1.0, 0.0, 1.0]])), torch.tensor([0.0, 127.5, 255.0]))
    assert bare.affine((4, 4)) is None


RIGHT, FRONT, HEAD = np.eye(3)


@pytest.mark.parametrize(
    ("plane", "slices", "rows", "columns"),
    [("axial", HEAD, -FRONT, -RIGHT), ("coronal", -FRONT, -HEAD, -RIGHT), ("sagittal", -RIGHT, -HEAD, -FRONT)],
)
def test_a_picture_lies_in_space_as_its_plane_does(plane, slices, rows, columns):
    affine = Inverse(((0.0, 1.0),), "HU", "CT", (0.5, 0.75), PLANES[plane][1]).affine((5, 8))
    assert np.allclose(affine[:3, 1], rows * 0.5)
    assert np.allclose(affine[:3, 2], columns * 0.75)
    assert np.allclose(affine[:3, 0], slices * 0.75)  # as thick as its pixels are wide
    assert np.allclose(affine @ [0, 2, 3.5, 1], [0, 0, 0, 1])  # its middle at the origin


def test_a_volume_lies_in_space_feet_first():
    affine = Inverse(((0.0, 1.0),), "HU", "CT", (3.0, 0.5, 0.75), PLANES["axial"][1]).affine((4, 5, 8))
    assert np.allclose(affine[:3, :3], np.column_stack([HEAD * 3, -FRONT * 0.5, -RIGHT * 0.75]))
    assert np.allclose(affine @ [1.5, 2, 3.5, 1], [0, 0, 0, 1])
