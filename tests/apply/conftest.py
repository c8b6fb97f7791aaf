"""Fixtures of the tests of apply. What they need is imported when they are used: after the checker of shapes, which shared.py sets up."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., Path]:
    """Writes the checkpoint of a run whose generator shifts its source by a constant, or, not being residual, is SHIFT everywhere."""
    from apply.shifting import write_checkpoint

    return partial(write_checkpoint, tmp_path / "run" / "checkpoints" / "best.ckpt")


@pytest.fixture
def applied(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Applies with words as on the command line, but without Hydra, which composes for longer than such a generator works."""
    from apply.shifting import apply_with

    return lambda *words: (apply_with(*words), "".join(capfd.readouterr()))
