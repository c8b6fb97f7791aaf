"""Check, before a run goes on, that a checkpoint has all that the run takes back besides its weights: by name, and of the right shape."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medgan_pl.core.untrusted import require, shown
from medgan_pl.models.players import Player
from medgan_pl.models.state import Progress


def check_resumable(
    content: Mapping[str, Any], progress: Progress, players: Mapping[str, Player], owned: Mapping[str, Sequence[nn.Parameter]],
    stages: Iterable[str],
) -> None:  # fmt: skip
    """Raise ValueError unless a run of these players can go on from the content of a checkpoint.

    - `owned`: the weights that each player's optimizer steps. `stages`: the names of the stages of the run that wrote the checkpoint.

    The states of the optimizers must have the entries that these optimizers write, each of the shape of its weight.
    """
    require(progress.stage in [*stages], f"`stage` must be one of {', '.join(stages)}, got {shown(progress.stage)}")
    for key in ("turns", "guards"):
        names = getattr(progress, key).keys()
        require(
            names == players.keys(), f"`{key}` must be of the players {', '.join(players)}, got {', '.join(map(shown, names)) or 'none'}"
        )
    states = content.get("optimizer_states")
    require(isinstance(states, list), f"`optimizer_states` must hold a state for each player, got {shown(states)}")
    require(len(states) == len(players), f"`optimizer_states` must hold a state for each of {', '.join(players)}, got {len(states)}")
    for (name, player), state in zip(players.items(), states, strict=True):
        stepped = progress.turns[name] > progress.guards[name]["skipped"]
        check_optimizer(name, player, owned[name], state, stepped=stepped)


def check_optimizer(name: str, player: Player, weights: Sequence[nn.Parameter], state: Any, *, stepped: bool) -> None:
    """Raise ValueError unless `state` is one of the player's optimizer; `stepped`: it has taken a step with these weights."""
    what = f"the optimizer of `{name}`"
    parts = isinstance(state, dict) and isinstance(state.get("state"), dict) and isinstance(state.get("param_groups"), list)
    require(parts, f"{what} must have `state` and `param_groups`, got {shown(state)}")
    groups, model = state["param_groups"], like(player, weights)
    count = len(model["param_groups"])
    require(len(groups) == count, f"{what} must have {count} `param_groups`, got {len(groups)}")
    for group, own in zip(groups, model["param_groups"], strict=True):
        require(isinstance(group, dict), f"{what} must have `param_groups` of names and values, got {shown(group)}")
        needed = {key for key, value in own.items() if value is not None and not isinstance(value, bool)}  # torch adds flags
        lacking = sorted(needed - group.keys())
        require(not lacking, f"{what} must have {', '.join(lacking)} in its `param_groups`, got {', '.join(map(shown, group))}")
        require(group["params"] == own["params"], f"{what} must be of {len(own['params'])} weights, and its `params` are of others")
        for key, value in ((key, value) for key, value in own.items() if key in group):
            require(alike(group[key], value), f"{what} must have `{key}` as in {value}, got {shown(group[key])}")
    found = state["state"]
    require(found.keys() <= {*range(len(weights))}, f"{what} must have a state for each of {len(weights)} weights, and it has others")
    require(bool(found) or not stepped or not any(model["state"].values()), f"{what} has stepped, and must have a state; it has none")
    for place, entries in found.items():
        check_entries(f"{what}, weight {place},", entries, model["state"][place], weights[place])


def check_entries(what: str, entries: Any, own: Mapping[str, Any], weight: Tensor) -> None:
    """Raise ValueError unless the state of one weight has the entries of `own`, each a number or of the weight's shape."""
    names = isinstance(entries, dict) and entries.keys() == own.keys()
    got = ", ".join(map(shown, entries)) if isinstance(entries, dict) else shown(entries)
    require(names, f"{what} must have {', '.join(own) or 'no entry'}, got {got}")
    for key, value in entries.items():
        fits = isinstance(value, Tensor) == isinstance(own[key], Tensor) or value is None or own[key] is None
        if fits and isinstance(value, Tensor) and own[key] is not None:
            many = own[key].ndim > 0  # a number is one of the weight: its step
            sides = zip(value.shape, weight.shape, strict=False)
            fits = value.ndim == weight.ndim and all(n in (1, side) for n, side in sides) if many else value.ndim == 0
            fits = fits and (value.shape == weight.shape or not full(own[key], weight))
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else shown(value)
        require(fits, f"{what} must have `{key}` like its weight of shape {tuple(weight.shape)}, got {got}")


def full(entry: Tensor, weight: Tensor) -> bool:
    """Return True if an entry of a stand-in (sides of 2) is as large as its weight; some optimizers keep rows and columns instead."""
    return entry.shape == (2,) * weight.ndim


def like(player: Player, weights: Sequence[nn.Parameter]) -> dict[str, Any]:
    """Return the state of the player's optimizer after a step with small weights of as many axes (sides of 2)."""
    small = [nn.Parameter(torch.zeros((2,) * weight.ndim)) for weight in weights]
    for weight in small:
        weight.grad = torch.zeros_like(weight)
    optimizer = player.build_optimizer(small)
    optimizer.step()
    state = optimizer.state_dict()
    return {"param_groups": state["param_groups"], "state": {i: state["state"].get(i, {}) for i in range(len(weights))}}


def alike(value: Any, own: Any) -> bool:
    """Return True for a value of the kind of `own`: numbers, flags, texts, or as many of them; None fits all but numbers."""
    if isinstance(own, list | tuple):
        return isinstance(value, list | tuple) and len(value) == len(own) and all(map(alike, value, own))
    if isinstance(own, int | float) and not isinstance(own, bool):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or own is None or isinstance(value, type(own))


def check_callbacks(content: Mapping[str, Any], callbacks: Iterable[Any], written: Iterable[str]) -> None:
    """Raise ValueError unless each callback whose class (its address) is among `written` finds the state that it has saved."""
    states = content.get("callbacks")
    require(isinstance(states, dict), f"`callbacks` must hold the states of the callbacks, got {shown(states)}")
    for callback in callbacks:
        own, kind = callback.state_dict(), type(callback)
        if own and f"{kind.__module__}.{kind.__qualname__}" in [*written]:
            state = states.get(callback.state_key)
            same = isinstance(state, dict) and own.keys() <= {"monitor", *state}  # an older checkpoint does not name its monitor
            require(same, f"`callbacks` must have {', '.join(own)} of {callback.state_key}, got {shown(state)}")
            numbers = all(isinstance(state[key], int | float) for key in own.keys() & state.keys() if isinstance(own[key], int | float))
            require(numbers, f"`callbacks` must have numbers for {callback.state_key}, got {', '.join(map(shown, state.values()))}")
