"""Random patches of films and slices at their own resolution."""

from itertools import islice

import numpy as np
import pytest
import torch
from data.dicom_files import write_film, write_series
from PIL import Image

from medgan_pl.core.keys import Purpose, keyed_generator
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.degrade import Chain, Degradation, DoseNoise, Gaussian, LowDose, Shrink
from medgan_pl.data.intensity import FullRange, Window
from medgan_pl.data.modalities import CT, XRay
from medgan_pl.data.prepare.patches import FilmPatches, SlicePatches
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.data.readers.scan import Scan


class Ramp(Degradation):
    """Adds to each pixel a number that says where in the whole image it lies, and one that is drawn."""

    needs_whole = True

    def degraded(self, image, generator):
        rows, columns = torch.meshgrid(*(torch.arange(n) for n in image.shape[2:]), indexing="ij")
        return image + rows + 1000 * columns + 1e6 * torch.randint(1, 9, (), generator=generator)


@pytest.fixture
def films(tmp_path):
    """Eight films of other sizes, whose gray says the film and the place."""
    (tmp_path / "films").mkdir()
    images = []
    for number in range(8):
        rows, columns = np.mgrid[: 20 + number, : 30 - number]
        images.append((number * 4096 + rows * 64 + columns).astype(np.uint16))
        Image.fromarray(images[-1]).save(tmp_path / "films" / f"p{number}.png")
    return images


def opened(root, modality=None, intensity=None, **settings):
    own = {"size": [6, 10], "patches": 3, "batch_size": 4, "patient_pattern": r"p\d", "classes": "none"}
    own |= {"cache": {"dir": str(root.parent / "cache"), "dtype": "float32"}}
    data = ImageDataModule(modality=modality or XRay(), intensity=intensity or FullRange(), root=str(root), **own | settings)
    data.setup()
    return data


def gray(images):
    return ((images.double() + 1) / 2 * 65535).round().long()


def is_cut_from(patch, films) -> bool:
    """True if a patch (H, W) of gray values is a piece of a film, pixel by pixel."""
    number, row, column = patch[0, 0] // 4096, patch[0, 0] % 4096 // 64, patch[0, 0] % 64
    height, width = patch.shape
    return np.array_equal(films[number][row : row + height, column : column + width], patch)


def test_patches_of_films_are_their_own_pixels_and_others_each_time(films, tmp_path) -> None:
    data = opened(tmp_path / "films")
    batches = list(islice(data.endless_loader(), 24))
    patches = [gray(image)[0].numpy() for batch in batches for image in batch["image"]]
    assert all(patch.shape == (6, 10) and is_cut_from(patch, films) for patch in patches)
    shown = {number: {tuple(p[0, :1]) for p in patches if p[0, 0] // 4096 == number} for number in range(8)}
    trained = {number for number, places in shown.items() if places}
    assert len(trained) == 6
    assert min(len(shown[number]) for number in trained) > 8
    assert data.sizes() == {"train": 18, "val": 3, "test": 3}  # three of each film
    resumed = next(iter(opened(tmp_path / "films").endless_loader(4 * 10)))
    assert torch.equal(resumed["image"], batches[10]["image"])
    other = next(iter(opened(tmp_path / "films", seed=1).endless_loader()))
    assert not torch.equal(other["image"], batches[0]["image"])


def test_held_out_patches_stay_the_same(films, tmp_path) -> None:
    data = opened(tmp_path / "films", degrade=Gaussian(sd=0.1))
    first, again = (next(iter(data.held_out_loader("val"))) for _ in range(2))
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["source"], again["source"])
    assert torch.equal(data.peek("val", 9)["image"], first["image"])
    assert len({tuple(patch.flatten()[:1].tolist()) for patch in first["image"]}) > 1


def test_a_film_smaller_than_a_patch_is_padded(films, tmp_path) -> None:
    data = opened(tmp_path / "films", size=[40, 10])
    image = gray(data.peek("train", 1)["image"])[0, 0].numpy()
    (inside,) = np.nonzero(image.any(1))
    assert len(inside) in range(20, 28)
    assert abs(inside[0] - (39 - inside[-1])) <= 1


@pytest.mark.parametrize("axis", ["axial", "coronal"])
def test_patches_of_slices_at_their_own_spacing_or_another(tmp_path, axis) -> None:
    volume = np.broadcast_to(np.arange(5)[:, None, None] * 100 + np.arange(12)[None, :, None] * 5 + np.arange(9), (5, 12, 9))
    for number in range(3):
        write_series(
            tmp_path / "ct" / f"p{number}",
            (volume + 500 * number - 1000).astype(np.int16),
            patient_id=f"p{number}",
            series_uid=f"1.{number}",
        )
    settings = {"size": [4, 6], "patches": 2, "slices": {"axis": axis, "foreground": 0}, "fractions": [0.34, 0.33, 0.33]}
    data = opened(tmp_path / "ct", CT(), Window([[-1000, 2000]]), **settings)
    slices = {"axial": 5, "coronal": 12}[axis]
    assert data.sizes() == {"train": 2 * slices, "val": 2 * slices, "test": 2 * slices}
    rows = data.rows["train"]
    hu = (data.gather(rows, rows)[:, 0].double() * 1500 + 500).round().numpy()
    down = {"axial": 5, "coronal": -100}[axis]  # rows: front to back, or head to feet
    assert np.array_equal(np.diff(hu, axis=1), np.full((len(rows), 3, 6), down))
    assert np.array_equal(np.diff(hu, axis=2), np.full((len(rows), 4, 5), 1))
    number = hu[:, 0, 0] % 500 // 100 if axis == "axial" else hu[:, 0, 0] % 100 // 5
    assert number.tolist() == np.repeat(np.arange(slices), 2).tolist()
    assert data.inverse.spacing_mm == ({"axial": (0.8, 0.5), "coronal": (2.5, 0.5)}[axis])
    coarse = opened(tmp_path / "ct", CT(), Window([[-1000, 2000]]), **settings, spacing_mm=1.0)
    assert coarse.inverse.spacing_mm == (1.0, 1.0)


def test_a_degradation_of_whole_images_is_cut_with_its_patch(films, tmp_path) -> None:
    """At the patch's place, with new numbers at each turn, the same for a resumed run; keyed by row where held out."""
    data = opened(tmp_path / "films", degrade=Ramp())
    batches = list(islice(data.endless_loader(), 9))
    for batch in batches:
        places = gray(batch["image"])[:, 0] % 4096
        off = (batch["source"] - batch["image"])[:, 0].round().long()
        assert torch.equal(off % 1_000_000, places // 64 + places % 64 * 1000)
        assert data.degraded(batch, torch.Generator()) is batch  # it has its sources
    drawn = [int(row.flatten()[0]) // 1_000_000 for batch in batches for row in batch["source"]]
    assert len(set(drawn)) > 4
    resumed = next(iter(opened(tmp_path / "films", degrade=Ramp()).endless_loader(4 * 5)))
    assert torch.equal(resumed["source"], batches[5]["source"])
    whole = opened(tmp_path / "films", degrade=Ramp(), patches=0).peek("val", 1)["source"]
    assert whole.shape == (1, 1, 6, 10)


def test_the_noise_of_a_dose_is_that_of_the_whole_slice(tmp_path) -> None:
    """A patch inside a body has the noise that the body's rays have, and not that of a body as small as the patch."""
    water = np.zeros((2, 64, 64), np.int16)
    for number in range(3):
        water[:, 0, :9] = -np.arange(9) - number  # not a mask's few values
        write_series(tmp_path / "ct" / f"p{number}", water, patient_id=f"p{number}", series_uid=f"1.{number}", spacing_mm=(2.5, 2.0, 2.0))
    degrade = DoseNoise(windows_hu=[[-1000, 1000]], pixel_mm=2.0, photons=1000)
    settings = {"size": 16, "patches": 4, "spacing_mm": 2.0, "fractions": [0.34, 0.33, 0.33], "degrade": degrade}
    batch = opened(tmp_path / "ct", CT(), Window([[-1000, 1000]]), **settings).peek("val", 8)
    image = torch.zeros(1, 1, 64, 64)
    whole = degrade(image, keyed_generator(0, 0, 0, Purpose.STEP)).std()
    small = degrade(image[..., :16, :16], keyed_generator(0, 0, 0, Purpose.STEP)).std()
    found = (batch["source"] - batch["image"]).std()
    assert float(found / whole) == pytest.approx(1, abs=0.1)
    assert float(small / whole) < 0.7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"degrade": Chain([Ramp(), Shrink(factor=2)])}, "must keep their size .* got a factor of 2"),
        ({"degrade": Ramp(), "augment": {"shift": 0.1}}, r"data.augment.shift must be off with data.patches"),
        (
            {"degrade": LowDose(windows_hu=[[-1000, 1000]], pixel_mm=2.0, photons=1000), "modality": CT()}
            | {"intensity": Window([[-1000, 1000]])},
            "data.spacing_mm must be given with data.patches",
        ),
    ],
)
def test_what_cannot_be_cut_after_a_degradation_of_whole_images_is_refused(settings, message) -> None:
    own = {"modality": XRay(), "intensity": FullRange(), "patches": 2, "size": 8}
    with pytest.raises(ValueError, match=message):
        ImageDataModule(**own | settings)
    ImageDataModule(
        **own | settings | {"patches": 0, "cohort": {"shape": [8] * (3 if "modality" in settings else 2)}}
    )  # whole images allow it


def test_the_layouts_are_stored_and_leave_a_scan_as_it_is(tmp_path) -> None:
    film = write_film(tmp_path / "a.dcm", np.arange(30 * 20, dtype=np.uint16).reshape(30, 20), ImagerPixelSpacing=[0.2, 0.2])
    scan = XRay().read(XRay().gather([_item(film)]).items[0])
    for pipeline in (
        Pipeline(FilmPatches(patch=(8, 8)), FullRange(), XRay()),
        Pipeline(SlicePatches(patch=(8, 8), spacing_mm=None, axis="coronal"), Window([[-1000, 400]]), CT()),
    ):
        again = Pipeline.from_plain(pipeline.plain())
        assert again.settings == pipeline.settings
        assert again.layout.image_size == (8, 8)
        assert again.layout.size is None
    layout = FilmPatches(patch=(8, 40))
    cut = layout.cut(scan, -1.0)
    assert np.array_equal(cut.pixels[0, :, 10:30].numpy(), scan.pixels)
    assert cut.pixels.shape == (1, 30, 40)
    assert (cut.spacing_mm, cut.enlarged, layout.seen(scan) is scan, layout.pixel_size((9, 9))) == ((0.2, 0.2), False, True, (1.0, 1.0))
    middle = FilmPatches(patch=(10, 10)).fixed(scan).cut(scan, -1.0)
    assert np.array_equal(middle.pixels[0].numpy(), scan.pixels[10:20, 5:15])
    volume = Scan(np.random.default_rng(0).random((3, 20, 20)).astype(np.float32), (2.0, 1.0, 1.0), np.eye(4))
    middle = SlicePatches(patch=(10, 10), spacing_mm=None).fixed(volume).cut(volume, -1.0)
    assert np.array_equal(middle.pixels.numpy(), volume.pixels[:, 5:15, 5:15])


def _item(path):
    from medgan_pl.data.files.records import Item

    return Item(path.name, (path,))
