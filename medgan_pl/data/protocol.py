"""The protocol of data: training, evaluation and the commands use only this of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from medgan_pl.core.batch import Batch
from medgan_pl.data.files.covariates import Covariates
from medgan_pl.data.intensity import Inverse
from medgan_pl.data.prepare.pipelines import Pipeline


@runtime_checkable
class StreamReader(Protocol):
    """A LightningModule that reads one endless stream of training batches.

    The data give such a module an endless loader that begins where the module stopped, so that a resumed run has exactly the batches of an
    uninterrupted one. Any other module gets a finite loader for each epoch.
    """

    def stream_position(self) -> int:
        """Return the number of elements that all ranks together have seen."""


@runtime_checkable
class KeyReader(Protocol):
    """A LightningModule that says which keys of a training batch it reads; `inside`, which is slow to read, is left out for others."""

    @property
    def reads(self) -> frozenset[str]:
        """The keys of a training batch that the losses use."""


@runtime_checkable
class Data(Protocol):
    """A LightningDataModule from which a model can be trained. It need not hold images.

    A batch is a dict of tensors (core/batch.py), all of the same length. The data decide its keys; a game declares which keys it reads.

    - `batch_size`: elements of a training batch on one device.
    - `classes`: the names of the labels by number, empty without labels. `phantom`: True if the data are simulated.
    - `covariate_names`: the columns that each batch has under `covariates`. `covariates`: their facts, measured on the training split.
    - `inverse`: the map from [-1, 1] to native units and space, None for data that are not images. `inverses`: the same by the name of the
      domain, empty for data of one domain. `pipelines`: the map from a scan to an image by the name of the domain, or under "" for data of
      one domain; empty for data that are not images.
    - `marks_holes`: True if the source of each image is that image, except where its last channel marks a hole.
    - `fingerprint`: equal for equal data, classes and splits in any folder. A resumed run needs the same fingerprint.

    `classes`, `phantom`, `covariate_names` and `marks_holes` are known at once, the rest after `setup`.
    """

    batch_size: int
    classes: Sequence[str]
    phantom: bool
    covariate_names: Sequence[str]
    covariates: Covariates
    inverse: Inverse | None
    inverses: Mapping[str, Inverse]
    pipelines: Mapping[str, Pipeline]
    marks_holes: bool
    fingerprint: str

    def prepare_data(self) -> None:
        """Read and prepare everything, in one process. Raise ValueError for data that cannot be used."""

    def setup(self, stage: str | None = None) -> None:
        """Open what is prepared and split it, in each process. A second call does nothing."""

    def check_model(self, config: Mapping[str, Any]) -> None:
        """Raise ValueError, naming the key, if a model of this resolved configuration does not fit these data. It needs no `setup`."""

    def describe(self) -> list[str]:
        """Return plain lines about the data, for the log. None of them identifies a patient."""

    def sizes(self) -> dict[str, int]:
        """Return the number of elements in each split: train, val, test."""

    def peek(self, split: str, n: int) -> Batch:
        """Return at most `n` elements of a split as one batch on the CPU: evenly spaced, and the same at each call."""

    def use_covariates(self, covariates: Covariates) -> None:
        """Standardize the covariates by a trained model's scale. Raise ValueError if the columns differ."""

    def train_dataloader(self) -> Iterable[Batch]:
        """Return the training batches: endless for a StreamReader, else each element once an epoch, shuffled by (seed, epoch)."""

    def val_dataloader(self) -> Iterable[Batch]:
        """Return each element of the validation split once, in order."""
