"""The datamodules serve any LightningModule: finite epochs by themselves, the endless stream for a module that reads one."""

import pytest
import pytorch_lightning as pl
import torch
from games_of_numbers import NumbersData
from torch.utils.data.distributed import DistributedSampler

from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.domains import DomainsDataModule
from medgan_pl.data.intensity import Percentiles
from medgan_pl.data.modalities import XRay
from medgan_pl.data.protocol import Data, StreamReader
from medgan_pl.models.module import AdversarialModule


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The folder of prepared images: those of the cohorts are the same in every test."""
    return tmp_path_factory.mktemp("cache")


def films(folder, **more):
    common = {"modality": XRay(), "intensity": Percentiles(), "size": 16, "batch_size": 8, "cache": {"dir": str(folder)}}
    return ImageDataModule(**{**common, "cohort": {"patients": 30, "shape": [16, 16]}, **more})


def domains(folder):
    each = {name: films(folder, cohort={"patients": n, "shape": [16, 16]}) for name, n in (("a", 30), ("b", 40))}
    return DomainsDataModule(domains=each, size=16, batch_size=8)


class Plain(pl.LightningModule):
    """A module that knows nothing of us."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(256, 1)
        self.shown, self.images, self.drawn, self.held_out = [[]], [], [], []

    def training_step(self, batch, _):
        self.shown[-1] += batch["record"].tolist()
        self.images.append(batch["image"])
        self.drawn.append(float(torch.rand(1)))
        return self.layer(batch["image"].flatten(1)).mean()

    def on_train_epoch_end(self):
        self.shown.append([])

    def validation_step(self, batch, _):
        self.held_out += batch["record"].tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


def fitted(data, folder, **options):
    pl.seed_everything(0)
    module = Plain()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    pl.Trainer(accelerator="cpu", devices=1, default_root_dir=folder, num_sanity_val_steps=0, **quiet, **options).fit(module, data)
    return module


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*")
def test_a_plain_module_sees_each_training_image_once_an_epoch(tmp_path, cache):
    data = films(cache, augment={"shift": 0.3}, workers=0)
    module = fitted(data, tmp_path, max_epochs=2)
    train, val = (sorted(data.image_records[data.rows[split]].tolist()) for split in ("train", "val"))
    first, second, _ = module.shown
    assert sorted(first) == sorted(second) == train
    assert first != second
    assert module.held_out == val * 2
    again = fitted(films(cache, augment={"shift": 0.3}), tmp_path, max_epochs=2)
    assert again.shown == module.shown  # keyed by (seed, epoch)
    assert all(torch.equal(a, b) for a, b in zip(again.images, module.images, strict=True))  # and so is the augmentation
    assert fitted(films(cache, seed=1), tmp_path, max_epochs=1).shown[0] != first
    place = {record: i for i, record in enumerate(first)}
    one, other = torch.cat(module.images)[place[train[0]]], torch.cat(module.images)[len(first) + second.index(train[0])]
    assert not torch.equal(one, other)  # augmented anew in each epoch
    bare = fitted(films(cache), tmp_path, max_epochs=2)
    assert bare.drawn == module.drawn  # the augmentation leaves the module's own random numbers alone
    assert len(set(module.drawn)) == len(module.drawn)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*")
def test_domains_serve_a_plain_module_too(tmp_path, cache):
    data = domains(cache)
    module = fitted(data, tmp_path, max_epochs=2, limit_train_batches=1.0, limit_val_batches=1)
    largest = set(data.image_records[data.rows["train"]].tolist()) - set(range(int(data.records_from[1])))
    for shown in module.shown[:2]:
        assert largest <= set(shown)
        assert len(shown) == 2 * len(largest)
    assert module.shown[0] != module.shown[1]


def test_lightning_leaves_the_orders_as_they_are(cache):
    """Under DDP, Lightning replaces every sampler that is no DistributedSampler, and each rank would see other images."""
    for data in (films(cache), domains(cache)):
        for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
            assert isinstance(loader.sampler, DistributedSampler)
            assert len(list(loader)) == len(loader)


def test_what_serves_as_data_keeps_the_protocol(cache):
    for data in (films(cache), domains(cache), NumbersData()):
        assert isinstance(data, Data)
        data.setup("fit")
        batch = data.peek("train", 3)
        assert {len(values) for values in batch.values()} == {3}
        assert set(data.sizes()) == {"train", "val", "test"}
        assert data.fingerprint
    assert not isinstance(pl.LightningDataModule(), Data)
    assert issubclass(AdversarialModule, StreamReader)
    assert not isinstance(Plain(), StreamReader)


def test_the_data_check_the_model(cache):
    model = {"source_channels": 1, "factor": 2}
    for data in (films(cache), domains(cache)):
        data.check_model({"model": {}, "image": {"spatial_dims": 2}})
        with pytest.raises(ValueError, match=r"`image.spatial_dims` must be that of the data, got 3; these images have 2"):
            data.check_model({"model": {}, "image": {"spatial_dims": 3}})
        with pytest.raises(ValueError, match=r"`model.factor` must be that of the data, got 2, .* use model.factor=1"):
            data.check_model({"model": model, "image": {"spatial_dims": 2}})
