"""Films as they come: splits that came with them, copies, a CSV, DICOM, and what is left out of them."""

import logging
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_film
from PIL import Image
from test_datamodule import module, write_films


def folders(root):
    for split, n in (("train", 12), ("val", 6), ("test", 3)):
        write_films(root, n, split=split)
    return root


def test_folders_split_reports_its_overlap(tmp_path):
    data = module(folders(tmp_path / "films"), split="folders")
    lines = "\n".join(data.describe())
    assert data.sizes() == {"train": 12, "val": 6, "test": 3}
    assert "2 of 4 patient groups are in more than one split; results on val and test will be too good" in lines
    assert "val: 6 images of 2 patients (ill 3, well 3)" in lines
    anew = module(tmp_path / "films", fractions=[0.4, 0.3, 0.3])
    assert "0 of 4 patient groups are in more than one split" in "\n".join(anew.describe())
    unused = "the splits that came with the data are not used; data.split=folders keeps them"
    assert (unused in anew.describe(), unused in data.describe()) == (True, False)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_an_image_on_two_sides_is_refused_or_its_copy_dropped(tmp_path, suffix):
    """Also where the files differ and only the pixels are the same."""
    root = folders(tmp_path / "films")
    with Image.open(root / "train/ill/person0_0.png") as film:
        film.save(root / f"val/ill/copy.{suffix}")
    with pytest.raises(
        ValueError, match=rf"no image may be in two splits, got 1 identical ones: .*person0_0.png \(train\).*copy.{suffix} \(val\)"
    ):
        module(root, split="folders")
    data = module(root, split="folders", duplicates="drop")
    lines = "\n".join(data.describe())
    assert data.sizes() == {"train": 11, "val": 7, "test": 3}
    assert "1 duplicates of held-out images are left out" in lines
    assert "1 name no patient" in lines
    assert not {r.pixels for r in data.records if r.split == "train"} & {r.pixels for r in data.records if r.split != "train"}
    anew = module(root, fractions=[0.4, 0.3, 0.3])
    lines = "\n".join(anew.describe())
    assert "1 copies are left out: the same image is in the set already" in lines
    assert "identical images" not in lines
    assert sum(anew.sizes().values()) == 21


def test_without_a_split_all_is_for_training_and_said_so(tmp_path):
    data = module(write_films(tmp_path / "films"), split="none")
    assert data.sizes() == {"train": 30, "val": 30, "test": 0}
    assert any("holds nothing out" in line for line in data.describe())


def test_synthetic_films_are_warned_about(tmp_path):
    root = tmp_path / "films"
    root.mkdir()
    for i in range(30):
        made = {"ImageType": ["DERIVED", "SYNTHETIC"]} if i < 2 else {}
        write_film(root / f"{i}.dcm", np.random.default_rng(i).integers(0, 4000, (20, 20), np.uint16), patient_id=f"P{i}", **made)
    assert any("WARNING: 2 of 30 are synthetic" in line for line in module(root).describe())


def test_a_csv_root(tmp_path):
    write_films(tmp_path / "f", 12, classes=())
    rows = [f"f/{p.name},{'ab'[i % 2]},q{i},{'train' if i < 8 else 'val'}" for i, p in enumerate(sorted((tmp_path / "f").iterdir()))]
    (tmp_path / "t.csv").write_text("\n".join(["image,label,patient,split", *rows]))
    data = module(tmp_path / "t.csv", split="folders")
    assert data.sizes() == {"train": 8, "val": 4, "test": 0}
    assert data.classes == ("a", "b")
    with pytest.raises(ValueError, match="no image is in the test split"):
        data.test_dataloader()


def test_unlabelled_films_have_no_labels(tmp_path):
    root = write_films(tmp_path / "films", classes=())
    data = module(root)
    assert data.classes == ()
    assert sorted(next(iter(data.train_dataloader()))) == ["image", "record"]


def test_corrupt_films_among_good_ones(tmp_path, caplog):
    root = write_films(tmp_path / "films", 60)
    (root / "ill/person0_0.png").write_bytes(b"broken")
    Image.fromarray(np.full((20, 20), 9, np.uint8)).save(root / "well/person0_1.png")
    with pytest.raises(
        ValueError,
        match=r"at most 1 % .* 2 of 60 that cannot be used \(3.3 %\).*person0_0.png: not a PNG.*person0_1.png: .* got 9 everywhere",
    ):
        module(root)
    with caplog.at_level(logging.WARNING):
        data = module(root, max_corrupt=0.05)
    assert "continuing without 2 of 60 that cannot be used" in caplog.text
    assert "ill/person0_0.png: not a PNG" in caplog.text
    assert sum(data.sizes().values()) == 58
    assert "2 cannot be used and are left out" in data.describe()


def test_the_dicom_patient_is_used_and_never_kept(tmp_path, caplog):
    caplog.set_level(0)
    root = tmp_path / "films"
    root.mkdir()
    for i in range(30):
        stored = np.random.default_rng(i).integers(0, 4000, (20, 20), np.uint16)
        write_film(root / f"{i}.dcm", stored, patient_id=f"SECRET-{i // 3}")
    (root / "30.dcm").write_bytes((root / "0.dcm").read_bytes()[:-100])
    data = module(root, max_corrupt=0.1)
    assert len({record.patient for record in data.records}) == 10
    told = caplog.text + "\n".join(data.describe()) + repr(data.records) + repr(vars(data.source))
    kept = b"".join(path.read_bytes() for path in Path("cache").rglob("*") if path.is_file())
    assert "30.dcm" in told
    assert "SECRET" not in told
    assert "Doe" not in told
    assert b"SECRET" not in kept


def test_films_named_by_their_uid_are_read_as_dicom(tmp_path):
    root = tmp_path / "films"
    root.mkdir()
    for i in range(30):
        write_film(root / f"1.2.840.113.{i}", np.random.default_rng(i).integers(0, 4000, (20, 20), np.uint16), patient_id=f"P{i // 3}")
    (root / "notes.5").write_text("no film")
    data = module(root)
    assert len(data.records) == 30
    assert data.source.nameless == 0
    assert len({record.patient for record in data.records}) == 10
    assert "left out: 1 .5" in data.describe()[0]
