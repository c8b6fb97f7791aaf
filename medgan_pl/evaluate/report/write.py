"""The folder of a report: report.html, metrics.json and model_card.md."""

from collections.abc import Mapping
from pathlib import Path

from medgan_pl.core.files import write_together
from medgan_pl.core.visible import as_json as as_text
from medgan_pl.evaluate.report.card import card
from medgan_pl.evaluate.report.charts import Curve
from medgan_pl.evaluate.report.judgement import Judgement
from medgan_pl.evaluate.report.page import page
from medgan_pl.evaluate.report.pictures import Pictures
from medgan_pl.metrics.judgement import validate


def write_report(folder: Path, judgement: Judgement, pictures: Pictures, curves: Mapping[str, Curve]) -> Path:
    """Write the three files, each whole and none beside one of an earlier report, and return the path of report.html.

    `judgement` has the containers of metrics.json (medgan_pl.metrics.judgement). `curves` maps a column of metrics.csv to its (images,
    values), {} for none. All three are made before the first is written. Raise ValueError for a judgement that its validator refuses, such
    as one with NaN or with a metric that is not in the catalogue, and for NaN or infinity in pictures; TypeError for a value that JSON
    cannot hold.
    """
    validate(judgement)
    files = {
        "metrics.json": as_json(judgement),
        "model_card.md": card(judgement).encode("utf-8", "replace"),
        "report.html": page(judgement, pictures, curves).encode("utf-8", "replace"),
    }
    write_together(folder, files)
    return folder / "report.html"


def as_json(judgement: Judgement) -> bytes:
    """Return strict JSON, without NaN. Characters without a shape, such as bytes that are not UTF-8, are escapes of JSON."""
    return (as_text(judgement) + "\n").encode()
