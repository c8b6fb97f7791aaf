"""Images per second of the loader, beside the training step that waits for it: `python -m benchmarks.data [size=64] [batches=200]`.

Films of the embedded cohort (prepared once, into the user's cache), gathered as a training run gathers them: no workers, whole batches
from the memory-mapped cache; then the same with augmentation, with two worker processes, and the step of the default model. Turns of all
four are interleaved in one process; medians are shown.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from medgan_pl.batch import Batch
from medgan_pl.console import configuration_folder
from medgan_pl.data.randomize import Randomize
from medgan_pl.networks.layers import frozen
from medgan_pl.train import build_module

ROUNDS = 7


def stepper(config: dict) -> Callable[[Batch], None]:
    """A bare step of the configured game: D, then G through the frozen D; nothing logged or averaged, so rather too fast than too slow."""
    module = build_module(config)
    optimizer_g, optimizer_d = module.configure_optimizers()

    def step(batch: Batch) -> None:
        drawn = module.game.draw({"image": batch["image"]})
        fake = module.game.generate(module.generator, drawn)
        module.game.discriminator_losses(module.discriminator, drawn, fake.detach(), 1).total.backward()
        optimizer_d.step()
        optimizer_d.zero_grad()
        with frozen(module.discriminator):
            module.game.generator_losses(module.discriminator, drawn, fake).total.backward()
        optimizer_g.step()
        optimizer_g.zero_grad()

    return step


def seconds(work: Callable[[Batch], object], batches: Iterator[Batch], count: int) -> float:
    start = time.perf_counter()
    for batch in islice(batches, count):
        work(batch)
    return time.perf_counter() - start


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    size, count = int(given.get("size", 64)), int(given.get("batches", 200))
    torch.set_flush_denormal(True)
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        overrides = [f"data.size={size}", "run_dir=unused"]
        config = OmegaConf.to_container(compose("config", overrides=overrides), resolve=True)
    streams = {}
    for workers in (0, 2):
        data = instantiate({**config["data"], "workers": workers}, _convert_="all")
        data.prepare_data()
        data.setup("fit")
        streams[workers] = iter(data.train_dataloader())
    augment = Randomize(scale=0.1, rotate_deg=5.0, shift=0.05, noise=0.02)
    step, batch_size = stepper(config), config["data"]["batch_size"]
    ways = {
        "loader, no workers": (lambda batch: None, streams[0], count),
        "loader, no workers, augmented": (lambda batch: augment(batch["image"]), streams[0], max(1, count // 10)),
        "loader, 2 workers": (lambda batch: None, streams[2], count),
        "training step": (step, streams[0], max(1, count // 40)),
    }
    speeds = {name: [] for name in ways}
    for _ in range(ROUNDS + 1):  # the first warms up
        for name, (work, stream, number) in ways.items():
            speeds[name].append(number * batch_size / seconds(work, stream, number))
    for name, values in speeds.items():
        middle = statistics.median(values[1:])
        print(f"{name:<30} {middle:12,.0f} images/s   {middle / statistics.median(speeds['training step'][1:]):10,.1f} x the training step")


if __name__ == "__main__":
    main()
