"""What is cut from a scan: each plane the right way round, the slices asked for, and every voxel where its affine says."""

import numpy as np
import pytest
import torch

from medgan_pl.data.intensity import Inverse
from medgan_pl.data.prepare.layouts import Film, Patches, Slices, Whole
from medgan_pl.data.readers.scan import Scan, ScanError, canonical

SPACING = (2.0, 1.0, 0.5)
SHAPE = (10, 12, 16)  # slices, rows, columns: 20 × 12 × 8 mm
OFFSET = (30.0, -20.0, 7.0)


def volume(shape=SHAPE, spacing=SPACING, values=None):
    """A canonical scan; its first voxel (feet, front, right) lies at OFFSET."""
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, -spacing[2]], [0, -spacing[1], 0], [spacing[0], 0, 0]]
    affine[:3, 3] = OFFSET
    pixels = np.zeros(shape, np.float32) if values is None else np.asarray(values, np.float32)
    return Scan(pixels, spacing, affine)


def marked(*index, shape=SHAPE):
    pixels = np.zeros(shape, np.float32)
    pixels[index] = 1
    return volume(shape, values=pixels)


def slices(size, spacing_mm=None, crop=True, **options):
    return Slices(size=size, spacing_mm=spacing_mm, crop=crop, **options)


# (slices, rows, columns) of a plane at the volume's own grid
OWN = {"axial": ((12, 16), (1.0, 0.5)), "coronal": ((10, 16), (2.0, 0.5)), "sagittal": ((10, 12), (2.0, 1.0))}


@pytest.mark.parametrize(
    ("axis", "voxel", "place"),  # voxel counted from feet, front, right; place in the stack: slice, row, column
    [
        ("axial", (0, 0, 0), (0, 0, 0)),  # feet, front, right: the first slice, top left
        ("axial", (9, 11, 15), (9, 11, 15)),  # head, back, left: the last, bottom right
        ("axial", (2, 3, 1), (2, 3, 1)),
        ("coronal", (0, 0, 0), (0, 9, 0)),  # feet, front, right: the first slice, bottom left
        ("coronal", (9, 11, 15), (11, 0, 15)),  # head, back, left: the last, top right
        ("coronal", (2, 3, 1), (3, 7, 1)),
        ("sagittal", (0, 0, 0), (0, 9, 0)),  # feet, front, right: the first slice, bottom left
        ("sagittal", (9, 11, 15), (15, 0, 11)),  # head, back, left: the last, top right
        ("sagittal", (2, 3, 1), (1, 7, 3)),
    ],
)
def test_each_plane_stands_the_right_way_round(axis, voxel, place):
    size, spacing = OWN[axis]
    layout = slices(size, spacing, axis=axis)
    cut = layout.cut(marked(*voxel), fill=-5.0)
    assert cut.pixels.shape[1:] == size
    assert np.argwhere(cut.pixels.numpy() == 1).tolist() == [list(place)]
    assert cut.spacing_mm == spacing
    assert cut.affine is None
    assert not cut.enlarged


@pytest.mark.parametrize("axis", OWN)
def test_directions_are_those_of_the_patient(axis):
    """A step along each axis of the stack is the step in space that the layout says, and so does an exported affine."""
    size, spacing = OWN[axis]
    layout = slices(size, spacing, axis=axis)
    scan = volume()
    places = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"))
    space = np.tensordot(scan.affine[:3, :3], places, 1) + scan.affine[:3, 3].reshape(3, 1, 1, 1)  # right, front, head
    stacks = [layout.cut(volume(values=ramp), 0.0).pixels.numpy() for ramp in space]
    stack = np.stack(stacks)  # (3, slices, rows, columns)
    across = SPACING[layout.stacked_axis]
    for along, direction, step in zip((1, 2, 3), layout.directions, (across, *spacing), strict=True):
        assert np.allclose(np.diff(stack, axis=along).mean(axis=(1, 2, 3)), np.array(direction) * step, atol=1e-5)
    affine = Inverse(((0.0, 1.0),), "HU", "CT", spacing, layout.directions).affine(size)
    assert np.allclose(affine[:3, 1], np.diff(stack, axis=2).mean(axis=(1, 2, 3)), atol=1e-5)
    assert np.allclose(affine[:3, 2], np.diff(stack, axis=3).mean(axis=(1, 2, 3)), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({}, range(10)),
        ({"step": 3}, [0, 3, 6, 9]),
        ({"step": 99}, [0]),
        ({"part": (0.5, 1.0)}, range(5, 10)),
        ({"part": (0.2, 0.4)}, [2, 3]),
        ({"part": (0.0, 0.01)}, [0]),  # never none
        ({"part": (0.99, 1.0)}, [9]),
        ({"part": (0.5, 1.0), "step": 2}, [5, 7, 9]),
    ],
)
def test_part_and_step_pick_the_slices(options, taken):
    scan = volume(values=np.broadcast_to(np.arange(10.0)[:, None, None], SHAPE))
    cut = slices((12, 16), (1.0, 0.5), **options).cut(scan, 0.0)
    assert cut.pixels[:, 0, 0].tolist() == list(taken)


@pytest.mark.parametrize(("axis", "part", "taken"), [("coronal", (0.0, 0.25), [0, 1, 2]), ("sagittal", (0.75, 1.0), [12, 13, 14, 15])])
def test_part_counts_from_the_front_and_the_right(axis, part, taken):
    along = {"coronal": 1, "sagittal": 2}[axis]
    ramp = np.moveaxis(np.broadcast_to(np.arange(SHAPE[along])[:, None, None], (SHAPE[along], *np.delete(SHAPE, along))), 0, along)
    cut = slices(*OWN[axis], axis=axis, part=part).cut(volume(values=ramp), 0.0)
    assert cut.pixels[:, 0, 0].tolist() == taken


def test_empty_slices_are_worth_nothing():
    images = torch.full((4, 2, 10, 10), -1.0)
    images[1, 0, 0, :5] = 0  # 5 % shows something
    images[2, 0, 0, :4] = 0
    images[3, 1] = 1  # only in the second channel
    assert slices((10, 10)).worth(images).tolist() == [False, True, False, False]
    assert slices((10, 10), foreground=0.0).worth(images).tolist() == [True] * 4
    assert Whole(size=(4, 4, 4), spacing_mm=None, crop=True).worth(images).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"axis": "oblique"}, "axis must be one of acquired, axial, coronal, sagittal, got oblique"),
        ({"part": (0.5, 0.5)}, "part must be"),
        ({"part": (-0.1, 0.5)}, "part must be"),
        ({"part": (0, 1, 2)}, "part must be"),
        ({"step": 0}, "step` must be a whole number"),
        ({"step": 1.5}, "step` must be a whole number"),
        ({"step": True}, "step` must be a whole number"),
        ({"foreground": 2}, "foreground must be a share"),
    ],
)
def test_bad_slices_are_refused(options, words):
    with pytest.raises(ValueError, match=f"data.slices.{words}"):
        slices((8, 8), **options)


def ball(spacing, shape):
    """A ball of 5 mm about the centre of a volume of that spacing."""
    places = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    return volume(shape, spacing, (sum(p**2 for p in places) < 25).astype(np.float32))


@pytest.mark.parametrize("axis", OWN)
@pytest.mark.parametrize(
    ("size", "spacing_mm", "crop"), [((24, 24), None, False), ((24, 40), (0.5, 0.5), True), ((12, 12), (1.0, 1.0), True)]
)
def test_what_is_round_in_the_patient_is_round_in_the_slice(axis, size, spacing_mm, crop):
    scan = ball((2.0, 1.0, 0.5), (10, 20, 40))  # all sides 20 mm, sampled unevenly
    layout = slices(size, spacing_mm, crop, axis=axis)
    cut = layout.cut(scan, 0.0)
    middle = cut.pixels[len(cut.pixels) // 2].numpy()
    rows, columns = (middle.sum(along).max() * s for along, s in zip((0, 1), cut.spacing_mm, strict=True))
    assert cut.spacing_mm == layout.fit.spacing(
        np.delete(scan.pixels.shape, layout.stacked_axis), np.delete(scan.spacing_mm, layout.stacked_axis)
    )
    assert cut.spacing_mm[0] == cut.spacing_mm[1]
    assert abs(rows - columns) < 2.1  # mm, a voxel of the coarsest axis
    assert abs(rows - 10) < 2.1


def test_a_film_keeps_its_proportions_and_its_contrast_is_of_what_is_shown():
    pixels = np.zeros((20, 40), np.float32)
    pixels[:, :10] = 1000  # cropped off
    pixels[10, 20] = 1
    layout = Film(size=(10, 10), crop=True)
    assert layout.seen(Scan(pixels)).pixels.max() == 1
    cut = layout.cut(Scan(pixels, (0.2, 0.2)), 0.0)
    assert cut.pixels.shape == (1, 10, 10)
    assert cut.spacing_mm == (0.4, 0.4)
    assert np.argwhere(cut.pixels.numpy() > 0).tolist() == [[0, 5, 5]]
    assert Film(size=(10, 10), crop=False).cut(Scan(pixels), -3.0).pixels[0, 0].tolist() == [-3.0] * 10
    assert layout.cut(Scan(pixels), 0.0).spacing_mm is None
    assert Film(size=(40, 40), crop=True).cut(Scan(pixels), 0.0).enlarged


def test_a_film_of_oblong_pixels_comes_out_in_square_ones():
    pixels = np.zeros((40, 20), np.float32)
    pixels[10:30, 5:15] = 1  # 10 × 10 mm of pixels 0.5 × 1 mm
    cut = Film(size=(20, 20), crop=True).cut(Scan(pixels, (0.5, 1.0)), 0.0)
    assert cut.spacing_mm == (1.0, 1.0)
    assert (cut.pixels[0, 5:15, 5:15] == 1).all()
    assert cut.pixels.sum() == 100


def test_padding_of_a_film_is_cropped_with_it():
    padding = np.zeros((4, 8), bool)
    padding[:, 2] = True
    seen = Film(size=(4, 4), crop=True).seen(Scan(np.arange(32, dtype=np.float32).reshape(4, 8), padding=padding))
    assert seen.padding.tolist() == [[True, False, False, False]] * 4


LAYOUTS = [
    Whole(size=(10, 12, 16), spacing_mm=SPACING, crop=True),
    Whole(size=(16, 16, 16), spacing_mm=None, crop=True),
    Whole(size=(16, 16, 16), spacing_mm=None, crop=False),
    Whole(size=(7, 30, 9), spacing_mm=(3.0, 0.5, 1.0), crop=True),
    Patches(patch=(4, 4, 4), spacing_mm=None),
    Patches(patch=(14, 4, 30), spacing_mm=None),
    Patches(patch=(4, 4, 4), spacing_mm=(1.0, 1.0, 1.0)),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_volumes_affine_leads_to_the_same_place_in_the_patient(layout):
    scan = volume()
    places = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"))
    space = np.tensordot(scan.affine[:3, :3], places, 1) + scan.affine[:3, 3].reshape(3, 1, 1, 1)
    cuts = [layout.cut(volume(values=ramp), fill=1e4) for ramp in space]
    cut = cuts[0]
    assert layout.directions == ((0, 0, 1), (0, -1, 0), (-1, 0, 0))
    got = np.stack([c.pixels[0].numpy() for c in cuts])  # (3, D, H, W): the place that each new voxel holds
    new = np.stack(np.meshgrid(*(np.arange(n) for n in got.shape[1:]), indexing="ij"))
    meant = np.tensordot(cut.affine[:3, :3], new, 1) + cut.affine[:3, 3].reshape(3, 1, 1, 1)
    inverse = np.linalg.inv(scan.affine) @ cut.affine
    old = np.tensordot(inverse[:3, :3], new, 1) + inverse[:3, 3].reshape(3, 1, 1, 1)
    reach = np.maximum(np.diag(inverse)[:3], 1).reshape(3, 1, 1, 1)
    deep = ((old >= reach) & (old <= np.array(SHAPE).reshape(3, 1, 1, 1) - 1 - reach)).all(0)
    assert deep.sum() > 50
    assert np.abs(got - meant)[:, deep].max() < 0.3  # mm: an eighth of a voxel where a mean cuts one, at either end
    assert np.allclose(np.linalg.norm(cut.affine[:3, :3], axis=0), cut.spacing_mm)
    assert np.allclose(canonical(cut.pixels[0].numpy(), cut.affine)[1], cut.affine)  # canonical still


def test_a_volume_to_take_patches_from_is_whole_and_at_least_a_patch():
    scan = volume(values=np.random.default_rng(0).random(SHAPE))
    own = Patches(patch=(4, 4, 4), spacing_mm=None).cut(scan, -9.0)
    assert np.array_equal(own.pixels[0].numpy(), scan.pixels)
    assert np.array_equal(own.affine, scan.affine)
    assert own.spacing_mm == SPACING
    large = Patches(patch=(14, 4, 30), spacing_mm=None).cut(scan, -9.0)
    assert large.pixels.shape == (1, 14, 12, 30)
    assert (large.pixels[0, 2:12, :, 7:23].numpy() == scan.pixels).all()
    assert (large.pixels[0, :2] == -9).all()
    even = Patches(patch=(4, 4, 4), spacing_mm=(1.0, 1.0, 1.0)).cut(scan, -9.0)
    assert even.pixels.shape == (1, 20, 12, 8)  # 20 × 12 × 8 mm
    assert even.enlarged


@pytest.mark.parametrize(
    ("layout", "scan", "words"),
    [
        (
            slices((256, 256)),
            volume((20000, 4, 4)),
            "may have at most 134,217,728 pixels, got 20000 of 256 × 256; take fewer",
        ),
        (Patches(patch=(8, 8, 8), spacing_mm=(0.001,) * 3), volume(), "may have at most 268,435,456 voxels"),
        (Patches(patch=(8, 8, 8), spacing_mm=(1.0,) * 3), volume((20000, 4, 4), (150.0, 1.0, 1.0)), "got 20,000 that become 3,000,000"),
    ],
)
def test_what_would_not_fit_in_memory_is_refused_before_it_is_made(layout, scan, words):
    with pytest.raises(ScanError, match=words):
        layout.cut(scan, 0.0)


def test_settings_tell_layouts_apart():
    layouts = [
        *LAYOUTS,
        *(slices((8, 8), **options) for options in ({}, {"axis": "coronal"}, {"step": 2}, {"part": (0, 0.5)}, {"foreground": 0.5})),
        slices((8, 8), (1.0, 1.0)),
        slices((8, 8), None, False),
        Film(size=(8, 8), crop=True),
        Film(size=(8, 8), crop=False),
    ]
    assert len({str(layout.settings) for layout in layouts}) == len(layouts)


def test_a_single_voxel_is_a_slice_and_no_volume():
    tiny = volume((1, 1, 1), values=np.ones((1, 1, 1)))
    assert np.isfinite(slices((8, 8)).cut(tiny, 0.0).pixels.numpy()).all()
    for layout in (LAYOUTS[1], LAYOUTS[4]):
        with pytest.raises(ScanError, match="two slices or more along each axis"):
            layout.cut(tiny, 0.0)
