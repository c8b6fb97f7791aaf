"""A trained generator on CT slices in pictures: in HU, and back into a picture with the same black and white."""

import numpy as np
from apply.shifting import shifted
from PIL import Image

SLICES = {"spacing_mm": None, "directions": None}


def test_a_slice_comes_back_with_its_own_black_and_white(trained, applied, tmp_path) -> None:
    generator = np.random.default_rng(1)
    (tmp_path / "in").mkdir()
    hu = generator.integers(-1000, 400, (16, 16))
    Image.fromarray((hu + 1024).astype(np.uint16)).save("in/a.png")
    eight = generator.integers(0, 2, (16, 16), np.uint8)  # 256 HU a level
    Image.fromarray(eight).save("in/b.png")
    checkpoint = trained("data=ct", "data.root=in", "data.modality.pictures=[-1024,64511]", "data.size=16", **SLICES)
    code, said = applied(f"checkpoint={checkpoint}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    with Image.open("out/a.png") as made:
        assert np.abs(np.asarray(made).astype(float) - 1024 - shifted(hu)).max() <= 0.51
        assert made.text == {"Derived": "medgan_pl", "HU at black and white": "-1024.0 64511.0"}
    with Image.open("out/b.png") as made:
        step = (64511 + 1024) / 255
        assert (made.mode, np.abs(np.asarray(made) * step - 1024 - shifted(eight * step - 1024)).max() <= step / 2) == ("L", True)
