"""The data module: sources, splits, the endless stream, and what the trainer gets."""

import logging
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from dicom_files import write_film
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


def folders(root):
    for split, n in (("train", 12), ("val", 6), ("test", 3)):
        write_films(root, n, split=split)
    return root


def test_folders_split_reports_its_overlap(tmp_path):
    data = module(folders(tmp_path / "films"), split="folders")
    lines = "\n".join(data.describe())
    assert data.sizes() == {"train": 12, "val": 6, "test": 3}
    assert "2 of 4 patient groups are in more than one split; results on val and test will be too good" in lines
    assert "val: 6 images of 2 patients (ill 3, well 3)" in lines
    anew = module(tmp_path / "films", fractions=[0.4, 0.3, 0.3])
    assert "0 of 4 patient groups are in more than one split" in "\n".join(anew.describe())
    unused = "the splits that came with the data are not used; data.split=folders keeps them"
    assert (unused in anew.describe(), unused in data.describe()) == (True, False)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_an_image_on_two_sides_is_refused_or_its_copy_dropped(tmp_path, suffix):
    """Also where the files differ and only the pixels are the same."""
    root = folders(tmp_path / "films")
    with Image.open(root / "train/ill/person0_0.png") as film:
        film.save(root / f"val/ill/copy.{suffix}")
    with pytest.raises(
        ValueError, match=rf"no image may be in two splits, got 1 identical ones: .*person0_0.png \(train\).*copy.{suffix} \(val\)"
    ):
        module(root, split="folders")
    data = module(root, split="folders", duplicates="drop")
    lines = "\n".join(data.describe())
    assert data.sizes() == {"train": 11, "val": 7, "test": 3}
    assert "1 duplicates of held-out images are left out" in lines
    assert "1 name no patient" in lines
    assert not {r.pixels for r in data.records if r.split == "train"} & {r.pixels for r in data.records if r.split != "train"}
    anew = module(root, fractions=[0.4, 0.3, 0.3])
    lines = "\n".join(anew.describe())
    assert "1 groups of identical images (2 in all), 0 in more than one split" in lines
    assert sum(anew.sizes().values()) == 22


def test_without_a_split_all_is_for_training_and_said_so(tmp_path):
    data = module(write_films(tmp_path / "films"), split="none")
    assert data.sizes() == {"train": 30, "val": 30, "test": 0}
    assert any("holds nothing out" in line for line in data.describe())


def test_synthetic_films_are_warned_about(tmp_path):
    root = tmp_path / "films"
    root.mkdir()
    for i in range(30):
        made = {"ImageType": ["DERIVED", "SYNTHETIC"]} if i < 2 else {}
        write_film(root / f"{i}.dcm", np.random.default_rng(i).integers(0, 4000, (20, 20), np.uint16), patient_id=f"P{i}", **made)
    assert any("WARNING: 2 of 30 are synthetic" in line for line in module(root).describe())


def test_a_csv_root(tmp_path):
    write_films(tmp_path / "f", 12, classes=())
    rows = [f"f/{p.name},{'ab'[i % 2]},q{i},{'train' if i < 8 else 'val'}" for i, p in enumerate(sorted((tmp_path / "f").iterdir()))]
    (tmp_path / "t.csv").write_text("\n".join(["image,label,patient,split", *rows]))
    data = module(tmp_path / "t.csv", split="folders")
    assert data.sizes() == {"train": 8, "val": 4, "test": 0}
    assert data.classes == ("a", "b")
    with pytest.raises(ValueError, match="no image is in the test split"):
        data.test_dataloader()


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


def test_unlabelled_films_have_no_labels(tmp_path):
    root = write_films(tmp_path / "films", classes=())
    data = module(root)
    assert data.classes == ()
    assert sorted(next(iter(data.train_dataloader()))) == ["image", "record"]


def test_corrupt_films_among_good_ones(tmp_path, caplog):
    root = write_films(tmp_path / "films", 60)
    (root / "ill/person0_0.png").write_bytes(b"broken")
    Image.fromarray(np.full((20, 20), 9, np.uint8)).save(root / "well/person0_1.png")
    with pytest.raises(
        ValueError,
        match=r"at most 1 % .* 2 of 60 that cannot be used \(3.3 %\).*person0_0.png: not a PNG.*person0_1.png: .* got 9 everywhere",
    ):
        module(root)
    with caplog.at_level(logging.WARNING):
        data = module(root, max_corrupt=0.05)
    assert "continuing without 2 of 60 that cannot be used" in caplog.text
    assert "ill/person0_0.png: not a PNG" in caplog.text
    assert sum(data.sizes().values()) == 58
    assert "2 cannot be used and are left out" in data.describe()


def test_the_dicom_patient_is_used_and_never_kept(tmp_path, caplog):
    caplog.set_level(0)
    root = tmp_path / "films"
    root.mkdir()
    for i in range(30):
        stored = np.random.default_rng(i).integers(0, 4000, (20, 20), np.uint16)
        write_film(root / f"{i}.dcm", stored, patient_id=f"SECRET-{i // 3}")
    (root / "30.dcm").write_bytes((root / "0.dcm").read_bytes()[:-100])
    data = module(root, max_corrupt=0.1)
    assert len({record.patient for record in data.records}) == 10
    told = caplog.text + "\n".join(data.describe()) + repr(data.records) + repr(vars(data.source))
    kept = b"".join(path.read_bytes() for path in Path("cache").rglob("*") if path.is_file())
    assert "30.dcm" in told
    assert "SECRET" not in told
    assert "Doe" not in told
    assert b"SECRET" not in kept


def test_films_named_by_their_uid_are_read_as_dicom(tmp_path):
    root = tmp_path / "films"
    root.mkdir()
    for i in range(30):
        write_film(root / f"1.2.840.113.{i}", np.random.default_rng(i).integers(0, 4000, (20, 20), np.uint16), patient_id=f"P{i // 3}")
    (root / "notes.5").write_text("no film")
    data = module(root)
    assert len(data.records) == 30
    assert data.source.nameless == 0
    assert len({record.patient for record in data.records}) == 10
    assert "left out: 1 .5" in data.describe()[0]


def test_too_few_patients_and_enlarged_films(tmp_path):
    root = write_films(tmp_path / "films", 6)
    with pytest.raises(ValueError, match="2 patients are too few for a val and a test split"):
        module(root)
    data = module(write_films(tmp_path / "more"), size=[32, 24])
    assert next(iter(data.train_dataloader()))["image"].shape == (4, 1, 32, 24)
    assert "30 are smaller than 32×24 and were enlarged" in data.describe()
