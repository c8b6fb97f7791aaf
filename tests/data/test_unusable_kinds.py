"""The line about scans that cannot be used: each reason once, also where its numbers differ from file to file."""

import pytest

from medgan_pl.data.checks import unusable_line

REASONS = {f"p{i:02}.nii": f"its minimum is {-30 - i}; store it in HU" for i in range(6)} | {"q.nii": "truncated"}


def test_reasons_of_one_kind_are_said_once() -> None:
    said = "p00.nii: its minimum is -30; store it in HU (so are p01.nii, p02.nii, p03.nii and 2 more); q.nii: truncated"
    assert unusable_line(REASONS, 70, 0.1) == f"7 of 70 that cannot be used (10.0 %): {said}"
    with pytest.raises(ValueError, match=r"got 7 of 8 .*truncated; repair or remove them, or leave .*data.root=inspect/dataset.csv"):
        unusable_line(REASONS, 8, 0.1)


def test_many_kinds_are_counted() -> None:
    reasons = {f"{letter}.png": f"fault {letter}" for letter in "abcdefghijkl"}
    assert unusable_line(reasons, 12, 1).endswith("j.png: fault j; and 2 more reasons")
