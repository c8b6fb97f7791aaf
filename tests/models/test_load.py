"""A checkpoint is opened once by a command that needs its weights, its state and its hash."""

import hashlib
import os
import sys
from pathlib import Path

from medgan_pl.models.load import load


def test_a_checkpoint_is_opened_once(finished: Path) -> None:
    path, opened = finished / "checkpoints/best.ckpt", []
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
    module = load(path)
    own = [name for name in list(opened) if os.path.basename(name) == path.name]
    assert len(own) == 1
    assert module.origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert isinstance(module.origin.fingerprint, str)
