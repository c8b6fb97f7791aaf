"""Writes the folder of a report: report.html, metrics.json, model_card.md."""

import json
from collections.abc import Mapping
from pathlib import Path

from medgan_pl.core.files import write_whole
from medgan_pl.evaluate.report.card import card
from medgan_pl.evaluate.report.judgement import Judgement, validate
from medgan_pl.evaluate.report.page import page
from medgan_pl.evaluate.report.pictures import Pictures
from medgan_pl.evaluate.report.plots import Curve


def write_report(folder: Path, judgement: Judgement, pictures: Pictures, curves: Mapping[str, Curve]) -> Path:
    """Writes the three files, each whole or not at all, and says where report.html is.

    `judgement`: the containers of metrics.json (medgan_pl.metrics.result). `curves`: column of metrics.csv -> (images, values), {} for
    none. All three are made before the first is written. Raises ValueError for a metric that is in no catalogue and for NaN or infinity in
    numbers or pictures, TypeError for what JSON cannot hold.
    """
    validate(judgement)
    files = {
        "metrics.json": as_json(judgement),
        "model_card.md": card(judgement).encode("utf-8", "replace"),
        "report.html": page(judgement, pictures, curves).encode("utf-8", "replace"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_whole(folder / name, content)
    return folder / "report.html"


def as_json(judgement: Judgement) -> bytes:
    """Strict JSON: no NaN. A file name that is not UTF-8 keeps its odd bytes as escapes."""
    return (json.dumps(judgement, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")
