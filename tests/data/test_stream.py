"""The order of the films: every place once, shared by ranks, begun anywhere."""

from itertools import islice

import pytest

from medgan_pl.data.stream import Stream


@pytest.mark.parametrize("length", [3, 8, 50])
def test_stream_covers_every_place_once_over_all_ranks(length):
    world, batch, steps = 3, 4, 25
    ranks = [list(islice(Stream(length, batch, 7, rank, world), steps)) for rank in range(world)]
    shown = [index for step in range(steps) for rank in ranks for index in rank[step]]
    one = [index for indices in islice(Stream(length, world * batch, 7), steps) for index in indices]
    assert shown == one
    for epoch in range(len(shown) // length):
        assert sorted(shown[epoch * length : (epoch + 1) * length]) == list(range(length))
    if length > 3:
        assert shown[:length] != shown[length : 2 * length]


def test_stream_begun_in_the_middle_is_the_tail():
    whole = list(islice(Stream(10, 4, 0, 1, 2), 20))
    assert list(islice(Stream(10, 4, 0, 1, 2, start=8 * 7), 13)) == whole[7:]
    with pytest.raises(ValueError, match="length >= 1"):
        Stream(0, 4, 0)
