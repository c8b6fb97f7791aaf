"""The loaders that all our datamodules share: whole batches of one table, in an order that resumes bit-equal."""

import signal
from abc import ABC, abstractmethod
from contextlib import nullcontext

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Sampler

from medgan_pl.core.batch import Batch
from medgan_pl.core.keys import Purpose, keyed_generator
from medgan_pl.data.image_table import Batches, BatchTable
from medgan_pl.data.protocol import KeyReader, StreamReader
from medgan_pl.data.stream import InOrder, shares


def ignore_signals(worker: int) -> None:
    """Make a worker ignore the signals that the run handles: a dead worker would lose the batch that the run must finish before saving."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_IGN)


class StreamedDataModule(pl.LightningDataModule, ABC):
    """Data whose elements are rows of one table (`images`), each in one split. After `setup`, `rows` maps a split to its rows.

    It works with any LightningModule. A StreamReader (protocol.py) gets an endless training loader that begins where the module stopped;
    any other module gets a finite loader, shuffled by (seed, epoch). Each rank gets its own part without Lightning's sampler.

    - `batch_size`: elements of a batch on one device. `workers`: processes that load batches; 0 loads in the training process.
    - `seed`: key of the order and of all random numbers.
    """

    def __init__(self, *, batch_size: int, workers: int, seed: int) -> None:
        super().__init__()
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.rows: dict[str, np.ndarray] = {}

    @property
    @abstractmethod
    def images(self) -> BatchTable:
        """Return the table whose rows are the elements."""

    @abstractmethod
    def stream(self, rank: int, world: int, start: int) -> Sampler:
        """Return the endless order of the training split after `start` elements of all ranks."""

    @abstractmethod
    def epochs(self, rank: int, world: int) -> Sampler:
        """Return the finite order of the training split; its `set_epoch` chooses the epoch."""

    def randomized(self, batch: Batch) -> Batch:
        """Return the training batch with random augmentation, by torch's global generator. Here: unchanged."""
        return batch

    def degraded(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the training batch with its sources, by numbers of the generator. Here: unchanged."""
        return batch

    def prepare_data(self) -> None:
        """Fill the cache. Raises as `setup` does, so that a run on unusable data stops here."""
        self.setup()

    def sizes(self) -> dict[str, int]:
        """Return the number of elements in each split."""
        return {split: len(rows) for split, rows in self.rows.items()}

    def peek(self, split: str, n: int) -> Batch:
        """Return at most `n` elements of a split, evenly spaced and the same at each call, on the CPU."""
        self.setup()
        size = len(self.rows[split])
        return self.batch(self.rows[split], np.linspace(0, size - 1, min(n, size)).astype(int))

    def batch(self, rows: np.ndarray, places: np.ndarray) -> Batch:
        """Return the elements at `places` of `rows` of the table, as in a held-out loader, on the CPU."""
        return Batches(self.images, rows, degraded=True)[places]

    def place(self) -> tuple[int, int]:
        """Return (rank, world)."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def loader(self, split: str, batches: Sampler) -> DataLoader:
        """Return the loader of a split in that order. Training batches have no `inside` if the module says that it does not read it."""
        module = self.trainer.lightning_module if split == "train" and self.trainer else None
        unread = isinstance(module, KeyReader) and "inside" not in module.reads
        return DataLoader(
            Batches(
                self.images.without_inside() if unread else self.images, self.rows[split], degraded=split != "train"
            ),  # training sources are made on the device, in batches
            batch_size=None,
            sampler=batches,
            num_workers=self.workers,
            worker_init_fn=ignore_signals,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # otherwise a new loader draws from the global one
        )

    def train_dataloader(self) -> DataLoader:
        """Return an endless loader that continues after the elements that a StreamReader has seen, or a finite one for other modules."""
        self.setup()
        module = self.trainer.lightning_module if self.trainer else None
        if isinstance(module, StreamReader):
            return self.endless_loader(module.stream_position())
        return self.loader("train", self.epochs(*self.place()))

    def endless_loader(self, start: int = 0) -> DataLoader:
        """Return the endless training loader after `start` elements of all ranks."""
        self.setup()
        return self.loader("train", self.stream(*self.place(), start))

    def val_dataloader(self) -> DataLoader:
        return self.held_out_loader("val")

    def test_dataloader(self) -> DataLoader:
        return self.held_out_loader("test")

    def held_out_loader(self, split: str) -> DataLoader:
        """Return the loader that shows each element of a split once, in order."""
        self.setup()
        return self.loader(split, InOrder(self.in_order(split), *self.place()))

    def in_order(self, split: str) -> list[list[int]]:
        """Return the batches of this rank: each element of a held-out split once over all ranks. Raise ValueError for too few elements."""
        self.setup()
        rank, world = self.place()
        if not len(self.rows[split]):
            raise ValueError(f"no image is in the {split} split ({self.sizes()}); raise its part of data.fractions, or give it a folder")
        if len(self.rows[split]) < world:
            raise ValueError(
                f"the {split} split must hold an image for each of {world} devices, got {len(self.rows[split])}; raise data.fractions"
            )
        return shares(len(self.rows[split]), self.batch_size, rank, world)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment a training batch on its device and make its sources, by numbers keyed by the position in the training."""
        if not (self.trainer and self.trainer.training):
            return batch
        rank, module, device = self.trainer.global_rank, self.trainer.lightning_module, next(iter(batch.values())).device
        streamed = isinstance(module, StreamReader)  # it seeds its random numbers in each step; those of other modules are not changed
        position = module.stream_position() if streamed else self.trainer.fit_loop.total_batch_idx + 1
        with nullcontext() if streamed else torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(keyed_generator(self.seed, rank, position, Purpose.AUGMENT).initial_seed())
            batch = self.randomized(batch)
        return self.degraded(batch, keyed_generator(self.seed, rank, position, Purpose.DEGRADE, device))
