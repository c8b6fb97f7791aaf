"""What the style game adds to synthesis: its draws, mixed styles, the path length penalty."""

import math

import pytest
import torch
from torch import Tensor, nn

from medgan_pl.core.batch import cut
from medgan_pl.core.keys import Purpose
from medgan_pl.models.games.style import Style, path_lengths
from medgan_pl.models.losses.adversarial import NonSaturating
from medgan_pl.models.losses.penalties import NoPenalty
from medgan_pl.models.networks.stylegan2 import StyleGAN2Generator


def game(**more) -> Style:
    usual = {"latent": 8, "spatial_dims": 2, "size": 16, "objective": NonSaturating(), "penalty": NoPenalty()}
    return Style(**usual | more)


def generator(**more) -> StyleGAN2Generator:
    g = StyleGAN2Generator(**{"spatial_dims": 2, "channels": 1, "size": 16, "width": 4, "latent": 8} | more)
    for name, weight in g.named_parameters():
        if name.endswith("strength"):
            weight.data.fill_(0.3)
    return g


class Linear(nn.Module):
    """A generator whose image is a fixed matrix times w, so that its path lengths are known."""

    layers = 4

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def mapping(self, z, condition):
        return 1.0 * z.requires_grad_()

    def every_layer(self, w):
        return w

    def synthesis(self, w, noise):
        return (w @ self.matrix.T).view(-1, 1, 4, 4)


def test_an_image_is_a_function_of_its_seed_whatever_is_beside_it() -> None:
    playing, g = game(), generator().eval()
    drawn = playing.draw_each({"label": torch.zeros(4, dtype=torch.long)}, 3, range(4), Purpose.SAMPLES)
    images = playing.generate(g, drawn)
    alone = playing.generate(g, playing.draw_each({"label": torch.zeros(1, dtype=torch.long)}, 3, [2], Purpose.SAMPLES))
    torch.testing.assert_close(alone[0], images[2])
    torch.testing.assert_close(playing.generate(g, drawn), images)
    parts = torch.cat([playing.play(g, part) for part in cut(drawn, 2)])
    torch.testing.assert_close(parts, playing.play(g, drawn))


def test_styles_are_mixed_in_play_as_often_as_asked_and_never_in_generate() -> None:
    playing, g = game(mixing=0.9), generator().eval()
    batch = playing.draw({"image": torch.zeros(2000, 1, 16, 16)})
    assert (batch["crossover"] < 1).float().mean() == pytest.approx(0.9, abs=0.03)
    few = {key: value[:64] for key, value in batch.items()}
    same = (playing.play(g, few) - playing.generate(g, few)).flatten(1).abs().amax(1) < 1e-6
    assert torch.equal(same, few["crossover"] >= 1)
    assert "z_mixed" not in game(mixing=0).draw({"image": torch.zeros(2, 1, 16, 16)})


def test_path_lengths_by_hand() -> None:
    matrix = torch.randn(16, 3)
    g, z = Linear(matrix), torch.randn(5, 3)
    torch.manual_seed(0)
    lengths = path_lengths(g, z, None, None)
    torch.manual_seed(0)
    y = torch.randn(5, 1, 4, 4).flatten(1) / math.sqrt(16)
    torch.testing.assert_close(lengths, (y @ matrix).norm(dim=1) / math.sqrt(4))


def test_the_penalty_is_due_each_fourth_turn_on_half_a_batch_and_follows_the_mean() -> None:
    playing, g = game(path_decay=0.25), generator()
    batch = playing.draw({"image": torch.zeros(6, 1, 16, 16)})
    assert [bool(playing.generator_penalties(g, batch, turn)) for turn in range(1, 5)] == [False, False, False, True]
    playing = game(path_decay=0.25, path_weight=3.0)
    g.train()
    average = g.w_average.clone()
    means, paid = [], []
    for turn in (0, 4):
        torch.manual_seed(turn)
        paid.append(playing.generator_penalties(g, batch, turn)["path"])
        torch.manual_seed(turn)
        lengths = path_lengths(g, batch["z"][:3], None, batch["noise"][:3])
        means.append(lengths.mean().detach())
        running = means[0] if turn == 0 else 0.75 * means[0] + 0.25 * means[1]
        torch.testing.assert_close(playing.path_length, running)
        torch.testing.assert_close(paid[-1], 3 * 4 * (lengths - running).square().mean())
    assert torch.equal(g.w_average, average)  # a penalty is no training batch
    assert "path_length" in playing.state_dict()
    kept = playing.path_length.clone()
    playing.generator_penalties(g, {**batch, "z": batch["z"] * torch.nan}, 0)  # a step that is skipped
    torch.testing.assert_close(playing.path_length, kept)
    paid[-1].backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in g.parameters())
    assert game(path_weight=0).generator_penalties(g, batch, 0) == {}


@pytest.mark.parametrize(("images", "half"), [(1, 1), (3, 2), (4, 2)])
def test_half_of_an_odd_batch_is_rounded_up(images: int, half: int) -> None:
    rows, playing = [], game()
    g = Linear(torch.randn(16, 8))
    g.synthesis = lambda w, noise: rows.append(len(w)) or (w @ g.matrix.T).view(-1, 1, 4, 4)
    batch = {"z": torch.randn(images, 8), "noise": torch.zeros(images, 1)}
    assert playing.generator_penalties(g, batch, 0)["path"].isfinite()
    assert rows == [half]


def test_the_papers_weight_at_every_size() -> None:
    # 2 (‖·‖/√L - a)² with y over √pixels is γ (‖·‖ - a')² with y of unit variance, γ = ln 2 / (r² (ln r - ln 2)).
    for size in (64, 256, 1024):
        with torch.device("meta"):
            layers = StyleGAN2Generator(spatial_dims=2, channels=1, size=size, width=1).layers
        assert 2 / layers / size**2 == pytest.approx(math.log(2) / (size**2 * (math.log(size) - math.log(2))))


@pytest.mark.parametrize("wrong", [{"mixing": 1.5}, {"path_weight": -1}, {"path_every": 0}, {"path_decay": 0}])
def test_what_cannot_be_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match="`mixing` must be in"):
        game(**wrong)
