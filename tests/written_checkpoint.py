"""A small whole checkpoint, and what tests plant in it."""

import io
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from medgan_pl.core.console import configuration_folder
from medgan_pl.models.build import build_module
from medgan_pl.models.state import FORMAT

SMALL = ("run_dir=run", "data.size=16", "model.width=4", "model.latent=8", "metrics.random.extractor.width=4")
INVERSE = {"levels": [[0.0, 4095.0]], "unit": "gray levels", "modality": "CR", "spacing_mm": [1.0, 1.0], "directions": None}


def checkpoint_bytes() -> bytes:
    """Return a whole checkpoint, but for what only a resumed run needs."""
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        config = OmegaConf.to_container(compose("config", overrides=[*SMALL]), resolve=True)
    state = {"format": FORMAT, "config": config, "classes": ["normal"], "images": 64, "inverse": INVERSE}
    return saved({"state_dict": build_module(config).state_dict(), "medgan_pl": state})


def saved(content: Any) -> bytes:
    """Return what torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def put(node: dict[str, Any], where: str, value: Any) -> None:
    """Set the value at a dotted key."""
    *above, last = where.split(".")
    for key in above:
        node = node[key]
    node[last] = value


def nested(depth: int) -> Any:
    """Return a list that is short in a file and has 2 ** depth values to walk."""
    node: Any = 1
    for _ in range(depth):
        node = [node, node]  # the same twice
    return node


class Touches:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)
