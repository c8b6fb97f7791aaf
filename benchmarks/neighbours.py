"""Measure the cost of precision, recall, density and coverage, in seconds and peak memory, against plain code with whole distance matrices.

`python -m benchmarks.neighbours [n=10000] [features=224,2048] [plain=2000] [rounds=3]`

`n` fakes against `n` reals of random features, float32; both measures, as `evaluate` uses them. The plain code, torch.cdist of each pair of
sets, then kthvalue and comparisons, in float64 like ours, would need 3 n² distances: it is timed at `plain` rows, alternating with ours at
the same size in one process; both grow with n². It computes the distances once for both measures, ours once for each.
Seconds are wall time and CPU time, since others may use the CPU. Peak memory is the resident memory above that at the start, read from
/proc every few milliseconds (Linux).
"""

import math
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from medgan_pl.metrics.neighbours import DensityCoverage, PrecisionRecall

PAGE = 4096  # bytes
MIB = 2**20
LIMIT_SECONDS, LIMIT_MIB = 180, 2048  # issue 5, on two cores


class Peak:
    """Measures the highest resident memory within its block, in MiB above that at its start."""

    def __enter__(self) -> "Peak":
        self.start = self.highest = self.resident()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.thread.join()
        self.mib = (self.highest - self.start) / MIB

    def sample(self) -> None:
        while not self.ended.wait(0.002):
            self.highest = max(self.highest, self.resident())

    @staticmethod
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def ours(fake: Tensor, real: Tensor) -> dict[str, float]:
    values = PrecisionRecall()(fake, real) | DensityCoverage()(fake, real)
    return {key: value.item() for key, value in values.items()}


def plain(fake: Tensor, real: Tensor) -> dict[str, float]:
    """Compute all from whole matrices; an image is its own first neighbor, hence k + 1."""
    fake, real = fake.double(), real.double()
    fakes, reals, between = torch.cdist(fake, fake), torch.cdist(real, real), torch.cdist(fake, real)
    three, five, of_fakes = reals.kthvalue(4).values, reals.kthvalue(6).values, fakes.kthvalue(4).values
    return {
        "precision": (between <= three).any(1).double().mean().item(),
        "recall": (between <= of_fakes[:, None]).any(0).double().mean().item(),
        "density": (between <= five).sum().item() / 5 / len(fake),
        "coverage": (between <= five).any(0).double().mean().item(),
    }


class Run:
    """One measurement: `wall` and `cpu` in seconds, `mib` of peak memory."""

    def __init__(self, judge: Callable[[Tensor, Tensor], dict[str, float]], fake: Tensor, real: Tensor) -> None:
        with Peak() as peak:
            wall, cpu = time.perf_counter(), time.process_time()
            judge(fake, real)
            self.wall, self.cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.mib = peak.mib

    def __str__(self) -> str:
        return f"{self.wall:.1f} s ({self.cpu:.1f} s of CPU time), {self.mib:.0f} MiB"


def sets(n: int, columns: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, columns, generator=generator), torch.randn(n, columns, generator=generator)


def compare(n: int, columns: int, small: int, rounds: int) -> None:
    print(f"F = {columns}, {n:,} × {n:,}: {Run(ours, *sets(n, columns))}; the limits: {LIMIT_SECONDS} s, {LIMIT_MIB} MiB", flush=True)
    few = sets(small, columns)
    own, other = ours(*few), plain(*few)
    if own.keys() != other.keys() or not all(math.isclose(own[key], other[key], rel_tol=1e-9) for key in own):
        raise RuntimeError(f"the two implementations must agree to rounding, got {own} and {other}")
    turns = [(Run(ours, *few), Run(plain, *few)) for _ in range(rounds)]
    ratio = statistics.median(other.cpu / own.cpu for own, other in turns)
    seconds, matrices = statistics.median(other.cpu for _, other in turns), 3 * 8 * n**2 / MIB
    print(f"  {small:,} × {small:,}: ours {turns[-1][0]}; plain {turns[-1][1]}; ours is {ratio:.2f} times as fast in CPU time")
    print(f"  plain at {n:,} would take about {seconds * (n / small) ** 2:.0f} s of CPU time and {matrices:,.0f} MiB", flush=True)


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    print(f"{torch.get_num_threads()} threads")
    for columns in given.get("features", "224,2048").split(","):
        compare(int(given.get("n", 10_000)), int(columns), int(given.get("plain", 2000)), int(given.get("rounds", 3)))


if __name__ == "__main__":
    main()
