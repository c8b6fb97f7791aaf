"""Measure parameters, speed and peak memory of a training step of every model, as tables for README.md.

`python -m benchmarks.models [models=dcgan,r3gan] [shapes=64x64,32x32x32] [turns=3] [steps=2] [smoke=true]`

Every model of conf/model that generates from noise, with its defaults, on random images on the device, the module under Lightning. On the
CPU: alternating with `resnet_gan` in one process, in CPU time of one thread, which other work hardly affects; so is the ratio. The peak
memory of a step is the resident memory of a process of its own above that before the first step (Linux). On a GPU: wall time of the model
alone, bf16-mixed, also at 256² and 512², with the seconds for a thousand images; the memory is the maximum that torch has allocated. A
model that does not support a shape, or does not fit, has a dash and the reason below the table.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.runs import Clock, Data, in_turns, module_of, trainer_of
from medgan_pl.core.command import quiet_libraries
from medgan_pl.core.console import configuration_folder
from medgan_pl.models.build import count

SHAPES = ((64, 64), (128, 128), (32, 32, 32), (64, 64, 64))
LARGE = ((256, 256), (512, 512))  # on a GPU alone
BATCHES = {(64, 64): 16, (128, 128): 8, (32, 32, 32): 8, (64, 64, 64): 2}
GPU_BATCHES = {(64, 64): 64, (128, 128): 32, (256, 256): 32, (512, 512): 8, (32, 32, 32): 32, (64, 64, 64): 8}
NEEDS = {"acgan": ("model.classes=2",)}
BESIDE = "resnet_gan"
OF_IMAGES = ("cut", "cycle_gan", "rrdb_gan", "star_gan", "translator_gan", "unet_gan")  # image-to-image models need a source


def built(model: str, shape: tuple[int, ...], *overrides: str) -> Any:
    size = ",".join(map(str, shape))
    return module_of(f"model={model}", f"image.spatial_dims={len(shape)}", f"data.size=[{size}]", *NEEDS.get(model, ()), *overrides)


def images(shape: tuple[int, ...], batch: int, device: str = "cpu") -> torch.Tensor:
    return (torch.rand(2, batch, 1, *shape) * 2 - 1).to(device)


def resident_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(module: Any, batches: torch.Tensor, steps: int, turns: int, **arguments: Any) -> list[float]:
    clock = Clock(steps, turns)
    with tempfile.TemporaryDirectory() as folder:
        trainer_of(Path(folder), clock, **arguments).fit(module, datamodule=Data(batches))
    return clock.seconds


def measure(kind: str, model: str, shape: tuple[int, ...], batch: int, steps: int, turns: int) -> dict[str, float | str]:
    """Return one row, measured in this process."""
    module = built(model, shape)
    weights = {"generator": count(module.networks["g"]), "discriminator": count(module.networks["d"])}
    if kind == "memory":
        before = resident_mib()
        alone(module, images(shape, batch), 1, 1)
        return {"mib": resident_mib() - before}
    if kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
        seconds = alone(module, images(shape, batch, "cuda"), steps, turns, precision="bf16-mixed", accelerator="gpu", devices=1)
        speed = batch * steps / statistics.median(seconds)
        return weights | {"speed": speed, "mib": torch.cuda.max_memory_allocated() / 2**20}
    runs = {model: (module, {}), BESIDE: (built(BESIDE, shape), {})} if model != BESIDE else {model: (module, {})}
    found = {name: statistics.median(times) for name, times in in_turns(runs, images(shape, batch), steps, turns).items()}
    return weights | {"speed": batch / found[model], "ratio": found[BESIDE] / found[model]}


def asked(*row: Any) -> dict[str, Any]:
    """Return `measure` of a process of its own; {"why": …} if it fails."""
    command = [sys.executable, "-m", "benchmarks.models", f"row={json.dumps(row)}"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or ["it was killed, by a lack of memory?"]
    if done.returncode == 0:
        return json.loads(lines[-1])
    return {"why": next(line for line in reversed(lines) if not line.startswith("full_key"))[:200]}  # Hydra's last line is a key


def table(shape: tuple[int, ...], models: list[str], batch: int, steps: int, turns: int, cuda: bool) -> list[str]:
    """Yield the lines of one shape."""
    last = "s/kimg" if cuda else f"times {BESIDE}"
    lines = [f"| {'×'.join(map(str, shape))}, batch {batch} | G | D | images/s | {last} | peak MiB |", "|---" * 6 + "|"]
    reasons = []
    for model in models:
        row = asked("cuda" if cuda else "speed", model, shape, batch, steps, turns)
        row |= {} if cuda or "why" in row else asked("memory", model, shape, batch, steps, turns)
        if "why" in row:
            lines.append(f"| `{model}` | - | - | - | - | - |")
            reasons.append(f"`{model}`: {row['why']}")
            continue
        relative = f"{1000 / row['speed']:.2f}" if cuda else f"{row['ratio']:.2f}"
        speed = f"{row['speed']:,.{0 if row['speed'] >= 100 else 1}f}"
        lines.append(f"| `{model}` | {row['generator']} | {row['discriminator']} | {speed} | {relative} | {row['mib']:,.0f} |")
    return [*lines, *(["", *reasons] if reasons else []), ""]


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    quiet_libraries()
    warnings.filterwarnings("ignore", message=".*no `val_dataloader`.*")
    if "row" in given:
        torch.set_num_threads(1)
        kind, model, shape, *rest = json.loads(given["row"])
        print(json.dumps(measure(kind, model, tuple(shape), *rest)))
        return
    cuda = torch.cuda.is_available() and given.get("smoke") != "true"
    every = sorted(path.stem for path in (configuration_folder() / "model").glob("*.yaml") if path.stem not in OF_IMAGES)
    models = given.get("models", ",".join(every)).split(",")
    shapes = [(16, 16)] if given.get("smoke") == "true" else [*SHAPES, *(LARGE if cuda else ())]
    if "shapes" in given:
        shapes = [tuple(map(int, shape.split("x"))) for shape in given["shapes"].split(",")]
    steps, turns = int(given.get("steps", 10 if cuda else 2)), int(given.get("turns", 3))
    for shape in shapes:
        for line in table(shape, models, (GPU_BATCHES if cuda else BATCHES).get(shape, 4), steps, turns, cuda):
            print(line, flush=True)


if __name__ == "__main__":
    main()
