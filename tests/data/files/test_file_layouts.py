"""A new layout of files is one function in LAYOUTS: images, splits, classes and companions come from it alone."""

import json

import pytest
import torch
from test_records import picture

from medgan_pl.data.companion import Companion
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.files import layouts
from medgan_pl.data.files.listing import Listing, Wanted
from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import FullRange
from medgan_pl.data.modalities import XRay


def read_pairs(root, wanted):
    """The function that a user would add: a list of [image, source, patient, split] in pairs.jsonl."""
    if root.suffix != ".jsonl":
        return None
    rows = [json.loads(line) for line in root.read_text().splitlines()]
    items = [Item(image, (root.parent / image,), "ill", split, patient) for image, _, patient, split in rows]
    return Listing(items, "pairs", {"source": {image: root.parent / source for image, source, _, _ in rows}})


def test_a_new_layout_is_one_function(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "LAYOUTS", (read_pairs, *layouts.LAYOUTS))
    lines = []
    for i in range(6):
        picture(tmp_path / f"a{i}.png", 10 * i)
        picture(tmp_path / f"deep/b{i}.png", 10 * i + 5)
        lines.append(json.dumps([f"a{i}.png", f"deep/b{i}.png", f"p{i // 2}", "train" if i < 4 else "val"]))
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    source = Companion(modality=XRay(), intensity=FullRange())
    common = {"modality": XRay(), "intensity": FullRange(), "size": 8, "cache": {"dir": str(tmp_path / "cache")}}
    data = ImageDataModule(root=str(tmp_path / "pairs.jsonl"), split="folders", beside={"source": source}, **common)
    data.setup()
    assert data.sizes() == {"train": 4, "val": 2, "test": 0}
    assert data.classes == ("ill",)
    assert len({record.patient for record in data.records}) == 3
    batch = data.peek("train", 4)
    torch.testing.assert_close(batch["source"], batch["image"] + 10 / 255, atol=1e-4, rtol=0)
    assert "(pairs)" in data.describe()[0]


def test_a_layout_that_names_no_companion_says_what_to_do(tmp_path):
    for i in range(12):
        picture(tmp_path / f"a{i}.png", i)
    (tmp_path / "set.csv").write_text("\n".join(["image", *(f"a{i}.png" for i in range(12))]))
    source = Companion(modality=XRay(), intensity=FullRange())
    for root, title in ((tmp_path, "one folder, no label"), (tmp_path / "set.csv", "CSV, columns image only")):
        data = ImageDataModule(
            modality=XRay(), intensity=FullRange(), size=8, root=str(root), beside={"source": source}, cache={"dir": str(tmp_path / "c")}
        )
        with pytest.raises(ValueError, match=rf"data\.beside\.source\.root must be a folder .* lists no source \({title}"):
            data.setup()


def test_some_rows_without_a_companion_are_counted(tmp_path):
    for i in range(3):
        picture(tmp_path / f"a{i}.png", i)
    (tmp_path / "set.csv").write_text("image,source\na0.png,a1.png\na1.png,\na2.png,gone.png\n")
    listing = layouts.list_files(tmp_path / "set.csv", Wanted(XRay().takes, XRay().kinds))
    assert listing.companions == {"source": {"a0.png": tmp_path / "a1.png", "a2.png": tmp_path / "gone.png"}}
    source = Companion(modality=XRay(), intensity=FullRange())
    with pytest.raises(FileNotFoundError, match=r"must hold a source for each image; 2 of 3 have none, such as a1\.png"):
        layouts.companion_files("source", source, tmp_path / "set.csv", listing, listing.items)
