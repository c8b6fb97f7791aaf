"""Measure images per second of the module under Lightning against the best plain PyTorch loop and the usual tutorial loop.

`python -m benchmarks.train_step [models=dcgan,resnet_gan] [precision=32-true] [rounds=12] [steps=8]`

All three train the same networks, losses and batches (64², batch 32) in one process, alternating every few steps, so that other work on the
machine affects all alike; the median of the ratios of each turn is shown with its quartiles.
- tutorial: D on reals and on fakes with a backward each, G through an unfrozen D, losses read by `.item()` each step, plain Adam and SGD,
  an EMA generator updated by a Python loop (as in PyTorch's DCGAN tutorial, plus the EMA).
- plain: the fakes generated once and shared, the other player frozen, channels last, fused optimizers, a foreach EMA.
- module: `AdversarialModule` under `pytorch_lightning.Trainer` from the project's own configuration, logging to metrics.csv.
"""

import copy
import itertools
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from benchmarks.runs import Data, module_of, trainer_of
from medgan_pl.core.command import quiet_libraries
from medgan_pl.models.games.parts import Penalty
from medgan_pl.models.module import AdversarialModule
from medgan_pl.models.networks.layers import frozen, to_channels_last

Step = Callable[[Tensor], None]


def tutorial(g: nn.Module, d: nn.Module, latent: int, penalty: Penalty) -> Step:
    average = copy.deepcopy(g).requires_grad_(False)
    adam = torch.optim.Adam(g.parameters(), lr=2e-4, betas=(0.5, 0.999), foreach=False)
    sgd = torch.optim.SGD(d.parameters(), lr=0.02, momentum=0.5, foreach=False)
    shown = []

    def step(real: Tensor) -> None:
        fake = g(torch.randn(len(real), latent))
        d.zero_grad()
        loss_real = softplus(-d(real)).mean()
        loss_real.backward()
        loss_fake = softplus(d(fake.detach())).mean()
        loss_fake.backward()
        if penalty.due(len(shown)):
            penalty(d, real, fake).backward()
        sgd.step()
        g.zero_grad()
        loss = softplus(-d(fake)).mean()
        loss.backward()
        adam.step()
        with torch.no_grad():
            for own, new in zip(average.parameters(), g.parameters(), strict=True):
                own.lerp_(new, 0.001)
        shown.append((loss_real.item() + loss_fake.item(), loss.item()))

    return step


def plain(g: nn.Module, d: nn.Module, latent: int, penalty: Penalty, bf16: bool) -> Step:
    to_channels_last(g)
    to_channels_last(d)
    average = copy.deepcopy(g).requires_grad_(False)
    adam = torch.optim.Adam(g.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=True)
    sgd = torch.optim.SGD(d.parameters(), lr=0.02, momentum=0.5, fused=True)
    turns = itertools.count()

    def step(real: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            fake = g(torch.randn(len(real), latent))
            loss = softplus(-d(real).float()).mean() + softplus(d(fake.detach()).float()).mean()
        if penalty.due(next(turns)):
            loss = loss + penalty(d, real, fake)
        loss.backward()
        sgd.step()
        sgd.zero_grad()
        with frozen(d), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = softplus(-d(fake).float()).mean()
            loss.backward()
        adam.step()
        adam.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(g.parameters()), 0.001)

    return step


class Turns(pl.Callback):
    """Times `steps` steps under Lightning, then as many of each rival, in turns."""

    def __init__(self, rivals: dict[str, Step], batches: Tensor, steps: int, rounds: int) -> None:
        self.rivals, self.batches, self.steps, self.rounds = rivals, batches, steps, rounds
        self.seconds: dict[str, list[float]] = {name: [] for name in ("module", *rivals)}
        self.start = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, module: AdversarialModule, batch: dict, batch_idx: int) -> None:
        if batch_idx % self.steps:
            return
        if batch_idx:
            self.seconds["module"].append(time.perf_counter() - self.start)
            for name, step in self.rivals.items():
                start = time.perf_counter()
                for i in range(self.steps):
                    step(self.batches[i % len(self.batches)])
                self.seconds[name].append(time.perf_counter() - start)
        if batch_idx >= self.rounds * self.steps:
            trainer.should_stop = True
        self.start = time.perf_counter()


def measure(model: str, precision: str, rounds: int, steps: int) -> None:
    module = module_of(f"model={model}")
    latent, penalty = module.game.latent, module.game.penalty
    batches = torch.rand(8, 32, 1, 64, 64) * 2 - 1
    pair = (module.networks["g"], module.networks["d"])
    rivals = {
        "plain": plain(*(copy.deepcopy(net) for net in pair), latent, penalty, precision == "bf16-mixed"),
        "tutorial": tutorial(*(copy.deepcopy(net).to(memory_format=torch.contiguous_format) for net in pair), latent, penalty),
    }
    turns = Turns(rivals, batches, steps, rounds + 2)
    with tempfile.TemporaryDirectory() as folder:
        trainer_of(Path(folder), turns, precision=precision).fit(module, datamodule=Data(batches))
    seconds = {name: values[2:] for name, values in turns.seconds.items()}  # the first two rounds warm up
    images = {name: 32 * steps / statistics.median(values) for name, values in seconds.items()}
    print(f"{model} {precision}: " + ", ".join(f"{name} {value:.1f} images/s" for name, value in images.items()))
    for rival in rivals:
        ratios = [theirs / ours for ours, theirs in zip(seconds["module"], seconds[rival], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"  module / {rival}: {middle:.3f} (quartiles {low:.3f} to {high:.3f}, {len(ratios)} turns of {steps} steps)")


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    quiet_libraries()
    warnings.filterwarnings("ignore", message=".*no `val_dataloader`.*")
    torch.set_flush_denormal(True)
    for model in given.get("models", "dcgan,resnet_gan").split(","):
        measure(model, given.get("precision", "32-true"), int(given.get("rounds", 12)), int(given.get("steps", 8)))


if __name__ == "__main__":
    main()
