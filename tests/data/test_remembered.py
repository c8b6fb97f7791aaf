"""What is remembered of files, and that it never stands for other files: hashes, finished tables, headers whose data lie elsewhere."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_files import write_series
from test_sources import hu, source

from medgan_pl.data.files.digests import content_digests
from medgan_pl.data.files.records import Item
from medgan_pl.data.modalities import CT


def items(*paths):
    return [Item(path.name, (path,)) for path in paths]


def test_digests_follow_content_and_are_remembered_without_names(tmp_path, monkeypatch):
    one, two = tmp_path / "Jane_Doe_1.png", tmp_path / "Jane_Doe_2.png"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    first = content_digests(items(one, two), tmp_path / "c")
    assert first[0] == first[1]
    assert "Doe" not in (tmp_path / "c/digests.json").read_text()
    monkeypatch.setattr("medgan_pl.data.files.digests.digest", lambda path: pytest.fail(f"{path} is read again"))
    assert content_digests(items(one, two), tmp_path / "c") == first
    monkeypatch.undo()
    two.write_bytes(b"else")
    assert content_digests(items(one, two), tmp_path / "c")[1] != first[1]


def test_the_digest_of_a_series_is_of_all_its_files_in_any_order(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name)

    def one(*names):
        (found,) = content_digests([Item("s", tuple(tmp_path / name for name in names))], tmp_path / "cache")
        return found

    assert one("a", "b", "c") == one("c", "a", "b")
    assert len({one("a"), one("a", "b"), one("a", "b", "c"), one("b", "c")}) == 4


def test_a_table_is_remembered_until_a_file_changes(tmp_path, monkeypatch):
    root = tmp_path / "ct"
    write_series(root / "Doe_Jane", hu(1), series_uid="1.1", patient_id="JANE")
    write_series(root / "pet", hu(4), series_uid="1.3", modality="PT")
    sitk.WriteImage(sitk.GetImageFromArray(hu(2)), root / "Doe_John.nrrd")
    first = source(root, CT())
    table = first.table()
    with monkeypatch.context() as patch:
        patch.setattr(CT, "gather", lambda self, items: pytest.fail("the headers are read again"))
        again = source(root, CT())
        assert again.table() == table
        assert len(source(root, CT(), splits=False).table()) == 2  # nothing came with a split, so nothing differs
    assert (again.unusable, again.skipped, again.nameless, again.title) == (first.unusable, first.skipped, first.nameless, first.title)
    kept = [path for path in Path("cache").rglob("*") if path.is_file()]
    assert len(kept) == 2
    assert all(word not in path.read_bytes() for path in kept for word in (b"JANE", b"Doe", b".dcm", b"nrrd"))
    write_series(root / "ann", hu(3), series_uid="1.2", patient_id="ANN")
    assert len(source(root, CT()).table()) == 3
    for options in ({"patient_pattern": "Doe"}, {"files": "Doe"}):
        assert {r.digest for r in source(root, CT(), **options).table()} >= {r.digest for r in table}
    assert len(list(Path("cache/tables").iterdir())) == 4


def test_a_csv_does_not_recall_whose_the_images_of_a_folder_were(tmp_path):
    for name in ("all/jane/1.nrrd", "all/john/2.nrrd"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(hu(len(name))), tmp_path / name)
    assert len({record.patient for record in source(tmp_path, CT()).table()}) == 1  # "all"
    (tmp_path / "t.csv").write_text("image\nall/jane/1.nrrd\nall/john/2.nrrd\n")
    assert len({record.patient for record in source(tmp_path / "t.csv", CT()).table()}) == 2


def test_what_is_wrong_is_looked_at_again(tmp_path):
    root = tmp_path / "ct"
    write_series(root / "jane", hu(1), series_uid="1.1", patient_id="JANE")
    (root / "broken.dcm").write_bytes(b"no dicom")
    for _ in range(2):
        found = source(root, CT())
        assert (list(found.unusable), len(found.table())) == (["broken.dcm"], 1)
    assert not Path("cache/tables").exists()


def test_torn_memories_are_made_anew(tmp_path):
    root = tmp_path / "ct"
    for p in range(2):
        write_series(root / f"p{p}", hu(p), series_uid=f"1.{p}", patient_id=f"P{p}")
    table = source(root, CT()).table()
    memories = [Path("cache/digests.json"), *Path("cache/tables").iterdir()]
    whole = [memory.read_bytes() for memory in memories]
    torn = [lambda kept: kept[: len(kept) // 2], lambda kept: b"", lambda kept: bytes(len(kept)), lambda kept: b"\xff" + kept]
    edited = [lambda kept: kept.replace(b"0", b"1"), lambda kept: kept.partition(b"\n")[2], lambda kept: kept.replace(b"[", b"[ ")]
    for broken in torn + edited:
        for memory, kept in zip(memories, whole, strict=True):
            memory.write_bytes(broken(kept))
        assert source(root, CT()).table() == table
        assert [memory.read_bytes() for memory in memories] == whole


def test_a_file_is_hashed_again_when_its_time_is_set_back(tmp_path):
    """A clock that goes backwards, or a tool that keeps times, gives a changed file the size and time of the old one."""
    path = tmp_path / "a.png"
    path.write_bytes(b"same")
    os.utime(path, ns=(10**18, 10**18))
    before = content_digests(items(path), tmp_path / "c")
    path.write_bytes(b"else")
    os.utime(path, ns=(10**18, 10**18))
    assert content_digests(items(path), tmp_path / "c") != before
    os.utime(path, ns=(1, 1))  # long before
    assert content_digests(items(path), tmp_path / "c") != before


META = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
ElementSpacing = 1 1 1
DimSize = 8 8 4
ElementType = MET_SHORT
ElementDataFile = scan.raw
"""
NRRD = """NRRD0004
type: short
dimension: 3
space: LPS
sizes: 8 8 4
space directions: (1,0,0) (0,1,0) (0,0,1)
space origin: (0,0,0)
endian: little
encoding: raw
data file: scan.raw
"""


def write_detached(folder, volume, suffix=".mha"):
    """A header whose data lie in scan.raw: the same bytes for every volume of one shape."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"scan{suffix}").write_text(META if suffix.startswith(".m") else NRRD)
    (folder / "scan.raw").write_bytes(volume.astype("<i2").tobytes())
    return folder / "scan.raw"


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_headers_with_detached_data_are_as_many_images_as_there_are_data(tmp_path, suffix):
    raws = [write_detached(tmp_path / f"p{p}", hu(p), suffix) for p in range(3)]
    assert len({raw.with_name(f"scan{suffix}").read_bytes() for raw in raws}) == 1
    found = source(tmp_path, CT())
    table = found.table()
    assert [len(record.paths) for record in table] == [2, 2, 2]
    assert len({record.digest for record in table}) == len({record.patient for record in table}) == 3
    pixels = [task.read().pixels for task in found.tasks(table)]
    assert all(np.array_equal(pixels[p], hu(p)) for p in range(3))
    stored = bytearray(raws[1].read_bytes())
    stored[-2] ^= 1
    raws[1].write_bytes(stored)
    changed = [a.digest != b.digest for a, b in zip(table, source(tmp_path, CT()).table(), strict=True)]
    assert changed == [False, True, False]


def test_a_header_without_its_data_is_unusable_until_they_are_there(tmp_path):
    """By the header alone the three would be one image, and would stay one."""
    raws = [write_detached(tmp_path / f"p{p}", hu(p)) for p in range(3)]
    stored = [raw.read_bytes() for raw in raws]
    for raw in raws:
        raw.unlink()
    found = source(tmp_path, CT())
    assert found.table() == []
    assert all("the data file that the header names is not in its folder" in why for why in found.unusable.values())
    assert len(found.unusable) == 3
    for raw, content in zip(raws, stored, strict=True):
        raw.write_bytes(content)
    assert len({record.digest for record in source(tmp_path, CT()).table()}) == 3
