"""The configuration of a command for a call of the function behind it, which spares the half second of Hydra's command line."""

import copy
from functools import cache

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from medgan_pl.core.console import configuration_folder


def configured(name: str, *values: str) -> DictConfig:
    """Return conf/<name>.yaml with these values of keys (no other options of groups)."""
    config = copy.deepcopy(_defaults(name))
    config.merge_with_dotlist(list(values))
    return config


@cache
def _defaults(name: str) -> DictConfig:
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        return compose(name)
