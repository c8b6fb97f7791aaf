"""Images of images from the command line: paired, as masks, and between domains; trained, gone on with, judged."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from command_line import command, picture
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from shared import composed

import medgan_pl
from medgan_pl.core.console import root_cause
from medgan_pl.data import phantom
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.train.run import train

TINY = (
    "data.size=16", "data.batch_size=8", "model.width=4", "metrics.random.extractor.width=4", "total_images=32", "log_every=16",
    "validate_every=16", "callbacks.samples.n=9", "callbacks.curves=null", "trainer=cpu", "logger=csv",
)  # fmt: skip
FILMS = (*TINY, "data.cohort.patients=60", "model.discriminator.layers=1", "model.generator.levels=2")
STEADY = ("schedule@schedule_g=constant", "schedule@schedule_d=constant")  # else the rate hangs on the length of the run
HEADS = "data.slices.step=8"
QUICK = ("trainer=cpu", "logger=csv", "data.size=32", "model.width=4")
JUDGED = ("draws=20", "extractor=radiomics", "groups=[fidelity,paired]", "wandb=disabled", "device=cpu", "pairs=0")


def trained(folder: Path, *arguments: str) -> Path:
    command("train", *arguments, f"hydra.run.dir={folder}")
    return folder / "checkpoints" / "last.ckpt"


def judged(checkpoint: Path, *more: str) -> dict[str, dict]:
    command("evaluate", f"checkpoint={checkpoint}", *JUDGED, *more)
    return results_of(checkpoint.parent.parent)


def results_of(run: Path) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((run / "report" / "metrics.json").read_text())["results"]}


@pytest.fixture
def inpainted(made_once, monkeypatch) -> Path:
    folder = made_once("inpainted", lambda: trained(Path("run"), "experiment=inpainting", *FILMS, *STEADY))
    monkeypatch.setenv("MEDGAN_CACHE", str(folder / "cache"))  # its images are prepared
    return folder / "run" / "checkpoints" / "last.ckpt"


def test_a_paired_task_is_trained_looked_at_and_judged(inpainted, here) -> None:
    run = inpainted.parent.parent
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(row["val/ssim"] and row["val/mae"] for row in rows if row["val/fd_random"])
    assert any(row["train/g/l1"] for row in rows)
    assert picture(run / "samples" / "00000032.png").size[0] == 3 * 17 + 1  # source, fake, real
    code, said = here("evaluate", f"checkpoint={inpainted}", *JUDGED)
    assert code == 0, said
    results = results_of(run)
    assert {"mae", "psnr", "ssim"} <= {name for name, row in results.items() if row["estimate"]}


@pytest.mark.slow
def test_a_run_gone_on_with_is_the_run_that_was_not_stopped(inpainted, tmp_path) -> None:
    half = trained(tmp_path / "run", "experiment=inpainting", *FILMS, *STEADY, "total_images=16")
    command("train", f"resume={half.parent.parent}", "total_images=32", "resume.force=true")
    whole, again = (torch.load(path, weights_only=True)["state_dict"] for path in (inpainted, half))
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())


def refusal(*words: str) -> str:
    """What a run with these words is refused with, without the command line, which composes them twice."""
    with pytest.raises((ValueError, OSError, InstantiationException)) as refused:
        train(composed(*words))
    return str(root_cause(refused.value))


def test_a_file_that_an_extra_lacks_is_told_by_its_key(here) -> None:
    perceptual = ("extra=[l1,perceptual]", "extractor@extras.perceptual.extractor=lpips", "extras.perceptual.extractor.linear=alex.pth")
    code, said = here("train", "experiment=inpainting", *FILMS, *perceptual, "extras.perceptual.extractor.weights=none.pth")
    assert code == 1
    assert "there is none at none.pth; it is not downloaded for you. Published: alexnet-owt-7be5be79.pth, torch" in said
    assert "give its path: extras.perceptual.extractor.weights=PATH\n" in said
    assert "hint" not in said
    Path("none.pth").touch()
    said = refusal("experiment=inpainting", *FILMS, *perceptual, "extras.perceptual.extractor.weights=none.pth")
    assert "none at alex.pth; it is not downloaded for you. Put it there, or give its path: extras.perceptual.extractor.linear=" in said


def test_noise_alone_makes_nothing_of_it(inpainted, here) -> None:
    code, said = here("sample", f"checkpoint={inpainted}")
    assert (code, "python -m medgan_pl.apply" in said) == (1, True)


@pytest.mark.slow
def test_content_alone_needs_no_adversary(tmp_path) -> None:
    checkpoint = trained(tmp_path, "experiment=dehaze", *FILMS, "stages=content")
    module = medgan_pl.load(checkpoint)
    assert module.stages["content"].players == ["g"]
    before = torch.load(checkpoint, weights_only=True)["medgan_pl"]
    assert before["turns"] == {"g": 4, "d": 0}


@pytest.mark.slow
def test_masks_are_judged_by_overlap_and_outlines(tmp_path) -> None:
    small = ("data.cohort.patients=40", "data.cohort.shape=[8,16,16]", "model.discriminator.layers=1", "model.generator.levels=2")
    wanted = [word for word in TINY if not word.startswith("metrics.")]
    checkpoint = trained(tmp_path, "experiment=lung_segmentation", *wanted, *small)
    results = judged(checkpoint)
    assert {"dice", "dice/lung", "hd95/lung"} == set(results)
    assert results["hd95/lung"]["unit"] == "mm"
    assert (results["hd95/lung"]["estimate"] is None) == ("a mask is empty in each" in results["hd95/lung"]["undefined"])
    assert 0 <= results["dice"]["estimate"]["value"] <= 1
    report = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert "masks are only compared with their own truths" in report["verdicts"]["fidelity"]["text"]


@pytest.mark.slow
def test_domains_are_judged_by_the_last(tmp_path) -> None:
    wanted = ["data.size=24" if word == "data.size=16" else word for word in TINY]
    each = [f"data.domains.{name}.{setting}" for name in ("mr", "ct") for setting in ("cohort.patients=40", "cohort.shape=[16,24,24]")]
    small = ("model.patches.layers=1", "model.translator.blocks=1", "game.pool=8")
    checkpoint = trained(tmp_path, "experiment=unpaired_ct_mr", *wanted, *each, *small)
    results = judged(checkpoint)
    assert results["fd_radiomics"]["estimate"]
    assert {"psnr", "ssim"} <= {name for name, row in results.items() if row["estimate"]}
    assert results["mae"]["unit"] == "HU"
    assert results["mae"]["estimate"]["value"] == pytest.approx(error_by_hand(checkpoint), rel=1e-3)
    judged(checkpoint, "data.domains.mr.cohort.seed=1")  # of other patients
    assert any("paired: not measured" in note for note in json.loads((tmp_path / "report" / "metrics.json").read_text())["notes"])
    told = command("evaluate", f"checkpoint={checkpoint}", *JUDGED, "data.domains.mr.cohort.seed=1", "groups=[paired]", code=1).stderr
    assert "`groups` must contain more than paired, which would measure nothing: the domains have other patients" in told
    told = command("evaluate", f"checkpoint={checkpoint}", *JUDGED, "data.domains.mr.rot=/heads", code=1).stderr
    assert "there is no `data.domains.mr.rot` in the data of the run" in told
    module = medgan_pl.load(checkpoint)
    assert module.inverse.unit == "HU"
    assert module.classes == ["mr", "ct"]
    heads = tmp_path / "heads"
    heads.mkdir()
    spacing = module.inverse.spacing_mm
    affine = np.diag([-spacing[1], -spacing[0], 9.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).random((24, 24, 3), np.float32) * 900, affine), heads / "a.nii.gz")
    command("apply", f"checkpoint={checkpoint}", f"input={heads}", f"output={tmp_path / 'ct'}", "from=mr", "to=ct", "device=cpu")
    made = nibabel.load(tmp_path / "ct" / "a.nii.gz")
    np.testing.assert_allclose(made.affine, affine, atol=1e-4)
    assert made.get_fdata().min() >= -1000
    assert json.loads((tmp_path / "ct" / "a.nii.gz.json").read_text())["unit"] == "HU"
    wrong = command("apply", f"checkpoint={checkpoint}", f"input={heads}", f"output={tmp_path / 'b'}", "from=ct", "to=ct", code=1)
    assert "this generator translates ct to mr, got from=ct to=ct" in wrong.stdout + wrong.stderr


def error_by_hand(checkpoint: Path) -> float:
    """The mean absolute error in HU of the CTs made of the held-out MRI, each against its head's own CT."""
    module = medgan_pl.load(checkpoint)
    data = instantiate(OmegaConf.create(module.config["data"]), _convert_="all")
    data.setup()
    mri, ct = data.domains.values()
    errors = []
    for row in mri.rows["test"]:
        patient = phantom.draw_patient(0, int(mri.records[mri.image_records[row]].name[1:]))
        cuts = [each.layout.cut(each.modality.simulate(patient, (16, 24, 24)), fill=-1000) for each in (mri, ct)]
        (slices, wanted), box = (cut.pixels for cut in cuts), cuts[1].box  # the canvas around the field takes no part
        source = mri.batch(np.array([row]), np.array([0]))["image"]
        alike = [np.corrcoef(each.clamp(min=0).flatten(), source.flatten())[0, 1] for each in slices]
        made = module.generate({"image": source, "label": torch.tensor([0])})
        off = (made[0, 0] * 1000 - wanted[np.argmax(alike)].clamp(-1000, 1000)).abs()
        errors.append((off if box is None else off[box.expand(wanted.shape)[0]]).mean())
    return float(torch.stack(errors).mean())


@pytest.mark.parametrize(
    ("arguments", "game"),
    [
        (["experiment=unpaired_ct_mr", "stages=content_first"], "Cycle"),
        (["experiment=unpaired_t1_t2", "model=cut", "stages=content"], "Contrastive"),
        (["experiment=star_mr", "stages=content_first"], "Star"),
        (["stages=content"], "Synthesis"),
        (["experiment=dehaze", "extra=feature_matching", "~extras.l1", "stages=content"], "Translation"),
    ],
)
def test_a_stage_without_the_adversary_is_refused_before_data_are_read(monkeypatch, arguments, game) -> None:
    monkeypatch.setattr(ImageDataModule, "read", lambda data: pytest.fail("the data were read"))
    said = refusal(*arguments, *QUICK)
    assert "a stage without the discriminator needs a loss between each fake and its own real that does not use D" in said
    assert f"game=translation extra=l1; {game} has none here" in said


def test_settings_of_a_term_that_is_not_named_are_refused_with_what_to_do() -> None:
    said = refusal("experiment=dehaze", "extra=mse", "trainer=cpu", "logger=csv")
    assert "`extras.l1` must be a loss, got only its settings, {'weight': 5}; add it by extra=[…,l1], or remove them by ~extras.l1" in said


def test_what_a_model_takes_must_be_what_the_data_give() -> None:
    for experiment, change, message in (
        ("inpainting", "model.source_channels=1", "`model.source_channels` must be that of the data, got 1"),
        ("super_resolution_x4", "model.factor=2", "`model.factor` must be that of the data, got 2"),
        ("dehaze", "model.classes=2", "nothing reads `model.classes` here"),
        ("unpaired_ct_mr", "model.classes=2", "nothing reads `model.classes` here"),
        ("dehaze", "degrade@data.degrade=none", "set data.degrade or data.beside.source"),
        ("dehaze", "game.keep_known=true", "game.keep_known=true needs a source that is its image but for the holes"),
        ("star_mr", "model.domains=4", "`model.domains` must be the number of data.domains, got 4; use model.domains=3"),
    ):
        few = [] if experiment in ("unpaired_ct_mr", "star_mr") else ["data.cohort.patients=12"]
        assert message in refusal(f"experiment={experiment}", change, *few, *QUICK), (experiment, change)
