"""The guard of a player's step: the loss scale of float16, gradient clipping, and the refusal of values that are not finite."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medgan_pl.core.counts import whole_number

START_SCALE = 2.0**16  # loss scale under float16, and the steps without an overflow before it doubles: the defaults of torch.amp
CLEAN_STEPS = 2000


class Diverged(FloatingPointError):
    """Too many steps in a row, or the weights, are not finite: resume from the last checkpoint."""


class Guard:
    """The guard of one player: each has its own scale and its own count, so that an overflow of one does not affect the other.

    `weigh` scales the loss; after its gradient, `admits` returns whether to take the step. A loss that is not finite becomes NaN, so that
    the gradients are NaN on every rank. A step whose gradient norm is not finite is skipped and counted; `patience` of them in a row raise
    Diverged. Under float16 (`half`) the loss is scaled; the scale halves with each overflow and doubles after CLEAN_STEPS steps without
    one (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2). An overflow counts towards `patience` only at a scale of 1.

    - `clip`: largest gradient norm, over all of the player's weights; None for none. Raise ValueError unless it is above 0.
    """

    def __init__(self, player: str, *, clip: float | None = None, patience: int = 10) -> None:
        if clip is not None and not clip > 0:
            raise ValueError(f"a clip must be a gradient norm above 0, or null for none, got {clip}")
        whole_number("guard.patience", patience, 1)
        self.player, self.clip, self.patience, self.half = player, clip, patience, False
        self.full_scale, self.clean, self.skipped, self.in_a_row = START_SCALE, 0, 0, 0

    @property
    def scale(self) -> float:
        return self.full_scale if self.half else 1.0

    def weigh(self, loss: Tensor, share: float = 1.0) -> Tensor:
        """Return the scalar to differentiate: `loss`, scaled, times its share of the batch."""
        return loss * torch.where(loss.detach().isfinite(), self.scale * share, math.nan)

    @torch.no_grad()
    def admits(self, weights: Iterable[nn.Parameter], values: Mapping[str, Tensor]) -> tuple[bool, Tensor]:
        """Return whether to take the step, and the gradient norm before clipping; unscale and clip the gradients.

        `values` are the losses, for the message.
        """
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if not gradients:
            raise ValueError(f"the losses of `{self.player}` must depend on its weights; none of them has a gradient")
        norm = torch.stack(torch._foreach_norm(gradients)).norm() / self.scale
        finite = bool(norm.isfinite())
        if finite:
            factor = torch.ones((), device=norm.device) if self.clip is None else (self.clip / (norm + 1e-6)).clamp(max=1.0)
            if self.scale != 1 or self.clip is not None:
                torch._foreach_mul_(gradients, factor / self.scale)
        self._count(finite)
        if self.in_a_row >= self.patience:
            not_finite = [f"train/{self.player}/{name} {float(value)}" for name, value in values.items() if not value.isfinite()]
            cause = ", ".join(not_finite) or f"the gradient of train/{self.player}/loss"
            raise Diverged(f"{self.in_a_row} steps in a row were not finite and were skipped: {cause}")
        return finite, norm

    def _count(self, finite: bool) -> None:
        if finite:
            self.in_a_row, self.clean = 0, self.clean + 1
            if self.half and self.clean == CLEAN_STEPS:
                self.full_scale, self.clean = self.full_scale * 2, 0
            return
        self.skipped += 1
        self.in_a_row += self.scale <= 1
        if self.half:
            self.full_scale, self.clean = max(1.0, self.full_scale / 2), 0

    def state_dict(self) -> dict[str, Any]:
        return {"full_scale": self.full_scale, "clean": self.clean, "skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.full_scale, self.clean, self.skipped, self.in_a_row = (state[k] for k in ("full_scale", "clean", "skipped", "in_a_row"))


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Raise Diverged if a weight or a running statistic is not finite, which is possible with a finite loss and gradient."""
    values = {name: value for name, value in state.items() if value.is_floating_point()}
    if not torch.stack(torch._foreach_norm(list(values.values()))).isfinite().all():
        bad = [name for name, value in values.items() if not value.isfinite().all()]
        raise Diverged(f"weights and statistics must be finite, but are not: {', '.join(bad[:3])}{', …' if len(bad) > 3 else ''}")
