"""Run the analysis of the configuration on a trained generator and given images."""

from pathlib import Path
from typing import TYPE_CHECKING

from medgan_pl.core.command import chosen_device, quiet_libraries
from medgan_pl.core.counts import whole_number
from medgan_pl.core.lock import OTHER_OUTPUT, only_writer
from medgan_pl.models.load import load

if TYPE_CHECKING:
    from omegaconf import DictConfig


def analyze(config: "DictConfig") -> None:
    """Load the checkpoint and run the analysis on it with the settings of the command."""
    quiet_libraries()
    from hydra.utils import instantiate

    for name in ("checkpoint", "input"):
        if config[name] is None:
            raise ValueError(
                f"`{name}` must be given: python -m medgan_pl.analyze analysis=inversion checkpoint=…/checkpoints/best.ckpt input=film.png"
            )
    for name in ("n", "batch_size"):
        whole_number(name, config[name], 1)
    analysis = instantiate(config.analysis, _convert_="all")
    module = load(str(config.checkpoint), chosen_device(config.device))
    output = Path(str(config.output))
    with only_writer(output, OTHER_OUTPUT):
        analysis.run(module, config, output)
