"""What is noted between two rows of the log, by value, and through a checkpoint."""

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medgan_pl.models.running import RunningMeans


def same(values: Tensor) -> Tensor:
    return values


def noted(*turns: tuple[str, dict[str, float]]) -> RunningMeans:
    means = RunningMeans()
    for player, values in turns:
        means.note(player, {name: torch.tensor(value) for name, value in values.items()})
    return means


@pytest.mark.parametrize(
    ("turns", "row"),
    [
        ([], {}),
        ([("d", {"loss": 1.0}), ("d", {"loss": 3.0})], {"train/d/loss": 2}),
        ([("d", {"loss": 1.0}), ("g", {"loss": 5.0})], {"train/d/loss": 1, "train/g/loss": 5}),
        # a lazy penalty of 6 in one of three turns: 2 a turn, so that the terms add up to the loss
        (
            [("d", {"loss": 1.0, "a": 1.0}), ("d", {"loss": 8.0, "a": 2.0, "penalty": 6.0}), ("d", {"loss": 3.0, "a": 3.0})],
            {"train/d/a": 2, "train/d/loss": 4, "train/d/penalty": 2},
        ),
    ],
    ids=["nothing", "two turns", "two players", "lazy"],
)
def test_a_row_holds_means_over_each_players_turns(turns: list, row: dict[str, float]) -> None:
    assert noted(*turns).means(same) == row


def test_a_row_begun_anew_holds_nothing_of_the_last() -> None:
    means = noted(("d", {"loss": 1.0}))
    means.reset(16)
    assert (means.start, means.means(same)) == (16, {})


def test_all_values_are_reduced_in_one_call() -> None:
    calls: list[Tensor] = []
    means = noted(("d", {"loss": 1.0, "real": 3.0}), ("g", {"loss": 5.0}))
    row = means.means(lambda values: (calls.append(values), values / 2)[1])
    assert [call.tolist() for call in calls] == [[1, 3, 5]]
    assert row == {"train/d/loss": 0.5, "train/d/real": 1.5, "train/g/loss": 2.5}


def test_half_precision_is_added_up_in_float32() -> None:
    means = RunningMeans()
    for _ in range(300):  # bfloat16 counts no further than 256
        means.note("g", {"loss": torch.tensor(1.0, dtype=torch.bfloat16)})
    assert means.means(torch.Tensor.float) == {"train/g/loss": 1.0}


@pytest.mark.parametrize("cut", [1, 4, 7])
def test_a_row_in_two_parts_is_the_row_to_the_bit(cut: int) -> None:
    values = torch.rand(9, 2, generator=torch.Generator().manual_seed(1)).tolist()
    turns = [("d", {"loss": a, "penalty": b} if i % 3 else {"loss": a}) for i, (a, b) in enumerate(values)]
    first, second = noted(*turns[:cut]), RunningMeans()
    second.load_state_dict(first.state_dict(same), 0, 1, torch.device("cpu"))
    for player, one in turns[cut:]:
        second.note(player, {name: torch.tensor(value) for name, value in one.items()})
    assert second.means(same) == noted(*turns).means(same)


def ranks(world: int) -> Callable[[Tensor], Tensor]:
    """As all_gather: rank r noted r more than rank 0."""
    return lambda rows: torch.stack([rows + rank for rank in range(world)])


@pytest.mark.parametrize(("world", "rank", "row"), [(2, 0, {"train/d/loss": 1}), (2, 1, {"train/d/loss": 2}), (1, 0, {}), (3, 0, {})])
def test_each_rank_goes_on_with_its_own_and_another_number_of_ranks_without(world: int, rank: int, row: dict[str, float]) -> None:
    state = noted(("d", {"loss": 1.0})).state_dict(ranks(2))
    means = RunningMeans()
    means.load_state_dict(state, rank, world, torch.device("cpu"))
    assert means.means(same) == row


def test_the_speed_is_that_since_the_clock_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    means = RunningMeans()
    means.start_timer(100)
    now[0] = 2.0
    assert means.speed(150) == 25
    now[0] = 3.0
    assert means.speed(160) == 10
