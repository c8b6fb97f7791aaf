"""Regularizers of the discriminator's logits, which keep D from overfitting few images.

Each is called as `regularizer(critic, real, fake, real_logits, fake_logits, numbers)`: `critic` from images (B, C, *S) to logits (B, …)
with the batch's augmentation, `real` and `fake` before the augmentation, the logits of both, and `numbers` (B, `numbers`) uniform in
[0, 1), so that a batch accumulated in parts is treated as the whole. It returns a weighted scalar. `adapt` is called after all parts of the
batch; the state between turns is in buffers, saved with the run. Logits are float32; a map of logits counts by its mean square.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Critic = Callable[[Tensor], Tensor]
Reduce = Callable[[Tensor], Tensor]
Real = Float[Tensor, "real_count channels *space"]
Fake = Float[Tensor, "fake_count channels *space"]
RealLogits = Float[Tensor, "real_count ..."]
FakeLogits = Float[Tensor, "fake_count ..."]
Numbers = Float[Tensor, "rows numbers"] | None
Term = Float[Tensor, ""]


class LeCam(nn.Module):
    """weight · (E(D(x) - a_fake)² + E(D(G(z)) - a_real)²), a the running means of D's logits: it pulls each side to the other's mean.

    a <- decay · a + (1 - decay) · mean of the batch, over ranks, after each turn of D (the first ones by their plain mean); so a lags by
    one turn. The loss is 0 in the first `warmup` turns, while D is untrained. With a Wasserstein loss the objective becomes a LeCam
    divergence. The logits of relativistic objectives have no fixed level, and the means drift with them.
    Raise ValueError for weight <= 0, a decay outside [0, 1), or warmup < 1.

    Source: Tseng et al. 2021 (arXiv 2104.03310), section 3.2, R_LC.
    """

    numbers = 0
    anchors: Tensor
    turns: Tensor

    def __init__(self, *, weight: float, decay: float = 0.99, warmup: int = 1) -> None:
        super().__init__()
        if weight <= 0:
            raise ValueError(f"`weight` must be above 0, got {weight}; to switch it off, leave lecam out of regularizer=…")
        if not 0 <= decay < 1 or warmup < 1:
            raise ValueError(f"LeCam needs 0 <= decay < 1 and warmup >= 1, got decay={decay} and warmup={warmup}")
        self.weight, self.decay, self.warmup = weight, decay, warmup
        self.register_buffer("anchors", torch.zeros(2))  # of reals, of fakes
        self.register_buffer("turns", torch.zeros((), dtype=torch.int64))
        self._seen: list[tuple[int, Tensor]] = []  # of this turn: images of each part, its two means

    def forward(
        self, critic: Critic, real: Real, fake: Fake, real_logits: RealLogits, fake_logits: FakeLogits, numbers: Numbers = None
    ) -> Term:
        real_logits, fake_logits = real_logits.float(), fake_logits.float()
        self._seen.append((len(real), torch.stack([real_logits.detach().mean(), fake_logits.detach().mean()])))
        anchor_real, anchor_fake = self.anchors.unbind()
        distance = (real_logits - anchor_fake).square().mean() + (fake_logits - anchor_real).square().mean()
        return self.weight * (self.turns >= self.warmup) * distance

    def adapt(self, reduce: Reduce) -> None:
        """Update the running means by the turn's means; raise ValueError if the game did not use the term."""
        if not self._seen:
            raise ValueError("LeCam was not used in a turn of D: this game has regularizers of other names, or none; see its docstring")
        sizes, means = zip(*self._seen, strict=True)
        self._seen.clear()
        share = torch.tensor(sizes, device=self.anchors.device) / sum(sizes)
        mean = reduce((share[:, None] * torch.stack(means)).sum(0))
        rate = (1 / (self.turns + 1)).clamp(min=1 - self.decay)
        good = mean.isfinite().all()  # a step that is not finite is skipped
        self.anchors.copy_(torch.where(good, self.anchors + rate * (mean - self.anchors), self.anchors))
        self.turns.add_(good)


@runtime_checkable
class Transform(Protocol):
    """See augment.py."""

    numbers: int

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor: ...

    def state_dict(self) -> dict[str, Tensor]: ...


class Consistency(nn.Module):
    """weight · E(D(x) - D(T(x)))² + fake_weight · E(D(G(z)) - D(T(G(z))))²: D must be invariant to the augmentation T.

    `transform`: T; G is not trained with it. With an augmentation A in front of D it compares A(T(x)) and A(x), with the same A. It costs
    one pass of D on the reals, with `fake_weight` one on the fakes too. Raise ValueError for weights below 0, or both 0, and for a
    transform that does nothing or whose strength adapts.

    Source: CR, Zhang et al. 2020 (arXiv 1910.12027), section 2.2, of the last layer, with their weight of 10; with `fake_weight` bCR, Zhao
    et al. 2021 (arXiv 2002.04724), section 3.1.
    """

    def __init__(self, *, transform: Transform, weight: float = 10.0, fake_weight: float = 0.0) -> None:
        super().__init__()
        if min(weight, fake_weight) < 0 or weight + fake_weight == 0:
            raise ValueError(f"`weight` and `fake_weight` must be at least 0 and one of them above, got {weight} and {fake_weight}")
        if not transform.numbers:
            raise ValueError("`transform` must change the images; give it shift, scale, rotate_deg, brightness, contrast or cutout")
        if transform.state_dict():
            raise ValueError("`transform` must have a fixed strength, medgan_pl.models.strength.Fixed; any other would stay at its start")
        self.transform, self.weight, self.fake_weight = transform, weight, fake_weight
        self.numbers = transform.numbers

    def forward(self, critic: Critic, real: Real, fake: Fake, real_logits: RealLogits, fake_logits: FakeLogits, numbers: Numbers) -> Term:
        term = real_logits.new_zeros((), dtype=torch.float32)
        for weight, images, logits in ((self.weight, real, real_logits), (self.fake_weight, fake, fake_logits)):
            if weight:
                term = term + weight * (logits.float() - critic(self.transform(images, numbers)).float()).square().mean()
        return term

    def adapt(self, reduce: Reduce) -> None:
        """Do nothing: there is nothing to adapt."""
