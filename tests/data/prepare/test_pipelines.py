"""From a scan to what is cached: what is refused, the contrast, the grid, and the facts that are kept."""

import json

import numpy as np
import pytest
import torch

from medgan_pl.core.command import instantiate
from medgan_pl.data.intensity import FullRange, Percentiles, Window, ZScore, from_unit
from medgan_pl.data.modalities import CT, MRI, XRay
from medgan_pl.data.prepare.layouts import Film, Slices, Whole
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.data.readers.scan import Scan, ScanError

AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])[:, [2, 1, 0, 3]]


def films(size=(4, 4), crop=True, percentiles=(0, 100)):
    return Pipeline(Film(size=size, crop=crop), Percentiles(*percentiles))


def film(pixels, **options):
    return Scan(np.asarray(pixels, np.float32), **options)


def volume(pixels, **options):
    return Scan(np.asarray(pixels, np.float32), (1.0, 1.0, 1.0), AFFINE, **options)


def slices(size, **options):
    return Slices(size=size, spacing_mm=None, crop=True, **options)


@pytest.mark.parametrize(
    ("pipeline", "scan", "words"),
    [
        (films(), film(np.full((8, 8), np.nan)), "got 64 NaN or infinite of 64"),
        (films(), film(np.where(np.eye(8) > 0, np.inf, 1)), "got 8 NaN"),
        (films(), film(np.full((8, 8), 7)), "it must have different values, got 7 everywhere"),
        (films(percentiles=(0.5, 99.5)), film(np.eye(20)[:1] * np.eye(20)), "almost constant"),
        (films((2, 2)), film(np.pad(np.ones((2, 2)), ((0, 0), (0, 8)))), "almost constant"),  # all that is shown is 0
        (Pipeline(slices((8, 8)), Window([[-1000, 400]])), volume(np.random.rand(4, 8, 8) - 1024), "every one of its 4 slices is empty"),
        (
            Pipeline(slices((8, 8)), Window([[-1000, 400]])),
            volume(np.arange(256).reshape(4, 8, 8) + 1000),
            r"no value lies between the levels .*-1000.*; values 1000 to 1255",
        ),
        (Pipeline(slices((8, 8)), ZScore()), volume(np.zeros((2, 8, 8))), "got 0 everywhere"),
        (Pipeline(slices((8, 8)), FullRange()), volume(np.random.rand(2, 8, 8)), "no bit depth"),
    ],
)
def test_unusable_scans(pipeline, scan, words):
    with pytest.raises(ScanError, match=words):
        pipeline(scan)


def test_other_errors_are_not_taken_for_faults_of_the_file(monkeypatch):
    pipeline = films()
    monkeypatch.setattr(pipeline.layout, "cut", lambda scan, fill: 1 / 0)
    with pytest.raises(RuntimeError) as error:
        pipeline(film(np.eye(8)))
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_contrast_is_by_percentiles_and_clipped():
    pixels = np.linspace(100, 300, 10_000, dtype=np.float32).reshape(100, 100)
    pixels[0, 0] = 1e6  # one hot pixel does not darken the film
    out = films((100, 100), percentiles=(1, 99))(film(pixels)).images
    low, high = np.percentile(pixels, [1, 99]).astype(np.float32)
    assert torch.allclose(out[0, 0], torch.from_numpy((pixels - low) / (high - low) * 2 - 1).clamp(-1, 1), atol=1e-4)
    assert type(out) is torch.Tensor
    assert out.dtype == torch.float32


def test_padding_has_no_say_in_the_contrast():
    pixels = np.linspace(100, 300, 64, dtype=np.float32).reshape(8, 8)
    padding = np.zeros((8, 8), bool)
    padding[:4] = True
    prepared = films((8, 8))(film(pixels, padding=padding))
    assert np.allclose(prepared.levels, [[pixels[4, 0], 300]])
    assert prepared.facts["padding"] == 0.5
    assert (prepared.images[0, 0, :4] == -1).all()


def test_crop_and_pad_keep_the_proportions():
    pixels = np.zeros((40, 80), np.float32)
    pixels[10:30, 30:50] = 1.0  # a square about the centre stays one
    pixels[20, 0] = 0.5
    cropped = films((20, 20))(film(pixels)).images[0]
    assert (cropped > 0).sum() == 100
    assert (cropped[0, 5:15, 5:15] > 0).all()
    padded = films((20, 20), crop=False)(film(pixels)).images[0]
    assert abs((padded + 1).sum() / 2 - 25) < 0.05  # the same 400 pixels of 6400, in 400
    assert (padded[0, :5] == -1).all()
    assert films((10, 40))(film(pixels)).images.shape == (1, 1, 10, 40)


def test_shrinking_does_not_alias_and_keeps_the_mean():
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (64, 32))  # the finest there are
    stripes[:4, :4] = 1
    small = films((16, 16))(film(stripes)).images[0, 0]
    assert small[0, 0] == 1
    assert small.flatten()[1:].abs().max() < 1e-6
    assert films((128, 128))(film(stripes)).images.shape == (1, 1, 128, 128)


def test_windows_are_channels_and_hu_are_exact():
    hu = np.random.default_rng(0).integers(-1200, 1500, (5, 16, 16)).astype(np.float32)
    windows = [[-1000, 400], [-160, 240]]
    prepared = Pipeline(slices((16, 16), foreground=0.0), Window(windows))(volume(hu))
    assert prepared.images.shape == (5, 2, 16, 16)
    assert prepared.levels == ((-1000, 400), (-160, 240))
    for channel, (low, high) in enumerate(windows):
        back = (prepared.images[:, channel].numpy() + 1) / 2 * (high - low) + low
        assert np.abs(back - hu.clip(low, high)).max() < 1e-3


def test_outside_the_volume_is_the_lowest_level_and_not_0_hu():
    hu = np.random.default_rng(0).uniform(-100, 300, (4, 8, 4))
    prepared = Pipeline(slices((8, 8)), Window([[-160, 240], [-1000, 400]]))(volume(hu))
    assert prepared.images.shape == (4, 2, 8, 8)
    padded = Pipeline(Whole(size=(8, 8, 8), spacing_mm=(1.0, 1.0, 1.0), crop=True), Window([[-160, 240], [-1000, 400]]))(volume(hu))
    assert (padded.images[0, :, :2] == -1).all()
    assert padded.affine is not None


def test_empty_slices_are_dropped_and_counted():
    hu = np.full((6, 10, 10), -1000.0)
    hu[2:4, 2:8, 2:8] = 40
    prepared = Pipeline(slices((10, 10)), Window([[-1000, 400]]))(volume(hu))
    assert len(prepared.images) == 2
    assert prepared.facts["empty"] == 4


@pytest.mark.parametrize(("low", "high"), [(1e7 - 10, 1e7 + 10), (1000, 1000.001), (-1e-9, 1e-9)])
def test_a_narrow_range_is_prepared_however_far_from_0(low, high):
    """float32 has few steps there, too few for a histogram of 64 bins that is computed in it."""
    pixels = np.linspace(low, high, 256).astype(np.float32).reshape(16, 16)
    prepared = films((16, 16))(film(pixels))
    facts = prepared.facts
    assert (facts["low"], facts["high"]) == (pixels.min(), pixels.max())
    assert sum(facts["histogram"]) == 256
    assert min(facts["histogram"][0], facts["histogram"][-1]) > 0
    assert np.abs(from_unit(prepared.images[0], prepared.levels).numpy() - pixels).max() <= max(
        np.spacing(pixels.max()), 1e-6 * (high - low)
    )


def test_facts_are_plain_and_tell_the_scan_as_it_came():
    pixels = np.arange(64, dtype=np.float32).reshape(8, 8)
    facts = films((4, 4))(film(pixels, spacing_mm=(0.5, 0.25), bits=12, synthetic=True)).facts
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["shape"], facts["spacing_mm"], facts["bits"], facts["synthetic"]) == ([8, 8], [0.5, 0.25], 12, True)
    assert (facts["low"], facts["high"], sum(facts["histogram"]), facts["padding"]) == (0, 63, 64, 0.0)
    assert not facts["enlarged"]
    assert films((16, 16))(film(pixels)).facts["enlarged"]


def test_the_hash_of_the_pixels_is_of_the_values_and_their_shape_alone():
    pixels = np.arange(64, dtype=np.float32).reshape(8, 8)

    def hashed(scan):
        return films((4, 4))(scan).facts["pixels"]

    assert hashed(film(pixels)) == hashed(film(pixels, spacing_mm=(1.0, 1.0), bits=8)) == hashed(film(np.asfortranarray(pixels)))
    assert len({hashed(scan) for scan in (film(pixels), film(pixels.T), film(pixels.reshape(4, 16)), film(pixels + 1))}) == 4


def test_settings_hold_all_that_the_result_depends_on():
    pipelines = [
        *(films(), films((4, 5)), films(crop=False), films(percentiles=(1, 99)), Pipeline(slices((4, 4)), Percentiles())),
        # the same file read another way is another scan
        *(Pipeline(slices((4, 4)), Percentiles(), modality) for modality in (MRI(), MRI(bias_field=True), CT())),
        *(Pipeline(Film(size=(4, 4), crop=True), Percentiles(), XRay(voi)) for voi in (False, True)),
    ]
    assert len({json.dumps(p.settings, sort_keys=True) for p in pipelines}) == len(pipelines)


@pytest.mark.parametrize(
    "overrides",
    [
        ("data=chest_xray", "intensity@data.intensity=full_range", "degrade@data.degrade=dehaze"),
        ("data=ct", "data.slices.axis=coronal", "data.channels=2", "data.intensity.windows_hu=[[-1000,400],[-160,240]]"),
        ("data=ct", "image.spatial_dims=3", "data.patches=2", "data.size=8", "beside@data.beside.mask=masks"),
        ("data=mri", "image.spatial_dims=3", "data.size=[8,16,16]", "intensity@data.intensity=z_score", "beside@data.beside.source=ct"),
        ("data=head_ct", "data.modality.series=own", "degrade@data.degrade=inpainting"),
    ],
)
def test_a_stored_pipeline_is_the_one_that_was_stored(settings, overrides) -> None:
    (pipeline,) = instantiate(settings("data.size=16", *overrides)["data"]).pipelines.values()
    plain = pipeline.plain()
    again = Pipeline.from_plain(json.loads(json.dumps(plain)))
    assert again.plain() == plain
    assert again.settings == pipeline.settings
    assert again.frame == pipeline.frame
    assert again.modality.series == pipeline.modality.series
    assert not {"root", "dir"} & set(json.dumps(plain).replace('"', " ").split())


def test_a_part_that_forgets_an_argument_cannot_be_stored() -> None:
    class Forgetful:
        channels, settings, from_values = 1, {}, False

        def __init__(self, low: float = 0.0) -> None:
            self.levels_found = ((low, 1.0),)

    with pytest.raises(ValueError, match="Forgetful must keep its argument `low` as an attribute of that name"):
        Pipeline(Film(size=(4, 4), crop=True), Forgetful(), XRay()).plain()
