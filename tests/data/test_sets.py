"""Sets of images: what is taken, joined, changed and stored is what was asked for; no patient is in both halves."""

import numpy as np
import pytest
import torch

from medgan_pl.data.files.records import Record
from medgan_pl.data.sets import ImageSet, halves, joined, stored


def numbered(count, start=0, groups=None, labels=None, key="k"):
    """Image i is i + start everywhere, over 100."""
    values = torch.arange(start, start + count) / 100.0
    return ImageSet(
        lambda rows: values[rows].view(-1, 1, 1, 1).expand(-1, 1, 4, 4), count, key, labels, groups, [f"n{i}" for i in range(count)]
    )


def content(images):
    return [round(100 * float(part[0, 0, 0])) for part in images[torch.arange(len(images))]]


def test_take_carries_all_that_is_known():
    images = numbered(6, groups=torch.tensor([0, 0, 1, 1, 2, 2]), labels=torch.tensor([0, 1, 0, 1, 0, 1]))
    taken = images.take(torch.tensor([4, 1]))
    assert content(taken) == [4, 1]
    assert taken.labels.tolist() == [0, 1]
    assert taken.groups.tolist() == [2, 0]
    assert taken.names == ["n4", "n1"]
    assert content(taken.take(torch.tensor([1]))) == [1]
    assert content(images.of_class(1)) == [1, 3, 5]
    assert images.patients == 3


def test_a_key_tells_contents_and_orders_apart():
    images = numbered(6)
    keys = [images.key, images.take(torch.tensor([0, 1])).key, images.take(torch.tensor([1, 0])).key, images.changed(torch.neg, "neg").key]
    assert len(set(keys)) == 4
    assert images.take(torch.tensor([0, 1])).key == keys[1]
    assert numbered(6, key="").take(torch.tensor([0])).key == ""


def test_at_most_draws_without_repeats_and_the_same_each_time():
    images = numbered(50)
    drawn = content(images.at_most(20))
    assert len(set(drawn)) == 20
    assert drawn != sorted(drawn)
    assert content(images.at_most(20)) == drawn
    assert content(images.at_most(20, seed=1)) != drawn
    assert images.at_most(50) is images


def test_joined_keeps_patients_apart():
    a, b = numbered(3, groups=torch.tensor([0, 0, 1])), numbered(2, start=10, groups=torch.tensor([0, 1]))
    both = joined(a, b)
    assert content(both) == [0, 1, 2, 10, 11]
    assert content(both.take(torch.tensor([4, 0, 3]))) == [11, 0, 10]
    assert both.groups.tolist() == [0, 0, 1, 2, 3]
    assert joined(a, numbered(2)).groups is None


def test_stored_keeps_images_to_the_step_of_the_cache():
    images = torch.rand(7, 1, 5, 6) * 2 - 1
    kept = stored(images.split(3), 7)
    assert (kept[torch.arange(7)] - images).abs().max() <= 1 / 65535 + 1e-6
    assert kept[torch.tensor([6, 2])].shape == (2, 1, 5, 6)
    assert kept.key == ""  # features of fakes are not remembered: nobody asks for them twice


@pytest.mark.parametrize(
    ("parts", "count", "said"),
    [
        ([torch.full((2, 1, 4, 4), torch.nan)], 2, "NaN"),
        ([torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 5, 5)], 2, "one size"),
        ([torch.zeros(1, 1, 4, 4)], 2, "got 1"),
        ([], 1, "got 0"),
    ],
)
def test_stored_refuses(parts, count, said):
    with pytest.raises(ValueError, match=said):
        stored(parts, count)


class Data:
    """Two images of each record."""

    split_seed = 0

    def __init__(self, patients):
        self.records = [Record(f"r{i}", (), None, patient, None, f"{i:032d}", f"{i}") for i, patient in enumerate(patients)]
        self.image_records = np.repeat(np.arange(len(patients)), 2)


def test_halves_share_no_patient():
    data = Data(["a", "a", "b", "c", "d", "e", "e", "f"])
    rows = np.arange(16)[1:]  # not all of the first record
    first, second = halves(data, rows)
    assert sorted([*first, *second]) == rows.tolist()
    patients = [{data.records[r].patient for r in data.image_records[side]} for side in (first, second)]
    assert not patients[0] & patients[1]
    assert abs(len(first) - len(second)) <= 4
    with pytest.raises(ValueError, match="must be of 2 patients or more, half of them reference and half floor, got 1"):
        halves(Data(["a", "a"]), np.arange(4))
