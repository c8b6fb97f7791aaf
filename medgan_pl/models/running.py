"""The means of the players' losses since the last row of the log: kept as tensors on their device, averaged once a row."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class RunningMeans:
    """The values of each turn, kept until the row is due and reduced only then.

    A run that is saved within an interval resumes with its values, so that the row is bit-equal. `start`: the images shown when the
    interval began.
    """

    def __init__(self) -> None:
        self.reset(0)
        self.start_timer(0)

    def reset(self, images: int) -> None:
        """Forget all values, after a row at `images`."""
        self.start = images
        # (player, names of the values) -> one vector for each turn with these names; a lazy penalty makes two kinds of turns
        self.turns: dict[tuple[str, tuple[str, ...]], list[Tensor]] = defaultdict(list)

    def note(self, player: str, values: Mapping[str, Tensor]) -> None:
        """Keep the scalars of one turn."""
        self.turns[player, tuple(values)].append(torch.stack([value.float() for value in values.values()]))

    def means(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return train/<player>/<name> -> mean over the player's turns.

        A lazy penalty counts 0 in the turns in which it is not due, so that the terms add up to the loss. `reduce` takes the mean over
        ranks.
        """
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = defaultdict(int)
        for (player, names), rows in self.turns.items():
            counts[player] += len(rows)
            for name, value in zip(names, torch.stack(rows).sum(0), strict=True):
                key = f"train/{player}/{name}"
                sums[key] = sums[key] + value if key in sums else value
        if not sums:
            return {}
        keys = sorted(sums)
        values = reduce(torch.stack([sums[key] / counts[key.split("/")[1]] for key in keys]))
        return dict(zip(keys, values.tolist(), strict=True))

    def start_timer(self, images: int) -> None:
        """Start the timer of `speed`."""
        self.since = (images, time.perf_counter())

    def speed(self, images: int) -> float:
        """Return the images per second since the timer was started, and start it again."""
        before, start = self.since
        self.start_timer(images)
        return (images - before) / (self.since[1] - start)

    def state_dict(self, gather: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """Return the state in plain containers. `gather` joins the tensors of all ranks, along a new first axis if there are several."""
        turns = [
            {"player": player, "names": list(names), "rows": gather(torch.stack(rows)).cpu()}
            for (player, names), rows in self.turns.items()
        ]
        return {"start": self.start, "turns": turns}

    def load_state_dict(self, state: Mapping[str, Any], rank: int, world: int, device: torch.device) -> None:
        """Restore the state of `rank`; values of a run with another number of ranks are left out."""
        self.reset(state["start"])
        for each in state["turns"]:
            rows = each["rows"].reshape(-1, *each["rows"].shape[-2:])  # (ranks, turns, values)
            if len(rows) == world:
                self.turns[each["player"], tuple(each["names"])] = list(rows[rank].to(device))
