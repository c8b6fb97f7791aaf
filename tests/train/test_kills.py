"""The contract: a run killed at random moments and started again by the same command ends as the run that was never killed, to the bit.

`MEDGAN_KILLS=20 pytest tests/train/test_kills.py -m slow -s` is the whole proof; it prints what it did.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import TINY, Process
from torch import Tensor

# All that could go another way the second time: batch norm, lazy R1, labels, stages, turns of D by its accuracy, parts of a batch,
# clipping, augmentation, and rows, saves and validations that fall apart from each other.
RUN = (
    *TINY,
    "model=resnet_gan",
    "model.classes=4",
    "logger=csv",
    "penalty=r1",
    "penalty.every=3",
    "d_per_g=auto",
    "accumulate=2",
    "clip_g=1",
    "clip_d=1",
    "stages=three",
    "stages.d_only.images=40",
    "stages.g_only.images=40",
    "data.augment.flip=true",
    "data.laterality=false",
    "data.augment.rotate_deg=10",
    "data.augment.noise=0.05",
    "log_every=56",
    "save_every=72",
    "validate_every=200",
)
DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=4")
SETTINGS = {
    "one process": ("data.workers=0",),
    "one process, 2 workers": ("data.workers=2",),
    "two ranks": (*DDP, "data.workers=0"),
    "two ranks, 2 workers each": (*DDP, "data.workers=2"),
}
PATIENCE_S = 240  # for anything to happen on a busy machine


def start(folder: Path, *arguments: str) -> Process:
    """A run in `folder`/run, in a process group of its own; what it says is added to `folder`/said."""
    folder.mkdir(exist_ok=True)
    return Process("train", *RUN, *arguments, "hydra.run.dir=run", cwd=folder, out=folder / "said")


def told(folder: Path) -> str:
    return (folder / "said").read_text()


def through(process: Process, folder: Path, code: int = 0) -> None:
    assert process.wait(PATIENCE_S) == code, told(folder)


def starts(folder: Path) -> int:
    """How often a run in this folder has come as far as its first step."""
    log = folder / "run" / "train.log"
    return log.read_text().count("images to show") if log.exists() else 0


def wait(process: Process, happened: Callable[[], object]) -> None:
    """Until it has happened, or the run is over."""
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and not happened():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.001)


def kill(process: Process, folder: Path, before: int, chance: random.Random) -> str:
    """SIGKILL to the run and all its processes at a random moment of a random kind, which comes back; "too late" if it had ended."""
    kind = chance.choices(("start-up", "training", "writing"), (1, 3, 2))[0]
    if kind == "start-up":
        time.sleep(chance.uniform(0, 3))
    else:
        wait(process, lambda: starts(folder) > before)
        time.sleep(chance.uniform(0, 2.5))
    if kind == "writing":
        wait(process, lambda: list((folder / "run").rglob("*.part")))
    late = process.poll() is not None
    if not late:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return "too late" if late else kind


def leaves(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Each value of nested containers by its place, a tensor as its bytes."""
    if isinstance(node, dict | list | tuple):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, f"{where}/{key}")
    else:
        yield where, (node.dtype, node.shape, node.numpy().tobytes()) if isinstance(node, Tensor) else node


def contents(folder: Path) -> dict[str, Any]:
    """All that a run leaves and that must not show how often it was interrupted: its speed does, and so do the curves that show it."""
    run = folder / "run"
    found = {str(path.relative_to(run)): path.read_bytes() for path in [run / "metrics.csv", *run.glob("samples/*")]}
    for name in ("last.ckpt", "best.ckpt"):
        for where, value in leaves(torch.load(run / "checkpoints" / name, weights_only=True), name):
            found[where] = value.replace(str(run), "") if isinstance(value, str) else value
    return found


def differences(a: Path, b: Path) -> list[str]:
    one, other = contents(a), contents(b)
    nan = float("nan")  # a value that is missing equals nothing
    return sorted(key for key in one.keys() | other.keys() if one.get(key, nan) != other.get(key, nan))


def prove(folder: Path, kills: int, arguments: tuple[str, ...], seed: int) -> tuple[Counter[str], list[str]]:
    """The moments of `kills` kills, in as many runs as they take, and what then differs from a run without any."""
    calm, chance, moments, found = folder / "calm", random.Random(seed), Counter[str](), []
    reference = start(calm, *arguments)
    through(reference, calm)
    for i in count():
        shaken, codes = folder / f"shaken{i}", []
        while not codes:
            before = starts(shaken)
            process = start(shaken, *arguments)
            moment = kill(process, shaken, before, chance) if moments.total() < kills else "too late"
            if moment == "too late":
                codes.append(process.wait(PATIENCE_S))
            else:
                moments[moment] += 1
        assert codes == [0], told(shaken)
        found += differences(calm, shaken)
        if moments.total() >= kills:
            return moments, found


def stop(process: Process, folder: Path, signum: int, to: Callable[[int, int], None]) -> None:
    """A signal in the middle of training: it ends with what it has saved, by the code of the signal."""
    before, table = starts(folder), folder / "run" / "metrics.csv"
    wait(process, lambda: starts(folder) > before and table.exists())
    rows = table.read_bytes().count(b"\n")
    wait(process, lambda: table.read_bytes().count(b"\n") > rows + 1)
    to(process.pid, signum)
    through(process, folder, 128 + signum)
    assert f"stopped by {signal.Signals(signum).name} after" in told(folder)


@pytest.mark.parametrize(
    ("setting", "signum", "to"),
    [
        pytest.param("one process", signal.SIGTERM, os.killpg, marks=pytest.mark.slow),  # .ci/run runs it
        pytest.param("one process, 2 workers", signal.SIGTERM, os.killpg, marks=pytest.mark.slow),
        pytest.param("two ranks", signal.SIGUSR1, os.kill, marks=pytest.mark.slow),
    ],
)
def test_a_run_stopped_and_killed_ends_as_one_that_was_not(tmp_path: Path, setting: str, signum: int, to: Any) -> None:
    calm, shaken, arguments = tmp_path / "calm", tmp_path / "shaken", (*SETTINGS[setting], "total_images=304")
    reference = start(calm, *arguments)
    stop(start(shaken, *arguments), shaken, signum, to)
    kill(start(shaken, *arguments), shaken, starts(shaken), random.Random(3))
    through(start(shaken, *arguments), shaken)
    through(reference, calm)
    assert not differences(calm, shaken)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_twenty_kills(tmp_path: Path, setting: str) -> None:
    moments, found = prove(
        tmp_path, int(os.environ.get("MEDGAN_KILLS", "20")), (*SETTINGS[setting], "total_images=1200"), seed=len(setting)
    )
    print(f"\n{setting}: {moments.total()} kills ({dict(moments)}), {len(found)} differences")
    assert not found


# A signal goes to rank 0 alone, as by `kill`, or to all processes, as by Ctrl-C and some clusters, the workers that load data among them.
@pytest.mark.slow
@pytest.mark.parametrize("setting", ["one process, 2 workers", "two ranks, 2 workers each"])
def test_every_signal(tmp_path: Path, setting: str) -> None:
    calm, shaken, arguments = tmp_path / "calm", tmp_path / "shaken", (*SETTINGS[setting], "total_images=1200")
    reference = start(calm, *arguments)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        for to in (os.kill, os.killpg):
            stop(start(shaken, *arguments), shaken, signum, to)
    through(start(shaken, *arguments), shaken)
    through(reference, calm)
    assert not differences(calm, shaken)
