"""Folders, CSVs, Decathlon tables, and whose image it is."""

import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medgan_pl.data.modalities import CT, XRay
from medgan_pl.data.records import Item, find, identity_from, is_dicom, read_csv, read_msd, tabulate, walk

PATTERN = re.compile(r"person\d+|(?:NORMAL2-)?IM-\d+|^\d{8}(?=_\d{3}\.)")


def listed(root, classes=True):
    return find(root, XRay().takes, XRay().kinds, classes)


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
        (["a.txt", "b.csv"], FileNotFoundError, "holds 1 .txt, 1 .csv"),
        (["1.png", "a/2.png"], ValueError, "1 loose ones beside a"),
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


def test_a_missing_root_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="which is neither"):
        listed(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        read_csv(tmp_path / "no.csv", XRay().takes)


def test_csv(tmp_path):
    picture(tmp_path / "f/1.png")
    picture(tmp_path / "2.png")
    (tmp_path / "t.csv").write_text("image,label,patient,split\nf/1.png,ill,Jane,Train\n2.png,well,John,valid\n")
    films, _ = read_csv(tmp_path / "t.csv", XRay().takes)
    assert [(f.name, f.label, f.identity, f.split) for f in films] == [
        ("f/1.png", "ill", "Jane", "train"),
        ("2.png", "well", "John", "val"),
    ]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("picture\n1.png\n", ValueError, "a column `image`, got picture"),
        ("image\n", FileNotFoundError, "no rows"),
        ("image,label\n1.png,a\n2.png,\n", ValueError, "`label` must be filled on every row or on none; empty on 1, first on line 3"),
        ("image\n1.png\n1.png\n", ValueError, "listed again: 1.png"),
        ("image,split\n1.png,practice\n2.png,train\n", ValueError, "train, val or test, got practice"),
        ("image\n1.png\n3.png\n", FileNotFoundError, "1 images that are not there: 3.png"),
    ],
)
def test_bad_csv(tmp_path, text, error, words):
    picture(tmp_path / "1.png")
    picture(tmp_path / "2.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(error, match=re.escape(words)):
        read_csv(tmp_path / "t.csv", XRay().takes)


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
    assert identity_from(Item(f"train/person99/{name}", inner=name), PATTERN) == identity


def test_csv_beats_dicom_beats_name():
    film = Item("person1_1.png", inner="person1_1.png")
    assert identity_from(film, PATTERN) == "person1"
    assert identity_from(film.of("77"), PATTERN) == "77"
    assert identity_from(replace(film, identity="Jane").of("77"), PATTERN) == "Jane"


def test_a_csv_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "t.csv").write_bytes("image,label\n1.png,gesünder\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"t\.csv must be UTF-8 text, got the byte 0xfc; save it as UTF-8"):
        read_csv(tmp_path / "t.csv", XRay().takes)


def test_patients_are_hashes_that_keep_apart_who_is_apart():
    films = [Item("1"), Item("2"), Item("3"), Item("4")]
    a, b, c, d = (r.patient for r in tabulate(films, ["Jane", "Jane", "John", None], ["00", "01", "00", "02"]))
    assert a == b
    assert len({a, c, d}) == 3
    assert all(re.fullmatch(r"[0-9a-f]{12}", p) for p in (a, c, d))
    # Salted with the films: the same name over other films is another hash.
    assert tabulate(films[:1], ["Jane"], ["03"])[0].patient != a


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
        (["masks/1.png", "faces/2.png"], ["faces/2.png", "masks/1.png"]),  # no sister `images`: a class of that name
        (["labels/1.png"], ["labels/1.png"]),
        (["train/images/1.png", "train/masks/1.png", "val/images/2.png"], ["train/images/1.png", "val/images/2.png"]),
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


def test_bids_subjects_are_found_in_names_and_folders():
    pattern = re.compile(r"sub-[0-9A-Za-z]+|^[^/]+(?=/)")  # conf/data/base/volumes.yaml
    for inner, identity in (
        ("sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", "sub-01"),
        ("sub-02/anat/T1w.nii.gz", "sub-02"),
        ("patient7/ct.nii", "patient7"),
        ("ct.nii", None),
    ):
        assert identity_from(Item(inner, inner=inner), pattern) == identity


def msd(folder, table):
    for name in ("imagesTr/a.nii.gz", "imagesTr/b.nii.gz", "labelsTr/a.nii.gz", "imagesTs/c.nii.gz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    (folder / "dataset.json").write_text(table if isinstance(table, str) else json.dumps(table))
    return folder / "dataset.json"


def test_a_decathlon_table(tmp_path):
    table = msd(
        tmp_path,
        {
            "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in "ab"],
            "test": ["./imagesTs/c.nii.gz"],
        },
    )
    items, layout = read_msd(table)
    assert [(item.name, item.split, item.identity, item.label) for item in items] == [
        ("imagesTr/a.nii.gz", "train", "a.nii.gz", None),
        ("imagesTr/b.nii.gz", "train", "b.nii.gz", None),
        ("imagesTs/c.nii.gz", "test", "c.nii.gz", None),
    ]
    assert "masks left out" in layout


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        ("{", ValueError, "must be a Decathlon table"),
        ("[]", ValueError, "must be a Decathlon table"),
        ({"images": []}, ValueError, "must be a Decathlon table"),
        ({"training": ["imagesTr/a.nii.gz"]}, ValueError, "must be a Decathlon table"),
        ({"training": [{"image": 5}]}, ValueError, "must be a Decathlon table"),
        ({"training": [{"image": None}]}, ValueError, "must be a Decathlon table"),
        ({"training": 7}, ValueError, "must be a Decathlon table"),
        ({"training": []}, FileNotFoundError, "at least one image"),
        ({"training": [{"image": "../other/a.nii.gz"}]}, ValueError, "below its own folder, got ../other/a.nii.gz"),
        ({"training": [{"image": "/etc/passwd"}]}, ValueError, "below its own folder"),
        ({"training": [{"image": "imagesTr/z.nii.gz"}]}, FileNotFoundError, "1 images that are not there: imagesTr/z.nii.gz"),
    ],
)
def test_bad_decathlon_tables(tmp_path, table, error, words):
    with pytest.raises(error, match=re.escape(words)):
        read_msd(msd(tmp_path, table))


def test_a_csv_names_folders_of_slices(tmp_path):
    for name in ("jane/s1/1.dcm", "jane/s1/2.dcm", "john/3.dcm", "john/report.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "t.csv").write_text("image,patient,split,label\njane/s1,Jane,train,ill\njohn,John,val,well\n")
    items, _ = read_csv(tmp_path / "t.csv", CT().takes)
    assert [(i.name, i.identity, i.split, i.label) for i in items] == [
        ("jane/s1/1.dcm", "Jane", "train", "ill"),
        ("jane/s1/2.dcm", "Jane", "train", "ill"),
        ("john/3.dcm", "John", "val", "well"),
    ]
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.csv").write_text("image\nempty\n")
    with pytest.raises(FileNotFoundError, match="1 images that are not there: empty"):
        read_csv(tmp_path / "t.csv", CT().takes)
