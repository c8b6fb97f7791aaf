"""What apply refuses: other scans than those of training, mistakes, and a checkpoint made to harm."""

from functools import partial

import nibabel
import numpy as np
import pytest
import torch
from apply.shifting import a_volume, oblique
from data.dicom_files import write_series

from medgan_pl.apply.reading import Reading
from medgan_pl.models.load import load


def test_refusals_say_both_numbers_and_the_ways_out(trained, applied, tmp_path) -> None:
    oblique(tmp_path / "ct.nii.gz", a_volume(30, 4, 30), spacing=(0.7, 0.8, 3.0))
    checkpoint = trained()
    common = (f"checkpoint={checkpoint}", "output=out", "device=cpu")
    code, said = applied(*common, "input=ct.nii.gz")
    assert code == 1
    assert "of training, 0.8 × 0.5 mm, got 0.8 × 0.7 mm; resample=true" in said
    assert "force=true" in said
    assert applied(*common, "input=ct.nii.gz", "force=true")[0] == 0
    assert applied(*common, "input=ct.nii.gz", "resample=true")[0] == 0
    assert nibabel.load("out/ct.nii.gz").shape == (30, 4, 30)
    write_series(tmp_path / "mr", a_volume(3, 20, 20) + 1200, modality="MR")
    code, said = applied(*common, "input=mr")
    assert code == 1
    assert "must contain what the generator was trained on, CT as NIfTI" in said
    assert "series of modality MR" in said


def test_volumes_that_name_no_modality_are_judged_by_their_values(trained, applied, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    write = partial(oblique, spacing=(0.5, 0.8, 3.0))
    write(tmp_path / "in" / "mr.nii.gz", (a_volume(20, 3, 18) + 1000) // 2)
    common = (f"checkpoint={trained()}", "input=in", "device=cpu")
    code, said = applied(*common, "output=out")
    assert code == 1
    assert "mr.nii.gz: it must be CT" in said
    assert "begins at -1000 HU, but its minimum is 0, while air is below -200" in said
    assert "force=true" in said
    assert applied(*common, "output=out", "force=true")[0] == 0
    assert applied(*common, "output=both", "force=true", "resample=true")[0] == 0
    trained("data.intensity.windows_hu=[[0,80]]", levels=[[0.0, 80.0]])  # in its window no air is seen
    assert applied(*common, "output=brain")[0] == 0


def test_force_and_resample_together_resample(trained, applied, tmp_path) -> None:
    oblique(tmp_path / "a.nii.gz", (a_volume(30, 4, 30) + 1000) // 2, spacing=(0.7, 0.8, 3.0))
    common = (f"checkpoint={trained()}", "input=a.nii.gz", "device=cpu", "force=true")
    assert applied(*common, "output=x")[0] == applied(*common, "output=y", "resample=true")[0] == 0
    x, y = (nibabel.load(f"{output}/a.nii.gz").get_fdata() for output in "xy")
    assert np.abs(x - y).max() > 1


def test_mistakes(trained, here, applied, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.nii.gz").touch()
    common, out = (f"checkpoint={trained()}", "device=cpu"), ("input=in", "output=out")
    around = "`output` must neither lie in input nor contain it"
    for arguments, message in (
        (("input=in",), "`output` must be given"),
        (("input=in", "output=in/out"), around),
        (("input=in/a.nii.gz", "output=in"), around),
        (("input=in", "output=."), around),
        ((*out, "window=2"), "`window` must be a number or [H, W] of at least 4 whole pixels"),
        ((*out, "uncertainty=1"), "`uncertainty` must be a whole number of at least 2"),
        ((*out, "uncertainty=2"), "has neither; train one with model.generator.dropout=0.2, or model=star_gan"),
        ((*out, "reference=in/a.nii.gz"), "`reference` gives a style, and only model=star_gan has styles"),
        ((*out, "holes=in"), "which has none to fill"),
        (("input=nowhere", "output=out"), "`input` must be a file or a folder of images"),
    ):
        code, said = applied(*common, *arguments)
        assert (code, "Traceback" in said) == (1, False), message
        assert message in said
    code, said = here("apply", *common, "input=in")
    assert (code, "Traceback" in said) == (1, False)
    assert "`output` must be given" in said


def test_a_stored_pipeline_made_to_harm_is_refused(trained, applied) -> None:
    """One that names a data module as one of its parts, or has a frame that no degradation has."""
    checkpoint = trained()
    state = torch.load(checkpoint, weights_only=True)
    stored = state["medgan_pl"]["pipelines"][""]
    harmful = {"_target_": "medgan_pl.data.datamodule.ImageDataModule", "root": "/"}
    torch.save(state | {"medgan_pl": state["medgan_pl"] | {"pipelines": {"": stored | {"layout": harmful}}}}, checkpoint)
    foreign = "must be the full name of a class that a file may name"
    code, said = applied(f"checkpoint={checkpoint}", "input=.", "output=../out")
    assert (code, foreign in said) == (1, True)
    frames = ({"holes": 1}, {"fill": 2.0}, {"thickness": [0, 1]}, {"thickness": 4}, {"more": True})
    impossible = "the frame of a stored pipeline must have holes, fill, thickness and moves_levels"
    module = load(checkpoint)
    for changed, message in (
        *(({part: harmful}, foreign) for part in ("modality", "layout", "intensity")),
        ({"companions": {"source": harmful}}, foreign),
        *(({"frame": frame}, impossible) for frame in (None, {}, *(stored["frame"] | frame for frame in frames))),
    ):
        module.pipelines = {"": stored | changed}
        with pytest.raises(ValueError, match=message):
            Reading(module)


def test_a_generator_from_noise_is_refused(finished, applied, tmp_path) -> None:
    code, said = applied(f"checkpoint={finished / 'checkpoints' / 'best.ckpt'}", "input=.", "output=../out")
    assert code == 1
    assert "use medgan_pl.sample" in said
