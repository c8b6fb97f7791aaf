"""Applying to a folder: names, domains, a second run, the spread of passes, and the manual."""

from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from apply.shifting import INVERSE, a_volume, oblique, pipelines_of, settings_of_apply

from medgan_pl.apply.inference import Inference
from medgan_pl.apply.inputs import masks_of, targets
from medgan_pl.apply.reading import Reading
from medgan_pl.apply.windows import scales_to_training
from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import Inverse
from medgan_pl.data.modalities import CT
from medgan_pl.data.readers.nifti import read_nifti
from medgan_pl.data.readers.scan import Scan
from medgan_pl.models.build import build_module
from medgan_pl.models.load import Origin


def between(settings, *overrides: str):
    module = build_module(settings("logger=csv", "data.size=16", "model.width=4", *overrides))
    names = list(module.config["data"]["domains"])
    spacings = [[0.9, 0.6], *[[0.5, 0.5]] * (len(names) - 1)]
    module.inverses = {name: Inverse.from_plain(INVERSE | {"spacing_mm": mm}) for name, mm in zip(names, spacings, strict=True)}
    module.classes, module.inverse, module.images = names, module.inverses[names[-1]], 0
    module.pipelines, module.origin = pipelines_of(module.config), Origin("0" * 64)
    return module.eval()


def test_it_is_the_spacing_of_the_domain_a_scan_comes_from_that_counts(settings) -> None:
    module = between(settings, "experiment=unpaired_ct_mr", "model.translator.blocks=1", "model.patches.layers=1")
    scan = Scan(np.zeros((3, 16, 16), np.float32), (5.0, 0.9, 0.6), np.eye(4))

    def scales(reading: Reading, *, resample: bool) -> tuple[float, ...] | None:
        return scales_to_training(scan, reading.pipeline, reading.spacing_mm, reading.factors, resample=resample, force=False)

    assert scales(Reading(module, "mr", "ct"), resample=False) is None
    there = Reading(module, "ct", "mr")
    with pytest.raises(ValueError, match=r"of training, 0.5 × 0.5 mm, got 0.9 × 0.6 mm"):
        scales(there, resample=False)
    assert np.allclose(scales(there, resample=True), (0.5 / 0.9, 0.5 / 0.6))
    del module.pipelines["mr"]
    with pytest.raises(ValueError, match="must be a checkpoint of a run"):
        Reading(module, "mr", "ct")


def test_instance_norms_are_given_the_whole(settings, tmp_path) -> None:
    module = between(settings, "experiment=star_mr")
    (tmp_path / "best.ckpt").touch()
    keys = settings_of_apply(checkpoint=tmp_path / "best.ckpt")
    seen = []
    Inference(module, keys).windows(lambda x: seen.append(tuple(x.shape)) or x, torch.rand(2, 1, 600, 40))
    assert len(seen) == 1
    assert seen[0][2:] == (600, 40)
    assert Inference(module, keys | {"window": 16}).window == (16, 16)


def test_a_header_and_its_data_are_no_series(tmp_path) -> None:
    items = [Item(f"p1/{name} (+1)", (tmp_path / "p1" / name, tmp_path / "p1" / "x.raw")) for name in ("ct.nrrd", "pet.mhd")]
    for item in items:
        assert targets([item], tmp_path, Path("out"), spread=False) == [(item, Path("out/p1") / item.paths[0].stem)]


def test_a_deviation_replaces_no_other_output(tmp_path) -> None:
    items = [Item(name, (tmp_path / name,)) for name in ("ct.nii.gz", "ct_sd.nii.gz")]
    assert len(targets(items, tmp_path, Path("out"), spread=False)) == 2
    with pytest.raises(ValueError, match=r"deviation of ct.nii.gz and the output of ct_sd.nii.gz would be one file"):
        targets(items, tmp_path, Path("out"), spread=True)


def test_masks_and_inputs_are_matched_one_to_one(tmp_path) -> None:
    (tmp_path / "holes").mkdir()
    for name in ("in.nii", "p1.nii"):
        oblique(tmp_path / "holes" / name, a_volume(2, 2, 2))
    match = partial(masks_of, source=tmp_path / "in", folder=tmp_path / "holes", modality=CT())
    first, second, third = (Item(name, (tmp_path / name,)) for name in ("0.dcm (+4)", "p1/0.dcm (+4)", "p1/7.dcm (+4)"))
    assert {name: mask.name for name, mask in match([first, second]).items()} == {first.name: "in.nii", second.name: "p1.nii"}
    with pytest.raises(ValueError, match="got 2 of p1; move"):
        match([second, third])
    oblique(tmp_path / "holes" / "p1_mask.nii", a_volume(2, 2, 2))
    with pytest.raises(ValueError, match=r"one mask for each name, got p1.nii and p1_mask.nii"):
        match([first])


def test_one_bad_file_does_not_end_the_run_and_what_is_done_stays(trained, here, applied, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "c"):
        oblique(tmp_path / "in" / f"{name}.nii.gz", a_volume(20, 3, 18))
    (tmp_path / "in" / "b.nii.gz").write_bytes((tmp_path / "in" / "a.nii.gz").read_bytes()[:900])
    common = (f"checkpoint={trained()}", "input=in", "output=out", "device=cpu")
    code, said = here("apply", *common)
    assert code == 1
    assert "2 of 3 are in" in said
    assert "b.nii.gz: truncated" in said
    # As a kill would leave it: of c the image without its sidecar, and something half written.
    Path("out/c.nii.gz.json").unlink()
    Path("out/c.nii.gz").write_bytes(b"half")
    times = Path("out/a.nii.gz").stat().st_mtime_ns
    assert "1 of them from before" in applied(*common)[1]
    assert Path("out/a.nii.gz").stat().st_mtime_ns == times
    assert read_nifti(Path("out/c.nii.gz")).pixels.size == 20 * 3 * 18
    assert "from before" not in applied(*common, "overlap=0.5")[1]


def test_uncertainty_is_the_spread_of_dropout(trained, applied, tmp_path) -> None:
    oblique(tmp_path / "ct.nii.gz", a_volume(24, 2, 20))
    checkpoint = trained("model.generator.dropout=0.5")
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"]["ema.network.end.change.weight"] += 0.1
    torch.save(state, checkpoint)
    common = (f"checkpoint={checkpoint}", "input=ct.nii.gz", "device=cpu")
    for output in ("x", "y"):
        assert applied(*common, f"output={output}", "uncertainty=3")[0] == 0
    spread = nibabel.load("x/ct_sd.nii.gz").get_fdata()
    assert spread.shape == (24, 2, 20)
    assert spread.min() >= 0
    assert spread.mean() > 1  # HU
    for name in ("ct.nii.gz", "ct_sd.nii.gz"):
        assert Path("x", name).read_bytes() == Path("y", name).read_bytes()
    assert applied(*common, "output=z", "uncertainty=3", "seed=1")[0] == 0
    assert Path("z/ct_sd.nii.gz").read_bytes() != Path("x/ct_sd.nii.gz").read_bytes()


def test_the_manual(here) -> None:
    code, said = here("apply", "--help")
    assert code == 0
    assert "uncertainty: null" in said
