"""A checkpoint whose optimizers, callbacks or counters do not fit the run is refused by name before the run goes on."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adafactor, Adam

from medgan_pl.models.players import Player
from medgan_pl.models.resumable import check_callbacks, check_resumable
from medgan_pl.models.state import Progress

GUARD = {"full_scale": 1.0, "clean": 0, "skipped": 0, "in_a_row": 0}


def player(optimizer: Any) -> Player:
    return Player(network=nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)), optimizer=optimizer)


@pytest.fixture
def run() -> dict[str, Any]:
    """A run of two players whose optimizers have stepped: the arguments of the check."""
    players = {"g": player(partial(Adam, lr=1e-3, betas=(0.5, 0.9))), "d": player(partial(SGD, lr=0.1, momentum=0.5))}
    owned, states = {name: [*each.network.parameters()] for name, each in players.items()}, []
    for name, each in players.items():
        optimizer = each.build_optimizer(owned[name])
        each.network(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        states.append(copy.deepcopy(optimizer.state_dict()))
    counts = {"turns": {"g": 1, "d": 1}, "guards": {"g": dict(GUARD), "d": dict(GUARD)}}
    progress = Progress(
        **counts, turns_since=0, rollbacks=0, rate=1.0, stage="both", running={}, world=1, device="cpu", fingerprint="", row={}
    )
    return {"content": {"optimizer_states": states}, "progress": progress, "players": players, "owned": owned, "stages": ["both"]}


def test_a_whole_checkpoint_is_taken(run) -> None:
    check_resumable(**run)
    run["content"]["optimizer_states"][0]["state"].pop(3)  # a weight without a gradient has no state
    del run["content"]["optimizer_states"][0]["param_groups"][0]["amsgrad"]  # an older torch does not write each flag
    check_resumable(**run)


def test_rows_and_columns_in_place_of_a_whole_state_are_taken(run) -> None:
    run["players"] = {"g": player(partial(Adafactor, lr=1e-3))}
    weights = run["owned"]["g"]
    optimizer = run["players"]["g"].build_optimizer(weights)
    optimizer.step()
    run["owned"], run["content"] = {"g": weights}, {"optimizer_states": [optimizer.state_dict()]}
    run["progress"].turns.pop("d")
    run["progress"].guards.pop("d")
    check_resumable(**run)
    run["content"]["optimizer_states"][0]["state"][0]["row_var"] = torch.zeros(7, 1)
    with pytest.raises(ValueError, match=r"weight 0, must have `row_var` like its weight of shape \(4, 3\), got shape \(7, 1\)"):
        check_resumable(**run)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda g, d: g["state"][0].update(exp_avg=torch.zeros(4, 5)),
            r"the optimizer of `g`, weight 0, must have `exp_avg` like its weight",
        ),
        (lambda g, d: g["state"][0].update(exp_avg=torch.zeros(1, 1)), r"weight 0, must have `exp_avg` like its weight of shape \(4, 3\)"),
        (lambda g, d: g["state"][1].update(step=torch.zeros(4)), r"weight 1, must have `step` like its weight"),
        (lambda g, d: g["state"][1].update(exp_avg_sq=3.0), r"weight 1, must have `exp_avg_sq` like its weight"),
        (lambda g, d: g["state"][2].pop("exp_avg_sq"), "weight 2, must have step, exp_avg, exp_avg_sq, got 'step', 'exp_avg'"),
        (lambda g, d: d["state"][0].update(extra=1), "weight 0, must have momentum_buffer, got"),
        (lambda g, d: d["state"].update({9: {}}), "`d` must have a state for each of 4 weights, and it has others"),
        (lambda g, d: d["state"].clear(), "`d` has stepped, and must have a state"),
        (lambda g, d: d.pop("state"), "the optimizer of `d` must have `state` and `param_groups`"),
        (lambda g, d: g["param_groups"].clear(), "`g` must have 1 `param_groups`, got 0"),
        (lambda g, d: g["param_groups"][0].pop("lr"), "`g` must have lr in its `param_groups`"),
        (lambda g, d: g["param_groups"][0].pop("betas"), "`g` must have betas in its `param_groups`"),
        (lambda g, d: g["param_groups"][0].update(lr="x"), "`g` must have `lr` as in 0.001, got 'x'"),
        (lambda g, d: g["param_groups"][0].update(betas=[0.5]), "`g` must have `betas` as in"),
        (lambda g, d: g["param_groups"][0].update(params=[0]), "`g` must be of 4 weights"),
    ],
)
def test_states_of_an_optimizer_that_do_not_fit_are_refused(run, change, said: str) -> None:
    change(*run["content"]["optimizer_states"])
    with pytest.raises(ValueError, match=said):
        check_resumable(**run)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: run["content"].pop("optimizer_states"), "`optimizer_states` must hold a state for each player"),
        (lambda run: run["content"]["optimizer_states"].pop(), "`optimizer_states` must hold a state for each of g, d, got 1"),
        (lambda run: run.update(stages=["warm", "last"]), "`stage` must be one of warm, last, got 'both'"),
        (lambda run: run["progress"].turns.pop("d"), "`turns` must be of the players g, d, got 'g'"),
        (lambda run: run["progress"].guards.update(e={}), "`guards` must be of the players g, d"),
    ],
)
def test_a_missing_part_is_refused(run, change, said: str) -> None:
    change(run)
    with pytest.raises(ValueError, match=said):
        check_resumable(**run)


class Watcher:
    state_key = "Watcher"

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": "val/fd", "best": 1.0, "worse": 0}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "`callbacks` must hold the states"),
        ({"callbacks": {}}, "must have monitor, best, worse of Watcher, got None"),
        ({"callbacks": {"Watcher": {"best": 1.0}}}, "must have monitor, best, worse of Watcher"),
        ({"callbacks": {"Watcher": {"best": "low", "worse": 0}}}, "must have numbers for Watcher, got 'low'"),
    ],
)
def test_a_callback_without_its_state_is_refused(content: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_callbacks(content, [Watcher()], [f"{Watcher.__module__}.Watcher"])


def test_a_callback_that_the_run_did_not_have_needs_no_state() -> None:
    check_callbacks({"callbacks": {}}, [Watcher()], [])
    check_callbacks({"callbacks": {"Watcher": {"best": 1.0, "worse": 0}}}, [Watcher()], [f"{Watcher.__module__}.Watcher"])
