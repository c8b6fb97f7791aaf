"""Data of another kind than the chosen data set reads: the message names the one that does."""

import numpy as np
import pytest
from dicom_files import write_film, write_series
from PIL import Image
from test_datamodule import films
from test_datamodule_volumes import hu, write_nifti
from test_datamodule_volumes import module as volumes


@pytest.mark.parametrize(
    ("kind", "read", "advice"),
    [
        ("nifti", films, "; data=ct and data=mri read NIfTI, NRRD, MetaImage and DICOM series"),
        ("series", films, "; data=ct reads CT"),
        ("film", volumes, "; data=xray reads X-ray films"),
        ("mr", volumes, "; data=mri reads MR"),
    ],
)
def test_the_other_way_round(tmp_path, kind, read, advice):
    root = tmp_path / "set"
    if kind == "nifti":
        write_nifti(root / "a" / "b.nii.gz", hu(0))
    elif kind == "film":
        root.mkdir()
        write_film(root / "a.dcm", np.arange(64, dtype=np.uint16).reshape(8, 8), SeriesInstanceUID="1.2")
    else:
        write_series(root, hu(0).astype(float), modality="MR" if kind == "mr" else "CT")
    with pytest.raises(FileNotFoundError) as error:
        read(root=str(root)) if read is films else read(root)
    assert str(error.value).endswith(advice)


def test_pictures_for_volumes(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match="data=xray reads pictures"):
        volumes(tmp_path)
