"""A game of three players, as a user adds it to medgan_pl/models/games: an encoder is trained to invert the generator."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.core.batch import Batch
from medgan_pl.models.games.base import Fakes, Losses
from medgan_pl.models.games.synthesis import Synthesis


class Encoder(nn.Module):
    """image (B, channels, *S) -> z (B, latent)."""

    def __init__(self, *, channels: int, width: int, latent: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, width, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.end = nn.Linear(4 * width, latent)

    def forward(self, image: Tensor) -> Tensor:
        return self.end(self.body(image))


class Encoding(Synthesis):
    """Synthesis with an encoder `e`: its loss is E|e(G(z)) - z|² + E|G(e(x)) - x|² over real images x, through the frozen G."""

    players = ("d", "g", "e")

    def losses(self, player: str, networks: Mapping[str, nn.Module], batch: Batch, fake: Fakes, *, adversarial: bool = True) -> Losses:
        if player != "e":
            return super().losses(player, networks, batch, fake, adversarial=adversarial)
        e, g, real = networks["e"], networks["g"], self.real(batch)
        return Losses(
            terms={"inversion": F.mse_loss(e(fake), batch["z"]), "reconstruction": F.mse_loss(g(e(real), self.condition(batch)), real)}
        )
