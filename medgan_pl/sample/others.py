"""One folder holds one draw: images of another checkpoint, seed, class or style beside them would be judged as theirs."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.core.files import read_json
from medgan_pl.data.files.folders import walk
from medgan_pl.data.files.names import DICOMS, ITK, NIFTI, PICTURES

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from medgan_pl.models.module import AdversarialModule

NUMBERED = re.compile(r"\d{6,8}")
KEYS = {"checkpoint_sha256": "checkpoint", "seed": "seed", "label": "label", "covariates": "covariates", "truncation": "truncation"}


def sidecars_in(output: Path) -> dict[Path, dict[str, Any]]:
    """Return the sidecars of generated images below a folder, by the path of the image."""
    files = walk(output)[0] if output.is_dir() else []
    found = {path.with_name(path.name.removesuffix(".json")): read_json(path) for path in files if path.suffix == ".json"}
    numbered = {path for path in found if NUMBERED.fullmatch(path.name.split(".")[0])}
    return {path: each for path, each in found.items() if path in numbered and isinstance(each, dict) and type(each.get("index")) is int}


def refuse_others(
    output: Path, sidecars: dict[Path, dict[str, Any]], n: int, seed: int, module: "AdversarialModule", labels: "Tensor", rows: "np.ndarray"
) -> None:
    """Raise ValueError if `output` holds an image that is not of this draw, or that has no sidecar.

    `labels` and `rows` are the classes and patient features of the draw's images, as many as the `sidecars` name or more. Images of the
    draw may be there already, more of them than `n` and in other formats.
    """
    for path, sidecar in sidecars.items():
        index = sidecar["index"]
        own = {"checkpoint_sha256": module.origin.sha256, "seed": seed, "truncation": module.config.get("truncation")}
        own["label"] = module.classes[int(labels[index])] if module.config["model"]["classes"] else None
        own["covariates"] = module.covariates.said(rows[index]) or None
        told = {**sidecar, "truncation": (sidecar.get("config") or {}).get("truncation")}
        for key, name in KEYS.items():
            if told.get(key) != own[key]:
                shown = "" if name == "checkpoint" else f", {told.get(key)} and not {own[key]}"
                raise ValueError(refusal(output, f"{path.name} of another {name}{shown}"))
    for path in walk(output)[0] if output.is_dir() else ():
        mine = [part for part in (path, *path.parents) if part in sidecars or is_next(part, output, n)]
        if path.name.lower().endswith((*PICTURES, *DICOMS, *NIFTI, *ITK)) and not mine:
            raise ValueError(refusal(output, f"{path.relative_to(output)}, which has no sidecar of this program"))


def is_next(path: Path, output: Path, n: int) -> bool:
    """Return True for an image that this draw writes anew: one that a stopped run left without its sidecar."""
    number = path.name.split(".")[0]
    return path.parent == output and bool(NUMBERED.fullmatch(number)) and int(number) < n


def refusal(output: Path, other: str) -> str:
    return f"`output` must hold no image but those of this draw, got {output} with {other}; name another folder with output=DIR"
