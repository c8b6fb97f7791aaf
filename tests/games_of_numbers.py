"""A data module of numbers for the tests of the module: tiny images, any size, no files."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from medgan_pl.core.batch import Batch
from medgan_pl.data.files.covariates import Covariates
from medgan_pl.data.intensity import Inverse


class Numbers(IterableDataset):
    """Endless batches; image i is keyed by i alone, so a stream can start anywhere."""

    def __init__(
        self, batch_size: int, shape: tuple[int, ...], start: int = 0, stop: int | None = None, rank: int = 0, world: int = 1
    ) -> None:
        self.batch_size, self.shape, self.start, self.stop, self.rank, self.world = batch_size, shape, start, stop, rank, world

    def __iter__(self) -> Iterator[Batch]:
        first = self.start
        while self.stop is None or first < self.stop:
            rows = range(first + self.rank * self.batch_size, first + (self.rank + 1) * self.batch_size)
            yield {"image": torch.stack([self.image(i) for i in rows]), "label": torch.tensor([i % 2 for i in rows])}
            first += self.batch_size * self.world

    def image(self, i: int) -> Tensor:
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(i % 64)).tanh()


class NumbersData(pl.LightningDataModule):
    classes = ("even", "odd")
    phantom = True
    marks_holes = False
    fingerprint = "numbers"
    inverse = Inverse(((-1.0, 1.0),), "numbers", "CR", None, None)
    inverses: ClassVar[dict[str, Inverse]] = {}
    pipelines: ClassVar[dict[str, Any]] = {}
    covariates = Covariates()
    covariate_names: tuple[str, ...] = ()

    def __init__(self, batch_size: int = 4, shape: tuple[int, ...] = (1, 16, 16)) -> None:
        super().__init__()
        self.batch_size, self.shape = batch_size, shape

    def check_model(self, config: dict) -> None:
        """Any model that takes the shape will do."""

    def describe(self) -> list[str]:
        return ["numbers"]

    def use_covariates(self, covariates: Covariates) -> None:
        covariates.check_levels(self.covariates)

    def sizes(self) -> dict[str, int]:
        return {"train": 64, "val": 16, "test": 0}

    def peek(self, split: str, n: int) -> Batch:
        size = self.sizes()[split]
        rows = torch.linspace(0, size - 1, min(n, size)).long().tolist()
        numbers = Numbers(len(rows), self.shape)
        return {"image": torch.stack([numbers.image(i) for i in rows]), "label": torch.tensor([i % 2 for i in rows])}

    def train_dataloader(self) -> DataLoader:
        start = self.trainer.lightning_module.stream_position()
        numbers = Numbers(self.batch_size, self.shape, start, None, self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(numbers, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(Numbers(8, self.shape, 0, 16), batch_size=None)
