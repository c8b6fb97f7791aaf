"""Hydra composes a configuration in half of its time: each file is read once a process, and each command is composed once."""

import os
import pickle
from functools import wraps
from typing import Any

from hydra._internal import defaults_list
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigSource
from omegaconf import OmegaConf


def compose_quickly() -> None:
    """Change Hydra in this process and in its forks.

    It composes each command twice, at first only to see whether the configuration names hydra.mode; none of those in the tests does. For
    each file it gathers the options of all groups, for a default that names another group's option; conf/ has none, and one would fail.
    """
    Hydra.get_mode = lambda *_, **__: None
    defaults_list._create_interpolation_map = lambda *_: OmegaConf.create()
    Plugins.instance()  # looks for Hydra's plugins, once a process; they know how to read files
    files = SourcesRegistry.instance().resolve("file")
    files.load_config = remembered(files.load_config)


def remembered(load: Any) -> Any:
    """Return `load`, which keeps what it has read of a file as long as the file stays the same."""
    kept: dict[tuple[str, int, int], bytes] = {}

    @wraps(load)
    def load_config(source: ConfigSource, config_path: str) -> Any:
        path = os.path.realpath(os.path.join(source.path, source._normalize_file_name(config_path)))
        if not os.path.exists(path):
            return load(source, config_path)
        file = os.stat(path)
        key = (path, file.st_mtime_ns, file.st_size)
        if key not in kept:
            kept[key] = pickle.dumps(load(source, config_path))
        return pickle.loads(kept[key])  # Hydra changes what it is given

    return load_config
