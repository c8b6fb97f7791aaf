"""The table of models is made by code that runs anywhere."""

import pytest

from benchmarks import models


@pytest.mark.slow
def test_a_table_of_one_model_and_one_that_does_not_play() -> None:
    lines = models.table((16, 16), ["mlp", "no_such_model"], 4, 1, 1, cuda=False)
    cells = [cell.strip() for cell in lines[2].split("|")]
    assert cells[1] == "`mlp`"
    assert float(cells[4]) > 0
    assert 0.1 < float(cells[5]) < 10
    assert float(cells[6]) >= 0
    assert lines[3].count(" - ") == 5
    assert "no_such_model" in lines[5]
