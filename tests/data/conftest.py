"""Fixtures of the tests of data."""

import pytest


@pytest.fixture(autouse=True)
def _prepared_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are prepared here: processes take longer to start than such small work to do. `test_cache.py` has them."""
    monkeypatch.setattr("medgan_pl.data.datamodule.available_cores", lambda top: 0)
