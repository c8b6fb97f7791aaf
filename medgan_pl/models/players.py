"""The players of a game: each one's network, how it learns, and which weights it owns if two networks share layers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn
from torch.optim import Optimizer

from medgan_pl.models.games.base import Game
from medgan_pl.models.networks.shared import Share, common
from medgan_pl.models.schedules import Constant, Ramp, Stage


@dataclass(kw_only=True, eq=False)
class Player:
    """A network and how it learns.

    - `optimizer`: builds the optimizer from the parameters.
    - `schedule`: (images, total_images) -> factor on the learning rate.
    - `schedule_penalty`: the same, a factor on the terms of the game's `penalties`; None leaves them as they are.
    - `beta2`: (images, total_images) -> the second beta of Adam; None keeps the optimizer's own.
    - `clip`: largest norm of the gradient over all weights, or None.
    - `patience`: number of steps in a row that are not finite before it stops, see guards.Guard.
    """

    network: nn.Module
    optimizer: Callable[..., Optimizer]
    schedule: Constant = field(default_factory=Constant)
    schedule_penalty: Constant | None = None
    beta2: Ramp | None = None
    clip: float | None = None
    patience: int = 10

    def build_optimizer(self, weights: Iterable[nn.Parameter]) -> Optimizer:
        """Return the optimizer of `weights`; raise ValueError if `beta2` is set and the optimizer has no betas."""
        optimizer = self.optimizer(weights)
        for group in optimizer.param_groups:
            if self.beta2 is not None and "betas" not in group:
                raise ValueError("`beta2` needs Adam for each player (optimizers=adam); set beta2=null for other optimizers")
            group["initial_lr"] = float(group["lr"])
        return optimizer

    def set_rate(self, optimizer: Optimizer, images: int, total_images: int, factor: float) -> None:
        """Set the learning rate, and beta2 if it has a schedule, for the next step; `factor` is the module's own on the rate."""
        scheduled = self.schedule(images, total_images) * factor
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * scheduled
            if self.beta2 is not None:
                group["betas"] = (group["betas"][0], self.beta2(images, total_images))


class Ownership:
    """The weights of each player.

    Without `share` each player owns all weights of its network. With it, the optimizer of `share.owner` owns and steps the layers that
    `share.borrower` uses too; they learn in the owner's turns, and in the borrower's if `share.both`.
    """

    def __init__(self, networks: Mapping[str, nn.Module], share: Share | None) -> None:
        self.shared = [] if share is None else common(networks[share.borrower], networks[share.owner])
        ids = {id(weight) for weight in self.shared}
        borrower, both = (None, False) if share is None else (share.borrower, share.both)
        self.owned = {
            name: [weight for weight in network.parameters() if name != borrower or id(weight) not in ids]
            for name, network in networks.items()
        }
        self.learning = {name: [*own, *(self.shared if both and name == borrower else ())] for name, own in self.owned.items()}
        self.stepped = {name: [name, *([share.owner] if both and name == borrower else [])] for name in networks}


def check_players(players: Mapping[str, Player], stages: Mapping[str, Stage], game: Game) -> None:
    """Raise ValueError unless the players are those of the game and it can play every stage."""
    names, kind = sorted(players), type(game).__name__
    if names != sorted(game.players):
        raise ValueError(f"`module.players` must be the players of the game, for {kind} {', '.join(sorted(game.players))}; got {names}")
    if not stages:
        raise ValueError("`stages` must hold at least one stage")
    idle = players.keys() - {game.generator, game.discriminator} - {name for stage in stages.values() for name in stage.players}
    if idle:
        raise ValueError(
            f"`stages` must let each player play; {', '.join(sorted(idle))} is in no stage and would keep its first weights; add it to the "
            "players of a stage"
        )
    for name, stage in stages.items():
        if set(stage.players) - set(players):
            raise ValueError(f"`stages.{name}.players` must be some of {list(game.players)}, got {list(stage.players)}")
        if stage.adversarial:
            continue
        if list(stage.players) != [game.generator]:
            raise ValueError(f"a stage without the discriminator must have players [{game.generator}], got {list(stage.players)}")
        if not game.has_content:
            raise ValueError(
                "a stage without the discriminator needs a loss between each fake and its own real that does not use D, such as "
                f"game=translation extra=l1; {kind} has none here"
            )
