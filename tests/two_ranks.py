"""Starts a function of a test file in two processes, as torchrun or srun would, and brings back what each returned."""

import importlib
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from command_line import Process


def two_ranks(function: Callable[[int, int], Any], folder: Path, seconds: float = 240) -> list[Any]:
    """`function(rank, world)` in each of two processes, which share nothing but an address; [rank 0's result, rank 1's].

    It stands at the top of its file and returns tensors in plain containers. A rank that fails, or hangs for more than `seconds`, fails the
    test with what both said.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    here, path = Path(__file__), os.pathsep.join([str(Path(sys.modules[function.__module__].__file__).parent), *sys.path])
    ranks = []
    for rank in range(2):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "NODE_RANK": "0", "PYTHONPATH": path}
        what = (function.__module__, function.__name__, str(folder / f"{rank}.pt"))
        ranks.append(Process(here.stem, *what, out=folder / f"{rank}.log", cwd=here.parent, within="", env=address | place))
    end = time.monotonic() + seconds
    while any(rank.poll() is None for rank in ranks) and not any(rank.poll() for rank in ranks) and time.monotonic() < end:
        time.sleep(0.05)
    for rank in ranks:
        if rank.poll() is None:
            rank.kill()  # one that waits for a rank that fell would wait for ever
    codes = [rank.wait() for rank in ranks]
    assert codes == [0, 0], f"{codes}\n" + "\n".join((folder / f"{rank}.log").read_text() for rank in range(2))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def main(module: str, function: str, result: str) -> None:
    sys.path[1:1] = os.environ["PYTHONPATH"].split(os.pathsep)
    os.chdir(Path(result).parent)
    torch.set_num_threads(1)
    torch.save(getattr(importlib.import_module(module), function)(int(os.environ["RANK"]), 2), result)


if __name__ == "__main__":
    main(*sys.argv[1:])
