"""From what is known of a patient to an image: a model told labels and covariates is trained, drawn from, judged, shared; what is kept."""

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import TINY
from PIL import Image
from planted_patients import contents, told

import medgan_pl
from medgan_pl.data.files.covariates import Covariate, Covariates, check_covariates
from medgan_pl.data.sets import ImageSet
from medgan_pl.export.weights import export
from medgan_pl.models.build import build_module
from medgan_pl.models.draw import fixed_batch
from medgan_pl.models.generated import discriminator_scores, draw_like
from medgan_pl.models.state import read_stored
from medgan_pl.models.transfer import begin_from

FACTS = Covariates((Covariate("age", 50.0, 20.0, 20.0, 80.0, None, 0.0), Covariate("sex", 0.5, 0.5, 0.0, 1.0, ("F", "M"), 0.1)))


pytestmark = pytest.mark.usefixtures("cohort_kept")
QUICK = (*TINY, "validate_every=64", "callbacks.samples.n=4", "logger=csv", "hydra.run.dir=run")


@pytest.fixture
def run(made_once: Callable[[str, Callable[[], None]], Path], here: Callable[..., tuple[int, str]]) -> Path:
    """A tiny run on the cohort that is told class, age and sex."""

    def train() -> None:
        code, said = here("train", *QUICK, "model.classes=4", "model.covariates=[age,sex]")
        assert code == 0, said

    return made_once("told", train) / "run"


@pytest.fixture
def last(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def sidecars(folder: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.png.json"))]


def test_a_patient_becomes_an_image(last: Path, here) -> None:
    common = (f"checkpoint={last}", "device=cpu", "n=3")
    for name, arguments in {
        "old": ("label=nodule", "covariates.age=70", "covariates.sex=F"),
        "young": ("label=nodule", "covariates.age=30", "covariates.sex=f"),
        "drawn": ("label=nodule", "covariates.sex=M"),
    }.items():
        code, said = here("sample", *common, *arguments, f"output={name}")
        assert code == 0, said
        assert "WARNING" not in said
    assert [each["covariates"] for each in sidecars("old")] == [{"age": 70, "sex": "F"}] * 3
    assert {each["label"] for each in sidecars("old")} == {"nodule"}
    for i in range(3):
        assert Path(f"old/{i:06d}.png").read_bytes() != Path(f"young/{i:06d}.png").read_bytes()
    drawn = [each["covariates"] for each in sidecars("drawn")]
    assert {each["sex"] for each in drawn} == {"M"}
    assert len({each["age"] for each in drawn}) == 3
    told = [f"covariates.{name}={value}" for name, value in drawn[2].items()]
    here("sample", *common, "label=nodule", *told, "output=again")
    assert Path("again/000002.png").read_bytes() == Path("drawn/000002.png").read_bytes()  # the sidecar says all that made it


@pytest.mark.parametrize(
    ("argument", "code", "words"),
    [
        ("covariates.age=91.9", 0, "WARNING: covariates.age=91.9 lies outside "),
        ("covariates.age=150", 1, "`covariates.age` must be near the training data"),
        ("covariates.age=old", 1, "`covariates.age` must be a number, got old"),
        ("covariates.age=unknown", 1, "`covariates.age` must be known"),
        ("covariates.sex=X", 1, "`covariates.sex` must be F or M, got X"),
        ("covariates.bmi=25", 1, "`covariates` must be among the model's, age, sex; got bmi"),
        ("covariates.age.years=3", 1, "`covariates.age` must be a number"),
    ],
)
def test_what_may_be_asked(last: Path, here, argument, code, words, monkeypatch) -> None:
    age = Covariate("age", 55.0, 18.0, 18.0, 90.0, None, 0.0)
    monkeypatch.setattr(Covariates, "from_plain", classmethod(lambda cls, plain: Covariates((age, FACTS.columns[1]))))
    found, said = here("sample", f"checkpoint={last}", "device=cpu", "n=1", "output=x", argument)
    assert found == code, said
    assert words in said
    assert "Traceback" not in said


def test_a_model_that_is_told_nothing_is_asked_nothing(finished: Path, here) -> None:
    code, said = here("sample", f"checkpoint={finished / 'checkpoints/last.ckpt'}", "covariates.age=3")
    assert code == 1
    assert "`covariates` needs a model with covariates, got age; this one has model.covariates=[]" in said


def test_facts_are_in_the_checkpoint_and_in_shared_weights(last: Path) -> None:
    stored = read_stored(last).content["medgan_pl"]["covariates"]
    assert [(column["name"], column["levels"]) for column in stored] == [("age", None), ("sex", ["F", "M"])]
    export(last, Path("x.safetensors"))
    modules = [medgan_pl.load(last), medgan_pl.load("x.safetensors")]
    assert modules[0].covariates == modules[1].covariates == Covariates.from_plain(stored)
    images = [module.generate(fixed_batch(module, torch.zeros(3, dtype=torch.long), seed=3)) for module in modules]
    assert torch.equal(*images)


def test_a_checkpoint_from_before_them_has_none(finished: Path) -> None:
    content = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    del content["medgan_pl"]["covariates"]
    torch.save(content, "older.ckpt")
    assert medgan_pl.load("older.ckpt").covariates == Covariates()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "size"}, "must be those of model.covariates"),
        ({"name": "x" * 65}, "must be short"),
        ({"mean": float("nan")}, "must hold finite numbers"),
        ({"mean": "50"}, "must hold finite numbers"),
        ({"sd": True}, "must hold finite numbers"),
        ({"sd": 0.0}, "must have a spread"),
        ({"low": 90.0}, "must have a spread"),
        ({"quantiles": [20.0, 80.0]}, "21 rising quantiles, or none"),
        ({"quantiles": [float(-i) for i in range(21)]}, "21 rising quantiles, or none"),
        ({"quantiles": [float("inf")] * 21}, "21 rising quantiles, or none"),
        ({"few": 1}, "`few` in `covariates` must be true or false"),
        ({"few": True}, "with quantiles"),
        ({"missing": 1.5}, "must have a spread"),
        ({"levels": ["F"]}, "two levels, or none"),
        ({"levels": "FM"}, "two levels, or none"),
        ({"levels": ["F", 5]}, "must be short"),
        ({"patients": [41, 52]}, "a column of `covariates` must have"),
    ],
)
def test_facts_that_are_none_are_refused(change, words) -> None:
    check_covariates(FACTS.plain(), ["age", "sex"])
    age, sex = FACTS.plain()
    check_covariates([age | {"low": 50.0, "high": 50.0, "quantiles": [50.0] * 21, "few": True}, sex], ["age", "sex"])
    check_covariates(
        [{key: value for key, value in each.items() if key not in ("quantiles", "few")} for each in (age, sex)], ["age", "sex"]
    )
    with pytest.raises(ValueError, match=re.escape(words)):
        check_covariates([age | change, sex], ["age", "sex"])
    for columns, names in (({}, []), ([age], []), ([], ["age"]), ([sex, age], ["age", "sex"]), ([5], ["age"])):
        with pytest.raises(ValueError, match="covariates"):
            check_covariates(columns, names)


class Shown:
    """Stands for a module: keeps the batches it is shown."""

    covariates, device, config = FACTS, "cpu", {"model": {"classes": 2}}
    discriminator, networks = "d", {"d": None}

    def __init__(self) -> None:
        self.game, self.seen = self, []

    def draw_each(self, batch, seed, places, purpose):
        return batch | {"places": list(places)}

    def generate(self, batch):
        self.seen.append(batch)
        return torch.zeros(len(batch["label"]), 1, 4, 4)

    def critic(self, d, batch):
        return lambda image: 100 * batch["label"] + batch["covariates"][:, 0]


def images(labels: torch.Tensor, covariates: torch.Tensor) -> ImageSet:
    return ImageSet(lambda rows: torch.zeros(len(rows), 1, 4, 4), len(labels), labels=labels, covariates=covariates)


def test_fakes_are_asked_for_the_labels_and_covariates_of_training_images_together() -> None:
    shown, labels = Shown(), torch.arange(50) % 2
    covariates = torch.stack([torch.arange(50.0), 10 * labels], 1)
    fake = draw_like(shown, images(labels, covariates), 40, seed=3, batch_size=16)
    batches = {key: torch.cat([batch[key] for batch in shown.seen]) for key in ("label", "covariates")}
    assert len(batches["covariates"][:, 0].unique()) > 15
    assert torch.equal(batches["covariates"][:, 0] % 2, batches["label"].float())
    assert torch.equal(batches["covariates"][:, 1], 10.0 * batches["label"])
    assert torch.equal(fake.labels, batches["label"])
    assert [place for batch in shown.seen for place in batch["places"]] == list(range(40))


def test_the_discriminator_is_told_each_image_s_own() -> None:
    labels, covariates = torch.tensor([0, 1, 1]), torch.tensor([[3.0, 0], [4, 0], [5, 0]])
    scores = discriminator_scores(Shown(), 2)(images(labels, covariates).take(torch.tensor([2, 0])))
    assert scores.tolist() == [105, 3]


def test_a_grid_draws_covariates_as_common_as_in_training() -> None:
    batch = fixed_batch(Shown(), torch.zeros(300, dtype=torch.long), seed=0)
    expected = FACTS.standardize(FACTS.for_images(0, range(300)))
    np.testing.assert_array_equal(batch["covariates"], expected)
    assert abs(batch["covariates"].nanmean()) < 0.15
    given = torch.ones(2, 2)
    assert fixed_batch(Shown(), torch.zeros(2, dtype=torch.long), 0, 5, given)["covariates"] is given


def test_reals_must_have_what_the_model_is_told(run: Path, here) -> None:
    shutil.copytree(run, "run", ignore=shutil.ignore_patterns("metrics.csv"))  # whose curves would be drawn
    quick = (
        "checkpoint=run/checkpoints/last.ckpt",
        "n=60",
        "draws=20",
        "extractor=[random]",
        "extractor.random.width=4",
        "device=cpu",
        "wandb=disabled",
    )
    quick += ("pairs=2", "groups=[fidelity,privacy]")
    code, said = here("evaluate", *quick, "data.fractions=[0.3,0.35,0.35]")
    assert code == 0, said
    results = {row["name"]: row for row in json.loads(Path("run/report/metrics.json").read_text())["results"]}
    assert results["fd_random"]["estimate"]
    code, said = here("evaluate", *quick, "data.covariates=[age]", "data.cohort.patients=20")
    assert code == 1
    assert "the covariates must be those of the model, age (numbers), sex (F or M); the data have age (numbers)" in said


def test_a_run_that_goes_on_with_other_data_keeps_the_scale_it_has_learnt(run: Path, here) -> None:
    shutil.copytree(run, "further")
    code, said = here("train", "resume=further", "resume.force=true", "data.cohort.seed=5", "total_images=72")
    assert code == 0, said
    before, after = (read_stored(folder / "checkpoints/last.ckpt").state for folder in (run, Path("further")))
    assert (after.images, after.covariates) == (72, before.covariates)
    assert after.progress.fingerprint != before.progress.fingerprint


def test_the_names_are_set_in_one_place(here) -> None:
    code, said = here("train", *QUICK, "model.covariates=[age]", "data.covariates=[bmi]")
    assert code == 1
    assert "`model.covariates` and data.covariates must be the same" in said
    code, said = here("train", *QUICK, "model.covariates=[age,smoker]")
    assert code == 1
    assert "must be among the cohort's, age, sex" in said


def test_another_model_s_condition_is_not_taken_and_said_so(last: Path, settings) -> None:
    classes = ("normal", "consolidation", "nodule", "effusion")
    config = settings(*TINY, "model.classes=4", "model.covariates=[age,bmi]", f"init_from={last}")
    lines = begin_from(config, build_module(config), classes)
    assert (
        lines[-1] == "its model was conditioned on 4 classes, age, sex, this one on 4 classes, age, bmi; "
        "the layers that take in the condition, or name it, begin anew"
    )
    config = settings(*TINY, "model.classes=4", "model.covariates=[age,sex]", f"init_from={last}")
    lines = begin_from(config, build_module(config), classes)
    assert lines[-1] == "its covariates are standardized by this data's mean and spread from here on"
    assert "not taken" not in "".join(lines)


def test_no_value_of_a_patient_is_in_a_file_or_a_line(here, tmp_path, monkeypatch) -> None:
    random, ages = np.random.default_rng(0), [f"{40 + 0.731 * i:.3f}17" for i in range(20)]
    (tmp_path / "films").mkdir()
    rows = ["image,patient,age,blood"]
    for i, age in enumerate(ages):
        Image.fromarray(random.integers(0, 4000, (20, 20)).astype(np.uint16)).save(tmp_path / f"films/{i}.png")
        rows.append(f"{i}.png,q{i},{'' if i == 5 else age},{'AB'[i % 2]}")
    (tmp_path / "films/t.csv").write_text("\n".join(rows))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "work/cache"))
    data = ("data=xray", f"data.root={tmp_path / 'films/t.csv'}")
    small = [word for word in TINY if not word.startswith("data.cohort")]
    printed = []
    for call in (
        ["inspect", *data, "data.size=16", "data.covariates=[age,blood]", "output=looked"],
        ["train", *data, *small, "model.covariates=[age,blood]", "total_images=16", "validate_every=16", "hydra.run.dir=run"],
        ["sample", "checkpoint=run/checkpoints/last.ckpt", "n=2", "covariates.age=unknown", "covariates.blood=b", "device=cpu"],
    ):
        code, said = here(*call)
        assert code == 0, said
        printed.append(said)
    assert "age: known of 1" in printed[0]
    assert json.loads(Path("run/generated/000000.png.json").read_text())["covariates"] == {"age": "unknown", "blood": "B"}
    words = [age[:6] for age in ages]
    assert told([(tmp_path / "films/t.csv").read_bytes()], words) == {*words} - {words[5]}
    files = list(contents(tmp_path / "work"))
    assert told([text.encode() for text in printed], words) == set()
    assert told(files, words) == set()
    whole = b"".join(files)
    for age in map(float, ages):
        assert not any(struct.pack(form, age) in whole for form in (">d", "<d", "<f", ">f")), age
    stored = [column.mean for column in read_stored("run/checkpoints/last.ckpt").state.covariates.columns]
    assert struct.pack(">d", stored[0]) in whole  # so would a number be found
