"""Measure images per second of training on the available GPU, as a table for README.md.

`python -m benchmarks.devices [minutes=9] [smoke=true]`

`resnet_gan` with its defaults at 64², 128², 256² and 64³, the module under Lightning, batches already on the device: float32, float32 with
TF32 multiplications, and bf16-mixed; plain, channels last, and channels last compiled. The median of five turns of ten steps after the same
warm-up; compilation is not counted. Cells for which `minutes` are not enough are left out (-). `smoke` runs the same code on the CPU with
tiny sizes.
"""

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.runs import Clock, Data, module_of, trainer_of
from medgan_pl.core.command import quiet_libraries

SIZES = ((2, 64, 256), (2, 128, 128), (2, 256, 32), (3, 64, 16))  # axes, size_px, images of a batch
TINY = ((2, 8, 2), (3, 8, 2))
PRECISIONS = {"32": ("32-true", False), "tf32": ("32-true", True), "bf16-mixed": ("bf16-mixed", True)}
LAYOUTS = {
    "plain": ("channels_last=false",),
    "channels last": ("channels_last=true",),
    "channels last, compiled": ("channels_last=true", "compile=true"),
}


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def speed(shape: tuple[int, int, int], precision: str, layout: tuple[str, ...], device: str, steps: int) -> float:
    """Return images per second; `shape`: axes, size_px, images of a batch."""
    axes, size, batch = shape
    torch._dynamo.reset()
    module = module_of("model=resnet_gan", f"image.spatial_dims={axes}", f"data.size={size}", *layout)
    clock = Clock(steps, turns=5)
    batches = (torch.rand(2, batch, 1, *[size] * axes) * 2 - 1).to(device)
    lightning, fast = PRECISIONS[precision]
    with tempfile.TemporaryDirectory() as folder, tf32(fast):
        trainer = trainer_of(Path(folder), clock, precision=lightning, accelerator="gpu" if device == "cuda" else device, devices=1)
        trainer.fit(module, datamodule=Data(batches))
    return batch * steps / statistics.median(clock.seconds)


def table(shapes: tuple, layouts: dict[str, tuple[str, ...]], device: str, steps: int, minutes: float) -> Iterator[str]:
    """Yield the lines of the table as they are measured; compiled last, because it takes longest."""
    columns = [(precision, name) for name in layouts for precision in PRECISIONS]
    yield "| images/s | batch | " + " | ".join(f"{precision}, {name}" for precision, name in columns) + " |"
    yield "|---" * (len(columns) + 2) + "|"
    end = time.monotonic() + 60 * minutes
    for i, shape in enumerate(shapes, 1):
        row, share = [], time.monotonic() + (end - time.monotonic()) / (len(shapes) - i + 1)
        for precision, name in columns:
            row.append(f"{speed(shape, precision, layouts[name], device, steps):,.0f}" if time.monotonic() < share else "-")
        yield f"| {shape[1]}{'²³'[shape[0] - 2]} | {shape[2]} | " + " | ".join(row) + " |"


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    quiet_libraries()
    warnings.filterwarnings("ignore", message=".*no `val_dataloader`.*")
    minutes = float(given.get("minutes", 9))
    if given.get("smoke") == "true":
        lines = table(TINY, {"plain": LAYOUTS["plain"]}, "cpu", 1, minutes)
    elif torch.cuda.is_available():
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, `python -m benchmarks.devices`:\n")
        lines = table(SIZES, LAYOUTS, "cuda", 10, minutes)
    else:
        print("no CUDA device here: nothing to measure; smoke=true runs the code on the CPU")
        return
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
