"""Folders, and whose image it is."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgan_pl.data.files.folders import read_folder, walk
from medgan_pl.data.files.listing import Wanted
from medgan_pl.data.files.records import Item, identity_from, is_dicom, tabulate
from medgan_pl.data.modalities import XRay

PATTERN = re.compile(r"person\d+")


def listed(root, classes=True):
    listing = read_folder(root, Wanted(XRay().takes, XRay().kinds, classes))
    return listing.items, listing.title


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) + np.uint8(value)).save(path)


@pytest.mark.parametrize(
    ("names", "labels", "splits"),
    [
        (["train/a/1.png", "val/b/2.png", "test/a/3.png"], ["a", "a", "b"], ["test", "train", "val"]),
        (["Train/1.png", "valid/2.png"], [None, None], ["train", "val"]),
        (["a/1.png", "b/2.jpg", "b/deep/3.tif"], ["a", "b", "b"], [None] * 3),
        (["1.png", "2.jpeg"], [None, None], [None, None]),
        (["ill/1.png", "ill/2.png"], ["ill", "ill"], [None, None]),
        (["ill/1.png", "ill/test/2.png"], ["ill", "ill"], [None, None]),
        (["ill/jane/1.png", "ill/john/2.png"], ["ill", "ill"], [None, None]),
    ],
)
def test_layouts(tmp_path, names, labels, splits):
    for name in [*names, ".hidden.png", "__MACOSX/train/x.png", "notes.txt"]:
        picture(tmp_path / name) if not name.endswith("txt") else (tmp_path / name).write_text("no film")
    films, layout = listed(tmp_path)
    films = sorted(films, key=lambda film: film.name.lower())
    assert [film.name for film in films] == sorted(names, key=str.lower)
    assert [film.label for film in films] == labels
    assert [film.split for film in films] == splits
    assert "1 .txt" in layout


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        ([], FileNotFoundError, "no file at all"),
        (["a.txt", "b.csv", "c.1.nii.gz"], FileNotFoundError, "holds 1 .txt, 1 .csv, 1 .nii.gz; data=ct and data=mri read NIfTI"),
        (
            ["1.png", "a/2.png"],
            ValueError,
            "the folders a; move the loose ones, or take all without classes: data.classes=none",
        ),
        (["1.png", "train/2.png"], ValueError, "and the folders train; move the loose ones"),
        (["train/1.png", "other/2.png"], ValueError, "splits or classes, got both: other, train"),
        (["train/a/1.png", "val/2.png"], ValueError, "such as val/2.png"),
        (
            ["xray/train/a/1.png", "xray/Test/b/2.png", "__MACOSX/xray/train/a/1.png"],
            ValueError,
            "one folder xray holds Test, train; use data.root=",
        ),
        (["xray/train/1.png", "xray/xray/train/1.png", "xray/__MACOSX/x/1.png"], ValueError, "one folder xray holds train; use data.root="),
    ],
)
def test_bad_folders(tmp_path, names, error, words):
    for name in names:
        picture(tmp_path / name) if name.endswith("png") else (tmp_path / name).write_text("")
    with pytest.raises(error, match=re.escape(words)):
        listed(tmp_path)


@pytest.mark.parametrize(
    ("name", "preamble", "dicom"),
    [
        ("1.2.840.113.5", b"DICM", True),
        ("1.2.840.113.5", b"none", False),
        ("IM0001", b"DICM", True),
        ("IM0001", b"none", False),
        ("a.DCM", b"none", True),
        ("a.png", b"DICM", False),
        ("a.txt", b"DICM", False),
    ],
)
def test_a_dicom_is_known_by_its_suffix_or_its_preamble(tmp_path, name, preamble, dicom):
    (tmp_path / name).write_bytes(bytes(128) + preamble)
    assert is_dicom(tmp_path / name) == dicom


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "nowhere, which does not exist$"),
        ("films.zip", "films.zip, an archive; unpack it, and give its folder"),
        ("one.png", "one.png, which is neither; give the folder that holds it"),
    ],
)
def test_a_root_that_is_no_folder_is_an_error_that_says_what_to_do(tmp_path, monkeypatch, name, words):
    (tmp_path / "films.zip").touch()
    (tmp_path / "one.png").touch()
    with pytest.raises(FileNotFoundError, match=f"must be a folder or a .csv file, got .*{words}"):
        listed(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"got far, which does not exist in {tmp_path}$"):
        listed(Path("far"))


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("person12_bacteria_40.jpeg", "person12"),
        ("IM-0439-0001-0002.jpeg", "IM-0439"),
        ("NORMAL2-IM-0439-0001.jpeg", "NORMAL2-IM-0439"),
        ("00000013_005.png", "00000013"),
        ("scan7.png", None),
    ],
)
def test_patients_from_file_names(name, identity):
    assert identity_from(Item(f"train/person99/{name}", inner=name), None) == identity


def test_csv_beats_dicom_beats_name():
    film = Item("person1_1.png", inner="person1_1.png")
    assert identity_from(film, PATTERN) == "person1"
    assert identity_from(film.of("77"), PATTERN) == "77"
    assert identity_from(replace(film, identity="Jane").of("77"), PATTERN) == "Jane"


def test_patients_are_numbered_by_their_images_and_keep_apart_who_is_apart():
    films = [Item("1"), Item("2"), Item("3"), Item("4")]
    digests = ["00", "01", "00", "02"]
    a, b, c, d = (r.patient for r in tabulate(films, ["Jane", "Jane", "John", None], digests))
    assert a == b
    assert len({a, c, d}) == 3
    assert all(re.fullmatch(r"[0-9a-f]{12}", p) for p in (a, c, d))
    assert tabulate(films[:1], ["Jane"], ["03"])[0].patient != a  # of other films
    # Whoever has the table and its digests finds no identity in it: any other names give the same table.
    assert [r.patient for r in tabulate(films, ["Smith", "Smith", "4711", None], digests)] == [a, b, c, d]


def test_each_folder_is_walked_once_however_links_lead_to_it(tmp_path):
    picture(tmp_path / "data/a/1.png")
    picture(tmp_path / "elsewhere/2.png")
    os.symlink(tmp_path / "data", tmp_path / "data/a/loop")
    os.symlink(tmp_path / "elsewhere", tmp_path / "data/b")
    os.symlink(tmp_path / "nowhere", tmp_path / "data/a/broken.png")
    os.mkfifo(tmp_path / "data/a/pipe.png")  # to read it would wait for ever
    files, passed = walk(tmp_path / "data")
    assert [str(path.relative_to(tmp_path / "data")) for path in files] == ["a/1.png", "b/2.png"]
    assert passed == {"links back to a folder": 1, "broken links or special files": 2}
    items, layout = listed(tmp_path / "data")
    assert [item.label for item in items] == ["a", "b"]
    assert "2 broken links or special files, 1 links back to a folder" in layout


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["images/1.png", "masks/1.png"], ["images/1.png"]),
        (["a/images/1.png", "a/labels/1.png", "b/images/2.png", "b/Masks_v2/2.png"], ["a/images/1.png", "b/images/2.png"]),
        (["imagesTr/1.png", "labelsTr/1.png", "imagesTs/2.png"], ["imagesTr/1.png", "imagesTs/2.png"]),
        (["masks/1.png", "films/2.png"], ["films/2.png"]),
        (["labels/1.png"], ["labels/1.png"]),
        (["train/images/1.png", "train/masks/1.png", "val/images/2.png"], ["train/images/1.png", "val/images/2.png"]),
        (["P0/P0.png", "P0/P0_seg.png", "P1/P1.png", "P1/P1_seg.v2.png"], ["P0/P0.png", "P1/P1.png"]),
        (["1.png", "1-Mask.png", "1.gt.png", "1_LABEL.png", "2_segmentation.png"], ["1.png"]),
        (["seg.png", "a_segment.png", "unlabel.png", "a_masked.png"], ["a_masked.png", "a_segment.png", "unlabel.png"]),
        (["1_mask.png", "2_mask.png"], ["1_mask.png", "2_mask.png"]),  # masks are what there is to draw
    ],
)
def test_masks_beside_images_are_left_out(tmp_path, names, taken):
    for name in names:
        picture(tmp_path / name)
    items, layout = listed(tmp_path, classes=False)
    assert [item.name for item in items] == taken
    assert all(item.label is None for item in items)
    assert (f"{len(names) - len(taken)} masks" in layout) == (len(taken) < len(names))


def test_without_classes_a_folder_is_the_patients_and_loose_files_may_lie_beside(tmp_path):
    for name in ("jane/1.png", "john/visit/2.png", "3.png"):
        picture(tmp_path / name)
    items, _ = listed(tmp_path, classes=False)
    assert {item.name: identity_from(item, re.compile(r"^[^/]+(?=/)")) for item in items} == {
        "3.png": None, "jane/1.png": "jane", "john/visit/2.png": "john",
    }  # fmt: skip
    (tmp_path / "3.png").unlink()
    for split in ("train", "val"):
        picture(tmp_path / "split" / split / "jane/1.png")
    items, _ = listed(tmp_path / "split", classes=False)
    assert [(item.split, identity_from(item, re.compile(r"^[^/]+(?=/)"))) for item in items] == [("train", "jane"), ("val", "jane")]


@pytest.mark.parametrize("name", ["ct", "mri"])
def test_without_a_pattern_volumes_are_named_by_bids_subjects_nnu_net_cases_and_folders(settings, name):
    assert settings(f"data={name}")["data"]["patient_pattern"] is None
    for inner, identity in (
        ("sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", "sub-01"),
        ("sub-02/anat/T1w.nii.gz", "sub-02"),
        ("patient7/ct.nii", "patient7"),
        ("ct.nii", None),
        ("case_007_0000.nii.gz", "case_007"),
        ("case_007_0001.nii.gz", "case_007"),
        ("visit/BRATS_485_0003.nii.gz", "BRATS_485"),
        ("amos_0001.nii.gz", None),  # each a patient of its own
        ("amos_0002.nii.gz", None),
        ("lung_12.nii.gz", None),
    ):
        assert identity_from(Item(inner, inner=inner), None) == identity


def test_a_patients_folder_may_have_the_name_of_a_split(tmp_path):
    for name in ("jane/1.png", "TEST/2.png", "ann/3.png"):
        picture(tmp_path / name)
    items, layout = listed(tmp_path, classes=False)
    found = {item.name: (item.split, identity_from(item, re.compile(r"^[^/]+(?=/)"))) for item in items}
    assert found == {"jane/1.png": (None, "jane"), "TEST/2.png": (None, "TEST"), "ann/3.png": (None, "ann")}
    assert layout.startswith("one folder")
    with pytest.raises(ValueError, match="either splits or classes, got both: TEST, ann, jane"):
        listed(tmp_path)


@pytest.mark.parametrize(("folders", "each", "refused"), [(11, 1, True), (20, 3, True), (10, 3, False), (2, 3, False), (11, 20, False)])
def test_folders_that_are_patients_are_not_taken_for_classes(tmp_path, folders, each, refused):
    for i in range(folders * each):
        (tmp_path / f"p{i % folders}").mkdir(exist_ok=True)
        (tmp_path / f"p{i % folders}" / f"{i}.png").touch()
    if refused:
        with pytest.raises(ValueError, match=rf"folders must be classes, got {folders} that hold {each}.0 images each.* data.classes=none"):
            listed(tmp_path)
        assert len(listed(tmp_path, classes=False)[0]) == folders * each
    else:
        assert len({item.label for item in listed(tmp_path)[0]}) == folders
