"""Patient features beside the images: from a CSV, from DICOM headers, from the cohort, to numbers of a batch; what is refused and kept."""

import json
import math
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from dicom_files import write_film, write_series
from test_datamodule import films, module, write_films
from test_sources import hu, source

from medgan_pl.data.cohort import CohortSource
from medgan_pl.data.files.columns import check_names, parsed, tabulated
from medgan_pl.data.files.covariates import Covariate, Covariates, check_covariates
from medgan_pl.data.files.csv_table import read_csv
from medgan_pl.data.files.listing import Wanted
from medgan_pl.data.modalities import CT, MRI, XRay
from medgan_pl.data.phantom import draw_patient
from medgan_pl.data.readers.header import read_patient

AGE = Covariate("age", 50.0, 20.0, 20.0, 80.0, None, 0.0)
SEX = Covariate("sex", 0.75, 0.433, 0.0, 1.0, ("F", "M"), 0.1)
TOLD = Covariates((AGE, SEX))


@pytest.mark.parametrize(
    ("texts", "values", "levels"),
    [
        (["70", "", " 65.5 ", "NA", "nan", "1e2", "unknown"], [70, None, 65.5, None, None, 100, None], None),
        (["M", "F", "", "F"], [1, 0, None, 0], ("F", "M")),
        (["0", "1", "1", "n/a"], [0, 1, 1, None], ("0", "1")),
        (["3.0", "1.5", "3"], [1, 0, 1], ("1.5", "3")),
        (["yes", "1", "yes"], [1, 0, 1], ("1", "yes")),
        (["70", "None", "45", "?", "30", "-", ".", "NULL"], [70, None, 45, None, 30, None, None, None], None),
        (["1234567890123", "1234567890124"], [0, 1], ("1234567890123", "1234567890124")),
    ],
)
def test_a_column_by_value(texts, values, levels) -> None:
    found, names = parsed("x", texts, texts, np.full(len(texts), True))
    assert [None if math.isnan(value) else value for value in found] == values
    assert names == levels


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["", "NA", "nan"], "the covariate `x` is not known in the whole training split, where na, n/a,"),
        (["4", "4", ""], "the covariate `x` is the same in the whole training split"),
        (["M", "M"], "is the same in the whole"),
        (["mild", "some", "severe", "4"], "got 4 values of which 3 of 4 rows hold no number, the first that of r0; make it the"),
        (["1", "2", "inf"], "hold no number, the first that of r2; leave it empty if unknown, and write 70, not 070Y or 70,5"),
        (["1_0", "2", "3"], "1 of 3 rows hold no number, the first that of r0; leave it empty"),
        (["070Y", "045Y", "030Y"], "the first that of r0; leave it empty if unknown"),
        (["F", "M", "m"], "the covariate `x` must write each value in one way"),
        (["F", "f"], "some of its values differ only in case"),
        (["a" * 65, "b"], "at most 64 letters, got 65"),
    ],
)
def test_a_column_that_cannot_be_used(texts, words) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as told:
        parsed("x", texts, [f"r{row}" for row in range(len(texts))], np.full(len(texts), True))
    assert not re.search("mild|severe|inf", str(told.value))  # a value is a patient's


@pytest.mark.parametrize(
    ("training", "other", "words"),
    [
        (
            ["0", "1", "1"],
            "2",
            "must be one of the two values of the training split; it is not on 1 other rows, the first that of r3",
        ),
        (["F", "M", "M"], "f", "must be one of the two values of the training split"),
        (["0", "1", "1"], "old", "must be one of the two values of the training split"),
        (["0", "1", "2"], "old", "must be a number as in the training split; it is not on 1 other rows, the first that of r3"),
    ],
)
def test_what_a_column_is_the_training_split_says(training, other, words) -> None:
    rows = np.array([True, True, True, False])
    with pytest.raises(ValueError, match=re.escape(words)):
        parsed("x", [*training, other], ["r0", "r1", "r2", "r3"], rows)
    found, levels = parsed("x", [*training, training[1]], ["r0", "r1", "r2", "r3"], rows)
    assert found.tolist() == [0, 1, len({*training}) - 1, 1]
    assert (levels is None) is (training[2] == "2")


@pytest.mark.parametrize("names", ["age", 5, [1], ["Patient Age"], ["a.b"], [""], ["patient"], ["age", "age"], ["x" * 65], ["größe"]])
def test_names_that_cannot_stand_on_a_command_line(names) -> None:
    with pytest.raises(ValueError, match=r"model\.covariates"):
        check_names(names)


def test_the_training_split_alone_is_measured() -> None:
    rows = [("10", "F"), ("30", "M"), ("", "M"), ("20", "M"), ("1020", "")]
    told, values = tabulated(["age", "sex"], rows, list("abcde"), np.array([True, True, True, True, False]))
    age, sex = told.columns
    sd = math.sqrt(200 / 3)
    assert (age.mean, age.sd, age.missing) == (20, pytest.approx(sd), pytest.approx(1 / 4))
    assert (age.low, age.high) == (pytest.approx(10.2), pytest.approx(29.8))  # not the ends: those are patients
    assert (sex.mean, sex.levels, sex.missing) == (pytest.approx(3 / 4), ("F", "M"), 0)
    expected = [[-10 / sd, -3 / 2], [10 / sd, 1 / 2], [math.nan, 1 / 2], [0, 1 / 2], [1000 / sd, 0]]  # no training image of unknown sex
    np.testing.assert_allclose(told.standardize(values), expected, rtol=1e-6)
    assert told.standardize(values).dtype == np.float32
    with pytest.raises(ValueError, match="the covariate `sex` is the same in the whole training split"):
        tabulated(["sex"], [("F",), ("F",), ("M",)], list("abc"), np.array([True, True, False]))
    with pytest.raises(ValueError, match="the covariate `age` is not known in the whole training split"):
        tabulated(["age"], [("",), ("",), ("3",), ("4",)], list("abcd"), np.array([True, True, False, False]))


def column(texts: list[str]) -> Covariate:
    return tabulated(["x"], [(text,) for text in texts], texts, np.full(len(texts), True))[0].columns[0]


def test_a_count_that_is_nearly_always_0_has_a_range_and_is_stored() -> None:
    rare = column(["0"] * 996 + ["1", "2", "3", "1"])
    assert (rare.low, rare.high) == (0, 3)
    check_covariates(Covariates((rare,)).plain(), ["x"])
    assert [rare.drawn(u) for u in (0, 0.5, 0.999)] == [0, 0, 0]
    assert rare.number("2") == 2


def test_what_is_drawn_is_spread_as_what_was_trained_on() -> None:
    grades = column(["0"] * 70 + ["1"] * 10 + ["2"] * 10 + ["30"] * 10)
    assert grades.few
    assert [grades.drawn(u) for u in (0.1, 0.65, 0.75, 0.85, 0.95)] == [0, 0, 1, 2, 30]  # none between them
    two_hills = column([f"{20 + i / 50}" for i in range(50)] + [f"{80 + i / 50}" for i in range(50)] + [""] * 50)
    drawn = Covariates((two_hills,)).for_images(0, range(4000))[:, 0]
    assert np.isnan(drawn).mean() == pytest.approx(1 / 3, abs=0.03)
    assert ((drawn > 25) & (drawn < 75)).sum() < 0.11 * np.isfinite(drawn).sum()  # two of 20 steps lead across; of a normal most lie there
    assert np.nanmean(drawn < 25) == pytest.approx(np.nanmean(drawn > 75), abs=0.03)
    assert two_hills.low <= np.nanmin(drawn) <= np.nanmax(drawn) <= two_hills.high
    assert not two_hills.outside(two_hills.drawn(0.9999))
    coded = column([str(age) for age in range(20, 80)] * 5 + ["999"] * 2)
    assert max(coded.drawn(u / 1000) for u in range(1000)) < 80  # one that moves mean and spread does not move this
    dates = column([str(20190000 + 100 * i) for i in range(1, 31)])
    assert len({dates.drawn(u / 100) for u in range(100)}) > 90
    wild = column([str(age) for age in range(20, 80)] * 5 + ["99999999"])
    assert (wild.low, wild.high) == (20.0, 79.0)
    assert replace(coded, quantiles=()).drawn(0.5) == pytest.approx(coded.mean, abs=0.1)  # a checkpoint from before them


def test_no_quantile_is_a_patient_s_value_to_the_last_digit() -> None:
    values = [f"{40 + 0.731 * i:.3f}17" for i in range(41)]
    assert not {*map(float, values)} & {*column(values).quantiles}


def test_what_is_asked() -> None:
    assert TOLD.asked({"age": 70, "sex": "m"}) == {0: 70.0, 1: 1.0}
    assert math.isnan(TOLD.asked({"sex": "unknown"})[1])
    assert replace(AGE, low=5.0).number("0") == 0
    assert replace(AGE, low=-5.0).number("-20") == -20
    with pytest.raises(ValueError, match="near the training data"):
        replace(AGE, low=5.0).number("-1")
    assert replace(SEX, levels=("0", "1")).number(1.0) == 1
    assert replace(SEX, levels=("no", "yes")).number("Yes") == 1
    for given, words in (
        ({"age": "old"}, "`covariates.age` must be a number, got old"),
        ({"age": "unknown"}, "`covariates.age` must be known"),
        ({"age": 101}, "near the training data, 20 to 80 in 98 % of the images"),
        ({"age": "-1"}, "near the training data"),
        ({"age": "nan"}, "must be known"),
        ({"sex": "D"}, "`covariates.sex` must be F or M, got D"),
        ({"bmi": 25}, "`covariates` must be among the model's, age, sex; got bmi"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            TOLD.asked(given)
    with pytest.raises(ValueError, match=re.escape("this one has model.covariates=[]")):
        Covariates().asked({"age": 3})
    assert [AGE.outside(value) for value in (19, 20, 80, 85, math.nan)] == [True, False, False, True, False]


def test_what_is_not_asked_is_drawn_by_seed_and_place_alone() -> None:
    drawn = TOLD.for_images(3, range(4000))
    assert drawn[:, 0].mean() == pytest.approx(50, abs=1)
    assert drawn[:, 0].std() == pytest.approx(60 / math.sqrt(12), abs=1)  # of a column without quantiles even over the range
    assert (drawn[:, 0].min(), drawn[:, 0].max()) == (20, 80)
    assert np.nanmean(drawn[:, 1]) == pytest.approx(0.75, abs=0.03)
    assert np.isnan(drawn[:, 1]).mean() == pytest.approx(0.1, abs=0.02)
    np.testing.assert_array_equal(TOLD.for_images(3, [7, 3000]), drawn[[7, 3000]])
    asked = TOLD.for_images(3, range(4000), TOLD.asked({"age": 70}))
    assert (asked[:, 0] == 70).all()
    np.testing.assert_array_equal(asked[:, 1], drawn[:, 1])  # what is asked moves no other
    assert (TOLD.for_images(4, range(4000)) != drawn)[:, 0].mean() > 0.9
    again = TOLD.asked(TOLD.said(drawn[5]))  # what a sidecar says can be asked for again
    assert list(again.values()) == drawn[5].tolist()


def test_facts_ride_as_plain_containers() -> None:
    plain = json.loads(json.dumps(TOLD.plain()))
    assert Covariates.from_plain(plain) == TOLD
    sex = {"name": "sex", "mean": 0.75, "sd": 0.433, "low": 0.0, "high": 1.0, "levels": ["F", "M"], "missing": 0.1}
    assert plain[1] == sex | {"quantiles": [], "few": False}
    grades = Covariates((column(["0", "1", "2", "3"] * 9),))
    assert Covariates.from_plain(json.loads(json.dumps(grades.plain()))) == grades
    assert Covariates.from_plain([sex]).columns == (SEX,)  # a checkpoint from before them


def table(root: Path, rows: dict[int, str], header: str = "image,patient,age,sex,icu") -> Path:
    """A CSV of 30 films with what `rows` says of some."""
    write_films(root / "f", 30, classes=())
    names = sorted((root / "f").iterdir(), key=lambda path: int(path.stem.split("_")[1]))
    lines = [rows.get(i, f"p{i},{40 + i},{'FM'[i % 2]},{i % 3 // 2}") for i in range(30)]
    (root / "t.csv").write_text("\n".join([header, *(f"f/{path.name},{line}" for path, line in zip(names, lines, strict=True))]))
    return root / "t.csv"


def test_a_csv_becomes_batches(tmp_path) -> None:
    root = table(tmp_path, {4: "p4,,F,0", 7: "p7,55,NA,"})
    data = module(root, covariates=["sex", "age", "icu"])
    batch = next(iter(data.train_dataloader()))
    assert (batch["covariates"].shape, batch["covariates"].dtype) == ((4, 3), torch.float32)
    seen = {}
    for batch in islice(data.endless_loader(), 6):
        seen |= {data.records[row].name: values for row, values in zip(batch["record"].tolist(), batch["covariates"], strict=True)}
    sex, age, icu = data.covariates.columns
    for name, values in seen.items():
        i = int(Path(name).stem.split("_")[1])
        expected = [2 * (i % 2 - sex.mean), (40 + i - age.mean) / age.sd, 2 * (i % 3 // 2 - icu.mean)]
        known = [i != 7, i != 4, i != 7]
        if i == 7:
            expected[1] = (55 - age.mean) / age.sd
        assert values.isfinite().tolist() == known
        assert values[torch.tensor(known)].tolist() == pytest.approx([e for e, k in zip(expected, known, strict=True) if k], abs=1e-5)
    assert (sex.levels, icu.levels) == (("F", "M"), ("0", "1"))
    lines = "\n".join(data.describe())
    assert "columns patient, sex, age, icu" in lines
    assert re.search(r"age: known of 2[34] of 24 training scans, mean 5\d\.?\d*, sd \d", lines)
    assert re.search(r"sex: known of 2[34] of 24 training scans, F \d", lines)
    assert data.peek("val", 2)["covariates"].shape == (2, 3)
    told = repr(data.records) + repr(data.source.items) + repr(data.covariates)
    assert not re.search(r"p4\b|covariates=\(", told)
    coded = {i: f"p{i},{40 + i % 9 + 900 * (i == 3)},F,1" for i in range(30)}
    odd = module(table(tmp_path / "odd", coded), covariates=["age"], split="none")
    assert odd.describe()[-2] == "WARNING: 1 of age are far from all others; if such a value means missing, leave it empty"


def test_without_covariates_nothing_changes(tmp_path) -> None:
    root = table(tmp_path, {})
    plain, told = module(root), module(root, covariates=["age"])
    assert sorted(plain.peek("val", 1)) == ["image", "record"]
    assert plain.covariates == Covariates()
    assert torch.equal(plain.peek("val", 3)["image"], told.peek("val", 3)["image"])
    assert len({plain.fingerprint, told.fingerprint, module(root, covariates=["sex"]).fingerprint}) == 3
    assert module(root, covariates=["age"]).fingerprint == told.fingerprint


def test_a_column_that_is_not_there(tmp_path) -> None:
    root = table(tmp_path, {})
    with pytest.raises(ValueError, match=r"got none for bmi; it has image, patient, age, sex, icu"):
        read_csv(root, Wanted(XRay().takes, "", covariates=["age", "bmi"]))
    with pytest.raises(ValueError, match=r"columns of a CSV .* or facts of DICOM headers .age, sex, height, weight, bmi.; got smoker"):
        films(root=str(tmp_path / "f"), covariates=["age", "smoker"])
    with pytest.raises(ValueError, match=r"holds no DICOM file; list the images in a CSV with the columns image, age, and set data\.root"):
        films(root=str(tmp_path / "f"), covariates=["age"])


def test_slices_that_disagree_about_a_patient(tmp_path) -> None:
    paths = write_series(tmp_path / "s", hu(1))
    (tmp_path / "t.csv").write_text("\n".join(["image,age", *(f"s/{path.name},{40 + (i == 2)}" for i, path in enumerate(paths))]))
    found = source(tmp_path / "t.csv", CT(), covariates=("age",))
    assert list(found.unusable.values()) == ["its slices have different classes, splits or patients"]
    assert not source(tmp_path / "t.csv", CT()).unusable


HEADER = {"PatientAge": "045Y", "PatientSex": "F", "PatientSize": "1.6", "PatientWeight": "64"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {"age": "45", "sex": "F", "height": "1.6", "weight": "64", "bmi": "25"}),
        ({"PatientAge": "018M", "PatientSex": "M"}, {"age": "1.5", "sex": "M"}),
        ({"PatientAge": "45", "PatientSex": "O"}, {"age": "45", "sex": ""}),
        ({"PatientAge": "51 y"}, {"age": "51"}),
        ({"PatientAge": "0070"}, {"age": "70"}),
        ({"PatientAge": "000Y"}, {"age": "0"}),
        ({"PatientAge": "old"}, {"age": "?"}),
        ({"PatientAge": "999Y", "PatientSize": "160"}, {"age": "?", "height": "?", "weight": "64", "bmi": ""}),
        ({"PatientSize": "0", "PatientWeight": "64"}, {"height": "?", "bmi": ""}),
        (dict.fromkeys(HEADER), dict.fromkeys(("age", "sex", "height", "weight", "bmi"), "")),
    ],
)
@pytest.mark.filterwarnings("ignore:.*VR AS.*:UserWarning")
def test_the_header_of_a_dicom(tmp_path, change, expected) -> None:
    write_film(tmp_path / "a.dcm", np.arange(64, dtype=np.uint16).reshape(8, 8), **HEADER | change)
    found = read_patient(tmp_path / "a.dcm")
    assert {name: found[name] for name in expected} == expected


def test_headers_become_covariates_and_are_kept_in_no_file(tmp_path) -> None:
    for i in range(20):
        stored = np.random.default_rng(i).integers(0, 4000, (20, 20), np.uint16)
        write_film(tmp_path / f"ct{i}.dcm", stored, patient_id=f"P{i}", PatientAge=f"{51 + i:03d}Y", PatientSex="MF"[i % 2])
    told = [module(tmp_path, covariates=["age", "sex"]) for _ in range(2)]  # the second recalls the table
    for data in told:
        ages = {record.name: record.covariates for record in data.records}
        assert ages == {f"ct{i}.dcm": (f"{51 + i}", "MF"[i % 2]) for i in range(20)}
    assert told[0].fingerprint == told[1].fingerprint
    assert not any("impossible" in line for line in told[1].describe())
    kept = b"".join(path.read_bytes() for path in Path("cache").rglob("*.json*"))
    assert kept
    assert not re.search(rb"0?[567]\d(\.0)?Y|\"(covariates|age|sex)\"", kept)


@pytest.mark.filterwarnings("ignore:.*VR AS.*:UserWarning")
def test_headers_that_cannot_be_read_are_counted(tmp_path) -> None:
    for i in range(20):
        stored = np.random.default_rng(i).integers(0, 4000, (20, 20), np.uint16)
        write_film(tmp_path / f"ct{i}.dcm", stored, patient_id=f"P{i}", PatientAge="old" if i < 3 else f"{51 + i:03d}Y")
    data = module(tmp_path, covariates=["age"], split="none")
    assert "the headers of 3 scans have an impossible age; it counts as unknown" in data.describe()
    assert data.covariates.columns[0].missing == pytest.approx(3 / 20)


def test_unknown_where_training_knew_all_is_the_mean_and_said(tmp_path) -> None:
    header = "image,patient,split,age,sex,icu"
    rows = {i: f"p{i},{'val' if i > 24 else 'train'},{'' if i > 27 else 40 + i},{'FM'[i % 2]},{i % 3 // 2}" for i in range(30)}
    data = module(table(tmp_path, rows, header), covariates=["age", "sex"], split="folders")
    assert (data.values[np.isnan(data.known)] == 0).all()
    assert np.isnan(data.known).sum() == 2
    line = "age is unknown for 2 scans outside the training split and for none in it: the model does not learn unknown values, and they"
    assert f"{line} count as the mean" in data.describe()


def test_a_model_s_own_scale_is_kept_for_other_data(tmp_path) -> None:
    data = module(table(tmp_path, {}), covariates=["age", "sex"])
    data.use_covariates(TOLD)
    np.testing.assert_allclose(data.values, TOLD.standardize(data.known))
    assert data.covariates == TOLD
    assert torch.equal(data.peek("train", 3)["covariates"], torch.from_numpy(data.values)[data.peek("train", 3)["record"]])
    with pytest.raises(ValueError, match=re.escape("must be those of the model, age (numbers), sex (0 or 1); the data have age (numbers)")):
        data.use_covariates(Covariates((AGE, replace(SEX, levels=("0", "1")))))


def test_the_first_line_of_a_csv(tmp_path) -> None:
    root = table(tmp_path, {}, header="image, patient , age,sex,icu")
    assert read_csv(root, Wanted(XRay().takes, "", covariates=["age"])).items[2].covariates == ("42",)
    with pytest.raises(ValueError, match="must have one column of each name, got several called age"):
        read_csv(table(tmp_path, {}, header="image,patient,age,age,icu"), Wanted(XRay().takes, "", covariates=["age"]))
    assert read_csv(table(tmp_path, {}, header="image,patient,age,note,note"), Wanted(XRay().takes, "", covariates=["age"])).items
    for first, words in (("image;age", "semicolons"), ('"image";"age"', "semicolons"), ("image\tage", "tabs")):
        root.write_text(f"{first}\nf/x.png;3\n")
        with pytest.raises(ValueError, match=f"separated by {words}: save it with commas"):
            read_csv(root, Wanted(XRay().takes, "", covariates=["age"]))


def test_the_cohort_tells_what_it_simulates() -> None:
    names = ("age", "sex", "bmi", "height", "effusion", "consolidation")
    records = CohortSource(XRay(), 40, 3, (16, 16), names).table()
    for index, record in enumerate(records):
        patient = draw_patient(3, index)
        facts = [patient.age_years, patient.sex, patient.bmi, patient.height_m]
        facts += [int(patient.disease == "effusion"), int(patient.disease == "consolidation")]
        assert record.covariates == tuple(map(str, facts))
    assert {record.covariates for record in CohortSource(MRI(), 40, 3, (8, 16, 16), ("lesion",)).table()} == {("0",), ("1",)}
    with pytest.raises(ValueError, match=r"among the cohort's, age, sex, .*effusion; got smoker"):
        CohortSource(XRay(), 40, 3, (16, 16), ("age", "smoker"))
    data = films(cohort={"patients": 40}, covariates=names)
    data.setup()
    assert [column.levels for column in data.covariates.columns] == [None, ("F", "M"), None, None, ("0", "1"), ("0", "1")]
    batch = data.peek("train", 9)
    assert torch.equal(batch["covariates"][:, 5] > 0, batch["label"] == 1)
