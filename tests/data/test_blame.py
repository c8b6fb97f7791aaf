"""The file that a message names is the one at fault, and one scan without a decoder hides nothing about the others."""

import numpy as np
import pytest
from dicom_files import write_film, write_series
from pydicom.uid import JPEGLosslessSV1
from test_datamodule import films
from test_datamodule_volumes import hu
from test_datamodule_volumes import module as volumes

from medgan_pl.data.prepare.fill import Undecoded
from medgan_pl.data.readers.scan import ScanError
from medgan_pl.data.readers.series import read_series


def beyond(i, ds):
    if i == 3:
        ds.BitsStored, ds.HighBit = 4, 3


def elsewhere(i, ds):
    if i == 3:
        ds.PixelSpacing = [1, 2]


def doubled(i, ds):
    if i == 3:
        ds.ImagePositionPatient = [-100, -120, 45]  # that of slice 2


def colored(i, ds):
    if i == 3:
        ds.PhotometricInterpretation = "MONOCHROME1"


@pytest.mark.parametrize("fault", [beyond, elsewhere, doubled, colored])
def test_the_file_at_fault_is_named(tmp_path, fault):
    """The names are shuffled, so that the first file by name is not the first slice, nor the one at fault."""
    paths = write_series(tmp_path / "s", hu(0).astype(float), edit=fault, seed=2)
    for given in (paths, paths[::-1], sorted(paths)):
        with pytest.raises(ScanError) as error:
            read_series(given)
        assert given[error.value.file] == paths[3]


def test_a_data_set_names_it_too_and_its_cache_does_not(tmp_path):
    for p in range(5):
        edit = beyond if p == 1 else None
        paths = write_series(tmp_path / "ct" / str(p), hu(p).astype(float), series_uid=f"1.{p}", patient_id=f"P{p}", edit=edit, seed=2)
    told = f"{paths[3].name}: slice 4 of {len(paths)}: stored values must lie in"
    data = volumes(tmp_path / "ct", max_corrupt=0.2)
    (reason,) = data.unusable.values()
    assert reason.startswith(told)
    (stored,) = data.cache.unusable.values()
    assert paths[3].name not in stored
    again = volumes(tmp_path / "ct", max_corrupt=0.2)
    assert again.unusable == data.unusable


def test_a_scan_without_a_decoder_hides_nothing(tmp_path):
    root = tmp_path / "films"
    root.mkdir()
    for i in range(10):
        stored = np.random.default_rng(i).integers(0, 4000, (20, 20), np.uint16)
        write_film(root / f"{i}.dcm", stored, transfer_syntax=JPEGLosslessSV1 if i in (2, 7) else None)
    (root / "5.dcm").write_bytes((root / "5.dcm").read_bytes()[:-100])
    data = films(root=str(root))
    with pytest.raises(Undecoded, match=r"[27].dcm: .* needs a decoder .*; so do 1 others"):
        data.read()
    assert len(data.table) == 10
    assert len(data.cache.entries) == 7
    assert list(data.unusable) == ["5.dcm"]
    with pytest.raises(Undecoded):  # nothing is left half done as if it were whole
        films(root=str(root)).prepare_data()
