"""Regularisers by value, in parts and over turns."""

import pytest
import torch
from torch import Tensor

from medgan_pl.models.augment import Augment
from medgan_pl.models.games.parts import Regularizer
from medgan_pl.models.losses.regularizers import Consistency, LeCam
from medgan_pl.models.strength import Adaptive, Fixed


def same(value: Tensor) -> Tensor:
    """One rank alone."""
    return value


def judged(term: LeCam, real: list[float], fake: list[float]) -> Tensor:
    images = torch.zeros(len(real), 1, 2, 2)
    return term(lambda x: x.sum(), images, images, torch.tensor(real), torch.tensor(fake), None)


class TestLeCam:
    def test_each_side_is_drawn_to_the_mean_of_the_other(self) -> None:
        term = LeCam(weight=0.5, decay=0.9)
        assert float(judged(term, [3.0, 1.0], [-1.0, -2.0])) == 0  # no means yet
        term.adapt(same)
        torch.testing.assert_close(term.anchors, torch.tensor([2.0, -1.5]))
        paid = judged(term, [1.0, 0.0], [0.0, 2.0])
        assert float(paid) == pytest.approx(0.5 * ((2.5**2 + 1.5**2) / 2 + (2**2 + 0) / 2))

    def test_the_means_start_plain_and_then_run(self) -> None:
        term = LeCam(weight=1.0, decay=0.75)
        for i, value in enumerate([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]):
            judged(term, [value], [-value])
            term.adapt(same)
            if i == 3:
                assert term.anchors.tolist() == pytest.approx([2.5, -2.5])
        assert term.anchors.tolist() == pytest.approx([3.84375, -3.84375])  # 2.5 -> 3.125 -> 3.84375, a quarter of each new one

    def test_nothing_is_paid_while_it_warms_up(self) -> None:
        term = LeCam(weight=1.0, warmup=3)
        paid = []
        for _ in range(4):
            paid.append(float(judged(term, [1.0], [-1.0])))
            term.adapt(same)
        assert paid == [0, 0, 0, 8]

    def test_the_gradient_is_that_of_the_formula_and_leaves_the_means_alone(self) -> None:
        term = LeCam(weight=0.3)
        judged(term, [1.0, 2.0], [0.0, -1.0])
        term.adapt(same)
        real, fake = torch.randn(2, requires_grad=True), torch.randn(2, 3, requires_grad=True)  # a map of logits too
        term(lambda x: x, torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2), real, fake, None).backward()
        torch.testing.assert_close(real.grad, 0.3 * (real.detach() + 0.5))  # 2/2 · (D(x) - a_fake)
        torch.testing.assert_close(fake.grad, 0.3 / 3 * (fake.detach() - 1.5))
        assert not term.anchors.requires_grad

    def test_parts_make_the_means_of_the_whole(self) -> None:
        whole, parts = LeCam(weight=1.0), LeCam(weight=1.0)
        judged(whole, [1.0, 2.0, 6.0], [0.0, 1.0, 5.0])
        judged(parts, [1.0, 2.0], [0.0, 1.0])
        judged(parts, [6.0], [5.0])
        for term in (whole, parts):
            term.adapt(same)
        torch.testing.assert_close(whole.anchors, parts.anchors)
        assert int(parts.turns) == 1

    def test_over_ranks_and_after_a_step_that_was_not_finite(self) -> None:
        term = LeCam(weight=1.0)
        judged(term, [1.0], [0.0])
        term.adapt(lambda mean: mean + 1)
        assert term.anchors.tolist() == [2, 1]
        judged(term, [float("nan")], [0.0])
        term.adapt(same)
        assert term.anchors.tolist() == [2, 1]
        assert int(term.turns) == 1

    @pytest.mark.parametrize("settings", [{"weight": 0}, {"weight": 1, "decay": 1.0}, {"weight": 1, "warmup": 0}])
    def test_what_cannot_be_is_refused(self, settings) -> None:
        with pytest.raises(ValueError, match=r"`weight` must be above 0|0 <= decay < 1 and warmup >= 1"):
            LeCam(**settings)


def shifted() -> Augment:
    return Augment(spatial_dims=2, strength=Fixed(1.0), shift=0.25)


class TestConsistency:
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    fakes = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))

    def paid(self, term: Consistency, critic) -> float:
        numbers = torch.rand(3, term.numbers, generator=torch.Generator().manual_seed(2))
        return float(term(critic, self.images, self.fakes, critic(self.images), critic(self.fakes), numbers))

    def test_a_critic_that_does_not_mind_pays_nothing(self) -> None:
        term = Consistency(transform=shifted(), weight=10.0, fake_weight=10.0)
        even = torch.full((3, 1, 8, 8), 0.5)
        numbers = torch.rand(3, term.numbers)
        assert float(term(lambda x: x.mean((1, 2, 3)), even, even, even.mean((1, 2, 3)), even.mean((1, 2, 3)), numbers)) < 1e-10

    @pytest.mark.parametrize(("weight", "fake_weight"), [(10.0, 0.0), (0.0, 5.0), (2.0, 3.0)])
    def test_by_value(self, weight, fake_weight) -> None:
        transform = shifted()
        numbers = torch.rand(3, transform.numbers, generator=torch.Generator().manual_seed(2))

        def corner(x: Tensor) -> Tensor:
            return x[:, 0, :2, :2].flatten(1)  # a map of logits

        change = [(corner(x) - corner(transform(x, numbers))).square().mean() for x in (self.images, self.fakes)]
        term = Consistency(transform=transform, weight=weight, fake_weight=fake_weight)
        assert self.paid(term, corner) == pytest.approx(float(weight * change[0] + fake_weight * change[1]), rel=1e-5)
        assert min(change) > 0.001

    def test_d_is_asked_only_what_is_paid_for(self) -> None:
        asked = []

        def critic(x: Tensor) -> Tensor:
            asked.append(len(x))
            return x.mean((1, 2, 3))

        self.paid(Consistency(transform=shifted()), critic)
        assert len(asked) == 3  # the two verdicts and one more
        asked.clear()
        self.paid(Consistency(transform=shifted(), fake_weight=10.0), critic)
        assert len(asked) == 4

    def test_what_cannot_be_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at least 0 and one of them above, got 0 and 0"):
            Consistency(transform=shifted(), weight=0)
        with pytest.raises(ValueError, match="must change the images"):
            Consistency(transform=Augment(spatial_dims=2, strength=Fixed(1.0)))
        with pytest.raises(ValueError, match="a fixed strength"):
            Consistency(transform=Augment(spatial_dims=2, shift=0.25, strength=Adaptive(target=0.9, full_images=100)))


def test_the_protocol() -> None:
    assert isinstance(LeCam(weight=1.0), Regularizer)
    assert isinstance(Consistency(transform=shifted()), Regularizer)
