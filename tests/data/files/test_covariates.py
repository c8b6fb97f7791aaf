"""Patient features as columns of numbers: what a column says, and what is drawn of it."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from medgan_pl.data.files.columns import check_names, parsed, tabulated
from medgan_pl.data.files.covariates import Covariate, Covariates, check_covariates

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
