"""The table that inspect writes is read back as the same set, and its edits count."""

import csv
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_files import write_series
from PIL import Image

from medgan_pl.data.companion import Masks
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.files.csv_table import read_csv
from medgan_pl.data.files.listing import Wanted
from medgan_pl.data.intensity import FullRange, Percentiles, Window
from medgan_pl.data.modalities import CT, MRI, XRay
from medgan_pl.inspect.listed import pair_lines, write_table

FILMS = ("NORMAL", "PNEUMONIA")


def films(root: Path) -> Path:
    for i in range(30):
        folder = root / FILMS[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (16, 16)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"person{i // 2}_{i}.png")
    return root


def read(root: Path, cache: Path, **options) -> ImageDataModule:
    options = {"modality": XRay(), "intensity": FullRange(), "size": 8, "max_corrupt": 0.1, **options}
    data = ImageDataModule(root=str(root), cache={"dir": str(cache)}, **options)
    data.setup()
    return data


def facts(data: ImageDataModule) -> dict[str, tuple]:
    """Return for each file its class and split, and those of one patient."""
    people: dict[str, set[str]] = {}
    for record in data.records:
        people.setdefault(record.patient, set()).add(record.paths[0].name)
    return {r.paths[0].name: (r.label, r.split, frozenset(people[r.patient])) for r in data.records}


def rows_of(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))


def test_the_same_set_comes_back_and_an_edit_counts(tmp_path: Path) -> None:
    root, table = films(tmp_path / "films"), tmp_path / "dataset.csv"
    (root / "NORMAL" / "broken.png").write_bytes(b"no film")
    before = read(root, tmp_path / "cache")
    assert write_table(before, table)
    rows = rows_of(table)
    assert [row["why"] for row in rows if row["use"] == "no"] == [before.unusable["NORMAL/broken.png"]]
    assert not any("person" in row["patient"] for row in rows)  # a hash
    for split in ("folders", "patient"):
        again = read(table, tmp_path / "cache", split=split)
        assert facts(again) == facts(before)
        assert "left out: 1 rows of use=no" in again.source.title
    first, second = [row for row in rows if row["use"] == "yes"][:2]
    first["label"], second["use"] = "PNEUMONIA", "no"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerows(rows)
    edited = table.read_text(encoding="utf-8")
    changed = facts(read(table, tmp_path / "cache", split="folders"))
    assert len(changed) == 29
    assert changed[Path(first["image"]).name][0] == "PNEUMONIA"
    assert Path(second["image"]).name not in changed
    assert not write_table(read(table, tmp_path / "cache", split="folders"), table)  # the user's edits stay
    assert table.read_text(encoding="utf-8") == edited


def test_masks_by_name_and_by_values_are_listed_and_can_be_used(tmp_path: Path) -> None:
    """with_mask/7.png is a film, whatever its folder is called: the log doubts it, and the table has it."""
    for i in range(20):
        for folder in ("with_mask", "without_mask"):
            (tmp_path / "films" / folder).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(i + 50 * (folder == "with_mask")).integers(0, 255, (16, 16)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "films" / folder / f"{i}.png")
    Image.fromarray((pixels > 99).astype(np.uint8)).save(tmp_path / "films" / "without_mask" / "bone.png")
    before = read(tmp_path / "films", tmp_path / "cache")
    assert len(before.records) == 20
    assert any(line.startswith("WARNING: 20 files are left out as masks by their names, but") for line in before.summarize())
    write_table(before, tmp_path / "dataset.csv")
    rows = rows_of(tmp_path / "dataset.csv")
    why = {Path(row["image"]).relative_to(tmp_path / "films").as_posix(): row["why"] for row in rows if row["use"] == "no"}
    bone = "it has only the values 0, 1"
    assert why == {f"with_mask/{i}.png": "a mask by its name" for i in range(20)} | {"without_mask/bone.png": bone}
    text = (tmp_path / "dataset.csv").read_text(encoding="utf-8").replace(",,,,no,a mask by its name", ",with_mask,{0},val,yes,")
    lines = [line.replace("{0}", str(place)) for place, line in enumerate(text.splitlines())]
    (tmp_path / "edited.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")  # as Excel writes it
    again = read(tmp_path / "edited.csv", tmp_path / "cache", split="folders")
    assert sorted(record.label for record in again.records) == ["with_mask"] * 20 + ["without_mask"] * 20


def test_masks_that_are_masks_are_not_doubted(tmp_path: Path) -> None:
    root = films(tmp_path / "films")
    for path in sorted(root.rglob("*.png")):
        Image.fromarray((np.asarray(Image.open(path)) > 99).astype(np.uint8) * 255).save(path.with_name(f"{path.stem}_mask.png"))
    assert not any("as masks by their names" in line for line in read(root, tmp_path / "cache").summarize())


def test_series_come_back_by_folder_or_by_file(tmp_path: Path) -> None:
    hu = np.random.default_rng(0).integers(-1000, 400, (3, 12, 12)).astype(np.float32)
    for i in range(12):
        (tmp_path / "ct" / f"p{i}").mkdir(parents=True)
        write_series(tmp_path / "ct" / f"p{i}", hu + i, patient_id=f"SECRET{i}", series_uid=f"1.2.{i}")
    (tmp_path / "ct" / "p0" / "other").mkdir()
    write_series(tmp_path / "ct" / "p0" / "other", hu + 50, patient_id="SECRET0", series_uid="1.3", RescaleType="Z_EFF")
    slices = sorted((tmp_path / "ct" / "p3").iterdir())
    shutil.copy(slices[1], tmp_path / "ct" / "p3" / "z_copy.dcm")
    foreign, copied = (
        "passed over: CT series in Z_EFF (RescaleType) and not in HU",
        "passed over: copies of slices (the same SOPInstanceUID)",
    )
    expected = {str(path): foreign for path in (tmp_path / "ct" / "p0" / "other").iterdir()}
    expected[str(tmp_path / "ct" / "p3" / "z_copy.dcm")] = copied
    options = {"modality": CT(), "intensity": Window([[-1000, 400]]), "classes": "none", "crop": False}
    before = read(tmp_path / "ct", tmp_path / "cache", **options)
    write_table(before, tmp_path / "dataset.csv")
    rows = rows_of(tmp_path / "dataset.csv")
    assert "SECRET" not in (tmp_path / "dataset.csv").read_text(encoding="utf-8")
    assert sum(Path(row["image"]).is_dir() for row in rows) == 10  # p0 holds another series too, p3 a copy: a row for each file
    assert {row["image"]: row["why"] for row in rows if row["use"] == "no"} == expected
    write_table(read(tmp_path / "ct", tmp_path / "cache", **options), tmp_path / "recalled.csv")  # the stored table keeps the reasons
    assert rows_of(tmp_path / "recalled.csv") == rows
    again = read(tmp_path / "dataset.csv", tmp_path / "cache", split="folders", **options)
    assert facts(again) == facts(before)
    assert len(again.records) == 12


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("image,use\na.png,maybe\n", ValueError, "column `use` must be yes or no, got something else on 1 lines, first 2"),
        ("image,use\na.png,no\n", FileNotFoundError, "must have a row whose column `use` is not no, got none of 1"),
    ],
)
def test_mistakes_in_the_column_use(tmp_path: Path, text: str, error: type[Exception], words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(error, match=re.escape(words)):
        read_csv(tmp_path / "t.csv", Wanted(XRay().takes, ""))


def test_a_file_of_several_volumes_has_one_row_and_comes_back_whole(tmp_path: Path) -> None:
    """One of the three volumes of the second file is unusable, as it has one value everywhere."""
    for i in range(2):
        values = np.random.default_rng(i).integers(0, 900, (6, 6, 4, 3)).astype(np.int16)
        values[..., 0] = 5 if i else values[..., 0]
        (tmp_path / "mr" / f"p{i}").mkdir(parents=True)
        nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / "mr" / f"p{i}" / "t.nii")
    options = {"intensity": Percentiles(), "max_corrupt": 0.5, "split": "none", "classes": "none", "crop": False}
    before = read(tmp_path / "mr", tmp_path / "cache", modality=MRI(volume="all"), **options)
    write_table(before, tmp_path / "dataset.csv")
    assert [(Path(row["image"]).parent.name, row["use"]) for row in rows_of(tmp_path / "dataset.csv")] == [("p0", "yes"), ("p1", "yes")]
    again = read(tmp_path / "dataset.csv", tmp_path / "cache", modality=MRI(volume="all"), **options)
    assert len(again.records) == 5
    assert [(r.part, r.pixels) for r in again.records] == [(r.part, r.pixels) for r in before.records]


def test_the_file_that_belongs_to_an_image_is_named(tmp_path: Path) -> None:
    root = films(tmp_path / "films")
    for path in sorted(root.rglob("*.png")):
        mask = tmp_path / "masks" / path.relative_to(root)
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.asarray(Image.open(path)) > 99).astype(np.uint8) * 255).save(mask)
    masks = Masks(modality=XRay(), structures=["bright"], root=str(tmp_path / "masks"))
    data = read(root, tmp_path / "cache", beside={"mask": masks})
    assert pair_lines(data) == [f"mask of NORMAL/person0_0.png: {tmp_path}/masks/NORMAL/person0_0.png"]
