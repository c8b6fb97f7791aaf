"""Layers that both players have: the same tensors, in G and in D."""

from dataclasses import dataclass
from typing import Protocol

from torch import nn


class Share(Protocol):
    both: bool

    def __call__(self, generator: nn.Module, discriminator: nn.Module) -> None: ...


@dataclass(frozen=True)
class SharedTrunk:
    """Makes D's `trunk` that of G. D's optimiser owns it, and steps it in D's turns alone, or, with `both`, in G's turns too.

    Raises ValueError for players without a `trunk`, or with trunks of other shapes.
    """

    both: bool = False

    def __call__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        trunks = [getattr(network, "trunk", None) for network in (generator, discriminator)]
        if not all(isinstance(trunk, nn.Module) for trunk in trunks):
            raise ValueError("layers can be shared between players that both have a `trunk`, such as those of model=shared_trunk")
        shapes = [{name: weight.shape for name, weight in trunk.state_dict().items()} for trunk in trunks]
        if shapes[0] != shapes[1]:
            raise ValueError("a shared trunk must be the same in both players; give both one width, size and number of channels")
        discriminator.trunk = generator.trunk


def common(generator: nn.Module, discriminator: nn.Module) -> list[nn.Parameter]:
    """The weights that are in both."""
    own = {id(weight) for weight in generator.parameters()}
    return [weight for weight in discriminator.parameters() if id(weight) in own]
