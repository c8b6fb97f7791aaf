"""An error of the disk names the file: in export, in sample, in whatever is written atomically."""

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from written_checkpoint import checkpoint_bytes

from medgan_pl.core.files import write_whole
from medgan_pl.data.files.listing import Wanted
from medgan_pl.evaluate.targets.folder import blamed
from medgan_pl.export.weights import export


@pytest.fixture
def full() -> Iterator[None]:
    """The system refuses to write files past 1,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


def test_a_file_that_cannot_be_written_whole_is_named(full, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"File too large: '.*/image.nii.gz'"):
        write_whole(tmp_path / "image.nii.gz", bytes(5000))
    assert not [*tmp_path.iterdir()]


def test_weights_that_cannot_be_written_are_named(request, tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").write_bytes(checkpoint_bytes())
    request.getfixturevalue("full")
    with pytest.raises(OSError, match=r"best.safetensors could not be written: .*File too large .*; make room"):
        export(tmp_path / "best.ckpt", tmp_path / "best.safetensors")
    assert not [*tmp_path.glob("*.safetensors*")]


def test_a_folder_of_evaluate_is_blamed_by_its_own_key(tmp_path: Path) -> None:
    from medgan_pl.data.files.layouts import list_files

    with pytest.raises(FileNotFoundError, match=r"^real must hold PNG, got ") as caught, blamed("real"):
        list_files(tmp_path, Wanted(lambda path: path.suffix == ".png", "PNG"))
    assert "data.root" not in str(caught.value)
