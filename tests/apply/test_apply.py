"""A trained generator on whole images: seams, geometry, native values, refusals, and what a second run leaves as it is."""

import json
import math
import os
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from data.dicom_files import write_film, write_series
from data.export import dicom_check as check
from omegaconf import OmegaConf
from PIL import Image
from pydicom import dcmread
from torchvision.models import get_model

import medgan_pl
from medgan_pl.apply.inference import Inference, labels_of
from medgan_pl.apply.inputs import masks_of, targets
from medgan_pl.apply.reading import Reading
from medgan_pl.apply.windows import Windows, at_spacing, scales_to_training
from medgan_pl.core.command import instantiate
from medgan_pl.core.console import configuration_folder
from medgan_pl.data.degrade import Chain, Gaussian, Shrink
from medgan_pl.data.export import Facts, Provenance, write_nifti
from medgan_pl.data.export.derived import write_derived
from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import Inverse
from medgan_pl.data.modalities import CT
from medgan_pl.data.readers.nifti import read_nifti
from medgan_pl.data.readers.scan import Scan, ScanError
from medgan_pl.data.readers.series import read_series
from medgan_pl.models.build import build_module
from medgan_pl.models.load import Origin, load
from medgan_pl.models.networks.layers import BATCH_NORM
from medgan_pl.models.networks.unet import UNetGenerator
from medgan_pl.models.state import FORMAT

SHIFT = 0.2  # what a residual generator adds
SMALL = ("model.width=4", "model.generator.levels=2", "model.discriminator.layers=1", "data.size=16", "logger=csv")
INVERSE = {"levels": [[-1000.0, 400.0]], "unit": "HU", "modality": "CT", "spacing_mm": [0.8, 0.5], "directions": np.eye(3).tolist()}


def pipelines_of(config: dict) -> dict:
    """Return what a run of this configuration stores of how its scans become images."""
    return {name: pipeline.plain() for name, pipeline in instantiate(config["data"]).pipelines.items()}


@pytest.fixture
def trained(settings, tmp_path):
    """Writes the checkpoint of a run whose generator shifts its source by a constant, or, not being residual, is SHIFT everywhere."""

    def write(*overrides: str, **inverse) -> Path:
        config = settings("data=ct", "degrade@data.degrade=noise", "model=unet_gan", *SMALL, *overrides)
        module = build_module(config)
        module.ema.network.end.last.bias.fill_(SHIFT)
        if not config["model"]["generator"].get("residual"):
            torch.nn.init.zeros_(module.ema.network.end.last.weight)
        state = {"format": FORMAT, "config": config, "classes": [], "images": 64, "inverse": {**INVERSE, **inverse}, "covariates": []}
        state |= {"pipelines": pipelines_of(config)}
        path = tmp_path / "run" / "checkpoints" / "best.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": module.state_dict(), "medgan_pl": state}, path)
        return path

    return write


def shifted(hu: np.ndarray, low: float = -1000.0, high: float = 400.0) -> np.ndarray:
    return np.clip(np.clip(hu, low, high) + SHIFT / 2 * (high - low), low, high)


def a_volume(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 400, shape).astype(np.int16)


def oblique(path: Path, volume: np.ndarray, spacing=(0.5, 0.8, 3.0)) -> np.ndarray:
    """Writes (x, y, z) turned about two axes, one of them counted backwards, y and z exchanged; its affine comes back."""
    a, b = math.radians(12), math.radians(-7)
    turn = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = (turn * [-spacing[0], spacing[1], spacing[2]])[:, [0, 2, 1]]
    affine[:3, 3] = 31.5, -20.25, 70.125
    nibabel.Nifti1Image(volume, affine).to_filename(path)
    return affine


# Windows ------------------------------------------------------------------------------------------------------------------------------


def random_unet(levels: int = 1, **settings) -> UNetGenerator:
    torch.manual_seed(0)
    network = UNetGenerator(channels=1, source_channels=1, width=4, levels=levels, **settings)
    for layer in network.modules():
        if isinstance(layer, BATCH_NORM[settings["spatial_dims"]]):
            layer.running_mean.normal_(), layer.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(network.end.conv.weight, std=0.2)
    return network.eval()


def seen_whole(side: int, window: int, factor: int, reach: int) -> torch.Tensor:
    """(side · factor,) bool: places further than `reach` from every border of a window of `Windows(overlap=0.25, multiple=2)` within."""
    starts = [*range(0, side - window, window * 3 // 4 // 2 * 2), side - window] if side > window else [0]
    borders = [border * factor for start in starts for border in (start, start + window) if 0 < border < side]
    place = torch.arange(side * factor)
    return torch.stack([(place < border - reach) | (place >= border + reach) for border in borders]).all(0) if borders else place >= 0


@pytest.mark.parametrize(
    ("spatial_dims", "sides", "factor"), [(2, (150, 102), 1), (2, (74, 90), 2), (3, (20, 48, 90), 1), (2, (20, 151), 1)]
)
@torch.no_grad()
def test_windows_with_real_convolutions_are_the_whole(spatial_dims, sides, factor) -> None:
    network = random_unet(spatial_dims=spatial_dims, factor=factor)
    source = torch.rand(2, 1, *sides) * 2 - 1
    made = Windows((64,) * spatial_dims, network.factors, network.multiple, 0.25, 3)(network, source)
    off = (made - network(source)).abs()
    masks = [seen_whole(side + side % 2, 64, factor, 9)[: side * factor] for side in sides]  # a pixel sees 9 pixels far
    away = torch.meshgrid(*masks, indexing="ij")
    away = torch.stack(away).all(0)
    assert away.float().mean() > 0.3
    assert off[:, :, away].max() < 1e-3
    assert off.mean() < 2e-3


@pytest.mark.parametrize(("most", "window"), [(16 * 16 * 400, 400), (16 * 16 * 304, 304)])
@torch.no_grad()
def test_a_volume_is_given_whole_or_in_windows_of_as_many_voxels(most, window) -> None:
    """By a U-Net of the default depth, which sees 93 voxels to each side, as small windows would not show."""
    network, source, seen = random_unet(levels=4, spatial_dims=3), torch.rand(1, 1, 16, 16, 400) * 2 - 1, []
    windows = Windows((16,) * 3, network.factors, network.multiple, 0.25, 4, max_voxels=most)
    off = (windows(lambda x: seen.append(tuple(x.shape)) or network(x), source) - network(source)).abs()
    assert set(seen) == {(1, 1, 16, 16, window)}  # one at once
    place = torch.arange(400)
    away = (window == 400) | (place < 96) | ((place >= 96 + 93) & (place < 304 - 93)) | (place >= 304)  # windows from 0 and from 96
    assert off[..., away].max() < 1e-3


def test_windows_grow_evenly_and_are_never_smaller_than_those_of_training() -> None:
    grown = partial(Windows, factors=(1, 2, 2), multiple=4, overlap=0.25, batch_size=4)
    assert grown((16, 16, 16), max_voxels=2**22).grown((100, 256, 256)) == (100, 102, 102)
    assert grown((16, 16, 16), max_voxels=2**22).grown((20, 64, 64)) == (20, 64, 64)
    assert grown((8, 128, 16), max_voxels=8 * 128 * 20 * 4).grown((9, 300, 300)) == (9, 128, 17)
    assert grown((64, 64, 64), max_voxels=1000).grown((100, 256, 256)) == (64, 64, 64)


def test_volumes_are_given_whole_unless_a_window_is_named(trained, tmp_path) -> None:
    checkpoint = trained("image.spatial_dims=3", spacing_mm=[0.8, 0.5, 0.5])
    keys = OmegaConf.to_container(OmegaConf.load(configuration_folder() / "apply.yaml")) | {"checkpoint": checkpoint}
    for window, wanted in ((None, (40, 48, 60)), (16, (16, 16, 16))):
        seen = []
        windows = Inference(load(checkpoint), keys | {"window": window}).windows
        windows(lambda x: seen.append(x.shape[2:]) or x, torch.rand(1, 1, 40, 48, 60))  # noqa: B023
        assert set(seen) == {wanted}


def test_a_smaller_image_is_its_own_window() -> None:
    seen = []
    Windows((32, 32), (1, 1), 4, 0.25, 1)(lambda x: seen.append(x.shape) or x, torch.rand(1, 1, 10, 90))
    assert {shape[2:] for shape in seen} == {(12, 32)}


@pytest.mark.parametrize("scales", [(1.7, 1.0), (3.0, 2.5), (0.6, 0.4)])
@pytest.mark.parametrize("factors", [(1, 1), (2, 2)])
def test_there_and_back_keeps_the_place(scales, factors) -> None:
    """A slope comes back as the same slope, at the centres of the finer voxels too; `resample` takes a voxel for level within itself."""
    sides = (40, 31)
    places = [(torch.arange(n * f) + 0.5) / f for n, f in zip(sides, factors, strict=True)]
    coarse = [torch.arange(n) + 0.5 for n in sides]
    image, wanted = (a[:, None] + 2 * b for a, b in (coarse, places))
    enlarge = torch.nn.Upsample(scale_factor=factors, mode="bilinear", align_corners=False)
    back = at_spacing(enlarge, image[None, None], scales, factors)[0, 0]
    assert back.shape == wanted.shape
    inside = tuple(slice(8 * f, -8 * f) for f in factors)
    off = back[inside] - wanted[inside]
    assert off.abs().max() < 0.15  # of a slope of 1 and 2 a voxel
    assert off.mean().abs() < 2e-3


# Volumes ------------------------------------------------------------------------------------------------------------------------------


def test_a_nifti_comes_back_in_its_own_grid(trained, here, tmp_path) -> None:
    volume = a_volume(41, 9, 23)
    (tmp_path / "in" / "p1").mkdir(parents=True)
    affine = oblique(tmp_path / "in" / "p1" / "ct.nii.gz", volume)
    code, said = here("apply", f"checkpoint={trained()}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    made = nibabel.load("out/p1/ct.nii.gz")
    assert np.abs(made.affine - affine).max() < 1e-4
    assert np.abs(made.get_fdata() - shifted(volume)).max() < 0.01
    told = json.loads(Path("out/p1/ct.nii.gz.json").read_text())
    assert (told["derived"], told["unit"], told["model"]) == (True, "HU", "UNetGenerator")
    assert len(told["checkpoint_sha256"]) == len(told["input_sha256"]) == 64
    assert str(tmp_path) not in Path("out/p1/ct.nii.gz.json").read_text()


def test_what_trained_a_generator_is_not_needed_to_use_it_and_does_not_travel(trained, here, tmp_path) -> None:
    """Weights of one's own, in whose features G paid, are read for training alone."""
    weights = tmp_path / "secret" / "mine.pth"
    weights.parent.mkdir()
    torch.save(get_model("shufflenet_v2_x0_5", weights=None).state_dict(), weights)
    perceptual = ("extractor@extras.perceptual.extractor=file", f"extras.perceptual.extractor.weights={weights}")
    checkpoint = trained("extra=[l1,perceptual]", *perceptual, "extras.perceptual.extractor.arch=shufflenet_v2_x0_5")
    assert not any("extras" in name for name in torch.load(checkpoint, weights_only=True)["state_dict"])
    weights.unlink()
    (tmp_path / "in").mkdir()
    oblique(tmp_path / "in" / "ct.nii.gz", a_volume(21, 3, 23))
    for whole in ("true", "false"):
        code, said = here("export", f"checkpoint={checkpoint}", f"output={whole}.safetensors", f"whole={whole}")
        assert code == 0, said
        assert medgan_pl.load(f"{whole}.safetensors").images == 64
    code, said = here("apply", f"checkpoint={checkpoint}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    told = json.loads(Path("out/ct.nii.gz.json").read_text())["config"]
    assert told["extras"]["perceptual"]["weight"] == told["game"]["extras"]["perceptual"]["weight"] == 0.1
    for path in ("out/ct.nii.gz.json", "true.safetensors", "false.safetensors"):
        assert b"mine.pth" not in Path(path).read_bytes()


def test_a_residual_generator_of_before_is_not_taken_for_one_of_now(trained) -> None:
    """Its weights fit, and meant tanh(atanh(source) + h)."""
    checkpoint = trained()
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"] = {name.replace("end.change.", "end.conv."): weight for name, weight in state["state_dict"].items()}
    torch.save(state, checkpoint)
    with pytest.raises(ValueError, match=r"do not fit the settings stored with them: .*end\.c"):
        load(checkpoint, "cpu")


def test_a_dicom_series_comes_back_as_one_of_the_same_study(trained, here, tmp_path) -> None:
    volume = a_volume(5, 30, 26)
    write_series(tmp_path / "in", volume, StudyDate="20200102", KVP="120", PatientSex="F", SliceThickness=4)
    code, said = here("apply", f"checkpoint={trained()}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    paths = sorted(Path("out/in").glob("*.dcm"))
    before, after = read_series(sorted((tmp_path / "in").iterdir())), read_series(paths)
    assert np.abs(after.affine - before.affine).max() < 1e-4
    assert np.abs(after.pixels - shifted(before.pixels)).max() <= 0.51
    one = dcmread(paths[0])
    source = dcmread(min((tmp_path / "in").iterdir()))
    assert one.SpacingBetweenSlices == 2.5
    for name in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "KVP", "PatientSex", "SliceThickness"):
        assert one[name].value == source[name].value
    assert one.SeriesInstanceUID != source.SeriesInstanceUID
    assert len({dcmread(path).SOPInstanceUID for path in paths}) == 5
    assert one.ImageType[:3] == ["DERIVED", "SECONDARY", "AXIAL"]
    assert one.ContentQualification == "RESEARCH"
    assert "UNetGenerator" in one.DerivationDescription
    assert not [*check.presence(one), *check.values(one), *check.sound(one)]


def test_nifti_and_dicom_of_one_volume_agree(trained, here, tmp_path) -> None:
    paths = write_series(tmp_path / "in" / "series", a_volume(4, 21, 18))
    scan = read_series(paths)
    write_nifti(tmp_path / "in" / "ct.nii.gz", scan.pixels, scan.affine)
    assert here("apply", f"checkpoint={trained()}", "input=in", "output=out", "device=cpu")[0] == 0
    a, b = read_nifti(Path("out/ct.nii.gz")), read_series(sorted(Path("out/series").glob("*.dcm")))
    assert np.abs(a.pixels - b.pixels).max() <= 0.51
    assert np.abs(a.affine - b.affine).max() < 1e-4


REAL = Path(os.environ.get("MEDGAN_REAL_DATA", "nowhere"))


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="MEDGAN_REAL_DATA names no folder")
@pytest.mark.parametrize(
    ("name", "read", "window"),
    [
        ("ct_nifti_from_cmbcrc/ct_cmbcrc_256x256x100_hu.nii.gz", lambda path: read_nifti(path), 256),
        ("ct_nifti_from_cmbcrc/ct_cmbcrc_256x256x100_hu.nii.gz", lambda path: read_nifti(path), 96),
        ("ct_dicom_cmbcrc", lambda path: read_series(sorted(path.glob("*.dcm"))), 160),
    ],
    ids=["NIfTI whole", "NIfTI by windows", "DICOM by windows"],
)
def test_a_real_ct_comes_back_where_it_lay_without_seams(trained, here, name, read, window) -> None:
    """A constant shift of a whole image is the same shift in windows."""
    before = read(REAL / name)
    checkpoint = trained(spacing_mm=list(before.spacing_mm[1:]))
    code, said = here("apply", f"checkpoint={checkpoint}", f"input={REAL / name}", "output=out", "device=cpu", f"window={window}")
    assert code == 0, said
    after = read(next(path for path in Path("out").iterdir() if not path.name.endswith(".json")))
    assert np.abs(after.affine - before.affine).max() < 1e-4
    assert np.allclose(after.spacing_mm, before.spacing_mm, atol=1e-4)
    whole = 0.51 if "dicom" in name else 0.01  # a series holds whole HU
    assert np.abs(after.pixels - shifted(before.pixels)).max() < whole


def test_super_resolution_is_the_same_field(trained, here, tmp_path) -> None:
    checkpoint = trained("degrade@data.degrade=super_resolution_x2", "model.factor=2", spacing_mm=[0.4, 0.25])
    affine = oblique(tmp_path / "ct.nii.gz", a_volume(21, 4, 18))
    write_series(tmp_path / "series", a_volume(3, 12, 14))
    assert here("apply", f"checkpoint={checkpoint}", "input=ct.nii.gz", "output=out", "device=cpu")[0] == 0
    made = nibabel.load("out/ct.nii.gz")
    assert made.shape == (42, 4, 36)
    corners = np.array([[-0.5, -0.5, -0.5, 1], [20.5, 3.5, 17.5, 1]]).T
    finer = np.array([[-0.5, -0.5, -0.5, 1], [41.5, 3.5, 35.5, 1]]).T
    assert np.abs(made.affine @ finer - affine @ corners).max() < 1e-4
    assert here("apply", f"checkpoint={checkpoint}", "input=series", "output=out", "device=cpu")[0] == 0
    before, after = (read_series(sorted(Path(folder).iterdir())) for folder in ("series", "out/series"))
    assert after.pixels.shape == (3, 24, 28)
    assert np.allclose(after.spacing_mm, [before.spacing_mm[0], 0.4, 0.25])
    assert np.allclose(after.affine @ [0, -0.5, -0.5, 1], before.affine @ [0, -0.5, -0.5, 1], atol=1e-4)


@pytest.mark.parametrize("sampled", ["as trained", "thinner"])
def test_thick_slices_come_back_as_thin_ones_of_the_same_field(trained, here, tmp_path, sampled) -> None:
    """Four for each, on the line through the slices' middles, also by way of the thickness of training."""
    thick_mm = {"as trained": 4.0, "thinner": 3.0}[sampled]
    volume = np.rint(np.linspace(-900, 300, 8))[None, None].repeat(18, 0).repeat(20, 1).astype(np.int16)
    affine = oblique(tmp_path / "ct.nii.gz", volume.transpose(0, 2, 1), (0.5, 0.8, thick_mm))
    sizes = ("image.spatial_dims=3", "data.size=[16,16,16]", "degrade@data.degrade=thick_slices_x4")
    checkpoint = trained(*sizes, spacing_mm=[1.0, 0.8, 0.5])
    common = ("apply", f"checkpoint={checkpoint}", "input=ct.nii.gz", "output=out", "device=cpu")
    if sampled == "thinner":
        code, said = here(*common)
        assert code == 1
        assert "of training, 4 × 0.8 × 0.5 mm, got 3 × 0.8 × 0.5 mm" in said
    code, said = here(*common, f"resample={str(sampled == 'thinner').lower()}")
    assert code == 0, said
    made = nibabel.load("out/ct.nii.gz")
    assert made.shape == (18, 32, 20)
    corners = np.array([[-0.5, -0.5, -0.5, 1], [17.5, 7.5, 19.5, 1]]).T
    finer = np.array([[-0.5, -0.5, -0.5, 1], [17.5, 31.5, 19.5, 1]]).T
    assert np.abs(made.affine @ finer - affine @ corners).max() < 1e-4
    line = np.interp((np.arange(32) + 0.5) / 4 - 0.5, np.arange(8), volume[0, 0])
    off = made.get_fdata() - shifted(line)[None, :, None]
    assert np.abs(off[:, 4:-4]).max() < {"as trained": 0.1, "thinner": 1200 / 7 / 10}[sampled]  # a tenth of what lies between two slices
    assert json.loads(Path("out/ct.nii.gz.json").read_text())["spacing_mm"] == pytest.approx([thick_mm / 4, 0.8, 0.5])


@pytest.mark.parametrize(
    ("steps", "dims", "expected"),
    [
        ([], 3, (1, 1, 1)),
        ([Shrink(factor=2, axes=[0, 2])], 3, (2, 1, 2)),
        ([Gaussian(sd=0.1), Chain([Shrink(factor=4, axes=[0])])], 3, (4, 1, 1)),
        ([Shrink(factor=4, axes=[0]), Shrink(factor=2, axes=[0])], 3, (4, 1, 1)),  # the second blurs thin slices that were interpolated
        ([Shrink(factor=4)], 3, (1, 1, 1)),  # a smaller source: the generator itself enlarges
        ([Shrink(factor=4, axes=[0])], 2, (4, 1)),
    ],
)
def test_how_thick_slices_were(steps, dims, expected) -> None:
    assert Chain(steps).frame(dims).thickness == expected


def test_thick_rows_of_coronal_planes_are_thick_slices(trained, here, tmp_path) -> None:
    """Slices of 4 mm, seen from the front: four rows for each."""
    affine = oblique(tmp_path / "ct.nii.gz", a_volume(18, 8, 3), (0.5, 0.8, 4.0))
    thick = "{_target_: medgan_pl.data.degrade.Chain, steps: [{_target_: medgan_pl.data.degrade.Shrink, factor: 4, axes: [0]}]}"
    chain = ("degrade@data.degrade=none", f"+data.degrade={thick}")
    checkpoint = trained("data.slices.axis=coronal", *chain, spacing_mm=[1.0, 0.5])
    code, said = here("apply", f"checkpoint={checkpoint}", "input=ct.nii.gz", "output=out", "device=cpu")
    assert code == 0, said
    made = nibabel.load("out/ct.nii.gz")
    assert made.shape == (18, 32, 3)
    ends = np.array([[-0.5, -0.5, 0, 1], [17.5, 31.5, 2, 1]]).T
    assert np.abs(made.affine @ ends - affine @ np.array([[-0.5, -0.5, 0, 1], [17.5, 7.5, 2, 1]]).T).max() < 1e-4


def test_a_series_of_thick_slices_becomes_one_of_thin_ones(trained, here, tmp_path) -> None:
    write_series(tmp_path / "in", a_volume(3, 12, 14), SliceThickness=2.5)  # 2.5 apart
    sizes = ("image.spatial_dims=3", "data.size=[8,8,8]", "model.generator.levels=1", "degrade@data.degrade=thick_slices_x4")
    checkpoint = trained(*sizes, spacing_mm=[2.5 / 4, 0.8, 0.5])
    code, said = here("apply", f"checkpoint={checkpoint}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    before, after = (read_series(sorted(Path(folder).glob("*.dcm"))) for folder in ("in", "out/in"))
    assert after.pixels.shape == (12, 12, 14)
    assert np.allclose(after.affine @ [-0.5, 0, 0, 1], before.affine @ [-0.5, 0, 0, 1], atol=1e-4)
    assert np.allclose(after.affine @ [11.5, 0, 0, 1], before.affine @ [2.5, 0, 0, 1], atol=1e-4)
    assert dcmread("out/in/0001.dcm").SliceThickness == pytest.approx(2.5 / 4)


def test_volumes_by_windows(trained, here, tmp_path) -> None:
    volume = a_volume(20, 37, 25)
    oblique(tmp_path / "ct.nii.gz", volume)
    checkpoint = trained("image.spatial_dims=3", "data.size=16", spacing_mm=[0.8, 3.0, 0.5])
    code, said = here(
        "apply", f"checkpoint={checkpoint}", "input=ct.nii.gz", "output=out", "device=cpu", "force=true", "overlap=0.5", "window=16"
    )
    assert code == 0, said
    assert np.abs(nibabel.load("out/ct.nii.gz").get_fdata() - shifted(volume)).max() < 0.1


def test_a_segmentation_is_labels(trained, here, tmp_path) -> None:
    oblique(tmp_path / "ct.nii.gz", a_volume(20, 4, 20))
    masks = ("game=segmentation", "beside@data.beside.mask=masks", "data.beside.mask.structures=[lung,lesion]")
    checkpoint = trained(
        "degrade@data.degrade=none", *masks, "data.beside.mask.labels=[1,2]", "model.generator.residual=false", "model.channels=2"
    )
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"]["ema.network.end.conv.bias"] = torch.tensor([0.1, 0.4])
    torch.save(state, checkpoint)
    code, said = here("apply", f"checkpoint={checkpoint}", "input=ct.nii.gz", "output=out", "device=cpu")
    assert code == 0, said
    made = nibabel.load("out/ct.nii.gz")
    assert (made.get_data_dtype(), np.unique(made.get_fdata()).tolist()) == (np.uint8, [2.0])
    assert json.loads(Path("out/ct.nii.gz.json").read_text())["structures"] == ["lung", "lesion"]


def test_another_modality_is_in_the_levels_of_training(trained, here, tmp_path) -> None:
    write_series(tmp_path / "in", a_volume(3, 20, 20) + 1200, modality="MR", series_uid="1.2.9")
    node = ("data.beside.source.modality._target_=medgan_pl.data.modalities.MRI",)
    checkpoint = trained("degrade@data.degrade=none", "beside@data.beside.source=mri", *node, "model.generator.residual=false")
    code, said = here("apply", f"checkpoint={checkpoint}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    made = read_series(sorted(Path("out/in").glob("*.dcm")))
    assert np.abs(made.pixels - round((np.tanh(SHIFT) + 1) / 2 * 1400 - 1000)).max() < 1
    one = dcmread("out/in/0001.dcm")
    assert (one.Modality, one.PatientID) == ("CT", "SECRET-ID-77")
    assert not [*check.presence(one), *check.values(one), *check.sound(one)]


@pytest.mark.parametrize(("factor", "thickness_mm"), [(1, 4), (2, 1.25)])
def test_slices_are_as_thick_as_they_were_unless_there_are_more(tmp_path, factor, thickness_mm) -> None:
    sources = write_series(tmp_path / "in", a_volume(2, 6, 6), SliceThickness=4)
    affine = np.diag([2.5 / factor, -0.8, -0.5, 1.0])[[2, 1, 0, 3]]
    origin = Provenance("a", "0" * 64, 0, 0, "2020", {})
    values = a_volume(2 * factor, 6, 6)
    write_derived(
        tmp_path / "out", values, sources, Facts(0, "HU", -1000, 400), origin, modality="CT", affine=affine, factors=(factor, 1, 1)
    )
    one = dcmread(tmp_path / "out" / "0001.dcm")
    assert (one.SliceThickness, one.SpacingBetweenSlices) == (thickness_mm, 2.5 / factor)


# Films --------------------------------------------------------------------------------------------------------------------------------

FILMS = ("data=chest_xray", "intensity@data.intensity=full_range")
OF_FILMS = {"levels": [[0.0, 255.0]], "unit": "gray levels", "modality": "CR", "spacing_mm": None, "directions": None}


def test_films_come_back_in_their_depth(trained, here, tmp_path) -> None:
    generator = np.random.default_rng(1)
    (tmp_path / "in").mkdir()
    eight, sixteen = generator.integers(0, 256, (16, 20), np.uint8), generator.integers(0, 65536, (17, 16), np.uint16)
    Image.fromarray(eight).save("in/a.png")
    Image.fromarray(sixteen).save("in/b.tif")
    write_film(tmp_path / "in" / "c.dcm", (sixteen % 4096).astype(np.uint16), BitsStored=12, HighBit=11, ImagerPixelSpacing=[0.2, 0.2])
    code, said = here("apply", f"checkpoint={trained(*FILMS, **OF_FILMS)}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    with Image.open("out/a.png") as a, Image.open("out/b.png") as b:
        assert np.abs(np.asarray(a).astype(float) - shifted(eight, 0, 255)).max() <= 0.51
        assert np.abs(np.asarray(b).astype(float) - shifted(sixteen, 0, 65535)).max() <= 0.6
    one = dcmread("out/c.dcm")
    assert np.abs(one.pixel_array * one.RescaleSlope + one.RescaleIntercept - shifted(sixteen % 4096, 0, 4095)).max() <= 0.51
    assert (one.Modality, one.ImagerPixelSpacing, one.PatientID) == ("CR", [0.2, 0.2], "SECRET-ID-77")
    assert not [*check.presence(one), *check.values(one), *check.sound(one)]


def test_holes_are_filled_and_told_of(trained, here, tmp_path) -> None:
    for folder in ("in", "holes"):
        (tmp_path / folder).mkdir()
    film, hole = np.full((16, 16), 200, np.uint8), np.zeros((16, 16), np.uint8)
    film[0, 0], hole[4:8, 4:8] = 10, 255
    Image.fromarray(film).save("in/a.png")
    Image.fromarray(hole).save("holes/a.png")
    checkpoint = trained(*FILMS, "degrade@data.degrade=inpainting", "model.source_channels=2", **OF_FILMS)
    assert "needs a folder of masks" in here("apply", f"checkpoint={checkpoint}", "input=in", "output=out")[1]
    code, said = here("apply", f"checkpoint={checkpoint}", "input=in", "output=out", "holes=holes", "device=cpu")
    assert code == 0, said
    film[hole > 0] = 0
    with Image.open("out/a.png") as made:
        assert np.abs(np.asarray(made) - shifted(film, 0, 255)).max() <= 0.51


def test_what_is_known_stays_through_another_size(trained, here, tmp_path) -> None:
    for folder in ("in", "holes"):
        (tmp_path / folder).mkdir()
    film, hole = np.random.default_rng(2).integers(0, 256, (32, 32), np.uint8), np.zeros((32, 32), np.uint8)
    hole[5:9, 5:9] = 255  # of pixels twice as wide those of its rim are holes in part
    Image.fromarray(film).save("in/a.png")
    Image.fromarray(hole).save("holes/a.png")
    checkpoint = trained(*FILMS, "degrade@data.degrade=inpainting", "model.source_channels=2", "game.keep_known=true", **OF_FILMS)
    code, said = here("apply", f"checkpoint={checkpoint}", "input=in", "output=out", "holes=holes", "device=cpu", "resample=true")
    assert code == 0, said
    with Image.open("out/a.png") as image:
        made = np.asarray(image)
    assert np.array_equal(made[hole == 0], film[hole == 0])
    assert np.abs(made[hole > 0] - shifted(np.zeros(1), 0, 255)).max() <= 0.51  # by the fill alone


def test_what_stands_in_a_hole_has_no_say_in_the_levels(trained, here, tmp_path) -> None:
    for folder in ("in", "holes"):
        (tmp_path / folder).mkdir()
    hole = np.zeros((16, 16), np.uint8)
    hole[4:8, 4:8] = 255
    film = np.random.default_rng(3).integers(50, 150, (16, 16), np.uint8)
    checkpoint = trained("data=chest_xray", "degrade@data.degrade=inpainting", "model.source_channels=2", **OF_FILMS)
    for name, value in (("a", 0), ("b", 255)):
        film[hole > 0] = value
        Image.fromarray(film).save(f"in/{name}.png")
        Image.fromarray(hole).save(f"holes/{name}.png")
    assert here("apply", f"checkpoint={checkpoint}", "input=in", "output=out", "holes=holes", "device=cpu")[0] == 0
    for name in ("a", "b"):
        levels = json.loads(Path(f"out/{name}.png.json").read_text())["levels"]
        assert np.allclose(levels[0], np.percentile(film[hole == 0], (0.5, 99.5)))
    with Image.open("out/a.png") as a, Image.open("out/b.png") as b:
        assert np.array_equal(np.asarray(a), np.asarray(b))


def test_levels_that_fog_moves_are_told_of(trained, here, tmp_path) -> None:
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save("a.png")
    for films, count in ((("data=chest_xray",), 1), (FILMS, 0)):
        checkpoint = trained(*films, "degrade@data.degrade=dehaze", **OF_FILMS)
        code, said = here("apply", f"checkpoint={checkpoint}", "input=a.png", "output=out", "device=cpu")
        assert (code, said.count("note: this generator was trained with the levels")) == (0, count)


# Between domains ----------------------------------------------------------------------------------------------------------------------


def between(settings, *overrides: str):
    module = build_module(settings("logger=csv", "data.size=16", "model.width=4", *overrides))
    names = list(module.config["data"]["domains"])
    spacings = [[0.9, 0.6], *[[0.5, 0.5]] * (len(names) - 1)]
    module.inverses = {name: Inverse.from_plain(INVERSE | {"spacing_mm": mm}) for name, mm in zip(names, spacings, strict=True)}
    module.classes, module.inverse, module.images = names, module.inverses[names[-1]], 0
    module.pipelines, module.origin = pipelines_of(module.config), Origin("0" * 64)
    return module.eval()


def test_it_is_the_spacing_of_the_domain_a_scan_comes_from_that_counts(settings) -> None:
    module = between(settings, "experiment=unpaired_ct_mr", "model.translator.blocks=1", "model.patches.layers=1")
    scan = Scan(np.zeros((3, 16, 16), np.float32), (5.0, 0.9, 0.6), np.eye(4))

    def scales(reading: Reading, *, resample: bool) -> tuple[float, ...] | None:
        return scales_to_training(scan, reading.pipeline, reading.spacing_mm, reading.factors, resample=resample, force=False)

    assert scales(Reading(module, "mr", "ct"), resample=False) is None
    there = Reading(module, "ct", "mr")
    with pytest.raises(ValueError, match=r"of training, 0.5 × 0.5 mm, got 0.9 × 0.6 mm"):
        scales(there, resample=False)
    assert np.allclose(scales(there, resample=True), (0.5 / 0.9, 0.5 / 0.6))
    del module.pipelines["mr"]
    with pytest.raises(ValueError, match="must be a checkpoint of a run"):
        Reading(module, "mr", "ct")


def test_instance_norms_are_given_the_whole(settings, tmp_path) -> None:
    module = between(settings, "experiment=star_mr")
    (tmp_path / "best.ckpt").touch()
    keys = OmegaConf.to_container(OmegaConf.load(configuration_folder() / "apply.yaml")) | {"checkpoint": tmp_path / "best.ckpt"}
    seen = []
    Inference(module, keys).windows(lambda x: seen.append(tuple(x.shape)) or x, torch.rand(2, 1, 600, 40))
    assert len(seen) == 1
    assert seen[0][2:] == (600, 40)
    assert Inference(module, keys | {"window": 16}).window == (16, 16)


# Names --------------------------------------------------------------------------------------------------------------------------------


def test_a_header_and_its_data_are_no_series(tmp_path) -> None:
    items = [Item(f"p1/{name} (+1)", (tmp_path / "p1" / name, tmp_path / "p1" / "x.raw")) for name in ("ct.nrrd", "pet.mhd")]
    for item in items:
        assert targets([item], tmp_path, Path("out"), spread=False) == [(item, Path("out/p1") / item.paths[0].stem)]


def test_a_deviation_replaces_no_other_output(tmp_path) -> None:
    items = [Item(name, (tmp_path / name,)) for name in ("ct.nii.gz", "ct_sd.nii.gz")]
    assert len(targets(items, tmp_path, Path("out"), spread=False)) == 2
    with pytest.raises(ValueError, match=r"deviation of ct.nii.gz and the output of ct_sd.nii.gz would be one file"):
        targets(items, tmp_path, Path("out"), spread=True)


def test_masks_and_inputs_are_matched_one_to_one(tmp_path) -> None:
    (tmp_path / "holes").mkdir()
    for name in ("in.nii", "p1.nii"):
        oblique(tmp_path / "holes" / name, a_volume(2, 2, 2))
    match = partial(masks_of, source=tmp_path / "in", folder=tmp_path / "holes", modality=CT())
    first, second, third = (Item(name, (tmp_path / name,)) for name in ("0.dcm (+4)", "p1/0.dcm (+4)", "p1/7.dcm (+4)"))
    assert {name: mask.name for name, mask in match([first, second]).items()} == {first.name: "in.nii", second.name: "p1.nii"}
    with pytest.raises(ValueError, match="got 2 of p1; move"):
        match([second, third])
    oblique(tmp_path / "holes" / "p1_mask.nii", a_volume(2, 2, 2))
    with pytest.raises(ValueError, match=r"one mask for each name, got p1.nii and p1_mask.nii"):
        match([first])


# What is refused ----------------------------------------------------------------------------------------------------------------------


def test_refusals_say_both_numbers_and_the_ways_out(trained, here, tmp_path) -> None:
    oblique(tmp_path / "ct.nii.gz", a_volume(30, 4, 30), spacing=(0.7, 0.8, 3.0))
    checkpoint = trained()
    common = ("apply", f"checkpoint={checkpoint}", "output=out", "device=cpu")
    code, said = here(*common, "input=ct.nii.gz")
    assert code == 1
    assert "of training, 0.8 × 0.5 mm, got 0.8 × 0.7 mm; resample=true" in said
    assert "force=true" in said
    assert here(*common, "input=ct.nii.gz", "force=true")[0] == 0
    assert here(*common, "input=ct.nii.gz", "resample=true")[0] == 0
    assert nibabel.load("out/ct.nii.gz").shape == (30, 4, 30)
    write_series(tmp_path / "mr", a_volume(3, 20, 20) + 1200, modality="MR")
    code, said = here(*common, "input=mr")
    assert code == 1
    assert "must contain what the generator was trained on, CT as NIfTI" in said
    assert "series of modality MR" in said


def test_volumes_that_name_no_modality_are_judged_by_their_values(trained, here, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    write = partial(oblique, spacing=(0.5, 0.8, 3.0))
    write(tmp_path / "in" / "mr.nii.gz", (a_volume(20, 3, 18) + 1000) // 2)
    common = ("apply", f"checkpoint={trained()}", "input=in", "device=cpu")
    code, said = here(*common, "output=out")
    assert code == 1
    assert "mr.nii.gz: it must be CT" in said
    assert "begins at -1000 HU, but its minimum is 0, while air is below -200" in said
    assert "force=true" in said
    assert here(*common, "output=out", "force=true")[0] == 0
    assert here(*common, "output=both", "force=true", "resample=true")[0] == 0
    trained("data.intensity.windows_hu=[[0,80]]", levels=[[0.0, 80.0]])  # in its window no air is seen
    assert here(*common, "output=brain")[0] == 0


def test_force_and_resample_together_resample(trained, here, tmp_path) -> None:
    oblique(tmp_path / "a.nii.gz", (a_volume(30, 4, 30) + 1000) // 2, spacing=(0.7, 0.8, 3.0))
    common = ("apply", f"checkpoint={trained()}", "input=a.nii.gz", "device=cpu", "force=true")
    assert here(*common, "output=x")[0] == here(*common, "output=y", "resample=true")[0] == 0
    x, y = (nibabel.load(f"{output}/a.nii.gz").get_fdata() for output in "xy")
    assert np.abs(x - y).max() > 1


def test_films_without_spacing_go_by_their_size(trained, here, tmp_path) -> None:
    Image.fromarray(np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)).save("a.png")
    checkpoint = trained(*FILMS, **OF_FILMS)
    code, said = here("apply", f"checkpoint={checkpoint}", "input=a.png", "output=out", "device=cpu")
    assert code == 1
    assert "its size must be within 10% of that of training, 16 × 16 pixels, got 24 × 32 pixels" in said
    assert here("apply", f"checkpoint={checkpoint}", "input=a.png", "output=out", "device=cpu", "resample=true")[0] == 0
    with Image.open("out/a.png") as made:
        assert made.size == (32, 24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("input=in",), "`output` must be given"),
        (("input=in", "output=in/out"), "`output` must neither lie in input nor contain it"),
        (("input=in/a.nii.gz", "output=in"), "`output` must neither lie in input nor contain it"),
        (("input=in", "output=."), "`output` must neither lie in input nor contain it"),
        (("input=in", "output=out", "window=2"), "`window` must be a number or [H, W] of at least 4 whole pixels"),
        (("input=in", "output=out", "uncertainty=1"), "`uncertainty` must be a whole number of at least 2"),
        (("input=in", "output=out", "uncertainty=2"), "has neither; train one with model.generator.dropout=0.2, or model=star_gan"),
        (("input=in", "output=out", "reference=in/a.nii.gz"), "`reference` gives a style, and only model=star_gan has styles"),
        (("input=in", "output=out", "holes=in"), "which has none to fill"),
        (("input=nowhere", "output=out"), "`input` must be a file or a folder of images"),
    ],
)
def test_mistakes(trained, here, tmp_path, arguments, message) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.nii.gz").touch()
    code, said = here("apply", f"checkpoint={trained()}", *arguments, "device=cpu")
    assert code == 1
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize("part", ["modality", "layout", "intensity", "companions"])
def test_a_checkpoint_names_no_data_module_for_a_part_of_its_pipeline(trained, here, tmp_path, part) -> None:
    checkpoint = trained()
    state = torch.load(checkpoint, weights_only=True)
    harmful = {"_target_": "medgan_pl.data.datamodule.ImageDataModule", "root": "/"}
    state["medgan_pl"]["pipelines"][""][part] = {"source": harmful} if part == "companions" else harmful
    torch.save(state, checkpoint)
    code, said = here("apply", f"checkpoint={checkpoint}", "input=.", "output=../out")
    assert code == 1
    assert "must be the full name of a class in medgan_pl.data.modalities" in said


@pytest.mark.parametrize("frame", [None, {}, {"holes": 1}, {"fill": 2.0}, {"thickness": [0, 1]}, {"thickness": 4}, {"more": True}])
def test_a_frame_that_no_degradation_has_is_refused(trained, here, tmp_path, frame) -> None:
    checkpoint = trained()
    state = torch.load(checkpoint, weights_only=True)
    stored = state["medgan_pl"]["pipelines"][""]
    stored["frame"] = frame and stored["frame"] | frame
    torch.save(state, checkpoint)
    code, said = here("apply", f"checkpoint={checkpoint}", "input=.", "output=../out")
    assert code == 1
    assert "the frame of a stored pipeline must have holes, fill, thickness and moves_levels" in said


def test_a_spacing_that_asks_for_too_much_is_refused() -> None:
    for scales in ((1e-4, 1e-4), (3e4, 3e4)):
        with pytest.raises(ScanError, match="at the spacing of training it may have 268,435,456 voxels, got 1 × "):
            at_spacing(lambda x: x, torch.zeros(1, 1, 9, 9), scales, (1, 1))


def test_a_segmenter_that_has_diverged_finds_no_background() -> None:
    with pytest.raises(ValueError, match="has diverged"):
        labels_of(np.array([[[0.2, np.nan]], [[0.1, 0.9]]]))


def test_a_generator_from_noise_is_refused(finished, here, tmp_path) -> None:
    code, said = here("apply", f"checkpoint={finished / 'checkpoints' / 'best.ckpt'}", "input=.", "output=../out")
    assert code == 1
    assert "use medgan_pl.sample" in said


# Again --------------------------------------------------------------------------------------------------------------------------------


def test_one_bad_file_does_not_end_the_run_and_what_is_done_stays(trained, here, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "c"):
        oblique(tmp_path / "in" / f"{name}.nii.gz", a_volume(20, 3, 18))
    (tmp_path / "in" / "b.nii.gz").write_bytes((tmp_path / "in" / "a.nii.gz").read_bytes()[:900])
    common = ("apply", f"checkpoint={trained()}", "input=in", "output=out", "device=cpu")
    code, said = here(*common)
    assert code == 1
    assert "2 of 3 are in" in said
    assert "b.nii.gz: truncated" in said
    # As a kill would leave it: of c the image without its sidecar, and something half written.
    Path("out/c.nii.gz.json").unlink()
    Path("out/c.nii.gz").write_bytes(b"half")
    times = Path("out/a.nii.gz").stat().st_mtime_ns
    assert "1 of them from before" in here(*common)[1]
    assert Path("out/a.nii.gz").stat().st_mtime_ns == times
    assert read_nifti(Path("out/c.nii.gz")).pixels.size == 20 * 3 * 18
    assert "from before" not in here(*common, "overlap=0.5")[1]


def test_uncertainty_is_the_spread_of_dropout(trained, here, tmp_path) -> None:
    oblique(tmp_path / "ct.nii.gz", a_volume(24, 2, 20))
    checkpoint = trained("model.generator.dropout=0.5")
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"]["ema.network.end.change.weight"] += 0.1
    torch.save(state, checkpoint)
    common = ("apply", f"checkpoint={checkpoint}", "input=ct.nii.gz", "device=cpu")
    for output in ("x", "y"):
        assert here(*common, f"output={output}", "uncertainty=3")[0] == 0
    spread = nibabel.load("x/ct_sd.nii.gz").get_fdata()
    assert spread.shape == (24, 2, 20)
    assert spread.min() >= 0
    assert spread.mean() > 1  # HU
    for name in ("ct.nii.gz", "ct_sd.nii.gz"):
        assert Path("x", name).read_bytes() == Path("y", name).read_bytes()
    assert here(*common, "output=z", "uncertainty=3", "seed=1")[0] == 0
    assert Path("z/ct_sd.nii.gz").read_bytes() != Path("x/ct_sd.nii.gz").read_bytes()


def test_no_result_depends_on_how_many_windows_are_made_at_once(trained, here, tmp_path) -> None:
    oblique(tmp_path / "ct.nii.gz", a_volume(24, 2, 20))
    masks = ("game=segmentation", "beside@data.beside.mask=masks", "degrade@data.degrade=none", "model.generator.residual=false")
    checkpoint = trained("model.generator.dropout=0.5", "model.generator.levels=3", *masks)
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"]["ema.network.end.conv.weight"] += 0.1
    torch.save(state, checkpoint)
    for count in (1, 4):
        arguments = (f"checkpoint={checkpoint}", "input=ct.nii.gz", f"output={count}", "uncertainty=2", "window=16", f"batch_size={count}")
        assert here("apply", *arguments, "device=cpu")[0] == 0
    spread = nibabel.load("1/ct_sd.nii.gz").get_fdata()
    assert spread.mean() > 1e-3
    assert np.array_equal(spread, nibabel.load("4/ct_sd.nii.gz").get_fdata())
    assert json.loads(Path("1/ct_sd.nii.gz.json").read_text())["unit"] == "probability"


def test_the_manual(here) -> None:
    code, said = here("apply", "--help")
    assert code == 0
    assert "uncertainty: null" in said
