"""experiments/segmentation: Dice by hand, the mean over seeds, and the difference of two sides."""

import csv
from pathlib import Path

import pytest
from command_line import TINY

from experiments.restoration.baselines import composed
from experiments.segmentation.dice import KEYS, compare
from medgan_pl.data.build import open_data
from medgan_pl.metrics.paired import Segments
from medgan_pl.models.load import load

HEADS = ("data.size=16", "data.spacing_mm=null", "data.cohort.shape=[16,16,16]", "data.beside.mask.structures=[gray,white]")
HEADS = (*HEADS, "data.cohort.patients=60", "model.generator.levels=2")


@pytest.mark.slow
def test_dice_of_two_seeds_a_side_and_what_lies_between_them(here) -> None:
    tiny = [each for each in TINY if not each.startswith(("data.", "model.latent", "metrics."))]
    for stages in ("both", "content"):
        for seed in (1, 2):
            asked = ("+segmentation=study", *tiny, *HEADS, f"stages={stages}", f"seed={seed}", f"hydra.run.dir={stages}_{seed}")
            code, said = here("train", "--config-dir", str(KEYS.parent.parent), *asked, "total_images=16", "validate_every=16")
            assert code == 0, said
    sides = {"adversarial": ["both_1", "both_2"], "alone": ["content_1", "content_2"]}
    asked = [f"{side}=[{','.join(f'{run}/checkpoints/best.ckpt' for run in runs)}]" for side, runs in sides.items()]
    config = composed([*HEADS, *asked, "draws=20", "device=cpu", "output=study"], KEYS)
    compare(config, lambda what: None)
    with Path("study/table.csv").open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows)[:4] == [*sides["adversarial"], *sides["alone"]]
    data = open_data(config.data)
    batch = data.batch(data.rows["test"], range(len(data.rows["test"])))
    by_hand = Segments(structures=["gray", "white"])
    by_hand.update(load(Path("both_1/checkpoints/best.ckpt"), "cpu").generate(batch), batch["mask"])
    for key, value in by_hand.compute().items():
        assert float(rows["both_1"][key]) == pytest.approx(float(value), abs=1e-5), key
    values = [float(row["dice"]) for row in rows.values()]
    assert values[4] == pytest.approx((values[0] + values[1]) / 2, abs=1e-6)
    assert values[6] == pytest.approx(values[4] - values[5], abs=1e-6)
    assert rows["both_1"]["patients"] == "6"


@pytest.mark.parametrize(
    ("asked", "said"),
    [("draws=20", "checkpoints must be given"), ("~data.beside.mask", r"`data.beside.mask` must give the folder of the masks")],
)
def test_what_is_missing_is_named(asked: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        compare(composed([*HEADS, "data.cohort.patients=20", asked, "output=study"], KEYS), lambda what: None)
