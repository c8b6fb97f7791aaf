"""Patient features from a CSV, from DICOM headers and from the cohort: to numbers of a batch; what is refused and kept."""

import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from dicom_files import write_film, write_series
from test_covariates import AGE, SEX, TOLD
from test_datamodule import films, module, write_films
from test_sources import hu, source

from medgan_pl.data.cohort import CohortSource
from medgan_pl.data.files.covariates import Covariates
from medgan_pl.data.files.csv_table import read_csv
from medgan_pl.data.files.listing import Wanted
from medgan_pl.data.modalities import CT, MRI, XRay
from medgan_pl.data.phantom import draw_patient
from medgan_pl.data.readers.patient import read_patient


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
    data = films(cohort={"patients": 24}, covariates=names)
    data.setup()
    assert [column.levels for column in data.covariates.columns] == [None, ("F", "M"), None, None, ("0", "1"), ("0", "1")]
    batch = data.peek("train", 9)
    assert torch.equal(batch["covariates"][:, 5] > 0, batch["label"] == 1)


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
