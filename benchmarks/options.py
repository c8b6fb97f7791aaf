"""Measure the cost or gain of each option of the training step: accumulation, torch.compile, bf16, the log, and two processes.

`python -m benchmarks.options [model=resnet_gan] [turns=7] [steps=6] [only=speed,log,ddp]`

64², batch 32, on the CPU. Speed and log: the project's module under Lightning, all variants in one process, alternating every few steps, in
CPU time of one thread; the median of the ratios of each turn is shown with its quartiles.
- speed: accumulation, torch.compile and bf16 against float32.
- log: ten values of a small network's step: none; recorded and written each `log_every` images, as a run does; and by `self.log`, each
  step, as is usual. In milliseconds a step.
- ddp: two ranks of batch 16 with a thread each against one process of batch 32 with two threads, each in processes of its own, in turns.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from pytorch_lightning.loggers import CSVLogger

from benchmarks.runs import Clock, Data, in_turns, module_of, quartiles, trainer_of
from medgan_pl.core.batch import Batch
from medgan_pl.core.command import quiet_libraries
from medgan_pl.models.module import AdversarialModule
from medgan_pl.models.running import RunningMeans

VARIANTS = {
    "float32": ([], {}),
    "accumulate=2": (["accumulate=2"], {}),
    "accumulate=4": (["accumulate=4"], {}),
    "compile=true": (["compile=true"], {}),
    "bf16-mixed": ([], {"precision": "bf16-mixed"}),
}


def images(size: int, batch: int) -> torch.Tensor:
    return torch.rand(4, batch, 1, size, size) * 2 - 1


def speed(model: str, turns: int, steps: int) -> None:
    runs = {name: (module_of(f"model={model}", *overrides), trainer) for name, (overrides, trainer) in VARIANTS.items()}
    seconds = in_turns(runs, images(64, 32), steps, turns)
    print(f"{model}, float32: {32 / statistics.median(seconds['float32']):.1f} images/s")
    for name, values in seconds.items():
        ratios = [plain / own for plain, own in zip(seconds["float32"], values, strict=True)]
        print(f"  {name}: {quartiles(ratios)} times as fast", flush=True)


class Silent(RunningMeans):
    """Records nothing."""

    def note(self, player: str, values: dict) -> None:
        pass

    def means(self, reduce) -> dict[str, float]:
        return {}


def naive_step(module: AdversarialModule) -> None:
    """Log ten values by `self.log` at each step, as a usual LightningModule does."""
    step, values = module.training_step, torch.rand(10)

    def logged(batch: Batch, batch_idx: int) -> None:
        step(batch, batch_idx)
        for i, value in enumerate(values):
            module.log(f"value_{i}", value, on_step=True, on_epoch=False)

    module.training_step = logged


def log(turns: int, steps: int, folder: str) -> None:
    def small() -> AdversarialModule:
        return module_of("model=mlp", "model.width=16", "data.size=8", "penalty=r1")  # R1 makes it ten values: 7 of D, 3 of G

    runs = {"none": (small(), {}), "noted": (small(), {}), "self.log": (small(), {"logger": CSVLogger(folder)})}
    for name in ("none", "self.log"):
        runs[name][0].running = Silent()
    naive_step(runs["self.log"][0])
    seconds = in_turns(runs, images(8, 32), steps, turns)
    print(f"ten values a step, of {1e3 * statistics.median(seconds['none']):.2f} ms without any")
    for name in ("noted", "self.log"):
        extra = [1e3 * (own - none) for none, own in zip(seconds["none"], seconds[name], strict=True)]
        print(f"  {name}: {quartiles(extra)} ms a step", flush=True)


def rank(model: str, devices: int, turns: int, steps: int) -> None:
    """Run one side of `ddp`; rank 0 prints its images/s over all ranks."""
    clock = Clock(steps, turns)
    strategy = "ddp_find_unused_parameters_true" if devices > 1 else "auto"
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(Path(folder), clock, devices=devices, strategy=strategy)
        trainer.fit(module_of(f"model={model}"), datamodule=Data(images(64, 32 // devices)))
    if trainer.is_global_zero:
        print(32 * steps / statistics.median(clock.seconds))


def ddp(model: str, turns: int, steps: int) -> None:
    shown: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(turns):
        for devices, values in shown.items():
            command = [sys.executable, "-m", "benchmarks.options", f"devices={devices}", f"model={model}", "turns=3", f"steps={steps}"]
            threads = {"OMP_NUM_THREADS": str(2 // devices)}
            done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
            values.append(float(done.stdout.split()[-1]))
    print(f"{model}: one process {statistics.median(shown[1]):.1f} images/s, two ranks {statistics.median(shown[2]):.1f}")
    print(f"  two ranks / one process: {quartiles([two / one for one, two in zip(shown[1], shown[2], strict=True)])}")


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    quiet_libraries()
    warnings.filterwarnings("ignore", message=".*no `val_dataloader`.*")
    torch.set_flush_denormal(True)
    model, turns, steps = given.get("model", "resnet_gan"), int(given.get("turns", 7)), int(given.get("steps", 6))
    if "devices" in given:
        rank(model, int(given["devices"]), turns, steps)
        return
    only = given.get("only", "speed,log,ddp").split(",")
    if "speed" in only:
        speed(model, turns, steps)
    if "log" in only:
        with tempfile.TemporaryDirectory() as folder:
            log(3 * turns, 20 * steps, folder)
    if "ddp" in only:
        ddp(model, turns, steps)


if __name__ == "__main__":
    main()
