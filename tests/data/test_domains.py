"""Several data sets as domains of one: balanced batches, each domain by its own rules, one table of all."""

from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.domain_table import Streams
from medgan_pl.data.domains import DomainsDataModule
from medgan_pl.data.intensity import Percentiles, Window
from medgan_pl.data.modalities import CT, MRI, HeadCT
from medgan_pl.data.sets import held_out, real_set
from medgan_pl.data.stream import Stream
from medgan_pl.train.checks import check_data

SHARED = {"size": 16, "cache": {"dir": "cache"}, "laterality": False}


@pytest.fixture(scope="module", autouse=True)
def _one_cache(tmp_path_factory):
    """The scans are the same in every test: they are prepared once."""
    SHARED["cache"]["dir"] = str(tmp_path_factory.mktemp("cache"))


def ct(patients=8, **options):
    settings = {"modality": CT(), "intensity": Window(windows_hu=[[-1000, 400]]), "cohort": {"patients": patients, "shape": [8, 16, 16]}}
    return ImageDataModule(**SHARED | settings | {"fractions": [0.5, 0.25, 0.25]} | options)


def mr(patients=12, **options):
    return ct(patients, **{"modality": MRI(), "intensity": Percentiles()} | options)


def domains(batch_size=4, **options):
    settings = {"domains": {"mr": mr(), "ct": ct()}, "size": 16, "batch_size": batch_size}
    data = DomainsDataModule(**settings | options)
    data.prepare_data()
    return data


def test_batches_hold_as_many_of_each_domain_in_turn():
    data = domains()
    for batch in islice(data.endless_loader(), 12):
        assert sorted(batch) == ["image", "label", "record"]
        assert batch["label"].tolist() == [0, 1, 0, 1]
        assert batch["image"].shape == (4, 1, 16, 16)
        assert batch["image"].abs().max() <= 1
        for row, label in zip(batch["record"].tolist(), batch["label"].tolist(), strict=True):
            record = data.records[row]
            assert (record.split, record.label) == ("train", data.classes[label])
            assert record.name.startswith(f"{data.classes[label]}/")
    with pytest.raises(ValueError, match=r"multiple of the 2 domains, got 5; use 4"):
        domains(batch_size=5)


def test_an_image_is_what_its_own_domain_says_it_is():
    data = domains()
    batch = data.batch(data.rows["test"], np.array([len(data.rows["test"]) - 1, 0, 1]))  # in another order than the table's
    assert batch["label"].tolist() == [1, 0, 0]
    own = [data.domains[name] for name in ("mr", "ct")]
    last, first = own[1].batch(own[1].rows["test"], np.array([-1])), own[0].batch(own[0].rows["test"], np.arange(2))
    assert torch.equal(batch["image"], torch.cat([last["image"], first["image"]]))
    assert batch["record"].tolist() == [len(own[0].records) + int(last["record"]), *first["record"].tolist()]


def test_each_domain_is_shown_by_its_own_stream():
    lengths, batch = [5, 9], 4
    shown = list(islice(Streams(lengths, batch, 7), 20))
    for domain, (length, first) in enumerate(zip(lengths, (0, 5), strict=True)):
        turns = [turn for turns in shown for turn in turns[domain::2]]
        alone = [turn for turns in islice(Stream(length, batch // 2, 7 + domain), 20) for turn in turns]
        assert [turn % 14 for turn in turns] == [first + turn % length for turn in alone]
        assert [turn // 14 for turn in turns] == [turn // length for turn in alone]
    assert list(islice(Streams(lengths, batch, 7, start=5 * batch), 15)) == shown[5:]
    ranks = [list(islice(Streams(lengths, batch, 7, rank, 2), 10)) for rank in range(2)]
    assert sorted(ranks[0][0] + ranks[1][0]) == sorted(shown[0] + shown[1])
    same = [turns for turns in islice(Streams([6, 6], 12, 0), 3)]
    assert all([turn % 12 for turn in turns[::2]] != [turn % 12 - 6 for turn in turns[1::2]] for turns in same)  # pairs do not meet


def test_held_out_splits_show_the_domains_in_turn():
    data = domains()
    sizes = {name: domain.sizes() for name, domain in data.domains.items()}
    assert data.sizes() == {split: sizes["mr"][split] + sizes["ct"][split] for split in ("train", "val", "test")}
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        batches = list(loader)
        labels, both = torch.cat([batch["label"] for batch in batches]).tolist(), min(sizes["mr"][split], sizes["ct"][split])
        assert labels[: 2 * both] == [0, 1] * both
        assert len(labels) == sizes["mr"][split] + sizes["ct"][split]
        records = [int(record) for batch in batches for record in batch["record"]]
        assert len(records) == len(labels)
    assert set(data.peek("val", 6)["label"].tolist()) == {0, 1}


def test_a_head_of_the_cohort_is_on_one_side_in_every_modality():
    data = domains(domains={"mr": mr(), "ct": ct(12, modality=HeadCT()), "t2": mr(modality=MRI(tr_ms=4000, te_ms=100))}, batch_size=3)
    data.setup()
    sides = [{record.patient: record.split for record in domain.records} for domain in data.domains.values()]
    assert sides[0] == sides[1] == sides[2]
    assert len(sides[0]) == 12


def test_what_a_run_and_a_judgement_read():
    data = domains()
    model = {"model": {"classes": 0}, "image": {"spatial_dims": 2}, "game": {"_target_": "medgan_pl.models.games.cycle.Cycle"}}
    check_data(model, data)
    assert data.phantom
    assert data.classes == ("mr", "ct")
    assert data.inverses["mr"].modality == "MR"
    assert data.inverse == data.inverses["ct"]
    assert data.inverse.plain()["unit"] == "HU"
    assert data.covariates.plain() == []
    assert "simulated" in data.source.title
    lines = data.describe()
    assert lines[0].startswith("mr: the embedded cohort")
    assert any(line.startswith("ct: train: ") for line in lines)
    assert "split by itself" not in lines[-1]  # which matters for files alone
    assert data.fingerprint == domains().fingerprint
    assert data.fingerprint != domains(domains={"mr": mr(), "ct": ct(split_seed=1)}).fingerprint
    reference, floor, note = held_out(data)
    reals = real_set(data, reference)
    assert (len(reals), note) == (len(data.rows["test"]), "")
    assert torch.equal(reals[torch.arange(3)], data.batch(reference, np.arange(3))["image"])
    assert reals.key != real_set(data, floor).key
    assert reals.labels.tolist() == data.batch(reference, np.arange(len(reference)))["label"].tolist()


class Reader:
    """A StreamReader at the beginning of its stream."""

    def stream_position(self):
        return 0


def test_each_domain_is_augmented_by_its_own_rules():
    data = domains(domains={"mr": mr(augment={"flip": True}), "ct": ct()})
    data.trainer = SimpleNamespace(training=True, global_rank=0, lightning_module=Reader())
    image = torch.randn(400, 1, 16, 16)
    moved = data.on_after_batch_transfer({"image": image}, 0)["image"]
    data.trainer = None
    flipped = (moved == image.flip(-1)).flatten(1).all(1)
    same = (moved == image).flatten(1).all(1)
    assert (flipped | same).all()
    assert same[1::2].all()
    assert 60 < flipped[::2].sum() < 140


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"domains": {"ct": {}}}, "at least two domains"),
        ({"domains": {"mr": {}, "ct": {"size": 8}}}, r"all domains .* got \(2, \(8, 8\), 1\) in ct"),
        ({"domains": {"mr": {}, "ct": {"covariates": ["age"]}}}, "a domain must have only images"),
        ({"size": 32}, r"all domains must have the .* of data, \(2, \(32, 32\), 1\)"),
    ],
)
def test_errors(options, error):
    if "domains" in options:
        options = {"domains": {name: {"mr": mr, "ct": ct}[name](**own) for name, own in options["domains"].items()}}
    with pytest.raises(ValueError, match=error):
        domains(**options)
