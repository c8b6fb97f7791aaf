"""The table of devices is made by code that runs where there is no GPU too."""

import pytest
import torch

from benchmarks import devices


@pytest.mark.slow
def test_smoke(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["devices", "smoke=true"])
    devices.main()
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split("|")[1].strip() for row in rows] == ["8²", "8³"]
    for row in rows:
        assert row.count("|") == head.count("|")
        assert all(float(cell.replace(",", "")) > 0 for cell in row.split("|")[3:-1])


def test_without_time_cells_stay_empty() -> None:
    assert list(devices.table(devices.TINY, devices.LAYOUTS, "cpu", 1, minutes=0))[2].count(" - ") == 9


@pytest.mark.skipif(torch.cuda.is_available(), reason="this is about a machine without one")
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["devices"])
    devices.main()
    assert "no CUDA device" in capsys.readouterr().out
