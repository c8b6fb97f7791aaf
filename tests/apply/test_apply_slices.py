"""The result for a CT slice in a picture: HU go back into a picture with the same black and white."""

from types import SimpleNamespace

import numpy as np
from PIL import Image

from medgan_pl.data.export.alike import alike
from medgan_pl.data.files.records import Item
from medgan_pl.data.modalities import CT


def test_a_slice_comes_back_with_its_own_black_and_white(tmp_path) -> None:
    generator, step = np.random.default_rng(1), (64511 + 1024) / 255
    hu, eight = generator.integers(-1000, 400, (16, 16)), generator.integers(0, 256, (16, 16), np.uint8)
    for stored, expected, exact in (((hu + 1024).astype(np.uint16), hu, 1), (eight, eight * step - 1024, step)):
        Image.fromarray(stored).save(tmp_path / "a.png")
        item = Item("a", (tmp_path / "a.png",))
        scan = CT(pictures=[-1024, 64511]).read(item)
        assert np.abs(scan.pixels - expected).max() < 0.01
        facts = SimpleNamespace(unit="HU", low=-1000.0, high=400.0)
        made = alike(item, scan, (1, 1), {}).image(tmp_path / "b", scan.pixels + 300, facts, None, "CT")
        assert made.name == "b.png"
        with Image.open(made) as picture:
            assert np.abs(np.asarray(picture, float) * exact - 1024 - (expected + 300).clip(None, 64511)).max() <= exact / 2 + 0.01
            assert picture.text == {"Derived": "medgan_pl", "HU at black and white": "-1024.0 64511.0"}
        facts = SimpleNamespace(unit="signal", low=0.0, high=1.0)  # of another modality
        assert alike(item, scan, (1, 1), {}).image(tmp_path / "c", scan.pixels, facts, None, "MR").suffix == ".tif"
