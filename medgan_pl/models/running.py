"""What the players' turns came to since the last row of the log: noted as tensors on their device, added up once a row."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class Interval:
    """Values of each turn, kept until the row is due, so that nothing is reduced before that and a run saved in the middle of an interval
    goes on with what it had noted: the row comes out the same to the bit.

    `start`: the images shown when it began.
    """

    def __init__(self) -> None:
        self.begin(0)
        self.clock(0)

    def begin(self, images: int) -> None:
        """Starts anew, as after a row at `images`."""
        self.start = images
        # (player, names of the values) -> the turns that had these, a vector each; a lazy penalty makes two kinds of turns
        self.turns: dict[tuple[str, tuple[str, ...]], list[Tensor]] = defaultdict(list)

    def note(self, player: str, values: Mapping[str, Tensor]) -> None:
        """One turn's scalars."""
        self.turns[player, tuple(values)].append(torch.stack([value.float() for value in values.values()]))

    def means(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """train/<player>/<name> -> mean over the player's turns, so that a lazy penalty counts 0 where it is not due and the terms add up
        to the loss; `reduce` takes the mean over ranks."""
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

    def clock(self, images: int) -> None:
        """Starts the clock behind `speed`."""
        self.since = (images, time.perf_counter())

    def speed(self, images: int) -> float:
        """Images per second since the clock was started; starts it anew."""
        before, start = self.since
        self.clock(images)
        return (images - before) / (self.since[1] - start)

    def state_dict(self, gather: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """`gather` puts the tensors of all ranks into one, as the first axis of two or more ranks."""
        turns = [
            {"player": player, "names": list(names), "rows": gather(torch.stack(rows)).cpu()}
            for (player, names), rows in self.turns.items()
        ]
        return {"start": self.start, "turns": turns}

    def load_state_dict(self, state: Mapping[str, Any], rank: int, world: int, device: torch.device) -> None:
        """What was noted by another number of ranks is left out."""
        self.begin(state["start"])
        for each in state["turns"]:
            rows = each["rows"].reshape(-1, *each["rows"].shape[-2:])  # (ranks, turns, values)
            if len(rows) == world:
                self.turns[each["player"], tuple(each["names"])] = list(rows[rank].to(device))
