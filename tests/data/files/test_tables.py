"""CSVs and Decathlon tables: what they list, whose it is, and what is wrong with them."""

import json
import re

import pytest
from test_records import picture

from medgan_pl.data.files.csv_table import read_csv
from medgan_pl.data.files.decathlon import read_decathlon
from medgan_pl.data.files.listing import Wanted
from medgan_pl.data.files.records import identity_from
from medgan_pl.data.modalities import CT, XRay


def test_csv(tmp_path):
    picture(tmp_path / "f/1.png")
    picture(tmp_path / "2.png")
    (tmp_path / "t.csv").write_text("image,label,patient,split\nf/1.png,ill,Jane,Train\n2.png,well,John,valid\n")
    films = read_csv(tmp_path / "t.csv", Wanted(XRay().takes, "")).items
    assert [(f.name, f.label, f.identity, f.split) for f in films] == [
        ("f/1.png", "ill", "Jane", "train"),
        ("2.png", "well", "John", "val"),
    ]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("picture\n1.png\n", ValueError, "must have a first line with a column `image`, got 1 others"),
        ("picture,patient,split\n1.png,a,train\n", ValueError, "a column `image`, got 3 others (patient, split among them)"),
        ("", ValueError, "must have a first line with a column `image`, got 0 others"),
        ("image\n", FileNotFoundError, "no rows"),
        ("image,label\n1.png,a\n2.png,\n", ValueError, "`label` must be filled on every row or on none; empty on 1, first on line 3"),
        ("image\n1.png\n1.png\n", ValueError, "must list each image once; 1 are listed again: 1.png"),
        ("image\n./1.png\n1.png\n", ValueError, "must list each image once; 1 are listed again: 1.png"),
        ("image\n1.png\nf/../1.png\n", ValueError, "must list each image once; 1 are listed again: 1.png"),
        ("image,label\nf,ill\nf/3.png,well\n", ValueError, "must list each image once; 1 are listed again: f/3.png"),
        ("image,split\n2.png,train\n1.png,practice\n", ValueError, "must hold train, val or test, got something else on 1 lines, first 3"),
        pytest.param(
            f"image\n{'x' * 200000}\n", ValueError, "must be a CSV with a line for each image; field larger than", id="a long field"
        ),
        ("image\n1.png\n3.png\n", FileNotFoundError, "1 images that do not exist: 3.png"),
    ],
)
def test_bad_csv(tmp_path, text, error, words):
    picture(tmp_path / "1.png")
    picture(tmp_path / "2.png")
    picture(tmp_path / "f/3.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(error, match=re.escape(words)) as told:
        read_csv(tmp_path / "t.csv", Wanted(XRay().takes, ""))
    assert "practice" not in str(told.value)


def test_a_csv_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        read_csv(tmp_path / "no.csv", Wanted(XRay().takes, ""))


def test_of_a_csv_without_a_header_no_word_is_shown(tmp_path):
    """Its first line is a patient's."""
    (tmp_path / "t.csv").write_text("films/Doe_Jane_1950.png,Jane Doe,female\nfilms/Roe_John.png,John Roe,male\n")
    with pytest.raises(ValueError, match=r"t\.csv must have a first line with a column `image`, got 3 others$") as told:
        read_csv(tmp_path / "t.csv", Wanted(XRay().takes, ""))
    assert not re.search("Doe|Jane|female|films|Roe", str(told.value).replace(str(tmp_path), ""))


@pytest.mark.parametrize(
    ("names", "identities"),
    [
        (["data/all/jane/1.png", "data/all/jane/2.png", "data/all/john/1.png"], ["jane", "jane", "john"]),
        (["./data/jane/1.png", "data/john/1.png"], ["jane", "john"]),
        (["jane/1.png", "john/deep/er/1.png"], ["jane", "john"]),
        (["../elsewhere/jane/1.png", "../elsewhere/john/1.png"], ["jane", "john"]),
        (["{absolute}/jane/1.png", "{absolute}/john/1.png"], ["jane", "john"]),
        (["images/jane/1.png", "images/john/1.png", "masks.png"], ["jane", "john", None]),
        (["1.png", "2.png"], [None, None]),
    ],
)
def test_below_the_folder_that_all_share_the_next_one_is_the_patients(tmp_path, names, identities):
    names = [name.format(absolute=tmp_path / "abs") for name in names]
    (tmp_path / "csv").mkdir()
    for i, name in enumerate(names):
        picture(tmp_path / "csv" / name, i)
    (tmp_path / "csv/t.csv").write_text("\n".join(["image", *names]))
    items = read_csv(tmp_path / "csv/t.csv", Wanted(XRay().takes, "")).items
    assert [identity_from(item, re.compile(r"^[^/]+(?=/)")) for item in items] == identities


def test_a_csv_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "t.csv").write_bytes("image,label\n1.png,gesünder\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"t\.csv must be UTF-8 text, got the byte 0xfc; save it as UTF-8"):
        read_csv(tmp_path / "t.csv", Wanted(XRay().takes, ""))


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
    listing = read_decathlon(table, Wanted(CT().takes, ""))
    assert [(item.name, item.split, item.identity, item.label) for item in listing.items] == [
        ("imagesTr/a.nii.gz", "train", None, None),
        ("imagesTr/b.nii.gz", "train", None, None),
        ("imagesTs/c.nii.gz", "test", None, None),
    ]
    assert "masks left out" in listing.title
    assert listing.companions["mask"] == {f"imagesTr/{n}.nii.gz": tmp_path / f"labelsTr/{n}.nii.gz" for n in "ab"}


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
        ({"training": [{"image": "imagesTr/z.nii.gz"}]}, FileNotFoundError, "1 images that do not exist: imagesTr/z.nii.gz"),
    ],
)
def test_bad_decathlon_tables(tmp_path, table, error, words):
    with pytest.raises(error, match=re.escape(words)):
        read_decathlon(msd(tmp_path, table), Wanted(CT().takes, ""))


def test_a_csv_names_folders_of_slices(tmp_path):
    for name in ("jane/s1/1.dcm", "jane/s1/2.dcm", "john/3.dcm", "john/report.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "t.csv").write_text("image,patient,split,label\njane/s1,Jane,train,ill\njohn,John,val,well\n")
    items = read_csv(tmp_path / "t.csv", Wanted(CT().takes, "")).items
    assert [(i.name, i.identity, i.split, i.label) for i in items] == [
        ("jane/s1/1.dcm", "Jane", "train", "ill"),
        ("jane/s1/2.dcm", "Jane", "train", "ill"),
        ("john/3.dcm", "John", "val", "well"),
    ]
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.csv").write_text("image\nempty\n")
    with pytest.raises(FileNotFoundError, match="1 images that do not exist: empty"):
        read_csv(tmp_path / "t.csv", Wanted(CT().takes, ""))
