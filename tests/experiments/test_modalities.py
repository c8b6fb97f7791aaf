"""experiments/modalities: the tables hold what the metrics give by hand, and who was trained on a test head is refused."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import TINY, picture
from omegaconf import OmegaConf

from experiments.modalities import agreement
from experiments.modalities.compare import compare, task, way
from experiments.modalities.translators import composed, reaches, translated
from medgan_pl.data.build import open_data
from medgan_pl.data.companion import Companion
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.domain_truth import truth_in_last_domain, truth_unknown_because
from medgan_pl.data.domains import DomainsDataModule
from medgan_pl.data.intensity import Percentiles
from medgan_pl.data.modalities import CT, MRI
from medgan_pl.data.sets import ImageSet, real_set
from medgan_pl.metrics.paired import Paired
from medgan_pl.models.games.contrastive import Contrastive
from medgan_pl.models.games.cycle import Cycle
from medgan_pl.models.games.star import Star
from medgan_pl.models.losses.adversarial import LeastSquares
from medgan_pl.models.losses.penalties import NoPenalty

SHARED = {"laterality": False, "slices": {"part": [0.3, 0.9]}, "size": 16, "cache": {"dir": "cache"}, "fractions": [0.5, 0.25, 0.25]}
ECHOES = {"t1": {}, "t2": {"tr_ms": 4000, "te_ms": 100}}


@pytest.fixture(scope="module", autouse=True)
def _one_cache(tmp_path_factory) -> None:
    """The heads are the same in every test: they are prepared once."""
    SHARED["cache"]["dir"] = str(tmp_path_factory.mktemp("cache"))


def heads(name: str, **options) -> ImageDataModule:
    cohort = {"patients": 24, "shape": [12, 16, 16]}
    return ImageDataModule(**SHARED | {"modality": MRI(**ECHOES[name]), "intensity": Percentiles(), "cohort": cohort} | options)


def two(**options) -> DomainsDataModule:
    data = DomainsDataModule(domains={"t1": heads("t1"), "t2": heads("t2", **options)}, size=16, batch_size=4)
    data.setup()
    return data


def player(game, generate) -> SimpleNamespace:
    """A module with a generator that is known."""
    return SimpleNamespace(game=game, generate=generate, device=torch.device("cpu"))


PLAYED = {"objective": LeastSquares(), "penalty": NoPenalty()}


def star() -> Star:
    return Star(domains=2, latent=2, **PLAYED)


def test_which_ways_a_game_goes() -> None:
    games = {"star": star(), "cycle": Cycle(spatial_dims=2, channels=1, size=16, **PLAYED)}
    games["cut"] = Contrastive(**PLAYED)
    ways = {name: [(i, j) for i in (0, 1) for j in (0, 1) if reaches(player(game, None), i, j)] for name, game in games.items()}
    assert ways == {"star": [(0, 1), (1, 0)], "cycle": [(0, 1), (1, 0)], "cut": [(0, 1)]}


CONFIG = OmegaConf.create({"batch_size": 5, "seed": 0, "draws": 20, "device": "cpu", "heads": 4})


def test_an_image_is_brought_with_its_own_label_target_and_noise() -> None:
    images = ImageSet(torch.linspace(-1, 1, 7).view(7, 1, 1, 1).expand(7, 1, 4, 4).__getitem__, 7)
    seen = []

    def generate(batch):
        seen.append(batch)
        return batch["image"]

    made = translated(player(star(), generate), images, 1, 0, CONFIG)
    torch.testing.assert_close(made[torch.arange(7)], images[torch.arange(7)], atol=1e-4, rtol=0)
    assert torch.cat([batch["label"] for batch in seen]).tolist() == [1] * 7
    assert torch.cat([batch["target"] for batch in seen]).tolist() == [0] * 7
    first = torch.cat([batch["z"] for batch in seen])
    seen.clear()
    translated(player(star(), generate), images, 1, 0, OmegaConf.merge(CONFIG, {"batch_size": 2}))
    assert torch.equal(torch.cat([batch["z"] for batch in seen]), first)


def beside(**echo: float) -> dict[str, Companion]:
    return {"source": Companion(modality=MRI(**echo), intensity=Percentiles())}


def test_the_way_is_that_of_the_paired_data() -> None:
    domains = two()
    assert way(Path("run"), heads("t2", beside=beside()), domains, None) == [0, 1]
    assert way(Path("run"), heads("t1", beside=beside(**ECHOES["t2"])), domains, None) == [1, 0]
    flair = beside(tr_ms=9000, te_ms=120, ti_ms=1700)
    assert way(Path("run"), heads("t1", beside=flair), domains, ["t2", "t1"]) == [1, 0]
    with pytest.raises(ValueError, match=r"as the source of the experiment.* got 0 of t1, t2 of run"):
        way(Path("run"), heads("t1", beside=flair), domains, None)


def test_the_truth_of_a_head_is_the_same_slice_in_every_domain() -> None:
    data = two()
    known, why = agreement.truths(data, heads=4)
    assert not why
    paired = heads("t2", beside=beside())
    paired.setup()
    rows = paired.rows["test"]
    batch = paired.batch(rows, np.arange(len(rows)))
    t1, t2 = (images[torch.arange(len(images))] for images in known)
    assert known[0].patients == 4
    for a, b in zip(t1, t2, strict=True):  # each is a row of the paired module, both sides at once
        near = (batch["source"] - a).abs().amax((1, 2, 3)) + (batch["image"] - b).abs().amax((1, 2, 3))
        assert near.min() < 1e-3
    assert agreement.truths(two(slices={"step": 2}), heads=4)[0] == []


def test_the_truth_of_an_image_is_the_slice_at_its_place_kept_there_or_not() -> None:
    cut = {"slices": {"part": [0, 1], "foreground": 0.45}}
    data = DomainsDataModule(domains={name: heads(name, **cut) for name in ECHOES}, size=16, batch_size=4)
    data.setup()
    dropped = [entry["facts"]["empty"] for entry in data.cache.entries.values()]
    assert len(set(dropped)) > 1  # by each image's own content
    rows = data.rows["test"][data.labels[data.image_records[data.rows["test"]]] == 0]
    found = truth_in_last_domain(data, rows)
    paired = heads("t1", beside=beside(**ECHOES["t2"]), **cut)  # whose slices are kept by T1 alone
    paired.setup()
    both = paired.batch(paired.rows["test"], np.arange(len(rows)))
    torch.testing.assert_close(data.images.images(rows, rows), both["image"], atol=1e-4, rtol=0)
    torch.testing.assert_close(found[torch.arange(len(found))], both["source"], atol=1e-4, rtol=0)
    assert found.patients == 6


def test_where_no_truth_is_known_it_is_said_why() -> None:
    files = two()
    files.phantom = False
    patches = two()
    patches.patches = 4
    for data, why in (
        (heads("t1"), "classes of one data set"),
        (files, "their pairs are unknown"),
        (patches, "patches are cut at random"),
        (two(cohort={"patients": 24, "shape": [12, 16, 16], "seed": 1}), "other patients"),
        (two(modality=CT()), "another part of the body"),
    ):
        assert why in truth_unknown_because(data)
    assert not truth_unknown_because(two())


def test_reals_of_the_target_agree_with_it_and_sources_do_not() -> None:
    data = two()
    test = real_set(data, data.rows["test"])
    config = OmegaConf.merge(CONFIG, {"classifier": {"_target_": "medgan_pl.metrics.utility.teaching.Training", "steps": 150}})
    network = agreement.domain_classifier(data, config)
    assert agreement.share(network, test, test.labels, config).value == 1
    reals = [test.of_class(label) for label in (0, 1)]
    known, _ = agreement.truths(data, heads=4)
    of_target = player(star(), lambda batch: torch.stack([reals[t].first(1)[0] for t in batch["target"].tolist()]))
    same = player(star(), lambda batch: batch["image"])
    by_reals = agreement.agreement(of_target, data, network, (0, 1), test, known, config)
    by_nothing = agreement.agreement(same, data, network, (0, 1), test, known, config)
    assert (by_reals.called.value, by_nothing.called.value) == (1, 0)
    assert (by_reals.origin, by_reals.target) == ("t1", "t2")
    by_hand = Paired()
    by_hand.update(*(images[torch.arange(len(images))] for images in known))
    for key in ("mae", "ssim"):
        assert by_nothing.errors[f"{key}_identity"].value == pytest.approx(float(by_hand.compute()[key]), abs=1e-5)
        assert by_nothing.errors[key].value == pytest.approx(by_nothing.errors[f"{key}_identity"].value, abs=1e-3)


PLAIN = [word for word in TINY if not word.startswith(("data.", "model.latent", "metrics.", "total", "valid"))]
RUN = (*PLAIN, "data.size=24", "data.batch_size=8", "total_images=16", "validate_every=16", "logger=csv")
PAIRED = ("data.size=24", "data.cohort.patients=40", "data.cohort.shape=[16,24,24]")
DOMAINS = [f"data.domains.{name}.{word.removeprefix('data.')}" for name in ("mr", "ct") for word in PAIRED[1:]]
SMALL = ("draws=20", "extractor.random.width=4", "device=cpu", "images=12")


@pytest.fixture
def trained(here):
    """A tiny pix2pix and a tiny CycleGAN of the same heads."""
    small = ("model.discriminator.layers=1", "model.generator.levels=2")
    code, said = here("train", "experiment=mr_to_ct", *RUN, *PAIRED, *small, "hydra.run.dir=pairs")
    assert code == 0, said
    few = ("model.patches.layers=1", "model.translator.blocks=1", "game.pool=8")
    code, said = here("train", "experiment=unpaired_ct_mr", *RUN, *DOMAINS, *few, "hydra.run.dir=cycle")
    assert code == 0, said


@pytest.mark.slow
def test_the_tables_hold_what_the_metrics_give(trained) -> None:
    asked = ["experiment=mr_to_ct", *PAIRED, *SMALL, "output=study"]
    both = ["paired=[pairs/checkpoints/last.ckpt]", "unpaired=[cycle/checkpoints/last.ckpt]"]
    config = composed("compare", [*asked, *both])
    results = compare(config, lambda what: None)
    assert list(results) == ["identity", "histogram match", "pools matched", "mean of each grey value", "pairs", "cycle"]
    data = open_data(config.data)
    rows = data.rows["test"]
    batch = data.batch(rows, np.linspace(0, len(rows) - 1, 12).astype(int))
    by_hand = Paired(half_range=1000.0)
    by_hand.update(batch["source"], batch["image"])
    with Path("study/table.csv").open(newline="") as file:
        table = {row["method"]: row for row in csv.DictReader(file)}
    for key in ("psnr", "ssim", "mae"):
        assert float(table["identity"][key]) == pytest.approx(float(by_hand.compute()[key]), rel=1e-4), key
        assert all(float(row[f"{key}_low"]) <= float(row[key]) <= float(row[f"{key}_high"]) for row in table.values()), key
    assert "mae, HU" in Path("study/table.md").read_text()
    assert picture(Path("study/pictures.png")).size == (6 * 25 + 1, 7 * 25 + 1)
    for words, message in (
        (["paired=[cycle/checkpoints/last.ckpt]"], "trained in pairs, got one of Cycle"),
        (["unpaired=[pairs/checkpoints/last.ckpt]"], "between domains, got one of Translation"),
        (["data.split_seed=1", both[1]], r"must be none that cycle/checkpoints/last.ckpt was trained on, got \d of 4"),
        (["data.beside.source.modality.series=t1", both[0]], "on the modalities of this experiment"),
        (["domains=[mr,pet]", both[1]], r"must name the source's and the image's among mr, ct"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(composed("compare", [*asked, *words]), lambda what: None)

    config = composed("agreement", ["checkpoint=cycle/checkpoints/last.ckpt", "output=agree", "draws=20", "device=cpu", "images=40",
                                    "heads=3", "classifier.steps=5", "classifier.width=4"])  # fmt: skip
    found = agreement.agree(config, lambda what: None)
    assert [(row.origin, row.target, row.unit) for row in found] == [("mr", "ct", "HU"), ("ct", "mr", "of [-1, 1]")]
    with Path("agree/agreement.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["mae_identity"]) == pytest.approx(1000 * float(rows[1]["mae_identity"]), rel=1e-4)  # of one pair of images
    assert "| mr | ct |" in Path("agree/agreement.md").read_text()
    size = picture(Path("agree/pictures.png")).size
    assert size == (6 * 25 + 1, 2 * 3 * 25 + 1)  # two ways: source, made, truth


def test_where_the_files_lie_is_no_part_of_a_task() -> None:
    source = {"modality": {"tr_ms": 500}, "intensity": {}, "root": "/here"}
    one = {"modality": {}, "intensity": {}, "degrade": None, "beside": {"source": source}, "root": "/there"}
    assert task(one) == task(one | {"root": None, "degrade": {}, "beside": {"source": source | {"root": None}}})
    assert task(one) != task(one | {"beside": {"source": source | {"modality": {"tr_ms": 4000}}}})
