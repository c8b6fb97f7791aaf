"""Places and services that are lost in the middle of a run: full disks, folders that are gone, a connection. Nothing computed is lost."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from command_line import rows
from pytorch_lightning.loggers.logger import Logger
from test_faults import EVERY_16, inject, play, saved, spoil, whole  # noqa: F401 - two are fixtures

from medgan_pl.core import files
from medgan_pl.models.games.base import Losses
from medgan_pl.models.module import AdversarialModule

FULL = Path("/dev/full")  # a disk on which every write fails as on a full one


def at(images: int, act: Callable[[], Any]) -> Callable[[AdversarialModule, Losses], None]:
    """A fault of the world, not of the losses: before the step after so many images."""
    return lambda module, losses: act() if module.images == images else None


def test_rows_that_a_full_disk_refuses_are_written_when_there_is_room(play, inject, tmp_path, monkeypatch, caplog) -> None:  # noqa: F811
    play(name="calm")
    table, temporary_path = tmp_path / "run" / "metrics.csv", files.temporary_path

    def full(path: Path) -> Path:
        found = temporary_path(path)
        if path == table:
            found.symlink_to(FULL)
        return found

    def fill() -> None:
        """Make the disk full for the table: it can neither grow nor be written anew."""
        held = table.read_bytes()
        table.unlink()
        table.symlink_to(FULL)
        monkeypatch.setattr(files, "temporary_path", full)
        tmp_path.joinpath("held").write_bytes(held)

    def free() -> None:
        monkeypatch.setattr(files, "temporary_path", temporary_path)
        table.unlink()
        table.write_bytes(tmp_path.joinpath("held").read_bytes())

    inject(lambda module, losses: {20: fill, 72: free}.get(module.images, int)())
    play()
    assert "cannot write" in caplog.text
    assert "No space left on device" in caplog.text
    assert table.read_bytes() == (tmp_path / "calm" / "metrics.csv").read_bytes()
    assert saved(tmp_path)["medgan_pl"]["images"] == 96


CURVES = "callbacks.curves={_target_:medgan_pl.train.callbacks.Curves,table:${run_dir}/metrics.csv,path:${run_dir}/curves.png}"


@pytest.mark.parametrize("names", [("samples",), ("curves.png", "samples/00000064.png")])
def test_a_place_that_cannot_be_written_to_costs_only_the_picture(play, inject, tmp_path, caplog, names) -> None:  # noqa: F811
    def block() -> None:
        for name in names:
            place = tmp_path / "run" / name
            if name == "samples":
                place.rename(tmp_path / "away")
                place.write_text("a file where the folder was")
            else:
                place.unlink(missing_ok=True)
                place.mkdir()

    inject(at(40, block))
    table = play("total_images=64", *([CURVES] if "curves.png" in names else []))
    for name in names:
        assert f"cannot write {tmp_path / 'run' / name}" in caplog.text, name
    assert table["val/fd_random"][0] == [0, 32, 64]
    whole(tmp_path, EVERY_16[:5])


def test_a_run_whose_checkpoints_have_no_place_goes_on_and_says_so_at_the_end(play, inject, tmp_path, caplog) -> None:  # noqa: F811
    folder = tmp_path / "run" / "checkpoints"

    def lose() -> None:
        folder.rename(tmp_path / "away")
        folder.write_text("a file where the folder was")

    inject(at(40, lose))
    with pytest.raises(OSError, match=r"the run is complete, and its last checkpoint could not be saved: .*Not a directory"):
        play()
    assert caplog.text.count("cannot save") == 2
    assert [int(row["images"]) for row in rows(tmp_path / "run")] == EVERY_16
    assert torch.load(tmp_path / "away" / "last.ckpt", weights_only=True)["medgan_pl"]["images"] == 32


class Lost(Logger):
    """A logger whose service goes away in the middle."""

    name = version = None
    calls: ClassVar[list[int]] = []

    def log_hyperparams(self, *_: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.calls.append(step)
        if step >= 32:
            raise ConnectionError("the network is unreachable")


def test_a_lost_connection_is_told_once_and_costs_no_row(play, tmp_path, caplog) -> None:  # noqa: F811
    Lost.calls.clear()
    play("+logger.lost._target_=test_places.Lost")
    assert caplog.text.count("Lost cannot log: the network is unreachable; the run continues") == 1
    assert sorted(set(Lost.calls)) == EVERY_16
    whole(tmp_path, EVERY_16)


def test_a_wandb_that_is_gone_at_the_end_leaves_the_run_whole(play, tmp_path, monkeypatch, caplog) -> None:  # noqa: F811
    """Its service was killed: the last words fail as all did before."""

    def lost(exit_code: int) -> None:
        raise ConnectionResetError("Connection lost")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(finish=lost))
    play()
    assert "wandb cannot end its run: Connection lost" in caplog.text
    whole(tmp_path, EVERY_16)


def test_a_run_that_began_from_another_goes_back_to_where_it_began(play, inject, tmp_path, caplog) -> None:  # noqa: F811
    play(name="first")
    inject(lambda module, losses: spoil(losses) if module.rate == 1 else None)
    settings = ("total_images=128", "resume.force=true", f"resume.path={tmp_path / 'first'}", "guard.patience=2")
    table = play(*settings)
    assert "back to last.ckpt, 96 images" in caplog.text
    assert table["train/rollbacks"] == ([112, 128], [1, 1])
