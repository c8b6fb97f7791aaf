"""Splits without a patient, or an image, on two sides."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from medgan_pl.data.records import Item, tabulate
from medgan_pl.data.split import split_by_patient, straddling

THIRDS = {"train": 0.6, "val": 0.2, "test": 0.2}


def table(n_patients=40, films=3):
    names = [(f"p{p}", f"{p} {f}") for p in range(n_patients) for f in range(1 + p % films)]
    return tabulate(
        [Item(d, label="ab"[int(i[1:]) % 2]) for i, d in names],
        [i for i, _ in names],
        [f"{int(d.replace(' ', '9')):032x}" for _, d in names],
    )


def test_no_patient_and_no_duplicate_in_two_splits():
    records = table()
    # One film of patient 0 lies once more among those of patient 5: the two are one for the split.
    twin = next(r for r in records if r.patient != records[0].patient)
    records.append(replace(twin, name="copy", digest=records[0].digest))
    splits = split_by_patient(records, THIRDS, seed=3)
    assert straddling([r.patient for r in records], splits) == 0
    assert straddling([r.digest for r in records], splits) == 0
    for split, fraction in THIRDS.items():
        assert abs(splits.count(split) / len(splits) - fraction) < 0.05
        share = np.mean([r.label == "a" for r, s in zip(records, splits, strict=True) if s == split])
        assert abs(share - np.mean([r.label == "a" for r in records])) < 0.15


@pytest.mark.parametrize("seed", range(5))
def test_the_same_values_in_other_files_join_their_patients(seed):
    records = [replace(r, pixels=f"own {r.digest}") for r in table()]
    chain = [records[0], records[3], records[9], records[20]]
    for i, (a, b) in enumerate(pairwise(chain)):  # a is like b, b like c, c like d: all four patients are one
        records += [replace(a, digest=f"{i}a", pixels=f"same {i}"), replace(b, digest=f"{i}b", pixels=f"same {i}")]
    splits = split_by_patient(records, THIRDS, seed)
    assert straddling([r.patient for r in records], splits) == 0
    assert straddling([r.pixels for r in records], splits) == 0
    assert len({s for r, s in zip(records, splits, strict=True) if r.patient in {c.patient for c in chain}}) == 1


def test_the_split_hangs_on_its_seed_and_not_on_the_order_of_the_files():
    records = table()
    splits = split_by_patient(records, THIRDS, seed=0)
    assert split_by_patient(records[::-1], THIRDS, seed=0)[::-1] == splits
    assert split_by_patient(records, THIRDS, seed=1) != splits


def test_too_few_patients():
    with pytest.raises(ValueError, match="2 patients are too few for a val and a test split"):
        split_by_patient(table(2), {"train": 0.8, "val": 0.1, "test": 0.1}, seed=0)
    with pytest.raises(ValueError, match="0 patients are too few"):
        split_by_patient([], THIRDS, seed=0)
    assert set(split_by_patient(table(4), {"train": 0.5, "val": 0.5, "test": 0.0}, seed=0)) == {"train", "val"}


def test_straddling_counts_keys_on_more_than_one_side():
    assert straddling("aabbbc", ["train", "val", "val", "val", "val", None]) == 1
