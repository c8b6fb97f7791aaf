"""Splits without a patient, or an image, on two sides."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from medgan_pl.data.files.records import Item, tabulate
from medgan_pl.data.files.split import split_by_patient, straddling, with_fewer_in_train

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


class TestFewerInTrain:
    @staticmethod
    def records() -> list:
        records = table()
        return [replace(r, split=s) for r, s in zip(records, split_by_patient(records, THIRDS, seed=0), strict=True)]

    def test_fewer_are_among_the_more_and_what_is_held_out_stays(self) -> None:
        records = self.records()
        some, more = (with_fewer_in_train(records, most, seed=0) for most in (10, 25))
        assert [sum(r.split == "train" for r in each) for each in (some, more)] == [10, 25]
        assert {r.digest for r in some} < {r.digest for r in more} < {r.digest for r in records}
        held = [r for r in records if r.split != "train"]
        assert [r for r in some if r.split != "train"] == [r for r in more if r.split != "train"] == held
        assert more == [r for r in records if r in more]  # in their order

    def test_patients_are_whole_but_the_last_and_of_all_classes(self) -> None:
        records = self.records()
        some = [r for r in with_fewer_in_train(records, 24, seed=0) if r.split == "train"]
        whole = [r for r in records if r.split == "train"]
        torn = {r.patient for r in some if sum(s.patient == r.patient for s in some) < sum(s.patient == r.patient for s in whole)}
        assert len(torn) <= 1
        assert 0.2 < np.mean([r.label == "a" for r in some]) < 0.8

    def test_which_hangs_on_the_seed_alone(self) -> None:
        records = self.records()
        one, other = (with_fewer_in_train(each, 10, seed=0) for each in (records, records[::-1]))
        assert {r.digest for r in one} == {r.digest for r in other}
        assert {r.digest for r in with_fewer_in_train(records, 10, seed=1)} != {r.digest for r in one}

    def test_more_than_there_are(self) -> None:
        with pytest.raises(ValueError, match=r"data.max_train must be at most the \d+ scans in train, got 1000; null takes all"):
            with_fewer_in_train(self.records(), 1000, seed=0)
