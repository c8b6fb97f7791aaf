"""The data module: sources, splits, the endless stream, and what the trainer gets."""

from itertools import islice

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.intensity import Percentiles
from medgan_pl.data.modalities import XRay
from medgan_pl.data.phantom import draw_patient
from medgan_pl.data.readers.scan import Scan

SMALL = {"size": 16, "batch_size": 4, "cache": {"dir": "cache"}}


def films(**options):
    """The data module of films, as conf/data/chest_xray.yaml makes it."""
    return ImageDataModule(**{"modality": XRay(), "intensity": Percentiles(), "patient_pattern": r"person\d+", **SMALL, **options})


def write_films(root, n=30, per_patient=3, classes=("ill", "well"), split=""):
    for i in range(n):
        path = root / split / (classes[i % len(classes)] if classes else "") / f"person{i // per_patient}_{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng([i, len(split)]).integers(0, 255, (20, 24), np.uint8)).save(path)
    return root


def module(root, **options):
    data = films(root=str(root), **options)
    data.prepare_data()
    data.setup()
    return data


def test_a_batch(tmp_path):
    data = module(write_films(tmp_path / "films"))
    batch = next(iter(data.train_dataloader()))
    assert sorted(batch) == ["image", "label", "record"]
    assert all(type(value) is torch.Tensor for value in batch.values())
    assert batch["image"].shape == (4, 1, 16, 16)
    assert batch["image"].dtype == torch.float32
    assert batch["image"].abs().max() <= 1
    assert batch["label"].dtype == batch["record"].dtype == torch.int64
    for row, label, image in zip(batch["record"], batch["label"], batch["image"], strict=True):
        record = data.records[row]
        assert record.split == "train"
        assert data.classes[label] == record.label
        stored = Scan(np.asarray(Image.open(record.paths[0]), np.float32))
        assert (data.pipeline(stored).images[0] - image).abs().max() < 1.6e-5


def test_same_seed_same_batches_and_no_patient_on_two_sides(tmp_path):
    root = write_films(tmp_path / "films", 60)
    one, two, other = module(root), module(root), module(root, seed=1)

    def first(data):
        return torch.cat([batch["record"] for batch in islice(data.endless_loader(), 5)])

    assert torch.equal(first(one), first(two))
    assert not torch.equal(first(one), first(other))
    sides = {split: {one.records[row].patient for row in rows} for split, rows in one.rows.items()}
    assert not sides["train"] & sides["val"] | sides["train"] & sides["test"] | sides["val"] & sides["test"]
    assert [r.split for r in other.records] == [r.split for r in one.records]  # the run's seed leaves the split alone
    assert [r.split for r in module(root, split_seed=1).records] != [r.split for r in one.records]
    assert sum(one.sizes().values()) == 60


def test_held_out_films_come_once_in_order(tmp_path):
    data = module(write_films(tmp_path / "films", 60), fractions=[0.5, 0.3, 0.2])
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        records = torch.cat([batch["record"] for batch in loader])
        assert records.tolist() == data.rows[split].tolist()
    shares = []
    for rank in range(2):
        data.trainer = type("Trainer", (), {"global_rank": rank, "world_size": 2})()
        shares += torch.cat([batch["record"] for batch in data.val_dataloader()]).tolist()
    data.trainer = None
    assert sorted(shares) == data.rows["val"].tolist()


class Watcher(pl.LightningModule):
    """A StreamReader: counts images as the real module does, and keeps what it is shown."""

    def __init__(self, images=0):
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.images, self.seen, self.held_out = images, [], []

    def stream_position(self):
        return self.images

    def training_step(self, batch, _):
        self.images += len(batch["image"])
        self.seen.append(batch)

    def validation_step(self, batch, _):
        self.held_out.append(batch)

    def configure_optimizers(self):
        return None


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*configure_optimizers.*", "ignore:.*LeafSpec.*")
def test_lightning_takes_the_stream_as_it_is(tmp_path):
    data = module(write_films(tmp_path / "films"), augment={"noise": 0.1})
    plain = module(tmp_path / "films")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}

    def fit(watcher, steps):
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=-1, limit_train_batches=steps, val_check_interval=steps, num_sanity_val_steps=0, devices=1,
            check_val_every_n_epoch=None, use_distributed_sampler=False, default_root_dir=tmp_path, **quiet,
        )  # fmt: skip
        trainer.fit_loop.epoch_loop.max_steps = -1
        trainer.fit_loop.max_epochs = 1
        trainer.fit(watcher, datamodule=data)
        return watcher

    whole, tail = fit(Watcher(), 10), fit(Watcher(images=6 * 4), 4)
    assert [b["record"].tolist() for b in whole.seen[6:]] == [b["record"].tolist() for b in tail.seen]
    for batch, bare in zip(whole.seen, plain.endless_loader(), strict=False):
        assert torch.equal(batch["record"], bare["record"])
        assert 0.01 < (batch["image"] - bare["image"]).abs().mean() < 0.1  # augmented while training …
    for batch, bare in zip(whole.held_out, plain.val_dataloader(), strict=True):
        assert torch.equal(batch["image"], bare["image"])  # … and not while judging


def test_loading_in_processes_gives_the_same_batches(tmp_path):
    root = write_films(tmp_path / "films")
    here = [b["image"] for b in islice(module(root).endless_loader(), 6)]
    there = [b["image"] for b in islice(module(root, workers=1).endless_loader(), 6)]
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_the_embedded_cohort(tmp_path, caplog):
    data = films(cohort={"patients": 12})
    data.prepare_data()
    assert data.phantom
    assert data.describe()[0] == "the embedded cohort: 12 simulated patients, seed 0 (data.root is null; no real patient is in it)"
    assert data.classes == ("normal", "consolidation", "nodule", "effusion")
    assert sum(data.sizes().values()) == 12
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 1, 16, 16)
    index = int(data.records[batch["record"][0]].name[1:])
    assert batch["label"][0] == draw_patient(0, index).label


def test_too_few_patients_and_enlarged_films(tmp_path):
    root = write_films(tmp_path / "films", 6)
    with pytest.raises(ValueError, match="2 patients are too few for a val and a test split"):
        module(root)
    data = module(write_films(tmp_path / "more"), size=[32, 24])
    assert next(iter(data.train_dataloader()))["image"].shape == (4, 1, 32, 24)
    assert "30 are smaller than 32×24 and were enlarged" in data.describe()
