"""The last line of a run says when its time ended it."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from pytorch_lightning.callbacks import Timer

from medgan_pl.train.trainer import cut_short


@pytest.mark.parametrize(
    ("images", "passed", "ended"), [(64, 60, True), (64, 61, True), (64, 59, False), (256, 61, False)], ids=["due", "late", "early", "done"]
)
def test_a_run_that_its_time_ended_says_so(monkeypatch: pytest.MonkeyPatch, images: int, passed: int, ended: bool) -> None:
    timer = Timer(timedelta(seconds=60))
    monkeypatch.setattr(timer, "time_elapsed", lambda *_: float(passed))
    said = cut_short(SimpleNamespace(callbacks=[timer]), SimpleNamespace(images=images, total_images=256), Path("run"))
    assert said == ("; trainer.max_time ended it before 256 images, and resume=run goes on for as long again" if ended else "")
    assert cut_short(SimpleNamespace(callbacks=[]), SimpleNamespace(images=64, total_images=256), Path("run")) == ""
