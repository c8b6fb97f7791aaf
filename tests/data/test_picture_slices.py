"""Slices of CT and MRI as PNG, JPEG and TIFF: read in HU, or as gray levels, where the user states what their gray values mean."""

import csv
from pathlib import Path

import numpy as np
import pytest
from data.test_datamodule_volumes import hu, write_nifti
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medgan_pl.data.companion import Companion, Masks
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.export.pictures import write_png
from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import FullRange, Window
from medgan_pl.data.modalities import CT, MRI, XRay
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.data.readers.scan import ScanError

LUNG, DEEP_LESION = (-1000, 400), (-32768, 32767)
SIDE = 16


def scan_of(path: Path, modality):
    return modality.read(Item(path.name, (path,)))


def slices(root: Path, n: int = 20, folders: str = "{kind}") -> Path:
    """Write 8-bit slices of two classes, each with air, two of each person."""
    for i in range(n):
        folder = root / folders.format(kind=("benign", "malignant")[i // 2 % 2])
        folder.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 256, (SIDE, SIDE + 4)).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"p{i // 2}_{i % 2}.png")
    return root


def module(root, modality, intensity=None, **options):
    given = {"size": SIDE, "crop": False, "cache": {"dir": "cache"}, "patient_pattern": r"p\d+"} | options
    data = ImageDataModule(modality=modality, intensity=intensity or Window([LUNG]), root=root and str(root), **given)
    data.setup()
    return data


def test_black_and_white_are_the_stated_hu_at_every_depth(tmp_path):
    eight, sixteen = np.array([[0, 51], [102, 255]], np.uint8), np.array([[0, 31744], [32768, 65535]], np.uint16)
    for ending in ("png", "tif"):
        Image.fromarray(eight).save(tmp_path / f"a.{ending}")
        scan = scan_of(tmp_path / f"a.{ending}", CT(pictures=LUNG))
        assert scan.pixels.tolist() == [[-1000, -720], [-440, 400]]
        assert (scan.bits, scan.spacing_mm, scan.affine, scan.shades) == (8, None, None, (-1000, 400))
        assert np.array_equal(scan.stored, eight)
        Image.fromarray(sixteen).save(tmp_path / f"b.{ending}")
        assert scan_of(tmp_path / f"b.{ending}", CT(pictures=DEEP_LESION)).pixels.tolist() == [[-32768, -1024], [0, 32767]]
        assert scan_of(tmp_path / f"b.{ending}", CT(pictures=[-1024, 64511])).pixels.tolist() == [[-1024, 30720], [31744, 64511]]
    Image.fromarray(np.stack([eight] * 3, -1)).save(tmp_path / "c.png")
    assert scan_of(tmp_path / "c.png", CT(pictures=LUNG)).pixels.tolist() == [[-1000, -720], [-440, 400]]
    Image.new("L", (8, 8), 255).save(tmp_path / "d.jpg")
    assert (scan_of(tmp_path / "d.jpg", CT(pictures=LUNG)).pixels == 400).all()
    Image.fromarray(np.stack([eight, eight, eight + 40], -1)).save(tmp_path / "e.png")
    with pytest.raises(ScanError, match="3 that differ"):
        scan_of(tmp_path / "e.png", CT(pictures=LUNG))


def test_signed_and_floating_point_tiff_may_hold_hu_itself(tmp_path):
    values = np.array([[-1000.5, 0], [40.25, 1200]], np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.array_equal(scan_of(tmp_path / "a.tif", CT(pictures="hu")).pixels, values)
    with pytest.raises(ScanError, match=r"whole numbers from 0.*data.modality.pictures=hu"):
        scan_of(tmp_path / "a.tif", CT(pictures=LUNG))
    Image.fromarray(np.array([[0, 1000], [2000, 3000]], np.uint16)).save(tmp_path / "b.png")
    with pytest.raises(ScanError, match=r"got 0 and above; state the HU at black and at white"):
        scan_of(tmp_path / "b.png", CT(pictures="hu"))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: CT(pictures="arbitrary"), r"must be \[HU at black, HU at white\], the first the smaller"),
        (lambda: CT(pictures=[400, -1000]), "the first the smaller"),
        (lambda: CT(pictures=[-1000, float("nan")]), "the first the smaller"),
        (lambda: CT(pictures=[-1000]), "the first the smaller"),
        (lambda: CT(pictures=True), "the first the smaller"),
        (lambda: MRI(pictures=[0, 255]), "must be null or arbitrary"),
        (lambda: CT(series="lung", pictures=LUNG), "data.modality.series is for volumes"),
        (lambda: CT(straighten=True, pictures=LUNG), "data.modality.straighten is for volumes"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_without_a_statement_pictures_are_refused_with_the_key(tmp_path):
    slices(tmp_path / "set")
    with pytest.raises(FileNotFoundError, match=r"data.modality.pictures states their gray values: \[HU at black, HU at white\]"):
        module(tmp_path / "set", CT())
    (tmp_path / "table.csv").write_text("image\n" + "".join(f"set/{p.parent.name}/{p.name}\n" for p in (tmp_path / "set").rglob("*.png")))
    with pytest.raises(ValueError, match=r"does not say what its gray values mean: state it by data.modality.pictures"):
        module(tmp_path / "table.csv", CT())
    write_nifti(tmp_path / "volumes" / "a.nii.gz", hu(0))
    with pytest.raises(FileNotFoundError, match=r"must hold PNG, JPEG or TIFF slices \(data.modality.pictures\).*read NIfTI"):
        module(tmp_path / "volumes", CT(pictures=LUNG))
    for options, told in (
        ({"spatial_dims": 3}, "must be 2 for films and slices in pictures"),
        ({"spacing_mm": 1.0}, "data.spacing_mm must be null for films and pictures"),
    ):
        with pytest.raises(ValueError, match=told):
            module(tmp_path / "set", CT(pictures=LUNG), **options)
    with pytest.raises(ValueError, match=r"data.root=null is the embedded cohort"):
        module(None, CT(pictures=LUNG))


def test_class_folders_patients_and_masks_by_name_as_for_films(tmp_path):
    root = slices(tmp_path / "set")
    (root / "benign" / "p0_0_mask.png").write_bytes((root / "benign" / "p0_0.png").read_bytes())
    write_nifti(root / "benign" / "volume.nii.gz", hu(0))
    data = module(root, CT(pictures=LUNG))
    said = data.describe()
    assert said[0] == f"20 slices from {root} (one folder, classes; left out: 1 .nii.gz, 1 masks)"
    assert (data.classes, len({r.patient for r in data.records})) == (("benign", "malignant"), 10)
    assert (data.inverse.unit, data.inverse.levels, data.inverse.spacing_mm) == ("HU", ((-1000, 400),), None)
    one = data.peek("train", 1)
    record = data.records[int(one["record"][0])]
    films = Pipeline(data.layout, Window([(0, 255)]))(scan_of(record.paths[0], XRay())).images
    rows = slice(2, 14)  # without the padding, which becomes -1000 HU and 0
    assert np.allclose(one["image"][0, 0, rows], films[0, 0, rows], atol=1e-4)


def test_a_mask_is_known_by_its_values_and_beside_its_image(tmp_path):
    root = slices(tmp_path / "set", folders="images")
    for path in sorted(root.glob("images/*.png")):
        (tmp_path / "organs").mkdir(exist_ok=True)
        organ = np.zeros((SIDE, SIDE + 4), np.uint8)
        organ[4:9, 5:12], organ[9:14, 5:12], organ[4:14, 12:16] = 1, 2, 3  # no whole HU
        Image.fromarray(organ).save(tmp_path / "organs" / path.name)
    with pytest.raises(ValueError, match=r"data\.root must hold images, got masks.*20 of 20"):
        module(tmp_path / "organs", CT(pictures=LUNG))
    beside = {"mask": Masks(modality=XRay(), structures=["lung"], root=str(tmp_path / "organs"))}
    mask = module(root / "images", CT(pictures=LUNG), classes="none", beside=beside, patches=1, size=SIDE).peek("train", 1)["mask"]
    assert set(mask.unique().tolist()) == {0, 1}
    with pytest.raises(ValueError, match=r"data.beside.mask must read pictures like its image, got NIfTI.*mask=film_masks"):
        module(root / "images", CT(pictures=LUNG), beside={"mask": Masks(modality=CT(), structures=["lung"])})
    source = {"source": Companion(modality=CT(), intensity=Window([LUNG]))}
    with pytest.raises(ValueError, match=r"data.beside.source must read pictures .*data.beside.source.modality.pictures"):
        module(root / "images", CT(pictures=LUNG), beside=source)


def test_a_signal_keeps_its_gray_levels(tmp_path):
    root = slices(tmp_path / "set")
    data = module(root, MRI(pictures="arbitrary"), FullRange())
    assert (data.inverse.unit, data.inverse.levels, data.inverse.modality) == ("gray levels", ((0, 255),), "MR")
    with pytest.raises(ValueError, match=r"data.modality.bias_field is for volumes"):
        MRI(pictures="arbitrary", bias_field=True)


def test_a_table_and_the_stored_pipeline(tmp_path):
    root = slices(tmp_path / "set")
    with (tmp_path / "table.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label", "patient"])
        rows.writerows([path, path.parent.name, path.stem.split("_")[0]] for path in sorted(root.rglob("*.png")))
    data = module(tmp_path / "table.csv", CT(pictures=LUNG), patient_pattern=None)
    assert (data.classes, len({r.patient for r in data.records})) == (("benign", "malignant"), 10)
    again = Pipeline.from_plain(data.pipeline.plain())
    path = next(root.rglob("*.png"))
    assert np.array_equal(scan_of(path, again.modality).pixels, scan_of(path, CT(pictures=LUNG)).pixels)
    assert again.settings == data.pipeline.settings
    assert CT(pictures=(-1024, 1000)).settings != CT(pictures=LUNG).settings


def test_a_picture_that_states_its_own_hu_is_read_by_them(tmp_path):
    values = np.linspace(-160, 240, 64).reshape(8, 8)
    write_png(tmp_path / "a.png", values, bits=16, low=-160, high=240, unit="HU")
    for stated in (LUNG, DEEP_LESION, "hu"):
        scan = scan_of(tmp_path / "a.png", CT(pictures=stated))
        assert np.abs(scan.pixels - values).max() < 0.004
        assert (scan.shades, scan.synthetic) == ((-160, 240), True)
    assert scan_of(tmp_path / "a.png", XRay()).pixels.max() == 65535
    for text in ("-160 x", "400 -160", "nan 1", "1e999 2", "0 1 2"):
        chunk = PngInfo()
        chunk.add_text("HU at black and white", text)
        Image.new("L", (8, 8), 255).save(tmp_path / "b.png", pnginfo=chunk)
        assert (scan_of(tmp_path / "b.png", CT(pictures=LUNG)).pixels == 400).all()


def test_slices_that_name_no_patient_are_a_warning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(20):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)).save(tmp_path / f"{i:04}.png")
    told = "WARNING: 20 single slices name no patient, and each counts as its own; slices of one person may be on both sides of the split"
    flat = {"intensity": Window([LUNG]), "classes": "none", "files": r"^\d+"}
    assert [told in line for line in module(tmp_path, CT(pictures=LUNG), patient_pattern=None, **flat).describe()].count(True) == 1
    for modality, pattern in ((CT(pictures=LUNG), r"\d+"), (XRay(), None)):
        options = flat | ({} if modality.name == "CT" else {"intensity": FullRange()})
        assert "single slices" not in " ".join(module(tmp_path, modality, patient_pattern=pattern, **options).describe())
