"""Builds the parts of a run from its configuration."""

from typing import TYPE_CHECKING, Any

from medgan_pl.core.allowed import check_targets

if TYPE_CHECKING:
    from medgan_pl.models.module import AdversarialModule


# What the command line of a run may have called, and a checkpoint may not: its user names the program that it loads.
PROGRAMS = ("medgan_pl.metrics.extractors.torchscript.load_torchscript",)


def build_module(config: dict[str, Any]) -> "AdversarialModule":
    """The module of a resolved configuration in plain containers, its first weights keyed by the seed."""
    from medgan_pl.core.command import instantiate
    from medgan_pl.core.keys import Purpose, key_randomness

    check_targets(config["module"], functions=PROGRAMS)
    key_randomness(config["seed"], 0, 0, Purpose.INIT)
    module = instantiate(config["module"])
    module.config = config
    return module


def count(network: Any) -> str:
    """The number of weights, in words a person reads: 1.4 M."""
    weights = sum(weight.numel() for weight in network.parameters())
    return f"{weights / 1e6:.1f} M" if weights >= 1e5 else f"{weights:,}"
