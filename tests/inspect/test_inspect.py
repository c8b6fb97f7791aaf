"""Looking at a data set before training: what is found, what is wrong, and the exit code."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from command_line import picture
from configured import configured
from dicom_files import write_film
from PIL import Image
from pydicom.uid import JPEGLosslessSV1

from medgan_pl.inspect.look import inspect

SMALL = ("data.size=16", "data.slices.foreground=0")


def write_volume(path: Path, seed: int, low: float = -1000, high: float = 400) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).uniform(low, high, (12, 14, 10)).round()
    nib.save(nib.Nifti1Image(values.astype(np.int16), np.diag([1.0, 1.0, 2.5, 1.0])), path)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    for patient in range(12):
        write_volume(tmp_path / "ct" / f"patient{patient}" / "chest.nii.gz", patient)
    return tmp_path / "ct"


def test_a_set_that_is_fit(volumes: Path, here) -> None:
    code, said = here("inspect", "data=ct", f"data.root={volumes}", *SMALL)
    assert code == 0
    for line in (
        "12 volumes",
        "train: 100 images from 10 scans of 10 patients",
        "size: 10 × 14 × 12 (12)",
        "spacing: 2.5 × 1 × 1 mm (12)",
        "bits: 16 (12)",
        "values: -1000 to 400 HU",
        "fit to train on",
    ):
        assert line in said, line
    assert said.startswith("hashing files: 12\npreparing images: 12\n")  # the log without Hydra's name and times
    report = json.loads(Path("inspect/report.json").read_text())
    assert report["unfit"] is None
    assert report["splits"] == {"train": 100, "val": 10, "test": 10}
    assert {scan["images"] for scan in report["scans"]} == {10}
    assert Path("inspect/report.txt").read_text() in said
    assert len(Path("inspect/dataset.csv").read_text().splitlines()) == 13
    for name in ("contact_sheet.png", "histogram.png"):
        pixels = np.asarray(picture(Path("inspect") / name).convert("L"))
        assert min(pixels.shape) > 100
        assert pixels.std() > 5


def test_what_is_wrong_file_by_file(volumes: Path, here) -> None:
    (volumes / "patient0" / "chest.nii.gz").write_bytes(b"no volume")
    write_volume(volumes / "patient1" / "chest.nii.gz", 1, low=0, high=255)
    (volumes / "patient2" / "chest.nii.gz").write_bytes((volumes / "patient3" / "chest.nii.gz").read_bytes())
    code, said = here("inspect", "data=ct", f"data.root={volumes}", *SMALL)
    assert code == 1
    assert "unusable  patient0/chest.nii.gz: not a NIfTI file" in said
    assert "unusable  patient1/chest.nii.gz: the window of training begins at -1000 HU, but its minimum is 0, while air is" in said
    assert "odd  patient3/chest.nii.gz: the same image as patient2/chest.nii.gz" in said
    assert "UNFIT: at most 1 % may be unusable (data.max_corrupt), got 2 of 12" in said
    assert json.loads(Path("inspect/report.json").read_text())["unfit"]
    code, said = here("inspect", "data=ct", f"data.root={volumes}", "data.max_corrupt=0.2", *SMALL)
    assert code == 0
    assert "fit to train on; 1 of 10 scans are odd" in said


def test_one_patient_is_unfit_to_be_split(tmp_path: Path, here) -> None:
    write_volume(tmp_path / "ct" / "one" / "a.nii.gz", 0)
    write_volume(tmp_path / "ct" / "one" / "b.nii.gz", 1)
    write_volume(tmp_path / "ct" / "two" / "c.nii.gz", 1, high=300)
    (tmp_path / "ct" / "two" / "c.nii.gz").unlink()
    code, said = here("inspect", "data=ct", f"data.root={tmp_path / 'ct'}", *SMALL)
    assert code == 1
    assert "UNFIT: 1 patients are too few" in said
    assert "data.split=none" in said


def test_films_and_the_cohort(tmp_path: Path, here) -> None:
    (tmp_path / "films").mkdir()
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 4095, (20, 20)).astype(np.uint16)
        Image.fromarray(pixels).save(tmp_path / "films" / f"{i}.png")
    code, said = here("inspect", "data=xray", f"data.root={tmp_path / 'films'}", "data.size=16", f"output={tmp_path / 'look'}")
    assert code == 0, said
    assert "bits: 16 (12)" in said
    assert (tmp_path / "look" / "contact_sheet.png").is_file()
    small = ("data.size=8", "data.cohort.patients=12", "data.cohort.shape=[8,8,8]")
    code, said = here("inspect", "data=mri", "image.spatial_dims=3", *small)
    assert code == 0, said
    assert "the embedded cohort: 12 simulated patients" in said
    assert "fit to train on" in said


def test_a_missing_decoder_hides_no_other_finding(tmp_path: Path, here) -> None:
    root = tmp_path / "films"
    root.mkdir()
    for i in range(6):
        stored = np.random.default_rng(i).integers(0, 4000, (20, 20), np.uint16)
        write_film(root / f"{i}.dcm", stored, transfer_syntax=JPEGLosslessSV1 if i == 2 else None)
    write_film(root / "report.dcm", stored, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Rows=None, Columns=None, PixelData=None)
    (root / "5.dcm").write_bytes((root / "5.dcm").read_bytes()[:-100])
    code, said = here("inspect", "data=xray", f"data.root={root}", "data.size=16", f"output={tmp_path / 'look'}")
    assert code == 1
    assert "passed over: 1 no image (a report, a plan, a directory)" in said
    assert "bits: 16 (4)" in said
    assert "unusable  5.dcm: pixel data must be 800 bytes" in said
    assert "UNFIT: 2.dcm: a DICOM compressed as JPEG Lossless" in said


def test_nothing_is_written_below_the_data(volumes: Path) -> None:
    before = sorted(volumes.rglob("*"))
    for output in (volumes, volumes / "look", volumes / "patient0" / ".." / "look"):
        with pytest.raises(ValueError, match=r"`output` must lie outside data.root, or the next inspection finds the pictures of this one"):
            inspect(configured("inspect", f"data.root={volumes}", f"output={output}"))
        assert sorted(volumes.rglob("*")) == before, output


def test_an_output_that_cannot_be_written_is_refused_before_the_work(volumes: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    for output in (tmp_path / "taken", tmp_path / "taken" / "look"):
        with pytest.raises(ValueError, match=r"`output` must be a folder that can be written, got .*taken.*; choose another: output="):
            inspect(configured("inspect", f"data.root={volumes}", f"output={output}"))


def test_help_and_mistakes(here) -> None:
    code, said = here("inspect", "--help")
    assert code == 0
    for word in ("data.root", "descriptions", "spacing_mm", "foreground"):
        assert word in said, word
    code, said = here("inspect", "data=ct", "data.root=/nowhere")
    assert code == 1
    assert "data.root must be a folder or a .csv file, got /nowhere" in said


def test_the_covariates_of_the_run_are_looked_at(tmp_path: Path, here) -> None:
    rows = ["image,age"]
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 255, (16, 16)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"film{i}.png")
        rows.append(f"film{i}.png,{20 + i}")
    (tmp_path / "films.csv").write_text("\n".join(rows))
    code, said = here("inspect", "data=xray", f"data.root={tmp_path / 'films.csv'}", "data.size=16", "model.covariates=[age]")
    assert code == 0, said
    assert "age: known of 16 of 16 training scans" in said
