"""A network compiled for training, beside the network itself."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized


class Compiled:
    """Calls a network through `torch.compile`: the same results to rounding, the same weights, buffers, modes and hooks.

    It is no module and owns nothing: the network stays where it was, its state_dict too. It can be differentiated once; a gradient
    penalty, which differentiates twice, takes the network itself.

    A learning and a frozen network are compiled each on its own. Dynamo keeps what it compiled by code object, and its guards have not
    always seen that weights ask for gradients again (pytorch #139476): a D that was frozen first would never learn. So each phase has a
    code object of its own, and so has each network, which counts its own recompilations. A second size of batch is compiled once more,
    for any size.

    Raises ValueError for a network with spectral norm: inductor (torch 2.15) lets a second pass, as D's on reals and fakes, overwrite the
    vectors of the power iteration that the backward pass of the first still needs, wherever a kernel is 1 pixel wide.

    - `compiling`: what torch.compile takes by keyword; without any, inductor with eager's random numbers, so that dropout draws the same.
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
        if name == "network":  # of a copy that has none yet
            raise AttributeError(name)
        return getattr(self.network, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Compiled, **self.compiling), (self.network,)  # a copy plays the copied network, and compiles anew

    def _compile(self) -> Callable[..., Tensor]:
        network = self.network

        def play(*inputs: Tensor | None) -> Tensor:
            return network(*inputs)

        play.__code__ = play.__code__.replace()  # replaced by nothing: an equal one with a cache of its own
        return torch.compile(play, **self.compiling)
