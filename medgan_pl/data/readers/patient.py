"""The patient's features in the header of a DICOM file: age, sex, height, weight."""

import re
from pathlib import Path

from medgan_pl.data.readers.header import HEADER_BYTES, PIECE_BYTES, DicomFile, numbers, parse, text
from medgan_pl.data.readers.pictures import faults

NUMBERS = {"age": "PatientAge", "height": "PatientSize", "weight": "PatientWeight"}
PATIENT = ("age", "sex", "height", "weight", "bmi")  # features of the patient in a header, by the names of covariates
YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25, "": 1.0}  # units of a PatientAge such as 045Y or 018M; some write 45
ILLEGIBLE = "?"  # for an impossible value, such as 999Y; a covariate treats it as unknown


def read_patient(path: Path) -> dict[str, str]:
    """Return the patient's features in the header of a DICOM file, by the names of PATIENT. Never log or store them.

    Age is in years, sex F or M, height in m, weight in kg, bmi in kg/m² from both. A missing value is "", an impossible one, such as a
    height in cm, is ILLEGIBLE. Raise ScanError as `read_header`.
    """
    with path.open("rb") as file, faults("a DICOM with a corrupt header"):
        found = parse(DicomFile(file, HEADER_BYTES, PIECE_BYTES), ["PatientSex", *NUMBERS.values()])
    written, sex = text(found, "PatientAge").strip().upper(), text(found, "PatientSex").upper()
    match = re.fullmatch(r"0*([0-9]{1,3})\s*([YMWD]?)", written)
    age = sane(int(match[1]) * YEARS[match[2]] if match else None, 0, 130)
    height, weight = sane(numbers(found, "PatientSize", 1), 0.2, 2.6), sane(numbers(found, "PatientWeight", 1), 0.2, 500)
    bmi = sane(weight / height**2, 5, 150) if height and weight else None
    values = {"age": age, "height": height, "weight": weight, "bmi": bmi}
    return (
        dict.fromkeys(PATIENT, "")
        | {name: ILLEGIBLE for name, tag in NUMBERS.items() if text(found, tag)}
        | {name: f"{value:.6g}" for name, value in values.items() if value is not None}
        | ({"sex": sex} if sex in ("F", "M") else {})
    )


def sane(value: float | tuple[float, ...] | None, low: float, high: float) -> float | None:
    """Return the number, or None if it is missing or outside its bounds."""
    number = value[0] if isinstance(value, tuple) else value
    return number if number is not None and low <= number <= high else None
