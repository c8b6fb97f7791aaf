"""Layouts, CSVs, whose film it is, and splits without a patient on two sides."""

import re

import numpy as np
import pytest
from PIL import Image

from medgan_pl.data.records import Film, find_films, identity_from, is_dicom, read_csv, split_by_patient, straddling, tabulate

THIRDS = {"train": 0.6, "val": 0.2, "test": 0.2}
PATTERN = re.compile(r"person\d+|(?:NORMAL2-)?IM-\d+|^\d{8}(?=_\d{3}\.)")


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
    films, layout = find_films(tmp_path)
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
        (["1.png", "a/2.png"], ValueError, "1 loose films beside a"),
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
        find_films(tmp_path)


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
        find_films(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        read_csv(tmp_path / "no.csv")


def test_csv(tmp_path):
    picture(tmp_path / "f/1.png")
    picture(tmp_path / "2.png")
    (tmp_path / "t.csv").write_text("image,label,patient,split\nf/1.png,ill,Jane,Train\n2.png,well,John,valid\n")
    films, _ = read_csv(tmp_path / "t.csv")
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
        ("image\n1.png\n3.png\n", FileNotFoundError, "1 films that are not there: 3.png"),
    ],
)
def test_bad_csv(tmp_path, text, error, words):
    picture(tmp_path / "1.png")
    picture(tmp_path / "2.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(error, match=re.escape(words)):
        read_csv(tmp_path / "t.csv")


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
    assert identity_from(Film(f"train/person99/{name}"), PATTERN, None) == identity


def test_csv_beats_dicom_beats_name():
    assert identity_from(Film("person1_1.png", identity="Jane"), PATTERN, "77") == "Jane"
    assert identity_from(Film("person1_1.png"), PATTERN, "77") == "77"


def test_a_csv_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "t.csv").write_bytes("image,label\n1.png,gesünder\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"t\.csv must be UTF-8 text, got the byte 0xfc; save it as UTF-8"):
        read_csv(tmp_path / "t.csv")


def table(n_patients=40, films=3):
    names = [(f"p{p}", f"{p} {f}") for p in range(n_patients) for f in range(1 + p % films)]
    return tabulate(
        [Film(d, label="ab"[int(i[1:]) % 2]) for i, d in names],
        [i for i, _ in names],
        [f"{int(d.replace(' ', '9')):032x}" for _, d in names],
    )


def test_no_patient_and_no_duplicate_in_two_splits():
    records = table()
    # One film of patient 0 lies once more among those of patient 5: the two are one for the split.
    twin = next(r for r in records if r.patient != records[0].patient)
    records.append(twin.__class__("copy", None, "a", twin.patient, None, records[0].digest))
    splits = split_by_patient(records, THIRDS, seed=3)
    assert straddling([r.patient for r in records], splits) == 0
    assert straddling([r.digest for r in records], splits) == 0
    for split, fraction in THIRDS.items():
        assert abs(splits.count(split) / len(splits) - fraction) < 0.05
        share = np.mean([r.label == "a" for r, s in zip(records, splits, strict=True) if s == split])
        assert abs(share - np.mean([r.label == "a" for r in records])) < 0.15


def test_the_split_hangs_on_its_seed_and_not_on_the_order_of_the_files():
    records = table()
    splits = split_by_patient(records, THIRDS, seed=0)
    assert split_by_patient(records[::-1], THIRDS, seed=0)[::-1] == splits
    assert split_by_patient(records, THIRDS, seed=1) != splits


def test_too_few_patients():
    with pytest.raises(ValueError, match="2 patients are too few for a val and a test split"):
        split_by_patient(table(2), {"train": 0.8, "val": 0.1, "test": 0.1}, seed=0)
    assert set(split_by_patient(table(4), {"train": 0.5, "val": 0.5, "test": 0.0}, seed=0)) == {"train", "val"}


def test_patients_are_hashes_that_keep_apart_who_is_apart():
    films = [Film("1"), Film("2"), Film("3"), Film("4")]
    a, b, c, d = (r.patient for r in tabulate(films, ["Jane", "Jane", "John", None], ["00", "01", "00", "02"]))
    assert a == b
    assert len({a, c, d}) == 3
    assert all(re.fullmatch(r"[0-9a-f]{12}", p) for p in (a, c, d))
    # Salted with the films: the same name over other films is another hash.
    assert tabulate(films[:1], ["Jane"], ["03"])[0].patient != a
