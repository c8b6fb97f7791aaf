"""A network compiled for training; the network itself is unchanged."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized


class Compiled:
    """Call a network by `torch.compile`: the same results to rounding, the same weights, buffers, modes and hooks.

    It is no module and owns no weights; the network and its state_dict stay as they are. It can be differentiated once. A gradient
    penalty differentiates twice and must use the network itself.

    A training and a frozen network are compiled separately. Dynamo caches by code object, and its guards may miss that weights need
    gradients again (pytorch #139476): a D that was frozen first would never learn. So each phase of each network has its own code object
    and counts its own recompilations. A second batch size causes one more compilation, for any size.

    Raise ValueError for a network with spectral norm: where a kernel is 1 pixel wide, inductor (torch 2.15) lets D's second forward pass
    overwrite the power iteration's vectors that the first backward pass still needs.

    - `compiling`: keyword arguments of torch.compile; by default inductor with eager's random numbers, so that dropout draws the same.
    """

    def __init__(self, network: nn.Module, **compiling: Any) -> None:
        if any(is_parametrized(layer) for layer in network.modules()):
            raise ValueError(
                f"a compiled network must have no spectral norm, which torch.compile cannot differentiate, and this "
                f"{type(network).__name__} has: set compile=false, or spectral_norm=false in model.generator and model.discriminator"
            )
        self.network = network
        self.compiling = compiling or {"backend": "inductor", "options": {"fallback_random": True}}
        self._learning, self._frozen = self._compile(), self._compile()

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Return the network's output for `inputs`."""
        learns = any(weight.requires_grad for weight in self.network.parameters())
        return (self._learning if learns else self._frozen)(*inputs)

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the network, such as the maps of a discriminator; not compiled."""
        if name == "network":  # a copy has none yet
            raise AttributeError(name)
        return getattr(self.network, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Compiled, **self.compiling), (self.network,)  # a copy calls the copied network and compiles anew

    def _compile(self) -> Callable[..., Tensor]:
        network = self.network

        def play(*inputs: Tensor | None) -> Tensor:
            return network(*inputs)

        play.__code__ = play.__code__.replace()  # an equal code object with its own cache
        return torch.compile(play, **self.compiling)
