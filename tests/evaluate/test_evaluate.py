"""`medgan_pl.evaluate` from the command line: a generator, baselines, folders; what is caught, what is not defined, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import wandb_records
from configured import configured
from crowd import films
from PIL import Image

from medgan_pl.data.files.names import bare, stem
from medgan_pl.evaluate.run import evaluate
from medgan_pl.metrics.catalogue import CATALOGUE

DATA = ("data.size=16", "data.cohort.patients=160", "data.fractions=[0.3,0.35,0.35]")
QUICK = ("n=60", "draws=20", "use.steps=4", "use.seeds=2", "use.width=4", "extractor.random.width=4", "pairs=3", "device=cpu")


def numbers(folder: Path) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((folder / "metrics.json").read_text())["results"]}


def notes(folder: Path) -> list[str]:
    return json.loads((folder / "metrics.json").read_text())["notes"]


def test_one_command_judges_a_checkpoint_on_its_own_data(here) -> None:
    """A tiny conditional run and its report, by the commands of the README; then a part of the report again."""
    small = ("model.width=4", "model.latent=8", "model.classes=4", "metrics.random.extractor.width=4", "callbacks.samples=null")
    length = ("total_images=32", "log_every=16", "validate_every=32", "callbacks.curves=null", "trainer=cpu", "hydra.run.dir=run")
    code, said = here("train", *DATA, *small, *length)
    assert code == 0, said
    code, said = here("evaluate", "checkpoint=run/checkpoints/best.ckpt", *QUICK)
    assert code == 0, said
    check_facts(json.loads(Path("run/report/metrics.json").read_text()))
    check_numbers(numbers(Path("run/report")))
    check_files(Path("run"))
    again = ("groups=[fidelity]", "extractor=[random]", "wandb=disabled", "output=again")
    code, said = here("evaluate", "checkpoint=run/checkpoints/best.ckpt", *QUICK, *again)
    assert code == 0, said
    assert "random features of 56 fakes" in said
    assert "reference reals" not in said, "their features are remembered"
    before, after = numbers(Path("run/report")), numbers(Path("again"))
    assert after["fd_random"] == before["fd_random"]


def check_facts(judgement: dict) -> None:
    assert judgement["data"]["phantom"]
    assert judgement["data"]["counts"] == {"train": 48, "reference": 56, "floor": 56, "fake": 60}
    assert not any("trained on" in note for note in judgement["notes"]), "the split is that of the checkpoint"
    assert str(Path.cwd()) not in json.dumps(judgement)
    assert {"random", "radiomics", "pixels"} <= judgement["spaces"].keys()
    assert "sha256" in judgement["subject"]


def check_numbers(found: dict[str, dict]) -> None:
    for key in ("fd_random", "kid_radiomics", "recall_random", "coverage_radiomics", "ms_ssim", "nn_ratio_pixels", "mia_advantage_random"):
        row = found[key]
        assert row["estimate"]["low"] <= row["estimate"]["value"] <= row["estimate"]["high"], key
        assert row["n_real"] == 56, key
    assert {"auc_synthetic", "agreement", "mia_auc_discriminator", "fd_random/normal"} <= found.keys()
    assert all(row["estimate"] or row["undefined"] for row in found.values())
    for row in found.values():
        minimum, maximum = CATALOGUE[row["key"]].minimum, CATALOGUE[row["key"]].maximum
        for estimate in filter(None, (row["estimate"], row["floor"])):
            assert minimum is None or estimate["low"] >= minimum, row["name"]
            assert maximum is None or estimate["high"] <= maximum, row["name"]
    floor, fd = found["fd_random"]["floor"]["value"], found["fd_random"]
    assert floor < fd["estimate"]["value"] < fd["noise"]


def check_files(run: Path) -> None:
    """The page stands alone and names every number; wandb has the numbers."""
    page = (run / "report" / "report.html").read_text()
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert all(name in page for name in numbers(run / "report"))
    assert "Fréchet" in (run / "report" / "model_card.md").read_text()
    *_, file = sorted((run / "wandb").glob("offline-run-*/run-*.wandb"))
    content = b"".join(wandb_records(file.read_bytes()))
    assert b"report/fd_random" in content
    assert b"report.html" not in content


@pytest.mark.slow
def test_the_copier_is_caught(here) -> None:
    code, said = here("evaluate", "baseline=copier", *DATA, *QUICK, "groups=[privacy]", "wandb=disabled")
    assert code == 0, said
    verdict = json.loads(Path("report/metrics.json").read_text())["verdicts"]["privacy"]
    assert verdict["mark"] == "bad"
    assert numbers(Path("report"))["copies_pixels"]["estimate"]["value"] == 1


def test_folders_of_any_tool_an_honest_one_is_not_caught(here) -> None:
    films("made", 1, 60)
    films("reals", 2, 200)
    films("shown", 3, 100)
    code, said = here("evaluate", "fake=made", "real=reals", "train=shown", "data.size=16", "extractor=[random]", "wandb=disabled", *QUICK)
    assert code == 0, said
    judgement = json.loads(Path("report/metrics.json").read_text())
    assert judgement["verdicts"]["privacy"]["mark"] == "good", judgement["verdicts"]
    assert judgement["verdicts"]["fidelity"]["mark"] == "good", judgement["verdicts"]
    assert judgement["data"]["counts"] == {"train": 100, "reference": 100, "floor": 100, "fake": 60}
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
            "m-true": 65535 * (pixels > 30000),
            "m-made": 65535 * (pixels > 30000) + 300 * (pixels % 7) * (pixels <= 30000),  # noise, as JPEG leaves it
        }.items():
            target = Path(folder, *path.parts[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint16)).save(target)
    paired = (
        "fake=made",
        "real=reals",
        "extractor=[random]",
        "paired=true",
        "masks.fake=m-made",
        "masks.real=m-true",
        "groups=[paired]",
        "data.size=24",
    )
    code, said = here("evaluate", *paired, "intensity@data.intensity=full_range", "wandb=disabled", *QUICK)
    assert code == 0, said
    found = numbers(Path("report"))
    assert found["mae"]["estimate"]["value"] == pytest.approx(655 * 2 / 65535, rel=0.02)
    assert found["dice"]["estimate"]["value"] == 1
    assert any(note.startswith("The masks of real have the values 0 (44 masks), 65535 (44)") for note in notes(Path("report")))
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
def test_bad_input_is_named(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        evaluate(configured("evaluate", *arguments, "wandb=disabled"), list(arguments))
    assert said in str(caught.value)
    assert not Path("report").exists()


def test_names_without_their_endings() -> None:
    names = ("a/case1.slice03.png", "a/case1.slice04.png", "b.nii.gz", "1.2.840.5", "c_mask.tif")
    assert [bare(name) for name in names] == ["a/case1.slice03", "a/case1.slice04", "b", "1.2.840.5", "c_mask"]
    assert stem(Path("a/c_mask.tif")) == "a/c"
    assert stem(Path("c.seg.nii.gz")) == "c"
