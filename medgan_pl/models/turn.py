"""One player's turn on a batch: its losses on each part, their gradients, and the step."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medgan_pl.core.batch import Batch, size_of
from medgan_pl.models.games.base import Fakes, Losses
from medgan_pl.models.networks.layers import frozen

if TYPE_CHECKING:
    from medgan_pl.models.module import AdversarialModule


def generate(module: "AdversarialModule", batch: Batch, *, learns: bool) -> Fakes:
    """Return the fakes of the training generator for a drawn batch, with the graph to its weights if it `learns`."""
    with torch.set_grad_enabled(learns):
        return module.game.play(module.called[module.game.generator], batch)


def take_turn(module: "AdversarialModule", player: str, parts: list[Batch], fakes: list[Fakes] | None) -> dict[str, Tensor]:
    """Sum a player's gradients over the parts of a batch, each by its share of the images, and step if the guard admits the step.

    Every other player's weights are frozen. Without `fakes`, generate those of each part. Return the losses and the values that are only
    logged, as means over the batch.
    """
    sizes = [size_of(part) for part in parts]
    guard, network, optimizers = module.guards[player], module.networks[player], module.optimizers_by_player()
    values: dict[str, Tensor] = {}
    with frozen(module.networks, but=module.ownership.learning[player]):
        for i, (part, size) in enumerate(zip(parts, sizes, strict=True)):
            share = size / sum(sizes)
            fake = generate(module, part, learns=player == module.game.generator) if fakes is None else fakes[i]
            losses = losses_of(module, player, part, fake)
            module.manual_backward(guard.weigh(losses.total, share))
            for name, value in {"loss": losses.total, **losses.terms, **losses.logged}.items():
                values[name] = values.get(name, 0) + value.detach() * share
        admitted, norm = guard.admits(network.parameters(), values)
        if admitted:
            for name in module.ownership.stepped[player]:  # the owner's optimizer steps shared layers that learn
                optimizers[name].step()
            module.running.note(player, {**values, "gradient_norm": norm})
        network.zero_grad(set_to_none=True)
    return values


def losses_of(module: "AdversarialModule", player: str, part: Batch, fake: Fakes) -> Losses:
    """Return a player's losses and penalties on a part of the batch.

    Shared layers that another player owns are frozen here: they learn as a part of this player's own network, not as a part of the
    discriminator, which they would weaken.
    """
    fake = fake if player == module.game.generator else detached(fake)
    adversarial = module.stages[module.stage].adversarial
    with frozen(module.networks, but=module.ownership.owned[player]):
        losses = module.game.losses(player, module.called, part, fake, adversarial=adversarial)
        penalties = module.game.penalties(player, dict(module.networks), part, fake, module.turns[player])
    schedule = module.players[player].schedule_penalty
    if schedule is not None:
        factor = schedule(module.images, module.total_images)
        penalties = {name: term * factor for name, term in penalties.items()}
    losses.terms.update(penalties)
    return losses


def detached(fake: Fakes) -> Fakes:
    """Return the fakes without their graph."""
    return {name: each.detach() for name, each in fake.items()} if isinstance(fake, dict) else fake.detach()
