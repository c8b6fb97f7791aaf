"""An image is never its own source; nnU-Net's channels and masks are found by their case."""

import numpy as np
import pytest
from test_datamodule_volumes import hu, module, write_nifti

from medgan_pl.data.companion import Companion, Masks
from medgan_pl.data.files.pairs import case
from medgan_pl.data.intensity import Window
from medgan_pl.data.modalities import CT


@pytest.fixture
def channels(tmp_path):
    """Write nnU-Net cases of two channels and a mask; channel 1 is channel 0 plus 50."""
    for i in range(5):
        for channel in range(2):
            write_nifti(tmp_path / "imagesTr" / f"case_{i:03d}_000{channel}.nii.gz", hu(i) + 50 * channel)
        write_nifti(tmp_path / "labelsTr" / f"case_{i:03d}.nii.gz", (hu(i) > 0).astype(np.uint8))
    return tmp_path


def source(root) -> dict:
    return {"source": Companion(modality=CT(), intensity=Window([[-1000, 400]]), root=str(root))}


@pytest.mark.parametrize("name", ["imagesTr/case_007_0001.nii", "labelsTr/case_007.nii.gz", "case_007_0000.mha", "masks/case_007_msk.nii"])
def test_the_case_of_a_path(name) -> None:
    assert case(name) == "case_007"
    assert case("IM_0100.png") == "IM_0100"


def test_the_other_channel_is_the_source(channels) -> None:
    data = module(channels / "imagesTr", files="_0001", beside=source(channels / "imagesTr"))
    batch = data.peek("train", 5)
    step = (batch["image"] - batch["source"])[..., 4:-4, 4:-4]
    assert step.median() == pytest.approx(100 / 1400, abs=1e-3)


def test_masks_are_found_by_their_case(channels) -> None:
    for root, folder in ((channels, None), (channels / "imagesTr", str(channels / "labelsTr"))):
        masks = {"mask": Masks(modality=CT(), structures=["lesion"], root=folder)}
        batch = module(root, files="_0000", beside=masks).peek("train", 5)
        inside = batch["mask"] > 0
        assert batch["image"][inside].mean() > batch["image"][~inside].mean() + 0.3


def test_an_image_as_its_own_source_is_refused(channels) -> None:
    own = r"data\.beside\.source must be another image than the image itself, but for 5 of 5 it "
    for i in range(5):
        scan = channels / "imagesTr" / f"case_{i:03d}_0000.nii.gz"
        (channels / "one").mkdir(exist_ok=True)
        (channels / "copy").mkdir(exist_ok=True)
        (channels / "one" / f"{i}.nii.gz").symlink_to(scan)
        (channels / "copy" / f"{i}.nii.gz").write_bytes(scan.read_bytes())
        write_nifti(channels / "again" / f"{i}.nii", hu(i))
    with pytest.raises(ValueError, match=own + r"is the image's own file, such as 0\.nii\.gz"):
        module(channels / "one", beside=source(channels / "one"))
    with pytest.raises(ValueError, match=own + "is a copy of the image"):
        module(channels / "one", beside=source(channels / "copy"))
    with pytest.raises(ValueError, match=r"5 of 5 that cannot be used.*its source has the same values: it is the image itself"):
        module(channels / "one", beside=source(channels / "again"))
