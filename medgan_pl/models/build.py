"""Build the parts of a run from its configuration."""

from typing import TYPE_CHECKING, Any

from medgan_pl.core.allowed import check_targets

if TYPE_CHECKING:
    from medgan_pl.models.module import AdversarialModule


# The command line of a run may call these, a checkpoint may not: the user names the program that is loaded.
PROGRAMS = ("medgan_pl.metrics.extractors.torchscript.load_torchscript",)


def build_module(config: dict[str, Any]) -> "AdversarialModule":
    """Return the module of a resolved configuration in plain containers; its initial weights depend on the seed."""
    from medgan_pl.core.command import instantiate
    from medgan_pl.core.keys import Purpose, key_randomness

    check_targets(config["module"], functions=PROGRAMS)
    key_randomness(config["seed"], 0, 0, Purpose.INIT)
    module = instantiate(config["module"])
    module.config = config
    return module


def count(network: Any) -> str:
    """Return the number of weights as text: 1.4 M."""
    weights = sum(weight.numel() for weight in network.parameters())
    return f"{weights / 1e6:.1f} M" if weights >= 1e5 else f"{weights:,}"
