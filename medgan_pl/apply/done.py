"""The test that an output was written before, from the same input by the same settings."""

import json
from pathlib import Path
from typing import Any

from medgan_pl.data.export.origin import sums_of


def is_done(target: Path, origin: dict[str, Any]) -> bool:
    """Return True if a sidecar of this name, with any ending, has this origin, and its file is unchanged."""
    for ending in ("", ".nii.gz", ".dcm", ".png", ".tif"):
        path = target.with_name(target.name + ending)
        sidecar = path.with_name(path.name + ".json")
        try:
            known = json.loads(sidecar.read_text(encoding="utf-8")) | {}
            if all(known.get(key) == value for key, value in (origin | sums_of(path)).items()):
                return True
        except (OSError, ValueError, TypeError):  # no sidecar, or one of another kind
            continue
    return False
