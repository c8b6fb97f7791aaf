"""The guard of a player by value: what it weighs, admits, clips, counts and scales."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from medgan_pl.models.guards import START_SCALE, Diverged, Guard, check_finite


def weights(*gradients: list[float]) -> list[nn.Parameter]:
    """Parameters with these gradients."""
    found = [nn.Parameter(torch.zeros(len(gradient))) for gradient in gradients]
    for weight, gradient in zip(found, gradients, strict=True):
        weight.grad = torch.tensor(gradient)
    return found


def full(**options: object) -> Guard:
    return Guard("d", **options)


def half(**options: object) -> Guard:
    guard = full(**options)
    guard.half = True
    return guard


GOOD, BAD = [3.0, 4.0], [math.inf, 0.0]


@pytest.mark.parametrize("loss", [2.0, -0.5, 0.0])
@pytest.mark.parametrize(("guard", "scale"), [(Guard("d"), 1.0), (half(), START_SCALE)], ids=["float32", "float16"])
def test_a_loss_is_differentiated_for_its_share_and_scaled(guard: Guard, scale: float, loss: float) -> None:
    weight = nn.Parameter(torch.tensor(loss))
    guard.weigh(weight, 0.25).backward()
    assert float(weight.grad) == 0.25 * scale


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_shows_in_every_gradient(loss: float) -> None:
    weight = nn.Parameter(torch.zeros(2))
    Guard("d").weigh(weight.sum() + loss).backward()  # the gradient of the loss itself would be 1
    assert bool(weight.grad.isnan().all())


@pytest.mark.parametrize(("clip", "after"), [(None, [3.0, 4.0]), (10.0, [3.0, 4.0]), (2.5, [1.5, 2.0]), (5e-3, [3e-3, 4e-3])])
@pytest.mark.parametrize("guard", [partial(Guard, "d"), half], ids=["float32", "float16"])
def test_the_norm_is_that_before_clipping_over_all_weights(guard: Callable[..., Guard], clip: float | None, after: list[float]) -> None:
    guard = guard(clip=clip)
    of_two = weights([3.0 * guard.scale], [4.0 * guard.scale])
    admitted, norm = guard.admits([*of_two, nn.Parameter(torch.zeros(3))], {})  # one that did not play
    assert admitted
    assert float(norm) == pytest.approx(5)
    assert [float(weight.grad) for weight in of_two] == pytest.approx(after, rel=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_refused_and_counted(value: float) -> None:
    guard = Guard("d", patience=3)
    assert [guard.admits(weights(gradient), {})[0] for gradient in ([value, 1.0], GOOD, [1.0, value])] == [False, True, False]
    assert (guard.skipped, guard.in_a_row) == (2, 1)


@pytest.mark.parametrize("gap", [0, 1])
def test_patience_counts_steps_in_a_row(gap: int) -> None:
    guard = Guard("d", patience=3)
    for gradient in [BAD, BAD, *[GOOD] * gap]:
        guard.admits(weights(gradient), {})
    if gap:
        guard.admits(weights(BAD), {})
    else:
        with pytest.raises(Diverged, match=r"3 steps in a row were not finite .*: train/d/loss nan$"):
            guard.admits(weights(BAD), {"loss": torch.tensor(math.nan), "real": torch.tensor(1.0)})
    assert guard.skipped == 3


@pytest.fixture
def clean_steps(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("medgan_pl.models.guards.CLEAN_STEPS", 20)
    return 20


def test_an_overflow_halves_the_scale_and_many_clean_steps_double_it(clean_steps: int) -> None:
    guard = half()
    guard.admits(weights(BAD), {})
    assert guard.scale == START_SCALE / 2
    for _ in range(clean_steps - 1):
        guard.admits(weights(GOOD), {})
    assert guard.scale == START_SCALE / 2
    guard.admits(weights(GOOD), {})
    assert guard.scale == START_SCALE


def test_overflows_end_the_run_only_where_the_scale_can_fall_no_more() -> None:
    guard = half(patience=2)
    for _ in range(int(math.log2(START_SCALE))):  # 65536 to 1
        assert not guard.admits(weights(BAD), {})[0]
    assert (guard.scale, guard.in_a_row) == (1.0, 0)
    guard.admits(weights(BAD), {})
    with pytest.raises(Diverged, match="the gradient of train/d/loss"):
        guard.admits(weights(BAD), {})
    assert guard.scale == 1.0


def test_a_guard_goes_on_where_its_state_was_taken(clean_steps: int) -> None:
    one, other = half(), half()
    for gradient in (BAD, GOOD, GOOD, BAD, GOOD):
        one.admits(weights(gradient), {})
    other.load_state_dict(one.state_dict())
    assert (other.scale, other.skipped, other.in_a_row) == (START_SCALE / 4, 2, 0)
    for _ in range(clean_steps - 1):
        assert other.scale == START_SCALE / 4
        other.admits(weights(GOOD), {})
    assert other.scale == START_SCALE / 2


@pytest.mark.parametrize(("options", "message"), [({"clip": 0}, "above 0.*got 0"), ({"clip": -1.0}, "got -1"), ({"patience": 0}, "got 0")])
def test_what_a_guard_cannot_be(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Guard("d", **options)


def test_the_gradient_of_float16_loses_nothing_by_the_scale() -> None:
    """Powers of two: what comes out is what went in, to the bit."""
    gradient = torch.randn(64, generator=torch.Generator().manual_seed(0))
    guard, weight = half(), nn.Parameter(torch.zeros(64))
    weight.grad = gradient * guard.scale
    guard.admits([weight], {})
    assert isinstance(weight.grad, Tensor)
    assert torch.equal(weight.grad, gradient)


@pytest.mark.parametrize(
    ("state", "sick"),
    [
        ({"g.weight": torch.ones(2), "g.num_batches_tracked": torch.tensor(3)}, None),
        ({"g.weight": torch.ones(2), "g.running_mean": torch.tensor([0.0, math.nan])}, "g.running_mean$"),
        ({f"g.{i}": torch.tensor(math.inf) for i in range(4)}, "g.0, g.1, g.2, …"),
    ],
    ids=["whole", "one", "many"],
)
def test_weights_and_statistics_must_be_finite(state: dict[str, Tensor], sick: str | None) -> None:
    if sick is None:
        return check_finite(state)
    with pytest.raises(Diverged, match=sick):
        check_finite(state)
