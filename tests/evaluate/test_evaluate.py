"""`medgan_pl.evaluate` from the command line: a generator, baselines, folders; what is caught, what is not defined, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import command, wandb_records
from PIL import Image

from medgan_pl.data import phantom
from medgan_pl.data.files.names import bare, stem
from medgan_pl.data.phantom.film import film_image
from medgan_pl.metrics.catalogue import CATALOGUE

DATA = ("data.size=16", "data.cohort.patients=420", "data.fractions=[0.5,0.25,0.25]")
QUICK = ("n=120", "draws=20", "use.steps=4", "use.seeds=2", "extractor.random.width=4", "pairs=3", "device=cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny conditional run and its report, made by the commands of the README."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("judged")
        patch.chdir(place)
        patch.setenv("MEDGAN_CACHE", str(place / "cache"))
        patch.setenv("WANDB_MODE", "offline")
        small = ("model.width=4", "model.latent=8", "model.classes=4", "metrics.random.extractor.width=4", "callbacks.samples.n=4")
        length = ("total_images=64", "log_every=32", "validate_every=32", "trainer=cpu", "hydra.run.dir=run")
        command("train", *DATA, *small, *length)
        command("evaluate", "checkpoint=run/checkpoints/best.ckpt", *QUICK)
    return place / "run"


def numbers(folder: Path) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((folder / "metrics.json").read_text())["results"]}


def test_one_command_judges_a_checkpoint_on_its_own_data(run: Path) -> None:
    judgement = json.loads((run / "report" / "metrics.json").read_text())
    data = judgement["data"]
    assert data["phantom"]
    assert data["counts"]["train"] == 210
    assert data["counts"]["reference"] == data["counts"]["floor"] == 105
    assert data["counts"]["fake"] == 120
    assert not any("trained on" in note for note in judgement["notes"])  # the split is that of the checkpoint
    assert str(run) not in (run / "report" / "metrics.json").read_text()
    found = numbers(run / "report")
    for key in ("fd_random", "kid_radiomics", "recall_random", "coverage_radiomics", "ms_ssim", "copies_pixels", "mia_advantage_random"):
        row = found[key]
        assert row["estimate"]["low"] <= row["estimate"]["value"] <= row["estimate"]["high"], key
        assert row["n_real"] == 105, key
    assert {"auc_synthetic", "agreement", "mia_auc_discriminator", "fd_random/normal"} <= found.keys()
    assert all(row["estimate"] or row["undefined"] for row in found.values())
    for row in found.values():
        minimum, maximum = CATALOGUE[row["key"]].minimum, CATALOGUE[row["key"]].maximum
        for estimate in filter(None, (row["estimate"], row["floor"])):
            assert minimum is None or estimate["low"] >= minimum, row["name"]
            assert maximum is None or estimate["high"] <= maximum, row["name"]
    floor, fd = found["fd_random"]["floor"]["value"], found["fd_random"]
    assert floor < fd["estimate"]["value"] < fd["noise"]
    assert {"random", "radiomics", "pixels"} <= judgement["spaces"].keys()
    assert "sha256" in judgement["subject"]


def test_the_page_stands_alone_and_names_every_number(run: Path) -> None:
    page = (run / "report" / "report.html").read_text()
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert all(name in page for name in numbers(run / "report"))
    assert "Fréchet" in (run / "report" / "model_card.md").read_text()


def test_wandb_has_the_numbers(run: Path) -> None:
    *_, file = sorted((run / "wandb").glob("offline-run-*/run-*.wandb"))
    content = b"".join(wandb_records(file.read_bytes()))
    assert b"report/fd_random" in content
    assert b"report.html" not in content


def test_features_of_reals_are_remembered(run: Path, monkeypatch, here) -> None:
    monkeypatch.setenv("MEDGAN_CACHE", str(run.parent / "cache"))
    arguments = (f"checkpoint={run}/checkpoints/best.ckpt", "groups=[fidelity]", "extractor=[random]", "wandb=disabled", "output=again")
    code, said = here("evaluate", *arguments, *QUICK)
    assert code == 0, said
    assert "random features of 105 fakes" in said
    assert "reference reals" not in said
    before, after = numbers(run / "report"), numbers(Path("again"))
    assert after["fd_random"] == before["fd_random"]


@pytest.mark.slow
def test_the_copier_is_caught(here) -> None:
    code, said = here("evaluate", "baseline=copier", *DATA, *QUICK, "groups=[privacy]", "wandb=disabled")
    assert code == 0, said
    verdict = json.loads(Path("report/metrics.json").read_text())["verdicts"]["privacy"]
    assert verdict["mark"] == "bad"
    assert numbers(Path("report"))["copies_pixels"]["estimate"]["value"] == 1


def films(folder: str, seed: int, count: int, side: int = 24) -> None:
    """PNGs of simulated patients, in folders by class."""
    for i in range(count):
        patient = phantom.draw_patient(seed, i)
        path = Path(folder, ("well", "ill")[int(patient.label > 0)], f"p{seed}-{i:04d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((film_image(patient, (side, side))[0] * 8).astype(np.uint16)).save(path)


def test_folders_of_any_tool_an_honest_one_is_not_caught(here) -> None:
    films("made", 1, 110)
    films("reals", 2, 220)
    films("shown", 3, 220)
    code, said = here("evaluate", "fake=made", "real=reals", "train=shown", "data.size=16", "wandb=disabled", *QUICK)
    assert code == 0, said
    judgement = json.loads(Path("report/metrics.json").read_text())
    assert judgement["verdicts"]["privacy"]["mark"] == "good", judgement["verdicts"]
    assert judgement["verdicts"]["fidelity"]["mark"] == "good", judgement["verdicts"]
    assert judgement["data"]["counts"] == {"train": 220, "reference": 110, "floor": 110, "fake": 110}
    assert any("24×24" in note for note in judgement["notes"])
    assert numbers(Path("report"))["auc_synthetic"]["estimate"]


def test_what_cannot_be_measured_says_why(here) -> None:
    films("made", 1, 12)
    films("reals", 2, 60)
    code, said = here("evaluate", "fake=made", "real=reals", "data.size=16", "wandb=disabled", "data.classes=none", *QUICK)
    assert code == 0, said
    found = numbers(Path("report"))
    assert not any(row["estimate"] for row in found.values())
    assert "needs 20" in found["fd_random"]["undefined"]
    assert "train=DIR" in found["copies_pixels"]["undefined"]
    assert "train=DIR" in found["auc_synthetic"]["undefined"]
    assert all(v["mark"] == "unknown" for v in json.loads(Path("report/metrics.json").read_text())["verdicts"].values())


def test_paired_folders_with_masks(here) -> None:
    films("reals", 2, 44)
    for path in sorted(Path("reals").rglob("*.png")):
        pixels = np.asarray(Image.open(path)).astype(np.int64)
        for folder, values in {
            "made": np.clip(pixels + 655, 0, 65535),
            "m-true": 65535 * (pixels > 9000),
            "m-made": 65535 * (pixels > 9000),
        }.items():
            target = Path(folder, *path.parts[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint16)).save(target)
    paired = ("fake=made", "real=reals", "paired=true", "masks.fake=m-made", "masks.real=m-true", "groups=[paired]", "data.size=24")
    code, said = here("evaluate", *paired, "intensity@data.intensity=full_range", "wandb=disabled", *QUICK)
    assert code == 0, said
    found = numbers(Path("report"))
    assert found["mae"]["estimate"]["value"] == pytest.approx(655 * 2 / 65535, rel=0.02)
    assert found["dice"]["estimate"]["value"] == 1
    assert found["hd95"]["estimate"]["value"] == 0
    assert found["mae"]["n_fake"] == 44
    Path("reals/well").rename("reals/healthy")
    code, said = here("evaluate", *paired, "wandb=disabled", *QUICK)
    assert code == 1
    assert "classes of" in said or "same name" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "`checkpoint`, `fake` and `baseline`"),
        (("baseline=copier", "fake=x"), "got fake and baseline"),
        (("baseline=parrot", "data.cohort.patients=30", "data.size=16"), "copier, blurred, noise"),
        (("fake=x",), "`real` must be given"),
        (("baseline=noise", "draws=5"), "`draws` must be a whole number of at least 20"),
        (("baseline=noise", "groups=[beauty]"), "`groups` must be some of"),
        (("baseline=noise", "data.split=none", "data.cohort.patients=30", "data.size=16"), "holds nothing out"),
        (("baseline=noise", "groups=[paired]"), "which would measure nothing: a baseline has no truth"),
        (("fake=x", "real=y", "groups=[paired]"), "which would measure nothing: add paired=true"),
        (("checkpoint=nowhere.ckpt",), "nowhere.ckpt"),
        (("checkpoint=nowhere.ckpt", "real=x", "masks.fake=y"), "`real`, `masks.fake` must come with `fake`"),
    ],
)
def test_bad_input_is_named(here, arguments, said) -> None:
    code, told = here("evaluate", *arguments, "wandb=disabled")
    assert code == 1
    assert said in told
    assert not Path("report").exists()


def test_names_without_their_endings() -> None:
    names = ("a/case1.slice03.png", "a/case1.slice04.png", "b.nii.gz", "1.2.840.5", "c_mask.tif")
    assert [bare(name) for name in names] == ["a/case1.slice03", "a/case1.slice04", "b", "1.2.840.5", "c_mask"]
    assert stem(Path("a/c_mask.tif")) == "a/c"
    assert stem(Path("c.seg.nii.gz")) == "c"
