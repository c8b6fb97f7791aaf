"""Privacy: whether an attacker can tell who was in the training set, by a score that is higher for images the generator was taught.

Where the scores come from is the caller's affair: `closeness`, for an attacker who sees generated images alone; the discriminator's logits
of the same images, for one who has the discriminator too (LOGAN, Hayes et al. 2019, arXiv 1705.07663).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from medgan_pl.metrics.estimate import Estimate, Resampling
from medgan_pl.metrics.memorization import MIN_IMAGES, nearest_of_views


def closeness(views: Sequence[Float[Tensor, "n f"]], fakes: Float[Tensor, "m f"]) -> Float[Tensor, " n"]:
    """Score of each image: minus its distance, in the nearest of its `views` (itself, its mirror image), to the nearest of `fakes`.

    All scores that are compared must be to the same fakes; the more there are, the stronger the attack. Raises ValueError as
    `memorisation.nearest_of_views`. Source: GAN-Leaks, Chen et al. 2020 (arXiv 1909.03935), the full black-box attack.
    """
    return -nearest_of_views(views, fakes)[0]


def membership_auc(members: Float[Tensor, " n"], strangers: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """Share of pairs in which the member has the higher score, ties half: 0.5 is blind, 1 tells all (Mann & Whitney 1947). float64.

    Raises ValueError for an empty set, NaN or infinity.
    """
    if not (len(members) and len(strangers) and torch.isfinite(members).all() and torch.isfinite(strangers).all()):
        raise ValueError(
            f"scores must be finite, one or more of each, got {len(members)} and {len(strangers)} with NaN or infinity or none"
        )
    ordered, members = strangers.double().sort().values, members.double().contiguous()
    below, up_to = (torch.searchsorted(ordered, members, right=right).double() for right in (False, True))
    return (below + up_to).mean() / (2 * len(ordered))


def membership_advantage(
    train: Float[Tensor, " n"],
    test: Float[Tensor, " m"],
    control: Float[Tensor, " k"],
    resampling: Resampling,
    groups: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None),
) -> dict[str, Estimate]:
    """`mia_auc`, how well scores tell `train` from `test` patients; `mia_control`, `control` from `test`; `mia_advantage`, the first less
    the second: -1 to 1, 0 where the attack gains nothing from the training.

    `test` and `control` are two splits that the generator never saw. Without the control an AUC says little: it is off 0.5 wherever two
    groups of patients differ, in disease, scanner or year, or hold rarer images, with no leak at all. The control is the same attack
    where there is nothing to leak, against the same `test` images, so that what is odd in them drops out of the difference. It can
    only stand for `train` where the three were split at random, by patient.
    Intervals: each set's patients (`groups`, of `train`, `test` and `control`; those of `resampling` are not used) are drawn anew, the same
    draws for all three numbers. Which fakes were drawn and how the training went is not in them.
    Raises ValueError for fewer than 10 scores of a set, NaN or infinity.
    """
    sets = train.double(), test.double(), control.double()
    if min(len(scores) for scores in sets) < MIN_IMAGES:
        raise ValueError(
            f"a membership AUC needs {MIN_IMAGES} scores or more of each set, got {', '.join(str(len(scores)) for scores in sets)}"
        )

    def values(train: Tensor, test: Tensor, control: Tensor) -> Tensor:
        attack, blind = membership_auc(train, test), membership_auc(control, test)
        return torch.stack([attack, blind, attack - blind])

    return dict(zip(("mia_auc", "mia_control", "mia_advantage"), resampling.of_samples(values, sets, groups), strict=True))
