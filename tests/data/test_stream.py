"""The order of the images: every place once, shared by ranks, begun anywhere; and random patches keyed by it."""

from collections import Counter
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medgan_pl.data.image_table import Batches, Crops, Rows, Table, fractions
from medgan_pl.data.stream import Epochs, InOrder, Stream, shares


@pytest.mark.parametrize("length", [3, 8, 50])
def test_stream_covers_every_place_once_over_all_ranks(length):
    world, batch, steps = 3, 4, 25
    ranks = [list(islice(Stream(length, batch, 7, rank, world), steps)) for rank in range(world)]
    turns = [turn for step in range(steps) for rank in ranks for turn in rank[step]]
    one = [turn for batch_turns in islice(Stream(length, world * batch, 7), steps) for turn in batch_turns]
    assert turns == one
    assert len(set(turns)) == len(turns)  # no turn comes twice
    shown = [turn % length for turn in turns]
    for epoch in range(len(shown) // length):
        assert sorted(shown[epoch * length : (epoch + 1) * length]) == list(range(length))
        assert {turn // length for turn in turns[epoch * length : (epoch + 1) * length]} == {epoch}
    if length > 3:
        assert shown[:length] != shown[length : 2 * length]


def test_stream_begun_in_the_middle_is_the_tail():
    whole = list(islice(Stream(10, 4, 0, 1, 2), 20))
    assert list(islice(Stream(10, 4, 0, 1, 2, start=8 * 7), 13)) == whole[7:]
    with pytest.raises(ValueError, match="length >= 1"):
        Stream(0, 4, 0)


@pytest.mark.parametrize("length", [8, 13, 50])
def test_epochs_show_every_element_once_in_the_order_of_the_stream(length):
    epochs = Epochs(length, 4, 7)
    assert len(epochs) == -(-length // 4)
    turns = []
    for epoch in range(3):
        epochs.set_epoch(epoch)
        batches = list(epochs)
        assert len(batches) == len(epochs)
        turns += [turn for batch in batches for turn in batch]
        assert sorted(turn % length for turn in turns[epoch * length :]) == list(range(length))
    endless = [turn for batch in islice(Stream(length, 4, 7), length) for turn in batch]
    assert turns == endless[: 3 * length]
    assert [turn % length for turn in turns[:length]] != [turn % length for turn in turns[length : 2 * length]]


@pytest.mark.parametrize(("length", "world"), [(24, 2), (25, 2), (50, 3), (8, 3), (3, 3)])
def test_ranks_share_an_epoch_in_batches_of_the_same_sizes(length, world):
    ranks = [list(Epochs(length, 4, 7, rank, world)) for rank in range(world)]
    assert len({tuple(map(len, batches)) for batches in ranks}) == 1  # or DDP waits for ever
    shown = [turn for batches in zip(*ranks, strict=True) for batch in batches for turn in batch]
    assert set(shown) == set(range(length))
    assert len(shown) - length < world  # the first elements fill the last batch
    with pytest.raises(ValueError, match="an element for each of 3 devices"):
        Epochs(2, 4, 7, 0, 3)


def test_held_out_batches_are_shared_by_ranks():
    ranks = [list(InOrder(shares(11, 2, rank, 3), rank, 3)) for rank in range(3)]
    assert ranks[1] == [[1, 4], [7, 10]]
    assert sorted(place for batches in ranks for batch in batches for place in batch) == list(range(11))


def test_fractions_are_uniform_and_know_nothing_of_each_other():
    rows, turns = (grid.ravel() for grid in np.meshgrid(np.arange(40), np.arange(500)))
    drawn = fractions(0, rows, turns)
    assert drawn.shape == (20_000, 3)
    assert 0 <= drawn.min() < 1e-3
    assert 0.999 < drawn.max() < 1
    for axis in range(3):
        counts, _ = np.histogram(drawn[:, axis], 20, (0, 1))
        assert ((counts - 1000) ** 2 / 1000).sum() < 45  # chi-squared of 19 degrees of freedom; 43.8 is once in a thousand
    pairs = np.corrcoef(np.c_[drawn, drawn[:, 0].reshape(500, 40).T.ravel(), fractions(1, rows, turns)].T)
    assert np.abs(pairs - np.eye(len(pairs)))[:3].max() < 0.05
    # neighbours in row, turn and seed are as far apart as strangers
    for a, b in ((fractions(0, rows + 1, turns), drawn), (fractions(0, rows, turns + 1), drawn), (fractions(1, rows, turns), drawn)):
        assert abs(np.abs(a - b).mean() - 1 / 3) < 0.01


def test_fractions_hang_on_seed_row_turn_and_nothing_else():
    rows, turns = np.array([5, 9, 2]), np.array([7, 7, 1_000_000_007])
    drawn = fractions(3, rows, turns)
    assert np.array_equal(fractions(3, rows[::-1], turns[::-1]), drawn[::-1])  # their place in the batch does not count
    assert np.array_equal(fractions(3, rows[1:2], turns[1:2]), drawn[1:2])
    for other in (fractions(4, rows, turns), fractions(3, rows + 1, turns), fractions(3, rows, turns + 1)):
        assert (other != drawn).all()
    # the same on every machine, for ever: a run that goes on elsewhere must see the same patches
    assert np.allclose(fractions(0, np.array([0]), np.array([0])), [[0.13870941014555427, 0.18436667429957676, 0.6974532717895354]])


class Volumes:
    """Stands for the cache: remembers what was asked."""

    def __init__(self):
        self.asked = []

    def patches(self, digests, corners, patch):
        self.asked.append((digests, corners.tolist(), patch))
        return torch.zeros(len(digests), 1, *patch)


def test_crops_are_the_same_for_the_same_turn():
    volumes = Volumes()
    crops = Crops(volumes, ["a", "b", "b"], [4, 4, 4], seed=1)
    first = crops(np.array([0, 2, 1]), np.array([10, 11, 12]))
    assert first.shape == (3, 1, 4, 4, 4)
    crops(np.array([1, 2]), np.array([12, 11]))
    crops(np.array([1, 2]), np.array([15, 14]))
    Crops(volumes, ["a", "b", "b"], [4, 4, 4], seed=2)(np.array([1, 2]), np.array([12, 11]))
    (digests, one, patch), (_, two, _), (_, later, _), (_, other, _) = volumes.asked
    assert digests == ["a", "b", "b"]
    assert patch == (4, 4, 4)
    assert two == [one[2], one[1]]
    assert not set(map(tuple, later)) & set(map(tuple, two))
    assert not set(map(tuple, other)) & set(map(tuple, two))


def test_a_batch_takes_its_split_s_rows_and_the_labels_of_their_records():
    cache = SimpleNamespace(images=lambda places, shape: torch.from_numpy(places)[:, None, None, None].float())
    records = np.array([0, 0, 1, 2, 2])  # five images of three records
    gather = Rows(cache, np.array([40, 41, 20, 30, 31]), (1, 1, 1))
    table = Table(gather, {"image": 1}, records, np.array([7, 8, 9]))
    batches = Batches(table, np.array([0, 1, 3, 4]), degraded=True)  # the split holds records 0 and 2
    batch = batches[[0, 3, 5, 6]]  # turns of the second round too
    assert batch["image"].flatten().tolist() == [40, 31, 41, 30]
    assert batch["record"].tolist() == [0, 2, 0, 2]
    assert batch["label"].tolist() == [7, 9, 7, 9]
    assert sorted(Batches(Table(gather, {"image": 1}, records), np.array([0]), degraded=True)[[0]]) == ["image", "record"]


def test_the_source_of_a_held_out_image_is_keyed_by_its_row_whatever_its_place_in_the_batch():
    images = SimpleNamespace(images=lambda places, shape: torch.zeros(len(places), *shape))
    table = Table(
        Rows(images, np.arange(9), (1, 2, 2)), {"image": 1}, np.arange(9), seed=5,
        degrade=lambda whole, generator: whole + torch.rand(whole.shape, generator=generator),
    )  # fmt: skip
    together = table.batch(np.arange(9), np.arange(9), degraded=True)["source"]
    assert len(together.flatten(1).unique(dim=0)) == 9
    for rows in ([8, 3, 5], [3], [0, 1]):
        assert torch.equal(table.batch(np.array(rows), np.arange(len(rows)), degraded=True)["source"], together[rows])


def test_an_epoch_of_patches_shows_every_row_once():
    turns = [turn for batch in islice(Stream(12, 4, 0), 9) for turn in batch]
    assert set(Counter(turn % 12 for turn in turns).values()) == {3}
